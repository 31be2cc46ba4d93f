"""Which classes people were asked about in an audit, and how the questions were drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Floats32
from manyhot.core.sets import LabelSets
from manyhot.tables import Campaign
from manyhot.tables.audit_samples import QUESTION_PROBABILITY
from manyhot.tables.schemas import metadata, read


@dataclass(frozen=True, eq=False)
class AuditQuestions:
    """The questions about the n audited images.

    Attributes
    ----------
    probability : ndarray of float32, shape (n, C), optional
        The probability of each question, and 0 if it was not asked; None if all classes were asked about.
    are_drawn : bool
        Whether questions were drawn with these probabilities, and not chosen by a rule.
    """

    probability: Floats32 | None = None
    are_drawn: bool = False

    @property
    def doubt(self) -> str:
        """Why macro average precision has no interval; empty if these questions do not preclude it."""
        if self.probability is None or self.are_drawn:
            return ""
        asked, n_classes = np.count_nonzero(self.probability), self.probability.shape[1]
        return (
            f"people were asked about {asked / len(self.probability):.1f} of {n_classes:,} classes of an "
            "image, and the others may be valid, too: draw the questions with the design classes"
        )


ALL_CLASSES = AuditQuestions()


def audit_questions(people: LabelSets, image_id: pa.Array, campaign: Campaign | None) -> AuditQuestions:
    """Return the questions behind people's label sets.

    Parameters
    ----------
    people : LabelSets
        People's label sets of the audited images.
    image_id : pyarrow.Array of string, shape (n,)
    campaign : Campaign, optional
        The campaign in which people answered, whose proposals may record probabilities.
    """
    if not people.asked_known or people.complete:
        return ALL_CLASSES
    asked = np.zeros((len(people), people.n_classes), np.float32)
    asked[people.rows, people.classes] = 1
    if campaign is not None and campaign.path("proposals").is_file():
        table = read(campaign.path("proposals"), "proposals")
        if metadata(table).get(QUESTION_PROBABILITY) == "score":
            return AuditQuestions(asked * _probabilities(table, image_id, people.n_classes), are_drawn=True)
    return ALL_CLASSES if asked.all() else AuditQuestions(asked)


def _probabilities(proposals: pa.Table, image_id: pa.Array, n_classes: int) -> Floats32:
    """Return the probability of each question that was drawn, 0 for others, shape (n, C)."""
    rows = pc.fill_null(pc.index_in(proposals["image_id"], image_id), -1).to_numpy()
    here = rows >= 0
    found = np.zeros((len(image_id), n_classes), np.float32)
    found[rows[here], proposals["class_id"].to_numpy()[here]] = proposals["score"].to_numpy()[here]
    return found
