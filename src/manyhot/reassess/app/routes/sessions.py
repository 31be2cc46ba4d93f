"""Joining by an invitation, logging in and out, and the rater's page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from manyhot.errors import InputError
from manyhot.reassess.app.context import Context, ContextDep, SessionRater, check_csrf, check_form, csrf_token
from manyhot.reassess.app.store import Rater
from manyhot.reassess.app.store.accounts import LEAST_PASSWORD, OWNER, SESSION_DAYS

sessions_routes = APIRouter(include_in_schema=False)
_FormText = Annotated[str, Form(max_length=1000)]


@sessions_routes.get("/join/{token}", response_class=HTMLResponse)
def invitation(request: Request, token: str, context: ContextDep) -> Response:
    """Show an invited rater the welcome page; no session begins, as mail programs may open the link."""
    rater = _invited(context, token)
    if _needs_password(context, rater):
        return _ask_password(request, context, rater, token)
    return _welcome(request, context, f"/join/{token}", rater)


@sessions_routes.post("/join/{token}")
def accept_invitation(
    request: Request,
    token: str,
    context: ContextDep,
    password: _FormText = "",
    again: _FormText = "",
    consent: _FormText = "",
) -> Response:
    """Begin a session. An owner first sets a password; then the link becomes invalid."""
    rater = _invited(context, token)
    if not _needs_password(context, rater):
        if not rater.is_owner and not _agreed(context, consent):
            return _welcome(request, context, f"/join/{token}", rater, _AGREE)
        if rater.is_owner:  # the link stood in the arguments of a browser, which all who use the machine see
            context.store.end_invitation(rater.id)
        return _begin(request, context, rater, "/")
    if password != again:
        return _ask_password(request, context, rater, token, "The two passwords do not match.")
    try:
        with context.limits.hashing():
            owner = context.store.set_password(token, password)
    except InputError as error:
        return _ask_password(request, context, rater, token, error.what)
    if owner is None:
        raise HTTPException(404, _INVALID)
    return _begin(request, context, owner, "/owner")


@sessions_routes.get("/crowd/{token}", response_class=HTMLResponse)
def crowd_invitation(request: Request, token: str, context: ContextDep) -> Response:
    """Show the welcome page to a participant, whose id a crowdsourcing platform adds to the link."""
    if not context.store.is_crowd_link(token):
        raise HTTPException(404, _INVALID)
    sent = (request.query_params.get(name, "") for name in PARTICIPANT)
    return _welcome(request, context, f"/crowd/{token}", participant=next(filter(None, sent), "")[:64])


@sessions_routes.post("/crowd/{token}")
def accept_crowd_invitation(
    request: Request, token: str, context: ContextDep, participant: _FormText = "", consent: _FormText = ""
) -> Response:
    """Begin the session of a participant; the same link and id always lead to the same rater."""
    if not _agreed(context, consent):
        return _welcome(request, context, f"/crowd/{token}", wrong=_AGREE, participant=participant)
    try:
        rater = context.store.join_crowd(token, participant)
    except InputError as error:
        raise HTTPException(403, error.what) from error
    if rater is None:
        raise HTTPException(404, _INVALID)
    return _begin(request, context, rater, "/")


@sessions_routes.get("/owner/login", response_class=HTMLResponse)
def login_page(request: Request, context: ContextDep) -> Response:
    """Ask the owner for the password."""
    return _ask_login(request, context)


@sessions_routes.post("/owner/login")
def log_in(request: Request, context: ContextDep, name: _FormText, password: _FormText) -> Response:
    """Begin an owner's session. Password guesses are limited here; no other route checks a password."""
    context.limits.try_password(context.client(request), name.strip())
    with context.limits.hashing():
        # PostgreSQL keeps no null characters, and looks for none.
        owner = context.store.log_in(name.strip() if name.isprintable() else "", password)
    if owner is None:
        return _ask_login(request, context, "Wrong name or password.", name)
    return _begin(request, context, owner, "/owner")


@sessions_routes.post("/leave", dependencies=[Depends(check_csrf)])
def leave(request: Request, context: ContextDep) -> Response:
    """End the session."""
    return _end(request, context, Response(status_code=204))


@sessions_routes.post("/owner/leave", dependencies=[Depends(check_form)])
def log_out(request: Request, context: ContextDep) -> Response:
    """End the session of an owner."""
    return _end(request, context, RedirectResponse("/", 303))


@sessions_routes.get("/", response_class=HTMLResponse)
def home(request: Request, context: ContextDep, rater: SessionRater) -> Response:
    """Show the questions to a rater, and instructions to anyone else."""
    if rater is None:
        return context.templates.TemplateResponse(request, "no_session.html", {"title": context.title}, 401)
    values = {
        "title": context.title,
        "rater": rater,
        "campaign": context.campaign_id,
        "csrf": csrf_token(request.cookies[context.cookie]),
        "told": context.settings.get(),
    }
    return context.templates.TemplateResponse(request, "annotate.html", values)


@sessions_routes.get("/offline.js")
def service_worker(context: ContextDep) -> Response:
    """Return the script that shows the rater's page without a connection; its address sets its scope."""
    return FileResponse(context.static_folder / "offline.js", media_type="text/javascript")


PARTICIPANT = ("PROLIFIC_PID", "workerId", "participant")
"""Parameters of the link for a crowd: those of Prolific, of Mechanical Turk, and of others."""


_AGREE = "Please agree before you begin."
_INVALID = "This invitation is no longer valid. Ask the person who sent it for a new one."


def _invited(context: Context, token: str) -> Rater:
    rater = context.store.invited(token)
    if rater is None:
        raise HTTPException(404, _INVALID)
    return rater


def _agreed(context: Context, consent: str) -> bool:
    return not context.store.settings().consent or consent == "yes"


def _welcome(
    request: Request,
    context: Context,
    address: str,
    rater: Rater | None = None,
    wrong: str = "",
    *,
    participant: str = "",
) -> Response:
    values = {
        "title": context.title,
        "rater": rater,
        "address": address,
        "participant": participant,
        "told": context.store.settings(),
        "wrong": wrong,
    }
    return context.templates.TemplateResponse(request, "join.html", values, 422 if wrong else 200)


def _needs_password(context: Context, rater: Rater) -> bool:
    return rater.is_owner and not context.callbacks.alone


def _ask_password(request: Request, context: Context, rater: Rater, token: str, wrong: str = "") -> Response:
    values = {
        "title": context.title,
        "name": rater.name,
        "token": token,
        "wrong": wrong,
        "least": LEAST_PASSWORD,
    }
    return context.templates.TemplateResponse(request, "owner_begin.html", values, 422 if wrong else 200)


def _ask_login(request: Request, context: Context, wrong: str = "", name: str = OWNER) -> Response:
    values = {"title": context.title, "name": name, "wrong": wrong}
    return context.templates.TemplateResponse(request, "owner_login.html", values, 403 if wrong else 200)


def _begin(request: Request, context: Context, rater: Rater, to: str) -> Response:
    response = RedirectResponse(to, 303)
    response.set_cookie(
        context.cookie,
        context.store.begin_session(rater),
        max_age=SESSION_DAYS * 86400,
        httponly=True,
        samesite="lax",
        secure=context.is_https(request),
    )
    return response


def _end(request: Request, context: Context, response: Response) -> Response:
    context.store.end_session(request.cookies.get(context.cookie, ""))
    response.delete_cookie(context.cookie, secure=context.is_https(request), httponly=True, samesite="lax")
    return response
