"""Scripts and styles: read once, at addresses that change with them: browsers keep them for good."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

FOLDER = Path(__file__).parent / "static"
_KEEP = "public, max-age=31536000, immutable"


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
