"""The app: routes, and what holds for every answer.

Whether the app can work, for what watches over it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from manyhot._version import __version__
from manyhot.classes import ClassList
from manyhot.errors import OutputError
from manyhot.reassess.app.context import Context, Known
from manyhot.reassess.app.guard import Guard, headers
from manyhot.reassess.app.network import Reach
from manyhot.reassess.app.pictures import Pictures
from manyhot.reassess.app.progress import Outside
from manyhot.reassess.app.routes import owner, rating, refining, sessions
from manyhot.reassess.app.routes.images import Images
from manyhot.reassess.app.store import Store


def create_app(
    store: Store,
    classes: ClassList,
    cache: Path,
    *,
    title: str,
    outside: Outside | None = None,
    reach: Reach | None = None,
) -> FastAPI:
    """Return the app of a campaign.

    Parameters
    ----------
    store : Store
        Filled.
    classes : ClassList
    cache : Path
        Folder for images that were made smaller.
    title : str
        Of the campaign.
    outside : Outside, optional
        What the app cannot do by itself.
    reach : Reach, optional
        By which names and through which proxies it is reached; by default by any name and without proxies.
    """
    app = FastAPI(title="manyhot", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = known = Context(
        store, classes, Pictures(cache), title, outside or Outside(), reach or Reach()
    )
    for routes in (sessions.router, rating.router, owner.router, refining.router, router):
        app.include_router(routes)
    app.mount("/static", known.static, name="static")
    app.add_middleware(Images, known=known)
    app.add_middleware(Guard, known=known)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(OutputError, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return app


def _invalid(request: Request, error: Exception) -> Response:
    """Say what is wrong, and nothing of what was sent: it may be a password, or no text at all."""
    assert isinstance(error, RequestValidationError)
    found = [
        {"loc": [_plain(part) for part in one["loc"]], "msg": _plain(one["msg"]), "type": one["type"]}
        for one in error.errors()[:20]
    ]
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": found}, 422)
    return _refused(
        request, HTTPException(422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in found))
    )


def _plain(part: object) -> str | int:
    return part if isinstance(part, int) else str(part)[:200].encode(errors="replace").decode()


def _failed(request: Request, error: Exception) -> Response:
    """Say that something went wrong; what it was is for the terminal of who runs the app."""
    response = _refused(request, HTTPException(500, "Something went wrong here. Try again."))
    response.headers.update(headers())
    return response


def _unavailable(request: Request, error: Exception) -> Response:
    """Say that the database cannot be used just now; pages keep what they sent and send it again."""
    assert isinstance(error, OutputError)
    logging.getLogger("uvicorn.error").error("%s", error)
    why = "The server cannot store anything just now. Your answers wait in the browser."
    return _refused(request, HTTPException(503, why, {"Retry-After": "2"}))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known: Context = request.app.state.context
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    told = {"title": known.title, "message": error.detail}
    return known.templates.TemplateResponse(request, "refused.html", told, error.status_code, error.headers)


router = APIRouter(include_in_schema=False)


@router.get("/health")
def health(known: Known) -> PlainTextResponse:
    """Answer while the database can be read."""
    known.store.is_filled()
    return PlainTextResponse("fine")
