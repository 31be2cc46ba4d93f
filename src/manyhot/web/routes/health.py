"""Whether the app can work, for what watches over it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from manyhot.web.context import Known

router = APIRouter(include_in_schema=False)


@router.get("/health")
def health(known: Known) -> PlainTextResponse:
    """Answer while the database can be read."""
    known.store.is_filled()
    return PlainTextResponse("fine")
