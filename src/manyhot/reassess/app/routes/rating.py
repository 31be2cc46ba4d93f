"""Questions and answers of a rater, used by the page's script."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from manyhot.core.answers import ANSWERS
from manyhot.reassess.app.context import Context, ContextDep, CurrentRater, check_csrf
from manyhot.reassess.app.picture_cache import TILES
from manyhot.reassess.app.store import NewRemark, Queue, Rater, Visit, Vote
from manyhot.reassess.app.store.crowd import CROWD

rating_routes = APIRouter(
    prefix="/api",
    responses={
        400: {"description": "not valid JSON"},
        401: {"description": "no session"},
        403: {"description": "the request did not come from a page of this app"},
        413: {"description": "too large"},
        429: {"description": "too many requests; try again after the time in Retry-After"},
        503: {"description": "nothing can be stored right now; try again"},
    },
)

SHOWN_EXAMPLES = TILES - 1
FOUND = 20
_FOUND_EXAMPLES = 4
_Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]


def _whole(value: object) -> object:
    """Return a JSON number without a fraction, 3.0 as 3; others are left, for strict models to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


ClassId = Annotated[int, Field(ge=0, lt=1 << 31), BeforeValidator(_whole)]
Milliseconds = Annotated[int, Field(ge=0, lt=1 << 40), BeforeValidator(_whole)]


def storable(text: str) -> str:
    """Return a text that databases can store, without null characters or unpaired surrogates."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")


class Strict(BaseModel):
    """A Pydantic model that rejects unknown keys, and numbers that are passed as text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class VoteItem(Strict):
    """An answer."""

    key: _Key
    page: _Key
    class_id: ClassId
    answer: Literal["no", "maybe", "yes"]
    main: bool = False
    age_ms: Milliseconds = 0
    seen_ms: Milliseconds | None = None

    def to_store(self) -> Vote:
        """Return the item in the form that the store expects, with times in microseconds."""
        seen = None if self.seen_ms is None else self.seen_ms * 1000
        answer = ANSWERS.index(self.answer)
        return Vote(self.key, self.page, self.class_id, answer, self.main, self.age_ms * 1000, seen)


class RemarkItem(Strict):
    """A comment, or a class that is missing."""

    key: _Key
    page: _Key
    text: Annotated[str, AfterValidator(storable)] | None = Field(None, max_length=2000)
    missing_class_id: ClassId | None = None
    age_ms: Milliseconds = 0
    skips: bool = False

    def to_store(self) -> NewRemark:
        """Return the item in the form that the store expects, with times in microseconds."""
        age = self.age_ms * 1000
        return NewRemark(self.key, self.page, self.text, self.missing_class_id, age, self.skips)


class AnswersRequest(Strict):
    """Items that a page sends, in the order in which they were made."""

    items: list[VoteItem | RemarkItem] = Field(max_length=200)


class AnswersReply(BaseModel):
    """Keys of the stored items, and keys of the rejected items with the reason."""

    stored: list[str] = Field(serialization_alias="kept")
    refused: dict[str, str]


class ClassMatch(BaseModel):
    """A match of the class search."""

    class_id: int
    name: str
    synonyms: list[str]
    definition: str
    examples: list[str]


class ClassOnPage(ClassMatch):
    """A class as shown on a page."""

    strip: str
    """All examples in one picture of `TILES` squares."""
    tiles: list[int]
    """Position of each example in it."""
    answer: str | None
    main: bool


class Page(BaseModel):
    """An image with its questions."""

    page: str
    image: str
    label: str | None
    classes: list[ClassOnPage]
    done: bool


class Completion(BaseModel):
    """The code and the address that raters of a crowd get at the end."""

    code: str
    address: str


class PageQueue(BaseModel):
    """The open pages of a rater."""

    pages: list[Page]
    reason: str
    done: int
    left: int
    stopped_for: str = ""
    completion: Completion | None = None


@rating_routes.post("/queue", dependencies=[Depends(check_csrf)])
async def queue(context: ContextDep, rater: CurrentRater) -> PageQueue:
    """Return the rater's pages: the current one, and the next ones to preload."""
    # No thread waits: after a restart all raters ask at once, and answers need threads, too.
    filled = await asyncio.wrap_future(context.store.begin_queue(rater))
    return await run_in_threadpool(_page_queue, context, rater, filled)


def _page_queue(context: Context, rater: Rater, queue: Queue) -> PageQueue:
    held = len(queue.visits)
    left = min(context.left.recent() + held, max(context.pages.recent() - queue.whole, held))
    return PageQueue(
        pages=_pages(context, queue.visits),
        reason=queue.reason,
        done=queue.done,
        left=left,
        stopped_for=queue.stopped_for,
        completion=_completion(context, rater, queue.reason),
    )


def _completion(context: Context, rater: Rater, reason: str) -> Completion | None:
    """Return what a rater of a crowd gets who has nothing more to answer."""
    if rater.role != CROWD or reason not in ("finished", "taken", "limit"):
        return None
    settings = context.settings.get()
    return Completion(code=settings.completion_code, address=settings.completion_address)


@rating_routes.get("/back", responses={404: {"description": "no earlier page"}})
def back(context: ContextDep, rater: CurrentRater, before: _Key | None = None) -> Page:
    """Return the latest finished page, or the latest page before `before`, so that answers can be changed."""
    visit = context.store.last_done(rater, before)
    if visit is None:
        raise HTTPException(404, "No earlier page exists.")
    return _pages(context, [visit])[0]


@rating_routes.post("/answers", dependencies=[Depends(check_csrf)])
async def answers(
    request: Request, sent: AnswersRequest, context: ContextDep, rater: CurrentRater
) -> AnswersReply:
    """Store answers and remarks. Items that are sent again are stored once."""
    context.limits.send(str(rater.id), len(await request.body()))
    items = [item.to_store() for item in sent.items]
    count = len(context.classes)
    fine = [one for one in items if not (isinstance(one, NewRemark) and (one.missing_class_id or 0) >= count)]
    receipt = await asyncio.wrap_future(context.store.begin_store(rater, fine))
    unknown = {one.key: "the class does not exist" for one in items if one not in fine}
    return AnswersReply(stored=receipt.stored, refused=receipt.refused | unknown)


@rating_routes.get("/classes")
def classes(
    context: ContextDep,
    rater: CurrentRater,
    q: Annotated[str, Query(max_length=100)] = "",
    page: _Key | None = None,
) -> list[ClassMatch]:
    """Search classes by name, synonym, hypernym and definition; the examples exclude the image of `page`."""
    found = context.search.get()(q)[:FOUND]
    image = (context.store.image_name(rater, page) if page else None) or ""
    own = bool(context.store.which_are_examples([image]))
    examples = fair_examples(image, context.store.examples(found), own)
    return [
        ClassMatch(
            class_id=c,
            name=context.classes.names[c],
            synonyms=list(context.classes.synonyms[c]),
            definition=context.classes.definitions[c],
            examples=[context.example_address(c, p) for p in examples.get(c, [])[:_FOUND_EXAMPLES]],
        )
        for c in found
    ]


def _pages(context: Context, visits: Sequence[Visit]) -> list[Page]:
    examples = context.store.examples({c for visit in visits for c in visit.shown})
    own = context.store.which_are_examples([visit.name for visit in visits])
    pages = []
    for visit in visits:
        of_classes = {c: examples[c] for c in visit.shown if c in examples}
        fair = fair_examples(visit.name, of_classes, visit.name in own)
        pages.append(_page(context, visit, {c: (of_classes[c], fair[c]) for c in fair}))
    return pages


_Examples = tuple[Sequence[tuple[int, str]], Sequence[int]]
"""All example images of a class, and the positions of those that are shown."""


def _page(context: Context, visit: Visit, examples: Mapping[int, _Examples]) -> Page:
    label = None
    if context.settings.get().show_label and visit.label is not None:
        label = context.classes.names[visit.label]
    return Page(
        page=visit.key,
        image=f"{context.image_address(visit.image)}/large",
        label=label,
        classes=[_shown(context, visit, c, examples.get(c, ([], []))) for c in visit.shown],
        done=visit.state == "done",
    )


def fair_examples(
    image: str, examples: Mapping[int, Sequence[tuple[int, str]]], is_example: bool
) -> dict[int, list[int]]:
    """Return the positions of the example images of each class that are shown next to an image.

    An image is never shown as an example next to itself. If it is an example of a class, every other class
    also loses one example, chosen at random with the image and the class as seed. The number of examples
    therefore reveals nothing about the original label.
    """
    found: dict[int, list[int]] = {}
    for class_id, images in examples.items():
        others = [position for position, name in images if name != image]
        if is_example and len(others) == len(images):
            others.pop(random.Random(f"{image}/{class_id}").randrange(len(others)))  # noqa: S311
        found[class_id] = others[:SHOWN_EXAMPLES]
    return found


def _shown(context: Context, visit: Visit, class_id: int, examples: _Examples) -> ClassOnPage:
    positions, shown = [position for position, _ in examples[0]], examples[1]
    answer, main = visit.answers.get(class_id, (None, False))
    return ClassOnPage(
        class_id=class_id,
        name=context.classes.names[class_id],
        synonyms=list(context.classes.synonyms[class_id]),
        definition=context.classes.definitions[class_id],
        examples=[context.example_address(class_id, p) for p in shown],
        strip=context.strip_address(class_id, positions),
        tiles=[positions.index(p) for p in shown],
        answer=None if answer is None else ANSWERS[answer],
        main=main,
    )
