"""Checks that every registered function must pass, for manyhot's tests and authors of plug-ins.

Example
-------
>>> from manyhot.testing import check_metric
>>> check_metric("real1")
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Ints, Ints32
from manyhot.core.ensembles import Ensemble, Pairs
from manyhot.core.estimates import Estimate, Pooled, Ratio, Weights
from manyhot.core.proposals import apply_rule
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, Case, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.errors import ManyhotError
from manyhot.registry import Entry, get
from manyhot.testing.losses import check_loss, check_rule, random_errors
from manyhot.testing.vote_checks import check_aggregator, random_votes

__all__ = [
    "check_aggregator",
    "check_loss",
    "check_metric",
    "check_proposer",
    "check_rule",
    "perfect_case",
    "random_case",
    "random_ensemble",
    "random_errors",
    "random_votes",
]

N_IMAGES, N_CLASSES = 80, 24


def random_case(
    rng: np.random.Generator, *, dense: bool = True, n: int = N_IMAGES, c: int = N_CLASSES
) -> Case:
    """Return a case as irregular as real data: empty label sets, unusable images, missing labels and ties.

    Parameters
    ----------
    rng : numpy.random.Generator
    dense : bool
        Whether the case has scores over all classes. If False, it has only ranks.
    n, c : int
        Images and classes.
    """
    asked = rng.random((n, c)) < 0.15
    asked[: n // 10] = False
    state = rng.choice([NO, UNCLEAR, YES], (n, c), p=[0.4, 0.1, 0.5]).astype(np.uint8)
    rows, classes = np.nonzero(asked)
    labels = LabelSets(
        c,
        np.concatenate([[0], np.cumsum(asked.sum(1))]).astype(np.int64),
        classes.astype(np.int32),
        state[rows, classes],
        np.where(rng.random(n) < 0.9, rng.integers(0, c, n), NO_LABEL).astype(np.int32),
        rng.random(n) < 0.95,
        asked_known=True,
    )
    # One decimal makes ties, and float32 holds it exactly enough for all classes alike.
    scores = (rng.normal(size=(n, c)) + labels.yes_matrix()).round(1).astype(np.float32)
    labels = replace(labels, p=rng.random(len(rows)).round(1).astype(np.float32))
    return Case.from_scores(labels, scores, kind="logit") if dense else Case(labels, top_k(scores, 5))


def perfect_case(rng: np.random.Generator, *, each_class: bool = False) -> Case:
    """Return a case in which every prediction is right: the original label, then the other valid classes.

    Parameters
    ----------
    rng : numpy.random.Generator
    each_class : bool
        Whether scores are probabilities, as from sigmoids, with 1 for all classes of the label set. If False,
        they are logits with a clear maximum at the original label.
    """
    case = random_case(rng)
    yes = case.labels.yes_matrix()
    one = np.where(yes.any(1), np.argmax(yes, 1), NO_LABEL).astype(np.int32)
    scores = yes.astype(np.float32)
    labels = replace(case.labels, label=one)
    if each_class:  # the original label is the first of its set, which comes first among equals
        return Case.from_scores(labels, scores, kind="probability")
    scores[yes.any(1), one[yes.any(1)]] += 1
    return Case.from_scores(labels, 100 * scores, kind="logit")


def check_metric(metric: str | Entry, *, seed: int = 0) -> None:
    """Check the common properties of metrics; raise an AssertionError that names a violated property.

    The order of images and the numbering of classes do not matter. A weight is equivalent to repetition, and
    a weight of 0 to removal. If the metric also returns, for its interval, how its value changes when each
    image is left out, these changes are right, at least to first order. Scaling all weights changes nothing,
    unless the metric is registered as `depends_on_n`. Inputs are not changed. If a value is undefined, it is
    NaN and its n is 0. No value is better than that of perfect predictions. These have independent scores per
    class if the metric is registered as `each_class`, and are the probabilities of the labels if it is
    registered as `votes`. A metric that is registered as `original_only` does not change with label sets. A
    metric that needs several ranks skips images with a single predicted class.

    Parameters
    ----------
    metric : str or Entry
        A registered name, a call string or an entry.
    seed : int
    """
    entry = get("metric", metric) if isinstance(metric, str) else metric
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    before = _contents(case)
    estimate = entry(case)
    assert isinstance(estimate, Ratio | Pooled), f"{entry.name} returns no estimate"
    assert all(np.array_equal(a, b) for a, b in zip(before, _contents(case), strict=True)), (
        "inputs were changed"
    )
    _check_scored(entry, case, estimate)
    _check_weights(entry, case, estimate, rng)
    _check_left_out(entry, estimate, rng)
    _check_permutations(entry, case, estimate, rng)
    _check_best(entry, estimate, rng)
    _check_undefined(entry, case, rng)
    _check_short_lists(entry, case)
    if entry.about.get("original_only"):
        _check_original_only(entry, case, estimate, rng)


def _check_scored(entry: Entry, case: Case, estimate: Estimate) -> None:
    assert estimate.scored.shape == (len(case.labels),), f"{entry.name}: `scored` is not one flag per image"
    assert estimate.scored.any(), f"{entry.name} scores no image of the trial case"
    nothing = np.zeros(len(case.labels))
    assert np.isnan(estimate.value(nothing)), f"{entry.name} is not NaN when nothing counts"
    if isinstance(estimate, Ratio):
        outside = ~estimate.scored
        assert not estimate.num[outside].any(), f"{entry.name}: the numerator counts skipped images"
        assert not estimate.den[outside].any(), f"{entry.name}: the denominator counts skipped images"
        are_numbers = np.isfinite(estimate.num) & np.isfinite(estimate.den)
        assert are_numbers.all(), (
            f"{entry.name} is NaN or infinite for image {int(np.argmin(are_numbers))}; skip images without a "
            "value with `scored`"
        )
    value = estimate.value(None)
    assert not np.isinf(value), f"{entry.name} is {value} on the trial case"
    _check_share(entry, value)


def _check_share(entry: Entry, value: float) -> None:
    is_share = entry.about.get("unit", "share") == "share"
    assert not is_share or np.isnan(value) or -1e-12 <= value <= 1 + 1e-12, (
        f"{entry.name} is {value:g}, which is not a share: register it with `unit`"
    )


def _check_weights(entry: Entry, case: Case, estimate: Estimate, rng: np.random.Generator) -> None:
    n = len(case.labels)
    weights = rng.integers(0, 4, n)
    repeated = entry(_take(case, np.repeat(np.arange(n), weights))).value(None)
    _same(estimate.value(weights), repeated, f"{entry.name}: weights are not repetition")
    if not entry.about.get("depends_on_n"):
        _same(estimate.value(weights * 2.5), repeated, f"{entry.name}: scaling weights changes the value")
    kept = rng.random(n) < 0.7
    _same(
        estimate.value(kept),
        entry(_take(case, np.flatnonzero(kept))).value(None),
        f"{entry.name}: zero weights are not removal",
    )
    _same(estimate.value(estimate.scored), estimate.value(None), f"{entry.name}: skipped images count")


def _check_left_out(entry: Entry, estimate: Estimate, rng: np.random.Generator) -> None:
    if not isinstance(estimate, Pooled) or estimate.left_out is None:
        return
    n = len(estimate.scored)
    inside = rng.random(n) < 0.8
    counts = np.flatnonzero(inside & estimate.scored)
    value = estimate.value(inside)
    changes = np.array([estimate.value(inside & (np.arange(n) != i)) - value for i in counts])
    found = estimate.left_out(inside)[counts]
    defined = ~np.isnan(changes)
    error = np.linalg.norm((found - changes)[defined])
    same = np.array_equal(defined, ~np.isnan(found))
    wrong = f"{entry.name}: `left_out` differs from the change when an image is left out"
    assert same, wrong
    assert estimate.is_smoothed or error <= 0.2 * np.linalg.norm(changes[defined]) + 1e-9, wrong


def _check_permutations(entry: Entry, case: Case, estimate: Estimate, rng: np.random.Generator) -> None:
    images = rng.permutation(len(case.labels))
    _same(
        entry(_take(case, images)).value(None),
        estimate.value(None),
        f"{entry.name}: the order of images matters",
    )
    # Ties go to the lower class, so renumbering is checked on ranks that hold none.
    untied = _without_ties(case)
    renumbered = _renumber(untied, rng.permutation(case.labels.n_classes))
    _same(
        entry(renumbered).value(None),
        entry(untied).value(None),
        f"{entry.name}: the numbering of classes matters",
    )


def _check_best(entry: Entry, estimate: Estimate, rng: np.random.Generator) -> None:
    votes, each_class = entry.about.get("votes", False), entry.about.get("each_class", False)
    perfect = voted_case(rng) if votes else perfect_case(rng, each_class=each_class)
    best, value = entry(perfect).value(None), estimate.value(None)
    if np.isnan(best):
        return  # A share of misses: with perfect predictions there is none.
    _check_share(entry, best)
    higher = entry.about["better"] == "higher"
    assert value <= best + 1e-12 if higher else value >= best - 1e-12, (
        f"{entry.name}: {value} is better than perfect, {best}"
    )


def _check_undefined(entry: Entry, case: Case, rng: np.random.Generator) -> None:
    ranks = entry(random_case(rng, dense=False))
    if entry.about.get("needs"):
        assert not ranks.scored.any(), f"{entry.name} scores images without the scores it needs"
        assert np.isnan(ranks.value(None)), f"{entry.name} is not NaN for rank-only predictions"
    source = case.labels
    empty = LabelSets(
        source.n_classes,
        np.zeros(len(source) + 1, np.int64),
        np.empty(0, np.int32),
        np.empty(0, np.uint8),
        np.full(len(source), NO_LABEL, np.int32),
        source.usable,
        source.asked_known,
    )
    assert case.scores is not None
    value = entry(Case.from_scores(empty, case.scores, kind=case.kind)).value(None)
    assert np.isnan(value) or entry.about.get("needs") == "scores", (
        f"{entry.name} has a value without any label"
    )


def _check_short_lists(entry: Entry, case: Case) -> None:
    """Check that a metric skips images with too few predicted classes."""
    try:
        estimate = entry(Case(case.labels, case.top[:, :1]))
    except ManyhotError:
        return  # it says what it needs
    except Exception as error:
        raise AssertionError(
            f"{entry.name} fails if a model predicts one class per image: {type(error).__name__}: {error}"
        ) from error
    assert estimate.scored.shape == (len(case.labels),), f"{entry.name}: `scored` is not one flag per image"


def _check_original_only(entry: Entry, case: Case, estimate: Estimate, rng: np.random.Generator) -> None:
    """Check that a metric does not change if images have other label sets."""
    label, usable = case.labels.label, case.labels.usable
    others = replace(random_case(rng).labels, label=label, usable=usable)
    _same(
        entry(case.with_labels(others)).value(None),
        estimate.value(None),
        f"{entry.name} depends on label sets",
    )


def voted_case(rng: np.random.Generator) -> Case:
    """Return a case in which the predicted probabilities are those of the labels."""
    labels = random_case(rng).labels
    scores = np.zeros((len(labels), labels.n_classes), np.float32)
    scores[labels.rows, labels.classes] = labels.p
    return Case.from_scores(labels, scores, kind="probability")


def _take(case: Case, images: Ints) -> Case:
    scores, listed = (None if a is None else a[images] for a in (case.scores, case.listed))
    return Case(case.labels.take(images), case.top[images], scores, case.kind, listed)


def _without_ties(case: Case) -> Case:
    n, c = len(case.labels), case.labels.n_classes
    assert case.scores is not None
    scores = (
        case.scores + np.linspace(0, 0.05, c, endpoint=False, dtype=np.float32) + np.zeros((n, 1), np.float32)
    )
    return Case.from_scores(case.labels, scores, kind=case.kind)


def _renumber(case: Case, new: Ints) -> Case:
    labels = case.labels
    label = np.where(labels.label == NO_LABEL, NO_LABEL, new[np.maximum(labels.label, 0)])
    assert case.scores is not None
    scores = np.empty_like(case.scores)
    scores[:, new] = case.scores
    renamed = replace(labels, classes=new[labels.classes].astype(np.int32), label=label.astype(np.int32))
    return Case.from_scores(renamed, scores, kind=case.kind)


def _contents(case: Case) -> list[npt.NDArray[np.generic]]:
    labels = case.labels
    sets = (labels.indptr, labels.classes, labels.state, labels.label, labels.usable, labels.p)
    arrays: Iterable[Weights | None] = (*sets, case.top, case.scores, case.listed)
    return [np.array(a) for a in arrays if a is not None]


def _same(value: float, expected: float, breach: str) -> None:
    if np.isclose(value, expected, rtol=1e-9, atol=1e-12, equal_nan=True):
        return
    text = f"{breach}: {value} is not {expected}"
    if np.isclose(value, expected, rtol=1e-5, atol=1e-7):
        text += ", which may be rounding: sum in float64, as in values.sum(axis=1, dtype=np.float64)"
    raise AssertionError(text)


def random_ensemble(
    rng: np.random.Generator, *, n: int = N_IMAGES, c: int = N_CLASSES, k: int = 8
) -> Ensemble:
    """Return four models that are mostly right, with known label sets for a third of the images.

    Some images have no original label, some label sets are empty, and two models list one class fewer per
    image.

    Parameters
    ----------
    rng : numpy.random.Generator
    n, c, k : int
        Number of images, of classes, and of classes that the other two models list per image.
    """
    yes = rng.random((n, c)) < 0.08
    first = np.where(yes.any(1), yes.argmax(1), rng.integers(0, c, n))
    label = np.where(rng.random(n) < 0.9, first, NO_LABEL).astype(np.int32)
    usable = np.arange(n) % 3 == 0
    known = LabelSets.from_lists([np.flatnonzero(row) for row in yes], c, label=label, usable=usable)
    names = ("a", "b", "c", "d")
    tops, scores, probabilities = [], [], []
    for m in range(len(names)):
        logits = rng.normal(size=(n, c)) * (1 + m / 4) + 3 * yes
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        top = top_k(logits.astype(np.float32), k - m % 2)
        tops.append(top)
        scores.append(np.take_along_axis(logits, top, 1).astype(np.float32))
        probabilities.append(np.take_along_axis(p, top, 1).astype(np.float32))
    return Ensemble(c, names, tuple(tops), tuple(scores), tuple(probabilities), label, known)


def check_proposer(proposer: str | Entry, *, seed: int = 0) -> None:
    """Check the common properties of proposers; raise an AssertionError that names a violated property.

    Pairs are distinct, in order, in range, and the same in each call. The original label is always among
    them. The order of images and models and the numbering of classes do not matter. Inputs are not changed.
    If the rule is registered as `monotone`, adding a model removes no proposal.

    Parameters
    ----------
    proposer : str or Entry
        A registered name, a call string or an entry. The models of the trial are a, b, c and d.
    seed : int
    """
    entry = get("proposer", proposer) if isinstance(proposer, str) else proposer
    entry = replace(entry, is_checked=False)
    rng = np.random.default_rng(seed)
    ensemble = random_ensemble(rng)
    before = _arrays_of(ensemble)
    pairs = entry(ensemble)
    assert isinstance(pairs, Pairs), f"{entry.name} returns no pairs"
    assert all(np.array_equal(a, b) for a, b in zip(before, _arrays_of(ensemble), strict=True)), (
        "inputs were changed"
    )
    _check_pairs(entry, ensemble, pairs)
    _check_label(entry, ensemble)
    _check_orders(entry, ensemble, pairs, rng)
    if entry.about.get("monotone"):
        fewer = entry(ensemble.only([0, 1, 2])).keys(ensemble.n_classes)
        assert np.isin(fewer, pairs.keys(ensemble.n_classes)).all(), (
            f"{entry.name}: adding a model removes proposals"
        )


def _check_pairs(entry: Entry, ensemble: Ensemble, pairs: Pairs) -> None:
    keys = pairs.keys(ensemble.n_classes)
    assert (np.diff(keys) > 0).all(), f"{entry.name}: pairs are not distinct and sorted by image and class"
    assert ((pairs.class_id >= 0) & (pairs.class_id < ensemble.n_classes)).all(), (
        f"{entry.name}: no such class"
    )
    assert ((pairs.image >= 0) & (pairs.image < len(ensemble))).all(), f"{entry.name}: no such image"
    assert np.isfinite(pairs.score).all(), f"{entry.name}: a score is not finite"
    assert (pairs.n_models >= 0).all(), f"{entry.name}: fewer than no models"
    assert (pairs.n_models <= len(ensemble.names)).all(), f"{entry.name}: more models than there are"
    again = entry(ensemble)
    assert np.array_equal(again.keys(ensemble.n_classes), keys), f"{entry.name} differs between calls"
    assert np.array_equal(again.score, pairs.score), f"{entry.name}: scores differ between calls"


def _check_label(entry: Entry, ensemble: Ensemble) -> None:
    proposed = apply_rule(ensemble, entry)
    asked = np.flatnonzero(~proposed.left_out & (ensemble.label != NO_LABEL))
    wanted = asked * ensemble.n_classes + ensemble.label[asked]
    keys = proposed.pairs.keys(ensemble.n_classes)
    assert np.isin(wanted, keys).all(), f"{entry.name}: an original label is not asked about"
    assert not proposed.left_out[proposed.pairs.image].any(), f"{entry.name}: asks about what it leaves out"


def _check_orders(entry: Entry, ensemble: Ensemble, pairs: Pairs, rng: np.random.Generator) -> None:
    images, models = rng.permutation(len(ensemble)), rng.permutation(len(ensemble.names))
    moved = entry(ensemble.take(images))
    moved = replace(moved, image=images[moved.image])
    _same_pairs(pairs, moved, ensemble.n_classes, f"{entry.name}: the order of images matters")
    moved = entry(ensemble.only(models.tolist()))
    _same_pairs(pairs, moved, ensemble.n_classes, f"{entry.name}: the order of models matters")
    new = rng.permutation(ensemble.n_classes)
    moved = entry(_renumbered(ensemble, new))
    moved = replace(moved, class_id=np.argsort(new)[moved.class_id].astype(np.int32))
    _same_pairs(pairs, moved, ensemble.n_classes, f"{entry.name}: the numbering of classes matters")


def _same_pairs(pairs: Pairs, moved: Pairs, n_classes: int, breach: str) -> None:
    order = np.argsort(moved.keys(n_classes))
    assert np.array_equal(moved.keys(n_classes)[order], pairs.keys(n_classes)), breach
    assert np.allclose(moved.score[order], pairs.score, rtol=1e-6, atol=1e-9), f"{breach}, for scores"
    assert np.array_equal(moved.n_models[order], pairs.n_models), f"{breach}, for n_models"


def _renumbered(ensemble: Ensemble, new: Ints) -> Ensemble:
    known = ensemble.label_sets
    assert known is not None

    def moved(classes: Ints) -> Ints32:
        return np.where(classes == NO_LABEL, NO_LABEL, new[np.maximum(classes, 0)]).astype(np.int32)

    sets = replace(known, classes=moved(known.classes), label=moved(known.label))
    return replace(
        ensemble, top=tuple(map(moved, ensemble.top)), label=moved(ensemble.label), label_sets=sets
    )


def _arrays_of(ensemble: Ensemble) -> list[npt.NDArray[np.generic]]:
    known = ensemble.label_sets
    assert known is not None
    arrays = (*ensemble.top, *ensemble.scores, *ensemble.probabilities, ensemble.label)
    sets = (known.indptr, known.classes, known.state, known.label, known.usable)
    return [np.array(a) for a in (*arrays, *sets) if a is not None]
