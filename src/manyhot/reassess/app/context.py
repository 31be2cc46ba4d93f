"""Shared objects of all routes: the parts of the app, the sender of a request, and the class search."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import hmac
import math
import os
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Form, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.templating import Jinja2Templates
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from manyhot.classes import ClassList
from manyhot.errors import OutputError
from manyhot.reassess.app.access import Limits, Reach
from manyhot.reassess.app.cached_value import CachedValue
from manyhot.reassess.app.picture_cache import TILES, PictureCache
from manyhot.reassess.app.progress import AppCallbacks, JudgedCampaign
from manyhot.reassess.app.store import CampaignSettings, Rater, Store

_HERE = Path(__file__).parent
NO_SESSION = "Open your invitation link to continue."
_COUNT_PAGES_EVERY = 60
"""Seconds for which the number of pages is cached: it changes only if a later `annotate` adds some."""
_COUNT_SHARE = 0.005
"""Share of one core: PostgreSQL counts four million slots in 0.4 s, on all cores, and answers wait."""
_CACHE_FOR_GOOD = "public, max-age=31536000, immutable"


class VersionedFiles(StaticFiles):
    """The files of a folder, served at ``/static/VERSION/NAME`` and cached permanently by browsers.

    All files share one version, because modules import each other by relative addresses.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = b"".join(
            b"%s\0%s\0" % (path.relative_to(folder).as_posix().encode(), path.read_bytes()) for path in files
        )
        self.version = hashlib.sha256(content).hexdigest()[:16]

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file. If another version was requested, browsers do not cache it."""
        version, _, name = path.partition(os.sep)
        response = await super().get_response(name, scope)
        # A page that is older than the server asks for files as they were: it gets today's, but keeps none.
        response.headers["Cache-Control"] = _CACHE_FOR_GOOD if version == self.version else "no-store"
        if name.endswith(".js"):  # on Windows a registry says what it is
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        return response


@dataclass
class Context:
    """The parts of the app.

    Attributes
    ----------
    store : Store
    classes : ClassList
    pictures : PictureCache
    folder_name : str
        The title of the campaign, unless its settings contain one.
    callbacks : AppCallbacks
    reach : Reach
    limits : Limits
    static : VersionedFiles
        Scripts and styles.
    search : CachedValue of Search
        Search for classes by words.
    left, pages : CachedValue of int
        Number of free slots, and number of pages that a rater can be shown.
    settings : CachedValue of CampaignSettings
    status : CachedValue of JudgedCampaign
        Progress of the campaign, and the quality of its answers.
    ready : CachedValue of None
        Raises an error if the database cannot be written to.
    """

    store: Store
    classes: ClassList
    pictures: PictureCache
    folder_name: str
    callbacks: AppCallbacks = field(default_factory=AppCallbacks)
    reach: Reach = field(default_factory=Reach)
    limits: Limits = field(default_factory=Limits)
    static: VersionedFiles = field(default_factory=lambda: VersionedFiles(_HERE / "static"))
    search: CachedValue[Search] = field(init=False)
    left: CachedValue[int] = field(init=False)
    pages: CachedValue[int] = field(init=False)
    settings: CachedValue[CampaignSettings] = field(init=False)
    status: CachedValue[JudgedCampaign] = field(init=False)
    ready: CachedValue[None] = field(init=False)

    def __post_init__(self) -> None:
        # Here, and not when first asked for: from Python 3.12 on threads that ask at once would make several.
        self.search = CachedValue(lambda: Search(self.classes), math.inf)
        self.left = CachedValue(self.store.count_free, core_share=_COUNT_SHARE)
        self.pages = CachedValue(self.store.count_pages, _COUNT_PAGES_EVERY)
        self.ready = CachedValue(self.store.write_something)  # anyone may ask
        self.settings = CachedValue(self.store.settings)
        self.status = CachedValue(lambda: JudgedCampaign.of(self.store, self.classes, self.callbacks), 2)

    def prepare(self) -> None:
        """Compute what all raters need first; otherwise, they would all wait for it, and so would answers."""
        for value in (self.left, self.pages, self.settings):
            value.get()

    @property
    def title(self) -> str:
        """The title of the campaign."""
        with contextlib.suppress(OutputError):  # messages have a title without a database, too
            return self.store.settings().title or self.folder_name
        return self.folder_name

    @property
    def static_folder(self) -> Path:
        """The folder of scripts and styles."""
        return _HERE / "static"

    @cached_property
    def templates(self) -> Jinja2Templates:
        """The page templates; in them, ``static`` is the address of scripts and styles."""
        templates = Jinja2Templates(_HERE / "templates")
        templates.env.globals["static"] = f"/static/{self.static.version}"
        return templates

    @cached_property
    def campaign_id(self) -> str:
        """An id that distinguishes this campaign from others at the same address."""
        return self.store.campaign_id()

    @cached_property
    def cookie(self) -> str:
        """The name of the session cookie, with the campaign's id, because apps on one host share cookies."""
        # Browsers take what begins so from this host alone, and by https alone.
        return (
            "__Host-" if self.reach.address.startswith("https://") else ""
        ) + f"manyhot-{self.campaign_id}"

    def is_https(self, request: Request) -> bool:
        """Return whether the client uses HTTPS, either with the app or with a proxy in front of it."""
        peer = request.client.host if request.client else ""
        return self.reach.is_https(request.url.scheme, peer, request.headers.get("x-forwarded-proto", ""))

    def address(self, request: Request) -> str:
        """Return the public address of the app: the configured address or, if empty, that of the request."""
        scheme = "https" if self.is_https(request) else "http"
        return self.reach.address or f"{scheme}://{request.headers['host']}"

    def client(self, request: Request) -> str:
        """Return the client's address, to which request limits apply."""
        peer = request.client.host if request.client else ""
        return self.reach.client(peer, request.headers.get("x-forwarded-for", ""))

    def image_address(self, number: int) -> str:
        """Return the URL of an image of the campaign, without ``/small`` or ``/large``."""
        return f"/images/{self.campaign_id}/{number}"

    def example_address(self, class_id: int, position: int) -> str:
        """Return the URL of an example image of a class, without ``/small`` or ``/large``."""
        return f"/examples/{self.campaign_id}/{class_id}/{position}"

    def strip_address(self, class_id: int, positions: Sequence[int] = ()) -> str:
        """Return the URL of one picture that contains the first example images of a class.

        `positions` are the positions of the example images that are shown. The picture at a URL never
        changes: if some of the first example images are withdrawn, the URL contains the positions of those
        shown.
        """
        address = f"/examples/{self.campaign_id}/{class_id}/strip"
        first = positions[:TILES]
        if list(first) == [*range(1, len(first) + 1)]:
            return address
        return f"{address}/{'-'.join(map(str, first))}"


async def get_context(request: Request) -> Context:
    """Return the parts of the app."""
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(get_context)]


async def session_rater(request: Request, context: ContextDep) -> Rater | None:
    """Return the rater of a request's session; None without a session."""
    token = request.cookies.get(context.cookie)
    if not token:
        return None
    rater = context.store.remembered(token) or await run_in_threadpool(context.store.of_session, token)
    if rater is not None:
        context.limits.know(token)
    return rater


SessionRater = Annotated[Rater | None, Depends(session_rater)]


async def current_rater(rater: SessionRater) -> Rater:
    """Return the rater of a request; respond with 401 without a session."""
    if rater is None:
        raise HTTPException(401, NO_SESSION)
    return rater


CurrentRater = Annotated[Rater, Depends(current_rater)]


async def visiting_owner(rater: SessionRater) -> Rater:
    """Return the owner who opens a page; redirect others to the log-in page; respond with 403 to raters."""
    if rater is None:
        raise HTTPException(303, "Log in.", {"Location": "/owner/login"})
    if not rater.is_owner:
        raise HTTPException(403, "Only the owner of the campaign can see this page.")
    return rater


VisitingOwner = Annotated[Rater, Depends(visiting_owner)]


def csrf_token(session: str) -> str:
    """Return the token that a page must send with each change; other sites cannot know it."""
    return hmac.new(session.encode(), b"manyhot csrf", hashlib.sha256).hexdigest()


async def check_csrf(request: Request, context: ContextDep) -> None:
    """Raise an error if another site sent a change in the rater's name."""
    _check_csrf(request, context, request.headers.get("x-csrf", ""))


async def check_form(request: Request, context: ContextDep, csrf: Annotated[str, Form()] = "") -> None:
    """As `check_csrf`, for a form."""
    _check_csrf(request, context, csrf)


def _check_csrf(request: Request, context: Context, token: str) -> None:
    session = request.cookies.get(context.cookie, "")
    if not session:
        raise HTTPException(401, NO_SESSION)
    if not hmac.compare_digest(token.encode(), csrf_token(session).encode()):
        raise HTTPException(403, "The request did not come from a page of this app; reload the page.")


_WORD = re.compile(r"\w+")
_NAME, _SYNONYM, _HYPERNYM, _DEFINITION = 100, 10, 3, 1
_WHOLE = 2
"""A whole word counts twice as much as a prefix."""


_NEAR = 0.75
_LAST = "\U0010ffff"


class Search:
    """Search for classes whose texts contain words that begin with the words of a query.

    Matches in names rank first, followed by matches in synonyms, hypernyms and definitions. Since
    hypernyms are searched too, *dog* finds all breeds. Among ties, the shorter name comes first. A plural
    also matches the singular. If nothing matches, words with a similar spelling are tried.
    """

    def __init__(self, classes: ClassList) -> None:
        self._names = classes.names
        self._classes: dict[str, dict[int, int]] = {}
        for class_id in range(len(classes)):
            self._add(class_id, classes.definitions[class_id], _DEFINITION)
            kinds = (hypernym.partition(" ")[2] for hypernym in classes.hypernyms[class_id])
            self._add(class_id, " ".join(kinds), _HYPERNYM)
            self._add(class_id, " ".join(classes.synonyms[class_id]), _SYNONYM)
            self._add(class_id, classes.names[class_id], _NAME)
        self._words = sorted(self._classes)

    def __call__(self, text: str) -> list[int]:
        """Return the classes that match all words of a text, best first."""
        words = _split(text)
        scores = self._all([self._begun(word) for word in words])
        if not scores:
            scores = self._all([self._begun(word) or self._near(word) for word in words])
        return sorted(scores, key=lambda c: (-scores[c], len(self._names[c]), c))

    def _add(self, class_id: int, text: str, weight: int) -> None:
        for word in _split(text):
            self._classes.setdefault(word, {})[class_id] = weight  # a name comes last: it counts most

    def _all(self, scores: list[dict[int, int]]) -> dict[int, int]:
        """Return the classes that each word is found in, with their scores together."""
        if not scores:
            return {}
        return {c: sum(one[c] for one in scores) for c in scores[0] if all(c in one for one in scores)}

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


def _split(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def _singulars(word: str) -> set[str]:
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return {word.removesuffix(a) + b for a, b in endings if word.endswith(a) and len(word) > len(a) + 2}
