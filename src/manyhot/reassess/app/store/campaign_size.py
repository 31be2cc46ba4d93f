"""How much a campaign asks, and what it has withdrawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy import typing as npt

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.campaign_settings import get_value
from manyhot.reassess.app.store.slots import HAS_WITHDRAWN


@dataclass(frozen=True, eq=False)
class CampaignSize:
    """Numbers of images, pages and questions (without golden and withdrawn ones), and golden answers.

    They are valid until questions are added, withdrawn or reinstated.

    Attributes
    ----------
    images, pages, questions : int
    last_page : int
    truth : dict of int to bool
        The true answers of golden questions.
    withdrawn : ndarray of int
        The questions that are no longer asked, without golden ones, in ascending order.
    changes : int
        Number of times that questions were withdrawn or reinstated.
    """

    images: int
    pages: int
    questions: int
    last_page: int
    truth: dict[int, bool]
    withdrawn: npt.NDArray[np.int64]
    changes: int

    @classmethod
    def read(cls, connection: sa.Connection) -> CampaignSize:
        """Return the numbers of a database."""
        withdrawn = _read_withdrawn(connection)
        count, pages = sa.func.count, sa.select(schema.pages).subquery()
        if len(withdrawn):
            idle = schema.IDLE_PAGES.subquery()
            there = sa.select(schema.pages).outerjoin(idle, idle.c.page_id == schema.pages.c.id)
            pages = there.where(idle.c.page_id.is_(None)).subquery()
        images = count(sa.distinct(pages.c.image_id))
        row = connection.execute(sa.select(images, count()).where(~pages.c.golden)).one()
        golden = sa.select(schema.golden.c.question_id, schema.golden.c.truth)
        truth = {question: bool(yes) for question, yes in connection.execute(golden)}
        withdrawn = withdrawn[~np.isin(withdrawn, list(truth))]
        questions = connection.execute(sa.select(count()).select_from(schema.questions)).scalar_one()
        return cls(
            row[0],
            row[1],
            questions - len(truth) - len(withdrawn),
            connection.scalar(sa.select(sa.func.max(schema.pages.c.id))) or 0,
            truth,
            withdrawn,
            get_value(connection, HAS_WITHDRAWN) or 0,
        )


def _read_withdrawn(connection: sa.Connection) -> npt.NDArray[np.int64]:
    query = sa.select(schema.withdrawn.c.question_id).order_by(schema.withdrawn.c.question_id)
    return np.array(connection.scalars(query).all(), np.int64)
