"""Losses between places, and shares of them, against a bootstrap of our own and by hand."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot import tables
from manyhot.core.resampling import draw_counts
from manyhot.core.share_intervals import difference_interval
from manyhot.data.data_sets import Source
from manyhot.diagnose import robustness
from manyhot.diagnose.corruption_losses import judge_corruptions
from manyhot.diagnose.places import Place, Score, loss_differences
from manyhot.diagnose.robustness import diagnose_robustness, judge_place, judged_alike
from manyhot.diagnose.robustness_chapter import _answers
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.judge_options import JudgeOptions

C = 6


def data(n, seed, noise, prefix="i", models=("a", "b")):
    """Return label sets of one or two classes, and models that see them through noise."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, C, n)
    sets = [sorted({int(y), int(y + 1) % C}) if i % 3 == 0 else [int(y)] for i, y in enumerate(label)]
    labels = mh.as_labels(sets, n_classes=C, label=label.tolist())
    ids = pa.array([f"{prefix}{i}" for i in range(n)])
    labels = dataclasses.replace(labels, table=labels.table.set_column(0, "image_id", ids))
    return labels, [model(labels, sets, name, noise * (1 + k / 5), rng) for k, name in enumerate(models)]


def model(labels, sets, name, noise, rng):
    scores = rng.normal(size=(len(sets), C)).astype(np.float32) * noise
    for i, found in enumerate(sets):
        scores[i, found] += 2
    return tables.Predictions(labels.image_id, name, scores=scores, score_kind="logit", n_classes=C)


def results(dataset, *given, resamples=1000, **options):
    return judged(dataset, *data(*given), resamples, **options).as_results(dataset)


def judged(dataset, labels, models, resamples, **options):
    source = Source(dataset, labels, models=lambda: iter(models))
    return judge_place(source, JudgeOptions(resamples=resamples), **options)


def rights(labels, predicted):
    """Return which images are right under the original label, and under the label set."""
    best = predicted.scores.argmax(1)
    states = labels.table.to_pylist()
    valid = [{c for c, s in zip(r["classes"], r["state"], strict=True) if s == "yes"} for r in states]
    label = np.array([r["label"] for r in states])
    return best == label, np.array([b in v for b, v in zip(best.tolist(), valid, strict=True)])


def rows_of(table, **wanted):
    return [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def two():
    (one, in_one), (other, in_other) = data(600, 1, 1.0, "x"), data(500, 2, 1.8, "y")
    places = [
        judged("one", one, in_one, 500).as_results(),
        judged("other", other, in_other, 500).as_results(),
    ]
    return (one, in_one), (other, in_other), diagnose_robustness(places)


def test_losses_and_shares_are_those_of_the_images(two):
    (one, in_one), (other, in_other), found = two
    for at, there in zip(in_one, in_other, strict=True):
        (s1, m1), (s2, m2) = rights(one, at), rights(other, there)
        single, multi = s1.mean() - s2.mean(), m1.mean() - m2.mean()
        (top1,) = rows_of(found.losses, model=at.model, metric="top1")
        (real1,) = rows_of(found.losses, model=at.model, metric="real1")
        assert (top1["loss"], real1["loss"]) == (pytest.approx(single), pytest.approx(multi))
        assert real1["share"] == pytest.approx(1 - multi / single)
        assert (top1["n_base"], top1["n"], top1["n_models"]) == (600, 500, 1)


def test_intervals_are_those_of_two_independent_bootstraps(two):
    (one, in_one), (other, in_other), found = two
    (s1, m1), (s2, m2) = rights(one, in_one[0]), rights(other, in_other[0])
    rng = np.random.default_rng(9)
    at, there = draw_counts(600, 4000, rng) / 600, draw_counts(500, 4000, rng) / 500
    single, multi = at @ s1 - there @ s2, at @ m1 - there @ m2
    (top1,) = rows_of(found.losses, model="a", metric="top1")
    (real1,) = rows_of(found.losses, model="a", metric="real1")
    for row, names, drawn in (
        (top1, ("lo", "hi"), single),
        (real1, ("lo", "hi"), multi),
        (real1, ("share_lo", "share_hi"), 1 - multi / single),
    ):
        ends = np.quantile(drawn, [0.025, 0.975])
        assert [row[n] for n in names] == pytest.approx(ends, abs=0.15 * (ends[1] - ends[0]))


def test_the_mean_over_models_is_the_ratio_of_mean_losses(two):
    found = two[2]
    (mean,) = rows_of(found.losses, model=None, metric="real1")
    each = {m: [r["loss"] for r in rows_of(found.losses, metric=m) if r["model"]] for m in ("top1", "real1")}
    assert mean["loss"] == pytest.approx(np.mean(each["real1"]))
    assert mean["share"] == pytest.approx(1 - np.mean(each["real1"]) / np.mean(each["top1"]))
    assert mean["n_models"] == 2
    assert mean["share_lo"] < mean["share"] < mean["share_hi"]


def test_precision_has_losses_and_no_share(two):
    (row,) = rows_of(two[2].losses, model="a", metric="map_macro")
    values = [r for r in two[2].robustness.to_pylist() if r["model"] == "a" and r["metric"] == "map_macro"]
    ends = [np.array([[r[k]] for k in ("value", "lo", "hi")]) for r in values]
    lo, hi = difference_interval(*ends)
    assert (row["loss"], row["lo"], row["hi"]) == pytest.approx((ends[0][0, 0] - ends[1][0, 0], lo[0], hi[0]))
    assert (row["share"], row["share_lo"], row["share_hi"]) == (None, None, None)


def test_no_share_where_nothing_is_lost_for_sure():
    same = diagnose_robustness([results("x", 100, 1, 1.5, "x"), results("y", 100, 2, 1.5, "y")])
    (top1,) = rows_of(same.losses, model="a", metric="top1")
    (real1,) = rows_of(same.losses, model="a", metric="real1")
    assert top1["lo"] < 0 < top1["hi"]
    assert real1["share"] is None


def test_published_numbers_have_losses_alone():
    table = pa.Table.from_pylist(
        [
            {"dataset": d, "model": m, "metric": "top1", "slice": "all", "value": v, "lo": v - 0.01}
            | {"hi": v + 0.01, "n": 9, "n_skipped": 0}
            for d, values in (("imagenet-val", (0.8, 0.7)), ("imagenet-sketch", (0.4, 0.2)))
            for m, v in zip("ab", values, strict=True)
        ],
        schema=tables.schema("results"),
    )
    found = diagnose_robustness([tables.Results(table)])
    mean, a, b = found.losses.to_pylist()
    assert (mean["loss"], mean["lo"], mean["n_models"]) == (pytest.approx(0.45), None, 2)
    # Newcombe's: both ends 0.01 away, so the root of the sum of two squares
    assert [a["loss"], a["lo"], a["hi"]] == pytest.approx([0.4, 0.4 - 0.02**0.5 / 10, 0.4 + 0.02**0.5 / 10])
    assert b["share"] is None
    assert found.notes == (
        "evaluated only under original labels, because there are no label sets: imagenet-val, "
        "imagenet-sketch",
    )


def test_subsets_of_classes_are_compared_with_their_own_images():
    names = ("imagenet-val", "imagenet-val-a-classes", "imagenet-a", "imagenet-sketch")
    parts = [results(name, 100, i, 1.0 + i, name, resamples=20) for i, name in enumerate(names)]
    found = diagnose_robustness(parts)
    pairs = dict.fromkeys((r["base"], r["dataset"]) for r in found.losses.to_pylist())
    assert list(pairs) == [("imagenet-val-a-classes", "imagenet-a"), ("imagenet-val", "imagenet-sketch")]
    found = diagnose_robustness(parts, base="imagenet-sketch")
    assert ("imagenet-sketch", "imagenet-val") in {
        (r["base"], r["dataset"]) for r in found.losses.to_pylist()
    }


def test_protocols_are_told():
    found = diagnose_robustness(
        [
            results("imagenet-val", 100, 1, 1.0, "x", resamples=20),
            results("imagenetv2-matched-frequency", 100, 2, 3.0, "y", resamples=20),
        ]
    )
    assert found.notes == (
        "shares over fewer than 500 images have no intervals, because intervals would be too narrow",
        "shares due to missing labels assume that the label sets of both data sets were made in the same "
        "way, but the label sets of Multilabelfy (imagenetv2-matched-frequency) and ReaL (imagenet-val) were "
        "not, so part of each share is due to the protocol",
    )


def test_images_that_metrics_do_not_share_are_left_out_and_told():
    labels, models = data(40, 1, 1.0)
    rows = labels.table.to_pylist()
    rows[0]["state"] = ["no"] * len(rows[0]["state"])
    rows[1]["label"] = None
    rows[2]["usable"] = False
    rows[3]["state"] = ["no"] * len(rows[3]["state"])
    holed = dataclasses.replace(labels, table=pa.Table.from_pylist(rows, schema=labels.table.schema))
    kept, notes = judged_alike(holed)
    assert kept.image_id.to_pylist() == labels.image_id.to_pylist()[4:]
    assert notes == ("4 of 40 images have no valid class or no original label and were left out",)
    assert judged_alike(labels) == (labels, ())
    rows = judged("x", kept, models, 0).results.to_pylist()
    assert {r["n"] for r in rows if r["slice"] == "all" and r["metric"] in ("top1", "real1")} == {36}
    # Judged elsewhere, with all images under top1, shares are of other images, and this is said.
    whole = mh.evaluate(holed, models, resamples=20, reading=mh.Reading(dataset="x")).as_results("x")
    found = diagnose_robustness([whole, results("y", 40, 2, 3.0, "y", resamples=20)])
    assert (
        "x: metrics count different images (top1 38, real1 37), so shares compare different images; to "
        "compute shares on the same images, pass the label sets instead of results"
    ) in found.notes


def test_label_sets_without_original_labels():
    labels, models = data(40, 1, 1.0)
    bare = dataclasses.replace(labels, table=labels.table.drop_columns(["label"]))
    assert judged_alike(bare) == (bare, ("there are no original labels, so losses under them are unknown",))
    places = [judged("x", bare, models, 20).as_results(), results("y", 40, 2, 3.0, "y", resamples=20)]
    found = diagnose_robustness(places)
    assert {r["metric"] for r in found.losses.to_pylist()} == {"real1", "map_macro"}
    assert {r["share"] for r in found.losses.to_pylist()} == {None}


@pytest.mark.parametrize(
    ("base", "names", "error", "text"),
    [
        (
            "",
            ["x"],
            InputError,
            "A comparison needs at least two data sets.\n  got:     x\n  do:      pass another data set",
        ),
        (
            "z",
            ["x", "y"],
            MatchError,
            "There is no data set 'z' in the results.\n  allowed: x, y",
        ),
    ],
)
def test_what_is_refused(base, names, error, text):
    parts = [results(n, 30, i, 1.0, n, resamples=0) for i, n in enumerate(names)]
    with pytest.raises(error) as found:
        diagnose_robustness(parts, base=base)
    assert str(found.value) == text


@pytest.mark.parametrize(("n_base", "n_other"), [(50, 0), (0, 50)])
def test_one_data_set_without_resamples(n_base, n_other):
    """Differences then have no interval."""
    parts = [
        results("x", 30, 0, 1.0, "x", resamples=n_base),
        results("y", 30, 1, 1.0, "y", resamples=n_other),
    ]
    losses = diagnose_robustness(parts).losses.to_pylist()
    assert losses
    assert all(row["loss"] is not None and row["lo"] is None for row in losses)


def test_nothing_in_common_is_refused_or_told():
    one = results("x", 30, 1, 1.0, "x", ("a",), resamples=0)
    other = results("y", 30, 2, 1.0, "y", ("b",), resamples=0)
    with pytest.raises(InputError) as found:
        diagnose_robustness([one, other])
    assert str(found.value) == (
        "No two data sets have a model and a metric in common.\n"
        "  got:     x, y\n"
        "  allowed: models with the same name, and the metric top1 or real1 or mla or map_macro"
    )
    third = results("z", 30, 3, 1.0, "z", ("a",), resamples=0)
    assert "y: left out, because it shares no model with x" in diagnose_robustness([one, other, third]).notes


# Corrupted copies of one data set


@pytest.fixture(scope="module")
def corrupted():
    labels, clean = data(240, 1, 0.8)
    copies = {("clean", 0): clean}
    for k, kind in enumerate(("fog", "frost")):
        for severity in (1, 2, 3):
            copies[kind, severity] = data(240, 1, 0.8 + 0.3 * severity + 0.2 * k)[1]
    return labels, copies, judge_corruptions(labels, copies, baseline="b", resamples=400)


def error(labels, copies, copy, name, under):
    chosen = next(m for m in copies[copy] if m.model == name)
    return 1 - rights(labels, chosen)[under]


@pytest.mark.parametrize(("metric", "under"), [("top1", 0), ("real1", 1)])
def test_corruption_errors_are_those_of_the_paper(corrupted, metric, under):
    labels, copies, found = corrupted
    ce, relative = [], []
    for kind in ("fog", "frost"):
        of = {m: [error(labels, copies, (kind, s), m, under).mean() for s in (1, 2, 3)] for m in ("a", "b")}
        clean = {m: error(labels, copies, ("clean", 0), m, under).mean() for m in ("a", "b")}
        ce.append(sum(of["a"]) / sum(of["b"]))
        relative.append((sum(of["a"]) - 3 * clean["a"]) / (sum(of["b"]) - 3 * clean["b"]))
        (row,) = rows_of(found.corruption_errors, model="a", metric=metric, kind=kind)
        assert row["error"] == pytest.approx(np.mean(of["a"]))
        assert (row["ce"], row["relative"]) == (pytest.approx(ce[-1]), pytest.approx(relative[-1]))
        assert (row["baseline"], row["n_kinds"], row["n_severities"], row["n"]) == ("b", 1, 3, 240)
    (row,) = rows_of(found.corruption_errors, model="a", metric=metric, kind=None)
    assert (row["ce"], row["relative"]) == (pytest.approx(np.mean(ce)), pytest.approx(np.mean(relative)))
    assert row["ce_lo"] < row["ce"] < row["ce_hi"]
    assert row["n_kinds"] == 2
    (of_itself,) = rows_of(found.corruption_errors, model="b", metric=metric, kind=None)
    assert [of_itself[n] for n in ("ce", "ce_lo", "ce_hi", "relative")] == [1, 1, 1, 1]


def test_copies_are_of_the_same_images(corrupted):
    labels, copies, found = corrupted
    clean, fog = (error(labels, copies, copy, "a", 0) for copy in (("clean", 0), ("fog", 3)))
    counts = draw_counts(240, 4000, np.random.default_rng(5)) / 240
    ends = np.quantile(counts @ fog - counts @ clean, [0.025, 0.975])
    (row,) = rows_of(found.losses, model="a", metric="top1", kind="fog", severity=3)
    assert row["loss"] == pytest.approx(fog.mean() - clean.mean())
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(ends), abs=0.15 * (ends[1] - ends[0]))


def test_means_over_severities_and_kinds(corrupted):
    found = corrupted[2]
    each = [r["loss"] for r in rows_of(found.losses, model="a", metric="top1") if r["severity"]]
    (fog,) = rows_of(found.losses, model="a", metric="top1", kind="fog", severity=None)
    (every,) = rows_of(found.losses, model="a", metric="top1", kind=None, severity=None)
    assert fog["loss"] == pytest.approx(np.mean(each[:3]))
    assert every["loss"] == pytest.approx(np.mean(each))
    (value,) = rows_of(found.robustness, model="a", metric="top1", kind=None, severity=None)
    (clean,) = rows_of(found.robustness, model="a", metric="top1", kind="clean", severity=0)
    assert clean["value"] - value["value"] == pytest.approx(every["loss"])
    assert value["lo"] < value["value"] < value["hi"]


def test_alexnets_errors_are_of_imagenets_classes():
    classes = mh.class_list()
    labels, models = data(40, 1, 1.0)
    labels = dataclasses.replace(labels, n_classes=1000, class_hash=classes.hash)
    wide = np.full((40, 1000), -9, np.float32)
    models = [dataclasses.replace(m, scores=wide.copy(), n_classes=1000) for m in models]
    for m, old in zip(models, data(40, 1, 1.0)[1], strict=True):
        m.scores[:, :C] = old.scores
    found = judge_corruptions(labels, {("clean", 0): models, ("snow", 2): models}, resamples=0)
    single, multi = (
        rows_of(found.corruption_errors, model="a", metric=m, kind="snow")[0] for m in ("top1", "real1")
    )
    assert (single["baseline"], multi["baseline"], multi["ce"]) == ("alexnet", None, None)
    assert single["ce"] == pytest.approx(single["error"] / 0.88392)
    assert single["relative"] == pytest.approx(0)
    assert found.notes == (
        "corruption errors are divided by AlexNet's published errors on all 50,000 images of ImageNet-C "
        "under original labels; none were published under label sets",
        "the means are computed over 1 of the 15 kinds of corruption",
    )


def test_no_baseline_no_corruption_errors():
    labels, models = data(40, 1, 1.0)
    found = judge_corruptions(labels, {("clean", 0): models, ("fog", 1): models}, resamples=0)
    assert {(r["baseline"], r["ce"]) for r in found.corruption_errors.to_pylist()} == {(None, None)}
    assert found.notes[0] == (
        "corruption errors were not computed, because AlexNet's errors are published only for ImageNet's "
        "classes; choose another model as the baseline"
    )


@pytest.mark.parametrize(
    ("baseline", "text"),
    [
        ("c", "The baseline is not one of the models.\n  got:     c\n  allowed: a, b"),
        (
            "alexnet",
            "The baseline is not one of the models, and its errors are published only for ImageNet's "
            "classes.\n"
            "  got:     alexnet\n  allowed: a, b",
        ),
    ],
)
def test_unknown_baselines(baseline, text):
    labels, models = data(30, 1, 1.0)
    with pytest.raises(MatchError) as found:
        judge_corruptions(labels, {("clean", 0): models, ("fog", 1): models}, baseline=baseline, resamples=0)
    assert str(found.value) == text


@pytest.mark.parametrize(
    ("copies", "got"), [({}, "nothing"), ({("fog", 1): ()}, "fog 1"), ({("clean", 0): ()}, "clean 0")]
)
def test_pictures_as_they_are_and_others(copies, got):
    with pytest.raises(InputError) as found:
        judge_corruptions(data(10, 1, 1.0)[0], copies)
    assert str(found.value) == (
        "Measuring the loss due to corruption requires predictions for the original and for the corrupted "
        "images.\n"
        f"  got:     {got}\n"
        "  allowed: predictions with the key ('clean', 0), and with the key of a corruption, such as "
        "('fog', 3)"
    )


def test_images_that_no_copy_has_are_told():
    labels, models = data(30, 1, 1.0)
    few = [dataclasses.replace(m, image_id=m.image_id[:20], scores=m.scores[:20]) for m in models]
    found = judge_corruptions(labels, {("clean", 0): few, ("fog", 1): few}, resamples=50, baseline="a")
    assert found.notes[:2] == tuple(
        f"{name}: 10 of 30 labelled images have no prediction and were left out" for name in "ab"
    )
    assert {r["n"] for r in found.robustness.to_pylist()} == {20}


def test_a_published_name_wins_over_a_folder_of_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "results.parquet").touch()
    assert robustness._holds_results("./imagenet")
    assert not robustness._holds_results("imagenet")


def test_losses_of_two_models_are_compared_on_the_same_images():
    """The interval is that of paired differences, which two intervals side by side would not give."""
    rng = np.random.default_rng(3)
    n = 400
    shares = {("a", 0): 0.9, ("a", 1): 0.6, ("b", 0): 0.9}
    hits = {key: rng.random(n) < share for key, share in shares.items()}
    hits["b", 1] = hits["a", 1] | (rng.random(n) < 0.15)
    drawn = rng.integers(0, n, (2000, n))

    def place(copy, kind):
        scores = {m: Score(float(hits[m, copy].mean()), None, None, n, 0) for m in "ba"}
        samples = {m: hits[m, copy][drawn].mean(1) for m in "ab"}
        return Place("photos", {"real1": scores}, {"real1": samples}, kind)

    (text,) = loss_differences(place(0, "clean"), place(1, None))
    lost = {m: hits[m, 0].astype(float) - hits[m, 1] for m in "ab"}
    each = 100 * (lost["a"] - lost["b"])
    half = 1.96 * each.std() / np.sqrt(n)
    start = "points that a loses beyond b, on average over corruptions of the same images: "
    found = re.fullmatch(rf"{start}([\d.]+) \((−?[\d.]+) to ([\d.]+)\) by real1", text)
    value, lo, hi = (float(number.replace("−", "-")) for number in found.groups())
    assert value == pytest.approx(each.mean(), abs=0.051)
    assert (value - lo, hi - value) == pytest.approx((half, half), rel=0.1, abs=0.1)


def test_the_page_of_few_models_has_a_sentence_for_each():
    row = dict.fromkeys(("kind", "lo", "hi", "share", "share_lo", "share_hi"))
    row |= {"base": "photos", "dataset": "photos", "n": 90, "n_models": 1, "loss": 0.04}
    each = [
        {**row, "model": model, "metric": metric, "loss": loss, "share": share}
        for model, of_top1 in (("one", 0.25), ("two", -0.5))
        for metric, loss, share in (("top1", 0.04, None), ("real1", 0.04 * (1 - of_top1), of_top1))
    ]
    means = [{**row, "model": None, "n_models": 2, "metric": m} for m in ("top1", "real1")]
    start = "On photos under all kinds of corruption"
    assert _answers([*means, *each]) == [
        f"{start}, one lost 4.0 points by Top-1, and 3.0 points by ReaL: 25 % of the loss of Top-1 is due to "
        "missing labels (90 images).",
        f"{start}, two lost 4.0 points by Top-1, and 6.0 points by ReaL: missing labels do not explain the "
        "loss (90 images).",
    ]


def test_results_on_the_same_images_are_compared_image_by_image():
    """Predictions on clean and on corrupted images: the normal interval of the mean of paired differences."""
    rng, n = np.random.default_rng(0), 1000
    label = rng.integers(0, C, n)
    clean = rng.normal(size=(n, C)) + 2 * np.eye(C)[label]
    copies = {"clean": clean, "noise": clean + rng.normal(size=(n, C))}
    options = {"label": label, "scores": "logit", "metrics": ["top1"]}
    sets = [[y] for y in label.tolist()]
    both = [mh.evaluate(sets, {"net": x}, dataset=d, **options) for d, x in copies.items()]
    (row,) = diagnose_robustness(both).losses.to_pylist()
    right = [x.argmax(1) == label for x in copies.values()]
    lost = right[0].astype(float) - right[1]
    half = 1.96 * lost.std() / np.sqrt(n)
    assert row["loss"] == pytest.approx(lost.mean())
    assert (row["lo"], row["hi"]) == pytest.approx((lost.mean() - half, lost.mean() + half), abs=0.004)
