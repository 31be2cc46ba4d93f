"""Change one place of the code at a time, and see whether the tests notice.

    python tools/mutate.py core --number 20 --seed 1

draws 20 places of `src/manyhot/core`, and changes one at a time in a copy of the code. It runs the tests of
that name (``tests/core/test_accuracy*.py`` for ``core/accuracy.py``); if these pass, the other tests that
name the module; and if these pass, too, the rest of the tests of its folder. It prints what became of each
mutant, and exits with 1 if one survived. Mutants that no test can tell from the original are listed, with
the reason, in `tools/equivalent_mutants.toml`.

The kinds of mutants: a bound is moved (``<`` and ``<=``), equality or membership is reversed, ``and`` and
``or`` are exchanged, ``not`` is removed, a sum becomes a difference or a product a quotient, a number is one
larger, a truth value is reversed, and a call whose value is not used is removed. Named constants of a module
are left as they are: tests should not pin settings.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Queue

REPO = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")

SWAPPED: dict[type[ast.AST], tuple[str, type[ast.AST]]] = {
    ast.Lt: ("bound", ast.LtE),
    ast.LtE: ("bound", ast.Lt),
    ast.Gt: ("bound", ast.GtE),
    ast.GtE: ("bound", ast.Gt),
    ast.Eq: ("equality", ast.NotEq),
    ast.NotEq: ("equality", ast.Eq),
    ast.Is: ("equality", ast.IsNot),
    ast.IsNot: ("equality", ast.Is),
    ast.In: ("equality", ast.NotIn),
    ast.NotIn: ("equality", ast.In),
    ast.And: ("and/or", ast.Or),
    ast.Or: ("and/or", ast.And),
    ast.Add: ("arithmetic", ast.Sub),
    ast.Sub: ("arithmetic", ast.Add),
    ast.Mult: ("arithmetic", ast.Div),
    ast.Div: ("arithmetic", ast.Mult),
}
"""What an operator is exchanged for, and the kind of mutant."""


@dataclass(frozen=True)
class Mutant:
    """A change of one place.

    Attributes
    ----------
    file : str
        Below the package, such as ``core/accuracy.py``.
    line : int
    kind : str
    before, after : str
        The code at this place.
    start, stop : int
        Where it is, in bytes.
    """

    file: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.kind}: {_short(self.before)} -> {_short(self.after)}"

    def apply(self, source: bytes) -> bytes:
        """Return the source with the change."""
        return source[: self.start] + self.after.encode() + source[self.stop :]


def _short(code: str) -> str:
    return " ".join(code.split())


def mutants_of(file: str, source: bytes) -> Iterator[Mutant]:
    """Yield all mutants of a file, in the order of the code."""
    starts = [0]
    for text in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    for node in _code(ast.parse(source)):
        for kind, after in _changes(node):
            assert isinstance(node, ast.expr | ast.stmt)
            start = starts[node.lineno - 1] + node.col_offset
            stop = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            yield Mutant(file, node.lineno, kind, source[start:stop].decode(), after, start, stop)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: no annotations, decorators, constants, or imports for types."""
    yield node
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Assign | ast.AnnAssign) and node.col_offset == 0
    ):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and name != "orelse":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the kind of each mutant of a node and its code."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        kind, other = SWAPPED[type(node.ops[0])]
        yield kind, _with(node, ops=[other()])
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in SWAPPED and not _is_text(node):
        kind, other = SWAPPED[type(node.op)]
        yield kind, _with(node, op=other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not removed", f"bool({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "truth", str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "number", f"({node.value + 1!r})"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "call removed", "pass"


def _with(node: ast.expr, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"


def _is_text(node: ast.BoolOp | ast.BinOp) -> bool:
    """Return whether a sum is one of texts, as far as the code shows."""
    if isinstance(node, ast.BoolOp):
        return False
    parts = [n for n in ast.walk(node) if isinstance(n, ast.Constant | ast.JoinedStr)]
    return any(isinstance(n, ast.JoinedStr) or isinstance(n.value, str) for n in parts)


@dataclass(frozen=True)
class Repository:
    """The code that is changed and its tests.

    Attributes
    ----------
    root : Path
    package : str
        Path of the package below it.
    """

    root: Path = REPO
    package: str = "src/manyhot"

    def draw(self, rooms: Sequence[str], number: int, seed: int) -> list[Mutant]:
        """Return mutants of files and folders of the package, each place of the code as likely as another."""
        base = self.root / self.package
        found = [base / room for room in rooms]
        missing = [str(path) for path in found if not path.exists()]
        if missing:
            raise SystemExit(f"no such file or folder: {', '.join(missing)}")
        files = sorted({f for path in found for f in (path.rglob("*.py") if path.is_dir() else [path])})
        places = [m for f in files for m in mutants_of(f.relative_to(base).as_posix(), f.read_bytes())]
        return random.Random(seed).sample(places, min(number, len(places)))

    def own_tests(self, file: str) -> list[str]:
        """Return the test files of a module by its name, or else those of the room that it is in."""
        path, tests = Path(file), self.root / "tests"
        while path.name:
            stem = path.with_suffix("").name
            found = {
                *(tests / path.parent).glob(f"test_{stem}.py"),
                *(tests / path.parent).glob(f"test_{stem}_*.py"),
            }
            if found:
                return [str(f.relative_to(self.root)) for f in sorted(found)]
            path = path.parent
        return []

    def naming_tests(self, file: str) -> list[str]:
        """Return the test files that import the module or name its file."""
        module = f"{Path(self.package).name}/{file}".removesuffix(".py").replace("/", ".")
        room, _, name = module.rpartition(".")
        said = (f"{module} ", f"{module}\n", f'"{module}"', f"from {room} import {name}\n")
        files = sorted((self.root / "tests").rglob("test_*.py"))
        return [str(f.relative_to(self.root)) for f in files if any(s in _text(f) for s in said)]

    def folder_tests(self, file: str) -> list[str]:
        """Return the test files of the folder that mirrors that of the module, likely ones first."""
        folder = self.root / "tests" / Path(file).parent
        code = ast.parse((self.root / self.package / file).read_bytes())
        names = {n.name for n in code.body if isinstance(n, ast.FunctionDef | ast.ClassDef)} | {
            Path(file).stem
        }
        files = sorted(folder.glob("test_*.py"), key=lambda f: (-sum(n in _text(f) for n in names), f))
        return [str(f.relative_to(self.root)) for f in files]


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class Runner:
    """Runs tests on a copy of the code in which one place is changed."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self._repository = repository
        self._code, self._cache = folder / "src", folder / "cache"
        source = repository.root / repository.package
        target = self._code / source.name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        self._package = target

    def seconds(self, tests: Sequence[str]) -> float | None:
        """Return how long tests of the unchanged code take; None if they fail."""
        begun = time.monotonic()
        return time.monotonic() - begun if self._passes(tests, 1800) else None

    def survives(self, mutant: Mutant, tests: Sequence[str], limit: float) -> bool:
        """Return whether tests pass with a mutant; raise ``TimeoutExpired`` beyond the limit in seconds."""
        path = self._package / mutant.file
        source = path.read_bytes()
        try:
            self._write(path, mutant.apply(source))
            return self._passes(tests, limit)
        finally:
            self._write(path, source)

    def last_failure_passes(self, tests: Sequence[str]) -> bool:
        """Return whether the test that failed last passes with the unchanged code."""
        return self._passes(["--last-failed", "--last-failed-no-failures=none", *tests], 1800)

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # Bytecode is told apart by seconds and sizes, which a mutant may share with the original.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()

    def _passes(self, tests: Sequence[str], limit: float) -> bool:
        options = ["-x", "-q", "-m", "", "-p", "no:xdist", "-o", f"cache_dir={self._cache}"]
        env = {**os.environ, "PYTHONPATH": str(self._code), "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-m", "pytest", *options, *tests]
        run = subprocess.run(command, cwd=self._repository.root, env=env, capture_output=True, timeout=limit)
        return run.returncode == 0


Equivalents = frozenset[tuple[str, str, str]]
"""The file, and the code before and after."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant."""

    mutant: Mutant
    what: str


class Trial:
    """Runs the tests of mutants, several at a time."""

    def __init__(
        self, repository: Repository, folder: Path, jobs: int = 1, known: Equivalents = frozenset()
    ) -> None:
        self._repository, self._known = repository, known
        self._runners: Queue[Runner] = Queue()
        for i in range(jobs):
            self._runners.put(Runner(repository, folder / str(i)))
        self._seconds: dict[tuple[str, ...], float | None] = {}

    def fate(self, mutant: Mutant) -> Fate:
        """Return what becomes of a mutant."""
        if (mutant.file, _short(mutant.before), _short(mutant.after)) in self._known:
            return Fate(mutant, "equivalent")
        ran: list[str] = []
        for what, find in {
            "killed by its own tests": self._repository.own_tests,
            "killed by tests that name it": self._repository.naming_tests,
            "killed by tests of its folder": self._repository.folder_tests,
        }.items():
            files = tuple(f for f in find(mutant.file) if f not in ran)
            if not files:
                continue
            runner = self._runners.get()
            try:
                dead = self._dies(mutant, files, runner)
            finally:
                self._runners.put(runner)
            if dead is None:
                return Fate(mutant, f"not tried, because tests fail without it ({' '.join(files)})")
            ran += files
            if dead:
                return Fate(mutant, what)
        return Fate(mutant, "survived" if ran else "no tests")

    def _dies(self, mutant: Mutant, tests: tuple[str, ...], runner: Runner) -> bool | None:
        """Return whether tests fail with a mutant; None if they fail without it, too.

        The tests of the unchanged code run only if they take long with the mutant: otherwise the one that
        fails is enough.
        """
        try:
            if runner.survives(mutant, tests, 120 + 15 * len(tests)):
                return False
            return True if runner.last_failure_passes(tests) else None
        except subprocess.TimeoutExpired:
            limit = self._limit(tests, runner)
        if limit is None:
            return None
        try:
            return not runner.survives(mutant, tests, limit)
        except subprocess.TimeoutExpired:
            return True

    def _limit(self, tests: tuple[str, ...], runner: Runner) -> float | None:
        if tests not in self._seconds:
            self._seconds[tests] = runner.seconds(tests)
        taken = self._seconds[tests]
        return None if taken is None else 20 + 4 * taken


def equivalents(path: Path = EQUIVALENT) -> Equivalents:
    """Return the file, the code before and after of mutants that no test can tell from the original."""
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return frozenset((m["file"], m["before"], m["after"]) for m in listed if m["why"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw mutants, print what becomes of each and a summary; 1 if one survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="+", help="files or folders below src/manyhot; . for all")
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="print the mutants, and run no test")
    given = parser.parse_args(arguments)
    repository = Repository()
    drawn = repository.draw(given.rooms, given.number, given.seed)
    if given.list:
        print("\n".join(map(str, drawn)))
        return 0
    fates = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(given.jobs) as pool:
        trial = Trial(repository, Path(folder), given.jobs, equivalents())
        for fate in pool.map(trial.fate, drawn):
            print(f"{fate.what}: {fate.mutant}", flush=True)
            fates.append(fate)
    return summarise(fates)


def summarise(fates: Sequence[Fate]) -> int:
    """Print how many mutants of each kind were killed; return 1 if one survived."""
    print()
    for kind, n in sorted(Counter(f.mutant.kind for f in fates).items()):
        dead = sum(f.mutant.kind == kind and _is_dead(f) for f in fates)
        print(f"{kind}: {dead} of {n} killed or equivalent")
    dead = sum(map(_is_dead, fates))
    own = sum(f.what == "killed by its own tests" for f in fates)
    print(f"all: {dead} of {len(fates)} killed or equivalent, {own} of them by tests of the module's name")
    return int(dead < len(fates))


def _is_dead(fate: Fate) -> bool:
    return fate.what.startswith("killed") or fate.what == "equivalent"


if __name__ == "__main__":
    sys.exit(main())
