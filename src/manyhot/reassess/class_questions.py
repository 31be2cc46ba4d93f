"""The images and questions of an audit for macro average precision, drawn with recorded probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pyarrow import compute as pc

from manyhot.core.array_types import AnyFloats, Floats32, Ints
from manyhot.core.audit_designs import ClassDesign, class_design
from manyhot.core.proposals import Proposed, with_pairs
from manyhot.errors import InputError
from manyhot.tables import Images, Predictions


@dataclass(frozen=True)
class DrawnQuestions:
    """The classes that people are asked about for each image, in addition to those that a rule proposes.

    Attributes
    ----------
    probability : ndarray of float32, shape (N, C)
        The probability that each question is asked if its image is audited.
    seed : int
    """

    probability: Floats32
    seed: int

    def added_to(self, proposed: Proposed, rows: Ints) -> Proposed:
        """Return the proposed and drawn questions about these images, with their probabilities as scores.

        A question that a rule proposes has the probability 1. The draw for an image does not depend on the
        other images.
        """
        n_classes = self.probability.shape[1]
        u = np.stack([np.random.default_rng([self.seed, 2, int(i)]).random(n_classes) for i in rows])
        certain = np.zeros(u.shape, bool)
        certain[proposed.pairs.image, proposed.pairs.class_id] = True
        chance = np.where(certain, 1, self.probability[rows])
        image, class_id = np.nonzero(u < chance)
        found = with_pairs(proposed, image, class_id, n_classes)
        scores = chance[found.pairs.image, found.pairs.class_id].astype(np.float64)
        return replace(found, pairs=replace(found.pairs, score=scores))


def class_design_of(
    images: Images, read: Sequence[Predictions], top: Ints, n_classes: int, size: int, questions: float
) -> ClassDesign:
    """Return the design for macro average precision.

    Parameters
    ----------
    images : Images
    read : sequence of Predictions
        Predictions with scores for all classes and all images.
    top : ndarray of int, shape (N, M)
        The top class of each model, which people are always asked about.
    n_classes, size : int
    questions : float
        Mean number of questions about an audited image.

    Raises
    ------
    InputError
        If a model does not have scores for all classes.
    """
    scores = [_scores(model, images) for model in read]
    known = [_of(images, model, p) for model in read if (p := model.confidence("sigmoid")) is not None]
    p = np.mean(np.stack(known), axis=0) if len(known) == len(read) else None
    certain = np.zeros((len(images), n_classes), bool)
    certain[np.arange(len(images))[:, None], top] = True
    return class_design(scores, size, certain=certain, probability=p, questions=questions)


def _scores(model: Predictions, images: Images) -> AnyFloats:
    if not model.is_dense or model.scores is None:
        raise InputError(
            "The design requires scores for all classes.",
            where=model.source or model.model,
            got="scores of the top classes" if model.scores is not None else "ranks",
            do="predict with scores for all classes, or set `design` to uniform",
        )
    return _of(images, model, model.scores)


def _of(images: Images, model: Predictions, scores: AnyFloats) -> Floats32:
    """Return the scores of a model in the order of the images."""
    return np.asarray(scores[pc.index_in(images.image_id, model.image_id).to_numpy()], np.float32)
