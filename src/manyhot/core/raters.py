"""Quality of individual raters: on golden questions, against other raters, in pairs, and their speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy import typing as npt
from scipy.sparse import csr_array
from scipy.special import stdtrit

from manyhot.core.agreement import VoteMeasure
from manyhot.core.answers import N_ANSWERS, YES, Answers, GoldenAnswers
from manyhot.core.array_types import Bools, Floats, Ints, Ints8, Ints64
from manyhot.core.jackknife import resampled_interval
from manyhot.core.resampling import LEVEL, draw_counts
from manyhot.core.share_intervals import clustered_interval, totals, wilson_interval

SPAMMER, FEWEST_GOLDEN = 0.2, 10
"""Maximum informedness of a spammer, and minimum number of answers under each truth to judge a rater."""

TOO_FAST, FEWEST_PAGES = 1 / 3, 10
"""Maximum time of a rater who is too fast, as a share of the median rater's, and minimum number of pages."""


@dataclass(frozen=True)
class Quality:
    """Raters' answers against a truth.

    Attributes
    ----------
    counts : ndarray of int64, shape (R, 2, 3)
        Number of times that each rater gave each answer when the truth is no, and when the truth is yes.
    rater, image : ndarray of int64, shape (P,)
        The rater and the image of each part. A part contains the answers of one rater about one image.
        Questions about the same image are correlated, so intervals are computed over images.
    parts : ndarray of int64, shape (P, 2, 3)
        The same as `counts`, for each part.
    """

    counts: Ints64
    rater: Ints64
    image: Ints64
    parts: Ints64

    @classmethod
    def of(cls, rater: Ints, image: Ints, truth: Bools, answer: Ints8, n_raters: int) -> Quality:
        """Return the counts of answers, from arrays of shape (m,)."""
        n_images = int(image.max(initial=0)) + 1
        keys, part = np.unique(rater.astype(np.int64) * n_images + image, return_inverse=True)
        cell = truth * N_ANSWERS + answer
        size = 2 * N_ANSWERS
        parts = np.bincount(part * size + cell, minlength=len(keys) * size).reshape(-1, 2, N_ANSWERS)
        counts = np.bincount(rater.astype(np.int64) * size + cell, minlength=n_raters * size)
        return cls(counts.reshape(-1, 2, N_ANSWERS), *np.divmod(keys, n_images), parts)

    @property
    def n(self) -> Ints64:
        """Number of each rater's answers, shape (R,)."""
        return np.asarray(self.counts.sum((1, 2)))

    @property
    def n_yes(self) -> Ints64:
        """Number of each rater's answers to questions whose true answer is yes, shape (R,)."""
        return np.asarray(self.counts[:, 1].sum(1))

    @property
    def accuracy(self) -> Floats:
        """The share of correct answers. If most truths are no, always answering no gives a high share."""
        return _share(self.counts[:, 1, YES] + self.counts[:, 0, :YES].sum(1), self.n)

    @property
    def sensitivity(self) -> Floats:
        """The share of yes answers when the truth is yes."""
        return _share(self.counts[:, 1, YES], self.n_yes)

    @property
    def specificity(self) -> Floats:
        """The share of no and maybe answers when the truth is no."""
        return _share(self.counts[:, 0, :YES].sum(1), self.n - self.n_yes)

    def share(self, truths: Sequence[int]) -> tuple[Floats, Floats, Floats]:
        """Return the share of correct answers to questions whose truth is in `truths`, and its 95 % interval.

        `truths` contains 0 for specificity, 1 for sensitivity, and both for accuracy. The arrays have shape
        (R,). The interval is computed by `manyhot.core.share_intervals.clustered_interval`.
        """
        right = np.stack([self.parts[:, 0, :YES].sum(1), self.parts[:, 1, YES]], 1)[:, truths].sum(1)
        total = totals(self.rater, len(self.counts))
        n = self.parts[:, truths].sum((1, 2))
        return _share(total(right), total(n)), *clustered_interval(right, n, total)

    def informedness(self) -> tuple[Floats, Floats, Floats]:
        """Return the informedness of each rater, and its 95 % interval, each of shape (R,).

        Informedness is the probability that an answer to a question with the truth yes is higher than an
        answer to a question with the truth no, minus the probability that it is lower. This equals 2 AUROC -
        1 of the ordered answers. Without maybe answers, it is sensitivity + specificity - 1. It is 0 for
        guessing and 1 for a perfect rater.

        References
        ----------
        Somers 1962, doi 10.2307/2090408. The interval of Obuchowski 1997, doi 10.2307/2533958, extends DeLong
        et al. 1988 to clustered data. Here, the clusters are images. The interval uses Student's t with n - 1
        degrees of freedom, where n is the number of images with the truth yes or the number with the truth
        no, whichever is smaller.

        The width of this interval is 0 if all answers under each truth are the same, like those of a perfect
        rater. In this case, Wilson's intervals of both shares, over images, are combined: the half-width is
        the root of the sum of their squared lengths, as in
        `manyhot.core.share_intervals.difference_interval`.
        """
        shares = _share(self.counts, self.counts.sum(2, keepdims=True))
        above, below = _net_share_below(shares[:, 0]), -_net_share_below(shares[:, 1])
        value = informedness_of(shares)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance, images = self._variance(above - value[:, None], below - value[:, None])
        return value, *_informedness_ends(value, variance, images)

    def _variance(self, above: Floats, below: Floats) -> tuple[Floats, Ints64]:
        """Return the variance of informedness from centred components of answers, and the images by truth."""
        n_yes = self.n_yes
        of_yes = (self.parts[:, 1] * above[self.rater]).sum(1) / n_yes[self.rater]
        of_no = (self.parts[:, 0] * below[self.rater]).sum(1) / (self.n - n_yes)[self.rater]
        has_no, has_yes = (self.parts.sum(2) > 0).T
        variance = np.zeros(len(self.counts))
        of = [np.bincount(self.rater[there], minlength=len(variance)) for there in (has_no, has_yes)]
        for one, other, there in (
            (of_yes, of_yes, has_yes),
            (of_no, of_no, has_no),
            (2 * of_yes, of_no, has_yes | has_no),
        ):
            images = np.bincount(self.rater[there], minlength=len(variance))
            variance += np.bincount(self.rater, one * other, len(variance)) * images / (images - 1)
        return np.maximum(variance, 0), np.stack(of)

    def spammers(self) -> Bools:
        """Return the raters with uninformative answers, whose interval of informedness is below `SPAMMER`.

        Raters with fewer than `FEWEST_GOLDEN` answers under either truth are not assessed.
        """
        return _is_spammer(np.minimum(self.n_yes, self.n - self.n_yes), self.informedness()[2])


def _informedness_ends(value: Floats, variance: Floats, images: Ints64) -> tuple[Floats, Floats]:
    """Return the ends of the interval of informedness, as in `Quality.informedness`, each of shape (R,).

    Parameters
    ----------
    images : ndarray of int64, shape (2, R)
        Number of images with either truth.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        half = stdtrit(np.maximum(images.min(0) - 1, 0), (1 + LEVEL) / 2) * np.sqrt(variance)
        # Variances that should be 0 are 1e-33 after rounding.
        half = np.where(variance > 1e-12, half, np.hypot(*(1 - wilson_interval(images, images)[0])))
    return np.maximum(value - half, -1), np.minimum(value + half, 1)


def _is_spammer(fewest: Ints64, hi: Floats) -> Bools:
    with np.errstate(invalid="ignore"):
        spammers: Bools = (fewest >= FEWEST_GOLDEN) & (hi < SPAMMER)
    return spammers


@dataclass(frozen=True)
class ChoiceQuality:
    """The classes that raters chose, against the class that most of the other raters chose.

    Attributes
    ----------
    rater, truth, chosen : ndarray of int, shape (m,)
        The rater, the class that more than half of the other raters of the image chose, and the rater's own.
    n_raters : int
    """

    rater: Ints
    truth: Ints
    chosen: Ints
    n_raters: int

    def informedness(self) -> tuple[Floats, Floats, Floats]:
        """Return the informedness of each rater, and its 95 % interval, each of shape (R,).

        The informedness of a class is sensitivity + specificity - 1. All images with another truth count for
        specificity. The mean over classes is weighted by their numbers of images. It is 0 on average for
        guessing, 0 for always choosing the same class, and 1 for a perfect rater. It is undefined if there is
        only one truth.

        The variance over images is that of the influence function. The ends are otherwise those of
        `Quality.informedness`; the two truths are the most frequent class, and all other classes.
        """
        k = np.int64(max(self.truth.max(initial=0), self.chosen.max(initial=0)) + 1)
        cells = self.rater * k + np.stack([self.truth, self.chosen])
        unique, cell = np.unique(cells, return_inverse=True)
        (of_truth, of_chosen), by = cell.reshape(cells.shape), unique // k
        wrong = self.truth != self.chosen
        n = np.bincount(self.rater, minlength=self.n_raters)
        alike = np.bincount(of_truth, minlength=len(unique))
        others, false = n[by] - alike, np.bincount(of_chosen[wrong], minlength=len(unique))
        with np.errstate(invalid="ignore", divide="ignore"):
            score = np.where(wrong, -(alike / others)[of_chosen], 1)
            influence = score - (false * n[by] / others**2)[of_truth]
            value, mean = (_share(np.bincount(self.rater, v, len(n)), n) for v in (score, influence))
            variance = np.bincount(self.rater, (influence - mean[self.rater]) ** 2, len(n)) / (n - 1) / n
        images = self._images()
        value = np.where(images.min(0) > 0, value, np.nan)
        return value, *_informedness_ends(value, variance, images)

    def _images(self) -> Ints64:
        """Return the images of each rater's most frequent truth, and of all other truths, shape (2, R)."""
        (rater, _), n = np.unique(np.stack([self.rater, self.truth]), axis=1, return_counts=True)
        most = np.zeros(self.n_raters, np.int64)
        np.maximum.at(most, rater, n)
        return np.stack([most, np.bincount(self.rater, minlength=self.n_raters) - most])

    def spammers(self) -> Bools:
        """Return the raters with uninformative choices, whose interval of informedness is below `SPAMMER`.

        Raters with fewer than `FEWEST_GOLDEN` images of the most frequent truth, or of all other truths, are
        not assessed.
        """
        return _is_spammer(self._images().min(0), self.informedness()[2])


def golden_quality(golden: GoldenAnswers) -> Quality:
    """Return raters' quality on golden questions."""
    answers = golden.answers
    truth, image = golden.truth()[answers.question], golden.images[answers.question]
    return Quality.of(answers.rater, image, truth, answers.answer, answers.n_raters)


def beside_main_partner(answers: Answers) -> Bools:
    """Return the votes beside which the only other vote is that of the rater's main partner, shape (m,).

    The main partner of a rater is the one who most often gave the only other answer to a question.
    """
    n_votes = np.bincount(answers.question, minlength=answers.n_questions)
    votes = np.flatnonzero(n_votes[answers.question] == 2)
    votes = votes[np.argsort(answers.question[votes], kind="stable")]
    partner = answers.rater[votes.reshape(-1, 2)[:, ::-1].ravel()]
    pairs, pair, n = np.unique(
        answers.rater[votes].astype(np.int64) * answers.n_raters + partner,
        return_inverse=True,
        return_counts=True,
    )
    main = np.zeros(answers.n_raters, np.int64)
    order = np.argsort(n, kind="stable")
    main[(pairs // answers.n_raters)[order]] = order  # the last one counts: the most frequent
    found = np.zeros(len(answers.answer), bool)
    found[votes] = main[answers.rater[votes]] == pair
    return found


def peer_quality(
    answers: Answers, image: Ints | None = None, *, without: Bools | Literal[False] = False
) -> Quality:
    """Return each rater's quality, with the majority of the other raters as the truth. Ties are left out.

    A maybe counts as a no when the majority is determined, but is between no and yes as a rater's own answer.

    Parameters
    ----------
    image : ndarray of int, shape (Q,), optional
        The image of each question; by default, each question has its own image.
    without : ndarray of bool, shape (m,), optional
        Votes that are not compared with those of others.
    """
    counts = answers.counts()
    yes = counts[answers.question, YES] - (answers.answer == YES)
    others = counts.sum(1)[answers.question] - 1
    decided = (2 * yes != others) & ~np.asarray(without)
    question = answers.question[decided]
    return Quality.of(
        answers.rater[decided],
        question if image is None else image[question],
        (2 * yes > others)[decided],
        answers.answer[decided],
        answers.n_raters,
    )


def choice_quality(
    answers: Answers, image: Ints, class_id: Ints, *, without: Bools | Literal[False] = False
) -> ChoiceQuality:
    """Return each rater's quality in choices, which are passed as answers about each image's chosen classes.

    Images on which at most half of the other raters chose the same class are left out.

    Parameters
    ----------
    image, class_id : ndarray of int, shape (Q,)
        The image and the class of each question.
    without : ndarray of bool, shape (m,), optional
        As in `peer_quality`.
    """
    counts, own = answers.counts(), answers.answer == YES
    yes = counts[answers.question, YES] - own
    most = (2 * yes > counts.sum(1)[answers.question] - 1) & ~np.asarray(without)
    sheet = answers.rater * np.int64(image.max(initial=0) + 1) + image[answers.question]
    order = np.argsort(sheet[own])
    at = order[np.searchsorted(sheet[own], sheet[most], sorter=order)]
    classes = class_id[answers.question]
    return ChoiceQuality(answers.rater[most], classes[most], classes[own][at], answers.n_raters)


def golden_measures(golden: GoldenAnswers, *, resamples: int, rng: np.random.Generator) -> list[VoteMeasure]:
    """Return raters' mean accuracy, sensitivity and specificity on golden questions, and the accuracy of no.

    Parameters
    ----------
    resamples : int
        Number of resamples; 0 for no intervals.

    Notes
    -----
    Raters and images are resampled independently, because both are samples: different raters or golden images
    would give different means (Owen 2007, The pigeonhole bootstrap, doi 10.1214/07-AOAS122). The interval
    uses Student's t. Its degrees of freedom are the number of raters or of images, whichever is smaller,
    minus one. With six raters, percentile intervals contain the expected value in only 83 to 86 % of cases.
    """
    quality, truth = golden_quality(golden), golden.truth()
    names, image = np.unique(golden.images, return_inverse=True)
    of_images = _drawn(len(names), resamples, rng)
    raters = np.flatnonzero(quality.n)
    of_raters = _drawn(len(raters), resamples, rng)
    shown = np.searchsorted(names, quality.image)
    right = np.stack([quality.parts[:, 0, :YES].sum(1), quality.parts[:, 1, YES]], 1)
    measures = []
    for name, values, truths in (
        ("accuracy", quality.accuracy, [0, 1]),
        ("sensitivity", quality.sensitivity, [1]),
        ("specificity", quality.specificity, [0]),
    ):
        sums = (
            csr_array((s, (quality.rater, shown)), shape=(len(values), len(names)))[raters] @ of_images.T
            for s in (right[:, truths].sum(1), quality.parts[:, truths].sum((1, 2)))
        )
        defined = values[~np.isnan(values)]
        mean = float(defined.mean()) if len(defined) else float("nan")
        n = len(defined)
        drawn = _mean_of_drawn(_share(*sums), of_raters.T)
        lo, hi = resampled_interval(mean, drawn, n=min(n, len(names)))
        measures.append(VoteMeasure(f"golden_{name}", mean, lo, hi, n, len(values) - n))
    no, all_ = (of_images @ np.bincount(image[rows], minlength=len(names)) for rows in (~truth, truth | True))
    value = always_no(golden)
    lo, hi = resampled_interval(value, _share(no, all_), n=len(names))
    return [*measures, VoteMeasure("always_no", value, lo, hi, len(golden), 0)]


def _drawn(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    return draw_counts(n, resamples, rng).astype(np.float64) if n else np.zeros((resamples, 0))


def _mean_of_drawn(values: Floats, times: Floats) -> Floats:
    """Return the mean of values, shape (R, B), over raters with these counts, ignoring NaN."""
    defined = ~np.isnan(values)
    return _share((np.where(defined, values, 0) * times).sum(0), (defined * times).sum(0))


def informedness_of(quality: Floats) -> Floats:
    """Return how well answers separate the two truths, shape (R,); see `Quality.informedness`.

    Parameters
    ----------
    quality : ndarray of float64, shape (R, 2, 3)
        Probability of each answer of a rater if the truth is no, and if the truth is yes.
    """
    return np.asarray((_net_share_below(quality[:, 0]) * quality[:, 1]).sum(1))


def _net_share_below(shares: Floats) -> Floats:
    """Return, for each answer, the share of answers below it minus the share above, shape (R, 3)."""
    up_to = np.cumsum(shares, 1)
    return up_to - shares - (up_to[:, -1:] - up_to)


def agreement_with_others(
    answers: Answers, image: Ints | None = None, *, choices: bool = False
) -> tuple[tuple[Floats, Floats, Floats], Ints64]:
    """Return the share of other raters' answers that equal a rater's own, and the number of those answers.

    The share has a 95 % interval over images, as in `Quality.share`. `image` is the image of each question.
    By default, each question has its own image. The number includes all answers of other raters to the
    questions that the rater answered. With `choices`, where a yes is the class that a rater chose for an
    image, only the rater's answers yes are compared. All arrays have shape (R,).
    """
    own = answers.answer == YES if choices else np.ones(len(answers), bool)
    counts, question = answers.counts(), answers.question[own]
    of = question if image is None else image[question]
    alike = counts[question, answers.answer[own]] - 1
    others = counts.sum(1)[question] - 1
    n_images = int(of.max(initial=0)) + 1
    keys, part = np.unique(answers.rater[own].astype(np.int64) * n_images + of, return_inverse=True)
    num, den = (np.bincount(part, values, len(keys)) for values in (alike, others))
    total = totals(keys // n_images, answers.n_raters)
    k, n = total(num), total(den)
    return (_share(k, n), *clustered_interval(num, den, total)), n.astype(np.int64)


def too_fast(seconds: Floats, pages: Ints64) -> Bools:
    """Return the raters with at least `FEWEST_PAGES` pages who took less than `TOO_FAST` of the median time.

    Parameters
    ----------
    seconds : ndarray of float64, shape (R,)
        Median time that each rater took per answer; NaN if unknown.
    pages : ndarray of int64, shape (R,)
    """
    measured = seconds[~np.isnan(seconds)]
    if not len(measured):
        return np.zeros(len(seconds), bool)
    with np.errstate(invalid="ignore"):
        fast: Bools = (seconds < TOO_FAST * np.median(measured)) & (pages >= FEWEST_PAGES)
    return fast


def always_no(golden: GoldenAnswers) -> float:
    """Return the accuracy of always answering no to golden questions; NaN if there are none."""
    return float(1 - golden.truth().mean()) if len(golden) else float("nan")


def _share(k: npt.ArrayLike, n: npt.ArrayLike) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Floats = np.asarray(k, np.float64) / np.asarray(n)
    return share
