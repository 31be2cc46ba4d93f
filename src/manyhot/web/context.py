"""What every route needs, and who asks."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Form, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.templating import Jinja2Templates

from manyhot.classes import ClassList
from manyhot.web.limits import Limits
from manyhot.web.meanwhile import Briefly, Meanwhile, Settled
from manyhot.web.numbers import Numbers, Outside
from manyhot.web.pictures import Pictures
from manyhot.web.reach import Reach
from manyhot.web.search import Search
from manyhot.web.static_files import StaticFiles
from manyhot.web.store import Rater, Store

NO_SESSION = "Open your invitation link to go on."


@dataclass
class Context:
    """What the app is made of.

    Attributes
    ----------
    store : Store
    classes : ClassList
    pictures : Pictures
    title : str
        Of the campaign.
    outside : Outside
    reach : Reach
    limits : Limits
    static : StaticFiles
    settled : Settled
        Pages that were decided on since the votes were counted.
    search : Briefly of Search
        Finds classes by words.
    left, pages : Briefly of int
        How many looks at pages are still wanted, and how many pages a rater can be asked about.
    show_label : Briefly of bool
        Whether raters see the original label.
    numbers : Meanwhile of Numbers
        How far the campaign is, and how good its answers are.
    """

    store: Store
    classes: ClassList
    pictures: Pictures
    title: str
    outside: Outside = field(default_factory=Outside)
    reach: Reach = field(default_factory=Reach)
    limits: Limits = field(default_factory=Limits)
    static: StaticFiles = field(default_factory=StaticFiles)
    settled: Settled = field(default_factory=Settled)
    search: Briefly[Search] = field(init=False)
    left: Briefly[int] = field(init=False)
    pages: Briefly[int] = field(init=False)
    show_label: Briefly[bool] = field(init=False)
    numbers: Meanwhile[Numbers] = field(init=False)

    def __post_init__(self) -> None:
        # Here, and not when first asked for: from Python 3.12 on threads that ask at once would make several.
        self.search = Briefly(lambda: Search(self.classes), math.inf)
        self.left, self.pages = Briefly(self.store.count_free), Briefly(self.store.count_pages, 60)
        self.show_label = Briefly(lambda: self.store.settings().show_label)
        self.numbers = Meanwhile(lambda: Numbers.of(self.store, self.classes, self.outside))

    @cached_property
    def templates(self) -> Jinja2Templates:
        """The pages; in them, ``static`` is where scripts and styles are."""
        templates = Jinja2Templates(Path(__file__).parent / "templates")
        templates.env.globals["static"] = f"/static/{self.static.version}"
        return templates

    @cached_property
    def campaign_id(self) -> str:
        """What tells this campaign from any other at the same address."""
        return self.store.campaign_id()

    @cached_property
    def cookie(self) -> str:
        """The name of the session's cookie: those of one host see each other's, whatever their ports."""
        # Browsers take what begins so from this host alone, and by https alone.
        return (
            "__Host-" if self.reach.address.startswith("https://") else ""
        ) + f"manyhot-{self.campaign_id}"

    def is_https(self, request: Request) -> bool:
        """Return whether who asks speaks HTTPS, with the app or with a proxy before it."""
        peer = request.client.host if request.client else ""
        return self.reach.is_https(request.url.scheme, peer, request.headers.get("x-forwarded-proto", ""))

    def address(self, request: Request) -> str:
        """Return where people reach the app: as it was told, or else as a request that was let in says."""
        scheme = "https" if self.is_https(request) else "http"
        return self.reach.address or f"{scheme}://{request.headers['host']}"

    def client(self, request: Request) -> str:
        """Return the address of who asks, which limits are for."""
        peer = request.client.host if request.client else ""
        return self.reach.client(peer, request.headers.get("x-forwarded-for", ""))

    def image_address(self, number: int) -> str:
        """Return where a browser finds an image of the campaign, ``/small`` or ``/large`` to follow."""
        return f"/images/{self.campaign_id}/{number}"

    def example_address(self, class_id: int, position: int) -> str:
        """Return where a browser finds an example image of a class, ``/small`` or ``/large`` to follow."""
        return f"/examples/{self.campaign_id}/{class_id}/{position}"

    def strip_address(self, class_id: int) -> str:
        """Return where a browser finds the first example images of a class in one picture."""
        return f"/examples/{self.campaign_id}/{class_id}/strip"


# Those that wait for nothing are coroutines: each plain function is a hop to a thread and back, 0.2 ms.


async def context(request: Request) -> Context:
    """Return what the app is made of."""
    found: Context = request.app.state.context
    return found


Known = Annotated[Context, Depends(context)]


async def maybe_rater(request: Request, known: Known) -> Rater | None:
    """Return who asks, None where nobody is logged in."""
    token = request.cookies.get(known.cookie)
    if not token:
        return None
    found = known.store.remembered(token) or await run_in_threadpool(known.store.of_session, token)
    if found is not None:
        known.limits.know(token)
    return found


async def rater(found: Annotated[Rater | None, Depends(maybe_rater)]) -> Rater:
    """Return who asks; answer 401 where nobody is logged in."""
    if found is None:
        raise HTTPException(401, NO_SESSION)
    return found


async def owner(found: Annotated[Rater, Depends(rater)]) -> Rater:
    """Return the owner who asks; answer 403 to anybody else."""
    if not found.is_owner:
        raise HTTPException(403, "Only the owner of the campaign may see this.")
    return found


async def visiting_owner(found: Annotated[Rater | None, Depends(maybe_rater)]) -> Rater:
    """Return the owner who opens a page; lead who is not logged in to where owners log in."""
    if found is None:
        raise HTTPException(303, "Log in.", {"Location": "/owner/login"})
    return await owner(found)


def csrf_token(session: str) -> str:
    """Return what a page of a session must send along with a change; other sites cannot know it."""
    return hmac.new(session.encode(), b"manyhot csrf", hashlib.sha256).hexdigest()


async def check_csrf(request: Request, known: Known) -> None:
    """Refuse a change that another site sent in the rater's name."""
    _check_csrf(request, known, request.headers.get("x-csrf", ""))


async def check_form(request: Request, known: Known, csrf: Annotated[str, Form()] = "") -> None:
    """As `check_csrf`, of a form."""
    _check_csrf(request, known, csrf)


def _check_csrf(request: Request, known: Context, sent: str) -> None:
    session = request.cookies.get(known.cookie, "")
    if not session:
        raise HTTPException(401, NO_SESSION)
    if not hmac.compare_digest(sent.encode(), csrf_token(session).encode()):
        raise HTTPException(403, "The request did not come from a page of this app; reload the page.")


AnyRater = Annotated[Rater, Depends(rater)]
Owner = Annotated[Rater, Depends(owner)]
VisitingOwner = Annotated[Rater, Depends(visiting_owner)]
