"""Closed streams, few open files, signals, and interpreters that drop docstrings."""

import os
import resource
import signal
import subprocess
import sys
from functools import partial

import pytest

from manyhot.errors import OutputError
from manyhot.report import prerender

MAIN = [sys.executable, "-m", "manyhot"]


@pytest.fixture
def small(tmp_path):
    (tmp_path / "labels.csv").write_text("image_id,label,class_id,state\na,0,0,yes\nb,1,1,yes\nc,2,0,yes\n")
    (tmp_path / "p.csv").write_text("image_id,class_id,score\na,0,0.9\nb,0,0.8\nc,2,0.7\n")
    return tmp_path


EVALUATE = ("evaluate", "labels.csv", "--predictions", "p.csv", "--out", "results")


def shell(folder, command, *arguments):
    """Run manyhot in a shell with other streams or limits."""
    line = ["sh", "-c", command, "sh", *MAIN, *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(small, redirection):
    """A closed stream leads nowhere; the files are as with all of them open."""
    found = shell(small, f'"$@" {redirection}', *EVALUATE)
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr
    assert (small / "results" / "report" / "index.html").is_file()
    assert ("wrote 12 files to results" in found.stdout) == (">&-" not in redirection.split())


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-"])
def test_listings_with_closed_streams(tmp_path, redirection):
    found = shell(tmp_path, f'"$@" {redirection}', "metrics")
    assert (found.returncode, found.stderr) == (0, "")
    assert ("real1" in found.stdout) == (redirection != ">&-")


@pytest.mark.parametrize(("reader", "code"), [("| head -n 1", 0), ("| true", 0), ("> /dev/full", 6)])
def test_files_are_written_whoever_reads(small, reader, code):
    """The tables are shown before the files are written: a reader that leaves does not keep them back."""
    found = shell(small, f'{{ "$@"; echo $? >code; }} {reader}', *EVALUATE, "--resamples", "0")
    assert (small / "code").read_text().strip() == str(code)
    assert "Traceback" not in found.stderr
    assert (small / "results" / "report" / "index.html").is_file()


@pytest.mark.slow
def test_few_open_files(small):
    """A file that cannot be opened, or a panic of the renderer of figures, in words of another language."""
    found = shell(small, 'ulimit -n 16; "$@"', *EVALUATE)
    assert found.returncode == 6
    first, *_, last = found.stderr[found.stderr.index("Error: ") :].splitlines()
    causes = ("A library cannot work in this environment.", "Cannot write the file: Too many open files.")
    assert first in [f"Error: {cause}" for cause in causes]
    assert last == "  do:      allow more open files, for example with: ulimit -n 256"
    assert not list(small.rglob("*.part"))


def test_few_addresses(tmp_path):
    """Libraries end the process, or fail in many ways, if they cannot reserve addresses."""
    found = shell(tmp_path, 'ulimit -v 500000; "$@"', "metrics")
    assert (found.returncode, found.stdout) == (6, "")
    assert found.stderr == (
        "Error: The address space of the process is too small for manyhot and its libraries.\n"
        "  got:     0.5 GB\n  allowed: 3 GB or more\n  do:      remove the limit with: ulimit -v unlimited\n"
    )
    assert shell(tmp_path, 'ulimit -v 500000; "$@"', "--version").returncode == 0


def test_too_few_addresses_to_draw(monkeypatch):
    pytest.importorskip("vl_convert")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16_000_000_000, resource.RLIM_INFINITY))
    with pytest.raises(OutputError) as error:
        prerender.to_png("<svg/>")
    assert str(error.value) == (
        "The address space of the process is too small for the renderer of figures.\n  got:     16.0 GB\n"
        "  allowed: 75 GB or more\n  do:      remove the limit with: ulimit -v unlimited"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            'MemoryError("Unable to allocate 9 TiB")',
            "Out of memory.\n  got:     Unable to allocate 9 TiB\n  do:      make more memory available",
        ),
        # Not only files that are results, and not an input that cannot be read.
        (
            'OSError(errno.ENOSPC, "No space left on device", "made")',
            "The disk is full; this file was not written.\n  where:   made\n"
            "  do:      free some space or choose another --out",
        ),
    ],
    ids=["memory", "disk"],
)
def test_what_a_command_uses_up(error, message):
    """In a process of its own, which the end of a command ends."""
    code = f"""
import errno, sys
from manyhot import cli
def fail(prog_name):
    raise {error}
cli.app = fail
sys.argv = ["manyhot", "metrics"]
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (6, f"Error: {message}\n")


def test_without_docstrings(tmp_path):
    found = subprocess.run(
        [sys.executable, "-OO", "-m", "manyhot", "metrics"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "Error: Python runs with -OO, which removes the docstrings that declare the commands.\n"
        "  do:      use -O, or unset PYTHONOPTIMIZE\n"
    )
    code = "import manyhot; print(manyhot.evaluate.__name__)"
    found = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (0, "evaluate\n")


@pytest.mark.slow
def test_without_assertions(small):
    line = [sys.executable, "-O", "-m", "manyhot", *EVALUATE]
    found = subprocess.run(line, capture_output=True, text=True, cwd=small)
    assert (found.returncode, found.stderr.count("Traceback")) == (0, 0)


def test_a_folder_that_is_not_utf8_is_refused_before_any_work(small):
    """In the C locale, as in minimal containers, é is two bytes that are no text."""
    own = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    line = [*MAIN, "predict", "nothing", "--model", "none", "--out", "oé"]
    found = subprocess.run(line, capture_output=True, text=True, cwd=small, env=own)
    assert found.returncode == 6
    assert found.stderr == (
        "Error: The name of a file or folder is not UTF-8.\n  where:   o\\udcc3\\udca9\n"
        f"  got:     {os.fsencode(small / 'oé')!r}\n  do:      choose another path for the output\n"
    )


@pytest.mark.parametrize("own", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_characters_that_a_stream_cannot_encode(own):
    code = "from manyhot.cli import streams; streams.open_streams(); print('5 \\xb11')"
    env = os.environ | {"PYTHONUTF8": "0"} | own
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"5 \\xb11\n", b"")


HALF_WRITTEN = """
import sys, time
from pathlib import Path
from manyhot import cli
from manyhot.cli import streams
from manyhot.files import atomic_write

def wait(prog_name):
    with atomic_write("table.csv") as part:
        part.write_text("half")
        print("writing", flush=True)
        time.sleep(60)

cli.app = wait
sys.argv = ["manyhot", "metrics"]
cli.main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_signals_leave_nothing_half_written(tmp_path, name, code):
    line = [sys.executable, "-c", HALF_WRITTEN]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A signal that is ignored, as SIGHUP below nohup, stays so.
    reset = partial(signal.signal, getattr(signal, name), signal.SIG_DFL)
    process = subprocess.Popen(line, cwd=tmp_path, text=True, preexec_fn=reset, **pipes)
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (code, "Interrupted; no file was left half-written.\n")
    assert list(tmp_path.iterdir()) == []


FORKED = """
import os, signal, sys, time
from manyhot.cli import streams
streams.end_in_order()
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
time.sleep(0.2)
os.kill(child, signal.SIGTERM)
print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


def test_processes_that_a_library_starts_end_as_before(tmp_path):
    found = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, cwd=tmp_path)
    assert (found.stdout, found.stderr) == (f"{int(signal.SIGTERM)}\n", "")


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    from manyhot.files import alone

    left = tmp_path / ".log.csv.abc.part"
    left.touch()
    with alone(tmp_path):
        assert not left.exists()
