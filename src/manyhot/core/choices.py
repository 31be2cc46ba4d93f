"""Choices: each rater chose one of K classes for an image. Probabilities that each class is correct.

Aggregators of choices have the names of those of yes and no answers. `choice_dawid_skene` estimates a K × K
matrix for each rater where memory allows, and otherwise one matrix of all raters and one accuracy per rater
(`manyhot.core.choice_candidates`). Options of the same name are those of `choice_dawid_skene`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from manyhot.core.aggregation import vote_blocks, with_added
from manyhot.core.answers import History, check_numbers
from manyhot.core.array_types import Floats, Ints, Ints64
from manyhot.core.choice_candidates import (
    Candidates,
    candidates_of,
    count_sorted,
    fit_candidates,
    held_out_by_accuracy,
    held_out_by_matrices,
    predicts_better,
)
from manyhot.core.dirichlet_priors import RaterPrior
from manyhot.core.expectation_maximisation import Fit, Patterns, check_fitting, maximise
from manyhot.errors import InputError, and_more
from manyhot.parameters import check_one_of
from manyhot.registry import register

SMALLEST = 0.005
"""A class that no rater chose is listed if its probability is at least this."""

MOST_CELLS = 5_000_000
"""Number of cells of raters' matrices up to which each rater has a matrix."""

MOST_POSTERIORS = 100_000_000
"""Number of probabilities, images times classes, up to which each rater has a matrix."""

MATRICES = ("auto", "each", "pooled")

_RIGHT, _WRONG = 4.0, 1.0
"""Choices in each row of the pooled matrix before any vote: of the correct class, and of all others."""


_ADDED = 1.0
"""Number of images per class that are added to those expected."""


@dataclass(frozen=True)
class Choices:
    """The classes that R raters chose for N images. A choice is one of K classes.

    Parameters
    ----------
    image, rater, chosen : ndarray of int, shape (m,)
        The image, the rater and the chosen class of each of m votes. Votes are sorted by image, class and
        rater, so that sums do not depend on their order.
    n_images, n_raters, n_classes : int
        N, R and K. Images without votes and raters without votes are allowed.
    are_raters_known : bool
        False if votes are only numbered within each image, so that their raters are unknown.

    Raises
    ------
    InputError
        If the arrays differ in length or contain values out of range, or if a rater chooses two classes for
        an image.
    """

    image: Ints
    rater: Ints
    chosen: Ints
    n_images: int
    n_raters: int
    n_classes: int
    are_raters_known: bool = True

    def __post_init__(self) -> None:
        sizes = [len(self.image), len(self.rater), len(self.chosen)]
        if len(set(sizes)) > 1:
            raise InputError(
                "The arrays of votes differ in length.",
                got=f"{sizes[0]:,} images, {sizes[1]:,} raters and {sizes[2]:,} classes",
                allowed="three arrays of the same length",
            )
        check_numbers("image", self.image, self.n_images)
        check_numbers("rater", self.rater, self.n_raters)
        check_numbers("class", self.chosen, self.n_classes)
        cells = self._cells((self.n_raters, self.rater))
        cells.sort(kind="stable")  # a tenth of the time where votes are sorted by image, as they mostly are
        twice = np.flatnonzero(cells[1:] == cells[:-1])
        if len(twice):
            image, rater = divmod(int(cells[twice[0]]), self.n_raters)
            raise InputError(
                "A rater chose more than one class for an image.",
                got=f"rater {rater}, image {image}{and_more(len(twice) - 1)}",
                allowed="one class per rater and image",
            )
        del cells
        self._sort()

    def _cells(self, *digits: tuple[int, Ints]) -> Ints64:
        """Return numbers of which the image is the first digit, followed by others with their bases."""
        cells = self.image.astype(np.int64)
        for base, digit in digits:  # in place, as there may be many votes
            cells *= base
            cells += digit
        return cells

    def _sort(self) -> None:
        cells = self._cells((self.n_classes, self.chosen), (self.n_raters, self.rater))
        if (cells[1:] < cells[:-1]).any():
            order = np.argsort(cells, kind="stable")
            for name in ("image", "rater", "chosen"):
                object.__setattr__(self, name, getattr(self, name)[order])

    def __len__(self) -> int:
        return len(self.chosen)

    def n_votes(self) -> Ints64:
        """Return the number of votes on each image, shape (N,)."""
        return count_sorted(self.image, self.n_images)

    def candidates(self) -> Candidates:
        """Return the classes that raters chose for each image."""
        return candidates_of(self.image, self.chosen, self.n_images, self.n_classes)


@dataclass(frozen=True)
class ChosenClasses:
    """The result of an aggregator of choices.

    Attributes
    ----------
    image, class_id : ndarray of int, shape (c,)
        Images and classes, sorted: every class that a rater chose, and other classes with a probability of at
        least `SMALLEST`.
    p : ndarray of float64, shape (c,)
        Probability that the class is the correct one.
    method : str
        The method that was used; for `auto`, the method that it chose.
    accuracy : ndarray of float64, shape (R,), optional
        Probability that each rater chooses the correct class.
    matrices : ndarray of float64, shape (R, K, K), optional
        Probability of each choice of each rater, given the correct class.
    prior : ndarray of float64, shape (K,), optional
        Probability of each class.
    held_out : ndarray of float64, shape (N,), optional
        If `auto` compared models, the log-likelihood of the votes on each image under the model fitted
        without the image.
    weights : dict of str to float, optional
        1 for the method that `auto` chose, and 0 for the other methods.
    """

    image: Ints64
    class_id: Ints64
    p: Floats
    method: str
    accuracy: Floats | None = None
    matrices: Floats | None = None
    prior: Floats | None = None
    iterations: int = 0
    converged: bool = True
    log_likelihood: float = float("nan")
    held_out: Floats | None = None
    weights: dict[str, float] | None = None


@register("choice-aggregator", "majority", threshold=1.0, unclear_from=1e-9)
def choice_majority(
    choices: Choices, history: History | None = None, start: History | None = None
) -> ChosenClasses:
    """Majority vote: 1 for the class that most raters chose. Tied classes share the 1 equally."""
    of = choices.candidates()
    most = np.zeros(choices.n_images)
    np.maximum.at(most, of.image, of.n)
    best = of.n == most[of.image]
    n_best = np.bincount(of.image, best, choices.n_images)
    return ChosenClasses(of.image, of.class_id, best / n_best[of.image], "majority")


@register("choice-aggregator", "vote-share", threshold=0.5)
def vote_share(
    choices: Choices, history: History | None = None, start: History | None = None
) -> ChosenClasses:
    """Share of an image's votes for each class."""
    of = choices.candidates()
    return ChosenClasses(of.image, of.class_id, of.n / choices.n_votes()[of.image], "vote-share")


@register("choice-aggregator", "one-coin", threshold=0.8, history=True)
def choice_one_coin(
    choices: Choices,
    history: History | None = None,
    start: History | None = None,
    *,
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> ChosenClasses:
    """One-coin model: each rater has one probability of being right, and otherwise chooses any other class.

    Raises
    ------
    InputError
        As in `choice_dawid_skene`.

    References
    ----------
    Zhang et al. 2016, arXiv 1406.3824, section 2: the one-coin model.
    """
    _check_options(choices, smoothing, iterations, "one-coin")
    fitting = _Fitting(history, start, smoothing, iterations, tolerance)
    return _of_candidates(choices, choices.candidates(), fitting, pooled=False)


@register("choice-aggregator", "dawid-skene", threshold=0.8, history=True)
def choice_dawid_skene(
    choices: Choices,
    history: History | None = None,
    start: History | None = None,
    *,
    matrices: str = "auto",
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> ChosenClasses:
    """Dawid-Skene: correct classes and raters' confusion matrices, estimated by expectation maximisation.

    Parameters
    ----------
    matrices : {"auto", "each", "pooled"}
        ``each``: each rater has a matrix of K × K cells. ``pooled``: each rater has an accuracy, and wrong
        choices have the same distribution for all raters. ``auto``: ``each`` if the matrices have at most
        `MOST_CELLS` cells and the images at most `MOST_POSTERIORS` probabilities.
    smoothing : float, optional
        Number of pseudo-choices, distributed like the choices of all raters, that are added for each rater
        (with ``each``, for each rater and class). By default, the number is estimated from how much raters
        differ. With 0, the algorithm is the original one by Dawid and Skene, in which a choice that a rater
        never made has probability 0.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Iterations stop when an iteration changes the log-likelihood by at most this much per vote.

    Raises
    ------
    InputError
        If an option is out of range, if there are no votes, or if it is unknown who gave the votes.

    References
    ----------
    Dawid & Skene 1979, doi 10.2307/2346806. Deviations are the prior and the pooled matrix.
    """
    check_one_of(matrices, MATRICES, "There are no such matrices.")
    _check_options(choices, smoothing, iterations, "dawid-skene")
    fitting = _Fitting(history, start, smoothing, iterations, tolerance)
    if matrices == "each" or (matrices == "auto" and _has_matrices(choices)):
        return _of_matrices(choices, fitting)
    return _of_candidates(choices, choices.candidates(), fitting, pooled=True)


@register("choice-aggregator", "auto", threshold=0.8, history=True)
def choice_auto(
    choices: Choices,
    history: History | None = None,
    start: History | None = None,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> ChosenClasses:
    """dawid-skene if it predicts choices better than one-coin, else one-coin; vote-share for unknown raters.

    The choices on an image are predicted as if the model had been fitted without the image. These predictions
    are computed in closed form from a single fit to all images (`manyhot.core.choice_candidates`).
    dawid-skene is better if its log-likelihood is higher by more than the standard error of the difference
    over images. The result does not depend on names or on the order of votes.

    Raises
    ------
    InputError
        As in `choice_dawid_skene`.
    """
    if not choices.are_raters_known:
        return vote_share(choices)
    _check_options(choices, None, iterations, "auto")
    fitting = _Fitting(history, start, None, iterations, tolerance, compare=True)
    # The fit with matrices needs most memory and comes first, before there is any other result.
    matrices = _of_matrices(choices, fitting) if _has_matrices(choices) else None
    of = choices.candidates()
    if matrices is None:
        matrices = _of_candidates(choices, of, fitting, pooled=True)
    coin = _of_candidates(choices, of, fitting, pooled=False)
    assert matrices.held_out is not None
    assert coin.held_out is not None
    best = predicts_better(matrices.held_out, coin.held_out)
    weights = {"dawid-skene": float(best), "one-coin": float(not best)}
    return replace(matrices if best else coin, weights=weights)


def expected_choices(choices: Choices, result: ChosenClasses) -> History:
    """Return the expected number of times that each rater chose each class, given each correct class."""
    starts, k = np.searchsorted(result.image, np.arange(choices.n_images + 1)), choices.n_classes
    parts = []
    for _, block in vote_blocks(choices.n_votes()):
        image, rater, chosen = choices.image[block], choices.rater[block], choices.chosen[block]
        n = np.diff(starts)[image]
        vote = np.repeat(np.arange(len(image)), n)
        at = np.arange(len(vote)) + np.repeat(starts[image] - np.cumsum(n) + n, n)
        cells = (rater[vote].astype(np.int64) * k + result.class_id[at]) * k + chosen[vote]
        parts.append(_sums(cells, result.p[at]))
    cells, n_expected = _sums(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    of_raters, chosen = np.divmod(cells, k)
    return History(*np.divmod(of_raters, k), chosen, n_expected)


def _sums(cells: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Return the distinct cells, and the sum of the values of each."""
    unique, number = np.unique(cells, return_inverse=True)
    return unique, np.bincount(number, values, len(unique)).astype(np.float64)


@dataclass(frozen=True)
class _Fitting:
    """How a model is fitted: the arguments of the aggregators, and whether choices are predicted."""

    history: History | None
    start: History | None
    smoothing: float | None
    iterations: int
    tolerance: float
    compare: bool = False


def _has_matrices(choices: Choices) -> bool:
    """Return whether each rater has a matrix by default."""
    n_cells = choices.n_raters * choices.n_classes**2
    return n_cells <= MOST_CELLS and choices.n_images * choices.n_classes <= MOST_POSTERIORS


def _of_matrices(choices: Choices, fitting: _Fitting) -> ChosenClasses:
    """Return the result of Dawid-Skene with one matrix per rater."""
    n, k, smoothing = choices.n_raters, choices.n_classes, fitting.smoothing
    before = 0.0 if fitting.history is None else fitting.history.matrices(n, k)

    def with_earlier(counts: Floats) -> Floats:
        return np.asarray(counts.reshape(n, k, k).transpose(0, 2, 1) + before)

    first = fitting.start or fitting.history
    symbol = np.multiply(choices.rater, k, dtype=np.int32)
    symbol += choices.chosen
    fit = maximise(
        Patterns.of(choices.image, symbol, choices.n_images, n * k),
        _vote_counts(choices) if first is None else _earlier_fit(first.matrices(n, k), smoothing),
        lambda counts: _matrices(with_earlier(counts), smoothing),
        added=_ADDED * (smoothing != 0),
        iterations=fitting.iterations,
        tolerance=fitting.tolerance,
        accelerate=smoothing is None,
    )
    found = _listed(choices, fit)
    if not fitting.compare:
        return found
    counts = with_earlier(fit.counts)
    votes = (choices.image, choices.rater, choices.chosen)
    shares = fit.prior * (np.count_nonzero(choices.n_votes()) + k * _ADDED)
    held_out = held_out_by_matrices(votes, fit.posterior, shares, counts, _pooled(counts))
    return replace(found, held_out=held_out)


def _pooled(counts: Floats) -> Floats:
    """Return the choices of all raters, shape (K, K), with those of the prior."""
    k = counts.shape[1]
    pooled = counts.sum(0) + _WRONG / max(k - 1, 1)
    pooled[np.diag_indices(k)] += _RIGHT - _WRONG / max(k - 1, 1)
    return np.asarray(pooled)


def _matrices(counts: Floats, smoothing: float | None) -> Floats:
    """Return matrices (R, K, K) from expected numbers of choices."""
    pooled = _pooled(counts)
    pooled /= pooled.sum(1, keepdims=True)
    if smoothing is None:
        return RaterPrior.of(counts, pooled).matrices(counts)
    return with_added(counts, smoothing * pooled)


def _vote_counts(choices: Choices) -> Ints:
    """Return the number of votes for each class, shape (N, K), as the shortest integers that hold it."""
    k, n_votes = choices.n_classes, choices.n_votes()
    counts = np.empty((choices.n_images, k), np.min_scalar_type(int(n_votes.max())))
    for images, votes in vote_blocks(n_votes):
        cells = (choices.image[votes].astype(np.int64) - images.start) * k + choices.chosen[votes]
        counts[images] = np.bincount(cells, minlength=(images.stop - images.start) * k).reshape(-1, k)
    return counts


def _earlier_fit(counts: Floats, smoothing: float | None) -> tuple[Floats, Floats]:
    """Return the matrices and the prior of an earlier fit from the expected choices of its raters."""
    shares = counts.sum((0, 2)) + _ADDED
    return _matrices(counts, smoothing), shares / shares.sum()


def _listed(choices: Choices, fit: Fit) -> ChosenClasses:
    """Return the result with the classes that were chosen, and other likely ones."""
    n_votes = choices.n_votes()
    listed = np.empty((choices.n_images, choices.n_classes), bool)
    listed[:] = fit.posterior.T >= SMALLEST
    for _, votes in vote_blocks(n_votes):
        listed[choices.image[votes], choices.chosen[votes]] = True
    listed[n_votes == 0] = False
    image, class_id = np.divmod(np.flatnonzero(listed), choices.n_classes)
    right = np.einsum("rkk,k->r", fit.matrices, fit.prior)
    return ChosenClasses(
        image,
        class_id,
        fit.posterior[class_id, image],
        "dawid-skene",
        right,
        fit.matrices,
        fit.prior,
        fit.iterations,
        fit.converged,
        fit.log_likelihood,
    )


def _of_candidates(choices: Choices, of: Candidates, fitting: _Fitting, *, pooled: bool) -> ChosenClasses:
    """Return the result of a model with one accuracy per rater."""
    n, history, first = choices.n_raters, fitting.history, fitting.start or fitting.history
    fit = fit_candidates(
        of,
        choices.rater,
        before=np.zeros((n, 2)) if history is None else history.right_wrong(n),
        first=None if first is None else first.right_wrong(n),
        smoothing=fitting.smoothing,
        iterations=fitting.iterations,
        tolerance=fitting.tolerance,
        pooled=pooled,
    )
    return ChosenClasses(
        of.image,
        of.class_id,
        fit.p,
        "dawid-skene" if pooled else "one-coin",
        fit.accuracy,
        None,
        fit.prior,
        fit.iterations,
        fit.converged,
        fit.log_likelihood,
        held_out_by_accuracy(of, choices.rater, fit) if fitting.compare else None,
    )


def _check_options(choices: Choices, smoothing: float | None, iterations: int, method: str) -> None:
    if not len(choices):
        raise InputError("There are no votes.")
    if not choices.are_raters_known:
        raise InputError(
            f"{method} estimates the quality of each rater, but the raters of these votes are unknown.",
            got="counts of votes, or votes without raters",
            do="use vote-share or majority, or pass votes with their raters",
        )
    check_fitting(smoothing, iterations)
