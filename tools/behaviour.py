"""Pin what the command line does: run commands over real input, record what they write, compare two records.

    python tools/behaviour.py record FOLDER [--source SRC] [--only NAME …] [--jobs N]
    python tools/behaviour.py compare OLD NEW [--only NAME …]
    python tools/behaviour.py against COMMIT [--only NAME …] [--jobs N]

``behaviour_cases.toml`` lists the commands. A record holds a folder for each case: exit codes, what was
printed, and the files that were written, without what differs between two runs: times, paths, the version,
metadata. Numbers have to be equal to the last digit, so make both records on one machine. ``compare`` exits
with 1 if they differ; differences that are meant stand in ``behaviour_changes.toml``. ``against`` records
COMMIT, with its own copy of this script and its cases if it has one, and this checkout, and compares them.

Photographs and published files are read from ``../shared``, or from the folder that MANYHOT_SHARED names;
cases whose input is absent are left out, and listed.
"""

from __future__ import annotations

import argparse
import graphlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from behaviour_compare import TABLES, Change, compare, fits, read_table
from behaviour_inputs import INPUTS, SHARED

HERE = Path(__file__).resolve().parent
REPO = HERE.parent


@dataclass(frozen=True)
class Case:
    """Command lines that run in a new folder, one after the other; see ``behaviour_cases.toml``."""

    name: str
    lines: str
    needs: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path = HERE / "behaviour_cases.toml") -> dict[str, Case]:
        """Return all cases by name."""
        listed = tomllib.loads(path.read_text(encoding="utf-8"))["case"]
        return {row["name"]: cls(row["name"], row["lines"], tuple(row.get("needs", ()))) for row in listed}


# Recording


class Recorder:
    """Runs cases, each in a folder of `work`, and writes what they did to `out`."""

    def __init__(self, out: Path, source: Path, work: Path) -> None:
        self.out, self.source, self.work = out, source, work
        repo = source.parent if (source.parent / "examples").is_dir() else REPO
        self.folders = {"repo": repo, "cache": work / "cache"}
        self.failures: list[str] = []
        # One thread each: sums in another order have other last digits.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.environment = {
            **{"PATH": os.environ["PATH"], "PYTHONPATH": str(source), **threads},
            **{"HOME": str(work), "XDG_CACHE_HOME": str(work / ".cache"), "TMPDIR": str(work / "tmp")},
            **{"MANYHOT_CACHE": str(work / "cache"), "MANYHOT_MIRROR": str(SHARED / "mirror.zip")},
            **{"HF_HUB_OFFLINE": "1", "COLUMNS": "120", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        }
        (work / "tmp").mkdir()

    def check_source(self) -> None:
        """Stop unless the commands import manyhot from the source."""
        done = self.run(["-c", "import manyhot; print(manyhot.__file__)"], self.work)
        if not Path(done.stdout.strip()).is_relative_to(self.source):
            raise SystemExit(f"manyhot is not imported from {self.source}: {done.stdout or done.stderr}")

    def run(self, arguments: Sequence[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python in a clean environment."""
        command, env = [sys.executable, *arguments], {**self.environment, **variables}
        return subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900
        )

    def make(self, name: str) -> None:
        """Make the folder of an input."""
        file, maker = INPUTS[name]
        self.folders[name] = folder = self.work / name if maker else (SHARED / file).parent
        if maker:
            folder.mkdir()
            maker(folder)

    def record(self, case: Case) -> None:
        """Run a case, and write what it printed and the files that it wrote."""
        start = time.monotonic()
        self.folders[case.name] = folder = self.work / "cases" / case.name
        folder.mkdir(parents=True)
        outputs, codes = self.out / case.name / "outputs", {}
        outputs.mkdir(parents=True)
        for i, line in enumerate(case.lines.strip().splitlines(), 1):
            expected, variables, arguments = self.command(line)
            done = self.run(arguments, folder, **variables)
            codes[f"{i:02}"] = done.returncode
            for kind, text in (("stdout", done.stdout), ("stderr", done.stderr)):
                (outputs / f"{i:02}.{kind}").write_text(self.clean(text), encoding="utf-8")
            if done.returncode != expected:
                text = f"exit code {done.returncode} in place of {expected}: {line}"
                self.failures.append(f"{case.name}: {text}\n{done.stderr[-2000:]}")
        (outputs / "exit_codes.json").write_text(json.dumps(codes, indent=1), encoding="utf-8")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target = self.out / case.name / "files" / self.clean(path.relative_to(folder).as_posix())
            target.parent.mkdir(parents=True, exist_ok=True)
            keep(path, target, self.clean)
        print(f"{case.name}: {time.monotonic() - start:.0f} s", flush=True)

    def command(self, line: str) -> tuple[int, dict[str, str], list[str]]:
        """Return the expected exit code, the variables and the arguments of a line."""
        code, rest = line.split(": ", 1) if re.match(r"\d+: ", line) else ("0", line)
        words = [re.sub(r"\{([\w-]+)\}", lambda m: str(self.folders[m[1]]), w) for w in shlex.split(rest)]
        variables = {}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, variables[name] = words.pop(0).partition("=")
        return int(code), variables, words[1:] if words[0] == "python" else ["-m", "manyhot", *words]

    def clean(self, text: str) -> str:
        """Return a text without what differs between two runs."""
        repo = self.folders["repo"]
        for path, name in ((self.work, "WORK"), (self.source, "SOURCE"), (repo, "REPO"), (SHARED, "SHARED")):
            text = text.replace(str(path), name)
        return clean(text)


VOLATILE = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "TIME"),
    (r"\b\d+\.\d+\.\d+\.dev\d+\b", "VERSION"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),  # of files whose metadata hold the version and the call
    (r'"call": "(\\.|[^"\\])*"', '"call": "CALL"'),
    (r"\bin [\d.,]+ s, [\d.,]+/s", "in N s, N/s"),
    (r"(seconds of all threads:).*", r"\1"),
    (r"(?m)^.*: [\d,]+( of [\d,]+)? images, [\d.,]+/s.*\n", ""),  # progress, each few seconds
    (r"(?m)^.*: [\d,]+ of [\d,]+, [\d:]+ left\n", ""),
    (r"Matplotlib is building the font cache.*\n", ""),  # where that takes long
    (r"/join/\S+", "/join/SECRET"),
    (r"tfevents\..*", "tfevents"),
)
"""What differs between two runs of the same command, and what is recorded in its place."""


def clean(text: str) -> str:
    """Return a text without times, speeds, the version and call strings."""
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text)
    return text


TEXTS = (".css", ".csv", ".html", ".js", ".json", ".md", ".svg", ".tex", ".toml", ".txt", ".xml")
NAMES_ONLY = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".zip", ".lock")


def keep(path: Path, target: Path, clean: Callable[[str], str]) -> None:
    """Write what of a file is compared: values of tables, text, or the digest of anything else."""
    if path.suffix in TABLES:
        pq.write_table(plain(read_table(path), clean), target)
    elif path.suffix in TEXTS:
        target.write_text(clean(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        named = path.name.endswith(NAMES_ONLY) or "tfevents" in path.name
        target.with_name(f"{target.name}.sha256").write_text("" if named else digest(path), encoding="utf-8")


def plain(table: pa.Table, clean: Callable[[str], str]) -> pa.Table:
    """Return a table without metadata, its strings cleaned."""
    columns = []
    for column in table.columns:
        if pa.types.is_string(column.type):
            values = column.combine_chunks().dictionary_encode()
            texts = [None if text is None else clean(text) for text in values.dictionary.to_pylist()]
            column = pa.array(texts, pa.string()).take(values.indices)
        columns.append(column)
    return pa.Table.from_arrays(columns, table.column_names)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; of safetensors without their metadata."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        size = int.from_bytes(data[:8], "little") + 8
        header = {k: v for k, v in json.loads(data[8:size]).items() if k != "__metadata__"}
        data = json.dumps(header, sort_keys=True).encode() + data[size:]
    return hashlib.sha256(data).hexdigest()


def record(out: Path, source: Path, only: Sequence[str], jobs: int) -> int:
    """Record cases; return 1 where one ended with another exit code than is expected."""
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} is not empty: name a new folder")
    cases, left_out = chosen(Case.read(), only)
    out.mkdir(parents=True, exist_ok=True)
    about = {"machine": machine(), "left out": left_out}
    (out / "record.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="behaviour-") as work:
        recorder = Recorder(out, source.resolve(), Path(work).resolve())
        recorder.check_source()
        run_all(recorder, cases, jobs)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{len(cases)} cases, {usage.ru_utime + usage.ru_stime:.0f} s of CPU")
    for failure in recorder.failures:
        print(f"UNEXPECTED: {failure}", file=sys.stderr)
    for name, why in left_out.items():
        print(f"LEFT OUT: {name}: {why}", file=sys.stderr)
    return 1 if recorder.failures else 0


def chosen(cases: Mapping[str, Case], only: Sequence[str]) -> tuple[dict[str, Case], dict[str, str]]:
    """Return the cases to run, with those that they need, and why others are left out."""
    names = [name for name in cases if fits(name, only)]
    if not names:
        raise SystemExit(f"no case is called {' or '.join(only)}; there are: {', '.join(cases)}")
    for name in names:  # which grows
        names += [n for n in cases[name].needs if n in cases and n not in names]
    absent = {n: f"{SHARED / f} is absent" for n, (f, _) in INPUTS.items() if not (SHARED / f).exists()}
    for name in graphlib.TopologicalSorter({n: cases[n].needs for n in names}).static_order():
        reasons = [absent[n] for n in (cases[name].needs if name in cases else ()) if n in absent]
        absent |= {name: reasons[0]} if reasons else {}
    run = {name: case for name, case in cases.items() if name in names and name not in absent}
    return run, {name: why for name, why in absent.items() if name in names}


def run_all(recorder: Recorder, cases: Mapping[str, Case], jobs: int) -> None:
    """Run cases, and make their inputs, as soon as what they need is there."""
    order = graphlib.TopologicalSorter({name: case.needs for name, case in cases.items()})
    order.prepare()
    place = {name: i for i, name in enumerate(cases)}
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while order.is_active():
            for name in sorted(order.get_ready(), key=lambda n: place.get(n, -1)):
                case = cases.get(name)
                running[pool.submit(recorder.record, case) if case else pool.submit(recorder.make, name)] = (
                    name
                )
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                order.done(running.pop(future))


def machine() -> dict[str, str]:
    """Return what numbers depend on beside the source."""
    names = "numpy scipy polars pyarrow torch torchvision timm openvino altair pillow typer rich"
    installed = {d.name.lower(): d.version for d in importlib.metadata.distributions() if d.name}
    versions = {name: installed.get(name, "absent") for name in names.split()}
    return {"python": platform.python_version(), "node": platform.node(), **versions}


def against(commit: str, only: Sequence[str], jobs: int) -> int:
    """Record a commit and this checkout, and compare them."""
    git = partial(subprocess.run, cwd=REPO, check=True)
    with tempfile.TemporaryDirectory(prefix="behaviour-against-") as folder:
        tree, old, new = (Path(folder) / name for name in ("tree", "old", "new"))
        git(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit])
        try:
            script = tree / "tools" / Path(__file__).name
            for path, out, source in (
                (script if script.exists() else Path(__file__), old, tree / "src"),
                (Path(__file__), new, REPO / "src"),
            ):
                command = [sys.executable, str(path), "record", str(out), "--source", str(source)]
                command += ["--jobs", str(jobs), *(["--only", *only] if only else [])]
                print(f"recording {source}", flush=True)
                subprocess.run(command, env={**os.environ, "MANYHOT_SHARED": str(SHARED)})
                if not (out / "record.json").exists():
                    raise SystemExit(f"{source} could not be recorded")
        finally:
            git(["git", "worktree", "remove", "--force", str(tree)])
        return compare(old, new, Change.read(), only)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parsers = parser.add_subparsers(dest="command", required=True)
    recording = parsers.add_parser("record", help="run all cases, and write what they do to FOLDER")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--source", type=Path, default=REPO / "src", help="where manyhot is imported from")
    comparing = parsers.add_parser("compare", help="print what differs between two records")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    both = parsers.add_parser("against", help="record a commit and this checkout, and compare them")
    both.add_argument("commit")
    for one in (recording, comparing, both):
        one.add_argument(
            "--only", nargs="+", default=(), metavar="NAME", help="cases; patterns as of a shell"
        )
    for one in (recording, both):
        one.add_argument("--jobs", type=int, default=2, help="cases at once")
    parsed = parser.parse_args(arguments)
    if parsed.command == "record":
        return record(parsed.folder, parsed.source, parsed.only, parsed.jobs)
    if parsed.command == "compare":
        return compare(parsed.old, parsed.new, Change.read(), parsed.only)
    return against(parsed.commit, parsed.only, parsed.jobs)


if __name__ == "__main__":
    sys.exit(main())
