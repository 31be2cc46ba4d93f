"""Label sets of the same images under several protocols: how they agree, and what depends on the protocol.

A protocol is a way to label images: who is asked, about which classes, and how answers become a label set.
Two protocols are compared like two raters: on the classes that both asked about, and on the resulting label
sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from manyhot.core.answers import NO as ANSWERED_NO
from manyhot.core.answers import Answers
from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints, Ints8, Ints64, Positions
from manyhot.core.distinct import distinct_keys
from manyhot.core.model_pairs import holm, only_right, paired_errors
from manyhot.core.resampling import Bootstrap
from manyhot.core.sets import NO, UNCLEAR, YES, LabelSets

RELATIONS = {
    "equal": "both have the same classes",
    "a_in_b": "the second contains all classes of the first and at least one more",
    "b_in_a": "the first contains all classes of the second and at least one more",
    "overlapping": "they share a class, and each has a class that the other lacks",
    "disjoint": "they share no class",
    "a_empty": "only the first is empty",
    "b_empty": "only the second is empty",
}
"""Relations of two label sets of an image. Two empty sets are equal."""

OTHER_STATES = ("yes", "unclear", "no", "not asked", "not recorded")
"""What another protocol says about a label. It is not recorded if only valid classes are."""


@dataclass(frozen=True, eq=False)
class SetOverlap:
    """The label sets of n images under two protocols.

    Attributes
    ----------
    a, b, both : ndarray of int64, shape (n,)
        The number of classes in the first set, in the second set, and in both.
    """

    a: Ints64
    b: Ints64
    both: Ints64

    @classmethod
    def of(cls, a: LabelSets, b: LabelSets) -> SetOverlap:
        """Count the classes of two label sets of the same images, row by row."""
        in_a, in_b = _keys(a, YES), _keys(b, YES)
        shared = np.intersect1d(in_a, in_b, assume_unique=True) // a.n_classes
        return cls(a.size, b.size, np.bincount(shared, minlength=len(a)))

    @property
    def relation(self) -> Positions:
        """The relation of the two sets of each image, as a position in `RELATIONS`, shape (n,)."""
        a, b, both = self.a, self.b, self.both
        cases = [(a == b) & (a == both), a == 0, b == 0, both == 0, both == a, both == b]
        names = ["equal", "a_empty", "b_empty", "disjoint", "a_in_b", "b_in_a"]
        places = [list(RELATIONS).index(name) for name in names]
        return np.select(cases, places, list(RELATIONS).index("overlapping")).astype(np.intp)

    @property
    def jaccard(self) -> Floats:
        """The Jaccard index of the two sets, shape (n,); 1 if both are empty."""
        union = self.a + self.b - self.both
        return np.where(union > 0, self.both / np.maximum(union, 1), 1.0)


def _keys(sets: LabelSets, state: int) -> Ints64:
    """Return the (image, class) pairs with a state as numbers, shape (m,)."""
    at = sets.state == state
    return np.asarray(sets.rows[at] * sets.n_classes + sets.classes[at], np.int64)


@dataclass(frozen=True, eq=False)
class SharedAnswers:
    """Protocols' answers to questions about (image, class) pairs. Each protocol is treated as a rater.

    Attributes
    ----------
    image, class_id : ndarray of int, shape (Q,)
        The image and the class of each question.
    """

    answers: Answers
    image: Ints
    class_id: Ints

    @classmethod
    def of(cls, sets: Sequence[LabelSets], rated: Sequence[Bools]) -> SharedAnswers:
        """Return the answers of protocols, which must record the classes that raters were asked about.

        Parameters
        ----------
        sets : sequence of LabelSets
            Label sets of the same n images, row by row. *Unclear* counts as *maybe*. A class that is not
            listed has no answer, unless the label sets are complete.
        rated : sequence of ndarray of bool, shape (n,)
            The images that raters saw under each protocol. Other images have no answers.
        """
        parts = [_asked(one, seen) for one, seen in zip(sets, rated, strict=True)]
        keys = distinct_keys(np.concatenate([key for key, _ in parts]))
        for i, (one, seen) in enumerate(zip(sets, rated, strict=True)):
            if one.complete:
                parts[i] = _completed(parts[i], keys[(seen & one.usable)[keys // one.n_classes]])
        answers = Answers(
            np.concatenate([np.searchsorted(keys, key) for key, _ in parts]),
            np.repeat(np.arange(len(parts)), [len(key) for key, _ in parts]),
            np.concatenate([answer for _, answer in parts]),
            len(keys),
            len(sets),
        )
        return cls(answers, keys // sets[0].n_classes, keys % sets[0].n_classes)


_Asked = tuple[Ints64, Ints8]


def _asked(sets: LabelSets, rated: Bools) -> _Asked:
    """Return the (image, class) pairs that a protocol asked about, and its answers."""
    at = (rated & sets.usable)[sets.rows]
    # States are those of answers plus 1: not asked is no answer.
    return sets.rows[at] * sets.n_classes + sets.classes[at], (sets.state[at] - NO).astype(np.int8)


def _completed(asked: _Asked, keys: Ints64) -> _Asked:
    """Return the answers of a complete protocol to all of some questions: no where nothing is listed."""
    new = np.setdiff1d(keys, asked[0], assume_unique=True)
    noes = np.full(len(new), ANSWERED_NO, np.int8)
    return np.concatenate([asked[0], new]), np.concatenate([asked[1], noes])


def records_noes(sets: LabelSets) -> bool:
    """Return whether label sets record the classes that raters were asked about but that are not valid."""
    return bool(sets.complete or (sets.state == NO).any())


def states_by_other(a: LabelSets, b: LabelSets, chosen: Bools | None = None) -> Ints64:
    """Count the states of the first protocol's labels in the second protocol, shape (n, 5).

    Parameters
    ----------
    a, b : LabelSets
        Label sets of the same n images, row by row.
    chosen : ndarray of bool, shape (m,), optional
        Which entries of ``a.classes`` count.

    Returns
    -------
    ndarray of int64
        For each image, the number of the first protocol's labels with each of `OTHER_STATES` in the second.
    """
    at = a.state == YES if chosen is None else (a.state == YES) & chosen
    rows, classes = a.rows[at], a.classes[at]
    state = b.take(rows).state_of(classes[:, None])[:, 0]
    place = np.select([state == YES, state == UNCLEAR, state == NO], [0, 1, 2], 3 if b.asked_known else 4)
    return np.bincount(rows * 5 + place, minlength=len(a) * 5).reshape(-1, 5)


def missed_beside(a: LabelSets, b: LabelSets) -> tuple[Ints, Ints, Ints64]:
    """Count pairs of a label that only the first protocol has and a label of the second, on the same image.

    Returns
    -------
    missed, beside : ndarray of int, shape (p,)
        The two classes.
    images : ndarray of int64, shape (p,)
        Number of images of each pair, in descending order.
    """
    alone = np.setdiff1d(_keys(a, YES), _keys(b, YES), assume_unique=True)
    rows, missed = alone // a.n_classes, alone % a.n_classes
    theirs = np.sort(_keys(b, YES))
    start, stop = (np.searchsorted(theirs, end * a.n_classes) for end in (rows, rows + 1))
    count = stop - start
    at = np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)
    pairs = np.repeat(missed, count) * a.n_classes + theirs[at] % a.n_classes
    found, images = np.unique(pairs, return_counts=True)
    order = np.lexsort((found, -images))
    return found[order] // a.n_classes, found[order] % a.n_classes, images[order].astype(np.int64)


@dataclass(frozen=True, eq=False)
class RightBy:
    """Whether M models are right on n images under each of P protocols.

    Parameters
    ----------
    right : ndarray of bool, shape (n, P, M)
    resamples, seed : int
        The bootstrap over images. All protocols and models share its resamples.
    """

    right: Bools
    resamples: int
    seed: int

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.right)

    @cached_property
    def values(self) -> Floats:
        """The accuracy of each model under each protocol, shape (P, M)."""
        return np.asarray(self.right.mean(axis=0))

    @cached_property
    def samples(self) -> Floats32:
        """The resampled accuracies, shape (P, M, R)."""
        n, p, m = self.right.shape
        flat = self.right.reshape(n, p * m)
        return self._resampled(flat, np.ones((n, 1), bool), np.zeros(p * m, np.intp)).reshape(p, m, -1)

    def errors_right_by(self, a: int, b: int) -> tuple[Floats, Floats32]:
        """Return the share of each model's errors under protocol a that are correct under b, with resamples.

        Returns
        -------
        ndarray of float64, shape (M,)
            NaN if a model makes no error.
        ndarray of float32, shape (M, R)
        """
        wrong, right = ~self.right[:, a], ~self.right[:, a] & self.right[:, b]
        with np.errstate(invalid="ignore"):
            shares = right.sum(axis=0) / wrong.sum(axis=0)
        return shares, self._resampled(right, wrong, np.arange(right.shape[1]))

    def _resampled(self, num: Bools, den: Bools, den_of: Positions) -> Floats32:
        """Return resampled ratios, shape (m, R)."""
        ratios = self._bootstrap.ratios(num.astype(np.float32), den.astype(np.float32), den_of)[0]
        return np.ascontiguousarray(ratios.T)

    @cached_property
    def _bootstrap(self) -> Bootstrap:
        return Bootstrap(np.ones((1, self.n), bool), self.resamples, self.seed)

    def differences(self, protocol: int) -> tuple[Floats, Floats]:
        """Return the differences between all models under a protocol, with standard errors, shape (M, M).

        The difference is the value of the column's model minus the value of the row's model.
        """
        only = only_right(np.packbits(self.right[:, protocol].T, axis=1))
        values = self.values[protocol]
        return values[None] - values[:, None], paired_errors(only, only.T, self.n)


@dataclass(frozen=True, eq=False)
class Swaps:
    """Pairs of models whose order differs between two protocols.

    Attributes
    ----------
    a, b : ndarray of int, shape (s,)
        The two models. The second model is better under the second protocol.
    difference_a, difference_b : ndarray of float64, shape (s,)
        Value of the second model minus value of the first model, under each protocol.
    p_adjusted : ndarray of float64, shape (s,)
        p-value of the swap, adjusted by Holm's method over all pairs of models; see `swaps_between`.
    """

    a: Positions
    b: Positions
    difference_a: Floats
    difference_b: Floats
    p_adjusted: Floats


def swaps_between(right: RightBy, a: int, b: int) -> Swaps:
    """Return the pairs of models that swap places between two protocols, the lowest p-value first.

    Notes
    -----
    Two models swap places if one is better under the first protocol and the other is better under the second.
    Both statements must be significant, so p is the larger of the two one-sided p-values, as in the
    intersection-union test (Berger 1982, doi 10.1080/00401706.1982.10487790). Holm's correction counts all
    pairs of models.
    """
    first, second = np.triu_indices(right.values.shape[1], 1)
    (in_a, error_a), (in_b, error_b) = (right.differences(protocol) for protocol in (a, b))
    da, db, ea, eb = (matrix[first, second] for matrix in (in_a, in_b, error_a, error_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(da * db < 0, ndtr(-np.minimum(np.abs(da) / ea, np.abs(db) / eb)), 1.0)
    adjusted = holm(p)
    at = np.flatnonzero(da * db < 0)
    at = at[np.lexsort((p[at], adjusted[at]))]
    turned = db[at] < 0  # the second model is the one that is better by the second protocol
    sign = np.where(turned, -1, 1)
    models = np.where(turned, second[at], first[at]), np.where(turned, first[at], second[at])
    return Swaps(*models, da[at] * sign, db[at] * sign, adjusted[at])


COMPONENTS = ("models", "protocols", "models × protocols")
"""What accuracies vary with: the model, the protocol, and how much the protocol suits the model."""


def variance_components(values: AnyFloats) -> Floats:
    """Return the variance between models, between protocols, and of the residual, shape (3, …).

    Parameters
    ----------
    values : ndarray of float, shape (P, M, …)
        Accuracies of M models by P protocols.

    Notes
    -----
    The two-way table is split into the mean, effects of models, effects of protocols, and a residual. Each
    variance is the mean square of its part over all cells, so that the three variances add up to the variance
    of the table.
    """
    values = np.asarray(values, np.float64)
    total = values.mean(axis=(0, 1))
    by_model, by_protocol = values.mean(axis=0) - total, values.mean(axis=1) - total
    left = values - total - by_model[None] - by_protocol[:, None]
    return np.stack([(by_model**2).mean(axis=0), (by_protocol**2).mean(axis=0), (left**2).mean(axis=(0, 1))])


def without_noise(value: Floats, samples: Floats) -> tuple[Floats, Floats]:
    """Return variances without the noise due to the sampling of images, and their shifted samples.

    Parameters
    ----------
    value : ndarray of float64, shape (3,)
    samples : ndarray of float64, shape (3, R)
        The variances in each resample.

    Notes
    -----
    Noise increases a variance. Resampling the images adds about as much noise as sampling them did. Twice the
    value minus the mean of the samples therefore removes this noise (Efron & Tibshirani 1993, section 10.6).
    Samples are centred at the result. Variances are clipped at 0.
    """
    added = samples.mean(axis=1) - value
    return np.maximum(value - added, 0), np.maximum(samples - 2 * added[:, None], 0)
