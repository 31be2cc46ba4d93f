"""Detection of predictions whose rows, classes or scores differ from what is declared.

Common errors are predictions in the class order of the ILSVRC devkit, folders ``0, 1, 10, …`` sorted as
strings, indices that start at 1, and rows sorted by class that are read in file order. Each reduces accuracy
to chance. `explain_order` recognises them, because undoing the error restores the accuracy. For scores of all
classes, `relate` compares their correlation with the labels to that of shuffled rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats32, Ints, Positions
from manyhot.core.sets import YES, Case, LabelSets

_SUSPICIOUS = 0.05
"""Accuracy below which orders are tried. The lowest of 67 published networks has 0.19 on ImageNetV2."""

_GAIN = 10
"""Factor by which an order must increase the accuracy, which must also be clearly above chance."""

_FEW = 100
"""Minimum number of images, because a dozen images fit some order by chance."""


def explain_order(
    top: Ints,
    label: Ints,
    *,
    n_classes: int,
    by_name: Callable[[], Positions],
    class_orders: Mapping[str, Ints],
) -> str | None:
    """Return the probable order of predictions if it differs from the declared order.

    Parameters
    ----------
    top : ndarray of int, shape (n, k)
        Predicted classes, best first. Rows are in the order of their file.
    label : ndarray of int, shape (n,)
        A correct class for the declared image of each row; negative if unknown.
    n_classes : int
        Number of classes C.
    by_name : callable
        Returns the rows sorted by image id, as an ndarray of int of shape (n,). It is called only if the
        accuracy is suspicious.
    class_orders : Mapping of str to ndarray of int, shape (C,)
        Wrong class orders that may have been used, by name. Each maps an index in this order to the class.

    Returns
    -------
    str or None
        A description that completes the sentence "the likely cause is …"; None if no order is better than the
        declared order.
    """
    labelled = label >= 0
    if np.count_nonzero(labelled) < _FEW:
        return None
    accuracy = _share(top[:, 0] == label, labelled)
    convincing = max(_SUSPICIOUS, 5 / n_classes)
    shares = [_share(column == label, labelled) for column in top.T]
    # With best first, shares fall from the first place, also for images selected for being predicted wrongly.
    if shares[-1] > max(convincing, 3 * accuracy) and shares[-1] == max(shares):
        return "classes stored worst first"
    if accuracy >= _SUSPICIOUS:
        return None
    trials = _trials(top[:, 0], label, by_name(), class_orders)
    best, order = max(((share, name) for name, share in trials), default=(0.0, ""))
    return order if best > convincing and best >= _GAIN * accuracy else None


def _trials(
    top1: Ints, label: Ints, by_name: Positions, class_orders: Mapping[str, Ints]
) -> Iterator[tuple[str, float]]:
    labelled = label >= 0
    if labelled.all():
        class_sorted = by_name[np.argsort(label[by_name], kind="stable")]
        yield (
            "rows sorted by class, read in the order of file names",
            _share(top1 == label[class_sorted], labelled),
        )
        yield (
            "rows in the order of file names, read as sorted by class",
            _share(top1 == label[by_name], labelled),
        )
    for name, meaning in class_orders.items():
        yield f"predicted classes given as {name}", _share(_mapped(meaning, top1) == label, labelled)
        yield f"labels given as {name}", _share(top1 == _mapped(meaning, label), labelled)


def _mapped(meaning: Ints, classes: Ints) -> Ints:
    inside = (classes >= 0) & (classes < len(meaning))
    return np.where(inside, meaning[np.where(inside, classes, 0)], -2)


def _share(right: Bools, rows: Bools) -> float:
    return int(np.count_nonzero(right & rows)) / max(int(np.count_nonzero(rows)), 1)


# Scores of all classes.

_SAMPLE = 2_000
"""Maximum number of images whose scores are checked: enough to distinguish a weak model from chance."""

_SHUFFLES, _ORDERS = 99, 5
_FEWEST_POSITIVES = 5
_CLEARLY = 3
"""Factor over the agreement expected by chance from which predictions are related to the labels."""


@dataclass(frozen=True)
class Relation:
    """The relation between the scores of all classes and label sets.

    Attributes
    ----------
    correlation : float
        Mean over classes of the correlation between the scores of a class and its labels (0 or 1).
    by_chance : float
        The highest mean correlation in 99 random orders of the rows.
    n_classes : int
        Number of classes over which the mean is taken: those with at least five positives.
    order : str or None
        A wrong order of classes that explains a low correlation. The text completes the sentence "the likely
        cause is …".
    """

    correlation: float
    by_chance: float
    n_classes: int
    order: str | None

    @property
    def is_chance(self) -> bool:
        """Whether the correlation is no higher than in random orders of the rows."""
        return self.correlation <= self.by_chance


def relate(case: Case, class_orders: Mapping[str, Ints]) -> Relation | None:
    """Return the relation between scores and label sets; None if there are too few images or classes.

    Parameters
    ----------
    case : Case
        With scores of all classes.
    class_orders : Mapping of str to ndarray of int, shape (C,)
        As in `explain_order`. The reverse order and the inverse of each order are tried as well.

    Notes
    -----
    This is a permutation test of independence. An order explains a low correlation if its own correlation is
    more than three times the current correlation and more than three times the highest correlation in random
    orders of the rows. It must also be more than twice as far above 0 as the current correlation is below 0:
    with one class per image, negated scores are correlated with all the other classes, in any wrong order.
    The best of all orders of the columns is also tried. Its correlation must be more than three times the
    absolute current correlation, and more than twice the highest correlation of any order of the columns
    after rows are shuffled. (Twice the current correlation is not enough: weak models that mistake the images
    of several rare classes for another class reach it, too.) If another order explains the low correlation,
    the best order must also have more than twice the correlation of that order.
    """
    sample = _sampled(case)
    if sample is None:
        return None
    sets, scores = sample
    positives = np.bincount(sets.classes[sets.state == YES], minlength=sets.n_classes)
    tested = (positives >= _FEWEST_POSITIVES) & (positives < len(sets))
    entry = (sets.state == YES) & tested[sets.classes]
    if np.count_nonzero(tested) < 3:
        return None
    standard, row, column = _standard(scores), sets.rows[entry], sets.classes[entry]
    share = positives[column] / len(sets)
    weight = np.sqrt(share / (1 - share)) / positives[column] / np.count_nonzero(tested)

    def mean(rows: Ints, columns: Ints) -> float:
        return float(standard[rows, columns] @ weight)

    rng = np.random.default_rng(0)
    by_chance = max(mean(rng.permutation(len(sets))[row], column) for _ in range(_SHUFFLES))
    own = mean(row, column)
    trials = ((mean(row, place[column]), name) for name, place in _places(sets.n_classes, class_orders))
    best, order = max(trials, default=(0.0, ""))
    explains = best > max(3 * own, 3 * by_chance, -2 * own)
    any_order = _best_order(standard, sets, np.flatnonzero(tested), rng)
    if any_order > max(2 * best if explains else 0.0, 3 * abs(own)):
        explains, order = True, "columns of scores in a different order from the classes"
    return Relation(own, by_chance, int(np.count_nonzero(tested)), order if explains else None)


def accuracy_by_chance(case: Case) -> float | None:
    """Return the share of valid top classes if top classes fit no better than in random orders of the rows.

    The mean weights of the valid classes, 1 / rank, are compared. The return value is None if the weight is
    higher than in 99 random orders of the rows, if there are scores of all classes or too few images, or if
    all images have the same classes.
    """
    labelled = _labelled(case.labels)
    if case.scores is not None or labelled is None:
        return None
    sets, top = case.labels.take(labelled), case.top[labelled]
    weight = 1 / np.arange(1, top.shape[1] + 1)

    def agreement(rows: Ints) -> float:
        return float((sets.state_of(rows) == YES).mean(0) @ weight)

    valid = np.bincount(sets.classes[sets.state == YES], minlength=sets.n_classes) / len(sets)
    if not ((valid > 0) & (valid < 1)).any():  # all orders of the rows are the same
        return None
    expected = np.where(top >= 0, valid[top], 0).mean(0) @ weight
    own, rng = agreement(top), np.random.default_rng(0)
    # Most models need no random orders.
    if own > _CLEARLY * expected or own > max(
        agreement(top[rng.permutation(len(sets))]) for _ in range(_SHUFFLES)
    ):
        return None
    return float((sets.state_of(top[:, :1]) == YES).mean())


def _best_order(standard: Floats32, sets: LabelSets, tested: Ints, rng: np.random.Generator) -> float:
    """Return the highest mean correlation of scores and labels over the orders of the columns.

    It is 0 if the best order for random rows has more than half of it.
    """
    yes = np.zeros((len(sets), sets.n_classes), np.float32)
    yes[sets.rows[sets.state == YES], sets.classes[sets.state == YES]] = 1
    label = _standard(yes[:, tested])

    def related(rows: Ints) -> Floats32:
        return np.asarray(label[rows].T @ standard / np.float32(len(label)))

    def best(table: Floats32) -> float:
        from scipy.optimize import linear_sum_assignment  # 0.2 s, which every evaluation would take

        return float(table[linear_sum_assignment(table, maximize=True)].mean())

    own = related(np.arange(len(label)))
    # Most models need no search: no order is better than the best column of each class.
    if own.max(1).mean() <= 3 * abs(own[np.arange(len(tested)), tested].mean()):
        return 0.0
    found = best(own)
    by_chance = max(best(related(rng.permutation(len(label)))) for _ in range(_ORDERS))
    return found if found > 2 * by_chance else 0.0


def constant_scores(case: Case) -> Ints:
    """Return the valid classes whose score is constant over all images, if there are at least 100 images."""
    if case.scores is None or len(case.labels) < _FEW:
        return np.zeros(0, np.intp)
    first = case.scores[0]
    candidates = np.flatnonzero((case.scores[:_FEW] == first).all(0))
    candidates = np.intersect1d(candidates, case.labels.classes[case.labels.state == YES])
    return np.asarray(candidates[(case.scores[:, candidates] == first[candidates]).all(0)])


def are_probabilities(case: Case) -> bool:
    """Return whether the scores of at least 100 images, declared as logits, are all between 0 and 1."""
    return case.scores is not None and case.kind == "logit" and like_probabilities(case.scores)


def like_probabilities(scores: AnyFloats) -> bool:
    """Return whether the scores of at least 100 images are all between 0 and 1."""
    return len(scores) >= _FEW and all(
        bool((block.min(initial=0) >= 0) & (block.max(initial=1) <= 1)) for block in (scores[:_FEW], scores)
    )


ALL_PREDICTED = (
    "every score is above 0, so with sigmoids every class is predicted on every image; if the scores are "
    "scaled cosines, such as CLIP's, pass `links` softmax, pass the cosines with `scores` cosine, or "
    "subtract a threshold"
)


NONE_PREDICTED = (
    "no score is above 0, so with sigmoids no probability exceeds 0.5; if the scores are logarithms of "
    "probabilities, pass their exponentials with `scores` probability; if the exponentials of an image add "
    "up to 1, it is enough to pass `links` softmax"
)


def one_sided_note(scores: AnyFloats | None) -> str:
    """Return a note on logits of at least 100 images that are all above 0, or none of which is.

    All or none of the sigmoids then exceed 0.5. Scores between 0 and 1 are more likely to be probabilities.
    """
    if scores is None or len(scores) < _FEW or scores.shape[1] < 2 or like_probabilities(scores):
        return ""
    blocks = scores[:_FEW], scores  # a few images are mostly enough to tell
    if all(bool(block.min(initial=np.inf) > 0) for block in blocks):
        return ALL_PREDICTED
    return NONE_PREDICTED if all(bool(block.max(initial=-np.inf) <= 0) for block in blocks) else ""


def _sampled(case: Case) -> tuple[LabelSets, Floats32] | None:
    """Return the label sets and scores of a sample of the images; None if few, or if scores are infinite."""
    labelled = _labelled(case.labels)
    if case.scores is None or labelled is None:
        return None
    scores = case.scores[labelled].astype(np.float32)
    return (case.labels.take(labelled), scores) if np.isfinite(scores).all() else None


def _labelled(labels: LabelSets) -> Ints | None:
    """Return a sample of the images with valid classes; None if there are few."""
    labelled = np.flatnonzero(labels.size > 0)
    if len(labelled) < _FEW:
        return None
    if len(labelled) > _SAMPLE:
        labelled = np.sort(np.random.default_rng(0).choice(labelled, _SAMPLE, replace=False))
    return labelled


def _standard(scores: Floats32) -> Floats32:
    """Return scores with mean 0 and standard deviation 1 for each class; those that do not vary are 0."""
    centred = scores - scores.mean(0)
    spread = centred.std(0)
    return np.asarray(centred / np.where(spread > 0, spread, np.inf), np.float32)


def _places(n_classes: int, class_orders: Mapping[str, Ints]) -> Iterator[tuple[str, Ints]]:
    """Yield wrong orders of the columns, with the column of each class."""
    yield "columns of scores in the reverse order of the classes", np.arange(n_classes)[::-1]
    for name, meaning in class_orders.items():
        yield f"columns of scores given as {name}", np.argsort(meaning)
        yield f"classes of labels given as {name}", meaning
