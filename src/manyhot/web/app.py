"""The app: routes, and what holds for every answer."""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from manyhot._version import __version__
from manyhot.classes import ClassList
from manyhot.errors import OutputError
from manyhot.web.context import Context
from manyhot.web.guard import Guard
from manyhot.web.numbers import Outside
from manyhot.web.pictures import Pictures
from manyhot.web.routes import answering, health, joining, owner, refining
from manyhot.web.routes.images import Images
from manyhot.web.store import Store


def create_app(
    store: Store, classes: ClassList, cache: Path, *, title: str, outside: Outside | None = None
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
    """
    app = FastAPI(title="manyhot", version=__version__, docs_url=None, redoc_url=None)
    app.state.context = known = Context(store, classes, Pictures(cache), title, outside or Outside())
    for module in (joining, answering, owner, refining, health):
        app.include_router(module.router)
    app.mount("/static", known.static, name="static")
    app.add_middleware(Images, known=known)
    app.add_middleware(Guard)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(OutputError, _unavailable)
    return app


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
