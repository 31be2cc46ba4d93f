"""Bytes from the addresses that manyhot downloads from, and no others."""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from manyhot._version import __version__

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector

# Here and not in the data, so that no edit of the data alone reaches another host. Only the tests widen them.
_SCHEMES = ("https",)
_HOSTS = ("raw.githubusercontent.com",)

_TIMEOUT = 30.0
_LONGEST_PAUSE = 30.0
_CHUNK = 1 << 18
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}


class FailureError(Exception):
    """A source did not give the bytes; `passing` if trying again may help, after `pause` seconds at least."""

    def __init__(self, reason: str, *, passing: bool = False, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.passing = passing
        self.pause = min(pause, _LONGEST_PAUSE)


def respond(url: str, begin: int) -> HTTPResponse:
    """Return the answer to a request for the bytes from `begin` on, or for all if the server refuses that."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError

    try:
        response = _request(url, begin)
    except HTTPError as error:
        with error:
            failure = _refusal(error)
        if error.code != 416 or begin == 0:
            raise failure from error
        return respond(url, 0)
    except URLError as error:
        raise FailureError(str(error.reason), passing=_is_passing(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise FailureError(str(error) or type(error).__name__, passing=True) from error
    if begin and response.status == 206 and not _begins_at(response, begin):
        response.close()
        return respond(url, 0)
    return response


def _request(url: str, begin: int) -> HTTPResponse:
    from urllib.request import Request

    headers = {"User-Agent": f"manyhot/{__version__}"} | ({"Range": f"bytes={begin}-"} if begin else {})
    scheme, _, address = url.partition("://")
    if scheme not in _SCHEMES or address.partition("/")[0] not in _HOSTS:
        raise FailureError("not an address that manyhot downloads from")
    response: HTTPResponse = _opener().open(Request(url, headers=headers), timeout=_TIMEOUT)  # noqa: S310
    return response


@functools.cache
def _opener() -> OpenerDirector:
    from urllib.request import HTTPRedirectHandler, build_opener

    class StayHere(HTTPRedirectHandler):
        """Lets a redirect fail: pinned addresses do not move."""

        def redirect_request(self, *args: object, **options: object) -> None:
            return None

    return build_opener(StayHere)


def _refusal(error: HTTPError) -> FailureError:
    pause = error.headers.get("Retry-After", "")
    return FailureError(
        f"HTTP status {error.code} {error.reason}",
        passing=error.code in _PASSING_STATUS,
        pause=float(pause) if pause.isdecimal() else 0.0,
    )


def _is_passing(reason: object) -> bool:
    """Return whether a failed connection is worth another try: not when offline or distrusted."""
    import socket
    import ssl

    if isinstance(reason, socket.gaierror | ssl.SSLCertVerificationError):
        return False
    return isinstance(reason, OSError) and reason.errno != errno.ENETUNREACH


def _begins_at(response: HTTPResponse, begin: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")


def body(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come."""
    from http.client import HTTPException

    length = response.headers.get("Content-Length", "")
    left = int(length) if length.isdecimal() else None
    while left != 0:
        try:
            # read1 gives what has arrived, which read would lose if the connection then broke.
            chunk = response.read1(_CHUNK if left is None else min(_CHUNK, left))
        except (OSError, HTTPException) as error:
            raise FailureError(str(error) or type(error).__name__, passing=True) from error
        if not chunk and left is not None:
            raise FailureError(f"the connection ended {left} bytes early", passing=True)
        if not chunk:
            return
        left = None if left is None else left - len(chunk)
        yield chunk
