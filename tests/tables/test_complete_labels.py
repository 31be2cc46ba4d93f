"""A matrix of 0 and 1 whose zeros are not stored means the same as one that lists them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from manyhot import Evaluator, evaluate, registry
from manyhot.core.class_counts import class_curves
from manyhot.core.cooccurrence import CompanionImages
from manyhot.core.estimates import Pooled
from manyhot.core.label_kinds import share_together
from manyhot.core.operating_points import operating_points
from manyhot.core.proposals import states
from manyhot.core.sets import NO, NOT_ASKED, YES, Case
from manyhot.errors import InputError
from manyhot.formats import read_labels
from manyhot.tables import write_labels
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.arrays import label_sets, states_of_labels
from manyhot.tables.labels import with_zeros

N, C = 60, 7
RNG = np.random.default_rng(4)
HOT = RNG.random((N, C)) < 0.3
SCORES = RNG.dirichlet(np.ones(C), N).astype(np.float32)
IMPLICIT = as_labels(HOT)
EXPLICIT = with_zeros(IMPLICIT)


def cases():
    """Return the case of each form of the labels; some images are not usable, as after a filter of rows."""
    usable = np.arange(N) % 9 != 4
    for labels in (IMPLICIT, EXPLICIT):
        sets = replace(label_sets(labels), usable=usable)
        yield Case.from_scores(sets, SCORES, k=C, kind="probability")


def same(one, other):
    """Raise an AssertionError unless two estimates have the same value under three weights of the images."""
    for weights in (np.ones(N), RNG.integers(0, 3, N).astype(float), np.arange(N) % 2.0):
        assert one.value(weights) == pytest.approx(other.value(weights), abs=1e-12, nan_ok=True)


def test_zeros_are_stored_when_asked():
    assert (IMPLICIT.complete, IMPLICIT.asked_known) == (True, True)
    assert (EXPLICIT.complete, EXPLICIT.asked_known) == (False, True)
    sets = label_sets(EXPLICIT)
    np.testing.assert_array_equal(sets.yes_matrix(), HOT)
    assert (len(sets.state), np.count_nonzero(sets.state == NO)) == (N * C, np.count_nonzero(~HOT))
    with_unclear = as_labels(np.where(HOT, 1, -1))
    assert with_zeros(with_unclear) is with_unclear


@pytest.mark.parametrize("form", [sparse.csr_array, np.asarray, lambda m: m.astype(np.int8)])
def test_every_full_matrix_is_complete(form):
    assert as_labels(form(HOT)).complete


@pytest.mark.parametrize("form", [np.where(HOT, 1.0, np.nan), [[0], [1]]], ids=["not asked", "lists"])
def test_others_are_not(form):
    assert not as_labels(form, n_classes=C).complete


NEEDED = {"k": 3, "coverage": 0.6, "fpr": 0.2}


def specs():
    """Yield every metric, and its masked version where there is one."""
    for name in registry.names("metric"):
        options = registry.options_of(registry.get("metric", name))
        needed = [f"{option}={value}" for option, value in NEEDED.items() if option in options]
        yield f"{name}({', '.join(needed)})" if needed else name
        if "masked" in options:
            yield f"{name}({', '.join([*needed, 'masked=True'])})"


@pytest.mark.parametrize("spec", list(specs()))
def test_metrics(spec):
    metric = registry.get("metric", spec)
    same(*map(metric, cases()))


@pytest.mark.parametrize("spec", [spec for spec in specs() if "masked" in spec])
def test_masked_metrics_of_a_class_that_is_never_absent(spec):
    """Its negatives are those of the images that count under the weights, however zeros are stored."""
    hot = HOT.copy()
    hot[:, 2] = np.arange(N) != 3  # absent on an image with a weight of 0, or on none
    sets = (label_sets(labels) for labels in (as_labels(hot), with_zeros(as_labels(hot))))
    estimates = [
        registry.get("metric", spec)(Case.from_scores(s, SCORES, k=C, kind="probability")) for s in sets
    ]
    same(*estimates)
    without = np.arange(N) != 3.0
    assert estimates[0].value(without) == pytest.approx(estimates[1].value(without), abs=1e-12)
    changes = [
        e.left_out(without) for e in estimates if isinstance(e, Pooled) and e.left_out and "fpr" not in spec
    ]
    if changes:
        np.testing.assert_allclose(*changes, atol=1e-12)


def test_a_masked_metric_is_the_plain_one():
    implicit, _ = cases()
    for name in ("map_macro", "f1_micro", "hamming"):
        metric = registry.get("metric", name)
        same(metric(implicit, masked=True), metric(implicit))


@pytest.mark.parametrize("masked", [False, True])
def test_operating_points_and_curves(masked):
    one, other = (
        operating_points(case, rng=np.random.default_rng(0), masked=masked, n_folds=3) for case in cases()
    )
    for name in ("n_positives", "n_negatives", "ap", "auroc", "threshold", "n_predicted", "n_right"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    curves = [list(class_curves(case, np.arange(C), masked=masked)) for case in cases()]
    for (class_a, *a), (class_b, *b) in zip(*curves, strict=True):
        assert class_a == class_b
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x.x, y.x)
            np.testing.assert_array_equal(x.y, y.y)


def test_states_of_pairs_and_images():
    every = np.arange(N * C)
    one, other = label_sets(IMPLICIT), label_sets(EXPLICIT)
    np.testing.assert_array_equal(states(one, every), states(other, every))
    np.testing.assert_array_equal(states(one, every).reshape(N, C), np.where(HOT, YES, NO))
    classes = np.tile(np.arange(-1, C), (N, 1))
    np.testing.assert_array_equal(one.state_of(classes), other.state_of(classes))
    assert (one.state_of(classes)[:, 0] == NOT_ASKED).all()
    some = RNG.permutation(N)[:20]
    np.testing.assert_array_equal(
        one.take(some).state_of(classes[:20]), other.take(some).state_of(classes[:20])
    )
    names = [states_of_labels(labels, range(C)).state for labels in (IMPLICIT, EXPLICIT)]
    np.testing.assert_array_equal(*names)


def test_classes_that_are_valid_together():
    one, other = (share_together(case.labels) for case in cases())
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    main, companion = (m.ravel() for m in np.nonzero(~np.eye(C, dtype=bool)))
    for rest in (False, True):
        found = [CompanionImages.of(case.labels, main, companion, rest=rest) for case in cases()]
        sums = [images.sums(np.ones(len(images.rows))) for images in found]
        np.testing.assert_array_equal(*sums)


def test_files_contain_the_zeros(tmp_path):
    write_labels(IMPLICIT, tmp_path / "labels.parquet")
    again = read_labels(tmp_path / "labels.parquet")
    assert (again.complete, again.asked_known) == (False, True)
    assert again.table.drop_columns("image_id").equals(EXPLICIT.table.drop_columns("image_id"))


@pytest.mark.parametrize("size", [60, 7])
def test_batches_of_an_evaluator(size):
    metrics = ["map_macro", "map_macro(masked=True)", "f1_micro"]
    evaluator = Evaluator(metrics=metrics, n_classes=C, scores="probability", resamples=0)
    for start in range(0, N, size):
        evaluator.update(SCORES[start : start + size], HOT[start : start + size])
    again = Evaluator(metrics=metrics, n_classes=C, scores="probability", resamples=0)
    again.load_state_dict(evaluator.state_dict())
    expected = evaluate(HOT, SCORES, metrics=metrics, scores="probability", resamples=0).results
    for one in (evaluator, again):
        made = one.compute().results
        assert made["value"].to_pylist() == expected["value"].to_pylist()


def test_batches_that_do_not_agree_on_missing_classes_have_no_masked_metrics():
    evaluator = Evaluator(metrics=["map_macro(masked=True)"], n_classes=C, scores="probability")
    evaluator.update(SCORES[:30], HOT[:30])
    evaluator.update(SCORES[30:], [np.flatnonzero(row).tolist() for row in HOT[30:]])
    with pytest.raises(InputError) as error:
        evaluator.compute()
    assert str(error.value) == (
        "map_macro(masked=True) cannot be computed: the labels do not record which classes were answered "
        "no.\n  where:   model"
    )


def test_a_matrix_of_all_sizes_is_small():
    """50,000 × 1,000 zeros would take 600 MB as a table."""
    wide = as_labels(np.eye(3, 1000, dtype=bool))
    assert wide.table.nbytes < 1000
    assert pl.from_arrow(wide.table).height == 3
    assert pa.types.is_list(wide.table.schema.field("classes").type)
