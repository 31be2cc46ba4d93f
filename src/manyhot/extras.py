"""What is not part of the minimal install."""

from __future__ import annotations

import importlib
from typing import Any

from manyhot.errors import MissingExtraError


def required(module: str, what: str, install: str = '"manyhot[models]"') -> Any:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
    what : str
        What needs it, as the subject of the message.
    install : str
        What to tell pip to install.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {module.partition('.')[0]}, which cannot be imported.",
            got=error,
            do=f"pip install {install}",
        ) from error
