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

NAMES = ("transfer", "uncertainty", "benchmarking", "robustness")


@pytest.fixture(params=NAMES)
def answer(request):
    """A study, its tables by name, its page as text, and what its file opens with."""
    file, folder = STUDIES / f"{request.param}.py", STUDIES / "answers" / request.param
    study, opening = read_study(file)
    tables = {name: pl.read_csv(folder / f"{name}.csv") for name in ("runs", "means", "effects")}
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


def test_verdicts_follow_the_rule(answer):
    study, tables, page, _ = answer
    effects, text = tables["effects"], plain(page.read_text(encoding="utf-8"))
    for claim in study.claims:
        row = effects.filter((pl.col("claim") == claim.name) & pl.col("sentence").is_not_null()).to_dicts()[0]
        lo, hi = row["lo"], row["hi"]
        verdict = (
            "same" if -claim.margin <= lo and hi <= claim.margin
            else "better" if lo > 0
            else "worse" if hi < 0
            else "undecided"
        )  # fmt: skip
        assert row["verdict"] == verdict
        if verdict != "undecided":
            assert row["sentence"].startswith(getattr(claim, verdict).rstrip("."))
        head, _, numbers = row["sentence"].rstrip(".").partition(" (")
        assert f"{head.removeprefix('Undecided: ')}. ({numbers}".lower() in text.lower()


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


def test_the_earlier_run():
    """The docs say how many verdicts it shares, and none was the opposite."""
    earlier = pl.read_csv(STUDIES / "answers" / "earlier.csv")
    now = pl.concat(
        pl.read_csv(STUDIES / "answers" / name / "effects.csv")
        .filter(pl.col("sentence").is_not_null())
        .select(pl.lit(name).alias("study"), "claim", "verdict")
        for name in NAMES
    )
    both = now.join(earlier, on=["study", "claim"], suffix="_earlier")
    assert len(both) == len(now) == len(earlier)
    same = both.filter(pl.col("verdict") == pl.col("verdict_earlier"))
    said = plain((STUDIES.parent / "docs" / "explanation" / "study-results.md").read_text(encoding="utf-8"))
    assert f"{len(same)} of {len(both)} verdicts agree" in said
    assert not both.filter(
        pl.concat_str("verdict", "verdict_earlier").is_in(["betterworse", "worsebetter"])
    ).height
