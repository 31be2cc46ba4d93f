"""Imports point one way; rules without a test decay."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import manyhot

SRC = Path(manyhot.__file__).parent

BASE = {"errors", "files", "_version"}
EDGES = {"tables", "formats", "models", "report"}
ALLOWED = {
    "errors": set(),
    "_version": set(),
    "extras": {"errors"},
    "lazy": {"extras"},
    "files": {"errors"},
    "registry": {"errors", "extras"},
    "core": {"errors", "registry"},
    "classes": {"errors"},
    "families": set(),
    "tables": BASE,
    "https": {"_version"},
    "download": BASE | {"https"},
    "catalog": BASE | {"download"},
    "steps": BASE | {"registry", "core", "classes", "families", "tables"},
    "formats": BASE | {"registry", "core", "classes", "families", "tables"},
    "heads": BASE | {"extras", "classes"},
    "trained": BASE | {"extras", "classes"},
    "models": BASE | {"extras", "registry", "core", "classes", "tables", "heads", "trained"},
    "pixels": BASE | {"extras", "registry", "core", "classes", "tables"},
    # Trained are the networks that models builds, on the images that it reads.
    "train": BASE
    | {"extras", "lazy", "registry", "core", "classes", "tables", "arrays", "heads", "trained", "models"},
    "report": BASE | {"registry", "classes", "families", "tables"},
    "web": BASE | {"lazy", "classes", "tables"},
    "arrays": BASE | {"classes", "tables"},
    "api": BASE | {"registry", "core", "classes", "tables", "arrays", "steps", "formats"},
    "reassess": BASE | {"classes", "tables", "steps", "formats"},
    "pipeline": BASE
    | {
        "extras",
        "lazy",
        "registry",
        "catalog",
        "classes",
        "tables",
        "heads",
        "steps",
        "formats",
        "models",
        "pixels",
        "train",
        "report",
        "web",
    },
    "testing": BASE | {"registry", "core", "testing_rules", "testing_losses"},
    "testing_rules": {"registry", "core"},
    "testing_losses": {"extras", "registry", "train"},
    "study": BASE | EDGES | {"extras", "lazy", "registry", "core", "classes", "steps", "pipeline", "train"},
    "cli": BASE | {"extras", "study", "registry", "catalog", "pipeline", "web"},
    "__main__": {"cli"},
}
FOREIGN_IN_CORE = {"numpy", "scipy"}


def imports(path):
    """Yield the imported modules of a file, those for the type checker only included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                [f"manyhot.{a.name}" for a in node.names] if node.module == "manyhot" else [node.module]
            )


def room(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


FILES = [p for p in sorted(SRC.rglob("*.py")) if p != SRC / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_one_way(path):
    own = room(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("manyhot.")}
    assert own in ALLOWED, "a new module says here what it may import"
    assert used - {own} <= ALLOWED[own]


@pytest.mark.parametrize("path", sorted((SRC / "core").glob("*.py")), ids=lambda p: p.name)
def test_core_needs_arrays_only(path):
    foreign = {name.split(".")[0] for name in imports(path)} - {"manyhot"} - set(sys.stdlib_module_names)
    assert foreign <= FOREIGN_IN_CORE


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import manyhot", ["numpy", "pyarrow", "polars", "torch", "typer"]),
        ("import manyhot.pipeline.predict", ["polars", "scipy", "torch", "manyhot.steps"]),
        ("import manyhot.cli", ["numpy", "pyarrow", "polars", "torch", "rich.progress"]),
        ("from manyhot.pipeline import *", ["torch", "PIL", "pandas", "altair", "fastapi"]),
        ("import manyhot.models", ["torch", "PIL"]),
        ("import manyhot.train", ["numpy", "torch"]),
        ("from manyhot.study import Study", ["numpy", "torch", "pyarrow"]),
    ],
)
def test_imports_are_lazy(statement, absent):
    code = f"import sys; {statement}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve():
    assert manyhot.__all__ == sorted(manyhot.__all__)
    assert set(manyhot._HOME) | {"__version__"} == set(manyhot.__all__)
    for name in manyhot.__all__:
        assert getattr(manyhot, name) is not None


def test_unknown_public_name():
    with pytest.raises(AttributeError) as error:
        manyhot.evalute  # noqa: B018
    assert str(error.value) == "module 'manyhot' has no attribute 'evalute'"
