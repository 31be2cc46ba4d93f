"""What metrics take: label sets, and one model's predictions on the same images.

Plug-ins import label sets and their states from here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Bytes, Floats, Ints, Positions
from manyhot.core.class_states import (
    NEVER_EQUAL,
    NO,
    NO_LABEL,
    NOT_ASKED,
    UNCLEAR,
    YES,
    LabelSets,
    read_only,
)
from manyhot.core.softmax import blocks, check_possible, check_sums, checked, log_probability, log_totals
from manyhot.core.top_classes import top_k
from manyhot.core.uncertainty import Uncertainty

__all__ = ["NO", "NOT_ASKED", "NO_LABEL", "UNCLEAR", "YES", "Case", "LabelSets"]

Computed = TypeVar("Computed")

_SHORT = 20
"""Classes up to which metrics look at all that an image lists, even if they need fewer."""


@dataclass(frozen=True)
class Case:
    """One model's predictions on the images of `labels`, row by row: the input of a metric.

    Parameters
    ----------
    labels : LabelSets
        The label sets of n images.
    top : ndarray of int, shape (n, k)
        Predicted classes, best first. Shorter lists are padded with `NO_LABEL`. Column-major order is
        fastest.
    scores : ndarray of float16 or float32, shape (n, C), optional
        Scores over all classes; None for predictions with ranks only.
    kind : str
        The kind of `scores`: ``logit`` (converted into probabilities by the softmax), ``probability``, or
        anything else for scores that only rank classes.
    listed : ndarray of float, shape (n, k), optional
        The probability of each class in `top`, used if there are no dense scores.
    name : callable
        Returns the name of the image in a row, for error messages.
    uncertainty : Uncertainty, optional
        The uncertainty of the images, if the predictions are averages.
    link : str
        How the network turns logits into probabilities: ``softmax`` or ``sigmoid``; empty if not declared.
        See `manyhot.core.score_threshold.link_of`.
    thresholds : ndarray of float, shape (C,), optional
        The minimum score at which each class is predicted, if thresholds of classes were chosen on other
        images.
    """

    labels: LabelSets
    top: Ints
    scores: AnyFloats | None = None
    kind: str = "none"
    listed: AnyFloats | None = None
    name: Callable[[int], str] = "row {}".format
    uncertainty: Uncertainty | None = None
    link: str = ""
    thresholds: Floats | None = None
    _depths: dict[int, Case] = field(default_factory=dict, init=False, repr=False, compare=False)
    _computed: dict[Callable[[Case], Any], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name in ("top", "scores", "listed", "thresholds"):
            object.__setattr__(self, name, read_only(getattr(self, name)))

    @classmethod
    def from_scores(cls, labels: LabelSets, scores: AnyFloats, *, k: int = 20, kind: str = "none") -> Case:
        """Return a case from dense scores. Among equal scores, the class with the lower id comes first."""
        return cls(labels, top_k(scores, k), scores, kind)

    def with_labels(self, labels: LabelSets) -> Case:
        """Return the case with other label sets for the same images."""
        changed = replace(self, labels=labels)
        computed = ("confidence", "log_total", "length", "has_probabilities")  # do not depend on labels
        changed.__dict__.update({name: self.__dict__[name] for name in computed if name in self.__dict__})
        return changed

    def take(self, images: Ints, labels: LabelSets) -> Case:
        """Return the case of the selected images, with other label sets for these images."""
        return replace(
            self,
            labels=labels,
            top=np.asfortranarray(self.top[images]),
            scores=None if self.scores is None else self.scores[images],
            listed=None if self.listed is None else self.listed[images],
            name=lambda row: self.name(int(images[row])),
            uncertainty=None if self.uncertainty is None else self.uncertainty.take(images),
        )

    def to_depth(self, k: int) -> Case:
        """Return the case with the top k classes of each image, or the case itself if its lists are short."""
        if self.top.shape[1] <= max(k, _SHORT):
            return self
        if k not in self._depths:
            listed = None if self.listed is None else self.listed[:, :k]
            self._depths[k] = replace(self, top=self.top[:, :k], listed=listed)
        return self._depths[k]

    def once(self, compute: Callable[[Case], Computed]) -> Computed:
        """Return the value of a function of the case. It is cached, because several metrics need it."""
        if compute not in self._computed:
            self._computed[compute] = compute(self)
        return self._computed[compute]  # type: ignore[no-any-return]

    def forget(self) -> None:
        """Drop the cached results of metrics. They are recomputed when needed."""
        for kept in (self._computed, self._depths):
            kept.clear()

    @cached_property
    def has_probabilities(self) -> bool:
        """Whether the probabilities of all classes are known."""
        return self.scores is not None and self.kind in ("logit", "probability")

    @cached_property
    def independent(self) -> Case:
        """The case with sigmoids of the logits as probabilities, which may not add up to 1."""
        from scipy.special import expit  # predicting, which needs cases, does without SciPy

        assert self.scores is not None  # for the type checker
        # Confidences are compared in float32, so half of the memory loses nothing.
        return replace(self, scores=expit(self.scores, dtype=np.float32), kind="probability")

    @cached_property
    def confidence(self) -> Floats | None:
        """The probability of the top class, shape (n,); 0 without predictions, and None if unknown.

        Raises
        ------
        InputError
            If it is not a probability.
        """
        best = self.top[:, 0]
        if self.listed is not None:
            p = self.listed[:, 0].astype(np.float64)
        elif self.scores is not None and self.has_probabilities:
            p = self.scores[np.arange(len(best)), np.maximum(best, 0)].astype(np.float64)
            p = np.exp(p - self.log_total) if self.kind == "logit" else p
        else:
            return None
        return read_only(checked(np.where(best >= 0, p, 0.0), self.name))

    def probability_of(self, image: Ints, classes: Ints) -> Floats:
        """Return the probabilities of (image, class) cells, shape (m,); 0 for classes that are not listed."""
        if self.listed is not None:
            matching = np.where(self.top[image] == classes[:, None], self.listed[image], 0)
            best: Floats = matching.max(axis=1, initial=0).astype(np.float64)
            return best
        assert self.scores is not None  # for the type checker
        p = self.scores[image, classes].astype(np.float32)
        if self.kind == "logit":
            p = np.exp(p - self.log_total[image].astype(np.float32))
        return np.asarray(p.astype(np.float64))

    def log_probability_of(self, image: Ints, classes: Ints) -> Floats:
        """Return the log probabilities of (image, class) cells, shape (m,), from dense scores.

        Raises
        ------
        InputError
            If the probabilities of an image do not add up to 1, or if a logit of a cell is minus infinity.
        """
        assert self.scores is not None  # for the type checker
        scores = self.scores[image, classes]
        if self.kind == "logit":
            log_p = scores.astype(np.float64) - self.log_total[image]
            check_possible(scores, image, classes, self.name)
            return np.asarray(log_p)
        check_sums(self.scores, self.name)
        return log_probability(scores)

    def probability_blocks(self) -> Iterator[tuple[int, AnyFloats]]:
        """Yield the first row and the probabilities of each block, shape (b, C), in a reused array."""
        assert self.scores is not None  # for the type checker
        return blocks(self.scores, self.kind, self.log_total if self.kind == "logit" else None, self.name)

    @cached_property
    def log_total(self) -> Floats:
        """The logarithm of the summed exponentials of dense logits, shape (n,)."""
        assert self.scores is not None  # for the type checker
        best = self.scores[np.arange(len(self.top)), np.maximum(self.top[:, 0], 0)]
        return read_only(log_totals(self.scores, best, self.name))

    @cached_property
    def state(self) -> Bytes:
        """The state of each predicted class, shape (n, k)."""
        return read_only(self.labels.state_of(self.top))

    @cached_property
    def hit(self) -> Bools:
        """Whether each predicted class is in the label set, shape (n, k)."""
        return read_only(self.labels.hits(self.top))

    @cached_property
    def length(self) -> Positions | None:
        """The number of predicted classes of each image, shape (n,); None if all lists are full."""
        filled = self.top >= 0
        return None if filled.all() else read_only(np.count_nonzero(filled, axis=1))

    def reaching(self, k: int, scored: Bools) -> Bools:
        """Return the scored images with at least k predicted classes; `scored` itself if all have them.

        An image for which the model lists no class has an answer, *nothing*: it counts as wrong, with k = 1.
        """
        if self.top.shape[1] < k:
            return np.zeros(len(scored), bool)
        return scored if self.length is None else scored & (np.maximum(self.length, 1) >= k)

    def with_top(self, scored: Bools) -> Bools:
        """Return the scored images with a predicted class, which alone have a confidence."""
        return scored if self.length is None else scored & (self.length > 0)

    @cached_property
    def is_label(self) -> Bools:
        """Whether each predicted class is the original label, shape (n, k)."""
        # A missing label and the filler of a ragged list have the same code, but must not be equal.
        label = np.where(self.labels.label == NO_LABEL, NEVER_EQUAL, self.labels.label)
        same: Bools = self.top == label.astype(self.top.dtype)[:, None]
        return read_only(same)
