"""The questions and answers of a rater, for the page's script."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from manyhot.core.answers import ANSWERS
from manyhot.reassess.app.context import AnyRater, Context, Known, check_csrf
from manyhot.reassess.app.pictures import TILES
from manyhot.reassess.app.store import Remark, Visit, Vote

router = APIRouter(
    prefix="/api",
    responses={
        400: {"description": "no JSON"},
        401: {"description": "no session"},
        403: {"description": "the request did not come from a page of this app"},
        413: {"description": "too large"},
        429: {"description": "too many requests; Retry-After says when to try again"},
        503: {"description": "nothing can be stored just now; try again"},
    },
)


SHOWN_EXAMPLES = TILES - 1


_FOUND = 20


_FOUND_EXAMPLES = 4


Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]


def _whole(value: object) -> object:
    """Return a JSON number without a fraction, 3.0 as 3; others are left, for strict models to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


ClassId = Annotated[int, Field(ge=0, lt=1 << 31), BeforeValidator(_whole)]


Milliseconds = Annotated[int, Field(ge=0, lt=1 << 40), BeforeValidator(_whole)]


def _storable(text: str) -> str:
    """Return a text that databases keep: no null character, no half of an emoji that a page cut in two."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")


class Strict(BaseModel):
    """Unknown keys are errors, and so is text that looks like a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SentVote(Strict):
    """An answer."""

    key: Key
    page: Key
    class_id: ClassId
    answer: Literal["no", "maybe", "yes"]
    main: bool = False
    age_ms: Milliseconds = 0
    seen_ms: Milliseconds | None = None


class SentRemark(Strict):
    """A comment, or a class that is missing."""

    key: Key
    page: Key
    text: Annotated[str, AfterValidator(_storable)] | None = Field(None, max_length=2000)
    missing_class_id: ClassId | None = None
    age_ms: Milliseconds = 0
    skips: bool = False


class Sent(Strict):
    """What a page sends, in the order in which it happened."""

    items: list[SentVote | SentRemark] = Field(max_length=200)


class Kept(BaseModel):
    """What became of it: keys, and why those refused were."""

    kept: list[str]
    refused: dict[str, str]


class Shown(BaseModel):
    """A class as it is shown."""

    class_id: int
    name: str
    synonyms: list[str]
    definition: str
    examples: list[str]
    strip: str
    """All examples in one picture of `TILES` squares."""
    tiles: list[int]
    """Which of them each example is."""
    answer: str | None
    main: bool


class Page(BaseModel):
    """An image with its questions."""

    page: str
    image: str
    label: str | None
    classes: list[Shown]
    done: bool


class Pages(BaseModel):
    """What a rater has to do."""

    pages: list[Page]
    reason: str
    done: int
    left: int


class Found(BaseModel):
    """A class that was searched for."""

    class_id: int
    name: str
    synonyms: list[str]
    definition: str
    examples: list[str]


@router.post("/queue", dependencies=[Depends(check_csrf)])
def queue(known: Known, rater: AnyRater) -> Pages:
    """Give the rater pages: the one to look at first, and the next, to load it meanwhile."""
    found = known.store.queue(rater)
    held = len(found.visits)
    left = min(known.left() + held, max(known.pages() - found.done, held))
    return Pages(
        pages=_pages(known, found.visits),
        reason=found.reason,
        done=found.done,
        left=left,
    )


@router.get("/back", responses={404: {"description": "nothing before it"}})
def back(known: Known, rater: AnyRater, before: Key | None = None) -> Page:
    """Return the page that the rater finished last, or last before another, to change an answer."""
    visit = known.store.last_done(rater, before)
    if visit is None:
        raise HTTPException(404, "There is nothing before it.")
    return _pages(known, [visit])[0]


@router.post("/answers", dependencies=[Depends(check_csrf)])
async def answers(sent: Sent, known: Known, rater: AnyRater) -> Kept:
    """Store answers and remarks. What is sent again is stored once."""
    read = [_read(item) for item in sent.items]
    count = len(known.classes)
    fine = [one for one in read if not (isinstance(one, Remark) and (one.missing_class_id or 0) >= count)]
    stored = await asyncio.wrap_future(known.store.storing(rater, fine))
    unknown = {one.key: "there is no such class" for one in read if one not in fine}
    return Kept(kept=stored.kept, refused=stored.refused | unknown)


@router.get("/classes")
def classes(
    known: Known,
    rater: AnyRater,
    q: Annotated[str, Query(max_length=100)] = "",
    page: Key | None = None,
) -> list[Found]:
    """Search classes by name, synonym and definition, for a page whose image is no example of them."""
    found = known.search()(q)[:_FOUND]
    image = (known.store.image_name(rater, page) if page else None) or ""
    own = bool(known.store.which_are_examples([image]))
    examples = fair_examples(image, known.store.examples(found), own)
    return [
        Found(
            class_id=c,
            name=known.classes.names[c],
            synonyms=list(known.classes.synonyms[c]),
            definition=known.classes.definitions[c],
            examples=[known.example_address(c, p) for p in examples.get(c, [])[:_FOUND_EXAMPLES]],
        )
        for c in found
    ]


def _read(item: SentVote | SentRemark) -> Vote | Remark:
    if isinstance(item, SentVote):
        seen = None if item.seen_ms is None else item.seen_ms * 1000
        return Vote(
            item.key,
            item.page,
            item.class_id,
            ANSWERS.index(item.answer),
            item.main,
            item.age_ms * 1000,
            seen,
        )
    return Remark(item.key, item.page, item.text, item.missing_class_id, item.age_ms * 1000, item.skips)


def _pages(known: Context, visits: Sequence[Visit]) -> list[Page]:
    examples = known.store.examples({c for visit in visits for c in visit.shown})
    own = known.store.which_are_examples([visit.name for visit in visits])
    pages = []
    for visit in visits:
        of_classes = {c: examples[c] for c in visit.shown if c in examples}
        pages.append(_page(known, visit, fair_examples(visit.name, of_classes, visit.name in own)))
    return pages


def _page(known: Context, visit: Visit, examples: Mapping[int, Sequence[int]]) -> Page:
    label = None
    if known.show_label() and visit.label is not None:
        label = known.classes.names[visit.label]
    return Page(
        page=visit.key,
        image=f"{known.image_address(visit.image)}/large",
        label=label,
        classes=[_shown(known, visit, c, examples.get(c, [])) for c in visit.shown],
        done=visit.state == "done",
    )


def fair_examples(
    image: str, examples: Mapping[int, Sequence[tuple[int, str]]], is_example: bool
) -> dict[int, list[int]]:
    """Return the positions of the examples of classes that are shown beside an image.

    An image is no example beside itself. If it is one of any class, here or not, each other class loses one
    too, drawn by the image: to count them, or to miss one, tells nothing of the original label.
    """
    found: dict[int, list[int]] = {}
    for class_id, known in examples.items():
        others = [position for position, name in known if name != image]
        if is_example and len(others) == len(known):
            others.pop(random.Random(f"{image}/{class_id}").randrange(len(others)))  # noqa: S311
        found[class_id] = others[:SHOWN_EXAMPLES]
    return found


def _shown(known: Context, visit: Visit, class_id: int, examples: Sequence[int]) -> Shown:
    answer, main = visit.answers.get(class_id, (None, False))
    return Shown(
        class_id=class_id,
        name=known.classes.names[class_id],
        synonyms=list(known.classes.synonyms[class_id]),
        definition=known.classes.definitions[class_id],
        examples=[known.example_address(class_id, p) for p in examples],
        strip=known.strip_address(class_id),
        tiles=[p - 1 for p in examples],
        answer=None if answer is None else ANSWERS[answer],
        main=main,
    )
