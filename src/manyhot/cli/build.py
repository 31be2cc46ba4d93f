"""The command of a declared function."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import json
import os
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from manyhot import console
from manyhot.cli.events import show_run
from manyhot.cli.help import ManyValues, typer_command
from manyhot.command import Declaration, Parameter, hints_of, metadata_of, parameters_of, summary_of
from manyhot.errors import ManyhotError, rename_parameters
from manyhot.files import check_output_name, check_writable
from manyhot.formats.writing import in_campaign
from manyhot.parameters import (
    Address,
    AtLeast,
    Between,
    FromEnvironment,
    InCampaign,
    OptionName,
    Positional,
    Repeated,
    Shown,
    Was,
)
from manyhot.result import Result
from manyhot.run import OnEvent, Run, split_notes


def call() -> str:
    """Return the command line for the metadata of output files, with passwords in URLs masked."""
    return shlex.join(["manyhot", *map(console.without_passwords, sys.argv[1:])])


_OF_CONVERT = {
    name: f"manyhot convert's --{name.replace('_', '-')}"
    for name in ("format", "label_values", "rows", "scores")
}
"""How messages name options that a command lacks but `convert` has, which writes a file that needs none."""

_METAVARS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


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
    if typing.get_origin(hint) is Mapping:
        return str, True
    if typing.get_origin(hint) in (tuple, list, Sequence):
        return _read_type(typing.get_args(hint)[0])[0], True
    return (str if hint is Any else hint), False


def _kind(parameter: Parameter) -> tuple[Any, bool]:
    """Return what one value is, and whether several may be given."""
    kind, repeated = _read_type(parameter.hint)
    kind = str if metadata_of(parameter.hint, Address) else kind
    return kind, repeated or parameter.several or bool(metadata_of(parameter.hint, Repeated))


def _declared(parameter: Parameter, options: Mapping[str, str]) -> inspect.Parameter:
    """Return the parameter as Typer reads it; its text names others by their `options`."""
    kind, repeated = _kind(parameter)
    more: dict[str, Any] = {"help": _on_terminal(_help(parameter), options)}
    if not (isinstance(kind, type) and issubclass(kind, bool | StrEnum)):
        more["metavar"] = _named(parameter, Shown, _METAVARS.get(kind))
    hint = list[kind] if repeated else kind  # type: ignore[valid-type]
    if _is_argument(parameter):
        can_be_absent = parameter.several or _former([parameter])
        if parameter.default is inspect.Parameter.empty and not can_be_absent:
            return _parameter(parameter.name, hint, typer.Argument(**more))
        # The function itself raises an error if there is none of several. One that has a former name may be
        # given by that; the function is called only if it is given.
        has_default = not (repeated or parameter.default in (None, inspect.Parameter.empty))
        info = typer.Argument(**more, show_default=str(parameter.default) if has_default else False)
        return _parameter(parameter.name, hint | None, info, None)
    is_required = parameter.default is inspect.Parameter.empty and not _former([parameter])
    is_absent = repeated or parameter.default is inspect.Parameter.empty
    default = None if is_absent and not is_required else parameter.default
    more["envvar"] = _named(parameter, FromEnvironment, None)
    info = typer.Option(_option(parameter), **more)
    return _parameter(parameter.name, hint | None if default is None else hint, info, default)


def _is_argument(parameter: Parameter) -> bool:
    """Return whether a parameter is an argument of the command, not an option."""
    if parameter.group or metadata_of(parameter.hint, OptionName):
        return False
    is_required = parameter.default is inspect.Parameter.empty and not parameter.keyword_only
    return is_required or bool(metadata_of(parameter.hint, Positional))


def _named(parameter: Parameter, kind: type, default: Any) -> Any:
    """Return the name in the metadata of this kind."""
    return next((m.name for m in metadata_of(parameter.hint, kind)), default)


def _option(parameter: Parameter) -> str:
    return str(_named(parameter, OptionName, "--" + parameter.name.rstrip("_").replace("_", "-")))


def _shown_name(parameter: Parameter) -> str:
    """Return the name of a parameter as errors show it: of an argument or an option."""
    return f"argument '{_word(parameter)}'" if _is_argument(parameter) else f"option '{_option(parameter)}'"


def _word(parameter: Parameter) -> str:
    """Return the word for an argument in the usage of a command."""
    return str(_named(parameter, Shown, parameter.name.upper()))


def _parameter(name: str, hint: Any, info: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[hint, info])


def _with_options(on_event: OnEvent | None, options: Mapping[str, str]) -> OnEvent | None:
    """Return a listener that receives notes with options in place of parameters."""
    if on_event is None:
        return None

    def listen(kind: str, values: dict[str, Any]) -> None:
        text = {"text": rename_parameters(values["text"], options)} if kind == "note" else {}
        on_event(kind, values | text)

    return listen


def _on_terminal(text: str, options: Mapping[str, str]) -> str:
    """Return a text of a docstring with the parameters of a command as its options."""
    return rename_parameters(text, options).replace("`", "")


def _help(parameter: Parameter) -> str:
    parts = [parameter.text]
    if _kind(parameter)[1] and not _is_argument(parameter):
        parts.append("Repeat for more.")
    parts += [f"Allowed: {m}." for m in metadata_of(parameter.hint, AtLeast, Between)]
    return " ".join(parts)


def _former(parameters: Sequence[Parameter]) -> dict[str, tuple[str, Parameter]]:
    """Return, by name in the signature, the former name of each option that has one, and the option."""
    found = ((m.name, p) for p in parameters for m in metadata_of(p.hint, Was))
    return {f"former_{n.lstrip('-').replace('-', '_')}": (n, p) for n, p in found}


def _hidden(name: str, option: str, parameter: Parameter) -> inspect.Parameter:
    """Return the option under its former name, which help does not list."""
    kind, repeated = _kind(parameter)
    hint = list[kind] if repeated else kind  # type: ignore[valid-type]
    return _parameter(name, hint | None, typer.Option(option, hidden=True), None)


def on_terminal(error: ManyhotError, options: Mapping[str, str]) -> ManyhotError:
    """Return an error with the `options` of a command in place of parameters.

    Files are read by the same code for all commands, of which some lack options. Advice between semicolons
    that names such an option is left out, unless `convert` has it.
    """
    error = error.renamed({**_OF_CONVERT, **options})
    do = error.details["do"]
    if not isinstance(do, str) or "`" not in do:
        return error
    from manyhot.data.reading_options import Reading  # not at the start of each command

    others = {"predictions", *(field.name for field in dataclasses.fields(Reading))} - options.keys()
    kept = [part for part in do.split("; ") if others.isdisjoint(re.findall(r"`(\w+)`", part))]
    return error if kept == do.split("; ") else error.with_do("; ".join(kept) or None)


def build(name: str, function: Callable[..., Any]) -> ManyValues:
    """Return the command of a function that was declared with `command`."""
    about: Declaration = function.declaration  # type: ignore[attr-defined]
    parameters = list(parameters_of(function))
    returned = hints_of(function)["return"]
    former = _former(parameters)
    options = {p.name: p.name.upper() if _is_argument(p) else _option(p) for p in parameters}
    options.setdefault("out", "--out")
    named = _OF_CONVERT | options
    takes_run = Run in hints_of(function).values()
    # A verb that works in a folder takes it itself; other results are written when they are there.
    own_folder = any(parameter.name == "out" for parameter in parameters)
    writes = not own_folder and (returned.NAMES or returned.write is not Result.write)

    def callback(**values: Any) -> None:
        _spare_pandas()
        as_json, out = values.pop("as_json"), values.pop("out", None) if writes else None
        _take_former(values, former)
        several = [value for p in parameters if p.several for value in values.pop(p.name) or ()]
        try:
            arguments = _arguments(function, [p for p in parameters if not p.several], values)
            if (
                out is None
                and writes
                and isinstance(about.out, InCampaign)
                and about.out.argument in arguments
            ):
                out = in_campaign(arguments[about.out.argument], about.out.file)
            folder = values.get("out") if own_folder else out
            if isinstance(folder, str | os.PathLike):
                check_output_name(Path(folder))
            if out is not None:
                returned.check_out(out, [*several, *_places(parameters, values)])
                check_writable(Path(out))
            with show_run(as_json, streams=about.streams) as (on_progress, on_event):
                run = Run(call(), on_progress, _with_options(on_event, named))
                result = function(*several, **arguments, **({"run": run} if takes_run else {}))
                result = result.renamed(named)
                with contextlib.suppress(OSError):  # nobody reads on, or the stream is full: files come first
                    result = result.stream(run)
                written = result.written if out is None else result.write(out, run=run)
        except ManyhotError as error:
            raise on_terminal(error, options) from error.__cause__
        _show(result, written, as_json, named, streamed=about.streams)
        if result.exit_code:
            raise typer.Exit(result.exit_code)

    more = [_hidden(name, *was) for name, was in former.items()]
    more += [_out(about.out, returned)] if writes else []
    more += [_json(about.streams)]
    signature = inspect.Signature([*(_declared(p, options) for p in parameters), *more])
    callback.__signature__ = signature  # type: ignore[attr-defined]
    callback.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    text = "\n\n".join(filter(None, [_on_terminal(summary_of(function), options), _examples(about.examples)]))
    made = typer_command(name.rpartition(" ")[2], callback, help=text)
    made.moved = about.moved
    return made


class _NoPandas(MetaPathFinder):
    """Lets an import of pandas fail."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Raise an error for pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")


def _spare_pandas() -> None:
    """Let Arrow decide that there are no frames of pandas before it makes its first array.

    It imports pandas to tell them apart, which takes 0.3 CPU s. On the command line, there are only files.
    """
    if "pyarrow" not in sys.modules or "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def _take_former(values: dict[str, Any], former: Mapping[str, tuple[str, Parameter]]) -> None:
    """Take values that were given by the former name of an option, and say the new one."""
    for name, (option, parameter) in former.items():
        value = values.pop(name)
        if value is not None:
            is_argument = _is_argument(parameter)
            now = f"the argument {_word(parameter)}" if is_argument else _option(parameter)
            console.say(f"Note: {option} is called {now} now.", err=True)
            values[parameter.name] = value
        elif parameter.default is inspect.Parameter.empty and values[parameter.name] is None:
            raise typer.BadParameter(f"Missing {_shown_name(parameter)}.")


def _out(default: str | InCampaign | None, result: type[Result]) -> inspect.Parameter:
    kind, text = result.TARGET
    is_folder, one_table = kind == "FOLDER", len(result.NAMES) == 1
    text += " If the name ends in .parquet or .csv, one file is written." if is_folder and one_table else ""
    text += (
        f" By default {default.file}, in the folder of a campaign." if isinstance(default, InCampaign) else ""
    )
    option = typer.Option("--out", help=text, file_okay=not is_folder or one_table, metavar=kind)
    if default is None or isinstance(default, InCampaign):
        return _parameter("out", Path | None, option, None)
    return _parameter("out", Path, option, Path(default))


def _json(streams: bool) -> inspect.Parameter:
    text = "each event as a line of JSON instead of text" if streams else "the result as JSON instead of text"
    return _parameter("as_json", bool, typer.Option("--json", help=f"Print {text}."), False)


def _examples(lines: Sequence[str]) -> str:
    return f"Example{'s' if len(lines) > 1 else ''}: {' · '.join(lines)}" if lines else ""


def _arguments(
    function: Callable[..., Any], parameters: Sequence[Parameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call: what was given on the command line, groups put together again."""
    grouped: dict[str, dict[str, Any]] = {}
    for parameter in parameters:
        value = values[parameter.name]
        value = value.value if isinstance(value, StrEnum) else value
        if typing.get_origin(_plain_type(parameter.hint)) is Mapping and value is not None:
            value = dict(setting(text, _option(parameter)) for text in value)
        if value is not None:
            grouped.setdefault(parameter.group, {})[parameter.name] = value
    alone = grouped.pop("", {})
    hints = hints_of(function)
    return alone | {name: hints[name](**fields) for name, fields in grouped.items()}


def _plain_type(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def setting(text: str, option: str = "--set") -> tuple[str, Any]:
    """Return the name and the value of ``NAME=VALUE``. A value that is not a Python literal is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{option} is NAME=VALUE; got {text}")
    try:
        return name.strip(), ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name.strip(), value


def _places(parameters: Sequence[Parameter], values: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what may be read: all values but texts, such as the name of a data set."""
    for parameter in parameters:
        value = values.get(parameter.name)
        if not _is_text(parameter.hint):
            listed = value if isinstance(value, list) else [value]
            is_data = _named(parameter, Shown, "") == "DATASET"
            yield from (v for v in listed if not (is_data and _is_published_name(v)))


def _is_published_name(value: object) -> bool:
    """Return whether a name of published data is also that of a file, which is then not read."""
    if not (isinstance(value, str) and Path(value).exists()):
        return False
    from manyhot.data.benchmarks import is_published_name  # not at the start of each command

    return is_published_name(value)


def _is_text(hint: Any) -> bool:
    """Return whether a parameter takes text, and neither a path nor what may be one."""
    if typing.get_origin(hint) is Annotated:
        return not metadata_of(hint, Address) and _is_text(typing.get_args(hint)[0])
    if typing.get_origin(hint) is os.PathLike:
        return False
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    return hint is str or (bool(parts) and all(_is_text(part) for part in parts))


def _show(
    result: Result, written: Sequence[Path], as_json: bool, options: Mapping[str, str], *, streamed: bool
) -> None:
    """Print a result; one whose events were shown as they came leaves the files to say."""
    if as_json:
        if not streamed:
            shown: Any = result.to_json()
            files = {"written": [str(path) for path in written]}
            files |= {"read": list(result.read)} if result.read else {}
            # A listing is a list for programs.
            console.say(json.dumps(shown if isinstance(shown, list) else shown | files))
        return
    if not streamed:
        for line in result.lines():
            console.say(rename_parameters(line, options))
    for line in result.read:
        console.say(f"Read {line}.", err=True)
    if not streamed:
        for note in split_notes(result.notes)[1]:  # the others were shown before
            console.say(f"Note: {rename_parameters(note, options)}.", err=True)
    for line in console.written_lines(written):
        console.say(line)
    if written and result.DRAWS:
        from manyhot.report.export import undrawn

        if missing := undrawn():
            console.say(f"Note: there are no figures: {missing}.", err=True)
