"""The owner's pages: how far the campaign is, who rates, what they disagree on and what they say."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.background import BackgroundTask

from manyhot.errors import InputError
from manyhot.reassess.app.context import Context, Known, VisitingOwner, check_form, csrf_token
from manyhot.reassess.app.progress import duration, number, share, time_left, work_left
from manyhot.reassess.app.store import Rater
from manyhot.reassess.app.store.database import now
from manyhot.reassess.app.store.remarks import SHOWN
from manyhot.tables import TABLES

router = APIRouter(prefix="/owner", include_in_schema=False)


changing = [Depends(check_form)]


DISPUTES = 30
"""Disagreements of one page."""


MOST_INVITED = 200
"""Invitations at once."""


Number = Annotated[int, Query(ge=0, lt=1 << 53)]


@router.get("", response_class=HTMLResponse)
def overview(request: Request, known: Known, owner: VisitingOwner) -> Response:
    """Show how far the campaign is, and all that can be changed."""
    return _overview(request, known, owner)


@router.get("/disagreements", response_class=HTMLResponse)
def disagreements(request: Request, known: Known, owner: VisitingOwner, start: Number = 0) -> Response:
    """Show the images on which raters differ."""
    numbers = known.numbers()
    pages = known.settled.rest(numbers, (page for page, _ in numbers.counted.disputes)) if numbers else []
    told: dict[str, Any] = {
        "progress": numbers.counted.progress if numbers else None,
        "open": len(pages),
        "disputes": known.store.disputes(pages[start : start + DISPUTES]),
        "start": start,
        "next": start + DISPUTES if len(pages) > start + DISPUTES else None,
        "before": max(start - DISPUTES, 0) if start else None,
    }
    return _page(request, known, owner, "owner_disagreements.html", **told)


@router.get("/remarks", response_class=HTMLResponse)
def remarks(
    request: Request,
    known: Known,
    owner: VisitingOwner,
    missing: Number | None = None,
    before: Number | None = None,
) -> Response:
    """Show what raters remarked, and which classes they missed."""
    heard = known.store.heard(missing=missing, before=before)
    told: dict[str, Any] = {
        "heard": heard,
        "missing": known.store.missing_classes(),
        "only": missing,
        "total": known.store.count_remarks(),
        "older": heard[-1].id if len(heard) == SHOWN else None,
    }
    return _page(request, known, owner, "owner_remarks.html", **told)


@router.get("/export/{name}")
def export(known: Known, owner: VisitingOwner, name: Literal["votes.parquet", "remarks.parquet"]) -> Response:
    """Return the votes, or the remarks, as a table."""
    if known.outside.export is None:
        raise HTTPException(404, "This app cannot write tables.")
    folder = Path(tempfile.mkdtemp(prefix="manyhot-"))
    done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        files = {file.name: file for file in known.outside.export(folder)}
        if name not in files:
            raise HTTPException(404, f"There are no {name.partition('.')[0]} yet.")
    except BaseException:  # who wrote what is in it
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(
        files[name], filename=name, media_type="application/vnd.apache.parquet", background=done
    )


@router.post("/state", dependencies=changing)
def change_state(
    known: Known, owner: VisitingOwner, state: Annotated[Literal["running", "paused", "closed"], Form()]
) -> Response:
    """Pause, close or reopen the campaign."""
    known.store.change_settings(state=state)
    return _back()


@router.post("/settings", dependencies=changing)
def change_settings(
    request: Request,
    known: Known,
    owner: VisitingOwner,
    raters: Annotated[int, Form()],
    qualify: Annotated[int, Form()],
    golden_every: Annotated[int, Form()],
    least_informedness: Annotated[float, Form()],
    lease_minutes: Annotated[float, Form()],
    max_pages: Annotated[int, Form()],
    refine_from: Annotated[int, Form()],
    show_label: Annotated[bool, Form()] = False,
) -> Response:
    """Change how the campaign asks."""
    try:
        known.store.change_settings(
            raters=raters,
            qualify=qualify,
            golden_every=golden_every,
            least_informedness=least_informedness,
            lease_minutes=lease_minutes,
            max_pages=max_pages,
            refine_from=refine_from,
            show_label=show_label,
        )
    except InputError as error:
        return _overview(request, known, owner, wrong=_in_words(error))
    known.numbers.forget()
    return _back()


@router.post("/invite", dependencies=changing)
def invite(
    request: Request,
    known: Known,
    owner: VisitingOwner,
    names: Annotated[str, Form(max_length=20_000)],
    max_pages: Annotated[str, Form(pattern=r"^\d{0,7}$")] = "",
    refines: Annotated[bool, Form()] = False,
) -> Response:
    """Invite raters, a name a line, and show the links: the database keeps none of them."""
    wanted = list(dict.fromkeys(line.strip() for line in names.splitlines() if line.strip()))
    if len(wanted) > MOST_INVITED:
        return _overview(request, known, owner, wrong=f"{MOST_INVITED} names at once at most.")
    links, wrong = [], ""
    for name in wanted:
        try:
            token = known.store.invite(
                name, refines=refines or None, max_pages=int(max_pages) if max_pages else None
            )
        except InputError as error:
            wrong = _in_words(error)
            continue
        links.append((name, _link(request, known, token)))
    return _overview(request, known, owner, links=links, wrong=wrong)


@router.post("/raters/{rater_id}", dependencies=changing)
def change_rater(
    request: Request,
    known: Known,
    owner: VisitingOwner,
    rater_id: int,
    act: Annotated[Literal["invite", "stop", "go-on", "revoke", "change"], Form()],
    max_pages: Annotated[str, Form(pattern=r"^\d{0,7}$")] = "",
    refines: Annotated[bool, Form()] = False,
) -> Response:
    """Give a rater a new link, stop one, let one go on, end an invitation, or change what one may do."""
    found = next((r for r in known.store.raters() if r.id == rater_id and not r.is_owner), None)
    if found is None:
        raise HTTPException(404, "There is no such rater.")
    if act == "invite":
        link = _link(request, known, known.store.invite(found.name))
        return _overview(request, known, owner, links=[(found.name, link)])
    if act == "stop":
        known.store.stop(rater_id)
    elif act == "go-on":
        known.store.let_go_on(rater_id)
    elif act == "revoke":
        known.store.revoke(rater_id)
    else:
        known.store.change_rater(rater_id, refines=refines, max_pages=int(max_pages) if max_pages else None)
    return _back()


def _link(request: Request, known: Context, token: str) -> str:
    return f"{known.address(request)}/join/{token}"


def _back() -> Response:
    return RedirectResponse("/owner", 303)


def _in_words(error: InputError) -> str:
    details = error.details
    told = [f"{name}: {details[name]}." for name in ("got", "allowed") if details[name] is not None]
    return " ".join([error.what, *told])


def _overview(
    request: Request,
    known: Context,
    owner: Rater,
    *,
    links: list[tuple[str, str]] | None = None,
    wrong: str = "",
) -> Response:
    numbers = known.numbers()
    people = [r for r in known.store.raters() if not r.is_owner or _has_rated(r, numbers)]
    told: dict[str, Any] = {
        "settings": known.store.settings(),
        "numbers": numbers,
        "progress": numbers.counted.progress if numbers else None,
        "people": [_person(r, numbers) for r in people],
        "links": links or [],
        "wrong": wrong,
        "remarks": known.store.count_remarks(),
        "can_export": known.outside.export is not None,
    }
    return _page(request, known, owner, "owner.html", 422 if wrong else 200, **told)


def _has_rated(rater: Rater, numbers: Any) -> bool:
    return numbers is not None and rater.id in numbers.counted.raters


def _person(rater: Rater, numbers: Any) -> dict[str, Any]:
    """Return a row of the table of raters: what the database knows, what was counted and what was judged."""
    count = numbers.counted.raters.get(rater.id) if numbers else None
    judged = numbers.raters.get(rater.name, {}) if numbers else {}
    quality = {column.name: judged.get(column.name) for column in TABLES["raters"]}
    golden, golden_yes = quality.get("golden") or 0, quality.get("golden_yes") or 0
    return {
        **asdict(rater),
        "pages": count.pages if count else 0,
        "answers": count.answers if count else 0,
        "ago": duration((now() - count.last_at) / 1e6) if count else "",
        "quality": quality,
        "golden_yes": golden_yes,
        "golden_no": golden - golden_yes,
        "on_golden": golden_yes > 0 and golden > golden_yes,
    }


def _page(
    request: Request, known: Context, owner: Rater, template: str, status: int = 200, **told: Any
) -> Response:
    common = {
        "title": known.title,
        "owner": owner,
        "csrf": csrf_token(request.cookies[known.cookie]),
        "classes": known.classes,
        "picture": known.image_address,
        "number": number,
        "share": share,
        "time_left": time_left,
        "work_left": work_left,
    }
    return known.templates.TemplateResponse(request, template, common | told, status)
