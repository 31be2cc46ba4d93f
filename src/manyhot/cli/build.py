"""The command of a declared function."""

from __future__ import annotations

import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from manyhot import console
from manyhot.cli.application import typer_command
from manyhot.cli.options import call
from manyhot.command import Parameter, hints_of, metadata_of, parameters_of, summary_of
from manyhot.parameters import AtLeast, Between, Shown
from manyhot.registry import get
from manyhot.result import Result
from manyhot.run import Run

_METAVARS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


def _limits(metadata: Any) -> dict[str, float]:
    if isinstance(metadata, AtLeast):
        return {"min": metadata.least}
    return {"min": metadata.least, "max": metadata.most} if isinstance(metadata, Between) else {}


def _read_type(hint: Any) -> tuple[Any, bool]:
    """Return what one value of a type is on the command line, and whether several may be given."""
    if typing.get_origin(hint) is Annotated:
        return _read_type(typing.get_args(hint)[0])
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        if os.PathLike in {typing.get_origin(part) for part in parts}:
            return Path, False
        return _read_type(parts[0])
    if typing.get_origin(hint) is Literal:
        return StrEnum("Choice", {str(c): str(c) for c in typing.get_args(hint)}), False
    if typing.get_origin(hint) in (tuple, list, Sequence):
        return _read_type(typing.get_args(hint)[0])[0], True
    return (str if hint is Any else hint), False


def _declared(parameter: Parameter) -> inspect.Parameter:
    """Return the parameter as Typer reads it."""
    kind, repeated = _read_type(parameter.hint)
    limits = {k: v for m in metadata_of(parameter.hint) for k, v in _limits(m).items()}
    shown = next((m.name for m in metadata_of(parameter.hint) if isinstance(m, Shown)), _METAVARS.get(kind))
    more: dict[str, Any] = {"help": _help(parameter), **limits}
    more |= (
        {} if kind is bool or (isinstance(kind, type) and issubclass(kind, StrEnum)) else {"metavar": shown}
    )
    if parameter.default is inspect.Parameter.empty:
        info: Any = typer.Argument(**more)
        default = inspect.Parameter.empty
    else:
        flag = "--" + parameter.name.rstrip("_").replace("_", "-")
        info = typer.Option(flag, **more)
        default = None if repeated or parameter.default is None else parameter.default
    hint = list[kind] if repeated else kind  # type: ignore[valid-type]
    hint = hint | None if default is None else hint
    return inspect.Parameter(
        parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, info]
    )


def _help(parameter: Parameter) -> str:
    ranges = [str(m) for m in metadata_of(parameter.hint) if isinstance(m, AtLeast | Between)]
    text = parameter.text if not ranges else f"{parameter.text} ({'; '.join(ranges)})"
    return f"{text} Repeat for more." if _read_type(parameter.hint)[1] else text


def build(name: str, function: Callable[..., Any]) -> TyperCommand:
    """Return the command of a function that `command` declared."""
    about = get("command", name).about
    parameters = list(parameters_of(function))
    returned = hints_of(function)["return"]

    def callback(**values: Any) -> None:
        out, as_json = values.pop("out"), values.pop("as_json")
        arguments = _arguments(function, parameters, values)
        if out is not None:
            returned.check_out(out, _places(values.values()))
        with console.show_progress() as on_progress:
            run = Run(call(), on_progress)
            result = function(**arguments, run=run)
            written = [] if out is None else result.write(out, run=run)
        _show(result, written, as_json)

    more = [_out(about["out"]), _json()]
    signature = inspect.Signature([*(_declared(p) for p in parameters), *more])
    callback.__signature__ = signature  # type: ignore[attr-defined]
    callback.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    text = f"{summary_of(function)}\n\n{_examples(about['examples'])}"
    return typer_command(name.rpartition(" ")[2], callback, help=text)


def _out(default: str | None) -> inspect.Parameter:
    option = typer.Option(
        "--out", help="Folder to write to; made if absent.", file_okay=False, metavar="FOLDER"
    )
    hint = Path if default is not None else Path | None
    value = None if default is None else Path(default)
    return inspect.Parameter(
        "out", inspect.Parameter.KEYWORD_ONLY, default=value, annotation=Annotated[hint, option]
    )


def _json() -> inspect.Parameter:
    option = typer.Option("--json", help="Print JSON instead of text, for programs.")
    return inspect.Parameter(
        "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )


def _examples(lines: Sequence[str]) -> str:
    return f"Example{'s' if len(lines) > 1 else ''}: {' · '.join(lines)}"


def _arguments(
    function: Callable[..., Any], parameters: Sequence[Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call: what was given on the command line, groups put together again."""
    grouped: dict[str, dict[str, Any]] = {}
    for parameter in parameters:
        value = values[parameter.name]
        value = value.value if isinstance(value, StrEnum) else value
        if value is not None:
            grouped.setdefault(parameter.group, {})[parameter.name] = value
    alone = grouped.pop("", {})
    hints = hints_of(function)
    return alone | {name: hints[name](**fields) for name, fields in grouped.items()}


def _places(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _show(result: Result, written: Sequence[Path], as_json: bool) -> None:
    if as_json:
        console.say(json.dumps(result.to_json() | {"written": [str(path) for path in written]}))
        return
    for line in result.lines():
        console.say(line)
    for note in result.notes:
        console.say(f"Note: {note}.", err=True)
    for line in console.written_lines(written):
        console.say(line)
