"""A function's signature and docstring declare its command: types, ranges, defaults, words."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Annotated, Any, ParamSpec, Protocol, TypeVar, overload

from manyhot.errors import UsageError, did_you_mean
from manyhot.parameters import AtLeast, Between, Flattened, InCampaign, PythonOnly, is_number, is_whole
from manyhot.registry import register
from manyhot.run import FilesRead, Run

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Verb(Protocol[P, R_co]):
    """A function that also takes the fields of its `Flattened` parameter, such as `classes`, as keywords."""

    __name__: str

    @overload
    def __call__(self, *args: P.args, **options: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, *args: Any, models: object, **options: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, classes: object, **options: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, format: object, **options: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, scores: object, **options: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, bits: object, **options: Any) -> R_co: ...

    @overload
    def __call__(self, *args: Any, audited: object, **options: Any) -> R_co: ...


class OpenVerb(Protocol[P, R_co]):
    """A `Verb` with settings of its own, whose fields type checkers cannot list."""

    __name__: str

    @overload
    def __call__(self, *args: P.args, **options: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, *args: Any, **options: Any) -> R_co: ...


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What `command` was told; see its parameters."""

    name: str
    examples: tuple[str, ...]
    out: str | InCampaign | None
    moved: Mapping[str, str]
    streams: bool


def command(
    name: str,
    *,
    examples: Sequence[str] = (),
    out: str | InCampaign | None = None,
    moved: Mapping[str, str] = MappingProxyType({}),
    streams: bool = False,
) -> Callable[[Callable[P, R]], Verb[P, R]]:
    """Declare a public function that is a command, too.

    Parameters
    ----------
    name : str
        The name of the command as it is typed, such as ``diagnose companions``.
    examples : sequence of str
        Command lines, for the help.
    out : str or InCampaign, optional
        The default of ``--out``. If None, nothing is written unless ``--out`` is given.
    moved : mapping of str to str, optional
        Options of the previous release that were renamed or moved to another command, with the new option or
        command.
    streams : bool
        Whether the events contain the whole output. If so, ``--json`` prints each event as a line while the
        command runs, and text output does not show `Result.lines` at the end.
    """

    def declare(function: Callable[P, R]) -> Verb[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **options: P.kwargs) -> R:
            together = _gathered(function, options)
            _check_ranges(function, args, together)
            return _with_read(functools.partial(function, *args, **together))

        checked.declaration = Declaration(  # type: ignore[attr-defined]
            name, tuple(examples), out, moved, streams
        )
        _show_fields(checked, function)
        return typing.cast(Verb[P, R], register("command", name)(checked))

    return declare


def _with_read(call: Callable[[], R]) -> R:
    """Return the result of a call, with how each file was read; a call inside another one leaves this out."""
    if FilesRead.current() is not None:
        return call()
    with FilesRead().recording() as found:
        result = call()
    if (lines := found.lines()) and "read" in getattr(result, "__dataclass_fields__", ()):
        return dataclasses.replace(result, read=tuple(lines))  # type: ignore[type-var]
    return result


def takes_fields(function: Callable[P, R]) -> OpenVerb[P, R]:
    """Let a public function take the fields of its `Flattened` parameter as keywords.

    A command accepts these keywords in any case, so for a command, the decorator only makes type checkers
    accept the fields of its own settings.
    """
    if hasattr(function, "declaration"):
        return typing.cast(OpenVerb[P, R], function)

    @functools.wraps(function)
    def together(*args: P.args, **options: P.kwargs) -> R:
        return function(*args, **_gathered(function, options))

    _show_fields(together, function)
    return typing.cast(OpenVerb[P, R], together)


def called_with(fields: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Let a function of one dataclass be called with the fields of the dataclass.

    The fields declare the signature: names, types, ranges and defaults. Fields that the docstring of the
    function does not describe get their entries from the docstring of the dataclass or of its bases.
    """

    def declare(function: Callable[[T], R]) -> Callable[P, R]:
        def called(*args: P.args, **options: P.kwargs) -> R:
            return function(fields(*args, **options))

        functools.update_wrapper(called, function)
        del called.__wrapped__  # type: ignore[attr-defined]  # `inspect.unwrap` ends at the fields
        returned, signature = hints_of(function)["return"], inspect.signature(fields)
        called.__annotations__ = {**hints_of(fields), "return": returned}
        called.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
        text, before = inspect.getdoc(function), list[str]()
        bases = [(inspect.getdoc(kind) or "").splitlines() for kind in inspect.getmro(fields)]  # type: ignore[arg-type]
        for name in signature.parameters if text else ():
            own = next((lines for lines in bases if _has_entry(lines, name)), None)
            if own is not None:
                text = _inserted(text or "", name, own[_entry(own, name)], before)
            before.append(name)
        called.__doc__ = text
        return called

    return declare


def _show_fields(shown: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Give a function that `help` shows plain types and the fields of its `Flattened` parameter.

    Ranges and placeholders are for the command line. The fields follow the parameter, as do their entries in
    the docstring, which are those of the class.
    """
    flattened, text = _flattened(function), inspect.getdoc(function) or ""
    has_text = bool(text)  # -OO removes docstrings
    types_of, own = typing.get_type_hints(function), inspect.signature(function).parameters
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if has_text and (types_of[name] is Run or name in flattened):
            entry = [name, f"    {summary_of(types_of[name])}"]  # by default, the summary of its class
            text = _inserted(text, name, entry, [p.name for p in parameters])
        parameters.append(parameter.replace(annotation=types_of[name]))
        if (kind := flattened.get(name)) is not None:
            inner = typing.get_type_hints(kind)
            fields = [f for f in _public_fields(kind) if f.name not in own]
            parameters += [
                inspect.Parameter(f.name, parameter.KEYWORD_ONLY, default=f.default, annotation=inner[f.name])
                for f in fields
            ]
            text = _with_entries(text, name, kind, [f.name for f in fields]) if has_text else ""
    returned = types_of["return"]
    shown.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
    shown.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": returned}
    if has_text:
        shown.__doc__ = text


def _inserted(text: str, name: str, entry: Sequence[str], before: Sequence[str]) -> str:
    """Return a docstring with an entry for a parameter, after those of the parameters before it."""
    lines = text.splitlines()
    if "Parameters" not in lines or _has_entry(lines, name):
        return text
    last = [other for other in before if _has_entry(lines, other)][-1:]
    at = _entry(lines, last[0]).stop if last else lines.index("Parameters") + 2
    return "\n".join([*lines[:at], *entry, *lines[at:]])


def _public_fields(kind: type[Flattened]) -> list[dataclasses.Field[Any]]:
    """Return the fields of a `Flattened` class that its repr shows: all but former names."""
    return [f for f in dataclasses.fields(kind) if f.repr]  # type: ignore[arg-type]


def _with_entries(text: str, name: str, kind: type[Flattened], fields: Sequence[str]) -> str:
    """Return a docstring with the entries of fields, which are those of their class, below that of `name`."""
    lines, own = text.splitlines(), (inspect.getdoc(kind) or "").splitlines()
    end = _entry(lines, name).stop
    entries = [line for field in fields for line in own[_entry(own, field)]]
    hint = f"    The fields of `{name}` can also be passed as keywords:"
    return "\n".join([*lines[:end], hint, *entries, *lines[end:]])


def _entry(lines: Sequence[str], name: str) -> slice:
    """Return the lines of the entry of a name in a numpydoc docstring, without empty lines at its end."""
    start = next(i for i, line in enumerate(lines) if _heads_entry(line, name))
    is_indented = (line.startswith(" ") for line in lines[start + 1 :])
    return slice(start, start + 1 + sum(1 for _ in itertools.takewhile(bool, is_indented)))


def _has_entry(lines: Sequence[str], name: str) -> bool:
    return any(_heads_entry(line, name) for line in lines)


def _heads_entry(line: str, name: str) -> bool:
    return bool(re.fullmatch(rf"(\w+, )*\*?{re.escape(name)}(, \w+)*( : .*)?", line))


def _flattened(function: Callable[..., Any]) -> dict[str, type[Flattened]]:
    """Return the names and the classes of the `Flattened` parameters of a function."""
    hints = hints_of(function).items()
    return {name: hint for name, hint in hints if isinstance(hint, type) and issubclass(hint, Flattened)}


def _gathered(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments in which fields of `Flattened` parameters are gathered in them.

    ``evaluate(labels, x, classes=names)`` means ``evaluate(labels, x, reading=Reading(classes=names))``.
    """
    parameters, found = inspect.signature(function).parameters, dict(options)
    for name, kind in _flattened(function).items() if set(options) - set(parameters) else ():
        fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
        chosen = {key: found.pop(key) for key in options if key in fields}
        if chosen:
            found[name] = dataclasses.replace(found.get(name, parameters[name].default), **chosen)
    return found


def _check_ranges(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Raise an error for numbers that are out of range, and for other values of number parameters."""
    bound = _bound(function, args, options)
    groups = _flattened(function)
    for name, hint in hints_of(function).items():
        if name in bound and name in groups:
            check_fields(bound[name])
        elif name in bound:
            _check_range(name, hint, bound[name])


def _bound(function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call; errors name the function and a parameter that is similar."""
    signature = inspect.signature(function)
    try:
        return signature.bind(*args, **options).arguments
    except TypeError as error:
        fields = (dataclasses.fields(kind) for kind in _flattened(function).values())  # type: ignore[arg-type]
        names = {*signature.parameters, *(f.name for f in itertools.chain.from_iterable(fields))}
        hint = next((did_you_mean(name, names) for name in options if name not in names), None)
        raise TypeError(f"{function.__name__}() {error}" + (f"; {hint}" if hint else "")) from None


def check_fields(options: Any) -> None:
    """Raise an error if a dataclass field that has a range is not a number or is out of range."""
    hints = hints_of(options.__class__)
    for field in dataclasses.fields(options):
        _check_range(field.name, hints[field.name], getattr(options, field.name))


def _check_range(name: str, hint: Any, value: Any) -> None:
    limits = metadata_of(hint, AtLeast, Between)
    kinds = _kinds(hint)
    if not limits or (value is None and None in kinds):
        return
    if kinds <= {int, float, None}:
        whole = float not in kinds
        if not (is_whole(value) if whole else is_number(value) or _is_infinite(value)):
            kind = "whole number" if whole else "number"
            raise UsageError(f"`{name}` is not a {kind}.", got=repr(value), allowed=f"{limits[0]}")
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, Real) and not all(limit.allows(float(number)) for limit in limits):
            raise UsageError(f"`{name}` is out of range.", got=number, allowed=str(limits[0]))


def _kinds(hint: Any) -> set[Any]:
    """Return the plain types of an annotation, None for an optional one."""
    if typing.get_origin(hint) is Annotated:
        return _kinds(typing.get_args(hint)[0])
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return set().union(*map(_kinds, typing.get_args(hint)))
    return {None if hint is type(None) else hint}


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


@functools.cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotated types of a function's parameters and of its return value, with their ranges."""
    return typing.get_type_hints(inspect.unwrap(function), include_extras=True)


def metadata_of(hint: Any, *kinds: type) -> tuple[Any, ...]:
    """Return the metadata of the given kinds that ``Annotated`` adds to a type or to its parts."""
    if typing.get_origin(hint) is Annotated:
        inner, *more = typing.get_args(hint)
        return (*metadata_of(inner, *kinds), *(m for m in more if isinstance(m, kinds)))
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return tuple(m for part in typing.get_args(hint) for m in metadata_of(part, *kinds))
    return ()


# Words, from numpydoc.


def words_of(documented: object) -> dict[str, str]:
    """Return the description of each name in the section Parameters or Attributes of a numpydoc docstring."""
    text = inspect.getdoc(documented) or ""
    section = re.search(r"^(?:Parameters|Attributes)\n-+\n(.*?)(?:\n\n?\w+\n-+\n|\Z)", text, re.S | re.M)
    parts = re.split(r"^(\*{0,2}\w[\w, ]*)(?: : .*)?$", section[1] if section else "", flags=re.M)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {name: _plain(text) for names, text in pairs for name in names.split(", ")}


def _plain(text: str) -> str:
    """Return the first paragraph of a text without its sentences for callers from Python.

    Parameters keep their backticks, by which the command line finds them.
    """
    text = " ".join(re.split(r"\n\s*\n", text.strip())[0].replace("``", "").split())
    return re.sub(r"(^|(?<=\.) )In Python, .*?\.(?= |$)", "", text)


def summary_of(documented: object) -> str:
    """Return the paragraphs of a docstring before its first section, each on one line."""
    text = re.split(r"^\w[\w ]*\n-+\n", inspect.getdoc(documented) or "", maxsplit=1, flags=re.M)[0]
    return "\n\n".join(_plain(paragraph) for paragraph in text.strip().split("\n\n"))


# Signatures.


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a function, as an argument or an option of its command.

    Attributes
    ----------
    name : str
        In Python.
    hint : type
    default : object
        The default value; `inspect.Parameter.empty` if the parameter is required.
    text : str
        What the docstring says of it.
    group : str
        The `Flattened` parameter to which the field belongs; empty for all other parameters.
    several : bool
        Whether the parameter is ``*name``, which takes any number of values.
    keyword_only : bool
        Whether the parameter is keyword-only. It is then an option of the command even if it has no default.
    """

    name: str
    hint: Any
    default: Any
    text: str
    group: str = ""
    several: bool = False
    keyword_only: bool = False


def parameters_of(function: Callable[..., Any]) -> Iterator[Parameter]:
    """Yield the parameters of a function's command; each field of a `Flattened` parameter is one of them."""
    function = inspect.unwrap(function)
    words, hints = words_of(function), hints_of(function)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if hint is Run or _is_python_only(hint):
            continue
        if isinstance(hint, type) and issubclass(hint, Flattened):
            inner, kinds = words_of(hint), typing.get_type_hints(hint, include_extras=True)
            for field in dataclasses.fields(hint):  # type: ignore[arg-type]
                if _is_python_only(kinds[field.name]):
                    continue
                yield Parameter(field.name, kinds[field.name], field.default, inner[field.name], name)
            continue
        several = parameter.kind is parameter.VAR_POSITIONAL
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        text = words.get(f"*{name}" if several else name, "")
        yield Parameter(name, hint, parameter.default, text, several=several, keyword_only=keyword_only)


def _is_python_only(hint: Any) -> bool:
    return bool(metadata_of(hint, PythonOnly))
