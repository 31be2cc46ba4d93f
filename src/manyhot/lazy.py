"""Packages whose names are imported when somebody first asks for them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from manyhot.extras import naming_extras


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__`` (PEP 562).

    What is missing is named by its extra: where a name is imported, and where a function is called.

    Parameters
    ----------
    package : str
        Its name, for the error.
    homes : Mapping of str to str
        The module of each public name.
    """

    @naming_extras
    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        if not inspect.isfunction(value):
            return value
        public = naming_extras(value)
        # As the function of this package that it is now, it goes to other processes by its name.
        public.__module__, public.__qualname__ = package, name
        setattr(sys.modules[package], name, public)
        return public

    return find, lambda: sorted(homes)
