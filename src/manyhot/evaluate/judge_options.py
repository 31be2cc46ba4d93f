"""How models are judged: the options of `manyhot.evaluate`, and those of commands that use it."""

from __future__ import annotations

from dataclasses import dataclass

from manyhot.evaluate.audited import AuditedImages
from manyhot.evaluate.options import EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(EvaluateOptions):
    """The options of `manyhot.evaluate`, and how it judges the models of one data set.

    Attributes
    ----------
    trust_order : bool
        Whether to evaluate predictions even if their rows or classes seem to be in a different order than
        declared.
    per_class : bool
        Whether to evaluate each class separately, for models with scores of all classes, if there are no
        original labels.
    keep_undefined : bool
        Whether a metric that cannot be computed for a model has an undefined value instead of no value.
    audit : AuditedImages, optional
        People's label sets of a random sample of the images, which correct values on the label sets of the
        data set.
    """

    trust_order: bool = False
    per_class: bool = False
    keep_undefined: bool = False
    audit: AuditedImages | None = None
