"""Calibration on label sets from an audit: bins of confidence against the equations in plain NumPy."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from scipy import stats
from scipy.special import softmax

from audits import table_of
from manyhot import evaluate
from manyhot.errors import InputError
from manyhot.tables import Labels, Predictions, check
from manyhot.tables.audit_samples import draw_sample

N, CLASSES, BINS = 4000, 5, 15
IDS = pa.array([f"{i:04}.jpg" for i in range(N)], pa.string())


class World:
    """Images with single labels, label sets of which a share is empty, and a model that is too sure."""

    def __init__(self, empty=0.1, labelled=True, where_right=False):
        rng = np.random.default_rng(5)
        logits = rng.normal(0, 1.5, (N, CLASSES))
        p = softmax(logits, axis=1)
        self.label = (p.cumsum(1) > rng.random((N, 1))).argmax(1)
        yes = rng.random((N, CLASSES)) < 0.5 * p
        yes[np.arange(N), self.label] = rng.random(N) < 0.9
        self.p = softmax(1.6 * logits, axis=1).astype(np.float32)
        self.top, self.confidence = self.p.argmax(1), self.p.max(1).astype(float)
        none = rng.random(N) < empty
        yes[none & (self.top == self.label) if where_right else none] = False
        self.yes, self.counts = yes, yes.any(1)
        self.original = self.label if labelled else None

    def labels(self, yes, rows=slice(None), **about):
        sets = [np.flatnonzero(row).tolist() for row in yes[rows]]
        label = None if self.original is None else self.original[rows]
        return Labels(
            table_of(sets, label, ids=IDS.take(pa.array(np.arange(N)[rows])), **about),
            CLASSES,
            name="made up",
        )

    def evaluate(self, n=600, seed=3, keep=slice(None), **options):
        drawn = draw_sample(IDS, np.full(N, n / N), "uniform", seed)
        rows = np.flatnonzero(np.isin(np.array(IDS), np.array(drawn.drawn)))
        model = Predictions(
            IDS.take(pa.array(np.arange(N)[keep])), "sure", scores=self.p[keep], score_kind="probability"
        )
        single = np.eye(CLASSES, dtype=bool)[self.label]
        options = {"resamples": 1, "metrics": "top1"} | options
        found = evaluate(
            self.labels(single), model, audited=self.labels(self.yes, rows), sample=drawn, **options
        )
        return rows, found

    def right(self, yes):
        return yes[np.arange(N), self.top]


def table(found):
    return pl.from_arrow(check(found.confidence["reliability"], "reliability"))


def estimated(world, rows, inside, estimator):
    """Return the accuracy of the images inside on people's label sets, and its interval by the equations.

    Two more images disagree, each by one of the images of the bin that count.
    """
    n = len(rows)
    proposed = (world.label == world.top).astype(float)
    y, c = world.right(world.yes) * world.counts * inside, world.counts * inside
    ratio, scale = y[rows].sum() / c[rows].sum(), c[rows].mean()
    z = ((y - ratio * c) / scale)[rows]
    mean = proposed[rows][inside[rows]].mean()
    f = (proposed - mean) * inside / inside[rows].mean()
    weight = {"sample": 0.0, "difference": 1.0, "ppi++": np.cov(z, f[rows])[0, 1] / np.var(f[rows], ddof=1)}[
        estimator
    ]
    weight = np.clip(weight, 0, 1)
    value = ratio + weight * (proposed[inside].mean() - mean)
    residual = z - weight * f[rows]
    squares = (1 - n / N) * (residual - residual.mean()) ** 2 / (n * (n - 1))
    more = (1 - n / N) / np.count_nonzero(c[rows]) ** 2
    total = squares.sum() * ((n - 1) / (n - 2) if estimator == "ppi++" else 1) + 2 * more
    df = 2 * total**2 / ((squares**2).sum() + 2 * more**2)
    half = stats.t.ppf(0.975, df) * np.sqrt(total)
    return value, max(value - half, 0), min(value + half, 1)


@pytest.mark.parametrize("estimator", ["sample", "difference", "ppi++"])
def test_bins_are_what_the_equations_give(estimator):
    world = World()
    rows, found = world.evaluate(estimator=estimator)
    bins = table(found).filter(pl.col("event") == "set")
    assert len(bins) >= 9
    at = np.searchsorted(np.arange(1, BINS) / BINS, world.confidence, side="right")
    for row in bins.iter_rows(named=True):
        inside = np.ones(N, bool) if (row["from"], row["to"]) == (0, 1) else at == round(row["from"] * BINS)
        n_audited = int((inside & world.counts)[rows].sum())
        assert (row["n_audited"], row["estimator"]) == (n_audited, estimator)
        assert row["n"] == round(n_audited * N / len(rows))
        assert row["alone"] == pytest.approx((world.label == world.top)[inside].mean())
        value, lo, hi = estimated(world, rows, inside, estimator)
        assert row["right"] == pytest.approx(value)
        assert n_audited >= 30
        assert (row["lo"], row["hi"]) == pytest.approx((lo, hi))


def test_bins_with_few_audited_images_are_left_out():
    world = World()
    rows, found = world.evaluate()
    at = np.searchsorted(np.arange(1, BINS) / BINS, world.confidence, side="right")
    n = np.bincount(at[rows][world.counts[rows]], minlength=BINS)
    left = table(found).filter((pl.col("event") == "set") & (pl.col("to") - pl.col("from") < 1))
    assert [round(x * BINS) for x in left["from"]] == np.flatnonzero(n >= 30).tolist()
    assert (n[n < 30] > 0).any()


def test_bins_of_which_few_images_were_not_audited_are_left_out():
    """One to nine of them alone are uncertain, which is not nearly normal."""
    world = World()
    rows, found = world.evaluate(n=N - 90)
    at = np.searchsorted(np.arange(1, BINS) / BINS, world.confidence, side="right")
    audited, shown = (np.bincount(at[r], minlength=BINS) for r in (rows, rows[world.counts[rows]]))
    others = np.bincount(at, minlength=BINS) - audited
    few = (others > 0) & (others < 10)
    left = table(found).filter((pl.col("event") == "set") & (pl.col("to") - pl.col("from") < 1))
    assert [round(x * BINS) for x in left["from"]] == np.flatnonzero((shown >= 30) & ~few).tolist()
    assert (few & (shown >= 30)).any()
    assert (others >= 10).any()


def test_proposals_that_are_right_give_the_accuracy_of_all_images():
    """However many images of a bin were drawn: R + (P - R) with the ratios R of the sample and P of all."""
    world = World(empty=0)
    world.yes = np.eye(CLASSES, dtype=bool)[world.label]
    _, found = world.evaluate(estimator="difference")
    at = np.searchsorted(np.arange(1, BINS) / BINS, world.confidence, side="right")
    rows = table(found).filter((pl.col("event") == "set") & (pl.col("to") - pl.col("from") < 1))
    assert len(rows) > 5
    for start, right in rows.select("from", "right").iter_rows():
        assert right == pytest.approx((world.label == world.top)[at == round(start * BINS)].mean())


@pytest.mark.parametrize("n", [60, 600])
def test_bins_in_which_all_agree_have_an_interval(n):
    """It is at least as wide as Bonett and Price's interval of two paired shares that are equal."""
    world = World(empty=0)
    world.yes = np.eye(CLASSES, dtype=bool)[world.label]
    _, found = world.evaluate(n)
    rows = table(found).filter(pl.col("event") == "set")
    assert not rows["lo"].is_null().any()
    for right, lo, hi, n_audited in rows.select("right", "lo", "hi", "n_audited").iter_rows():
        least = 1.96 * np.sqrt(2 * (1 - n / N)) / (n_audited + 2)
        assert max(hi - right, right - lo) > least


def test_few_images_have_no_interval():
    _, found = World().evaluate(29)
    assert table(found).select("from", "to", "lo").rows() == [(0.0, 1.0, None)] * 2


def test_original_labels_are_judged_on_the_same_images():
    world = World()
    _, found = world.evaluate(3000)
    label, sets = (table(found).filter(pl.col("event") == event) for event in ("label", "set"))
    assert label["n"].to_list() == sets["n"].to_list()
    truth = (world.label == world.top)[world.counts].mean()
    assert label["lo"][0] < truth < label["hi"][0]
    assert label["confidence"][0] == pytest.approx(world.confidence[world.counts].mean(), abs=0.005)


def test_if_all_images_are_audited_it_is_the_table_on_their_label_sets():
    world = World()
    _, found = world.evaluate(N)
    model = Predictions(IDS, "sure", scores=world.p, score_kind="probability")
    expected = evaluate(world.labels(world.yes), model, resamples=1, metrics="top1")
    columns = ["event", "from", "to", "confidence", "right", "n"]
    plain = table(expected).select(columns)
    audited = table(found).select(columns)
    assert_frame_equal(audited, plain, abs_tol=1e-9)
    assert table(found)["n_audited"].to_list() == plain["n"].to_list()


@pytest.mark.slow
@pytest.mark.parametrize("world", [World(), World(empty=0.5), World(empty=0.6, where_right=True)])
def test_intervals_contain_the_accuracy_of_all_images(world):
    """Also if people find no valid class on many images, for which models propose what they predict."""
    held, some = np.zeros(BINS + 1), np.zeros(BINS + 1)
    at = np.searchsorted(np.arange(1, BINS) / BINS, world.confidence, side="right")
    bins = [np.ones(N, bool), *(at == b for b in range(BINS))]
    truth = [world.right(world.yes)[world.counts & b].mean() if b.any() else 0 for b in bins]
    for seed in range(200):
        _, found = world.evaluate(round(540 / world.counts.mean()), seed=seed)
        for row in (
            table(found).filter((pl.col("event") == "set") & pl.col("lo").is_not_null()).iter_rows(named=True)
        ):
            i = 0 if row["to"] - row["from"] == 1 else 1 + round(row["from"] * BINS)
            some[i] += 1
            held[i] += row["lo"] <= truth[i] <= row["hi"]
    often = some >= 100
    assert often.sum() >= 7
    assert 0.935 < (held[often] / some[often]).mean() < 0.985
    assert (held[often] / some[often]).min() > 0.9


def test_without_original_labels_there_are_label_sets_alone():
    world = World(labelled=False)
    _, found = world.evaluate(metrics="real1")
    assert set(table(found)["event"]) == {"set"}


def test_models_that_predict_some_images_are_judged_on_these():
    world, keep = World(), np.arange(0, N, 2)
    rows, found = world.evaluate(keep=keep)
    row = (
        table(found)
        .filter((pl.col("event") == "set") & (pl.col("to") - pl.col("from") == 1))
        .row(0, named=True)
    )
    among = np.intersect1d(rows, keep)
    assert row["n_audited"] == world.counts[among].sum()
    assert row["lo"] < world.right(world.yes)[keep][world.counts[keep]].mean() < row["hi"]


def test_people_who_were_not_asked_do_not_judge_confidences():
    """Only about original labels: the top class is often another one."""
    world = World(empty=0)
    drawn = draw_sample(IDS, np.full(N, 600 / N), "uniform", 3)
    rows = np.flatnonzero(np.isin(np.array(IDS), np.array(drawn.drawn)))
    sets = [[c] for c in world.label[rows]]
    people = table_of(sets, world.label[rows], ids=IDS.take(pa.array(rows)))
    asked = Labels(people, CLASSES, name="people", asked_known=True)
    model = Predictions(IDS, "sure", scores=world.p, score_kind="probability")
    single = world.labels(np.eye(CLASSES, dtype=bool)[world.label])
    found = evaluate(single, model, audited=asked, sample=drawn, resamples=1, metrics="top1")
    assert "reliability" not in found.confidence
    (note,) = [n.text for n in found.model_notes if n.kind == "confidence"]
    assert note.startswith("its confidences are not drawn: people were not asked about its top class on ")


def test_calibration_errors_of_original_labels_are_exact():
    """They need no answers; on slices by set size people decide, so that there are none."""
    world = World()
    model = Predictions(IDS, "sure", scores=world.p, score_kind="probability")
    single = world.labels(np.eye(CLASSES, dtype=bool)[world.label])
    expected = evaluate(single, model, resamples=1, metrics=("ece", "aurc")).to_polars()
    _, found = world.evaluate(metrics=("ece", "aurc"))
    rows = found.to_polars()
    assert not any("n_labels" in name for name in rows["slice"])
    value = dict(expected.filter(pl.col("slice") == "all").select("metric", "value").iter_rows())
    assert dict(rows.filter(pl.col("slice") == "all").select("metric", "value").iter_rows()) == value
    assert "estimator" not in rows.columns
    with pytest.raises(InputError, match="ece_set cannot be audited"):
        world.evaluate(metrics="ece_set")
