"""Metrics under the posterior of the label sets: draws of label sets represent what raters left undecided.

A draw replaces the states of all classes that have a probability. Classes are drawn independently given the
votes; if raters chose one class per image, one class is drawn per image. Both treat the images as independent
given the votes. If raters share a mistake, neither the probabilities nor the draws show it.

In an audit, people's answers leave a probability that each class is valid. On each of M draws of their label
sets from these probabilities (`draw_sets`), the values are estimated from the same sample, as if the drawn
label sets were right. By Rubin's rules, the value is the mean of the M estimates, and its squared error

    T = W + (1 + 1 / M) B

with the mean W of the M squared errors, which is due to the sample of images, and the variance B of the M
estimates, which is due to the raters. If classes are independent given the answers, B of a mean of y is about
sum_S w_i**2 p_i (1 - p_i) with the probabilities p_i. The rules cannot tell whether the probabilities are
right: no interval includes a bias that all of them share. Models of raters assume that proposed classes are
valid as often as other classes. If two raters disagree, a proposed class would therefore seem less probable
than it is, so probabilities are adjusted first (`adjusted_probabilities`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit

from manyhot.core.array_types import AnyFloats, Bools, Floats
from manyhot.core.audit_samples import AuditSample
from manyhot.core.audited import AuditedEstimate, LinearisedValues
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.sets import NO, YES, LabelSets


def draw_sets(sets: LabelSets, rng: np.random.Generator) -> LabelSets:
    """Draw label sets from the probabilities of their classes.

    Parameters
    ----------
    sets : LabelSets
        Label sets with probabilities. A class without a probability keeps its state.

    Returns
    -------
    LabelSets
        The same images and classes, with the states yes and no.
    """
    assert sets.p is not None  # the caller checks it
    p = sets.p.astype(np.float64)
    there = ~np.isnan(p)
    yes = _one_of(sets, np.where(there, p, 0.0), rng) if sets.exclusive else rng.random(len(p)) < p
    state = np.where(there, np.where(yes, YES, NO), sets.state).astype(np.uint8)
    changed = replace(sets, state=state, usable=sets.usable | sets.voted, undecided=None)
    changed.__dict__["rows"] = sets.rows  # the same for all draws
    return changed


def _one_of(sets: LabelSets, p: Floats, rng: np.random.Generator) -> Bools:
    """Return whether each entry is the class drawn for its image, with probabilities in proportion to p."""
    total = np.concatenate([[0.0], np.cumsum(p)])
    start, stop = total[sets.indptr[:-1]], total[sets.indptr[1:]]
    drawn = start + rng.random(len(sets)) * (stop - start)
    entry = np.searchsorted(total, drawn, side="right") - 1
    # Rounding may reach the end of an image, or the entries of an image that has none.
    entry = np.minimum(entry, np.maximum(sets.indptr[1:] - 1, 0))
    yes = np.zeros(len(p), bool)
    yes[entry[stop > start]] = True
    return yes & (p > 0)


def weighted_values(estimate: Estimate, weights: Floats) -> Floats:
    """Return a metric's values under several sets of image weights, shape (R,); NaN if no image is counted.

    Parameters
    ----------
    weights : ndarray of float64, shape (R, n)
    """
    if isinstance(estimate, Ratio) and estimate.stratum is None:
        num, den = weights @ estimate.num.astype(np.float64), weights @ estimate.den.astype(np.float64)
        return np.asarray(np.divide(num, den, out=np.full(len(weights), np.nan), where=den > 0))
    return np.array([estimate.value(w) for w in weights])


def share_above(a: Floats, b: Floats) -> float:
    """Return the share of draws in which b is above a. Ties count half. Draws with NaN are left out."""
    difference = b - a
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return float("nan")
    return float((np.count_nonzero(difference > 0) + np.count_nonzero(difference == 0) / 2) / len(difference))


FEWEST_DRAWS = 2
"""Minimum number of draws for estimating their variance."""

_SURE, _STEPS, _TOLERANCE = 1e-9, 1000, 1e-9
"""Distance of a probability from 0 and 1 at least, and when iterations stop."""


def adjusted_probabilities(p: AnyFloats, proposed: Bools) -> Floats:
    """Return probabilities that account for proposed classes being valid more often than other classes.

    Parameters
    ----------
    p : ndarray of float, shape (Q,)
        Probability, given the answers, that the class of each question is valid, computed as if proposed and
        other classes were equally often valid.
    proposed : ndarray of bool, shape (Q,)
        Whether the class of each question is in the proposed label set.

    Notes
    -----
    There are two kinds of questions: about proposed classes and about other classes. The odds of each
    question are multiplied by the odds of its kind and divided by the odds of all questions. The share of
    valid classes of a kind is estimated by expectation maximisation, as the mean of the new probabilities.
    Probabilities of 0 and 1 do not change. The proposals need not be right, because the share of valid
    classes of each kind is determined by the answers.

    References
    ----------
    Saerens, Latinne and Decaestecker 2002, doi 10.1162/089976602753284446, section 2.2.
    """
    clipped = np.clip(np.asarray(p, np.float64), _SURE, 1 - _SURE)
    found, answers = clipped.copy(), logit(clipped) - logit(clipped.mean())
    for kind in (proposed, ~proposed):
        if not kind.any():
            continue
        share, last = float(clipped[kind].mean()), np.inf
        for _ in range(_STEPS):
            if abs(share - last) < _TOLERANCE:
                break
            share, last = float(expit(answers[kind] + logit(share)).mean()), share
        found[kind] = expit(answers[kind] + logit(share))
    return np.where((p > 0) & (p < 1), found, p)


def combined(estimates: Sequence[AuditedEstimate]) -> AuditedEstimate:
    """Return the combined estimate over M draws of people's label sets; a single estimate is unchanged.

    The effective number of audited images, and the value `heaviest`, are means over the draws.

    References
    ----------
    Rubin 1987, Multiple Imputation for Nonresponse in Surveys, doi 10.1002/9780470316696, equations 3.1.2 to
    3.1.5. Degrees of freedom follow Barnard and Rubin 1999, doi 10.1093/biomet/86.4.948, because W has few
    degrees of freedom.
    """
    if len(estimates) == 1:
        return estimates[0]
    m = len(estimates)
    value = np.stack([e.value for e in estimates])
    within, of_images, power, heaviest = np.mean(
        [(e.error**2, e.df, e.power, e.heaviest) for e in estimates], axis=0
    )
    more = (1 + 1 / m) * value.var(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = more / (within + more)
        observed = (of_images + 1) / (of_images + 3) * of_images * (1 - share)
        freedom = 1 / (share**2 / (m - 1) + 1 / observed)
    return replace(
        estimates[0],
        value=value.mean(axis=0),
        error=np.sqrt(within + more),
        df=freedom,
        power=power,
        heaviest=heaviest,
        sample_df=of_images,
        rater_share=share,
    )


def resampled_draws(
    draws: Sequence[LinearisedValues],
    sample: AuditSample,
    weight: Floats,
    *,
    rng: np.random.Generator,
    resamples: int,
    population: bool = False,
) -> Floats:
    """Return values over joint draws of people's label sets and resamples of the images, shape (R, K).

    Resample r uses draw r % M. The spread of the draws' estimates is multiplied by ``((M + 1) / (M -
    1))**0.5``, so that the variance is T rather than the variance of M known values.

    Parameters
    ----------
    draws : sequence of M LinearisedValues
    sample, weight, rng, resamples, population
        As in `resampled_values`.
    """
    m, found = len(draws), np.empty((resamples, len(weight)))
    for i, values in enumerate(draws):
        n = len(found[i::m])
        found[i::m] = resampled_values(values, sample, weight, rng=rng, resamples=n, population=population)
    if m == 1:
        return found
    centre = np.stack(
        [v.base + weight * v.mean + sample.weights @ (v.audited - weight * v.proposed) for v in draws]
    )
    shift = (np.sqrt((m + 1) / (m - 1)) - 1) * (centre - centre.mean(axis=0))
    return np.asarray(found + shift[np.arange(resamples) % m])


_CHUNK = 100
"""Resamples per block: 40 MB for 50,000 audited images."""


def resampled_values(
    values: LinearisedValues,
    sample: AuditSample,
    weight: Floats,
    *,
    rng: np.random.Generator,
    resamples: int,
    population: bool = False,
) -> Floats:
    """Return the values over resamples of the audited images, shape (R, M); `weight` is λ, shape (M,).

    Notes
    -----
    In each stratum, n_h - 1 images are drawn with replacement from the audited images. An image that was
    drawn m times has the weight ``w (1 + (1 - p)**0.5 (m n_h / (n_h - 1) - 1))``, so that the variance is V
    (Rao and Wu 1988, doi 10.1080/01621459.1988.10478591). If errors refer to the population, p is set to 0,
    and the mean of the proposed values over all images also varies, like a mean of N values.
    """
    residual = values.audited - weight * values.proposed
    proposed = weight * (values.proposed - sample.weights @ values.proposed)
    n, means = len(sample), np.empty((resamples, residual.shape[1]))
    scale = np.sqrt(sample.weights * n / max(n - 1, 1) / len(sample.design))
    for start in range(0, resamples, _CHUNK):
        part = means[start : start + _CHUNK]
        part[:] = _resampled_weights(sample, len(part), rng, whole=population) @ residual
        if population:  # with the covariances of the values, which differences need
            part += (rng.standard_normal((len(part), n)) * scale) @ proposed
    return means + (values.base + weight * values.mean)


def _resampled_weights(
    sample: AuditSample, resamples: int, rng: np.random.Generator, *, whole: bool
) -> Floats:
    """Return the weights of the audited images in each resample, shape (R, n)."""
    free = 1.0 if whole else np.sqrt(1 - sample.probability)
    times = np.ones((resamples, len(sample)))
    for h, n in enumerate(sample.design.n_by_stratum):
        if n > 1:
            inside = sample.strata == h
            times[:, inside] = rng.multinomial(n - 1, np.full(n, 1 / n), resamples) * (n / (n - 1))
    weights = sample.weights * (1 + free * (times - 1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
