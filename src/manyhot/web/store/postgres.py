"""pg8000's connections: quicker, lost in one way, and with no socket left open.

pg8000 1.31 has each statement parsed, described and run, three journeys to the server each time; here it is
parsed and described once a connection. It lets some errors of the network out as they are, and SQLAlchemy
takes them for our own. It closes a socket but not the file that reads from it, so that it stays open until
the collector comes by.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

import pg8000
from pg8000.converters import make_params

_PREPARED = 500
"""Statements a connection has prepared at most; the app has some 100."""


class Connection(pg8000.Connection):  # type: ignore[misc]
    """A connection to PostgreSQL.

    Parameters
    ----------
    host : str
    port : int
    unix_sock : str, optional
        The path of a socket, in place of both.
    **options
        Of pg8000.

    Raises
    ------
    pg8000.InterfaceError
        There is no server, or it went; so say all methods.
    """

    def __init__(
        self, host: str = "localhost", port: int = 5432, unix_sock: str | None = None, **options: Any
    ) -> None:
        self._prepared: dict[object, tuple[Any, ...]] = {}
        opened: list[socket.socket] = []
        try:
            if (
                unix_sock is None
            ):  # pg8000 forgets its own if the server goes before it says whether it has TLS
                opened.append(socket.create_connection((host, port)))
                opened[0].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                options["sock"] = opened[0]
            super().__init__(host=host, port=port, unix_sock=unix_sock, **options)
        except BaseException as error:
            for one in opened:
                one.close()
            if isinstance(error, OSError):
                raise _lost(error) from error
            raise

    def execute_unnamed(
        self, statement: str, vals: Sequence[object] = (), oids: Sequence[int] = (), stream: object = None
    ) -> object:
        """Run a statement that most often was run before."""
        key = (statement, tuple(oids))
        if key not in self._prepared:
            if stream is not None or len(self._prepared) >= _PREPARED:
                return super().execute_unnamed(statement, vals, oids, stream)
            self._prepared[key] = self.prepare_statement(statement, oids)
        name, columns, converters = self._prepared[key]
        return self.execute_named(name, make_params(self.py_types, vals), columns, converters, statement)

    def handle_messages(self, context: object) -> None:
        """Read what the server answers."""
        try:
            super().handle_messages(context)
        except OSError as error:
            raise _lost(error) from error

    def close(self) -> None:
        """Say goodbye, if somebody listens, and close the socket."""
        if self._usock is None:
            raise pg8000.InterfaceError("connection is closed")
        stream = self._sock
        with contextlib.suppress(pg8000.InterfaceError):  # nobody listens any more
            super().close()
        with contextlib.suppress(OSError):  # what was not sent
            stream.close()


def _lost(error: OSError) -> Exception:
    # By these two words SQLAlchemy knows that the connection is of no use any more.
    lost: Exception = pg8000.InterfaceError(f"network error: {error}")
    return lost
