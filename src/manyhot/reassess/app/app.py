"""The app: its routes, its errors, and a health check."""

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
from manyhot.reassess.app.access import Reach
from manyhot.reassess.app.context import Context, ContextDep
from manyhot.reassess.app.guard import Guard, headers
from manyhot.reassess.app.picture_cache import PictureCache
from manyhot.reassess.app.progress import AppCallbacks
from manyhot.reassess.app.routes import owner, rating, refining, sessions
from manyhot.reassess.app.routes.image_server import ImageServer
from manyhot.reassess.app.store import Store


def create_app(
    store: Store,
    classes: ClassList,
    cache: Path,
    *,
    title: str,
    callbacks: AppCallbacks | None = None,
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
        The name of the campaign.
    callbacks : AppCallbacks, optional
        What the app cannot do by itself.
    reach : Reach, optional
        By which names and through which proxies it is reached; by default by any name and without proxies.
    """
    app = FastAPI(title="manyhot", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = context = Context(
        store, classes, PictureCache(cache), title, callbacks or AppCallbacks(), reach or Reach()
    )
    for routes in (sessions.router, rating.router, owner.router, refining.router, router):
        app.include_router(routes)
    app.mount("/static", context.static, name="static")
    app.add_middleware(ImageServer, context=context)
    app.add_middleware(Guard, context=context)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(OutputError, _unavailable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return app


def _invalid(request: Request, error: Exception) -> Response:
    """Say what is wrong, and nothing of what was sent: it may be a password, or no text at all."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {"loc": [_plain(part) for part in one["loc"]], "msg": _plain(one["msg"]), "type": one["type"]}
        for one in error.errors()[:20]
    ]
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": errors}, 422)
    return _refused(
        request, HTTPException(422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in errors))
    )


def _plain(part: object) -> str | int:
    return part if isinstance(part, int) else str(part)[:200].encode(errors="replace").decode()


def _failed(request: Request, error: Exception) -> Response:
    """Say that something went wrong; details are for the terminal only."""
    response = _refused(request, HTTPException(500, "Something went wrong on the server. Please try again."))
    response.headers.update(headers())
    return response


def _unavailable(request: Request, error: Exception) -> Response:
    """Say that the database cannot be used just now; pages keep what they sent and send it again."""
    assert isinstance(error, OutputError)
    logging.getLogger("uvicorn.error").error("%s", error)
    why = "The server cannot store anything right now. Your answers are saved in this browser."
    return _refused(request, HTTPException(503, why, {"Retry-After": "2"}))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    context: Context = request.app.state.context
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    message = "There is no such page." if error.detail == "Not Found" else error.detail
    values = {"title": context.title, "message": message}
    return context.templates.TemplateResponse(
        request, "refused.html", values, error.status_code, error.headers
    )


router = APIRouter(include_in_schema=False)


@router.get("/health")
def health(context: ContextDep) -> PlainTextResponse:
    """Answer while the database can be read."""
    context.store.is_filled()
    return PlainTextResponse("fine")
