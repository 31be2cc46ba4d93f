"""Label issues: doubtful labels, missing labels and duplicate classes, from models, neighbours and raters.

The input is an `Ensemble` and the classes of neighbours; the output are ranked issues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from manyhot.core.array_types import Bools, Floats, Floats32, Ints, Ints32
from manyhot.core.confident_learning import cleanlab_classes
from manyhot.core.distinct import distinct_keys
from manyhot.core.ensembles import DenseScores, Ensemble, mean_probabilities
from manyhot.core.rater_weights import combined_evidence, corrected_evidence, rater_evidence
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.core.softmax import SLACK, not_a_probability
from manyhot.parameters import check_share

_Part = tuple[Ints, Ints, Floats, Floats, Floats]
"""Image, class, probability, and the evidence of models and of neighbours, for the pairs of a block."""

_POSSIBLE = 1e-11
"""Minimum probability of a missing label; `manyhot.core.calibration.Tail` has 1e-12 in place of 0."""

_CELLS = 2**21
"""Cells of a dense table per block, as in `manyhot.core.ensembles`."""


@dataclass(frozen=True, eq=False)
class Issues:
    """Issues of one kind, by descending score.

    Attributes
    ----------
    image, class_id : ndarray of int64, shape (m,)
        The image, and the most probable other class (for a doubtful label) or the missing class.
    score : ndarray of float64, shape (m,)
        The evidence from models or, without models, from neighbours. If raters were asked, their evidence is
        combined with it.
    models, neighbours, people : ndarray of float64, shape (m,)
        The evidence from models, neighbours and raters, from 0 to 1; NaN if there is none.
    likely : ndarray of float64, shape (m,)
        Probability of the class according to models or neighbours; -1 if neither gives evidence.
    n_models : ndarray of int64, shape (m,)
        Number of models with `class_id` as their top class.
    confident : ndarray of int64, shape (m,)
        The class of the image according to confident learning, as in cleanlab; `NO_LABEL` if no label error
        is suspected.
    """

    image: Ints
    class_id: Ints
    score: Floats
    models: Floats
    neighbours: Floats
    people: Floats
    likely: Floats
    n_models: Ints
    confident: Ints

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class IssueLists:
    """Doubtful and missing labels.

    Attributes
    ----------
    n, n_skipped : int
        Number of images with an original label and evidence from models or neighbours, and number of all
        other images.
    """

    doubtful: Issues
    missing: Issues
    n: int
    n_skipped: int


def uses_probabilities(ensemble: Ensemble) -> bool:
    """Return whether all models have probabilities. If not, only ranks are used, for all models."""
    return all(p is not None for p in ensemble.probabilities)


def find_issues(
    ensemble: Ensemble,
    neighbours: Ints | None = None,
    alone: Bools | None = None,
    *,
    doubtful: float = 0.5,
    missing: float = 0.2,
    settled: bool = False,
    name: Callable[[int], str] = "row {}".format,
) -> IssueLists:
    """Rank doubtful original labels and missing labels.

    Parameters
    ----------
    ensemble : Ensemble
        Predictions on images on which the models were not trained. `label_sets` contains the raters' answers.
    neighbours : ndarray of int, shape (n, k), optional
        Original labels of the images that are most similar to each image, excluding the image itself.
        `NO_LABEL` if there is none.
    alone : ndarray of bool, shape (n,), optional
        Images with a label that no possible neighbour has. Neighbours give no evidence about these labels.
    doubtful, missing : float
        Minimum score of each kind of issue. Issues with this much evidence from raters are also listed.
        Errors that confident learning suspects are listed regardless of their score, unless raters contradict
        them.
    settled : bool
        Whether answers decide: if true, labels that raters confirmed are not doubtful, and classes that they
        rejected are not missing.
    name : callable
        Returns the name of the image in a row, for error messages.

    Raises
    ------
    InputError
        If scores that are declared as probabilities are not probabilities, or if a minimum score is not
        between 0 and 1.

    Notes
    -----
    Let q_j be the mean probability of class j over models or, for ranks, the share of models whose top class
    is j. The evidence from models against a label y is 1 - q_y, that is, 1 minus cleanlab's self-confidence.
    For a missing label j, it is q_j. The evidence from neighbours is computed in the same way, with the share
    of neighbours with label j as q_j. The score is the evidence from models or, where there is none, from
    neighbours. Ties are broken in the last digits, first by neighbours and then by the probability of the
    most probable other class. Issues with the same score are listed in the order of the images.

    The evidence from raters is 1 if they rejected a doubtful label or accepted a missing label, and 1/2 if
    the class is unclear. If the labels contain probabilities, these are used instead.
    `manyhot.core.rater_weights` describes how raters and models are combined. For a doubtful label, the
    evidence from models is then (1 + q_j - q_y) / 2 with the most probable other class j, at most 1 - q_y.
    This is 1 minus cleanlab's normalized margin. Labels that no rater was asked about remain in the order of
    1 - q_y. Their scores are their margins, sorted in this order, so that all labels are on one scale.

    References
    ----------
    Northcutt, Jiang & Chuang 2021, doi 10.1613/jair.1.12125. Kuan & Mueller 2022, arXiv 2210.03920.
    """
    ensemble = checked_input(ensemble, name, doubtful=doubtful, missing=missing)
    confident = _confident(ensemble)
    labelled = ensemble.label != NO_LABEL
    has_evidence = np.zeros(len(ensemble), bool)
    doubts, absent = [], []
    for start, probability in beliefs(ensemble):
        part = slice(start, start + len(probability))
        near = None if neighbours is None else _shares(neighbours[part], ensemble.n_classes)
        if near is not None and alone is not None:
            rows = np.flatnonzero(alone[part] & labelled[part])
            near[rows, ensemble.label[part][rows]] = np.nan
        block = _Block(start, ensemble.label[part], probability, near)
        has_evidence[part] = block.has_evidence
        doubts.append(block.doubts())
        absent.append(block.missing(missing, _asked_cells(ensemble, part)))
    doubt = _doubts_with_people(ensemble, _joined(doubts, confident))
    lack = _missing_with_people(ensemble, _joined(absent, confident))
    keep = (_strength(doubt) >= doubtful) | (doubt.people >= doubtful)
    keep |= (doubt.confident != NO_LABEL) & ~(doubt.people <= 0.5)
    possible = (_strength(lack) >= missing) & (lack.likely >= _POSSIBLE)
    keep_missing = possible | (lack.people >= max(missing, 0.5))
    if settled and ensemble.label_sets is not None:
        keep &= ~_agree(ensemble.label_sets, doubt, ensemble.label[doubt.image], YES)
        keep_missing &= ~_agree(ensemble.label_sets, lack, lack.class_id, NO)
    n = int(np.count_nonzero(labelled & has_evidence))
    return IssueLists(
        ranked(ensemble, doubt, keep), ranked(ensemble, lack, keep_missing), n, len(ensemble) - n
    )


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of images with all classes.

    Attributes
    ----------
    models, near : ndarray of float64, shape (b, C)
        Probabilities according to models and to neighbours; NaN without evidence.
    """

    start: int
    label: Ints32
    models: Floats
    near: Floats | None

    @property
    def has_evidence(self) -> Bools:
        by_models = np.isfinite(self.models[:, 0])
        return by_models if self.near is None else by_models | np.isfinite(self.near).any(1)

    def _likely(self) -> Floats:
        """Return the probability of each class by models, or else by neighbours; -1 without evidence."""
        near = np.nan if self.near is None else self.near
        likely = np.where(np.isnan(self.models), near, self.models)
        return np.where(np.isfinite(likely), likely, -1.0)

    def doubts(self) -> _Part:
        """Return images, most probable other classes, their probabilities, and evidence against labels."""
        rows = np.flatnonzero(self.label != NO_LABEL)
        label = self.label[rows].astype(np.int64)
        others = self._likely()[rows]
        others[np.arange(len(rows)), label] = -2.0
        other = others.argmax(1)
        likely = others[np.arange(len(rows)), other]
        near = np.full(len(rows), np.nan) if self.near is None else 1 - self.near[rows, label]
        return self.start + rows, other, likely, 1 - self.models[rows, label], near

    def missing(self, least: float, asked: Ints) -> _Part:
        """Return image, class, probability and evidence of classes that are likely or that raters judged."""
        likely = self._likely()
        labelled = np.flatnonzero(self.label != NO_LABEL)
        likely[labelled, self.label[labelled]] = -2.0
        likely_cells = np.flatnonzero(likely.ravel() >= max(least, _POSSIBLE))
        cells = distinct_keys(np.concatenate([likely_cells, asked]))
        rows, classes = np.divmod(cells, likely.shape[1])
        near = np.full(len(cells), np.nan) if self.near is None else self.near[rows, classes]
        return self.start + rows, classes, likely[rows, classes], self.models[rows, classes], near


def beliefs(ensemble: Ensemble) -> Iterator[tuple[int, Floats]]:
    """Yield the models' probability of each class in blocks: mean probabilities, or shares of models."""
    if ensemble.names and uses_probabilities(ensemble):
        yield from mean_probabilities(ensemble, np.ones(len(ensemble.names)))
        return
    c = ensemble.n_classes
    step = max(_CELLS // (c + 1), 1)
    for start in range(0, len(ensemble), step):
        n = min(step, len(ensemble) - start)
        count, rows = np.zeros((n, c)), np.arange(n)
        for top in ensemble.top:
            best = top[start : start + n, 0]
            listed = best >= 0
            count[rows[listed], best[listed]] += 1
        voters = count.sum(1, keepdims=True)
        yield start, np.where(voters > 0, count / np.maximum(voters, 1), np.nan)


def _shares(neighbours: Ints, n_classes: int) -> Floats:
    """Return the share of neighbours with each label, shape (b, C); NaN without neighbours."""
    rows, places = np.nonzero(neighbours >= 0)
    cells = rows * n_classes + neighbours[rows, places].astype(np.int64)
    count = np.bincount(cells, minlength=len(neighbours) * n_classes).reshape(len(neighbours), n_classes)
    total = count.sum(1, keepdims=True)
    return np.where(total > 0, count / np.maximum(total, 1), np.nan)


def _asked_cells(ensemble: Ensemble, part: slice) -> Ints:
    """Return the cells of a block, each as one number, that raters were asked about, without the labels."""
    sets = ensemble.label_sets
    if sets is None:
        return np.empty(0, np.int64)
    block = sets.take(np.arange(part.start, min(part.stop, len(ensemble))))
    asked = block.counted[block.rows] & (block.classes != ensemble.label[part][block.rows])
    return np.asarray(block.rows[asked] * ensemble.n_classes + block.classes[asked], np.int64)


def _confident(ensemble: Ensemble) -> Ints:
    """Return the class of each image according to confident learning, if it is not the label."""
    classes = np.full(len(ensemble), NO_LABEL, np.int64)
    if not ensemble.names or not uses_probabilities(ensemble):
        return classes
    finite = np.ones(len(ensemble), bool)
    for p in ensemble.probabilities:
        assert p is not None
        finite &= np.isfinite(p).all(1)
    rows = np.flatnonzero(finite & (ensemble.label != NO_LABEL))
    if len(rows):
        classes[rows] = cleanlab_classes(ensemble.take(rows))
    return classes


def _joined(parts: list[_Part], confident: Ints) -> Issues:
    """Return issues by models and neighbours."""
    image, class_id, likely, models, near = (np.concatenate(column) for column in zip(*parts, strict=True))
    score = ties_broken(_without_people(models, near), np.nan_to_num(near, nan=-1), likely)
    nobody, none = np.full(len(image), np.nan), np.zeros(len(image), np.int64)
    return Issues(image, class_id, score, models, near, nobody, likely, none, confident[image])


def ties_broken(evidence: Floats, *ties: Floats) -> Floats:
    """Return the evidence with ties broken in the last digits, in the order of further values.

    Parameters
    ----------
    evidence : ndarray of float64, shape (m,)
        From 0 to 1, or NaN.
    *ties : ndarray of float64, shape (m,)
        The first array sorts values with equal evidence, the second array sorts values that are equal in the
        first, and so on. Values that are equal in all arrays remain equal.

    Notes
    -----
    The k-th of several tied values is k - 1 floating-point numbers above the evidence. If tied values would
    exceed 1, they are moved down so that the highest is 1.
    """
    rows = np.flatnonzero(np.isfinite(evidence))
    keys = [np.maximum(evidence[rows], 0), *(tie[rows] for tie in ties)]
    order = np.lexsort(keys[::-1])
    differs = np.zeros(len(rows), bool)
    for key in keys:
        differs[1:] |= np.diff(key[order]) != 0
    step = np.cumsum(differs)
    bits = keys[0][order].view(np.int64)  # of numbers that are not negative, these are in the same order
    one = np.float64(1).view(np.int64)
    raised = np.maximum.accumulate(bits - step) + step
    score = np.full(len(evidence), np.nan)
    score[rows[order]] = np.minimum(raised, one - step[-1:] + step).view(np.float64)
    return score


def _without_people(models: Floats, near: Floats) -> Floats:
    return np.where(np.isnan(models), near, models)


def _strength(issues: Issues) -> Floats:
    """Return what a minimum score applies to: the evidence itself where nobody was asked."""
    alone = _without_people(issues.models, issues.neighbours)
    return np.where(np.isnan(issues.people), alone, issues.score)


def _people(ensemble: Ensemble, issues: Issues, classes: Ints) -> tuple[Floats, Floats]:
    """Return raters' evidence that classes are valid, and the number of answers; NaN if nobody was asked."""
    if ensemble.label_sets is None:
        return np.full(len(issues), np.nan), np.full(len(issues), np.nan)
    return raters_evidence(ensemble.label_sets.take(issues.image), classes)


def _missing_with_people(ensemble: Ensemble, issues: Issues) -> Issues:
    """Combine the score with the evidence of raters, if they were asked."""
    people, n_votes = _people(ensemble, issues, issues.class_id)
    evidence = _without_people(issues.models, issues.neighbours)
    weight, _ = rater_evidence(people, n_votes, evidence, issues.class_id, most=1.0)
    both = combined_evidence(people, evidence, weight)
    return replace(issues, score=np.where(np.isnan(people), issues.score, both), people=people)


def _doubts_with_people(ensemble: Ensemble, issues: Issues) -> Issues:
    """Correct the margin by the evidence of raters, if they were asked about any label."""
    label = ensemble.label[issues.image].astype(np.int64)
    valid, n_votes = _people(ensemble, issues, label)
    people = 1 - valid
    if np.isnan(people).all():
        return issues
    alone = _without_people(issues.models, issues.neighbours)
    margin = np.minimum((alone + np.maximum(issues.likely, 0)) / 2, alone)
    models = on_scale_of(margin, issues.score, np.isnan(people))
    weight, expected = rater_evidence(people, n_votes, models, label)
    return replace(issues, score=corrected_evidence(people, models, weight, expected), people=people)


def on_scale_of(values: Floats, score: Floats, which: Bools) -> Floats:
    """Return the values, with those of some rows rearranged into the order of a score.

    Rows with the same score all get the mean of their values.

    Parameters
    ----------
    values, score : ndarray of float64, shape (m,)
    which : ndarray of bool, shape (m,)
    """
    rows = np.flatnonzero(which & np.isfinite(values))
    if not len(rows):
        return values
    _, place, count = np.unique(score[rows], return_inverse=True, return_counts=True)
    means = np.add.reduceat(np.sort(values[rows]), np.cumsum(count) - count) / count
    moved = values.copy()
    moved[rows] = ties_broken(means, np.arange(len(count), dtype=np.float64))[place]
    return moved


def raters_evidence(rows: LabelSets, classes: Ints) -> tuple[Floats, Floats]:
    """Return raters' evidence that one class of each image is valid, and the number of their answers.

    Returns
    -------
    yes, n_votes : ndarray of float64, shape (n,)
        The evidence is the probability of the class or, if the probability is unknown, 1 for yes, 1/2 for
        unclear and 0 for no; NaN if no rater was asked. The number of answers is NaN if unknown.
    """
    state = rows.state_of(classes[:, None])[:, 0]
    p = rows.p_of(classes).astype(np.float64)
    yes = np.where(np.isnan(p), np.where(state == YES, 1.0, np.where(state == UNCLEAR, 0.5, 0.0)), p)
    n_votes = rows.values_of(rows.n_votes, classes).astype(np.float64)
    asked = (state > 0) & rows.counted & (n_votes != 0)
    return np.where(asked, yes, np.nan), n_votes


def _agree(answers: LabelSets, issues: Issues, classes: Ints, state: int) -> Bools:
    """Return for which issues raters answered that a class of the image has this state."""
    given: Bools = answers.take(issues.image).state_of(classes[:, None])[:, 0] == state
    return given & ~np.isnan(issues.people)


def ranked(ensemble: Ensemble, issues: Issues, keep: Bools) -> Issues:
    """Select issues by descending score; equal scores are in the order of images and classes."""
    rows = np.flatnonzero(keep)
    rows = rows[np.lexsort((issues.class_id[rows], issues.image[rows], -issues.score[rows]))]
    image, class_id = issues.image[rows], issues.class_id[rows]
    best = sum((top[image, 0] == class_id).astype(np.int64) for top in ensemble.top)
    return Issues(
        image,
        class_id,
        issues.score[rows],
        issues.models[rows],
        issues.neighbours[rows],
        issues.people[rows],
        issues.likely[rows],
        np.asarray(best + np.zeros(len(rows), np.int64), np.int64),
        issues.confident[rows],
    )


def checked_input(ensemble: Ensemble, name: Callable[[int], str], **least: float) -> Ensemble:
    """Check probabilities and minimum scores; return the ensemble with probabilities of at most 1."""
    check_least(**least)
    cut: list[Floats32 | None] = []
    for m, (model, probability) in enumerate(zip(ensemble.names, ensemble.probabilities, strict=True)):
        if probability is None:
            cut.append(None)
            continue
        if (dense := ensemble.dense_of(m)) is not None and dense.link == "probability":
            _check_lowest(dense, model, name)
        bad = (probability < 0) | (probability > 1 + SLACK)
        bad &= ~np.isneginf(probability)  # fills short lists
        if bad.any():
            row, place = np.argwhere(bad)[0]
            raise not_a_probability(float(probability[row, place]), f"{model}, {name(int(row))}")
        cut.append(np.minimum(probability, 1))
    return replace(ensemble, probabilities=tuple(cut))


def check_least(**least: float) -> None:
    """Check minimum scores. Each is passed under the name of its parameter.

    Raises
    ------
    InputError
        If one is not between 0 and 1.
    """
    for name, value in least.items():
        check_share(
            value, "This is not a score or share.", zero=True, where=name, got=f"{value:g}", allowed="0 to 1"
        )


def _check_lowest(dense: DenseScores, model: str, name: Callable[[int], str]) -> None:
    """Raise an error if a probability is negative; the highest ones are in the lists of top classes."""
    lowest = dense.scores.min(1)[dense.rows]
    bad = (lowest < 0) & ~np.isneginf(lowest)
    if bad.any():
        row = int(bad.argmax())
        raise not_a_probability(float(lowest[row]), f"{model}, {name(row)}")
