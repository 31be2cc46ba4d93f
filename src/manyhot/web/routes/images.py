"""Images by number."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import FileResponse

from manyhot.errors import ManyhotError
from manyhot.web.context import AnyRater, Context, Known

router = APIRouter(
    responses={401: {"description": "no session"}, 404: {"description": "no such image"}},
    default_response_class=FileResponse,
)
Size = Literal["small", "large"]
Number = Annotated[int, Path(ge=0, lt=1 << 31)]

# What an address shows never changes; it is nobody's but the rater's.
_KEEP = {"Cache-Control": "private, max-age=604800, immutable"}


@router.get("/images/{number}/{size}")
def image(number: Number, size: Size, known: Known, _: AnyRater) -> FileResponse:
    """Return an image of the campaign."""
    return _picture(known, known.store.image(number), size)


@router.get("/examples/{class_id}/{position}/{size}")
def example(class_id: Number, position: Number, size: Size, known: Known, _: AnyRater) -> FileResponse:
    """Return an example image of a class."""
    return _picture(known, known.store.example(class_id, position), size)


def _picture(known: Context, uri: str | None, size: str) -> FileResponse:
    if uri is None:
        raise HTTPException(404, "There is no such image.")
    try:
        return FileResponse(known.pictures.file(uri, size), media_type="image/jpeg", headers=_KEEP)
    except ManyhotError as error:
        raise HTTPException(404, error.what) from error  # where it lies is not for raters
