"""The committed answers: their claims are exactly what their tables show."""

import html
import re
import sys
from pathlib import Path

import polars as pl
import pytest

from manyhot.study import read_study

STUDIES = Path(__file__).parents[2] / "studies"
sys.path.insert(0, str(STUDIES))

import recompute  # noqa: E402

NAMES = ("transfer", "uncertainty", "benchmarking", "robustness")
TABLES = ("runs", "means", "effects", "differences")


@pytest.fixture(params=NAMES)
def answer(request):
    """A study, its tables by name, its page as text, and what its file opens with."""
    file, folder = STUDIES / f"{request.param}.py", STUDIES / "answers" / request.param
    study, opening = read_study(file)
    tables = {name: pl.read_csv(folder / f"{name}.csv") for name in TABLES}
    return study, tables, folder / "index.html", opening


def plain(text):
    """Return what a page says, without marks and with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_every_run_is_there(answer):
    study, tables, _, _ = answer
    grid = study.grid
    runs = tables["runs"].filter(pl.col("arm") != "all")
    keys = runs.select("dataset", "network", "arm", "seed").unique()
    assert len(grid.seeds) >= 3
    assert len(keys) == len(grid.data_sets) * len(grid.networks) * len(grid.arms) * len(grid.seeds)
    measured = {m.name for measure in study.measures for m in measure.metrics}
    assert set(tables["runs"]["metric"]) == measured


def test_effects_are_differences_of_runs_at_equal_seeds(answer):
    """Taken anew: of each claim, at each pair of data set and network and over all of them."""
    study, tables, _, _ = answer
    runs = tables["runs"].filter(pl.col("slice") == "all")
    signs = {m.name: 1 if m.better == "higher" else -1 for measure in study.measures for m in measure.metrics}
    for claim in study.claims:
        effects = tables["effects"].filter(pl.col("claim") == claim.name)
        assert len(effects)
        one = runs.filter((pl.col("metric") == claim.metric) & (pl.col("arm") == claim.arm))
        other = runs.filter(
            (pl.col("metric") == (claim.than or claim.metric))
            & (pl.col("arm") == (claim.against or claim.arm))
        )
        both = one.join(other, on=["dataset", "network", "seed"], suffix="_other")
        if claim.data_sets:
            both = both.filter(pl.col("dataset").is_in(claim.data_sets))
        assert len(both) == len(one) or claim.data_sets
        differences = both.with_columns(d=signs[claim.metric] * (pl.col("value") - pl.col("value_other")))
        at = differences.group_by("dataset", "network").agg(pl.col("d").mean())
        whole, *single = effects.to_dicts()
        assert whole["effect"] == pytest.approx(at["d"].mean(), abs=1e-9)
        told = {(row["dataset"], row["network"]): row["effect"] for row in single}
        for dataset, network, d in at.iter_rows() if single else ():
            assert told[dataset, network] == pytest.approx(d, abs=1e-9)


def test_verdicts_are_those_that_an_outsider_recomputes(answer):
    """By a script without manyhot, from the committed files alone; the page says the same."""
    study, _, page, _ = answer
    text = plain(page.read_text(encoding="utf-8"))
    found = list(recompute.verdicts(study.name))
    claims = {claim.name: claim for claim in study.claims}
    assert [one.claim for one in found] == list(claims)
    for one in found:
        claim, row = claims[one.claim], one.committed
        assert row["verdict"] == one.verdict
        assert (float(row["margin"]), row["main"] == "true") == (claim.margin, claim.main)
        numbers = (*vars(one.effect).values(), one.p_adjusted, one.q, one.q_p)
        names = ("effect", "lo", "hi", "p", None, "df", "p_adjusted", "q", "q_p")
        for name, number in zip(names, numbers, strict=True):
            if name is not None:
                assert float(row[name] or "nan") == pytest.approx(number, abs=1e-12, nan_ok=True)
        side = one.verdict.partition(",")[0]
        if side in ("better", "worse", "same"):
            assert row["sentence"].startswith(getattr(claim, side).rstrip("."))
            assert (", perhaps by less than matters (" in row["sentence"]) == ("," in one.verdict)
        else:
            assert row["sentence"].startswith(f"{side.capitalize()}: ")
        head, _, numbers = row["sentence"].rstrip(".").partition(" (")
        head = head.removeprefix(f"{one.verdict.capitalize()}: ")
        assert f"{head}. ({numbers}".lower() in text.lower()


def test_the_variances_of_differences_are_those_of_the_runs(answer):
    """Over seeds they follow from the runs; over images no error exceeds those of both sides together."""
    study, tables, _, _ = answer
    differences = tables["differences"].to_dicts()
    effects = {(r["claim"], r["dataset"], r["network"]): r for r in tables["effects"].to_dicts()}
    errors = tables["runs"].filter(pl.col("slice") == "all").group_by("dataset", "network", "arm", "metric")
    error = {tuple(row[:4]): row[4] for row in errors.agg(pl.col("error").mean()).iter_rows()}
    assert len(differences) == len(effects)
    for row in differences:
        key = (row["claim"], row["dataset"], row["network"])
        effect = effects[key]
        assert row["difference"] == pytest.approx(effect["effect"], abs=1e-12)
        assert row["variance_seeds"] == pytest.approx(effect["error_seeds"] ** 2, abs=1e-15)
        assert (row["variance_images"] is None) == (effect["error_images"] is None)
        if row["variance_images"] is not None:
            assert row["variance_images"] == pytest.approx(effect["error_images"] ** 2, abs=1e-15)
        if row["dataset"] and effect["against"] in {arm.name for arm in study.grid.arms}:
            sides = [error[*key[1:], effect[arm], effect["metric"]] for arm in ("arm", "against")]
            assert abs(sides[0] - sides[1]) / 2 <= row["variance_images"] ** 0.5 <= sum(sides)


def test_planted_and_natural_companions_are_never_averaged():
    effects = pl.read_csv(STUDIES / "answers" / "robustness" / "effects.csv")
    beside = effects.filter(pl.col("metric").is_in(["recall_gap", "hallucination_gap", "ap_balanced"]))
    assert len(beside) == 24
    assert (
        beside.group_by("claim").agg(pl.col("dataset").drop_nulls().n_unique())["dataset"].to_list()
        == [1] * 8
    )


def test_the_file_opens_with_its_verdicts(answer):
    """With the sentences of its main claims, in their order, and nothing else."""
    study, tables, _, opening = answer
    main = {claim.name for claim in study.claims if claim.main}
    effects = tables["effects"].filter(pl.col("sentence").is_not_null() & pl.col("claim").is_in(main))
    heads = [sentence.partition(" (")[0].rstrip(".") + "." for sentence in effects["sentence"]]
    assert " ".join(opening.result.split()) == " ".join(heads)


def test_nothing_of_the_pictures_is_committed(answer):
    _, _, page, _ = answer
    text = page.read_text(encoding="utf-8")
    assert "data:image/jpeg" not in text
    assert all(file.stat().st_size < 500_000 for file in page.parent.iterdir())


def by_interval(lo, hi, margin):
    """Return what an interval alone shows."""
    inside = -margin <= lo and hi <= margin
    return "inside" if inside else "above" if lo > 0 else "below" if hi < 0 else "open"


def test_the_earlier_run():
    """The docs say how many intervals show the same in both runs; none shows the opposite."""
    earlier = pl.read_csv(STUDIES / "answers" / "earlier.csv")
    now = pl.concat(
        pl.read_csv(STUDIES / "answers" / name / "effects.csv")
        .filter(pl.col("sentence").is_not_null())
        .select(pl.lit(name).alias("study"), "claim", "lo", "hi", "margin", "verdict")
        for name in NAMES
    )
    both = now.join(earlier, on=["study", "claim"], suffix="_earlier").to_dicts()
    shown = [
        (
            by_interval(r["lo"], r["hi"], r["margin"]),
            by_interval(r["lo_earlier"], r["hi_earlier"], r["margin"]),
        )
        for r in both
    ]
    assert not {("above", "below"), ("below", "above")} & set(shown)
    same = sum(one == other for one, other in shown)
    said = plain((STUDIES.parent / "docs" / "explanation" / "study-results.md").read_text(encoding="utf-8"))
    assert f"The intervals of {same} of these {len(both)} claims" in said
    assert f"{len(both)} of the {len(now)} claims" in said
    assert f"Among the first rule's {len(earlier)} verdicts, {unchanged(both)} are unchanged" in said


def unchanged(rows):
    """Return how many verdicts are those of the first rule, by which an interval decided alone."""
    first = {"inside": "same", "above": "better", "below": "worse", "open": "undecided"}
    return sum(first[by_interval(r["lo"], r["hi"], r["margin"])] == r["verdict"] for r in rows)
