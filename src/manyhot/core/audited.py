"""Values of models on label sets if people answered only for a random sample: prediction-powered inference.

Models propose a label set for each of N images, and people answer a sample S of n images, drawn with known
probabilities (`manyhot.core.audit_samples`). Image i has a value y_i under people's label set and f_i under
the proposed one, such as whether a model's top class is in the set. With weights w_i = 1 / probability,
divided by their sum, the mean of y over all images is estimated as

    λ mean(f) + sum_S w_i (y_i - λ f_i).

λ = 0 is the weighted mean of the audited images (Hájek's estimator), which uses no proposals. λ = 1 is the
difference estimator (Cassel, Särndal and Wretman 1976, doi 10.1093/biomet/63.3.615), which is known as
prediction-powered inference (Angelopoulos et al. 2023, doi 10.1126/science.adi6000). The λ with the smallest
estimated variance is power tuning (PPI++, Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453): the worse
the proposals are, the closer it is to 0. All of these estimates are unbiased, whatever the proposals are, as
long as no audited image was used to make them. Proposals that are fitted to people's answers must be
cross-fitted (`manyhot.core.audit_cross_fitting`).

Every metric is brought into this form by linearisation: its values y and f are what an image contributes to
it, to first order (Deville 1999, Survey Methodology 25, 193-203). The variance is that of the design, and no
model of the images is assumed:

    V = sum_h n_h / (n_h - 1) sum_{i in S_h} (1 - p_i) (e_i - mean(e))**2,    e_i = w_i (r_i - mean(r))

with the residuals r = y - λ f, their weighted mean, the strata h (one without strata), the probabilities p,
and the mean of e weighted by 1 - p (Hájek 1964, doi 10.1214/aoms/1177700375). With equal probabilities it is
the textbook's (1 - n / N) s² / n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.audit_samples import AuditSample
from manyhot.core.audit_strata import calibrated_ratios, has_pairs, subtract_products
from manyhot.core.estimates import Cells, Ratio
from manyhot.core.jackknife import LIMITS, Scale, symmetric_ends
from manyhot.core.resampling import LEVEL
from manyhot.errors import InputError

Power = float | Literal["tuned"]

FEWEST_EFFECTIVE = 10
"""Minimum effective number of audited images for an interval; see `AuditedEstimate.effective`."""

FEWEST_LEFT = 10
"""Minimum number of images that are not audited. With fewer, their mean is not approximately normal: with
one, 84 % of the intervals contain the value."""

FEWEST_PER_STRATUM = 30
"""Minimum number of audited images in each stratum for expanding a mean over strata at people's answers."""

_ROUNDING = 1e-9
"""With a smaller standard error, all residuals are equal except for rounding."""

TOO_FEW_IMAGES = f"the variance comes from fewer than {FEWEST_EFFECTIVE} audited images"
TOO_FEW_IN_GROUP = f"one of the averaged groups has fewer than {FEWEST_EFFECTIVE} audited images"
TOO_FEW_LEFT = f"fewer than {FEWEST_LEFT} images are not audited; audit those, too"
TOO_HEAVY = "one more disagreement on an image with a small probability could double the variance"
"""Why a value has no interval."""


@dataclass(frozen=True)
class LinearisedValues:
    """The first-order contributions of the images to M values.

    If people had audited all images, the values would be `base` plus the mean contribution over all images
    under people's label sets.

    Parameters
    ----------
    audited : ndarray of float, shape (n, M)
        Contributions of the audited images under people's label sets.
    proposed : ndarray of float, shape (n, M)
        Contributions of the audited images under the proposed label sets.
    mean : ndarray of float64, shape (M,)
        Mean over all N images of the contributions under the proposed label sets.
    base : ndarray of float64, shape (M,)
        The values at which the metrics were linearised.
    alone : ndarray of float64, shape (M,)
        The values computed from the proposed label sets alone.
    further : ndarray of float64, shape (K, M), optional
        Standard errors due to K causes that are independent of one another and of the sample, such as
        uncertainty about a class. The errors of two values due to the same cause have the same sign if the
        cause changes both values in the same direction.
    is_difference : bool
        Whether the values are differences. For differences, `further` does not affect the degrees of freedom,
        because it is assumed, not estimated. For other values it does, because their bias has the same
        causes.
    """

    audited: AnyFloats
    proposed: AnyFloats
    mean: Floats
    base: Floats
    alone: Floats
    further: Floats | None = None
    is_difference: bool = field(default=False, kw_only=True)

    @property
    def parts(self) -> tuple[AnyFloats, ...]:
        """All arrays, each with the values along the last axis."""
        further = np.zeros((0, len(self.base))) if self.further is None else self.further
        return self.audited, self.proposed, self.mean, self.base, self.alone, further

    def differences(self, first: Ints, second: Ints) -> LinearisedValues:
        """Return the paired differences: values at the places `first`, minus values at `second`, shape (P,).

        If two models have the same top class for an image, their difference in ``real1`` on this image is 0,
        whatever people answer. To compare two models, draw only from the images on which their top classes
        differ, and multiply the values by the share of these images. With ReaL, intervals are then 2.9 times
        narrower than with the same number of images drawn from all images. The share is computed over the
        images with a valid class; if their number is unknown, it is estimated.
        """
        return LinearisedValues(*(x[..., first] - x[..., second] for x in self.parts), is_difference=True)


def linearised_ratios(
    audited: Sequence[Ratio], proposed: Sequence[Ratio], sample: AuditSample
) -> LinearisedValues:
    """Return the contributions to ratios of sums over images, or to means of such ratios over strata.

    Parameters
    ----------
    audited : sequence of M Ratio
        The metric of each model on the audited images under people's label sets, in the order of
        ``sample.images``.
    proposed : sequence of M Ratio
        The metric of each model on all images under the proposed label sets.

    Notes
    -----
    An image with numerator a and denominator b contributes ``(a - R b) / B`` to a ratio, where R is the ratio
    of the weighted sums over the audited images and B is their mean denominator. This is exact if all
    denominators are 1.

    The mean over G strata is expanded in the same way if each stratum has at least `FEWEST_PER_STRATUM`
    audited images, or if the stratum of an image, such as the size of its label set, is determined by
    people's answers. Otherwise, as with the 1,000 classes of ``mla``, it is expanded at the proposed label
    sets. An image of stratum g then contributes ``(a - R_g b) / (G B_g)``. R_g is the ratio over all images
    of the stratum under the proposed label sets. B_g is the sum of their denominators, divided by N and
    multiplied by the ratio of people's and proposed denominators of the audited images. This is exact if the
    denominators do not depend on people's answers. Otherwise, the error is the mean over strata of the
    relative error of B_g times the error of R_g. The mean is undefined on slices whose images depend on
    people's answers.
    """
    cells = Cells.of(np.ones((1, len(sample.design)), bool))
    inside = np.ones((1, len(sample)), bool)
    pairs = zip(audited, proposed, strict=True)
    return side_by_side([linearised_slices(a, f, sample, inside, cells) for a, f in pairs])


def linearised_slices(
    audited: Ratio,
    proposed: Ratio,
    sample: AuditSample,
    inside: Bools,
    cells: Cells,
    *,
    own_centre: bool = False,
) -> LinearisedValues:
    """Return the contributions to one metric of one model on each of S slices, as `linearised_ratios` does.

    Parameters
    ----------
    inside : ndarray of bool, shape (S, n)
        The audited images of each slice. A slice may depend on people's answers, for example on the size of
        the label set.
    cells : Cells
        The same slices, but of all N images. They may depend on the proposed label sets.
    own_centre : bool
        Whether to compute the value as ``R + λ (P - P')``, where P and P' are the ratios under the proposed
        label sets of all images and of the audited images of a slice. If the same images count under people's
        and under proposed label sets, this formula makes no difference to first order. In small slices, it
        reduces the bias if, by chance, a larger or smaller share of the images was audited than elsewhere. It
        also makes the value more precise if people find no valid class on many images. Ratios have no strata.
    """
    check_rows(len(audited.num), len(proposed.num), sample)
    of_audited, of_proposed, rows = audited.strata, proposed.strata, sample.images
    n_strata = 1 + int(max(of_audited.max(initial=0), of_proposed.max(initial=0)))
    every = [cells.sums(proposed, x, n_strata) / len(sample.design) for x in (proposed.num, proposed.den)]
    sums = [
        _audited_sums(of_audited, sample.weights * x, inside, n_strata) for x in (audited.num, audited.den)
    ]
    inside_proposed = cells.member[:, cells.cell[rows]]
    both = audited.scored & proposed.scored[rows]
    few, more = np.zeros(len(inside), bool), np.ones(len(inside))
    if n_strata > 1 and (of_audited == of_proposed[rows])[both].all() and len(sample) < len(sample.design):
        counts = _audited_sums(of_audited, audited.scored, inside, n_strata)
        few = np.where((every[1] > 0) | (counts > 0), counts, np.inf).min(axis=0) < FEWEST_PER_STRATUM
        den = inside_proposed @ (sample.weights * proposed.den[rows])
        is_known = (inside == (inside_proposed > 0)).all(axis=1) & (den > 0)
        more = np.where(is_known, sums[1].sum(axis=0) / np.where(den > 0, den, 1), 0.0)
        weights = sample.weights[:, None] * inside.T
        ratio = calibrated_ratios(audited.num, audited.den, of_audited, weights, _quotients(*every)[0])
        sums = [np.where(few, more * p, a) for a, p in zip(sums, (ratio * every[1], every[1]), strict=True)]
    num, den = sums
    ratio, scale = _quotients(num, den)
    base = _means(ratio, den)
    y = _contributions(audited, of_audited, ratio, scale) * inside.T
    here = Ratio(proposed.num[rows], proposed.den[rows], proposed.scored[rows])
    centre = ratio
    of_proposals = scale
    mean = (scale * (every[0] - ratio * every[1])).sum(axis=0)
    if own_centre:
        weights = sample.weights * inside_proposed
        centre, of_proposals = _quotients(*((weights @ x)[None] for x in (here.num, here.den)))
        mean = (_quotients(*every)[0] - centre)[0]
    f = _contributions(here, of_proposed[rows], centre, of_proposals) * inside_proposed.T
    own = np.where(audited.scored, of_audited, of_proposed[rows])  # of images without a valid class, too
    if few.any() and has_pairs(own):
        filled = (den > 0).sum(axis=0)[few]
        error = (audited.den[:, None] - more[few] * here.den[:, None]) * scale[own][:, few] * filled
        error *= inside.T[:, few]
        y[:, few], shift = subtract_products(
            y[:, few], error, own, sample.weights, n_strata, len(sample.design)
        )
        base[few] += shift
    return LinearisedValues(y, f, mean, base, _means(_quotients(*every)[0], every[1]))


def _quotients(num: Floats, den: Floats) -> tuple[Floats, Floats]:
    """Return num / den, and 1 / (den G) with the number G of denominators above 0; 0 without denominator."""
    filled = den > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(filled, num / den, 0.0), np.where(filled, 1 / (den * filled.sum(axis=0)), 0.0)


def _means(ratio: Floats, den: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(ratio.sum(axis=0) / (den > 0).sum(axis=0))


def _contributions(values: Ratio, stratum: Ints, ratio: Floats, scale: Floats) -> Floats:
    return np.asarray(scale[stratum] * (values.num[:, None] - ratio[stratum] * values.den[:, None]))


@dataclass(frozen=True)
class AuditedEstimate:
    """M values, estimated from the audited images and from the proposed label sets of all images.

    Parameters
    ----------
    value, error : ndarray of float64, shape (M,)
        The estimates and their standard errors.
    df : ndarray of float64, shape (M,)
        Degrees of freedom of the errors: 2 divided by the relative variance of the squared errors.
    power : ndarray of float64, shape (M,)
        The weight λ of the proposed label sets.
    heaviest : ndarray of float64, shape (M,)
        Contribution to the variance of a single image with the smallest probability and the largest residual,
        divided by the variance.
    alone : ndarray of float64, shape (M,)
        The values computed from the proposed label sets alone.
    n_left : int
        Number of images that are not audited; 0 if errors refer to a population with further images.
    checked : bool
        Whether to omit the interval of a value if its effective number of images is too small or a single
        image is too heavy.
    sample_df : ndarray of float64, shape (M,), optional
        Degrees of freedom of the part of the errors that is due to the sample. By default, errors are due to
        the sample alone.
    rater_share : ndarray of float64, shape (M,), optional
        Share of the squared errors that is due to raters; see `manyhot.core.posterior`.
    """

    value: Floats
    error: Floats
    df: Floats
    power: Floats
    heaviest: Floats
    alone: Floats
    n_left: int = 0
    checked: bool = True
    sample_df: Floats | None = None
    rater_share: Floats | None = None

    @property
    def effective(self) -> Floats:
        """The number of images with residuals of equal size that would make the variance equally uncertain.

        If people and proposals disagree on k of n audited images, this number is about k.
        """
        return (self.df if self.sample_df is None else self.sample_df) / 2

    @property
    def without(self) -> Bools:
        """Whether a value has no interval; see `doubts`."""
        return np.array([bool(doubt) for doubt in self.doubts()])

    def doubts(self) -> list[str]:
        """Return the reason why each value has no interval by normal theory; empty if it has one.

        If the audited images with small probabilities happen to agree with the proposals, the variance is
        underestimated. A large effective number of images is therefore not sufficient.
        """
        if 0 < self.n_left < FEWEST_LEFT:
            return [TOO_FEW_LEFT] * len(self.value)
        few = ~(self.effective >= (FEWEST_EFFECTIVE if self.checked else 0))
        heavy = self.checked & ~(self.heaviest <= 1)
        return [TOO_FEW_IMAGES if f else TOO_HEAVY if w else "" for f, w in zip(few, heavy, strict=True)]

    def interval(self, scale: Scale = "plain", *, quantile: float | None = None) -> tuple[Floats, Floats]:
        """Return the ends of the intervals, shape (M,); NaN for values that have no interval (see `without`).

        Parameters
        ----------
        scale : {"logit", "log", "plain"}
            As in `manyhot.core.jackknife.jackknife_ends`. Estimates outside the range of the scale have
            intervals on the plain scale.
        quantile : float, optional
            Half-width in standard errors. By default, a quantile of Student's t. With the value of
            `manyhot.core.audit_sequence.sequence_quantile`, intervals are valid at all sizes of a growing
            sample.
        """
        times = stdtrit(self.df, (1 + LEVEL) / 2) if quantile is None else quantile
        half = np.where(self.without, np.nan, times * self.error)
        lo, hi = symmetric_ends(self.value, half, "plain")
        least, most = LIMITS[scale]
        inside = (self.value > least) & (self.value < most)
        lo[inside], hi[inside] = symmetric_ends(self.value[inside], half[inside], scale)
        return lo, hi


def estimate(
    values: LinearisedValues,
    sample: AuditSample,
    *,
    power: Power = "tuned",
    population: bool = False,
    same: Bools | None = None,
    reserve: Floats | None = None,
) -> AuditedEstimate:
    """Estimate the values that metrics would have under people's label sets of all images.

    Parameters
    ----------
    power : float or "tuned"
        The weight λ of the proposed label sets (see the top of this module): 0 for none, 1 for the difference
        estimator, and ``tuned`` for the weight from 0 to 1 with the smallest estimated variance.
    population : bool
        Whether errors refer to the values in the population from which the N images were drawn, instead of
        only these images. This adds the variance of y divided by N.
    same : ndarray of bool, shape (n, M), optional
        Audited images whose contribution to a difference does not depend on which classes are valid, such as
        images on which both models have the same top class. Their residuals are not assumed to be as large as
        those of other images.
    reserve : ndarray of float64, shape (M,), optional
        The variance that one more image adds if people and proposals disagree on it; see `reserve_of`. If it
        is passed, two such images are added, so that intervals exist even if few images disagree.

    Notes
    -----
    ``λ = C(y, f) / C(f, f)``, where C is the covariance under the design, like V at the top of this module.
    Because the audited images are a part of all images, this is the λ of PPI++ with the images that were not
    audited as its unlabelled images. With equal probabilities, this estimate equals that of PPI++. For the
    tuned λ, V is multiplied by (n - H) / (n - H - 1) with H strata.

    If intervals were computed only where there are enough disagreements, their coverage would be too low
    where disagreements are rare. `reserve` is similar to the method of Bonett and Price 2012, doi
    10.3102/1076998611411915, who add one disagreement in each direction when they compare paired proportions.
    In contrast to their method, the estimate does not change, and the interval uses Student's t.
    """
    y, f = values.audited, values.proposed
    of_y, of_f = _deviations(y, sample), _deviations(f, sample)
    weight = _tuned(of_y, of_f) if power == "tuned" else np.full(y.shape[1], float(power))
    squares = np.square(of_y - weight * of_f)
    residual = y - weight * f
    weighted = sample.weights @ residual
    largest = np.abs(residual - weighted)
    spread = _spread(y, sample) if population else np.zeros_like(squares)
    for part in (squares, spread):
        part[:, part.sum(axis=0) < _ROUNDING**2] = 0  # or it would seem that many images make it up
    variance = squares.sum(axis=0)
    total = variance * _freedom(sample, power) + spread.sum(axis=0)
    further = np.square(values.parts[-1], dtype=np.float64)
    reserved = squares[:0] if reserve is None else np.tile(reserve, (2, 1))
    total = total + further.sum(axis=0) + reserved.sum(axis=0)
    parts = np.concatenate([squares + spread, further[: 0 if values.is_difference else None], reserved])
    with np.errstate(invalid="ignore", divide="ignore"):
        df = 2 * total**2 / _summed(parts, parts)
        heaviest = _heaviest(largest, sample, same) / variance
    if (sample.probability == 1).all():  # nothing depends on the sample
        heaviest = np.zeros(len(heaviest))
    value = values.base + weight * values.mean + weighted
    n_left = 0 if population else len(sample.design) - len(sample)
    return AuditedEstimate(value, np.sqrt(total), df, weight, heaviest, values.alone, n_left, reserve is None)


def reserve_of(size: Floats, members: Bools, sample: AuditSample, *, population: bool = False) -> Floats:
    """Return the variances that one more image adds if people and proposals disagree on it, shape (M,).

    The additional image has the smallest probability of all images of the slice, even if no such image was
    drawn, because images with small weights say nothing about images with large weights.

    Parameters
    ----------
    size : ndarray of float64, shape (M,)
        The contribution of an image to the residual if people and proposals disagree on it.
    members : ndarray of bool, shape (M, N)
        The images of each slice.
    population : bool
        As in `estimate`.
    """
    p = sample.design.probability
    w = 1 / p / (1 / sample.probability).sum()
    factor = w**2 * (1 - p) + population * w / len(p)
    return np.asarray(np.where(members, factor, 0).max(axis=1) * np.square(size))


def _heaviest(size: Floats, sample: AuditSample, same: Bools | None) -> Floats:
    """Return what an image with the smallest probability and the largest residual adds to the variances.

    If some images are the same for two models, it is the larger one of those of these and of the others.
    """
    factor = (sample.weights**2 * (1 - sample.probability))[:, None]
    groups = [np.ones((1, 1), bool)] if same is None else [same, ~same]
    return np.asarray(
        np.max([(factor * g).max(axis=0) * (size * g).max(axis=0) ** 2 for g in groups], axis=0)
    )


def check_rows(n: int, n_images: int, sample: AuditSample) -> None:
    """Raise an error if a sample and values differ in the number of audited images or of all images."""
    if (n, n_images) != (len(sample), len(sample.design)):
        raise InputError(
            "The values do not match the sample.",
            got=f"values of {n:,} audited images, and proposed values of {n_images:,} images",
            allowed=f"{len(sample):,} audited images, and {len(sample.design):,} images",
        )


def _audited_sums(stratum: Ints, values: AnyFloats | Bools, inside: Bools, n_strata: int) -> Floats:
    """Return the sums of values by stratum and slice, shape (G, S)."""
    if n_strata == 1:
        return np.asarray((inside @ values)[None], np.float64)
    return np.stack([np.bincount(stratum, values * i, n_strata) for i in inside], axis=1)


def side_by_side(values: Sequence[LinearisedValues]) -> LinearisedValues:
    """Join the values of several metrics or models into one object."""
    columns = zip(*(v.parts for v in values), strict=True)
    return LinearisedValues(*(np.concatenate(parts, axis=-1) for parts in columns))


def _deviations(x: AnyFloats, sample: AuditSample) -> Floats:
    """Return deviations whose products, summed over the images, are covariances of weighted means."""
    weights, places, n_by_stratum = sample.weights, sample.strata, sample.design.n_by_stratum
    free: Floats = 1 - sample.probability
    members = (places[:, None] == np.arange(len(n_by_stratum))) * free[:, None]
    total = members.sum(axis=0)
    shares = members / np.where(total > 0, total, 1)
    # w (x - mean) minus its mean in the stratum, as one product and one difference: the arrays are large
    averaged = weights[:, None] * shares
    means = np.concatenate([weights[:, None], averaged], axis=1).T @ x
    means[1:] -= averaged.sum(axis=0)[:, None] * means[0]
    factor = np.sqrt(free * (n_by_stratum / np.maximum(n_by_stratum - 1, 1))[places])
    scaled = np.concatenate([(factor * weights)[:, None], factor[:, None] * (members > 0)], axis=1)
    deviations: Floats = np.asarray(scaled[:, :1] * x, np.float64)
    deviations -= scaled @ means
    return deviations


def _summed(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.einsum("im,im->m", first, second))


def _tuned(of_y: Floats, of_f: Floats) -> Floats:
    own, shared = _summed(of_f, of_f), _summed(of_y, of_f)
    weight = np.divide(shared, own, out=np.zeros_like(own), where=own > _ROUNDING**2)
    return np.asarray(np.clip(weight, 0, 1))


def _freedom(sample: AuditSample, power: Power) -> float:
    """Return by how much tuning the power makes the estimated variance too small."""
    free = len(sample) - len(sample.design.n_by_stratum)
    return free / max(free - 1, 1) if power == "tuned" else 1.0


def _spread(x: AnyFloats, sample: AuditSample) -> Floats:
    """Return what each audited image adds to the variance of the mean of N images of a population."""
    w, n = sample.weights, len(sample)
    apart = np.square(x - w @ x, dtype=np.float64)
    return np.asarray(w[:, None] * apart * (n / (n - 1) / len(sample.design)))
