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
        if name in _HOME and isinstance(value, ModuleType):
            value.__class__ = _Room
            return
        room = sys.modules.get(f"{__name__}.{name}")
        if isinstance(room, _Room):
            vars(value).update((n, file) for n, file in vars(room).items() if isinstance(file, ModuleType))
        super().__setattr__(name, value)


class _Room(ModuleType):
    """Its files are attributes of the function, too: ``import manyhot.predict.network as n`` looks there."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        function = vars(sys.modules[__package__]).get(self.__name__.rpartition(".")[2])
        if function is not None and isinstance(value, ModuleType):
            vars(function)[name] = value


sys.modules[__name__].__class__ = _Package
