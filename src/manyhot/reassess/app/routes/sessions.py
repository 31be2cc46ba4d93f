"""Coming in, by an invitation or a password, and going."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from manyhot.errors import InputError
from manyhot.reassess.app.context import Context, Known, check_csrf, check_form, csrf_token, maybe_rater
from manyhot.reassess.app.store import Rater
from manyhot.reassess.app.store.raters import LEAST_PASSWORD, OWNER, SESSION_DAYS

router = APIRouter(include_in_schema=False)


Field = Annotated[str, Form(max_length=1000)]


@router.get("/join/{token}", response_class=HTMLResponse)
def invitation(request: Request, token: str, known: Known) -> Response:
    """Greet who was invited. Nothing begins yet: mail programs open links to look at them."""
    rater = _invited(known, token)
    if _needs_password(known, rater):
        return _ask_password(request, known, rater, token)
    return known.templates.TemplateResponse(
        request, "join.html", {"title": known.title, "rater": rater, "token": token}
    )


@router.post("/join/{token}")
def join(request: Request, token: str, known: Known, password: Field = "", again: Field = "") -> Response:
    """Begin a session; an owner sets a password first, and the link is of no use any more."""
    rater = _invited(known, token)
    if not _needs_password(known, rater):
        if rater.is_owner:  # the link stood in the arguments of a browser, which all who use the machine see
            known.store.end_invitation(rater.id)
        return _begin(request, known, rater, "/")
    if password != again:
        return _ask_password(request, known, rater, token, "The two are not the same.")
    try:
        with known.limits.hashing():
            owner = known.store.set_password(token, password)
    except InputError as error:
        return _ask_password(request, known, rater, token, error.what)
    if owner is None:
        raise HTTPException(404, _INVALID)
    return _begin(request, known, owner, "/owner")


@router.get("/owner/login", response_class=HTMLResponse)
def login_page(request: Request, known: Known) -> Response:
    """Ask the owner for the password."""
    return _ask_login(request, known)


@router.post("/owner/login")
def log_in(request: Request, known: Known, name: Field, password: Field) -> Response:
    """Begin an owner's session. Guesses are limited here: no other route takes a password."""
    known.limits.try_password(known.client(request), name.strip())
    with known.limits.hashing():
        # PostgreSQL keeps no null characters, and looks for none.
        owner = known.store.log_in(name.strip() if name.isprintable() else "", password)
    if owner is None:
        return _ask_login(request, known, "Name or password is wrong.", name)
    return _begin(request, known, owner, "/owner")


@router.post("/leave", dependencies=[Depends(check_csrf)])
def leave(request: Request, known: Known) -> Response:
    """End the session."""
    return _end(request, known, Response(status_code=204))


@router.post("/owner/leave", dependencies=[Depends(check_form)])
def log_out(request: Request, known: Known) -> Response:
    """End the session of an owner."""
    return _end(request, known, RedirectResponse("/", 303))


@router.get("/", response_class=HTMLResponse)
def home(request: Request, known: Known, rater: Annotated[Rater | None, Depends(maybe_rater)]) -> Response:
    """Show the questions to a rater, and anybody else how to come in."""
    if rater is None:
        return known.templates.TemplateResponse(request, "outside.html", {"title": known.title}, 401)
    told = {
        "title": known.title,
        "rater": rater,
        "campaign": known.campaign_id,
        "csrf": csrf_token(request.cookies[known.cookie]),
    }
    return known.templates.TemplateResponse(request, "annotate.html", told)


_INVALID = "This invitation is not valid any more. Ask for a new one."


def _invited(known: Context, token: str) -> Rater:
    rater = known.store.invited(token)
    if rater is None:
        raise HTTPException(404, _INVALID)
    return rater


def _needs_password(known: Context, rater: Rater) -> bool:
    return rater.is_owner and not known.outside.alone


def _ask_password(request: Request, known: Context, rater: Rater, token: str, wrong: str = "") -> Response:
    told = {"title": known.title, "name": rater.name, "token": token, "wrong": wrong, "least": LEAST_PASSWORD}
    return known.templates.TemplateResponse(request, "owner_begin.html", told, 422 if wrong else 200)


def _ask_login(request: Request, known: Context, wrong: str = "", name: str = OWNER) -> Response:
    told = {"title": known.title, "name": name, "wrong": wrong}
    return known.templates.TemplateResponse(request, "owner_login.html", told, 403 if wrong else 200)


def _begin(request: Request, known: Context, rater: Rater, to: str) -> Response:
    response = RedirectResponse(to, 303)
    response.set_cookie(
        known.cookie,
        known.store.begin_session(rater),
        max_age=SESSION_DAYS * 86400,
        httponly=True,
        samesite="lax",
        secure=known.is_https(request),
    )
    return response


def _end(request: Request, known: Context, response: Response) -> Response:
    known.store.end_session(request.cookies.get(known.cookie, ""))
    response.delete_cookie(known.cookie, secure=known.is_https(request), httponly=True, samesite="lax")
    return response
