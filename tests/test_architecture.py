"""Imports point one way: rooms stand in one order; rules without a test decay."""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import manyhot
from manyhot.commands import COMMANDS

SRC = Path(manyhot.__file__).parent
TESTS = Path(__file__).parent

ORDER = (
    "_version",
    "errors",
    "parameters",
    "files",
    "extras",
    "commands",
    "kinds",
    "plug_ins",
    "registry",
    "classes",
    "core",
    "tables",
    "run",
    "console",
    "command",
    ("formats", "report"),
    "result",
    "data",
    "predict",
    "evaluate",
    "reassess",
    "diagnose",
    "train",
    "study",
    "testing",
    "cli",
    "__main__",
)
"""A room imports those before it, and none beside it."""

PLACE = {room: i for i, rooms in enumerate(ORDER) for room in ([rooms] if isinstance(rooms, str) else rooms)}
FOREIGN_IN_CORE = {"numpy", "scipy", "threadpoolctl"}


@functools.cache
def read(path):
    """Return the imported modules of a file, those for the type checker only included, and its texts."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    return tuple(_imports(nodes)), tuple(_texts(nodes))


def imports(path):
    return read(path)[0]


def _imports(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if node.module == "manyhot" or is_module(inner) else node.module


@functools.cache
def is_module(name):
    path = SRC.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def name_of(path):
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


FILES = [p for p in sorted(SRC.rglob("*.py")) if p != SRC / "__init__.py"]


def test_every_file_is_in_a_room():
    assert {room(path) for path in FILES} <= set(PLACE), "a new room has a place in ORDER"


def test_rooms_import_those_before_them():
    against = set()
    for path in FILES:
        own = room(path)
        for name in imports(path):
            other = name.split(".")[1] if name.startswith("manyhot.") else own
            if other != own and PLACE[other] >= PLACE[own]:
                against.add((path.relative_to(SRC).as_posix(), name))
    assert against == set()


def test_no_file_is_in_a_circle():
    """Files that import each other, however far around, are one file that was not written as one."""
    graph = {name_of(path): {m for m in imports(path) if is_module(m)} - {name_of(path)} for path in FILES}
    left = dict(graph)
    while leaves := [name for name, uses in left.items() if not uses & left.keys()]:
        for name in leaves:
            del left[name]
    while True:  # what imports a circle is in none
        used = set().union(*(uses for uses in left.values())) if left else set()
        if not (tops := [name for name in left if name not in used]):
            break
        for name in tops:
            del left[name]
    assert left.keys() == set()


@pytest.mark.parametrize("path", sorted((SRC / "core").glob("*.py")), ids=lambda p: p.name)
def test_core_needs_arrays_only(path):
    foreign = {name.split(".")[0] for name in imports(path)} - {"manyhot"} - set(sys.stdlib_module_names)
    assert foreign <= FOREIGN_IN_CORE
    assert {n.split(".")[1] for n in imports(path) if n.startswith("manyhot.")} <= {
        "parameters",
        "core",
        "errors",
        "plug_ins",
        "registry",
    }


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import manyhot", ["numpy", "pyarrow", "polars", "torch", "typer", "inspect", "pathlib"]),
        ("import manyhot.predict.predict", ["polars", "scipy", "torch", "manyhot.evaluate"]),
        ("import manyhot.cli", ["numpy", "pyarrow", "polars", "torch", "rich.progress"]),
        ("from manyhot import *", ["torch", "PIL", "pandas", "altair", "fastapi"]),
        ("import manyhot.predict", ["torch", "PIL"]),
        ("import manyhot.train", ["numpy", "torch"]),
        ("from manyhot.study import Study", ["numpy", "torch", "pyarrow"]),
    ],
)
def test_imports_are_lazy(statement, absent):
    new = "{*sys.modules} - before"
    code = f"import sys; before = {{*sys.modules}}; {statement}; print({{*{absent!r}}} & ({new}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_public_names_resolve():
    assert manyhot.__all__ == sorted(manyhot.__all__)
    for name in manyhot.__all__:
        assert getattr(manyhot, name) is not None


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_a_room_does_not_hide_the_function_of_its_name(name):
    code = f"import manyhot, manyhot.{name}; print(callable(manyhot.{name}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("before", ["", "import manyhot; manyhot.predict; "])
def test_a_file_of_a_room_is_imported_by_its_full_name(before):
    code = f"{before}import manyhot.predict.network as n; print(n.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "manyhot.predict.network"


def test_unknown_public_name():
    with pytest.raises(AttributeError) as error:
        manyhot.evalute  # noqa: B018
    assert str(error.value) == "module 'manyhot' has no attribute 'evalute'"


ASIDE = {
    "minimal",
    "helpers",
    "tools",
    "test_classes.py",
    "test_families.py",
    "test_registry.py",
    "test_cli_predict.py",
    "test_command.py",
    "test_architecture.py",
    "test_docs.py",
    "test_cli.py",
    "test_hosting.py",
    "test_demo.py",
}
"""Tests of the whole; all others lie where what they test lies."""


def test_tests_lie_where_their_modules_lie():
    """tests/x/test_y.py and tests/x/test_y_more.py test x/y.py or x/y/; others test all of the room x."""
    lost = []
    for path in sorted(TESTS.rglob("test_*.py")):
        place = path.relative_to(TESTS)
        if place.parts[0] not in ASIDE and not (SRC / place.parent).is_dir():
            lost.append(str(place))
    assert lost == []


OPTION = re.compile(r"(?<![\w(-])--[a-z][a-z0-9-]*")
COMMAND_LINE = re.compile(r"\b(?:manyhot|inference\.py|pip|ray start|tar|torchrun) [^;]*$")
SPELLS_OPTIONS = {
    "evaluate/joined_models.py": "turns the command line of evaluate into one of compare",
    "evaluate/write.py": "reads --out from the command line of a run",
    "diagnose/first_findings.py": "adds an option to the command line of a run",
    "reassess/app/server.py": "adds --database to a command line",
    "reassess/backup.py": "lines of the terminal about manyhot annotate",
    "reassess/annotate.py": "lines of the terminal about manyhot annotate",
    "report/figure.py": "variables of CSS",
    "report/prerender.py": "variables of CSS",
    "report/chapter.py": "turns the command line of a run into the next one",
    "formats/timm_files.py": "options of timm's scripts",
}
"""Files with texts that name an option, and why; all others name the parameter, in backticks."""


def _texts(nodes):
    """Yield the line and the text of each string of a file that is not a docstring or a declaration."""
    aside = set()
    for node in nodes:
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if called in ("OptionName", "Was", "command"):
            aside |= {id(inner) for inner in ast.walk(node)}
        elif isinstance(node, ast.Expr):  # a docstring
            aside.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            aside |= {id(part) for part in node.values}
    for node in nodes:
        if id(node) in aside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def options_in(path):
    """Yield the options that texts of a file name, and their lines, except in whole command lines."""
    for line, text in read(path)[1]:
        for option in OPTION.finditer(text):
            if not COMMAND_LINE.search(text[: option.start()]):
                yield f"{line}: {option[0]}"


def test_messages_name_the_parameter_which_the_command_line_shows_as_its_option():
    """Messages say `min_images`, which the terminal shows as --min-images, or a whole command line."""
    paths = {path: path.relative_to(SRC) for path in sorted(SRC.rglob("*.py"))}
    named = {str(at): list(options_in(path)) for path, at in paths.items() if at.parts[0] != "cli"}
    assert {at for at, options in named.items() if options} == SPELLS_OPTIONS.keys(), named


def documented():
    """Yield what help() shows: each public function and class, its methods, and each command's function."""
    yield from ((name, getattr(manyhot, name)) for name in manyhot.__all__)
    classes = [(name, found) for name in manyhot.__all__ if isinstance(found := getattr(manyhot, name), type)]
    yield from ((f"{n}.{name}", m) for n, c in classes for name, m in vars(c).items() if name[0] != "_")
    for name, entry in COMMANDS.items():
        module, _, function = entry.address.partition(":")
        yield name, getattr(importlib.import_module(module), function)


def options_in_words(text):
    """Return the options in a docstring, except in whole command lines, which end with their sentence."""
    sentences = re.split(r"[.;:]\s|\n\s*\n", text)
    found = ((sentence, option) for sentence in sentences for option in OPTION.finditer(sentence))
    return [option[0] for sentence, option in found if not COMMAND_LINE.search(sentence[: option.start()])]


def test_docstrings_name_the_parameter_which_help_of_the_command_shows_as_its_option():
    named = {name: options_in_words(inspect.getdoc(found) or "") for name, found in documented()}
    assert {name: options for name, options in named.items() if options} == {}


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("With --labels, the arguments\nare predictions.", 1),
        ("Written by manyhot predict. By default the folder of --embeddings.", 1),
        ("Written by manyhot predict --embeddings.", 0),
        ("With `labels`, predictions.", 0),
    ],
)
def test_an_option_in_a_docstring_is_found(text, n):
    assert len(options_in_words(text)) == n


@pytest.mark.parametrize(
    ("code", "n"),
    [
        ("raise InputError('x', do='pass --classes')", 1),
        ("raise InputError('x', do=f'lower --top to {k}')", 1),
        ("raise InputError('x', where='--pair')", 1),
        ("raise InputError('x', do='predict with manyhot predict --embeddings')", 0),
        ("raise InputError('x', do='run manyhot status; pass --classes')", 1),
        ("raise InputError('x', do='pass `classes`')", 0),
        ("def f():\n    '''As with --model.'''", 0),
    ],
)
def test_an_option_in_a_message_is_found(tmp_path, code, n):
    path = tmp_path / "x.py"
    path.write_text(code)
    assert len(list(options_in(path))) == n
