"""Label errors, missing labels and classes that are one, by what models, neighbours and people say.

Everything is pure: an `Ensemble` and the classes of neighbours in, ranked issues out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy import typing as npt

from manyhot.checks import check_share
from manyhot.core.array_types import Bools, Floats, Floats32, Ints
from manyhot.core.confident_learning import suspected_errors
from manyhot.core.ensembles import Ensemble, mean_probabilities
from manyhot.core.error_kinds import count_together
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.core.softmax import SLACK, not_a_probability

_Part = tuple[Ints, Ints, Floats, Floats, Floats]
"""Image, class, how likely it is, and the evidence of models and of neighbours, of each pair of a block."""

_POSSIBLE = 1e-11
"""Least probability of a missing label: `manyhot.core.calibration.Tail` has 1e-12 for none."""

_CELLS = 2**21
"""Cells of a dense table at once, as in `manyhot.core.ensembles`."""


@dataclass(frozen=True, eq=False)
class Issues:
    """Issues of one kind, worst first.

    Attributes
    ----------
    image, class_id : ndarray of int64, shape (m,)
        Of a doubtful label the class that speaks against it, of a missing label the class that is missing.
    score : ndarray of float64, shape (m,)
        What people said where they were asked, else what models say, else neighbours.
    models, neighbours, people : ndarray of float64, shape (m,)
        The evidence of each, 0 to 1, NaN where there is none.
    likely : ndarray of float64, shape (m,)
        How likely the class is to models and neighbours; -1 where both say nothing.
    n_models : ndarray of int64, shape (m,)
        Models whose best class it is.
    confident : ndarray of int64, shape (m,)
        The class that confident learning finds in the image; `NO_LABEL` where it suspects nothing.
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
    """What there is to doubt.

    Attributes
    ----------
    doubtful, missing : Issues
    n, n_skipped : int
        Images with an original label that models or neighbours say something about; those without.
    """

    doubtful: Issues
    missing: Issues
    n: int
    n_skipped: int


@dataclass(frozen=True, eq=False)
class Merges:
    """Pairs of classes that may be one, ``a < b``, likeliest first.

    Attributes
    ----------
    a, b : ndarray of int64, shape (m,)
    score : ndarray of float64, shape (m,)
        The greater of `together` and twice the lesser of the next two, at most 1.
    together : ndarray of float64, shape (m,)
        Of the images with the rarer or the commoner label, the lesser share that has both; NaN where no image
        has one of them.
    a_as_b, b_as_a : ndarray of float64, shape (m,)
        Of the images labelled one, the share whose best class is the other, mean over models; NaN where no
        image is labelled so.
    n_together, n_a, n_b : ndarray of int64, shape (m,)
        Images with both labels, and images labelled a and b.
    """

    a: Ints
    b: Ints
    score: Floats
    together: Floats
    a_as_b: Floats
    b_as_a: Floats
    n_together: Ints
    n_a: Ints
    n_b: Ints

    def __len__(self) -> int:
        return len(self.a)


def uses_probabilities(ensemble: Ensemble) -> bool:
    """Return whether all models have probabilities; else ranks alone speak, those of all models."""
    return all(p is not None for p in ensemble.probabilities)


def find_issues(
    ensemble: Ensemble,
    neighbours: Ints | None = None,
    alone: Bools | None = None,
    *,
    doubtful: float = 0.5,
    missing: float = 0.2,
    name: Callable[[int], str] = "row {}".format,
) -> IssueLists:
    """Rank original labels that are doubtful, and labels that are missing.

    Parameters
    ----------
    ensemble : Ensemble
        Predictions on images that the models were not trained on. Its `label_sets` are what people
        said.
    neighbours : ndarray of int, shape (n, k), optional
        Original labels of the images most like each one, itself left out; `NO_LABEL` where there is none.
    alone : ndarray of bool, shape (n,), optional
        Images whose label no other image has that could be a neighbour: of it neighbours say nothing.
    doubtful, missing : float
        The least score of each kind. What confident learning suspects is listed with any score.
    name : callable
        What an image is called in messages, by its row.

    Raises
    ------
    InputError
        If scores said to be probabilities are none, or a least score is not from 0 to 1.

    Notes
    -----
    With q the mean probability (of ranks: the share of models whose best class it is) the evidence of models
    against a label y is 1 - q_y, which is 1 less cleanlab's self-confidence; for a missing label j it is q_j.
    Neighbours say the same with q the share of neighbours of each label; that orders what models find equal,
    and stands in where these say nothing. Then the one whose likeliest other class is likelier comes first.
    People say 1 for what they rejected (of a doubtful label) or accepted (of a missing one), 1/2 for unclear,
    and their probability where there is one.

    References
    ----------
    Northcutt, Jiang & Chuang 2021, doi 10.1613/jair.1.12125. Kuan & Mueller 2022, arXiv 2210.03920.
    """
    _check_least(doubtful=doubtful, missing=missing)
    ensemble = _cut(ensemble, name)
    confident = _confident(ensemble)
    labelled = ensemble.label != NO_LABEL
    heard = np.zeros(len(ensemble), bool)
    doubts, absent = [], []
    for start, said in _beliefs(ensemble):
        part = slice(start, start + len(said))
        near = None if neighbours is None else _shares(neighbours[part], ensemble.n_classes)
        if near is not None and alone is not None:
            rows = np.flatnonzero(alone[part] & labelled[part])
            near[rows, ensemble.label[part][rows]] = np.nan
        block = _Block(start, ensemble.label[part], said, near)
        heard[part] = block.heard
        doubts.append(block.doubts())
        absent.append(block.missing(missing, _known_cells(ensemble, part)))
    found = [_settled(ensemble, _joined(parts, confident), of) for of, parts in enumerate((doubts, absent))]
    keep = (found[0].score >= doubtful) | ((found[0].confident != NO_LABEL) & ~(found[0].people <= 0.5))
    n = int(np.count_nonzero(labelled & heard))
    return IssueLists(
        _ranked(ensemble, found[0], keep),
        _ranked(ensemble, found[1], found[1].score >= missing),
        n,
        len(ensemble) - n,
    )


def find_merges(
    ensemble: Ensemble, *, together: float = 0.7, confused: float = 0.2, images: int = 5
) -> Merges:
    """Find pairs of classes that should be one.

    Parameters
    ----------
    ensemble : Ensemble
    together : float
        The least share of images of either class that have both labels.
    confused : float
        The least share of images labelled one that models call the other, in both directions. Half of each is
        what guessing between two names for one thing gives.
    images : int
        The least number of images: with both labels for the first, labelled each for the second.
    """
    _check_least(together=together, confused=confused)
    c, label = ensemble.n_classes, ensemble.label
    labelled = np.flatnonzero(label != NO_LABEL)
    n_label = np.bincount(label[labelled], minlength=c)
    keys, share = _confusions(ensemble, labelled, n_label)
    both, count, n_yes = _co_labelled(ensemble.label_sets, c)
    low, high = np.divmod(keys, c)
    wanted = np.unique(np.concatenate([both, np.minimum(low, high) * c + np.maximum(low, high)]))
    a, b = np.divmod(wanted, c)
    forth, back = _looked_up(keys, share, a * c + b), _looked_up(keys, share, b * c + a)
    n_both = _looked_up(both, count, wanted)
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap = np.where(
            np.minimum(n_yes[a], n_yes[b]) > 0, n_both / np.maximum(n_yes[a], n_yes[b]), np.nan
        )
    forth, back = np.where(n_label[a] > 0, forth, np.nan), np.where(n_label[b] > 0, back, np.nan)
    mixed = np.where(np.minimum(n_label[a], n_label[b]) >= images, np.minimum(forth, back), 0)
    often = np.where(n_both >= images, np.nan_to_num(overlap), 0)
    score = np.maximum(often, np.minimum(2 * mixed, 1))
    keep = np.flatnonzero((often >= together) | (mixed >= confused))
    keep = keep[np.lexsort((wanted[keep], -score[keep]))]
    return Merges(
        a[keep],
        b[keep],
        score[keep],
        overlap[keep],
        forth[keep],
        back[keep],
        n_both[keep].astype(np.int64),
        n_label[a[keep]],
        n_label[b[keep]],
    )


@dataclass(frozen=True, eq=False)
class _Block:
    """Some images with all their classes.

    Attributes
    ----------
    models, near : ndarray of float64, shape (b, C)
        Of models and of neighbours; NaN about which they say nothing.
    """

    start: int
    label: npt.NDArray[np.int32]
    models: Floats
    near: Floats | None

    @property
    def heard(self) -> Bools:
        known = np.isfinite(self.models[:, 0])
        return known if self.near is None else known | np.isfinite(self.near).any(1)

    def _likely(self) -> Floats:
        """Return how likely each class is to models, or else to neighbours; -1 where both say nothing."""
        near = np.nan if self.near is None else self.near
        likely = np.where(np.isnan(self.models), near, self.models)
        return np.where(np.isfinite(likely), likely, -1.0)

    def doubts(self) -> _Part:
        """Return image, the likeliest other class, how likely it is, and the evidence against the label."""
        rows = np.flatnonzero(self.label != NO_LABEL)
        label = self.label[rows].astype(np.int64)
        found = self._likely()[rows]
        found[np.arange(len(rows)), label] = -2.0
        other = found.argmax(1)
        likely = found[np.arange(len(rows)), other]
        near = np.full(len(rows), np.nan) if self.near is None else 1 - self.near[rows, label]
        return self.start + rows, other, likely, 1 - self.models[rows, label], near

    def missing(self, least: float, accepted: Ints) -> _Part:
        """Return image, class, how likely it is, and the evidence, of what reaches a score or is accepted."""
        likely = self._likely()
        labelled = np.flatnonzero(self.label != NO_LABEL)
        likely[labelled, self.label[labelled]] = -2.0
        cells = np.union1d(np.flatnonzero(likely.ravel() >= max(least, _POSSIBLE)), accepted)
        rows, classes = np.divmod(cells, likely.shape[1])
        near = np.full(len(cells), np.nan) if self.near is None else self.near[rows, classes]
        return self.start + rows, classes, likely[rows, classes], self.models[rows, classes], near


def _beliefs(ensemble: Ensemble) -> Iterator[tuple[int, Floats]]:
    """Yield how likely models think each class, block by block: mean probabilities or shares of votes."""
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
    """Return the share of neighbours of each label, shape (b, C); NaN without any."""
    rows, places = np.nonzero(neighbours >= 0)
    cells = rows * n_classes + neighbours[rows, places].astype(np.int64)
    count = np.bincount(cells, minlength=len(neighbours) * n_classes).reshape(len(neighbours), n_classes)
    total = count.sum(1, keepdims=True)
    return np.where(total > 0, count / np.maximum(total, 1), np.nan)


def _known_cells(ensemble: Ensemble, part: slice) -> Ints:
    """Return the cells of a block, as one number, that people accept or do not agree on."""
    sets = ensemble.label_sets
    if sets is None:
        return np.empty(0, np.int64)
    block = sets.take(np.arange(part.start, min(part.stop, len(ensemble))))
    said = (block.state >= UNCLEAR) & block.usable[block.rows]
    said &= block.classes != ensemble.label[part][block.rows]
    return np.asarray(block.rows[said] * ensemble.n_classes + block.classes[said], np.int64)


def _confident(ensemble: Ensemble) -> Ints:
    """Return the class that confident learning finds in each image, where that is not its label."""
    found = np.full(len(ensemble), NO_LABEL, np.int64)
    if not ensemble.names or not uses_probabilities(ensemble):
        return found
    finite = np.ones(len(ensemble), bool)
    for p in ensemble.probabilities:
        assert p is not None
        finite &= np.isfinite(p).all(1)
    rows = np.flatnonzero(finite & (ensemble.label != NO_LABEL))
    if len(rows):
        pairs = suspected_errors(ensemble.take(rows))
        found[rows[pairs.image]] = pairs.class_id
    return found


def _joined(parts: list[_Part], confident: Ints) -> Issues:
    image, class_id, likely, models, near = (np.concatenate(column) for column in zip(*parts, strict=True))
    score = np.where(np.isnan(models), near, models)
    nobody, none = np.full(len(image), np.nan), np.zeros(len(image), np.int64)
    return Issues(image, class_id, score, models, near, nobody, likely, none, confident[image])


def _settled(ensemble: Ensemble, issues: Issues, missing: int) -> Issues:
    """Put what people said in the place of the score, where they were asked."""
    sets = ensemble.label_sets
    if sets is None:
        return issues
    asked = issues.class_id if missing else ensemble.label[issues.image].astype(np.int64)
    rows = sets.take(issues.image)
    state = rows.state_of(asked[:, None])[:, 0]
    p = rows.p_of(asked).astype(np.float64)
    yes = np.where(np.isnan(p), np.where(state == YES, 1.0, np.where(state == UNCLEAR, 0.5, 0.0)), p)
    people = np.where((state > 0) & rows.usable, yes if missing else 1 - yes, np.nan)
    score = np.where(np.isnan(people), issues.score, people)
    return replace(issues, score=score, people=people)


def _ranked(ensemble: Ensemble, issues: Issues, keep: Bools) -> Issues:
    """Keep some, worst first; of equal scores those of people, then by neighbours and by likelier classes."""
    rows = np.flatnonzero(keep)
    unasked = np.isnan(issues.people[rows])
    near = np.nan_to_num(issues.neighbours[rows], nan=-1)
    keys = (
        issues.class_id[rows],
        issues.image[rows],
        -issues.likely[rows],
        -near,
        unasked,
        -issues.score[rows],
    )
    rows = rows[np.lexsort(keys)]
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


def _confusions(ensemble: Ensemble, labelled: Ints, n_label: Ints) -> tuple[Ints, Floats]:
    """Return keys ``label * C + best class`` off the diagonal, and the mean share of images, over models."""
    c, label = ensemble.n_classes, ensemble.label[labelled].astype(np.int64)
    parts = []
    for top in ensemble.top:
        best = top[labelled, 0].astype(np.int64)
        wrong = (best >= 0) & (best != label)
        parts.append(label[wrong] * c + best[wrong])
    keys, count = np.unique(np.concatenate([np.empty(0, np.int64), *parts]), return_counts=True)
    return keys, count / n_label[keys // c] / max(len(parts), 1)


def _co_labelled(sets: LabelSets | None, n_classes: int) -> tuple[Ints, Ints, Ints]:
    """Return keys of pairs that are valid together, on how many images, and images of each class."""
    if sets is None:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n_classes, np.int64)
    yes = (sets.state == YES) & sets.usable[sets.rows]
    return *count_together(sets), np.bincount(sets.classes[yes], minlength=n_classes)


def _looked_up(keys: Ints, values: npt.NDArray[np.number], queries: Ints) -> Floats:
    """Return the value of each wanted key, 0 where there is none; keys ascend."""
    found = np.zeros(len(queries))
    if len(keys):
        at = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
        there = keys[at] == queries
        found[there] = values[at[there]]
    return found


def _check_least(**least: float) -> None:
    for name, value in least.items():
        check_share(
            value,
            "This is no least score or share.",
            zero=True,
            where=name,
            got=f"{value:g}",
            allowed="0 to 1",
        )


def _cut(ensemble: Ensemble, name: Callable[[int], str]) -> Ensemble:
    """Return the ensemble with probabilities cut to 1 where rounding took them above."""
    cut: list[Floats32 | None] = []
    for model, probability in zip(ensemble.names, ensemble.probabilities, strict=True):
        if probability is None:
            cut.append(None)
            continue
        bad = (probability < 0) | (probability > 1 + SLACK)
        bad &= ~np.isneginf(probability)  # what fills short lists
        if bad.any():
            row, place = np.argwhere(bad)[0]
            raise not_a_probability(float(probability[row, place]), f"{model}, {name(int(row))}")
        cut.append(np.minimum(probability, 1))
    return replace(ensemble, probabilities=tuple(cut))
