"""Optional dependencies: the extras, errors for missing ones, and lazy imports of public names."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, TracebackType
from typing import Any

from manyhot.errors import MissingExtraError, OutputError

EXTRAS = {
    "models": (("torch", "torchvision", "timm", "openvino"), "networks, and the fast engine for CPUs"),
    "train": (("lightning_fabric", "safetensors", "faster_coco_eval"), "training, heads, transfer"),
    "onnx": (("onnxruntime", "onnx"), "ONNX files, and another engine"),
    "remote": (("fsspec", "s3fs"), "images on s3://, gs://, https://"),
    "hub": (("datasets",), "Hugging Face data sets by name"),
    "clip": (("open_clip",), "zero-shot models of open_clip"),
    "ray": (("ray",), "many machines"),
    "diagnose": (("captum", "imagecorruptions", "cv2"), "explanations, corruptions, inpainting"),
    "report": (("altair", "vl_convert"), "figures of reports"),
    "web": (("fastapi", "uvicorn", "sqlalchemy", "alembic", "argon2"), "the annotation app"),
    "postgresql": (("psycopg",), "the annotation app on PostgreSQL"),
    "pandas": (("pandas",), "tables as data frames"),
}
"""The modules by which an extra counts as installed, and its purpose."""


_OF_WEB = ("PIL", "httptools", "uvloop", "python_multipart", "starlette")


_BESIDE = {
    "models": ("PIL", "filelock", "huggingface_hub"),
    "train": ("tensorboard", *EXTRAS["models"][0], "PIL", "filelock", "huggingface_hub"),
    "remote": ("aiohttp",),
    "report": ("PIL",),
    "web": _OF_WEB,
    "postgresql": (*EXTRAS["web"][0], *_OF_WEB),
    "diagnose": ("PIL",),
}
"""Other modules that an extra installs, including those of other extras and of dependencies."""


_ROOMS = {
    "manyhot.train": "train",
    "manyhot.study": "train",
    "manyhot.reassess.app": "web",
    "manyhot.evaluate.report": "report",
    "manyhot.report": "report",
    "manyhot.diagnose.pixels": "diagnose",
}
"""The extra that the code of a package needs."""


def modules_of(extra: str) -> tuple[str, ...]:
    """Return the modules that an extra installs."""
    return *EXTRAS[extra][0], *_BESIDE.get(extra, ())


def required(module: str, what: str, install: str = '"manyhot[models]"') -> Any:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
    what : str
        The feature that needs the module. It becomes the subject of the message.
    install : str
        The argument of pip install.

    Raises
    ------
    MissingExtraError
        If the module is not installed.
    """
    if module in _REPORTS_UNLESS:
        os.environ.setdefault(_REPORTS_UNLESS[module], "1")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {module.partition('.')[0]}, which cannot be imported.",
            got=error,
            do=f"pip install {install}",
        ) from error


_REPORTS_UNLESS = {"onnxruntime": "ORT_DISABLE_TELEMETRY"}
"""Libraries that report to their makers from the moment of their import, and the variable that forbids it."""


def check_addresses(least: int, what: str) -> None:
    """Raise an error if the limit on the address space of the process, set by ``ulimit -v``, is too low.

    Libraries reserve far more address space than they use, and end the process if they cannot reserve it.

    Parameters
    ----------
    least : int
        Number of bytes that are needed.
    what : str
        What needs them.

    Raises
    ------
    OutputError
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < least:
        raise OutputError(
            f"The address space of the process is too small for {what}.",
            got=f"{limit / 1e9:.1f} GB",
            allowed=f"{least / 1e9:.0f} GB or more",
            do="remove the limit with: ulimit -v unlimited",
        )


def missing_extra(error: BaseException) -> MissingExtraError | None:
    """Return an error that names the extra of a missing module, or None for any other error.

    If several extras install the module, the error names the extra that the outermost call in the traceback
    needs.
    """
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    extras = [name for name in EXTRAS if module in modules_of(name)]
    if not extras:
        return None
    asking = (extra for extra in _rooms(error.__traceback__) if extra in extras)
    return MissingExtraError(
        f"This needs {module}, which cannot be imported.",
        got=error,
        do=f'pip install "manyhot[{next(asking, extras[0])}]"',
    )


def _rooms(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        module = f"{traceback.tb_frame.f_globals.get('__name__')}."
        yield from (extra for room, extra in _ROOMS.items() if module.startswith(f"{room}."))
        traceback = traceback.tb_next


def naming_extras(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it raises `MissingExtraError` if a module of an extra is not installed."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except ModuleNotFoundError as error:
            extra = missing_extra(error)
            if extra is None:
                raise
            raise extra from error

    return call


def public_names(file: str) -> dict[str, str]:
    """Return the module of each public name that the stub of a package's ``__init__.py`` lists."""
    # pathlib takes as long to import as all of this package.
    with open(f"{file.rpartition('.')[0]}.pyi", encoding="utf-8") as stub:  # noqa: PTH123
        lines = [line.split() for line in stub if line.startswith("from manyhot.")]
    return {line[3]: line[1] for line in lines if line[3] != "__version__"}


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__`` (PEP 562).

    A missing module is reported with its extra, both when a name is imported and when a function is called.

    Parameters
    ----------
    package : str
        The name of the package, for error messages.
    homes : Mapping of str to str
        The module of each public name.
    """

    @naming_extras
    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        if not isinstance(value, FunctionType):
            return value
        public = naming_extras(value)
        # Pickled by its name in this package, for other processes.
        public.__module__, public.__qualname__ = package, name
        setattr(sys.modules[package], name, public)
        return public

    return find, lambda: sorted(homes)
