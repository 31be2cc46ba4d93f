"""What every route needs, and who asks.

Finding a class by words.

Scripts and styles: read once, at addresses that change with them: browsers keep them for good.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import math
import mimetypes
import re
import unicodedata
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Form, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.templating import Jinja2Templates
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from manyhot.classes import ClassList
from manyhot.reassess.app.background_value import Briefly, Meanwhile, Settled
from manyhot.reassess.app.network import Limits, Reach
from manyhot.reassess.app.pictures import Pictures
from manyhot.reassess.app.progress import Numbers, Outside
from manyhot.reassess.app.store import Rater, Store

NO_SESSION = "Open your invitation link to go on."


FOLDER = Path(__file__).parent / "static"


class StaticFiles:
    """The files of a folder, at ``/static/VERSION/NAME``.

    The version is that of all files together: modules import each other by relative addresses.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        told = b"".join(name.encode() + b"\0" + data + b"\0" for name, data in self._files.items())
        self.version = hashlib.sha256(told).hexdigest()[:16]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        await self._respond(scope)(scope, receive, send)

    def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Files can only be read.", 405)
        version, _, name = (
            str(scope["path"]).removeprefix(scope.get("root_path", "")).lstrip("/").partition("/")
        )
        if name not in self._files:
            return PlainTextResponse("There is no such file.", 404)
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
        # A page that is older than the server asks for files as they were: it gets today's, but keeps none.
        keep = _KEEP if version == self.version else "no-store"
        return Response(self._files[name], media_type=kind, headers={"Cache-Control": keep})


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


_WORD = re.compile(r"\w+")


_NAME, _SYNONYM, _DEFINITION = 100, 10, 1


_WHOLE = 2
"""A whole word counts twice as much as one that is only begun."""


_NEAR = 0.75


_LAST = "\U0010ffff"


class Search:
    """Finds classes whose name, synonyms or definition have words that begin as those searched for.

    Names count more than synonyms, and these more than definitions; among equals the shorter name is first. A
    plural finds the singular. Where nothing is found, words that are spelled nearly alike are looked for.
    """

    def __init__(self, classes: ClassList) -> None:
        self._names = classes.names
        self._classes: dict[str, dict[int, int]] = {}
        for class_id in range(len(classes)):
            self._add(class_id, classes.definitions[class_id], _DEFINITION)
            self._add(class_id, " ".join(classes.synonyms[class_id]), _SYNONYM)
            self._add(class_id, classes.names[class_id], _NAME)
        self._words = sorted(self._classes)

    def __call__(self, text: str) -> list[int]:
        """Return the classes that all words of a text are found in, the best first."""
        words = _words(text)
        scores = self._all([self._begun(word) for word in words])
        if not scores:
            scores = self._all([self._begun(word) or self._near(word) for word in words])
        return sorted(scores, key=lambda c: (-scores[c], len(self._names[c]), c))

    def _add(self, class_id: int, text: str, weight: int) -> None:
        for word in _words(text):
            self._classes.setdefault(word, {})[class_id] = weight  # a name comes last: it counts most

    def _all(self, found: list[dict[int, int]]) -> dict[int, int]:
        """Return the classes that each word is found in, with their scores together."""
        if not found:
            return {}
        return {c: sum(one[c] for one in found) for c in found[0] if all(c in one for one in found)}

    def _begun(self, word: str) -> dict[int, int]:
        """Return the classes with words that begin like one, with their scores."""
        scores: dict[int, int] = {}
        whole = {word, *_singulars(word)}
        words = self._words[bisect_left(self._words, word) : bisect_left(self._words, word + _LAST)]
        for known in {*words, *whole}:
            times = _WHOLE if known in whole else 1
            for class_id, weight in self._classes.get(known, {}).items():
                scores[class_id] = max(scores.get(class_id, 0), weight * times)
        return scores

    def _near(self, word: str) -> dict[int, int]:
        """Return the classes with words that are spelled nearly like one, with their scores."""
        # Of those alone that could be: to compare all words of 21,000 classes takes half a second.
        like = [w for w in self._words if abs(len(w) - len(word)) <= 2 and w[0] == word[0]]
        scores: dict[int, int] = {}
        for known in difflib.get_close_matches(word, like, n=5, cutoff=_NEAR):
            for class_id, weight in self._classes[known].items():
                scores[class_id] = max(scores.get(class_id, 0), weight)
        return scores


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def _singulars(word: str) -> set[str]:
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return {word.removesuffix(a) + b for a, b in endings if word.endswith(a) and len(word) > len(a) + 2}


_KEEP = "public, max-age=31536000, immutable"
