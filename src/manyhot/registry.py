"""The registry of plain functions by kind and name, for built-ins and plug-ins.

Functions are registered by a decorator::

    @register("metric", "real1", better="higher")
    def real1(case: Case) -> Ratio: ...

and looked up by name, or by a call string with literals::

    get("metric", "precision@5")
    get("metric", "jaccard(threshold=0.5)")

Other packages declare the module that registers their functions in the entry-point group ``manyhot``.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from manyhot.commands import COMMANDS
from manyhot.errors import InputError, UnknownNameError
from manyhot.extras import naming_extras
from manyhot.kinds import CHECKS, check_keys
from manyhot.parameters import is_number
from manyhot.plug_ins import (
    Guarded,
    PlugIn,
    failed,
    innermost,
    is_own,
    load_plug_ins,
    loading,
    naming_failures,
    naming_return,
    package_of,
    plug_in_of,
    refuse_name,
)

BUILT_IN: dict[str, tuple[str, ...]] = {
    "metric": (
        "manyhot.core.accuracy",
        "manyhot.core.ranking",
        "manyhot.core.curve_metrics",
        "manyhot.core.recall_at_fpr",
        "manyhot.core.set_metrics",
        "manyhot.core.macro_metrics",
        "manyhot.core.confidence_metrics",
        "manyhot.core.selective_prediction",
        "manyhot.core.distributions",
    ),
    "format": (
        "manyhot.formats.real",
        "manyhot.formats.imagenetv2",
        "manyhot.formats.fiftyone",
        "manyhot.formats.fiftyone_samples",
        "manyhot.formats.ground_truth",
        "manyhot.formats.label_studio_export",
        "manyhot.formats.label_studio_project",
        "manyhot.formats.label_studio_tasks",
        "manyhot.formats.shankar",
        "manyhot.formats.chen",
        "manyhot.formats.celeba",
        "manyhot.formats.voc_image_sets",
        "manyhot.formats.hugging_face",
        "manyhot.formats.annotations",
        "manyhot.formats.image_folder",
        "manyhot.formats.tsipras",
        "manyhot.formats.imagenet_x",
        "manyhot.formats.array_files",
        "manyhot.formats.array_labels",
        "manyhot.formats.timm_files",
        "manyhot.formats.wide_results",
        "manyhot.formats.camera_traps",
        "manyhot.formats.prediction_lists",
        "manyhot.formats.tag_lists",
        "manyhot.formats.label_lists",
        "manyhot.formats.indicator",
        "manyhot.formats.class_columns",
        "manyhot.formats.corrected_csv",
        "manyhot.formats.tabular",
        "manyhot.formats.images_table",
        "manyhot.formats.class_lists",
        "manyhot.formats.vote_files",
        "manyhot.formats.campaign_labels",
        "manyhot.formats.zooniverse",
        "manyhot.formats.mechanical_turk",
        "manyhot.formats.choice_files",
        "manyhot.formats.rater_rows",
        "manyhot.formats.choice_counts",
        "manyhot.formats.object_files",
    ),
    "model": (
        "manyhot.predict.adapters.packaged",
        "manyhot.predict.adapters.timm",
        "manyhot.predict.adapters.torchvision",
        "manyhot.predict.adapters.open_clip",
        "manyhot.predict.adapters.network_files",
        "manyhot.predict.adapters.function",
        "manyhot.predict.adapters.trained",
        "manyhot.predict.adapters.dropout",
        "manyhot.predict.adapters.deep_ensemble",
    ),
    "detector": ("manyhot.predict.adapters.objectron", "manyhot.predict.adapters.torchvision_detectors"),
    "aggregator": ("manyhot.core.aggregation", "manyhot.core.dawid_skene"),
    "choice-aggregator": ("manyhot.core.choices",),
    "proposer": ("manyhot.core.proposals", "manyhot.core.confident_learning"),
    "rule": ("manyhot.core.error_kinds",),
    "loss": ("manyhot.train.losses.partial",),
    "chapter": (
        "manyhot.diagnose.shortcuts_result",
        "manyhot.diagnose.explanations",
        "manyhot.diagnose.companions_chapter",
        "manyhot.diagnose.robustness_chapter",
        "manyhot.diagnose.calibration_chapter",
        "manyhot.diagnose.errors_chapter",
        "manyhot.diagnose.label_issues_table",
    ),
}
BUILT_IN["command"] = tuple(
    dict.fromkeys(c.address.partition(":")[0] for c in COMMANDS.values() if ".cli." not in c.address)
)
# A feature is found through its command: its table and its chapter need no line of their own.
BUILT_IN["table"] = BUILT_IN["command"]
BUILT_IN["chapter"] = tuple(dict.fromkeys((*BUILT_IN["chapter"], *BUILT_IN["command"])))
BUILT_IN["writer"] = BUILT_IN["format"]
"""The modules that register the built-ins of each kind, which are imported at the first look-up of the
kind."""

_TITLES = {"choice-aggregator": "aggregator of class votes"}
"""Kinds that messages name by more than their name."""

_NAME = re.compile(r"[\w.+/-]+(@k)?")

_Function = TypeVar("_Function", bound=Callable[..., Any])
_entries: dict[tuple[str, str], Entry] = {}
_loaded: set[str] = set()


@dataclass(frozen=True)
class Entry:
    """A registered function with the options of a call string.

    Attributes
    ----------
    kind, name : str
        The kind and the registered name. If `get` has set options, the name is the call string, such as
        ``precision@5``.
    function : callable
        The plain function with bound options.
    about : Mapping[str, Any]
        Metadata that was passed to `register`, such as ``better="higher"``.
    also : tuple of str
        Other names of the entry.
    is_checked : bool
        Whether a call checks the results of other packages. `manyhot.testing` has its own messages.
    """

    kind: str
    name: str
    function: Callable[..., Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    is_checked: bool = True

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function. One of another package is named if it fails, and its result is checked."""
        if self.kind not in CHECKS or not self.is_checked or is_own(self.function):
            return self.function(*args, **options)
        where = f"{args[0]}, " if args and isinstance(args[0], os.PathLike) else ""
        with naming_failures(self.title, self.function, where):
            result = self.function(*args, **options)
        with naming_return(self.title, self.function, where):
            return _check_of(self.kind)(self, result, args)

    @property
    def title(self) -> str:
        """Subject of a message about the function."""
        return f"The {_TITLES.get(self.kind, self.kind)} {self.name!r}"

    @property
    def version(self) -> str:
        """The distribution and version of the plug-in; empty for functions of manyhot or of scripts."""
        return package_of(self.function)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return self._docstring.partition("\n")[0]

    @property
    def definition(self) -> str:
        """The docstring up to its first section, as one line of plain text."""
        text = re.split(r"\n[^\n]+\n-{3,}\n", self._docstring)[0]
        return " ".join(text.replace("`", "").split())

    @property
    def _docstring(self) -> str:
        return inspect.getdoc(inspect.unwrap(innermost(self.function))) or ""


def register(
    kind: str, name: str, *, also: Sequence[str] = (), **about: Any
) -> Callable[[_Function], _Function]:
    """Register the decorated function under `name`, and return it unchanged.

    Parameters
    ----------
    kind, name : str
    also : sequence of str
        Other common names, such as ``mAP``. Case is ignored, and hyphens and spaces are read as underscores.
        A name that several entries declare is ambiguous and raises an error that lists these entries.
    **about
        Metadata, such as ``better="higher"``. `manyhot.kinds.KEYS` lists what each kind declares.

    Raises
    ------
    InputError
        If the kind does not exist, if the name is taken or contains characters other than letters, digits and
        ``. _ - + /``, or if a key is unknown, missing or has an invalid value.
    """
    _check_kind(kind)
    if kind != "command" and not _NAME.fullmatch(name):
        raise InputError(
            f"This cannot be the name of a {kind}.",
            got=name,
            allowed="letters, digits and . _ - + /, and @k at the end for an option k",
        )
    check_keys(kind, name, about)

    def decorate(function: _Function) -> _Function:
        taken, plug_in = _entries.get((kind, name)), loading()
        if plug_in is not None and not is_own(function):
            plug_in.modules.add(innermost(function).__module__)
        if taken is not None and _origin(taken.function) != _origin(function):
            title, owner = f"the {kind} {name!r}", package_of(taken.function) or _origin(taken.function)[0]
            earlier = plug_in_of(taken.function)
            if is_own(function) and earlier is not None:
                refuse_name(earlier, title, "built in", late=True)
            elif plug_in is not None and not is_own(function):
                refuse_name(plug_in, title, "built in" if is_own(taken.function) else f"of {owner}")
                return function
            else:
                raise InputError(
                    f"The {kind} {name!r} is registered twice.",
                    where=" and ".join(_origin(taken.function)[:1] + _origin(function)[:1]),
                    do="choose another name for one of them",
                )
        entry = Entry(kind, name, function, about, tuple(also))
        if kind in CHECKS and not is_own(function):
            named = {k: Guarded(entry.title, v) if inspect.isroutine(v) else v for k, v in about.items()}
            entry = replace(entry, about=named)
        _entries[kind, name] = entry
        return function

    return decorate


def entries(kind: str) -> list[Entry]:
    """Return the entries of a kind: built-ins in the order of `BUILT_IN`, then other entries."""
    load_kind(kind)
    place = {module: i for i, module in enumerate(BUILT_IN[kind])}
    own = [e for e in [*_entries.values()] if e.kind == kind]  # a copy: other threads may register something
    return sorted(own, key=lambda entry: place.get(_origin(entry.function)[0], len(place)))


def each(kind: str) -> Iterator[Entry]:
    """Yield the entries of a kind in the order of `entries`. Their modules are imported one by one.

    The readers of benchmark files come early. A benchmark's first results then need not wait 0.2 s for the
    other formats.
    """
    if all(module in sys.modules for module in BUILT_IN[kind]):
        load_kind(kind)
    for module in () if kind in _loaded else BUILT_IN[kind]:
        importlib.import_module(module)
        yield from [e for e in [*_entries.values()] if (e.kind, _origin(e.function)[0]) == (kind, module)]
    is_whole = kind in _loaded
    yield from (e for e in entries(kind) if is_whole or _origin(e.function)[0] not in BUILT_IN[kind])


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, in the order of `entries`."""
    return [entry.name for entry in entries(kind)]


def is_registered(kind: str, name: str) -> bool:
    """Return whether an entry is registered under exactly this name, without options."""
    load_kind(kind)
    return (kind, name) in _entries


def get(kind: str, spec: str) -> Entry:
    """Return the entry of a call string: ``name``, ``name@5`` or ``name(option=literal)``.

    Raises
    ------
    UnknownNameError
        If nothing is registered under the name; the message lists similar names.
    InputError
        If the call string cannot be parsed, or if it sets an unknown option or an invalid value.
    """
    if not isinstance(spec, str):
        raise _unknown(kind, str(spec))
    typed, options = _parse(kind, spec)
    entry = _find(kind, typed)
    name = entry.name
    allowed = options_of(entry)
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise InputError(
            f"The {_TITLES.get(kind, kind)} {name!r} has no option {unknown[0]!r}.",
            got=spec,
            allowed=", ".join(allowed) or "no options",
        )
    _check_values(entry, options, spec)
    if not options:
        return entry
    bound = functools.partial(entry.function, **options)
    return replace(entry, name=_call_string(name, typed, spec), function=bound)


def canonical(kind: str, spec: str) -> str:
    """Return the call string with the registered name in place of another name; `spec` if it is unknown."""
    typed, _ = _parse(kind, spec)
    try:
        return _call_string(_find(kind, typed).name, typed, spec)
    except UnknownNameError:
        return spec


def _call_string(name: str, typed: str, spec: str) -> str:
    """Return a call string under the registered name."""
    spec = spec.strip()
    at = spec.rpartition("@")[2] if typed.endswith("@k") and "(" not in spec else ""
    return name.removesuffix("k") + at if at else name + spec.removeprefix(typed)


def _find(kind: str, typed: str) -> Entry:
    """Return the entry of this name, or of this other name.

    Raises
    ------
    UnknownNameError
        If there is no such name, or if it is another name of several entries.
    """
    if (kind, typed) not in _entries or not is_own(_entries[kind, typed].function):
        load_kind(kind)  # built-in names win
    if (kind, typed) in _entries:
        return _entries[kind, typed]
    key, listed = _plain(typed), entries(kind)
    same = [e for e in listed if _plain(e.name) == key] or [e for e in listed if key in map(_plain, e.also)]
    same = [e for e in same if is_own(e.function)] or same
    if len(same) == 1:
        return same[0]
    if same:
        raise UnknownNameError(
            f"The {kind} {typed!r} is ambiguous.",
            do=f"did you mean {' or '.join(repr(entry.name) for entry in same)}?",
        )
    raise _unknown(kind, typed)


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_").replace(" ", "_")


def options_of(entry: Entry) -> list[str]:
    """Return the names of the keyword-only options of an entry."""
    parameters = _parameters(innermost(entry.function)).values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def missing_options(entry: Entry) -> list[str]:
    """Return the names of options that have no default and are not set."""
    bound = getattr(entry.function, "keywords", {})
    return [
        p.name
        for p in _parameters(innermost(entry.function)).values()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name not in bound
    ]


def _check_values(entry: Entry, options: Mapping[str, Any], spec: str) -> None:
    parameters = _parameters(innermost(entry.function))
    for name, value in options.items():
        if isinstance(parameters[name].default, bool) and not isinstance(value, bool):
            raise InputError(
                f"The option {name!r} needs a flag.", got=spec, allowed=f"{name}=True or {name}=False"
            )
        if isinstance(parameters[name].default, str) and not isinstance(value, str):
            raise InputError(f"The option {name!r} must be a string.", got=spec, allowed=f"{name}='…'")
        optional = parameters[name].annotation == "float | None" and value is not None
        if (is_number(parameters[name].default) or optional) and not is_number(value):
            raise InputError(f"The option {name!r} needs a number.", got=spec, allowed=f"{name}=1")
        if type(parameters[name].default) is int and type(value) is not int:
            raise InputError(f"The option {name!r} needs an integer.", got=spec, allowed=f"{name}=1")


def _parse(kind: str, spec: str) -> tuple[str, dict[str, Any]]:
    at = re.fullmatch(r"\s*([\w.-]+)@(\d+)\s*", spec)
    if at:
        return f"{at[1]}@k", {"k": int(at[2])}
    if "(" not in spec:
        return spec.strip(), {}
    name, _, arguments = spec.strip().partition("(")
    try:
        call = ast.parse(f"f({arguments}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(k.arg for k in call.keywords):
            raise SyntaxError
        return name, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise InputError(
            f"This is not a valid call string of a {kind}.", got=spec, allowed=f"{name}(option=literal, …)"
        ) from error


def _unknown(kind: str, name: str) -> UnknownNameError:
    registered, title = names(kind), _TITLES.get(kind, kind)
    of: dict[str, list[str]] = {}
    for entry in (_entries[kind, r] for r in registered):
        for key in {_plain(entry.name), *map(_plain, entry.also)}:
            of.setdefault(key, []).append(entry.name)
    close = difflib.get_close_matches(_plain(name), of, n=3, cutoff=0.6)
    near = list(dict.fromkeys(r for key in close for r in of[key]))[:3]
    broken = failed()
    return UnknownNameError(
        f"There is no {title} {name!r}{f'; {broken}' if broken else ''}.",
        allowed=", ".join(registered) or f"none: no {title} is registered",
        do=f"did you mean {' or '.join(map(repr, near))}?" if near else None,
    )


def _check_kind(kind: str) -> None:
    if kind not in BUILT_IN:
        raise InputError(f"There is no kind {kind!r} in the registry.", allowed=", ".join(BUILT_IN))


@naming_extras
def load_kind(kind: str) -> None:
    """Import the modules that register a kind."""
    _check_kind(kind)
    if kind in _loaded:
        return
    for module in BUILT_IN[kind]:  # if an extra is missing, the next look-up raises the error again
        importlib.import_module(module)
    _loaded.add(kind)
    load_others()


def load_others() -> None:
    """Load the plug-ins, once in a process."""
    if "plug-ins" not in _loaded:
        _loaded.add("plug-ins")
        load_plug_ins(_take_back)


def _take_back(plug_in: PlugIn) -> None:
    """Remove what the modules of a plug-in registered before one of them failed."""
    for key, entry in [*_entries.items()]:
        if innermost(entry.function).__module__ in plug_in.modules:
            del _entries[key]


def registered_names(plug_in: PlugIn) -> dict[str, list[str]]:
    """Return the names that a plug-in registered, keyed by kind."""
    registered: dict[str, list[str]] = {}
    for (kind, name), entry in _entries.items():
        if plug_in_of(entry.function) is plug_in:
            registered.setdefault(kind, []).append(name)
    return registered


@functools.cache
def _check_of(kind: str) -> Callable[[Entry, Any, tuple[Any, ...]], Any]:
    module, _, function = CHECKS[kind].partition(":")
    check: Callable[[Entry, Any, tuple[Any, ...]], Any] = getattr(importlib.import_module(module), function)
    return check


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    inner = innermost(function)
    return inner.__module__, inner.__qualname__


@functools.cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    # A report looks up some thousand names.
    return inspect.signature(function).parameters
