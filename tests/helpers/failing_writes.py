"""Run a command again and again in a folder whose disk fills at each change of a file, one by one.

Run as ``python failing_writes.py FOLDER COMMAND``, with command lines separated by ``--``: an earlier one
whose files are there before, and the one that fails. Prints what went wrong, and how many changes failed.
"""

import contextlib
import errno
import importlib
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import forking
from manyhot import cli
from manyhot.commands import COMMANDS

CHANGES = {"os.rename", "os.mkdir", "os.chmod", "os.truncate", "shutil.copyfile"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
state = {"left": 0}


def fail(event, arguments):
    """Raise the error of a full disk at the last of some changes, and at all later ones that need space."""
    changes = event in CHANGES or (event == "open" and arguments[2] & WRITES)
    if not state["left"] or not changes:
        return
    path = str(arguments[0])
    if path.startswith(("/dev/", "/proc/")) and not path.startswith("/dev/shm/"):  # where tests may lie
        return
    if state["left"] > 1:
        state["left"] -= 1
        return
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def run(folder, line, *, changes=0, largest=0):
    """Run a command in a process of its own, and return its exit code and what it printed."""
    said = folder.parent / "said.txt"
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text()
    os.chdir(folder)
    to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1), os.dup2(to, 2)
    if largest:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    sys.argv = ["manyhot", *line]
    code = 0
    state["left"] = changes
    try:
        cli.main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
        code = 1
    state["left"] = 0
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def contents(folder):
    """Return the bytes of each file."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def fresh(folder, before):
    """Put a folder back as it was."""
    shutil.rmtree(folder)
    for name, content in before.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main():
    folder = Path(sys.argv[1])
    before, _, line = " ".join(sys.argv[2:]).partition(" -- ")
    if before and (ended := run(folder, before.split()))[0]:
        sys.exit(f"the first command ended with {ended}")
    old = contents(folder)
    code, said = run(folder, line.split())
    if code:
        sys.exit(f"the command ended with {code}: {said}")
    new = contents(folder)
    wrong, tried = [], 0
    # Few sizes: no file of these commands is larger than the last.
    kinds = [{"changes": n} for n in range(1, 400)] + [{"largest": n} for n in (100, 1000, 5000, 20_000)]
    done = False
    for kind in kinds:
        if done and "changes" in kind:
            continue
        fresh(folder, old)
        code, said = run(folder, line.split(), **kind)
        found = contents(folder)
        if code == 0 and "changes" in kind:
            done = True  # the command made fewer changes
            continue
        tried += 1
        parts = [name for name in found if ".part" in Path(name).name]
        half = [n for n, c in found.items() if n not in parts and c not in (old.get(n), new.get(n))]
        gone = [name for name in old if name not in found and name in new]
        again = run(folder, line.split())[0]
        if code not in (0, 6) or parts or half or gone or again or contents(folder) != new:
            wrong.append(
                {**kind, "code": code, "parts": parts, "half": half, "gone": gone, "said": said[-400:]}
            )
    print(json.dumps({"tried": tried, "wrong": wrong}))


for module in (*forking.CORE, *(command.address.partition(":")[0] for command in COMMANDS.values())):
    with contextlib.suppress(ImportError):
        importlib.import_module(module)  # once, for all processes
sys.addaudithook(fail)
main()
