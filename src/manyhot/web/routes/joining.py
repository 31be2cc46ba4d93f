"""Coming in by an invitation, and going."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from manyhot.web.context import Known, check_csrf, csrf_token, maybe_rater
from manyhot.web.store import Rater
from manyhot.web.store.people import SESSION_DAYS

router = APIRouter(include_in_schema=False)


@router.get("/join/{token}", response_class=HTMLResponse)
def invitation(request: Request, token: str, known: Known) -> Response:
    """Greet who was invited. Nothing begins yet: mail programs open links to look at them."""
    rater = known.store.invited(token)
    if rater is None:
        raise HTTPException(404, "This invitation is not valid any more. Ask for a new one.")
    return known.templates.TemplateResponse(
        request, "join.html", {"title": known.title, "name": rater.name, "token": token}
    )


@router.post("/join/{token}")
def join(request: Request, token: str, known: Known) -> Response:
    """Begin a session."""
    rater = known.store.invited(token)
    if rater is None:
        raise HTTPException(404, "This invitation is not valid any more. Ask for a new one.")
    response = RedirectResponse("/", 303)
    response.set_cookie(
        known.cookie,
        known.store.begin_session(rater),
        max_age=SESSION_DAYS * 86400,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/leave", dependencies=[Depends(check_csrf)])
def leave(request: Request, known: Known) -> Response:
    """End the session."""
    known.store.end_session(request.cookies.get(known.cookie, ""))
    response = Response(status_code=204)
    response.delete_cookie(known.cookie)
    return response


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
