"""Recalibration of independent classes, such as sigmoids: each class keeps a probability of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, logit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints, Ints64
from manyhot.core.calibration import RANGE, Isotonic, fit_isotonic, sloping_root
from manyhot.core.class_calibration import class_states
from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.core.sets import NO, YES, Case, LabelSets
from manyhot.core.softmax import checked
from manyhot.errors import InputError

FEWEST_TO_FIT = {"temperature": FEWEST_POSITIVES, "vector": FEWEST_POSITIVES, "isotonic": 200}
"""Minimum number of images with, and without, a class to fit on; with clusters, of clusters.

On simulated sigmoids that are calibrated, a slope and an intercept fitted to 20 to 50 positives raise the log
loss by 1 to 2 %, and to 5 positives by 6 to 11 %. If logits are 1.8 times too large, 20 to 50 positives lower
it by 9 to 13 %. Isotonic regression on 50 positives raises the Brier score of calibrated sigmoids by 2 to
5 %, and on 200 positives by 1 to 2 %.
"""


@dataclass(frozen=True)
class ClassFit:
    """What is fitted to independent classes.

    Attributes
    ----------
    slope, intercept : ndarray of float64, shape (C,)
        What multiplies the logits of each class, and is then added; 1 and 0 if they stay as they are.
    curves : Mapping of int to Isotonic
        The classes whose probabilities are mapped by isotonic regression instead.
    n_yes, n_no : ndarray of int64, shape (C,)
        Number of images, or clusters of images, with and without the class.
    fitted : ndarray of bool, shape (C,)
        Whether there are enough of them; for a temperature, of all classes together.
    ends : tuple of float
        What a stored probability of 0 stands for, and the distance from 1 of a stored 1.
    """

    slope: Floats
    intercept: Floats
    curves: Mapping[int, Isotonic]
    n_yes: Ints64
    n_no: Ints64
    fitted: Bools
    ends: tuple[float, float]

    def apply(self, case: Case) -> Floats32:
        """Return recalibrated scores, shape (n, C): logits of logits, but probabilities for `curves`."""
        as_logit = case.kind == "logit" and not self.curves
        low, high = map(min, self.ends, _ends(case))
        found = np.empty(_dense(case).shape, np.float32)
        for c in range(len(self.slope)):
            p, z = _column(case, c, (low, high))
            if c in self.curves:
                found[:, c] = self.curves[c].apply(p)
            elif not self.fitted[c]:  # not changed by rounding either
                found[:, c] = z if as_logit else p
            else:
                z = np.where(np.isfinite(z), self.slope[c] * z + self.intercept[c], z)
                found[:, c] = z if as_logit else expit(z)
        return found


def fit_classes(case: Case, method: str, to: str, unit: Ints) -> ClassFit:
    """Fit a method to each class of sigmoids, on the images for which raters were asked about the class.

    Parameters
    ----------
    case : Case
        Probabilities, or logits of sigmoids, of all classes.
    method : str
        ``temperature``, one slope for all classes; ``vector``, a slope and an intercept for each class; or
        ``isotonic``, a non-decreasing function for each class.
    to : str
        What a class is compared with: ``labels``, ``sets`` or ``votes``.
    unit : ndarray of int, shape (n,)
        The cluster of each image.

    Raises
    ------
    InputError
        If the case has no scores of all classes, or if no class has enough images.

    Notes
    -----
    Stored probabilities of 0 and 1 were rounded: their distances from 0 and 1 are taken to be half of the
    smallest others.

    References
    ----------
    Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2.2, for slope and intercept. His
    targets are slightly above 0 and below 1, which keeps both finite if scores separate the images with a
    class from those without. Zadrozny and Elkan 2002, doi 10.1145/775047.775151, for isotonic regression.
    """
    n_classes, least, ends = case.labels.n_classes, FEWEST_TO_FIT[method], _ends(case)
    slope, intercept, curves = np.ones(n_classes), np.zeros(n_classes), dict[int, Isotonic]()
    n_yes, n_no = np.zeros((2, n_classes), np.int64)
    pooled = list[tuple[Floats, Floats]]()
    for c, (image, y) in enumerate(_outcomes(case, to)):
        n_yes[c], n_no[c] = (len(np.unique(unit[image[own]])) for own in (y >= 0.5, y < 0.5))
        p, z = (values[image] for values in _column(case, c, ends))
        finite = np.isfinite(z)  # a logit of minus infinity rules a class out, with any slope
        if method == "temperature":
            pooled.append((z[finite], y[finite]))
        elif min(n_yes[c], n_no[c]) >= least and method == "vector":
            slope[c], intercept[c] = fit_platt(z[finite], y[finite])
        elif min(n_yes[c], n_no[c]) >= least:
            curves[c] = fit_isotonic(p, y)
    fitted = np.minimum(n_yes, n_no) >= least
    if method == "temperature":
        fitted[:] = min(n_yes.sum(), n_no.sum()) >= least
        z, y = map(np.concatenate, zip(*pooled, strict=True))
        slope[:] = sloping_root(lambda b: float((expit(b * z) - y) @ z), 1 / RANGE[1], 1 / RANGE[0])
    if not fitted.any():
        together = method == "temperature"  # one number is fitted to all classes
        n = min(n_yes.sum(), n_no.sum()) if together else np.minimum(n_yes, n_no).max()
        whose = "all classes together" if together else "the same class"
        raise InputError(
            "There are too few images to fit on.",
            got=f"at most {n:,} with, and as many without, {whose}",
            allowed=f"at least {least} with, and {least} without",
            do="pass more labelled images, or fit on a larger share of them",
        )
    return ClassFit(slope, intercept, curves, n_yes, n_no, fitted, ends)


def fit_platt(z: Floats, y: Floats) -> tuple[float, float]:
    """Return slope and intercept of the logits of one class, shape (m,), by Platt's targets."""
    from scipy.optimize import minimize

    high, low = (y.sum() + 1) / (y.sum() + 2), 1 / (len(y) - y.sum() + 2)
    target = low + y * (high - low)
    mean, spread = z.mean(), z.std() or 1.0
    x = (z - mean) / spread

    def loss(parameters: Floats) -> tuple[float, Floats]:
        q = parameters[0] * x + parameters[1]
        off = expit(q) - target
        value = -(target * log_expit(q) + (1 - target) * log_expit(-q)).mean()
        return float(value), np.array([(off * x).mean(), off.mean()])

    start, options = np.array([spread, mean]), {"ftol": 1e-14, "gtol": 1e-9}
    slope, level = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    return float(slope / spread), float(level - slope / spread * mean)


def _outcomes(case: Case, to: str) -> Iterator[tuple[Ints64, Floats]]:
    """Yield, for each class, the images that count, and whether they show it, or its share of their votes."""
    sets = case.labels
    if to == "votes" and sets.p is not None:
        image = np.flatnonzero(sets.voted)
        total = np.bincount(sets.rows, np.nan_to_num(sets.p), len(sets))[image]
        for class_id in range(sets.n_classes):
            p = np.nan_to_num(sets.p_of(np.full(len(sets), class_id)))[image]
            yield image, np.asarray(p / total, np.float64)
        return
    if to == "labels":
        lists = [[y] if y >= 0 else [] for y in sets.label]
        case = case.with_labels(LabelSets.from_lists(lists, sets.n_classes, usable=sets.labelled))
    for state in class_states(case):
        image = np.flatnonzero((state == NO) | (state == YES))
        yield image, (state[image] == YES).astype(np.float64)


def _dense(case: Case) -> AnyFloats:
    if case.scores is None or not case.has_probabilities:
        raise InputError(
            "Recalibration of independent classes needs logits or probabilities of all classes.",
            got="lists of top classes" if case.scores is None else f"scores of kind {case.kind}",
            allowed="dense predictions whose scores are declared as logit or probability",
        )
    return case.scores


def _ends(case: Case) -> tuple[float, float]:
    scores, most = _dense(case), 2.0**-9  # of files with hardly any other number
    if case.kind == "logit":
        return 2.0**-24, 2.0**-24
    low = np.min(scores, where=scores > 0, initial=most)
    return float(low) / 2, (1 - float(np.max(scores, where=scores < 1, initial=1 - most))) / 2


def _column(case: Case, c: int, ends: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the probabilities of a class, and their logits, shape (n,)."""
    stored = _dense(case)[:, c]
    if case.kind == "logit":
        return checked(expit(stored, dtype=np.float32), case.name), stored.astype(np.float64)
    p = checked(stored, case.name)
    return p, logit(np.clip(p, ends[0], 1 - ends[1]))
