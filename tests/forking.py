"""Commands in processes of their own that start at once: forked from one that has imported what they need.

A command has its own arguments, folder, environment, output and exit code, as one that a shell starts; only
the second, or with PyTorch the three seconds, that a new interpreter imports are spent once for all of them.

Run as ``python forking.py MODULES``; takes requests as lines of JSON, answers with exit codes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MAIN = "from manyhot.cli import main; main()"


CORE = (
    "altair",
    "vl_convert",
    "manyhot.cli",
    *(f"manyhot.pipeline.{name}" for name in ("benchmarks", "compare", "conversion", "describe", "evaluate")),
)
"""What most commands import."""

NETWORKS = ("torch", "torchvision", "timm", "manyhot.cli", "manyhot.models")
"""What commands that predict import."""


class Forks:
    """Runs Python in forks of a process that has imported some modules; it starts with the first."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._command = [sys.executable, __file__, *modules]
        self._server: subprocess.Popen[str] | None = None
        atexit.register(self.close)

    def run(
        self,
        *arguments: object,
        code: int = 0,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        script: str = MAIN,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script, by default manyhot's command line, and check its exit code.

        Parameters
        ----------
        *arguments
        code
        cwd, env
            Those of this process by default.
        script
        timeout
            In seconds.
        """
        words = ["manyhot", *map(str, arguments)]
        with tempfile.TemporaryDirectory() as folder:
            told = {
                "script": script,
                "argv": words,
                "cwd": os.fspath(cwd or Path.cwd()),
                "env": dict(os.environ if env is None else env),
                "files": [str(Path(folder, name)) for name in ("out", "err")],
            }
            status = self._ask(json.dumps(told), timeout)
            out, err = (Path(file).read_text(encoding="utf-8") for file in told["files"])
        done = subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(status), out, err)
        assert done.returncode == code, out + err
        return done

    def close(self) -> None:
        """End the process; one that is busy, too."""
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server.stdin.close()
            self._server.stdout.close()
            self._server = None

    def _ask(self, line: str, timeout: float) -> int:
        if self._server is None:
            pipe = subprocess.PIPE
            self._server = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
            )
        self._server.stdin.write(f"{line}\n")
        self._server.stdin.flush()
        if not select.select([self._server.stdout], [], [], timeout)[0]:
            self.close()
            raise TimeoutError(f"not done after {timeout} s: {line}")
        return int(self._server.stdout.readline())


commands = Forks(CORE)
predictions = Forks(NETWORKS)


def serve() -> str:
    """Fork for each request, and answer when the fork has ended; return in the fork, with its script."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(**request)
            return request["script"]
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


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is shared stays so, and no fork collects it when it ends
    # Not within a function: ends as a script does, whatever it raises.
    exec(compile(serve(), "<script>", "exec"), {"__name__": "__main__"})
