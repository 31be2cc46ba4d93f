"""Other packages that register functions: how they are loaded, named and called.

A package declares the module that registers its functions in the entry-point group ``manyhot``. One that
cannot be loaded is skipped with a warning, because it must not take everything else down.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from manyhot.errors import ManyhotError, PlugInError
from manyhot.extras import missing_extra

ENTRY_POINT_GROUP = "manyhot"


class PlugInWarning(UserWarning):
    """A plug-in, or a part of it, is not used."""


@dataclass
class PlugIn:
    """A module that an installed distribution declares as a plug-in.

    Attributes
    ----------
    distribution, version : str
        Name and version of the distribution; if unknown, the name of the entry point and an empty text.
    entry_point : str
        Its name and module.
    error : str
        Why the module could not be loaded; empty if it was.
    left_out : list of str
        Names that the plug-in did not get because they were taken, each with its owner.
    modules : set of str
        The modules of its functions.
    """

    distribution: str
    version: str
    entry_point: str
    error: str = ""
    left_out: list[str] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)

    @property
    def title(self) -> str:
        """The distribution with its version."""
        return f"{self.distribution} {self.version}".strip()


_plug_ins: list[PlugIn] = []
_loading: list[PlugIn] = []


def loading() -> PlugIn | None:
    """Return the plug-in whose module is being imported, if any."""
    return _loading[-1] if _loading else None


def load_plug_ins(take_back: Callable[[PlugIn], None]) -> None:
    """Import the modules of all plug-ins. Those that fail are skipped, each with one warning.

    Parameters
    ----------
    take_back : callable
        Removes what a plug-in registered before it failed.
    """
    _plug_ins.clear()
    found = [(_described(point), point) for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)]
    # By name, so that the same package gets a name on every machine.
    for plug_in, point in sorted(found, key=lambda one: (one[0].distribution, one[0].entry_point)):
        _plug_ins.append(plug_in)
        _loading.append(plug_in)
        try:
            # What a module prints would be part of --json.
            with contextlib.redirect_stdout(sys.stderr):
                point.load()
        except (Exception, SystemExit) as error:
            plug_in.error = _last_line(error)
            take_back(plug_in)
        finally:
            _loading.pop()
        if plug_in.error or plug_in.left_out:
            warnings.warn(_problem(plug_in), PlugInWarning, stacklevel=2)


def plug_ins() -> list[PlugIn]:
    """Return the plug-ins that `load_plug_ins` found."""
    return [*_plug_ins]


def failed() -> str:
    """Return which plug-ins could not be loaded, as a part of a sentence; empty if all could."""
    broken = [p for p in _plug_ins if p.error]
    return "; ".join(f"the plug-in {p.title} could not be loaded: {p.error}" for p in broken)


def is_own(function: Any) -> bool:
    """Return whether a function belongs to manyhot."""
    return f"{innermost(function).__module__}.".startswith("manyhot.")


def plug_in_of(function: Any) -> PlugIn | None:
    """Return the plug-in of a function; None for manyhot's own functions, and for those of scripts."""
    if is_own(function):
        return None
    module = innermost(function).__module__
    first = module.partition(".")[0]

    def nearness(plug_in: PlugIn) -> tuple[bool, int]:
        of = plug_in.entry_point.rpartition("= ")[2].split(".")
        return module in plug_in.modules, sum(a == b for a, b in zip(of, module.split("."), strict=False))

    near = [
        p
        for p in _plug_ins
        if not p.error
        and (module in p.modules or p.entry_point.rpartition("= ")[2].partition(".")[0] == first)
    ]
    return max(near, key=nearness, default=None)


def package_of(function: Any) -> str:
    """Return the distribution and version that a function comes from, such as ``labtools 0.2``.

    It is empty for manyhot's own functions, whose version is that of manyhot, and for those of scripts.
    """
    plug_in = plug_in_of(function)
    return "" if plug_in is None else plug_in.title


def refuse_name(plug_in: PlugIn, title: str, owner: str, *, late: bool = False) -> None:
    """Record that a plug-in does not get a name, because it is taken."""
    plug_in.left_out.append(f"{title} ({owner})")
    if late:  # the plug-in was loaded before
        warnings.warn(_problem(plug_in), PlugInWarning, stacklevel=2)


def innermost(function: Any) -> Any:
    """Return a function without the options that were bound to it."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _described(point: Any) -> PlugIn:
    distribution = getattr(point, "dist", None)
    name, module = getattr(point, "name", "?"), getattr(point, "value", "").partition(":")[0]
    entry_point = f"{name} = {module}"
    if distribution is None:
        return PlugIn(name, "", entry_point)
    return PlugIn(distribution.name, distribution.version, entry_point)


def _problem(plug_in: PlugIn) -> str:
    where = f"{plug_in.title} (entry point {plug_in.entry_point})"
    do = f"upgrade or uninstall it, for example: pip uninstall {plug_in.distribution}"
    if plug_in.error:
        return f"The plug-in {where} could not be loaded and is skipped: {plug_in.error}. Do: {do}"
    names = ", ".join(plug_in.left_out)
    return f"The plug-in {where} registers names that are taken. They are left out: {names}. Do: {do}"


def _last_line(error: BaseException) -> str:
    if isinstance(error, Exception) and (extra := missing_extra(error)) is not None:
        return extra.in_a_line()
    if isinstance(error, ManyhotError):
        return error.in_a_line()
    place = f" ({error.filename}, line {error.lineno})" if isinstance(error, SyntaxError) else ""
    return f"{traceback.format_exception_only(error)[-1].strip().rstrip('.')}{place}"


class ReturnError(Exception):
    """A function returned something that its kind does not allow.

    Parameters
    ----------
    got, allowed : str
    """

    def __init__(self, got: str, allowed: str) -> None:
        super().__init__(got, allowed)
        self.got, self.allowed = got, allowed


@contextlib.contextmanager
def naming_failures(title: str, function: Any, where: str = "") -> Iterator[None]:
    """Turn an exception raised by a function of another package into an error that names the function.

    Parameters
    ----------
    title : str
        What the function is, such as ``The metric 'mine'``.
    function : callable
    where : str
        The file that was passed to the function, if any.

    Raises
    ------
    PlugInError
        In place of any exception other than an out-of-memory error or one of manyhot's own errors, which the
        function may raise itself.
    MissingExtraError
        If a package that an extra installs is missing.
    """
    inner = innermost(function)
    try:
        yield
    except (ManyhotError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, Exception) and (extra := missing_extra(error)) is not None:
            raise extra from error
        if "out of memory" in str(error).lower() or "allocate memory" in str(error).lower():
            raise  # of a device: some callers go on with less
        got = traceback.format_exception_only(error)[-1].strip()
        raise PlugInError(
            f"{title} fails.", where=f"{where}{_place(inner, error)}", got=got, do=_REPORT
        ) from error


@contextlib.contextmanager
def naming_return(title: str, function: Any, where: str = "") -> Iterator[None]:
    """Report a `ReturnError` as an error that names the function; parameters as in `naming_failures`.

    Raises
    ------
    PlugInError
    """
    try:
        yield
    except ReturnError as error:
        raise PlugInError(
            f"{title} returns something invalid.",
            where=f"{where}{_place(innermost(function), None)}",
            got=error.got,
            allowed=error.allowed,
            do=_REPORT,
        ) from None


_REPORT = "correct the function, or report the error to its authors"


def _place(function: Any, error: BaseException | None) -> str:
    """Return a function's package, module and name, and the last line in its package that an error passed."""
    name = f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"
    version = package_of(function)
    line = ""
    package, step = function.__module__.partition(".")[0], None if error is None else error.__traceback__
    while step is not None:
        if str(step.tb_frame.f_globals.get("__name__")).partition(".")[0] == package:
            line = f" ({step.tb_frame.f_code.co_filename}, line {step.tb_lineno})"
        step = step.tb_next
    return f"{name}{f' of {version}' if version else ''}{line}"


@dataclass(frozen=True)
class Guarded:
    """A function of another package that is not called through its entry, such as one passed to `register`.

    Attributes
    ----------
    title : str
        What the function belongs to, such as ``The format 'mine'``.
    function : callable
    """

    title: str
    function: Callable[..., Any]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function."""
        with naming_failures(self.title, self.function):
            return self.function(*args, **options)
