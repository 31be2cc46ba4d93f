"""The owner's pages: progress, raters, disagreements, remarks, settings."""

from __future__ import annotations

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from pydantic import Field
from starlette.background import BackgroundTask

from manyhot.errors import InputError
from manyhot.reassess.app.context import Context, ContextDep, VisitingOwner, check_form, csrf_token
from manyhot.reassess.app.progress import (
    JudgedCampaign,
    duration,
    format_number,
    format_points,
    format_share,
    time_left,
    work_left,
)
from manyhot.reassess.app.routes.rating import storable
from manyhot.reassess.app.store import Rater
from manyhot.reassess.app.store.campaign_settings import OWNER_SETTINGS, CampaignSettings
from manyhot.reassess.app.store.database import now
from manyhot.reassess.app.store.payment import payment_csv
from manyhot.reassess.app.store.remarks import REMARKS_PER_PAGE
from manyhot.tables import TABLES

owner_routes = APIRouter(prefix="/owner", include_in_schema=False)
changing = [Depends(check_form)]
DISPUTES = 30
"""Number of disagreements per page."""


RATERS_PER_PAGE = 50
MOST_INVITED = 1000
"""Invitations at once."""


LONGEST_NAMES = MOST_INVITED * 100
"""Characters of these."""


_DEFAULTS = CampaignSettings()
_RowNumber = Annotated[int, Query(ge=0, lt=1 << 53)]
_Points = Annotated[float, Query(ge=0.1, le=50)]


@owner_routes.get("", response_class=HTMLResponse)
def overview(
    request: Request,
    context: ContextDep,
    owner: VisitingOwner,
    width: _Points | None = None,
) -> Response:
    """Show the progress and the settings of the campaign and, for an audit, the intervals."""
    return _overview(request, context, owner, width=width)


@owner_routes.get("/disagreements", response_class=HTMLResponse)
def disagreements(
    request: Request, context: ContextDep, owner: VisitingOwner, start: _RowNumber = 0
) -> Response:
    """Show the images on which raters differ."""
    status = context.status.peek()
    pages = status.pages_to_decide() if status else []
    values: dict[str, Any] = {
        "progress": status.counts.progress if status else None,
        "open": len(pages),
        "disputes": context.store.disputes(pages[start : start + DISPUTES]),
        "start": start,
        "next": start + DISPUTES if len(pages) > start + DISPUTES else None,
        "before": max(start - DISPUTES, 0) if start else None,
    }
    return _page(request, context, owner, "owner_disagreements.html", **values)


@owner_routes.get("/remarks", response_class=HTMLResponse)
def remarks(
    request: Request,
    context: ContextDep,
    owner: VisitingOwner,
    missing: _RowNumber | None = None,
    before: _RowNumber | None = None,
) -> Response:
    """Show remarks of raters, and missing classes."""
    latest = context.store.remarks(missing=missing, before=before)
    values: dict[str, Any] = {
        "remarks": latest,
        "missing": context.store.missing_classes(),
        "only": missing,
        "total": context.store.count_remarks(),
        "older": latest[-1].id if len(latest) == REMARKS_PER_PAGE else None,
    }
    return _page(request, context, owner, "owner_remarks.html", **values)


@owner_routes.post("/remarks/remove", dependencies=changing)
def post_removal(
    context: ContextDep,
    owner: VisitingOwner,
    remark: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 53)]], Form(max_length=REMARKS_PER_PAGE)],
) -> Response:
    """Remove remarks for good."""
    context.store.remove_remarks(remark)
    return RedirectResponse("/owner/remarks", 303)


@owner_routes.get("/export/{name}")
def export_table(
    context: ContextDep, owner: VisitingOwner, name: Literal["votes.parquet", "remarks.parquet"]
) -> Response:
    """Return the votes or the remarks as a table."""
    if context.callbacks.export is None:
        raise HTTPException(404, "This app cannot export tables.")
    folder = Path(tempfile.mkdtemp(prefix="manyhot-"))
    done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    try:
        files = {file.name: file for file in context.callbacks.export(folder)}
        if name not in files:
            raise HTTPException(404, f"There are no {name.partition('.')[0]} yet.")
    except BaseException:  # who wrote what is in it
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(
        files[name], filename=name, media_type="application/vnd.apache.parquet", background=done
    )


@owner_routes.post("/state", dependencies=changing)
def change_state(
    context: ContextDep,
    owner: VisitingOwner,
    state: Annotated[Literal["running", "paused", "closed"], Form()],
) -> Response:
    """Pause, close or reopen the campaign."""
    context.store.change_settings(state=state)
    return _back()


async def sent_settings(request: Request) -> dict[str, object]:
    """Return the settings of a form, each in the type of its default."""
    form, found = await request.form(), dict[str, object]()
    for name in OWNER_SETTINGS:
        kind, sent = type(getattr(_DEFAULTS, name)), str(form.get(name, "")).strip()
        try:
            found[name] = sent == "true" if kind is bool else kind(storable(sent))
        except ValueError as error:
            raise HTTPException(422, f"{name}: this is not a number") from error
    return found


@owner_routes.post("/settings", dependencies=changing)
def save_settings(
    request: Request,
    context: ContextDep,
    owner: VisitingOwner,
    changes: Annotated[dict[str, object], Depends(sent_settings)],
) -> Response:
    """Change the settings of the campaign."""
    try:
        context.store.change_settings(**changes)
    except InputError as error:
        return _overview(request, context, owner, wrong=_message(error))
    context.status.invalidate()
    return _back()


@owner_routes.post("/invite", dependencies=changing)
def post_invitations(
    request: Request,
    context: ContextDep,
    owner: VisitingOwner,
    names: Annotated[str, Form(max_length=LONGEST_NAMES)],
    max_pages: Annotated[str, Form(pattern=r"^\d{0,7}$")] = "",
    refines: Annotated[bool, Form()] = False,
    file: Annotated[bool, Form()] = False,
) -> Response:
    """Invite raters, one name per line, and show the links, which the database does not store.

    Raters who already have a link keep it. With `file`, the new links, if any, are returned as a CSV file.
    """
    unique = list(dict.fromkeys(line.strip() for line in names.splitlines() if line.strip()))
    if len(unique) > MOST_INVITED:
        return _overview(
            request, context, owner, wrong=f"You can invite at most {MOST_INVITED} raters at once."
        )
    links, wrong = [], ""
    known = context.store.names_with_links()
    for name in (name for name in unique if name not in known):
        try:
            token = context.store.invite(
                name, refines=refines or None, max_pages=int(max_pages) if max_pages else None
            )
        except InputError as error:
            wrong = _message(error)
            continue
        links.append((name, _link(request, context, token)))
    kept = [name for name in unique if name in known]
    if file and links and not wrong:
        text = io.StringIO()
        csv.writer(text).writerows([("rater", "link"), *links])
        return _download("links.csv", text.getvalue())
    return _overview(request, context, owner, links=links, already_invited=kept, wrong=wrong)


@owner_routes.get("/invite")
def after_invitations(owner: VisitingOwner) -> Response:
    """Show the owner's page without the links, which are shown only once."""
    return _back()


@owner_routes.post("/raters", dependencies=changing)
def change_raters(
    context: ContextDep,
    owner: VisitingOwner,
    act: Annotated[Literal["stop", "go-on", "leave-out", "count-again"], Form()],
    rater: Annotated[list[int], Form(max_length=MOST_INVITED)],
) -> Response:
    """Stop raters, let them continue, leave out their answers, or count their answers again."""
    acts = {
        "stop": context.store.stop,
        "go-on": context.store.let_go_on,
        "leave-out": context.store.leave_out,
        "count-again": context.store.count_again,
    }
    for known in context.store.raters():
        if known.id in rater and not known.is_owner:
            acts[act](known.id)
    context.status.invalidate()
    return _back()


@owner_routes.post("/crowd", dependencies=changing)
def post_crowd_link(request: Request, context: ContextDep, owner: VisitingOwner) -> Response:
    """Create a link for a crowd; an earlier link becomes invalid."""
    link = f"{context.address(request)}/crowd/{context.store.crowd_link()}"
    return _overview(request, context, owner, links=[("crowd", f"{link}?participant=ID")])


@owner_routes.get("/payment.csv")
def export_payment(context: ContextDep, owner: VisitingOwner) -> Response:
    """Return the work of each rater as a CSV file."""
    return _download("payment.csv", payment_csv(context.store.payment()))


@owner_routes.post("/raters/{rater_id}", dependencies=changing)
def change_rater(
    request: Request,
    context: ContextDep,
    owner: VisitingOwner,
    rater_id: int,
    act: Annotated[Literal["invite", "stop", "go-on", "revoke", "change"], Form()],
    max_pages: Annotated[str, Form(pattern=r"^\d{0,7}$")] = "",
    refines: Annotated[bool, Form()] = False,
) -> Response:
    """Give a rater a new link, stop, reinstate or revoke the rater, or change the rater's rights."""
    rater = next((r for r in context.store.raters() if r.id == rater_id and not r.is_owner), None)
    if rater is None:
        raise HTTPException(404, "This rater does not exist.")
    if act == "invite":
        link = _link(request, context, context.store.invite(rater.name, role=rater.role))
        return _overview(request, context, owner, links=[(rater.name, link)])
    if act == "stop":
        context.store.stop(rater_id)
    elif act == "go-on":
        context.store.let_go_on(rater_id)
    elif act == "revoke":
        context.store.revoke(rater_id)
    else:
        context.store.change_rater(rater_id, refines=refines, max_pages=int(max_pages) if max_pages else None)
    return _back()


def _link(request: Request, context: Context, token: str) -> str:
    return f"{context.address(request)}/join/{token}"


def _download(name: str, text: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def _back() -> Response:
    return RedirectResponse("/owner", 303)


def _message(error: InputError) -> str:
    details = error.details
    parts = [
        f"{name.capitalize()}: {details[name]}." for name in ("got", "allowed") if details[name] is not None
    ]
    return " ".join([error.what, *parts])


def _overview(
    request: Request,
    context: Context,
    owner: Rater,
    *,
    links: Sequence[tuple[str, str]] = (),
    already_invited: Sequence[str] = (),
    wrong: str = "",
    width: float | None = None,
) -> Response:
    status = context.status.peek()
    rated = status.counts.raters if status else {}
    people = [_person(r, status) for r in context.store.raters() if not r.is_owner or r.id in rated]
    values: dict[str, Any] = {
        "settings": context.store.settings(),
        "status": status,
        "progress": status.counts.progress if status else None,
        **_chosen(people, request.query_params),
        "links": links,
        "already_invited": already_invited,
        "notes": context.store.qualification_notes(),
        "wrong": wrong,
        "width": width,
        "remarks": context.store.count_remarks(),
        "asked": OWNER_SETTINGS,
        "most_names": LONGEST_NAMES,
        "can_export": context.callbacks.export is not None,
    }
    return _page(request, context, owner, "owner.html", 422 if wrong else 200, **values)


SORTED_BY: Mapping[str, str] = {
    "name": "name",
    "pages": "most pages",
    "seconds": "fewest seconds per answer",
    "informedness": "lowest informedness",
    "agreement": "lowest agreement with others",
}


def _chosen(people: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Return the raters whose name, state or flags contain the query's text, in its order, a page of them."""
    text, order, start = query.get("q", "")[:100], query.get("sort", "name"), query.get("start", "0")
    found = [p for p in people if text.casefold() in f"{p['name']} {p['state']} {p['flags']}".casefold()]
    order = order if order in SORTED_BY else "name"
    found.sort(key=lambda p: _place(p, order))
    at = min(int(start), len(found)) if start.isdecimal() and len(start) < 10 else 0
    return {
        "people": found[at : at + RATERS_PER_PAGE],
        "n_people": len(people),
        "n_found": len(found),
        "query": {"q": text, "sort": order},
        "orders": SORTED_BY,
        "start": at,
        "later": at + RATERS_PER_PAGE if len(found) > at + RATERS_PER_PAGE else None,
        "earlier": max(at - RATERS_PER_PAGE, 0) if at else None,
    }


def _place(person: dict[str, Any], order: str) -> tuple[Any, ...]:
    """Return by what a rater is sorted; those without a value come last, and ties are by name."""
    value = -person["pages"] if order == "pages" else person["quality"].get(order)
    if order == "name" or value is None or math.isnan(value):
        return (order != "name", 0, person["name"])
    return (False, value, person["name"])


def _person(rater: Rater, status: JudgedCampaign | None) -> dict[str, Any]:
    """Return a row of the table of raters: database entry, counts and quality."""
    count = status.counts.raters.get(rater.id) if status else None
    judged = status.raters.get(rater.name, {}) if status else {}
    quality = {column.name: judged.get(column.name) for column in TABLES["raters"]}
    golden, golden_yes = quality.get("golden") or 0, quality.get("golden_yes") or 0
    return {
        **asdict(rater),
        "pages": count.pages if count else 0,
        "answers": count.answers if count else 0,
        "ago": duration((now() - count.last_at) / 1e6) if count else "",
        "quality": quality,
        "flags": " ".join(quality["flags"] or []),
        "golden_yes": golden_yes,
        "golden_no": golden - golden_yes,
        "on_golden": golden_yes > 0 and golden > golden_yes,
    }


def _page(
    request: Request, context: Context, owner: Rater, template: str, code: int = 200, **values: Any
) -> Response:
    common = {
        "title": context.title,
        "owner": owner,
        "csrf": csrf_token(request.cookies[context.cookie]),
        "classes": context.classes,
        "picture": context.image_address,
        "number": format_number,
        "share": format_share,
        "points": format_points,
        "time_left": time_left,
        "work_left": work_left,
    }
    return context.templates.TemplateResponse(request, template, common | values, code)
