"""Print the oldest versions of the core that pyproject.toml allows: ``python tools/lowest_pins.py``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest() -> list[str]:
    """Return ``name==version`` of each dependency of the core."""
    wanted = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    return [re.sub(r">=([\w.]+).*", r"==\1", line) for line in wanted]


if __name__ == "__main__":
    print(*lowest())
