"""Operating points: a threshold for each class, chosen by cross-fitting; or the top class of each image.

Models whose probabilities add up to 1 for each image predict one class, the top class. With independent
classes, a class is predicted on an image if its score is at least the threshold of the class. Evaluating a
threshold on the images on which it was chosen flatters the model, most of all for rare classes. Images are
therefore split into folds, the threshold of each fold is chosen on the other folds, and the counts of all
folds are added up.

Positives and negatives are those of `manyhot.core.class_counts`. The errors of independent classes are the
pairs of an image and a class that is predicted wrongly or missed at the threshold of the image's fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Ints64, Positions
from manyhot.core.class_counts import FPR_ROUNDING, ClassCounts, counts_by_class
from manyhot.core.clusters import Clusters
from manyhot.core.ranked_positives import ROWS, AnsweredCells, answered_cells, class_columns, scores_of
from manyhot.core.score_threshold import adds_up_to_one, least_of, least_score
from manyhot.core.sets import NOT_ASKED, Case, LabelSets
from manyhot.core.share_intervals import clustered_effect, wilson_interval
from manyhot.errors import InputError
from manyhot.parameters import check_count, check_one_of, check_share

Goal = Literal["f1", "f2", "precision", "recall", "fpr", "top"]
GOALS: tuple[Goal, ...] = get_args(Goal)
"""What a threshold is chosen for: the largest F1 or F2, at least a precision or a recall, or at most a false
positive rate; or ``top``: no threshold, the top class is predicted."""

_RECALL_WEIGHTS = {"f1": 1, "f2": 4}
"""The square of beta in F-beta."""

_NAMES = {"fpr": "false positive rate"}

FOLDS = 5

REASONS = ("no positives", "no negatives", "too few positives", "not reached", "no threshold")
"""Why values of a class are undefined. Without positives, all values are undefined. Without negatives, the
area under the ROC curve is; with a mask, so are average precision, precision, F1 and thresholds, except those
for a recall, because any threshold has a precision of 1. Choosing a threshold requires at least as many
positives as folds, and no fold may contain all of them. A required precision may be above that of any
threshold, and an allowed false positive rate below that of the highest score. Thresholds that were chosen on
other images may lack a class.
"""

EFFECT_RESAMPLES = 50
"""Number of resamples for estimating how much the choice of thresholds adds to the variance."""


@dataclass(frozen=True)
class OperatingPoints:
    """Operating points of C classes on n images, with K folds.

    Attributes
    ----------
    n_positives, n_negatives : ndarray of int64, shape (C,)
    ap, auroc : ndarray of float64, shape (C,)
        Average precision, and area under the ROC curve.
    threshold : ndarray of float64, shape (C,)
        The threshold chosen on all images, on the scale of the scores; NaN if undefined.
    fold : ndarray of int64, shape (n,)
        The fold of each image; -1 for unusable images.
    fold_threshold : ndarray of float64, shape (K, C)
        The threshold of each fold, chosen on the other folds. If it is NaN, nothing is predicted in the fold.
    n_predicted, n_right : ndarray of int64, shape (C,)
        Number of cells at or above the threshold of their fold, and number of positives among them.
    effect : ndarray of float64, shape (3, C)
        The design effects of precision, recall and F* (see `f1`): their variance, divided by the variance of
        a share of independent images under fixed thresholds; at least 1.
    reason : ndarray of int64, shape (C,)
        The reason why values are undefined, as a position in `REASONS`; -1 if all are defined.
    masked : bool
        Whether cells are left out.
    needs_negatives : bool
        Whether precision is undefined for classes without negatives, that is, whether a mask was requested.
    goal : str, optional
        One of `GOALS`; None if the case had thresholds.
    top : ndarray of int, shape (n,), optional
        The top class of each image if top classes are the predictions, in which case there are no thresholds.
    """

    n_positives: Ints64
    n_negatives: Ints64
    ap: Floats
    auroc: Floats
    threshold: Floats
    fold: Ints64
    fold_threshold: Floats
    n_predicted: Ints64
    n_right: Ints64
    effect: Floats
    reason: Ints64
    masked: bool
    needs_negatives: bool = False
    goal: Goal | None = "f1"
    top: Ints | None = None

    @cached_property
    def is_fitted(self) -> Bools:
        """Whether each class has a threshold, shape (C,); all are true if the top class is predicted."""
        return ~np.isnan(self.threshold) | (self.top is not None)

    @cached_property
    def fitted(self) -> Positions:
        """The classes that can be predicted, ascending."""
        return np.flatnonzero(self.is_fitted)

    def predicts(self, scores: AnyFloats, image: Ints | slice, classes: Ints | int) -> Bools:
        """Return whether classes with these scores are predicted on the images."""
        if self.top is not None:
            return np.asarray(self.top[image] == classes)
        with np.errstate(invalid="ignore"):  # without a threshold, nothing is predicted in a fold
            return np.asarray(scores >= self.fold_threshold[self.fold[image], classes])

    @cached_property
    def is_certain(self) -> Bools:
        """Whether each class needs negatives but has only positives, shape (C,)."""
        return np.asarray((self.n_negatives == 0) & (self.n_positives > 0) & self.needs_negatives)

    def precision(self) -> tuple[Floats, Floats, Floats]:
        """Return the share of predicted cells that are positives, with its interval; see `f1`."""
        return self._share(np.where(self.is_certain, 0, self.n_predicted), self.effect[0])

    def recall(self) -> tuple[Floats, Floats, Floats]:
        """Return the share of positives that are predicted, with its interval; see `f1`."""
        return self._share(self.n_positives, self.effect[1])

    def f1(self) -> tuple[Floats, Floats, Floats]:
        """Return F1, 2 TP / (2 TP + FP + FN), with its interval.

        The interval is derived from F*, TP / (TP + FP + FN): among the cells that are positive or predicted,
        the share that is both. F* is a proportion, so it has a Wilson interval. F1 equals 2 F* / (1 + F*),
        which increases with F*, so the ends of the Wilson interval are transformed accordingly. It is
        for new images at the thresholds of the folds, from which that of all images differs a little.

        The images of one fold determine the thresholds of the other folds, so shares vary more than under
        fixed thresholds. As in surveys with correlated answers, counts are divided by the design effect,
        which is estimated from resamples of the images of each fold, each with its own thresholds. With 50
        images, including 15 positives, intervals without the design effect contain the recall in 92 % of
        simulated data sets.

        References
        ----------
        Hand, Christen and Kirielle 2021, F*: an interpretable transformation of the F-measure,
        doi 10.1007/s10994-021-05964-1. Bates, Hastie and Tibshirani 2024, Cross-validation: what does it
        estimate and how well does it do it?, doi 10.1080/01621459.2023.2197686.
        """
        either = self.n_positives + self.n_predicted - self.n_right
        value, lo, hi = self._share(np.where(self.is_certain, 0, either), self.effect[2])
        return 2 * value / (1 + value), 2 * lo / (1 + lo), 2 * hi / (1 + hi)

    def _share(self, n: Ints64, effect: Floats) -> tuple[Floats, Floats, Floats]:
        n = np.where(self.is_fitted, n, 0)
        with np.errstate(invalid="ignore"):
            return (self.n_right / np.where(n, n, np.nan), *wilson_interval(self.n_right, n, effect))


def operating_points(
    case: Case,
    *,
    goal: Goal | None = None,
    at: float | None = None,
    n_folds: int = FOLDS,
    rng: np.random.Generator,
    masked: bool = False,
    clusters: Clusters | None = None,
) -> OperatingPoints | None:
    """Choose a threshold for each class by cross-fitting, and count the predictions at these thresholds.

    If the case already has thresholds of classes, chosen on other images, they are used on all images.

    Parameters
    ----------
    goal : str
        The criterion for the threshold. ``f1``: the highest threshold with the largest F1. ``f2``: the same
        for F2, in which recall is twice as important as precision. ``precision``: the highest threshold with
        the largest recall at a precision of at least `at`. ``recall``: the highest threshold with at least
        the recall `at`. ``fpr``: the lowest threshold with at most the false positive rate `at`, and
        therefore the highest recall. ``top``: the top class is predicted. By default, ``top`` if the
        probabilities of an image add up to 1, and ``f1`` otherwise.
    at : float, optional
        The precision, recall or false positive rate, above 0 and up to 1.
    n_folds : int
        Number of folds, at least 2. The folds are of equal size and the same for all classes.
    rng : numpy.random.Generator
        Draws the folds.
    masked : bool
        Whether to ignore unclear cells and cells that no rater was asked about.
    clusters : Clusters, optional
        Clusters of images. All images of a cluster are in the same fold. Design effects are then multiplied
        by the design effects of the clusters, at the thresholds of the folds.

    Returns
    -------
    OperatingPoints or None
        None if there are no dense scores, or if `masked` is set and the label sets do not record *no*
        answers.

    Raises
    ------
    InputError
        If an option is out of range, if the scores do not fit the label sets, or if a score is NaN.
    """
    check_goal(goal, at)
    check_count(n_folds, "There are too few folds.", least=2, allowed="2 and up")
    labels = case.labels
    if case.scores is None or (masked and not labels.asked_known):
        return None
    needs_negatives, masked = masked, labels.leaves_out_cells(masked)
    if case.thresholds is not None:
        n_folds = 1
    points = _empty(labels, _draw_folds(labels.usable, n_folds, rng, clusters), n_folds, masked)
    answered = answered_cells(case)
    points.n_positives[:] = np.bincount(answered.classes[answered.yes], minlength=labels.n_classes)
    cells = np.bincount(answered.classes, minlength=labels.n_classes) if masked else labels.usable.sum()
    points.n_negatives[:] = cells - points.n_positives
    points.reason[:] = np.select([points.n_positives == 0, points.n_negatives == 0], [0, 1], -1)
    goal = goal or ("top" if case.thresholds is None and adds_up_to_one(case) else "f1")
    points = replace(points, goal=goal if case.thresholds is None else None, needs_negatives=needs_negatives)
    if goal == "top":
        points = _by_top(points, case, answered)
    seed = int(rng.integers(2**63))
    fpr = at if goal == "fpr" and case.thresholds is None else None
    for class_id, counts in counts_by_class(case, answered, points.fold, n_folds, masked, fpr):
        n_positives, n_negatives = points.n_positives[class_id], points.n_negatives[class_id]
        if not points.is_certain[class_id]:
            points.ap[class_id] = counts.average_precision() / n_positives
        if n_negatives:
            points.auroc[class_id] = 1 - counts.lost_pairs() / (n_positives * n_negatives)
        if goal == "top" or case.thresholds is not None or (points.is_certain[class_id] and goal != "recall"):
            continue
        own = np.random.default_rng([seed, class_id])
        _fit(points, class_id, counts, goal, 1.0 if at is None else at, own)
    if case.thresholds is not None:
        _apply(points, case, answered)
    if clusters is not None:
        _add_cluster_effects(points, case, answered, clusters)
    return points


def _add_cluster_effects(
    points: OperatingPoints, case: Case, answered: AnsweredCells, clusters: Clusters
) -> None:
    """Multiply design effects by those of clusters, whose images are right or wrong together."""
    n = len(case.labels)
    for part, column in class_columns(case, points.fitted):
        class_id = points.fitted[part.start]
        own = answered[answered.classes == class_id]
        valid, counts = np.zeros(n, bool), case.labels.usable
        valid[own.image[own.yes]] = True
        if points.masked:
            counts = np.zeros(n, bool)
            counts[own.image] = True
        predicted = points.predicts(column, slice(None), class_id) & counts
        sides = (predicted & valid, predicted, valid, predicted | valid)
        right, *of = (clusters.sizes(flags) for flags in sides)
        effect = clustered_effect(right[:, None], np.stack(of, axis=1), lambda values: values.sum(axis=0))
        points.effect[:, class_id] *= effect  # NaN if all is in one cluster, which says nothing of others


def _by_top(points: OperatingPoints, case: Case, answered: AnsweredCells) -> OperatingPoints:
    """Return the points of a model that predicts the top class, with what it predicts."""
    top, n_classes = case.top[:, 0], case.labels.n_classes
    hit = answered[top[answered.image] == answered.classes]
    points.n_right[:] = np.bincount(hit.classes[hit.yes], minlength=n_classes)
    predicted = hit.classes if points.masked else top[case.labels.usable & (top >= 0)]
    points.n_predicted[:] = np.bincount(predicted, minlength=n_classes)
    return replace(points, top=top)


def _apply(points: OperatingPoints, case: Case, answered: AnsweredCells) -> None:
    """Count what the thresholds of a case predict, rounded like the scores."""
    scores, n_classes = scores_of(case), case.labels.n_classes
    least = least_score(case, 0.5)
    assert least is not None
    points.threshold[:] = points.fold_threshold[:] = least[0]
    points.reason[np.isnan(points.threshold) & (points.reason < 0)] = REASONS.index("no threshold")
    reached = answered[answered.score >= least_of(least, answered.image, answered.classes)]
    points.n_right[:] = np.bincount(reached.classes[reached.yes], minlength=n_classes)
    if points.masked:
        points.n_predicted[:] = np.bincount(reached.classes, minlength=n_classes)
        return
    for start in range(0, len(scores), ROWS):
        rows = slice(start, start + ROWS)
        points.n_predicted[:] += (scores[rows] >= least)[case.labels.usable[rows]].sum(axis=0)


def unanswered_predictions(case: Case, threshold: Floats) -> tuple[int, int, float]:
    """Return the numbers of predictions and of those without an answer, and whether answers depend on scores.

    The last value is the test statistic of Mantel and Haenszel over a table of 2 x 2 for each class: answered
    pairs by predicted pairs. It is standard normal if answers were recorded independently of the scores of
    each class, and positive if pairs with an answer are predicted more often.

    Parameters
    ----------
    threshold : ndarray of float64, shape (C,)
        A class with the threshold NaN is not predicted.

    References
    ----------
    N. Mantel, W. Haenszel. Statistical aspects of the analysis of data from retrospective studies of disease.
    Journal of the National Cancer Institute 22(4), 1959.
    """
    sets, scores = case.labels, scores_of(case)
    n, predicted = int(np.count_nonzero(sets.usable)), np.zeros(sets.n_classes)
    for start in range(0, len(scores), ROWS):
        rows = slice(start, start + ROWS)
        predicted += (scores[rows] >= threshold)[sets.usable[rows]].sum(axis=0)
    is_answer = sets.usable[sets.rows] & (sets.state != NOT_ASKED)
    image, classes = sets.rows[is_answer], sets.classes[is_answer]
    answered = np.bincount(classes, minlength=sets.n_classes)
    both = np.bincount(classes, scores[image, classes] >= threshold[classes], minlength=sets.n_classes)
    expected = answered * predicted / max(n, 1)
    variance = (expected * (n - answered) * (n - predicted)).sum() / max(n * (n - 1), 1)
    z = (both - expected).sum() / np.sqrt(variance) if variance > 0 else 0.0
    return int(predicted.sum()), int((predicted - both).sum()), float(z)


def check_goal(goal: str | None, at: float | None) -> None:
    """Raise an error if the goal is unknown, or if its `at` is missing, superfluous or not a share."""
    if goal is not None:
        check_one_of(goal, GOALS, "There is no such goal of a threshold.")
    if goal in (None, "f1", "f2", "top"):
        if at is not None:
            raise InputError(
                f"The goal {goal or 'f1'} has no minimum precision or recall.",
                got=f"{at:g}",
                do="leave out `at`, or set `goal` to precision, recall or fpr",
            )
    elif at is None:
        raise InputError(
            f"The {_NAMES.get(goal, goal)} that a threshold must reach is missing.",
            allowed="above 0, up to 1",
            do=f"pass `at`, such as {0.01 if goal == 'fpr' else 0.9}",
        )
    else:
        check_share(at, f"The {_NAMES.get(goal, goal)} to reach is not a share.")


def _draw_folds(usable: Bools, n_folds: int, rng: np.random.Generator, clusters: Clusters | None) -> Ints64:
    fold = np.full(len(usable), -1, np.int64)
    if clusters is None:
        fold[usable] = rng.permutation(np.count_nonzero(usable)) % n_folds
    else:
        fold[usable] = (rng.permutation(clusters.n) % n_folds)[clusters.number[usable]]
    return fold


def _empty(labels: LabelSets, fold: Ints64, n_folds: int, masked: bool) -> OperatingPoints:
    def counts() -> Ints64:
        return np.zeros(labels.n_classes, np.int64)

    def values() -> Floats:
        return np.full(labels.n_classes, np.nan)

    return OperatingPoints(
        n_positives=counts(),
        n_negatives=counts(),
        ap=values(),
        auroc=values(),
        threshold=values(),
        fold=fold,
        fold_threshold=np.full((n_folds, labels.n_classes), np.nan),
        n_predicted=counts(),
        n_right=counts(),
        effect=np.ones((3, labels.n_classes)),
        reason=counts() - 1,
        masked=masked,
    )


def _fit(
    points: OperatingPoints,
    class_id: int,
    counts: ClassCounts,
    goal: Goal,
    at: float,
    rng: np.random.Generator,
) -> None:
    """Choose the thresholds of a class, and add up what they predict in the folds they were not chosen on."""
    hits, depth, negatives = counts.hits, counts.depth, counts.negatives
    if points.n_positives[class_id] < len(hits) or not (hits.sum(axis=0) - hits)[:, -1].all():
        points.reason[class_id] = REASONS.index("too few positives")
        return
    every = [n.sum(axis=0, keepdims=True) for n in (hits, depth, negatives)]
    lowest = counts.lowest
    chosen = _choose(every[0], every[1], every[2], goal, at)[0] if lowest is None else lowest[-1]
    if chosen < 0:
        points.reason[class_id] = REASONS.index("not reached")
        return
    of_folds = None if lowest is None else lowest[None, :-1]
    (place,), right, predicted = _cross_fit(hits[None], depth[None], negatives[None], goal, at, of_folds)
    fold = np.flatnonzero(place >= 0)
    points.threshold[class_id] = counts.score[chosen]
    points.fold_threshold[fold, class_id] = counts.score[place[fold]]
    points.n_right[class_id], points.n_predicted[class_id] = right[0], predicted[0]
    points.effect[:, class_id] = _design_effects(counts, right, predicted, goal, at, rng)


def _cross_fit(
    hits: Ints, depth: Ints, negatives: Ints, goal: Goal, at: float, place: Ints | None = None
) -> tuple[Ints, Ints64, Ints64]:
    """Choose the threshold of each fold on the other folds, and add up what they predict.

    Parameters
    ----------
    hits, depth : ndarray of int, shape (R, K, J)
        As in `ClassCounts`, for R resamples.
    negatives : ndarray of int, shape (R, K)
    place : ndarray of int, shape (R, K), optional
        The thresholds, if they are known.

    Returns
    -------
    place : ndarray of int, shape (R, K)
        The place of each fold's threshold; -1 for none.
    right, predicted : ndarray of int64, shape (R,)
    """
    if place is None:
        rest_hits, rest_depth = (
            (n.sum(axis=1, keepdims=True) - n).reshape(-1, n.shape[2]) for n in (hits, depth)
        )
        rest_negatives = (negatives.sum(axis=1, keepdims=True) - negatives).ravel()
        place = _choose(rest_hits, rest_depth, rest_negatives, goal, at).reshape(hits.shape[:2])
    at_place = (np.take_along_axis(n, np.maximum(place, 0)[..., None], 2)[..., 0] for n in (hits, depth))
    right, predicted = (np.where(place >= 0, n, 0).sum(axis=1) for n in at_place)
    return place, right, predicted


def _design_effects(
    counts: ClassCounts, right: Ints, predicted: Ints, goal: Goal, at: float, rng: np.random.Generator
) -> Floats:
    """Return the design effects of precision, recall and F*, shape (3,).

    A resample draws how many positives and how many negatives have each score from Poisson distributions,
    separately in each fold, so that no image is in two folds. What varies is the difference of its shares
    from those of the images it is drawn from, at its thresholds.
    """
    at_score = (np.diff(n, axis=1, prepend=0) for n in (counts.hits, counts.depth - counts.hits))
    hits, wrong = (rng.poisson(n, (EFFECT_RESAMPLES, *n.shape)).cumsum(axis=2) for n in at_score)
    below = rng.poisson(counts.cells - counts.depth[:, -1], hits.shape[:2])
    positives, negatives = hits[..., -1].sum(axis=1), wrong[..., -1] + below
    # Without positives in the other folds, there is no threshold.
    some = (positives[:, None] > hits[..., -1]).all(axis=1)
    place, n_right, n_predicted = _cross_fit(hits[some], (hits + wrong)[some], negatives[some], goal, at)
    actual_right, actual_predicted = (
        np.where(place >= 0, n.sum(axis=0)[place], 0).sum(axis=1) for n in (counts.hits, counts.depth)
    )
    share, n = _shares(right, predicted, counts.hits[:, -1].sum())
    drawn, _ = _shares(n_right, n_predicted, positives[some])
    actual, _ = _shares(actual_right, actual_predicted, len(counts.hits) * counts.hits[:, -1].sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = (drawn - actual).var(axis=1, ddof=1) / (share * (1 - share) / n)[:, 0]
    return np.where(np.isfinite(effect), np.maximum(effect, 1), 1)


def _shares(right: Ints, predicted: Ints, positives: Ints) -> tuple[Floats, Floats]:
    """Return precision, recall and F*, and their denominators, both of shape (3, R)."""
    n = np.stack([predicted, np.broadcast_to(positives, right.shape), positives + predicted - right])
    return right / np.maximum(n, 1), n


def _choose(hits: Ints, depth: Ints, negatives: Ints, goal: Goal, at: float) -> Positions:
    """Return the place of the threshold that each row chooses, shape (rows,); -1 if none reaches the goal."""
    # Not the scores of other rows' positives: a threshold must not depend on the images it is evaluated on.
    own = np.diff(hits, axis=1, prepend=0) > 0
    n_positives = hits[:, -1:]
    if goal in _RECALL_WEIGHTS:
        whole = depth + _RECALL_WEIGHTS[goal] * n_positives
        best: Positions = np.argmax(np.where(own, hits / whole, -1), axis=1)
        return best
    if goal == "fpr":
        reached = depth - hits <= at * negatives[:, None] * (1 + FPR_ROUNDING)
    else:
        with np.errstate(invalid="ignore"):
            reached = own & (hits / (depth if goal == "precision" else n_positives) >= at)
    last = reached.shape[1] - 1
    place = np.argmax(reached, axis=1) if goal == "recall" else last - np.argmax(reached[:, ::-1], axis=1)
    return np.where(reached.any(axis=1), place, -1)
