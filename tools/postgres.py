"""Run a command beside a PostgreSQL server that is made for it and goes with it.

    python tools/postgres.py make test

The command finds the server's address in MANYHOT_POSTGRES. Needs the programs of PostgreSQL (Debian: the
package postgresql), of any version, and neither systemd nor a password. Root lends them to the user postgres:
they refuse to run as root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest where there are several; None without any."""
    there = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if there:
        return max(there, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)])
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


VOLATILE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""Settings of a server whose data nobody needs when it has gone: it waits for no disk."""


class Server:
    """A PostgreSQL server on loopback.

    Parameters
    ----------
    folder : Path
        Of its files; the user postgres can reach it.
    options : sequence of str
        Settings, such as ``fsync=off``.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        found = programs()
        if found is None:
            raise SystemExit("PostgreSQL's programs are not installed: apt-get install postgresql")
        self._programs, self._folder = found, folder
        self._user = "postgres" if os.geteuid() == 0 else None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        settings = [f"port={self._port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}"]
        self._options = " ".join(f"-c {setting}" for setting in (*settings, *options))
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")

    @property
    def url(self) -> str:
        """Its address, with the database that is always there."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", self._options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``immediate`` is what a power cut is to it."""
        self._run("pg_ctl", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self._folder / "data", *arguments],
            check=True,
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
        )


@contextlib.contextmanager
def running(*options: str) -> Iterator[Server]:
    """Yield a server that runs, and leave nothing of it behind."""
    with tempfile.TemporaryDirectory(prefix="manyhot-postgres-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        server = Server(folder, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


if __name__ == "__main__":
    with running(*VOLATILE) as started:
        done = subprocess.run(sys.argv[1:], env={**os.environ, "MANYHOT_POSTGRES": started.url})
    sys.exit(done.returncode)
