"""How uncertain an average of several predictions is: its entropy, and the part due to disagreement.

The predictions are those of the members of an ensemble, or of passes with dropout. The entropy of their mean
is the total uncertainty. The mean of their entropies is the uncertainty of the single predictions. The
difference is the mutual information between the class and the member: 0 if all members give the same
probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from manyhot.core.array_types import AnyFloats, Floats, Floats32, Ints
from manyhot.core.softmax import SLACK, not_a_probability
from manyhot.errors import InputError


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The uncertainty of averaged predictions.

    Attributes
    ----------
    entropy : ndarray of float32, shape (n,)
        Entropy of the mean probabilities, in nats. If classes are independent, it is the sum over the classes
        of the entropy of *yes* and *no*.
    mutual_information : ndarray of float32, shape (n,)
        Part of the entropy that is due to disagreement among the members, in nats.
    by_class : ndarray of float32, shape (n, k) or (n, C), optional
        The mutual information of each class of the predictions, if classes are independent.
    """

    entropy: Floats32
    mutual_information: Floats32
    by_class: Floats32 | None = None

    def __len__(self) -> int:
        return len(self.entropy)

    def take(self, rows: Ints) -> Uncertainty:
        """Return the selected images, in that order."""
        by_class = None if self.by_class is None else self.by_class[rows]
        return Uncertainty(self.entropy[rows], self.mutual_information[rows], by_class)

    def of_classes(self, top: Ints) -> Uncertainty:
        """Return the by-class values of only the listed classes, shape (n, k)."""
        if self.by_class is None:
            return self
        return replace(self, by_class=np.take_along_axis(self.by_class, top, axis=1))


@dataclass(frozen=True, eq=False)
class Average:
    """The mean of the probabilities of M members, and their disagreement.

    Attributes
    ----------
    mean : ndarray of float64, shape (n, C)
    mutual_information : ndarray of float64, shape (n, 1) or (n, C)
        Mutual information between class and member, in nats; for each class if classes are independent.
    """

    mean: Floats
    mutual_information: Floats

    @classmethod
    def of(cls, members: Iterable[AnyFloats], *, multilabel: bool) -> Average:
        r"""Average the probabilities of members.

        Parameters
        ----------
        members : iterable of M ndarray of float, shapes (n, C)
            Probabilities. Only one member at a time is in memory.
        multilabel : bool
            Whether classes are independent. Otherwise, the probabilities of an image add up to 1.

        Notes
        -----
        :math:`H[\frac1M\sum_m p_m] - \frac1M\sum_m H[p_m]`, with the entropy of a Bernoulli variable for each
        class if classes are independent.

        References
        ----------
        Houlsby, Huszár, Ghahramani and Lengyel 2011, Bayesian Active Learning for Classification and
        Preference Learning, doi 10.48550/arXiv.1112.5745, equation 2; Lakshminarayanan, Pritzel and Blundell
        2017, doi 10.48550/arXiv.1612.01474, for ensembles; Smith and Gal 2018, doi
        10.48550/arXiv.1803.08533, for dropout.
        """
        total = expected = np.zeros(())
        n = 0
        for member in members:
            p = member.astype(np.float64)
            total, expected, n = total + p, expected + _entropies(p, multilabel), n + 1
        mean = total / n
        # Rounding leaves differences of equal members some ulps below 0.
        return cls(mean, np.maximum(_entropies(mean, multilabel) - expected / n, 0))


def uncertainty_of(mean: AnyFloats, mutual_information: AnyFloats, *, multilabel: bool) -> Uncertainty:
    """Return the uncertainty of images from the arrays of an `Average`, over all or some classes."""
    information = mutual_information.astype(np.float32)
    entropy = _entropies(mean.astype(np.float64), multilabel).sum(axis=1).astype(np.float32)
    total = mutual_information.sum(axis=1, dtype=np.float64).astype(np.float32)
    return Uncertainty(entropy, total, information if multilabel else None)


def member_probabilities(scores: AnyFloats, kind: str, *, multilabel: bool, name: str) -> Floats:
    """Return the probabilities of a member, shape (n, C).

    Parameters
    ----------
    scores : ndarray of float, shape (n, C)
    kind : str
        ``logit`` or ``probability``.
    multilabel : bool
        Whether classes are independent. Logits are then converted by sigmoids instead of the softmax.
    name : str
        The member, for messages.

    Raises
    ------
    InputError
        If a number is not a probability, or if the probabilities of an image do not add up to 1 although
        classes are mutually exclusive.
    """
    from scipy.special import expit, softmax  # predicting with one model does without SciPy

    exact = scores.astype(np.float64)
    if kind == "logit":
        return np.asarray(expit(exact) if multilabel else softmax(exact, axis=1))
    bad = ~((exact >= 0) & (exact <= 1 + SLACK))
    if bad.any():
        raise not_a_probability(float(exact[bad][0]), name)
    sums = exact.sum(axis=1)
    off = np.abs(sums - 1) > SLACK
    if not multilabel and off.any():
        raise InputError(
            "The probabilities of an image do not add up to 1.",
            where=name,
            got=f"{sums[off][0]:g}",
            allowed=f"1 ± {SLACK}",
            do="if several classes can be valid together, add multilabel=True in brackets after the "
            "model's name",
        )
    return np.minimum(exact, 1)


def _entropies(p: Floats, multilabel: bool) -> Floats:
    """Return the entropy of each image, shape (n, 1), or of each class, shape (n, C), in nats."""
    from scipy.special import entr

    if multilabel:
        return np.asarray(entr(p) + entr(1 - p))
    return np.asarray(entr(p).sum(axis=1, keepdims=True))
