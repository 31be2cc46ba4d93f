"""Pages on which one person decides disagreements, with all answers side by side."""

from __future__ import annotations

import re
import secrets
import string
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from manyhot.core.answers import ANSWERS
from manyhot.reassess.app.context import Context, ContextDep, CurrentRater, check_form, csrf_token
from manyhot.reassess.app.routes.rating import fair_examples
from manyhot.reassess.app.store import Dispute, Rater, Visit, Vote

refining_routes = APIRouter(prefix="/refine", include_in_schema=False)
TRIED = 100
"""Maximum number of pages of the queue that are tried to find one that no one else has open."""


_Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
_CLASS = re.compile(r"c(\d{1,9})")


async def refiner(rater: CurrentRater) -> Rater:
    """Return a rater who may decide; respond with 403 to anyone else."""
    if not rater.may_refine:
        raise HTTPException(403, "Only people chosen by the owner of the campaign can decide disagreements.")
    return rater


Refiner = Annotated[Rater, Depends(refiner)]


@refining_routes.get("", response_class=HTMLResponse)
def next_dispute(
    request: Request,
    context: ContextDep,
    rater: Refiner,
    last: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{8,64}$")] = None,
    skip: Annotated[int | None, Query(ge=0, lt=1 << 53)] = None,
) -> Response:
    """Show the next page on which raters disagree."""
    pages = _queue(context)
    counting = pages is None
    pages = pages or []
    if skip in pages:
        at = pages.index(skip) + 1
        pages = pages[at:] + pages[:at]
    visit = context.store.refine(rater, pages[:TRIED], skip=skip)
    if visit is None:
        values = {"title": context.title, "rater": rater, "last": last, "counting": counting}
        return context.templates.TemplateResponse(request, "refine_done.html", values)
    return _show(request, context, rater, visit, last=last, left=len(pages))


@refining_routes.get("/page/{page}", response_class=HTMLResponse)
def one_page(
    request: Request, context: ContextDep, rater: Refiner, page: Annotated[int, Path(ge=0, lt=1 << 53)]
) -> Response:
    """Show one page, with a form if it can be decided."""
    visit = context.store.refine(rater, [page], only=True)
    dispute = context.store.dispute(page)
    if dispute is None:
        raise HTTPException(404, "This page does not exist.")
    return _show(request, context, rater, visit, dispute)


@refining_routes.get("/{key}", response_class=HTMLResponse)
def change_decision(request: Request, context: ContextDep, rater: Refiner, key: _Key) -> Response:
    """Show an own decision, to change it."""
    visit = context.store.visit(rater, key)
    if visit is None or visit.round != 1:
        raise HTTPException(404, "This page does not exist.")
    return _show(request, context, rater, visit)


@refining_routes.post("/{key}", dependencies=[Depends(check_form)])
async def decide(
    request: Request,
    context: ContextDep,
    rater: Refiner,
    key: _Key,
    nonce: Annotated[str, Form(pattern=r"^[0-9a-f]{16}$")],
) -> Response:
    """Store decisions as votes of round 1. A form that is sent twice is stored once."""
    from starlette.concurrency import run_in_threadpool

    form = await request.form()
    votes = [
        Vote(f"{nonce}-{found[1]}", key, int(found[1]), ANSWERS.index(value))
        for name, value in form.items()
        if (found := _CLASS.fullmatch(name)) and value in ANSWERS
    ]
    receipt = await run_in_threadpool(context.store.store, rater, votes)
    await run_in_threadpool(_settle, context, rater, key)
    if receipt.refused:
        why = "; ".join(sorted(set(receipt.refused.values())))
        raise HTTPException(409, f"Not stored: {why}.")
    return RedirectResponse(f"/refine?last={key}", 303)


def _queue(context: Context) -> list[int] | None:
    """Return the pages to decide on; None while votes are counted for the first time."""
    status = context.status.peek()
    return None if status is None else status.pages_to_decide()


def _settle(context: Context, rater: Rater, key: str) -> None:
    """Take a page out of the queue: with many votes, they are not counted again after each decision."""
    visit = context.store.visit(rater, key)
    if visit is not None and visit.state == "done" and (status := context.status.peek(0.0)):
        status.decided_since.add(visit.page)
    context.status.expire()


def _show(
    request: Request,
    context: Context,
    rater: Rater,
    visit: Visit | None,
    dispute: Dispute | None = None,
    *,
    last: str | None = None,
    left: int | None = None,
) -> Response:
    if dispute is None:
        assert visit is not None
        dispute = context.store.dispute(visit.page)
        assert dispute is not None
    named = rater.is_owner and "names" in request.query_params
    label = None
    if context.settings.get().show_label and dispute.label is not None:
        label = context.classes.names[dispute.label]
    values = {
        "title": context.title,
        "rater": rater,
        "csrf": csrf_token(request.cookies[context.cookie]),
        "nonce": secrets.token_hex(8),
        "visit": visit,
        "label": label,
        "image": context.image_address(dispute.image),
        "people": _people(dispute, named),
        "classes": _classes(context, dispute, visit),
        "remarks": dispute.remarks,
        "page": dispute.page,
        "class_names": context.classes.names,
        "answers": ANSWERS,
        "last": last,
        "left": left,
        "named": named,
    }
    return context.templates.TemplateResponse(request, "refine.html", values)


def _people(dispute: Dispute, named: bool) -> dict[int, str]:
    """Return what the raters of a page are called, by number: letters, or their names."""
    people = {a.rater_id: a.rater for c in dispute.classes for a in c.answers}
    people |= {who: name for who, name, _, _ in dispute.remarks}
    return {who: people[who] if named else _letters(place) for place, who in enumerate(sorted(people))}


def _letters(place: int) -> str:
    more, last = divmod(place, 26)
    return (_letters(more - 1) if more else "") + string.ascii_uppercase[last]


def _classes(context: Context, dispute: Dispute, visit: Visit | None) -> list[dict[str, Any]]:
    ids = [c.class_id for c in dispute.classes]
    own = bool(context.store.which_are_examples([dispute.name]))
    examples = fair_examples(dispute.name, context.store.examples(ids), own)
    rows = []
    for c in dispute.classes:
        mine = visit.answers.get(c.class_id) if visit else None
        rows.append(
            {
                "id": c.class_id,
                "name": context.classes.names[c.class_id],
                "synonyms": [
                    s for s in context.classes.synonyms[c.class_id] if s != context.classes.names[c.class_id]
                ],
                "definition": context.classes.definitions[c.class_id],
                "examples": [context.example_address(c.class_id, p) for p in examples.get(c.class_id, [])],
                "differs": c.differs,
                "asked": visit is not None and c.class_id in visit.shown,
                "answers": {a.rater_id: a for a in c.answers},
                "mine": ANSWERS[mine[0]] if mine else None,
                "decided": ANSWERS[c.decision.answer] if c.decision else None,
            }
        )
    return rows
