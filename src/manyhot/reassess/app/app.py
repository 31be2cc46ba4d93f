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
from manyhot.reassess.app.guard import HEADERS, Guard
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
        A filled database.
    classes : ClassList
    cache : Path
        Folder for resized images.
    title : str
        The title of the campaign, unless its settings contain one.
    callbacks : AppCallbacks, optional
        Functions that the caller provides to the app.
    reach : Reach, optional
        Host names and proxies through which the app is reached; by default any name and no proxies.
    """
    app = FastAPI(title="manyhot", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = context = Context(
        store, classes, PictureCache(cache), title, callbacks or AppCallbacks(), reach or Reach()
    )
    for routes in (
        sessions.sessions_routes,
        rating.rating_routes,
        owner.owner_routes,
        refining.refining_routes,
        app_routes,
    ):
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
    """Describe an error without quoting the request, which may hold a password or binary data."""
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
    """Report an error; details appear in the terminal only."""
    response = _refused(request, HTTPException(500, "Something went wrong on the server. Please try again."))
    response.headers.update(HEADERS)
    return response


def _unavailable(request: Request, error: Exception) -> Response:
    """Report that the database is not available; pages keep their items and send them again."""
    assert isinstance(error, OutputError)
    logging.getLogger("uvicorn.error").error("%s", error)
    why = "The server cannot store anything right now. Your answers are saved in this browser."
    return _refused(request, HTTPException(503, why, {"Retry-After": "2"}))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    context: Context = request.app.state.context
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
    message = "This page does not exist." if error.detail == "Not Found" else error.detail
    values = {"title": context.title, "message": message}
    return context.templates.TemplateResponse(
        request, "refused.html", values, error.status_code, error.headers
    )


app_routes = APIRouter(include_in_schema=False)


@app_routes.get("/health/ready")
def ready(context: ContextDep) -> PlainTextResponse:
    """Respond with success if answers can be stored: the disk is not full, and the database is not locked."""
    context.ready.get()
    return PlainTextResponse("fine")


@app_routes.get("/health")
def health(context: ContextDep) -> PlainTextResponse:
    """Respond if the database can be read."""
    context.store.is_filled()
    return PlainTextResponse("fine")
