"""Label sets that models propose for an audit, and whether proposals have seen people's answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from scipy.special import logit

from manyhot.core.array_types import AnyFloats, Floats32
from manyhot.core.audit_proposals import ModelChoices, chosen_pairs
from manyhot.core.audit_samples import IMPLAUSIBLE, AuditSample, balance_p
from manyhot.core.estimates import Ratio
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.data.data_sets import Source
from manyhot.errors import InputError
from manyhot.evaluate.prediction_checks import ascends
from manyhot.evaluate.slices import case_of, labels_of
from manyhot.tables import Labels, Predictions, align
from manyhot.tables.arrays import label_sets
from manyhot.tables.state_lists import state_lists

_LEAST_P = 1e-6
"""Probabilities closer to 0 or 1 are given the log odds of this one."""


@dataclass(frozen=True, eq=False)
class ModelProposals:
    """Label sets proposed by a majority of the models, with all models or with one model left out.

    Attributes
    ----------
    labels : Labels
        The label sets that all models together propose, with the original labels.
    odds : ndarray of float32, shape (N, C), optional
        The sum of `standard_odds` over the models; None if a model lacks scores for some classes or images.
    """

    choices: ModelChoices
    labels: Labels
    odds: Floats32 | None = None

    @cached_property
    def _sets(self) -> LabelSets:
        return label_sets(self.labels)

    def without(self, model: str) -> LabelSets:
        """Return the label sets that all models except `model` propose."""
        return self.choices.sets(self._sets.label, model)

    def features(self, own: Floats32) -> list[AnyFloats] | None:
        """Return the `standard_odds` of a model and their mean over the other models; None without `odds`."""
        return None if self.odds is None else [own, (self.odds - own) / (len(self.choices.pairs) - 1)]


def standard_odds(scores: AnyFloats, kind: str) -> Floats32:
    """Return the log odds of probabilities, or other scores, standardised to mean 0 and standard deviation 1.

    Parameters
    ----------
    scores : ndarray of float, shape (N, C)
    kind : str
        The kind of the scores, as in `manyhot.core.sets.Case`.
    """
    x = np.asarray(scores, np.float32)
    if kind == "probability":
        x = np.asarray(logit(np.clip(x, _LEAST_P, 1 - _LEAST_P)), np.float32)
    spread = x.std(dtype=np.float64)
    return np.asarray((x - x.mean(dtype=np.float64)) / (spread or 1), np.float32)


def has_no_labels(source: Source) -> bool:
    """Return whether a data set has neither label sets nor original labels."""
    images = source.images
    unknown = images is None or images.label is None or images.label.null_count == len(images)
    return source.labels is None and unknown


def propose_by_models(source: Source) -> ModelProposals:
    """Return the label sets that the models of a data set propose for its images.

    Each model chooses its top class. However, if there are no original labels and the scores are
    probabilities or logits of all classes, it chooses all classes with a probability of at least 0.5.

    Raises
    ------
    InputError
        If there are fewer than two models.
    """
    ids, label = _images_of(source)
    pairs, last = dict[str, npt.NDArray[np.int64]](), None
    odds: Floats32 | None = np.zeros((), np.float32)
    for last in source.models():
        pairs[last.model], own = _chosen(last, ids, label, _n_classes(source, last))
        odds = None if odds is None or own is None else odds + own
    if last is None or len(pairs) < 2:
        raise InputError(
            "There are too few models to propose label sets for one another.",
            where=source.name,
            got=f"{len(pairs)} model{'' if len(pairs) == 1 else 's'}",
            allowed="at least 2",
            do="pass label sets of all images, such as original labels, or more models",
        )
    choices = ModelChoices(len(ids), _n_classes(source, last), pairs)
    return ModelProposals(choices, _as_labels(choices.sets(label), ids, source.name, last), odds)


def _images_of(source: Source) -> tuple[pa.Array, npt.NDArray[np.int32]]:
    """Return the ids and the original labels of all images."""
    if source.labels is not None:
        labels = labels_of(source)
        return labels.image_id, label_sets(labels).label
    assert source.images is not None
    images = source.images
    if images.label is None:
        return images.image_id, np.full(len(images), NO_LABEL, np.int32)
    return images.image_id, images.label.fill_null(NO_LABEL).to_numpy().astype(np.int32)


def _n_classes(source: Source, predictions: Predictions) -> int:
    known = predictions.n_classes or (source.labels.n_classes if source.labels else len(source.classes or ()))
    if not known:
        raise InputError(
            "The number of classes is not known.",
            where=predictions.source or predictions.model,
            do="pass the class list as `classes`",
        )
    return known


def _chosen(
    predictions: Predictions, ids: pa.Array, label: npt.NDArray[np.int32], n_classes: int
) -> tuple[npt.NDArray[np.int64], Floats32 | None]:
    """Return the (image, class) pairs that a model chooses, and its odds if it has scores of all."""
    alignment = align(ids, predictions.image_id, left_name="the images", right_name=predictions.model)
    rows = alignment.left
    empty = LabelSets.from_lists([()] * len(rows), n_classes, label=label[rows])
    case = case_of(empty, predictions, alignment, 1)
    is_whole = case.scores is not None and len(rows) == len(ids) and ascends(rows)
    odds = standard_odds(case.scores, case.kind) if is_whole and case.scores is not None else None
    if not case.has_probabilities or empty.labelled.any():
        return chosen_pairs(rows, case.top[:, 0], n_classes), odds
    p = predictions.in_full().confidence("sigmoid")
    return chosen_pairs(rows, case.top[:, 0], n_classes, None if p is None else p[alignment.right]), odds


def _as_labels(sets: LabelSets, ids: pa.Array, name: str, like: Predictions) -> Labels:
    """Return label sets as a table over the classes of predictions."""
    columns = {
        "image_id": ids,
        "label": pa.array(sets.label, mask=sets.label == NO_LABEL),
        "usable": pa.repeat(True, len(ids)),
        **state_lists(np.diff(sets.indptr), sets.classes, sets.state - 1),
    }
    table = pa.table(columns)
    return Labels(table, sets.n_classes, like.class_hash, name=name, class_list=like.class_list)


class ProposalBalance:
    """Checks whether the proposed label sets fit the audited images as well as all images."""

    def __init__(self, sample: AuditSample) -> None:
        self._sample = sample
        self._found: dict[str, tuple[float, str]] = {}

    def add(self, model: str, metric: str, ratio: Ratio) -> None:
        """Compare a model's first metric on proposed label sets between the audited images and all images."""
        if model in self._found or ratio.stratum is not None or not ratio.den.any():
            return
        value, sample = ratio.value(), self._sample
        p = balance_p(ratio.num - value * ratio.den, sample)
        num, den = (sample.weights @ x[sample.images] for x in (ratio.num, ratio.den))
        on_audited = num / den if den else np.nan
        text = (
            f"{metric} of {model}: {100 * on_audited:.2f} % on the audited, {100 * value:.2f} % on all images"
        )
        self._found[model] = p, text

    def check(self, dataset: str) -> None:
        """Raise an error if the proposals fit the audited images differently from all images.

        Raises
        ------
        InputError
            If `balance_p` of a model is below `IMPLAUSIBLE` divided by the number of models.
        """
        p, text = min(self._found.values(), default=(1.0, ""))
        limit = IMPLAUSIBLE / max(len(self._found), 1)
        if p < limit:
            raise InputError(
                "The proposed label sets fit the audited images differently from the other images.",
                where=dataset,
                got=f"on the proposed label sets, {text} (p = {p:.1g})",
                allowed=f"p of at least {limit:.1g}",
                do="pass proposals and models that were made without the answers about the audited images, "
                "and the probabilities with which these were drawn as `sample`",
            )
