"""Remarks of raters: comments, and missing classes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from manyhot.reassess.app.store import schema

REMARKS_PER_PAGE = 50
"""Number of remarks on one of the owner's pages."""


_REMARKS, _VISITS = schema.remarks, schema.visits


@dataclass(frozen=True)
class Remark:
    """A remark, with the numbers of its image and page, and the image_id."""

    id: int
    image: int
    page: int
    name: str
    rater_id: int
    rater: str
    text: str | None
    missing_class_id: int | None
    at: int


def latest(
    connection: sa.Connection, *, missing: int | None = None, before: int | None = None
) -> list[Remark]:
    """Return up to `REMARKS_PER_PAGE` remarks, newest first.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    missing : int, optional
        Return only remarks that report this class as missing.
    before : int, optional
        Return only remarks that are older than the remark with this number.
    """
    r, raters, images, pages = _REMARKS, schema.raters, schema.images, schema.pages
    query = (
        sa.select(
            r.c.id,
            images.c.id,
            pages.c.id,
            images.c.name,
            raters.c.id,
            raters.c.name,
            r.c.text,
            r.c.missing_class_id,
            r.c.at,
        )
        .join(_VISITS, _VISITS.c.id == r.c.visit_id)
        .join(pages, pages.c.id == _VISITS.c.page_id)
        .join(images, images.c.id == pages.c.image_id)
        .join(raters, raters.c.id == r.c.rater_id)
        .order_by(r.c.id.desc())
        .limit(REMARKS_PER_PAGE)
    )
    if missing is not None:
        query = query.where(r.c.missing_class_id == missing)
    if before is not None:
        query = query.where(r.c.id < before)
    return [Remark(*row) for row in connection.execute(query)]


def missing_classes(connection: sa.Connection) -> list[tuple[int, int]]:
    """Return the classes reported as missing, most frequent first, and the number of images for each."""
    images = sa.func.count(sa.distinct(schema.pages.c.image_id))
    query = (
        sa.select(_REMARKS.c.missing_class_id, images)
        .join(_VISITS, _VISITS.c.id == _REMARKS.c.visit_id)
        .join(schema.pages, schema.pages.c.id == _VISITS.c.page_id)
        .where(_REMARKS.c.missing_class_id.is_not(None))
        .group_by(_REMARKS.c.missing_class_id)
        .order_by(images.desc(), _REMARKS.c.missing_class_id)
    )
    return [(class_id, n) for class_id, n in connection.execute(query)]


def remove_remarks(connection: sa.Connection, remark_ids: Collection[int]) -> None:
    """Remove remarks for good, by their numbers."""
    connection.execute(_REMARKS.delete().where(_REMARKS.c.id.in_(remark_ids)))


def count(connection: sa.Connection) -> int:
    """Return the number of remarks."""
    return connection.execute(sa.select(sa.func.count()).select_from(_REMARKS)).scalar_one()
