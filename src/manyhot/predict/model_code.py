"""The code of a model: the error if it fails, and the hash by which changed code is noticed."""

from __future__ import annotations

import contextlib
import inspect
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, ManyhotError
from manyhot.extras import missing_extra
from manyhot.files import sha256
from manyhot.predict.weights import error_line

_PACKAGES = ("site-packages", "dist-packages")
_MANYHOT, _PYTHON = Path(__file__).parents[1], Path(sysconfig.get_path("stdlib"))
_CALLED = ("torch", "numpy")
"""Libraries whose lines do not show which code of a model fails."""


@contextlib.contextmanager
def failures_of(model: str, images: str = "", what: str = "The model fails.") -> Iterator[None]:
    """Turn an exception in a model's code into an error of this model, so that other models can continue.

    Parameters
    ----------
    model : str
    images : str
        The images that were passed to the model.
    what : str
        The message of the error.

    Raises
    ------
    ManyhotError
    """
    try:
        yield
    except ManyhotError:
        raise
    except (Exception, SystemExit) as error:
        raise model_error(what, model, error, images) from error


def model_error(
    what: str, where: str, error: BaseException, images: str = "", do: str | None = None
) -> ManyhotError:
    """Return an error with the line of the user's code where it was raised, or with the missing extra."""
    if isinstance(error, Exception) and (extra := missing_extra(error)) is not None:
        return extra
    said = error_line(error)
    name = type(error).__name__
    full = isinstance(error, MemoryError) or "out of memory" in said.lower()
    return InputError(
        what,
        where=f"{where}, {images}" if images else where,
        got=f"{name if said == name else f'{name}: {said}'}{_place(error)}",
        do="free memory, or reduce `workers` or `batch`" if full else do,
    )


def code_hash(function: Any, model: Any) -> str:
    """Return the names and hashes of the files that define a function and the model that it returned.

    Files of installed packages are left out, except the file that contains the function.
    """
    files = {_file(function), *filter(_is_own, map(_file, _parts(model)))} - {""}
    return ", ".join(f"{Path(file).name} {sha256(Path(file))[:16]}" for file in sorted(files))


def _parts(model: Any) -> Iterator[Any]:
    """Yield a function, or the classes of a model and of the modules in it."""
    yield model if inspect.isroutine(model) else type(model)
    if callable(modules := getattr(model, "modules", None)):
        yield from {type(module) for module in modules()}


def _file(defined: Any) -> str:
    """Return the file of a function or class; empty if it is built in, or was typed in a notebook."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(defined))
    except (TypeError, OSError):
        return ""
    return str(Path(file).resolve()) if file and Path(file).is_file() else ""


def _place(error: BaseException) -> str:
    """Return the last line of the user's code, from which libraries were called, or that of a package."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)]
    own = own or [frame for frame in frames if not _is_called(Path(frame.filename))]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _is_called(path: Path) -> bool:
    return path.is_relative_to(_MANYHOT) or any(name in path.parts for name in _CALLED)


def _is_own(file: str) -> bool:
    """Return whether a file is neither manyhot's, nor Python's, nor that of an installed package."""
    path = Path(file)
    others = path.is_relative_to(_MANYHOT) or path.is_relative_to(_PYTHON)
    return path.is_absolute() and not others and not any(name in path.parts for name in _PACKAGES)
