"""Comparisons: published drops and slopes, and small tables worked out by hand."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.stats import kendalltau, linregress, ttest_1samp

from manyhot import Reading, compare, evaluate, read_results
from manyhot.errors import InputError, MatchError
from manyhot.tables import Results, schema

MODELS = ("resnet18", "resnet50", "vgg16", "alexnet")


def results(dataset, metric="top1", values=(0.6, 0.7, 0.65, 0.5), *, models=MODELS, slice="all", n=100):
    rows = [
        {"dataset": dataset, "model": m, "metric": metric, "slice": slice, "value": v, "lo": None, "hi": None}
        | {"n": n, "n_skipped": 0}
        for m, v in zip(models, values, strict=True)
    ]
    return Results(pa.Table.from_pylist(rows, schema=schema("results")), name=f"{dataset}.csv")


def with_samples(part, samples):
    """Give a result resampled values, one row a model."""
    rows = [
        {c: r[c] for c in ("dataset", "model", "metric", "slice")} | {"values": s}
        for r, s in zip(part.table.to_pylist(), samples, strict=True)
    ]
    return Results(part.table, samples=pa.Table.from_pylist(rows, schema=schema("samples")), name=part.name)


def with_pairs(part, p):
    """Give a result the p of its pairs, by names."""
    rows = [
        {"dataset": part.datasets[0], "metric": "top1", "slice": "all", "model_a": a, "model_b": b}
        | {"difference": 0.1, "lo": None, "hi": None, "p": q, "p_adjusted": q, "n": 100}
        for (a, b), q in p.items()
    ]
    return Results(part.table, pairs=pa.Table.from_pylist(rows, schema=schema("pairs")), name=part.name)


def frame(comparison, name):
    return pl.DataFrame(pl.from_arrow(comparison.tables[name]))


def mean(comparison, **where):
    rows = frame(comparison, "drops").filter(pl.col("model").is_null(), **where)
    (row,) = rows.to_dicts()
    return row


@pytest.fixture(scope="module")
def timm(published):
    folder = "aa4b5850c1543fa488abf260f18390eda46cf85d/results"
    files = ("imagenet", "imagenet-real", "imagenetv2-matched-frequency")
    return [_named(published(f"{folder}/results-{f}.csv"), f) for f in files]


def _named(path, name):
    """Read a file under its published name, by which its data set is known."""
    link = path.with_name(f"results-{name}.csv")
    if not link.exists():
        link.write_bytes(path.read_bytes())
    return read_results(link)


@pytest.fixture(scope="module")
def compared(timm):
    return compare(timm)


def test_published_drop_over_1556_rows(compared):
    found = mean(compared, dataset_y="imagenetv2-matched-frequency", metric_x="top1")
    assert found["n_models"] == 1556
    assert found["drop"] * 100 == pytest.approx(10.854, abs=5e-4)
    assert found["lo_models"] < found["drop"] < found["hi_models"]
    assert (found["lo"], found["hi"]) == (None, None)  # without resamples the mean has none over images
    models = frame(compared, "drops").filter(dataset_y="imagenetv2-matched-frequency", metric_x="top1")
    resnet = models.filter(model="resnet50.a1_in1k@224").to_dicts()[0]
    error = np.sqrt(
        sum(v * (1 - v) / n for v, n in ((resnet["value_x"], 50_000), (resnet["value_y"], 10_000)))
    )
    assert resnet["hi"] - resnet["lo"] == pytest.approx(2 * 1.96 * error, rel=0.01)


def test_published_drop_over_the_590_models_of_march_2022(published, tmp_path):
    folder = "c9f208f7f8d5917f9a900ef2f96d9aa2ffb9264e/results"
    parts = []
    for name in ("imagenet", "imagenetv2-matched-frequency"):
        (tmp_path / f"results-{name}.csv").write_bytes(published(f"{folder}/results-{name}.csv").read_bytes())
        parts.append(read_results(tmp_path / f"results-{name}.csv"))
    found = mean(compare(parts), metric_x="top1")
    assert (found["n_models"], round(found["drop"] * 100, 3)) == (590, 11.101)


def test_published_slopes_of_real_on_top1(compared):
    fits = frame(compared, "fits").filter(metric_y="real1", scale="plain")
    slopes = {r["models"]: (round(r["slope"], 3), r["n"]) for r in fits.to_dicts()}
    assert slopes == {"all": (0.812, 1556), "x>=0.85": (0.393, 271)}


def test_fits_are_scipys_on_each_scale(compared, timm):
    numbers = (
        timm[0].values_at["imagenet-val", "top1", "all"],
        timm[2].values_at["imagenetv2-matched-frequency", "top1", "all"],
    )
    x, y = (np.array([n[m][0] for m in numbers[0]]) for n in numbers)
    fits = frame(compared, "fits").filter(dataset_y="imagenetv2-matched-frequency", metric_x="top1")
    assert sorted(fits["scale"]) == ["logit", "plain", "probit"]
    expected = linregress(np.log(x / (1 - x)), np.log(y / (1 - y)))
    (row,) = fits.filter(scale="logit").to_dicts()
    assert row["slope"] == pytest.approx(expected.slope)
    assert row["r2"] == pytest.approx(expected.rvalue**2)


def test_order_is_scipys(compared, timm):
    numbers = (
        timm[0].values_at["imagenet-val", "top1", "all"],
        timm[1].values_at["imagenet-val", "real1", "all"],
    )
    x, y = (np.array([n[m][0] for m in numbers[0]]) for n in numbers)
    (row,) = frame(compared, "ranks").filter(metric_y="real1").to_dicts()
    assert row["tau"] == pytest.approx(kendalltau(x, y).statistic)
    assert row["n_pairs"] == 1556 * 1555 // 2
    assert row["n_beyond_noise"] is None


def test_order_is_that_of_values_and_not_of_the_ends_of_intervals():
    rows = results("b").table.to_pylist()
    for row in rows:
        row |= {"lo": 1 - row["value"] - 0.3, "hi": 0.9}
    table = pa.Table.from_pylist(rows, schema=schema("results"))
    (row,) = compare([results("a"), Results(table, name="b.csv")]).ranks.to_pylist()
    assert (row["tau"], row["n_swapped"]) == (1, 0)


def test_drops_of_models_and_their_mean_by_hand():
    made = compare([results("a"), results("b", values=(0.5, 0.65, 0.5, 0.5), n=50)])
    drops = {r["model"]: r for r in frame(made, "drops").to_dicts()}
    assert {m: round(drops[m]["drop"], 9) for m in MODELS} == {
        "resnet18": 0.1,
        "resnet50": 0.05,
        "vgg16": 0.15,
        "alexnet": 0.0,
    }
    assert drops[None]["drop"] == pytest.approx(0.075)
    assert (drops[None]["n_x"], drops[None]["n_y"], drops[None]["n_models"]) == (100, 50, 4)
    # Three families are too few for an interval over families.
    assert (drops[None]["lo_models"], drops[None]["hi_models"]) == (None, None)


def test_families_may_be_given():
    parts = [results("a"), results("b", values=(0.5, 0.65, 0.5, 0.5))]
    models = [f"resnet{i}" for i in range(12)]
    x, y = (np.random.default_rng(i).uniform(0.5, 0.7, 12) for i in (1, 2))
    parts = [results("a", values=x, models=models), results("b", values=y, models=models)]
    assert mean(compare(parts))["lo_models"] is None
    row = mean(compare(parts, families={m: m for m in models}))
    # Each its own family: Student's interval of a mean of twelve.
    expected = ttest_1samp(x - y, 0).confidence_interval(0.95)
    assert (row["lo_models"], row["hi_models"]) == pytest.approx(tuple(expected))


def test_intervals_over_images_of_one_data_set_are_paired():
    """Resample r is of the same images under both metrics: what both share falls out of the difference."""
    shared = np.random.default_rng(0).normal(0, 0.05, (4, 200))
    x = with_samples(results("a"), shared + 0.6)
    y = with_samples(results("a", "real1", (0.7, 0.8, 0.7, 0.6)), shared + 0.7)
    row = mean(compare([x, y]))
    assert row["lo"] == pytest.approx(row["drop"], abs=1e-6)
    assert row["hi"] == pytest.approx(row["drop"], abs=1e-6)


def test_intervals_over_images_of_two_data_sets_are_not_paired():
    """The same random numbers drew both: taken as they lie their noise would fall out of the difference."""
    shared = np.random.default_rng(0).normal(0, 0.05, (1, 2000)).repeat(4, 0)
    x = with_samples(results("a"), shared + 0.6)
    y = with_samples(results("b", values=(0.5,) * 4), shared + 0.5)
    row = mean(compare([x, y]))
    assert row["hi"] - row["lo"] == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(("n", "start", "share"), [(1000, 50, "100%"), (5000, 2500, "50%"), (1000, 1000, "")])
def test_data_sets_that_share_images_are_noted(n, start, share):
    """A test set that grew by 50 images was compared as one of other images."""
    label = np.random.default_rng(0).integers(0, 3, 2 * n + 50)
    scores = pd.DataFrame(np.eye(3)[np.roll(label, 1)], [f"{i}.jpg" for i in range(len(label))])
    parts = []
    for name, images in (("old", slice(0, n)), ("new", slice(start, start + n))):
        labels = pd.DataFrame({"image_id": scores.index[images], "label": label[images]})
        reading = Reading(dataset=name, trust_order=True, scores="logit")
        parts.append(evaluate(labels, {"m": scores}, metrics=["top1"], resamples=50, reading=reading))
    notes = [note for note in compare(parts).notes if "share images" in note]
    assert bool(notes) == bool(share)
    if notes:
        found = int(re.search(r"about (\d+)%", notes[0])[1])
        assert abs(found - int(share.rstrip("%"))) <= 20  # 64 of the ids


def test_pairs_that_change_order_and_whether_beyond_noise():
    sure = {("resnet18", "vgg16"): 0.01, ("resnet18", "alexnet"): 0.9, ("resnet50", "vgg16"): 0.01}
    x = with_pairs(results("a", values=(0.6, 0.7, 0.65, 0.5)), sure | {("vgg16", "alexnet"): 0.001})
    y = with_pairs(results("b", values=(0.6, 0.7, 0.55, 0.58)), sure | {("vgg16", "alexnet"): 0.2})
    made = compare([x, y])
    swaps = frame(made, "swaps").select("model_a", "model_b", "p_x", "p_y", "beyond_noise").sort("model_b")
    assert swaps.rows() == [("vgg16", "alexnet", 0.001, 0.2, False), ("vgg16", "resnet18", 0.01, 0.01, True)]
    (ranks,) = frame(made, "ranks").to_dicts()
    assert (ranks["n_pairs"], ranks["n_swapped"], ranks["n_beyond_noise"]) == (6, 2, 1)


def test_data_sets_of_some_classes_are_compared_with_images_of_these_classes():
    parts = [results(d) for d in ("imagenet-val", "imagenet-val-a-classes", "imagenet-a", "imagenet-sketch")]
    made = frame(compare(parts), "ranks")
    assert made.select("dataset_x", "dataset_y").rows() == [
        ("imagenet-val-a-classes", "imagenet-a"),
        ("imagenet-val", "imagenet-sketch"),
    ]


def test_the_same_number_twice_is_refused():
    part = results("a")
    twice = Results(pa.concat_tables([part.table, part.table.slice(0, 1)]), name="a.csv")
    with pytest.raises(InputError) as error:
        compare([twice, results("b")])
    assert str(error.value) == (
        "The results contain a value twice.\n"
        "  where:   a.csv\n"
        "  got:     a, top1, all, resnet18\n"
        "  allowed: one row for each data set, model, metric and slice"
    )


def test_percent_are_no_shares():
    with pytest.raises(InputError) as error:
        compare([results("a", values=(60.5, 70, 65, 50)), results("b")])
    assert str(error.value) == (
        "This is not a share of images.\n"
        "  where:   a.csv and b.csv, a, top1, all, resnet18\n"
        "  got:     60.5\n"
        "  allowed: 0 to 1\n"
        "  do:      divide by 100: this looks like percent"
    )


def test_two_models_have_no_line():
    made = compare(
        [results(d, values=v, models=("one", "two")) for d, v in (("a", (0.6, 0.7)), ("b", (0.4, 0.6)))]
    )
    assert (made.fits.num_rows, made.ranks["tau"].to_pylist()) == (0, [1.0])


def test_runs_with_other_numbers_of_resamples():
    rng = np.random.default_rng(0)
    x = with_samples(results("a"), 0.6 + rng.normal(0, 0.05, (4, 500)))
    y = with_samples(results("b", values=(0.5,) * 4), 0.5 + rng.normal(0, 0.05, (4, 400)))
    assert mean(compare([x, y]))["lo"] is not None


def test_leaving_models_out_makes_the_correction_anew():
    p = {("resnet18", "vgg16"): 0.02, ("resnet50", "vgg16"): 0.03, ("vgg16", "alexnet"): 0.2}
    part = with_pairs(results("a"), p)
    made = compare([part, results("b")], without=["alexnet"])
    pairs = made.results.pairs
    assert dict(zip(pairs["p"].to_pylist(), pairs["p_adjusted"].to_pylist(), strict=True)) == {
        0.02: 0.04,
        0.03: 0.04,
    }


def test_without_everybody():
    with pytest.raises(InputError) as error:
        compare([results("a"), results("b")], without=["*"])
    assert str(error.value) == "No model is left to compare.\n  got:     *"


def test_models_may_be_left_out():
    made = compare([results("a"), results("b")], without=["res*"])
    assert sorted(frame(made, "drops")["model"].drop_nulls()) == ["alexnet", "vgg16"]
    with pytest.raises(InputError) as error:
        compare([results("a"), results("b")], without=["resnett*"])
    assert str(error.value) == "A pattern matches no model.\n  where:   a.csv and b.csv\n  got:     resnett*"


def test_one_model_has_a_drop_but_neither_rank_nor_line():
    made = compare(
        [results("a", values=(0.6,), models=("one",)), results("b", values=(0.5,), models=("one",))]
    )
    assert {name: t.num_rows for name, t in made.tables.items() if t.num_rows} == {"drops": 2}
    assert [row["drop"] for row in made.drops.to_pylist()] == pytest.approx([0.1, 0.1])


def test_undefined_values_are_left_out():
    made = compare([results("a", values=(0.6, float("nan"), 0.65, 0.5)), results("b")])
    assert mean(made)["n_models"] == 3


def test_perfect_models_have_no_place_on_the_logit_scale_but_a_drop():
    made = compare([results("a", values=(1.0, 0.7, 0.65, 0.5)), results("b")])
    fits = frame(made, "fits")
    assert fits.filter(scale="plain")["n"].item() == 4
    assert fits.filter(scale="logit")["n"].item() == 3
    drops = frame(made, "drops")
    assert drops.filter(model="resnet18")["drop"].item() == pytest.approx(0.4)


def test_the_same_numbers_twice_are_refused():
    with pytest.raises(MatchError) as error:
        compare([results("a"), results("a")])
    assert str(error.value) == (
        "Two results contain values of the same data set, metric and slice.\n"
        "  where:   a.csv and a.csv\n"
        "  got:     a, top1, all\n"
        "  allowed: each value in only one of the results\n"
        "  do:      compare models from their predictions, with `labels`; or evaluate one data set under "
        "another name with `dataset`"
    )


def test_an_end_without_numbers_is_refused():
    with pytest.raises(MatchError) as error:
        compare([results("a"), results("b")], ends=[(("a", "top1", "all"), ("a", "top1", "n_objects>=2"))])
    assert str(error.value) == (
        "There are no numbers to compare.\n"
        "  where:   a.csv and b.csv\n"
        "  got:     a, top1, n_objects>=2\n"
        "  allowed: a, top1, all"
    )


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"best_from": 85},
            InputError,
            "`best_from` is out of range.\n  got:     85\n  allowed: above 0 to below 1",
        ),
        (
            {"resamples": -1},
            InputError,
            "`resamples` is out of range.\n  got:     -1\n  allowed: 0 or more",
        ),
        ({"seed": -1}, InputError, "`seed` is out of range.\n  got:     -1\n  allowed: 0 or more"),
        (
            {"families": {"resnet-18": "resnet"}},
            MatchError,
            "None of the models is in the table of families.\n"
            "  got:     models such as resnet-18\n"
            "  allowed: models such as resnet18",
        ),
    ],
)
def test_options_out_of_range(options, kind, text):
    with pytest.raises(kind) as error:
        compare([results("a"), results("b")], **options)
    assert str(error.value) == text


def test_without_resamples_there_are_no_intervals():
    made = compare([results("a"), results("b")], resamples=0)
    assert mean(made)["lo_models"] is None
    assert frame(made, "fits")["slope_lo"].null_count() == 3


def test_no_results_are_refused():
    with pytest.raises(InputError, match="There are no results to compare"):
        compare([])


def test_mean_drop_names_what_there_is():
    made = compare([results("a"), results("b", values=(0.5, 0.6, 0.55, 0.4)), results("c")])
    assert made.mean_drop("top1", y="b")[0] == pytest.approx(0.1)
    with pytest.raises(InputError) as error:
        made.mean_drop("top1")
    assert str(error.value) == (
        "2 comparisons match.\n"
        "  got:     metric_x=top1, metric_y=top1, slice_x=all, slice_y=all\n"
        "  allowed: top1 a → b; top1 a → c"
    )


def test_the_same_seed_gives_the_same_tables():
    parts = [results("a"), results("b", values=(0.5, 0.65, 0.5, 0.5))]
    one, two = compare(parts), compare(parts)
    assert all(one.tables[n].equals(two.tables[n]) for n in one.tables)
