"""Treat single-label image data sets as what they are: multi-label.

The public names stand in ``__init__.pyi`` and are imported at first use: importing manyhot imports neither
torch nor NumPy.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from manyhot._version import __version__ as __version__
from manyhot.extras import lazily, public_names

_HOME = public_names(__file__)
__all__ = sorted([*_HOME, "__version__"])
__getattr__, __dir__ = lazily(__name__, _HOME)


class _Package(ModuleType):
    """Rooms called like a public function, such as `evaluate`, do not hide it once they are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
