"""``manyhot compare --groups``: published trained and zero-shot models at equal accuracy, and bad input."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot import compare, read_results
from manyhot.errors import InputError, ManyhotError, MatchError, UsageError
from manyhot.evaluate.write import write_page
from manyhot.tables import Results, schema
from report_pages import parse

V2 = "imagenetv2-matched-frequency"
DOCS = Path(__file__).parents[2] / "docs"
TIMM = "aa4b5850c1543fa488abf260f18390eda46cf85d/results/results-"


@pytest.fixture(scope="module")
def tables(published):
    """timm's and open_clip's own files, read with Polars alone."""
    timm = [
        pl.read_csv(published(f"{TIMM}{name}.csv")).select("model", "img_size", pl.col("top1").alias(name))
        for name in ("imagenet", V2)
    ]
    trained = timm[0].join(timm[1], on=("model", "img_size"))
    zero_shot = pl.read_csv(published("openclip_results.csv"))
    return trained, zero_shot


@pytest.fixture(scope="module")
def compared(published):
    trained = [read_results(published(f"{TIMM}{name}.csv")) for name in ("imagenet", V2)]
    joined = [
        Results(pa.concat_tables([p.table.replace_schema_metadata() for p in trained]), name="timm-results")
    ]
    return compare(*joined, read_results(published("openclip_results.csv")), groups="results")


def test_zero_shot_models_keep_five_points_more_on_v2(tables, compared):
    """Mean drops differ by 4.5 points, those of equal accuracy by 5.0; again with NumPy alone."""
    trained, zero_shot = tables
    x, y = (trained[name].to_numpy() / 100 for name in ("imagenet", V2))
    models = zero_shot.select("ImageNet 1k", "ImageNet v2").to_numpy()
    kept = []
    for at, value in models:
        apart = np.abs(x - at) / 0.05
        near = apart < 1
        theirs = np.abs(models[:, 0] - at) < 0.05
        if near.sum() < 5 or theirs.sum() < 5 or not x.min() <= at <= x.max():
            continue
        slope, intercept = np.polyfit(x[near], y[near], 1, w=np.sqrt((1 - apart[near] ** 3) ** 3))
        kept.append(value - intercept - slope * at)
    (row,) = (r for r in compared.equal.means if r["method"] == "local regression" and r["dataset_y"] == V2)
    assert len(trained) == 1556
    assert (row["n_b"], len(kept)) == (94, 94)
    assert row["difference"] == pytest.approx(np.mean(kept), abs=1e-6)
    assert round(100 * row["difference"], 2) == 4.97
    assert row["difference_lo"] > 0.04
    assert row["difference_hi"] < 0.06
    drops = 100 * (x - y).mean(), 100 * (models[:, 0] - models[:, 1]).mean()
    assert [round(d, 2) for d in drops] == [10.85, 6.38]


def test_effective_robustness_is_that_of_the_logit_line(tables, compared):
    trained, zero_shot = tables
    x, y = (trained[name].to_numpy() / 100 for name in ("imagenet", V2))

    def logit(p):
        return np.log(p / (1 - p))

    slope, intercept = np.polyfit(logit(x), logit(y), 1)
    own = zero_shot.filter(pl.col("ImageNet 1k") > 0.55)
    predicted = 1 / (1 + np.exp(-intercept - slope * logit(own["ImageNet 1k"].to_numpy())))
    (row,) = (r for r in compared.equal.means if r["method"] == "logit line" and r["dataset_y"] == V2)
    assert row["difference"] == pytest.approx((own["ImageNet v2"].to_numpy() - predicted).mean(), abs=1e-6)
    assert (row["n_a"], row["n_b"]) == (1556, len(own))


def test_swaps_are_counted_over_pairs_of_both_groups(tables, compared):
    trained, zero_shot = tables
    signs = []
    for name, column in (("imagenet", "ImageNet 1k"), (V2, "ImageNet v2")):
        values = np.round(trained[name].to_numpy() / 100, 6)  # a tie is no difference by rounding
        signs.append(np.sign(values[:, None] - zero_shot[column].to_numpy()))
    row = next(r for r in compared.equal.means if r["dataset_y"] == V2)
    assert (row["n_pairs"], row["n_swapped"]) == (1556 * 121, np.count_nonzero(signs[0] * signs[1] < 0))


def made(names, x, y=None, *, datasets=("one", "two"), n=1000, name="made"):
    ends = [(datasets[0], x)] if y is None else list(zip(datasets, (x, y), strict=True))
    rows = [
        {"dataset": d, "model": m, "metric": "top1", "slice": "all", "value": v, "lo": None, "hi": None}
        | {"n": n, "n_skipped": 0}
        for d, values in ends
        for m, v in zip(names, values, strict=True)
    ]
    return Results(pa.Table.from_pylist(rows, schema=schema("results")), name=name)


FAMILIES = ("resnet", "vgg", "swin", "convnext", "vit", "regnet")
A = [f"{f}{i}" for i in range(4) for f in FAMILIES]
B = [f"{f}{i}" for i in range(5, 9) for f in FAMILIES]
X = np.linspace(0.5, 0.7, len(A))


def two(shift=0.0, n=1000):
    return made(A, X, X - 0.1, name="first"), made(B, X + shift, X + shift - 0.07, n=n, name="second")


def test_groups_of_the_arguments():
    found = compare(*two(0.01), groups="results")
    rows = found.equal.means
    assert [(r["group_a"], r["group_b"], r["method"]) for r in rows] == [
        ("first", "second", "local regression"),
        ("first", "second", "logit line"),
    ]
    assert rows[0]["difference"] == pytest.approx(0.03)
    assert found.results.values_at["one", "top1", "all"].keys() == {*A, *B}
    title, head, row, *_ = found.equal.lines()
    assert title == (
        "second (second) compared with first (first) at equal top1 on one: points, means over models of the "
        "second group"
    )
    assert head.split()[:3] == ["at", "y", "method"]
    assert "+3.00" in row


def test_the_table_is_written_and_read(tmp_path):
    compare(*two(), groups="results").write(tmp_path)
    frame = pl.read_parquet(tmp_path / "equal_accuracy.parquet")
    assert frame["at"].null_count() == 2
    assert (tmp_path / "equal_accuracy.csv").is_file()


def test_groups_as_mapping_file_and_column(tmp_path):
    x = np.linspace(0.6, 0.66, len(A))
    together = made([*A, *B], [*x, *x], [*(x - 0.1), *(x - 0.07)])
    groups = dict.fromkeys(A, "old") | dict.fromkeys(B, "new")
    path = tmp_path / "groups.csv"
    path.write_text("model,group\n" + "".join(f"{m},{g}\n" for m, g in groups.items()))
    by_mapping, by_file = (compare(together, groups=g).equal.table for g in (groups, path))
    assert by_mapping.equals(by_file)
    by_column = compare(together, groups="family=vit").equal
    assert {m for m, group in by_column.groups.items() if group == "vit"} == {
        m for m in [*A, *B] if "vit" in m
    }
    assert {row["group_a"] for row in by_column.means} == {"other family"}
    assert by_column.table["difference_lo"].null_count == len(by_column.table)  # one family has no interval


def test_models_in_no_group_are_counted():
    together = made([*A, *B, "other"], [*X, *X, 0.6], [*(X - 0.1), *(X - 0.07), 0.5])
    found = compare(together, groups=dict.fromkeys(A, "old") | dict.fromkeys(B, "new"))
    assert found.notes == ("1 models are in neither group",)


def test_other_numbers_of_images_are_noted():
    found = compare(*two(n=500), groups="results")
    text = "the groups were evaluated on different numbers of images of {}: {}"
    counts = "1,000 to 1,000 for first and 500 to 500 for second"
    assert found.notes == (text.format("one", counts), text.format("two", counts))


FIRST, SECOND = two()


@pytest.mark.parametrize(
    ("results", "groups", "kind", "message"),
    [
        (
            two(0.28),
            "results",
            MatchError,
            "The accuracies of the groups do not overlap enough.\n  where:   first and second\n"
            "  got:     top1 on one is 50.0 to 70.0 % for first and 78.0 to 98.0 % for second, among "
            "models with a value on two\n"
            "  allowed: five models of each group within 5 points of accuracy\n"
            "  do:      compare groups that overlap in accuracy",
        ),
        (
            (FIRST,),
            "results",
            UsageError,
            "Each argument is a group of models, and there must be two groups.\n  got:     1 argument\n"
            "  allowed: two results\n"
            "  do:      pass two results, or a file with the columns model and group as `groups`",
        ),
        (
            (FIRST, made(["resnet0", "vgg9"], [0.5, 0.6], name="third", datasets=("three", "four"))),
            "results",
            MatchError,
            "A model is in both groups.\n  where:   first and third\n  got:     resnet0\n"
            "  allowed: each model in one of the groups\n"
            "  do:      leave it out with `without`, or pass the groups as a file",
        ),
        (
            (FIRST, FIRST),
            dict.fromkeys(A, "a"),
            MatchError,
            "A model is in two of the results.\n  where:   first and first\n  got:     resnet0 on one\n"
            "  allowed: each model in only one of the results\n"
            "  do:      leave it out with `without`, or pass each table once",
        ),
        (
            (made(A, X, name="first"), made(B, X, name="second")),
            "results",
            MatchError,
            "The groups have no second data set in common.\n  where:   first and second\n  got:     one\n"
            "  allowed: a metric on the first data set and on another, for models of both groups",
        ),
        (
            (FIRST, SECOND),
            "family=none",
            InputError,
            "No model has this family.\n  got:     none\n  allowed: convnext, regnet, resnet, swin, vgg, vit",
        ),
        (
            (FIRST, SECOND),
            "size=3",
            InputError,
            "The table of models has no column 'size'.\n  got:     size=3\n"
            "  allowed: family",
        ),
        (
            (FIRST, SECOND),
            dict.fromkeys(A, "a"),
            InputError,
            "There must be two groups of models.\n  got:     a\n  allowed: two",
        ),
        (
            (FIRST, SECOND),
            {"unknown": "a"},
            InputError,
            "There must be two groups of models.\n  got:     no model of these results\n  allowed: two",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(results, groups, kind, message):
    with pytest.raises(ManyhotError) as error:
        compare(*results, groups=groups)
    assert (type(error.value), str(error.value)) == (kind, message)


def test_a_file_of_groups_that_lists_a_model_twice(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("model,group\nresnet0,a\nresnet0,b\n")
    with pytest.raises(InputError) as error:
        compare(FIRST, SECOND, groups=path)
    assert str(error.value) == (
        f"A model is listed with two groups.\n  where:   {path}\n  got:     resnet0\n"
        "  allowed: one row per model"
    )


def test_a_pair_of_data_sets_without_common_accuracies_is_noted():
    """The groups have models of both on the third data set only at other accuracies."""
    few = made(B[:6], X[:6] + 0.3, X[:6], datasets=("one", "three"), name="few")
    first = made(A, X, X - 0.1, datasets=("one", "three"), name="first")
    second = made([f"{m}x" for m in B], X, X - 0.07, name="second")
    both = made(A, X - 0.1, datasets=("two",), name="first two")
    groups = dict.fromkeys(A, "a") | dict.fromkeys(B, "b") | {f"{m}x": "b" for m in B}
    found = compare(first, both, second, few, groups=groups)
    assert {row["dataset_y"] for row in found.equal.means} == {"two"}
    assert found.notes[0].startswith(
        "accuracies do not overlap enough: top1 on one is 50.0 to 70.0 % for a and 80.0 to "
    )


def test_the_page_has_a_table_and_a_figure(tmp_path):
    found = compare(*two(0.01), groups="results")
    found.write(tmp_path)
    assert found.to_json()["equal_accuracy"] == found.equal.table.to_pylist()
    groups = pl.read_parquet(tmp_path / "models.parquet")["group"]
    assert groups.value_counts().sort("group").rows() == [("first", 24), ("second", 24)]
    page = parse(write_page(tmp_path, beside=False).read_text(encoding="utf-8"))
    shift = page.one("section", id="shift")
    assert "second compared with first at equal accuracy on one" in shift.text
    assert "+3.00" in shift.text or "3.00" in shift.text
    assert page.all("figure", id="equal-accuracy-one") or page.all("div", id="equal-accuracy-one")
    compare(two()[0]).write(tmp_path)  # a comparison without groups leaves nothing
    assert not (tmp_path / "equal_accuracy.parquet").exists()


@pytest.mark.slow
def test_lines_in_the_docs(mirror, monkeypatch):
    """What docs/guides/evaluate/comparison.md shows, and each number that it says of these groups."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    page = (DOCS / "guides" / "evaluate" / "comparison.md").read_text(encoding="utf-8")
    text = " ".join(page.split())
    found = compare("timm-results", "openclip-results", groups="results").equal
    for line in list(found.lines())[:5]:
        assert " ".join(line.split()) in text, line
    means = {r["dataset_y"]: r for r in found.means if r["method"] == "local regression"}
    others = " and ".join(f"{100 * means[f'imagenet-{d}']['difference']:.1f}" for d in ("a", "r", "sketch"))
    assert others.replace(" and ", ", ", 1) in text
    along = pl.from_arrow(found.table).filter(pl.col("at").is_not_null())
    v2, a = (
        {round(100 * at): f"{100 * d:.1f}" for at, d in rows.select("at", "difference").iter_rows()}
        for rows in (along.filter(dataset_y=V2), along.filter(dataset_y="imagenet-a"))
    )
    assert f"{v2[70]} points at 70 %, {v2[80]} at 80 % and {v2[84]} at 84 %" in text
    assert f"are {float(a[80]):.0f} points apart at 80 %, and {float(a[84]):.0f} at 84 %" in text
    shares = [f"{100 * means[d]['n_swapped'] / means[d]['n_pairs']:.1f} %" for d in (V2, "imagenet-r")]
    pairs = f"There are {means[V2]['n_pairs']:,} pairs of a trained and a zero-shot model"
    assert f"{pairs}. Compared with ImageNet, {shares[0]} of these pairs have a different order on V2" in text
    assert f"and {shares[1]} do on ImageNet-R" in text

    models = compare("timm-results").results.models.to_pylist()
    data = {"ImageNet": ("in-1k",), "CLIP": ("clip", "laion-2b")}
    groups = {m["model"]: g for g, names in data.items() for m in models if m["pretraining"] in names}
    tuned = {
        r["dataset_y"]: f"{100 * abs(r['difference']):.1f}"
        for r in compare("timm-results", groups=groups).equal.means
        if (r["metric_y"], r["method"], r["n_b"]) == ("top1", "local regression", 20)
    }
    worse, better = tuned["imagenet-a"], tuned["imagenet-r"]
    assert f"{worse} points worse on ImageNet-A, and {better} points better on ImageNet-R" in text
    only = {m: "zero-shot" for m, g in found.groups.items() if g == "openclip-results"}
    only = {m: "ImageNet" for m, g in groups.items() if g == "ImageNet"} | only
    (row,) = (
        r
        for r in compare("timm-results", "openclip-results", groups=only).equal.means
        if (r["dataset_y"], r["method"]) == (V2, "local regression")
    )
    same, lo, hi = (f"{100 * row[f'difference{end}']:.2f}" for end in ("", "_lo", "_hi"))
    assert f"the difference on V2 is the same, {same} points ({lo} to {hi})" in text
