"""The program: a group that imports the command that is called, and none for help.

It and `build` are the only files that know the command-line library.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from manyhot import console
from manyhot._version import __version__
from manyhot.cli.help import HELP, in_words, name_values, typer_command
from manyhot.commands import COMMANDS


class _Loaded(Mapping[str, TyperCommand | TyperGroup]):
    """The commands below a prefix by name, each imported when it is looked up."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        inner = (name.removeprefix(prefix) for name in COMMANDS if name.startswith(prefix))
        self._names = tuple(dict.fromkeys(name.partition(" ")[0] for name in inner))

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in self._names:
            raise KeyError(name)
        return _load(self._prefix + name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@functools.cache
def _load(name: str) -> TyperCommand | TyperGroup:
    """Return a command, or the group of those whose names begin with this one."""
    if name not in COMMANDS:
        return group(name)
    module, _, function = COMMANDS[name].address.partition(":")
    found = getattr(importlib.import_module(module), function)
    if hasattr(found, "__wrapped__"):
        from manyhot.cli.build import build

        return build(name, found)
    return typer_command(name.rpartition(" ")[2], found)


GROUPS = {
    "": "Evaluate image classifiers on label sets, because many images show more than one class.",
    "diagnose": "Find out what is wrong with models and with labels.",
}
"""What help says of the group of all commands, and of those that begin with a word."""


def group(name: str = "") -> TyperGroup:
    """Return the group of all commands, or of those whose names start with a given word."""
    app = application(name)
    made = typer.main.get_command(app)
    assert isinstance(made, TyperGroup)
    return made


def application(name: str = "") -> typer.Typer:
    """Return the Typer app of all commands, or of those whose names start with a given word."""
    kind = type("Group", (_Group,), {"prefix": f"{name} " if name else ""})
    app = typer.Typer(
        cls=kind,
        name=name or "manyhot",
        help=GROUPS[name],
        no_args_is_help=True,
        context_settings=HELP,
        add_completion=not name,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root if not name else _nothing)
    return app


def _nothing() -> None:
    pass


def _print_version(asked: bool) -> None:
    if asked:
        console.say(f"manyhot {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


class _Group(TyperGroup):
    """A group that imports the command that is called, and none for help."""

    prefix = ""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        in_words(self)
        self.commands = _Loaded(self.prefix)  # type: ignore[assignment]
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of the index."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command or, while help lists the commands, a stub with its first sentence."""
        if self._listing:
            return _stub(self.prefix, cmd_name)
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the index."""
        for parameter in self.params:  # Typer adds those of completion after all else
            name_values(parameter)
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def _stub(prefix: str, name: str) -> TyperCommand:
    """Return a command as help lists it: its first sentence, among those of its verb."""
    whole = prefix + name
    if whole in COMMANDS:
        about = COMMANDS[whole]
        return TyperCommand(name, help=about.summary, rich_help_panel=about.group)
    inner = [n for n in COMMANDS if n.startswith(f"{whole} ")]
    listed = ", ".join(n.rpartition(" ")[2] for n in inner)
    help_text = f"{GROUPS[whole]} Subcommands: {listed}."
    return TyperCommand(name, help=help_text, rich_help_panel=COMMANDS[inner[0]].group)
