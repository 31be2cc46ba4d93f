"""Print how much each extra installs: ``python tools/install_sizes.py [EXTRAS …]``, as in ``models,web``.

Each line is the core with the named extras: the sizes of the files of the packages, without Python and pip.
They are read from this environment, in which `make test` installs all extras: nothing is downloaded.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements_of(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what a package and its extras need here."""
    if name == "manyhot":  # as in this checkout, installed or not
        listed = [*PROJECT["dependencies"], *(r for e in extras for r in PROJECT["optional-dependencies"][e])]
    else:
        listed = distribution(name).requires or []
    for text in listed:
        requirement = Requirement(text)
        contexts = [{"extra": extra} for extra in (extras or {""})]
        if requirement.marker is None or any(map(requirement.marker.evaluate, contexts)):
            yield requirement


def closure(extras: frozenset[str]) -> set[str]:
    """Return the packages that the core and some extras install."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [("manyhot", extras)]
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += [(canonicalize_name(r.name), frozenset(r.extras)) for r in requirements_of(*at)]
    return {name for name, _ in seen} - {"manyhot"}


def size_of(name: str) -> int:
    """Return the bytes of a package's files."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        sys.exit(f"{name} is not installed; run `make test` first")
    return sum(path.stat().st_size for file in files if (path := Path(file.locate())).is_file())


def main() -> None:
    """Print a line for each set of extras, with the largest packages that it adds to the core."""
    own = sum(p.stat().st_size for p in (REPO / "src").rglob("*") if p.is_file())
    core = closure(frozenset())
    for extras in sys.argv[1:] or ["", *PROJECT["optional-dependencies"]]:
        names = closure(frozenset(filter(None, extras.split(","))))
        sizes = {name: size_of(name) for name in names}
        total = own + sum(sizes.values())
        more = sorted(names - core if extras else names, key=sizes.__getitem__, reverse=True)[:5]
        largest = ", ".join(f"{name} {sizes[name] / 1e6:,.0f}" for name in more)
        print(f"{extras or '(core)':<20} {total / 1e6:>6,.0f} MB  {largest}")


if __name__ == "__main__":
    main()
