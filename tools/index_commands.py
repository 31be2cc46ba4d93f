"""Write the index of commands from the functions themselves: ``python tools/index_commands.py``.

The index says in which order help lists them; a new command gets a line there with its group and its address,
and this tool fills in its first sentence.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

from manyhot import commands

FILE = Path(commands.__file__)


def summary_of(address: str) -> str:
    """Return the first paragraph of the docstring of a function."""
    module, _, name = address.partition(":")
    function = getattr(importlib.import_module(module), name)
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def text() -> str:
    """Return the file with each summary as the code has it."""
    head, marker, _ = FILE.read_text(encoding="utf-8").partition("COMMANDS: dict[str, Command] = {\n")
    lines = (
        f"    {name!r}: Command({c.group!r}, {summary_of(c.address)!r}, {c.address!r}),\n"
        for name, c in commands.COMMANDS.items()
    )
    made = head + marker + "".join(lines) + "}\n"
    ruff = [str(Path(sys.executable).with_name("ruff")), "format", "--stdin-filename", str(FILE), "-"]
    return subprocess.run(ruff, input=made, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
