"""What libraries say when they fail, in one line."""

from __future__ import annotations

_PLACES = ("Check '", "Exception from ")
"""How OpenVINO begins to tell where in its own code something was raised."""

_LONGEST = 200
"""Characters; PyTorch names every missing key of a network."""


def said(error: BaseException) -> str:
    """Return the line of a message that tells most: no heading, and no place in a library's own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(_PLACES)]
    line = (telling or lines or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
