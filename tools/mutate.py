"""Change one place of the code at a time, and see whether the tests notice.

    python tools/mutate.py core --number 20 --seed 1 --results mutants.jsonl

draws 20 places of `src/manyhot/core`, and changes one at a time in a copy of the code. It runs the tests of
that name (``tests/core/test_accuracy*.py`` for ``core/accuracy.py``), and if these pass, the test files in
which the changed function and its callers occur most often. It prints what became of each mutant, and exits
with 1 if one survived. Mutants that no test can tell from the original are listed, with the reason, in
`tools/equivalent_mutants.toml`.

Each place has a random number that depends on the seed and on its code, and the lowest are drawn: changes
elsewhere do not change the draw. Results are appended to the file, and a run with the same file goes on
after the last; if code or tests have changed since, it first repeats the test that killed the mutant.

The kinds of mutants: a bound is moved (``<`` and ``<=``), equality or membership is reversed, ``and`` and
``or`` are exchanged, ``not`` is removed, a sum becomes a difference or a product a quotient, a number is one
larger, a truth value is reversed, and a call whose value is not used is removed. Named constants of a module
are left as they are: tests should not pin settings.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from warm_tests import Outcome, WarmTests

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
    within : tuple of str
        The names of the function or class at the top of the file, and of the method, around it.
    """

    file: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    stop: int
    within: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What it is, wherever it is in its function."""
        return self.file, *self.within, self.kind, _short(self.before), _short(self.after)

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
    for node, within in _code(ast.parse(source)):
        for kind, after in _changes(node):
            assert isinstance(node, ast.expr | ast.stmt)
            start = starts[node.lineno - 1] + node.col_offset
            stop = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            yield Mutant(file, node.lineno, kind, source[start:stop].decode(), after, start, stop, within)


def _code(node: ast.AST, within: tuple[str, ...] = ()) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    """Yield the nodes that run and where: no annotations, decorators, constants, or imports for types."""
    yield node, within
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and len(within) < 2:
        within = (*within, node.name)
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
                yield from _code(child, within)


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
        places, alike = [], Counter[tuple[str, ...]]()
        for file in files:
            for mutant in mutants_of(file.relative_to(base).as_posix(), file.read_bytes()):
                name = repr((seed, mutant.key, alike[mutant.key]))
                places.append((hashlib.sha256(name.encode()).digest(), mutant))
                alike[mutant.key] += 1
        return [mutant for _, mutant in sorted(places, key=lambda place: place[0])[:number]]

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

    def words(self, mutant: Mutant) -> dict[str, float]:
        """Return the names of the changed function and of what calls it, with weights: 1, 1/4, 1/16, 1/64."""
        weights = dict.fromkeys((n for n in mutant.within if not n.startswith("__")), 1.0)
        # A method called `of` or `run` would lead to half of all code.
        latest = self._rare(set(weights)) or set(weights)
        for weight in (1 / 4, 1 / 16, 1 / 64):
            latest = {n for n, words in self._definitions.items() if n not in weights and words & latest}
            weights |= dict.fromkeys(latest := self._rare(latest), weight)
        return weights

    def likely_tests(self, mutant: Mutant, words: Mapping[str, float]) -> list[str]:
        """Return test files in which important words occur, those of the room and the most likely first."""
        module = f"{Path(self.package).name}/{mutant.file}".removesuffix(".py").replace("/", ".")
        room, _, name = module.rpartition(".")
        said = (f"{module} ", f"{module}\n", f'"{module}"', f"from {room} import {name}\n")
        values = {}
        for file in sorted((self.root / "tests").rglob("test_*.py")):
            value = sum(weight for word, weight in words.items() if word in _words(file))
            value += any(s in _text(file) for s in said)
            if file.parent == (self.root / "tests" / mutant.file).parent:
                alike = os.path.commonprefix([f"test_{name}", file.stem])  # noqa: RUF071  of characters
                value += (value > 0) + 1e-6 + len(alike) / 10
            values[str(file.relative_to(self.root))] = value
        return sorted((f for f in values if values[f]), key=lambda f: (-values[f], f))

    def _rare(self, names: set[str]) -> set[str]:
        """Return those of some names that few definitions contain."""
        return {n for n in names if self._n_uses[n] <= max(10, len(self._definitions) // 100)}

    @cached_property
    def _n_uses(self) -> Counter[str]:
        return Counter(word for words in self._definitions.values() for word in words)

    @cached_property
    def _definitions(self) -> dict[str, frozenset[str]]:
        """The words of the functions, classes and named values at the top of the files."""
        found: dict[str, frozenset[str]] = {}
        for file in sorted((self.root / self.package).rglob("*.py")):
            source = _text(file)
            lines = source.splitlines()  # `ast.get_source_segment` would split the file for each definition
            for node in ast.parse(source).body:
                names: list[str] = []
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    names = [node.name]
                elif isinstance(node, ast.Assign):
                    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                words = {*re.findall(r"\w+", code), *names}
                names += [name.value for name in _registered(node)]
                for name in names:
                    found[name] = found.get(name, frozenset()) | words
        return found

    def digest(self) -> str:
        """Return a digest of all code and tests."""
        files = [f for part in (self.package, "tests") for f in sorted((self.root / part).rglob("*.py"))]
        return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]


def _registered(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield the names that decorators register, such as ``@register("metric", "real1")``."""
    for decorator in getattr(node, "decorator_list", []):
        match decorator:
            case ast.Call(args=[ast.Constant(), ast.Constant() as name, *_]):
                yield name


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _words(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _text(path)))


Equivalents = frozenset[tuple[str, str, str, str]]
"""The file, the function, and the code before and after."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant.

    Attributes
    ----------
    mutant : Mutant
    what : str
    killer : str
        The test that noticed it; empty if none did.
    """

    mutant: Mutant
    what: str
    killer: str = ""


class Trial:
    """Runs the tests of mutants on a copy of the code in which one place is changed."""

    def __init__(
        self,
        repository: Repository,
        folder: Path,
        known: Equivalents = frozenset(),
        *,
        seconds: float = 60,
        n_files: int = 12,
    ) -> None:
        source = repository.root / repository.package
        self._package = folder / "src" / source.name
        shutil.copytree(source, self._package, ignore=shutil.ignore_patterns("__pycache__"))
        self._repository, self._known = repository, known
        self._seconds, self._n_files = seconds, n_files
        self._tests = WarmTests(repository.root, self._package.parent)
        self._sound: dict[str, bool] = {}
        self.close = self._tests.close

    def fate(self, mutant: Mutant, killer: str = "") -> Fate:
        """Return what becomes of a mutant; begin with the test that killed it before, if any."""
        if (mutant.file, ".".join(mutant.within), _short(mutant.before), _short(mutant.after)) in self._known:
            return Fate(mutant, "equivalent")
        own, words = self._repository.own_tests(mutant.file), self._repository.words(mutant)
        likely = [f for f in self._repository.likely_tests(mutant, words) if f not in own]
        ran, all_ran = 0, True
        for tests in ([killer] if killer else [], own, likely[: self._n_files]):
            seen = self._run(mutant, tests, words)
            if seen.failed:
                by = "its own" if seen.failed.partition("::")[0] in own else "other"
                return Fate(mutant, f"killed by {by} tests", seen.failed)
            ran, all_ran = ran + seen.ran, all_ran and seen.all_ran
        survived = "survived" if all_ran else "survived the tests that ran in time"
        return Fate(mutant, f"{survived} ({ran})" if ran else "no tests")

    def _run(self, mutant: Mutant, tests: Sequence[str], words: Mapping[str, float]) -> Outcome:
        """Run tests with a mutant, without those that fail with the unchanged code, too."""
        unsound = [test for test, sound in self._sound.items() if not sound]
        tests = [test for test in tests if test not in unsound]
        path = self._package / mutant.file
        source = path.read_bytes()
        while tests:
            try:
                self._write(path, mutant.apply(source))
                seen = self._tests.run(tests, words, self._seconds, unsound)
            finally:
                self._write(path, source)
            if seen.failed is None or self._is_sound(seen.failed):
                return seen
            unsound.append(seen.failed)
            tests = [test for test in tests if test != seen.failed]
        return Outcome(None, hung=False, ran=0, all_ran=True)

    def _is_sound(self, test: str) -> bool:
        """Return whether a test passes with the unchanged code."""
        if test not in self._sound:
            self._sound[test] = self._tests.run([test], seconds=0).failed is None
        return self._sound[test]

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # Bytecode is told apart by seconds and sizes, which a mutant may share with the original.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()


def equivalents(path: Path = EQUIVALENT) -> Equivalents:
    """Return mutants that no test can tell from the original."""
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
    return frozenset((m["file"], m["within"], m["before"], m["after"]) for m in listed if m["why"])


class Results:
    """A file to which the fates of mutants are appended."""

    def __init__(self, path: Path | None, repository: Repository) -> None:
        self._path, self._digest = path, repository.digest()
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self._rows = {(r["file"], r["start"], *r["key"]): r for r in map(json.loads, lines)}
        self._killers = {tuple(r["key"]): r["killer"] for r in self._rows.values()}

    def fate(self, mutant: Mutant, trial: Trial) -> Fate:
        """Return what became of a mutant, or becomes of it now."""
        row = self._rows.get((mutant.file, mutant.start, *mutant.key))
        if row and row["digest"] == self._digest:
            return Fate(mutant, row["what"], row["killer"])
        begun = time.monotonic()
        fate = trial.fate(mutant, self._killers.get(mutant.key, ""))
        if self._path:
            row = {
                **{"mutant": str(mutant), "what": fate.what, "killer": fate.killer},
                **{"seconds": round(time.monotonic() - begun, 1), "digest": self._digest},
                **{"file": mutant.file, "start": mutant.start, "key": mutant.key},
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return fate


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw mutants, print what becomes of each and a summary; 1 if one survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="+", help="files or folders below src/manyhot; . for all")
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="a file of results, in which a later run goes on")
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of tests, twice")
    parser.add_argument("--files", type=int, default=12, help="how many test files beside the mutant's own")
    parser.add_argument("--list", action="store_true", help="print the mutants, and run no test")
    given = parser.parse_args(arguments)
    repository = Repository()
    drawn = repository.draw(given.rooms, given.number, given.seed)
    if given.list:
        print("\n".join(map(str, drawn)))
        return 0
    results, fates = Results(given.results, repository), []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trial = Trial(repository, Path(folder), equivalents(), seconds=given.seconds, n_files=given.files)
        with closing(trial):
            for mutant in drawn:
                fate = results.fate(mutant, trial)
                print(f"{fate.what}: {mutant} {fate.killer}".rstrip(), flush=True)
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
