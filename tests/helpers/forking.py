"""Commands in processes of their own that start at once: forked from one that has imported what they need.

A command has its own arguments, folder, environment, output and exit code, as one that a shell starts; only
the second, or with PyTorch the three seconds, that a new interpreter imports are spent once for all of them.

Run as ``python forking.py MODULES``; takes requests as lines of JSON.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import drawings
from manyhot.registry import BUILT_IN

MAIN = "from manyhot.cli import main; main()"


COMMAND_LINE = ("encodings.utf_8_sig", "manyhot.cli", "manyhot.cli.build", "manyhot.cli.events")
"""What the command line imports itself."""

LIBRARIES = (
    "altair",
    "vl_convert",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "rich.jupyter",
    "rich.pager",
    "rich.table",
    "typer._adapters",
)
"""What most commands import of other packages."""

CORE = (
    *LIBRARIES,
    *COMMAND_LINE,
    "manyhot.report",
    *(
        f"manyhot.evaluate.report.figures.{name}"
        for name in (
            *("curves", "intervals", "label_sets", "model_groups", "rank_changes", "scatter", "shift"),
        )
    ),
    *BUILT_IN["metric"],
    *BUILT_IN["format"],
    "manyhot.data.convert",
    *(f"manyhot.evaluate.{name}" for name in ("compare", "describe", "evaluate", "gallery", "leaderboard")),
)
"""What most commands import."""

NETWORKS = (
    "torch",
    "torchvision",
    "timm",
    "pandas",
    "rich.table",
    "typer._adapters",
    *COMMAND_LINE,
    "manyhot.predict.predict",
    *BUILT_IN["model"],
    *BUILT_IN["format"],
)
"""What commands that predict import."""


class Process:
    """A script that runs, as `Forks.start` begins it."""

    def __init__(self, pid: int, files: Sequence[Path], ended: Callable[[float], str]) -> None:
        self.pid, self._files, self._ended = pid, files, ended
        self._code: int | None = None

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self._code is None and (status := self._ended(0)):
            self._code = os.waitstatus_to_exitcode(int(status))
        return self._code

    def wait(self, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Return what it printed and its exit code when it has ended."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(int(self._ended(timeout)))
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return subprocess.CompletedProcess(self.pid, self._code, out, err)


class Forks:
    """Runs Python in forks of a process that has imported some modules, one at a time."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._command = [sys.executable, __file__, *modules]
        self._server: subprocess.Popen[str] | None = None
        self._unread = b""
        atexit.register(self.close)

    def run(
        self,
        *arguments: object,
        code: int = 0,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        script: str = MAIN,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script, by default manyhot's command line, and check its exit code."""
        with tempfile.TemporaryDirectory() as folder:
            done = self.start(*arguments, folder=Path(folder), cwd=cwd, env=env, script=script).wait()
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(
        self,
        *arguments: object,
        folder: Path,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        script: str = MAIN,
    ) -> Process:
        """Start a script; it is to end, or be killed, before the next is started.

        Parameters
        ----------
        *arguments
        folder
            For two files with what it prints.
        cwd, env
            Those of this process by default.
        script
        """
        files = [folder / "stdout", folder / "stderr"]
        told = {
            "script": script,
            "argv": ["manyhot", *map(str, arguments)],
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "files": list(map(str, files)),
        }
        if self._server is None:
            pipe = subprocess.PIPE
            self._server = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, text=True, bufsize=1, start_new_session=True
            )
        self._server.stdin.write(json.dumps(told) + "\n")
        return Process(int(self._answer(120)), files, self._answer)

    def close(self) -> None:
        """End the process, and what it runs."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server.stdin.close()
            self._server.stdout.close()
            self._server, self._unread = None, b""

    def _answer(self, timeout: float) -> str:
        """Return the next line of the server; nothing where it has none yet and nobody wants to wait."""
        # A script that ends at once answers with two lines together, of which a reader with a buffer would
        # keep the second one, and a later look at the pipe would wait for it in vain.
        pipe = self._server.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([pipe], [], [], timeout)[0]:
                if timeout:
                    self.close()
                    raise TimeoutError(f"a script is not done after {timeout} s")
                return ""
            read = os.read(pipe, 4096)
            if not read:
                raise EOFError("the process that forks has ended")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


commands = Forks(CORE)
predictions = Forks(NETWORKS)


def serve() -> str:
    """Fork for each request; tell its id and, when it has ended, how. In the fork, return its script."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(**request)
            return request["script"]
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
    os._exit(0)


def _become(script: str, argv: Sequence[str], cwd: str, env: Mapping[str, str], files: Sequence[str]) -> None:
    descriptors = [os.open(os.devnull, os.O_RDONLY)]
    descriptors += [os.open(file, os.O_WRONLY | os.O_CREAT) for file in files]
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv[:] = argv
    sys.path[0] = cwd  # as with python -m


def end(code: int) -> None:
    """End as Python does, except that modules stay as they are until the process is gone.

    To take apart what was imported copies all of its pages: 0.35 of the 0.4 s of CPU of a short command.
    """
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):  # a full disk, or closed: Python has an exit code for it
        sys.exit(code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    gc.disable()  # a fifth of the time of imports, and nothing to collect
    for module in sys.argv[1:]:
        importlib.import_module(module)
    if renderer := sys.modules.get("vl_convert"):
        for name in drawings.DRAWERS:
            setattr(renderer, name, drawings.kept(getattr(renderer, name)))
    if pages := sys.modules.get(
        "manyhot.report.page"
    ):  # 0.2 s of the 0.5 s of a command that writes a report
        templates = pages.environment()
        for name in templates.list_templates(extensions=["html"]):
            templates.get_template(name)
    if events := sys.modules.get("manyhot.cli.events"):
        events.LINE_EVERY_S = math.inf  # no progress, however busy the machine is
    gc.collect()
    gc.freeze()  # what is shared stays so, and no fork collects it when it ends
    gc.enable()
    script, code = serve(), 0
    # Not within a function: ends as a script does, whatever it raises.
    try:
        exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):  # Python prints it
            raise
        code = ended.code or 0
    end(code)
