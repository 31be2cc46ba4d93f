"""Write the index of commands from the functions themselves: ``python tools/index_commands.py``.

The index says in which order help lists them; a new command gets a line there with its group and its address.
This tool fills in its first sentence, and adds the function to the public names in ``__init__.pyi``.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

from manyhot import commands

FILE = Path(commands.__file__)
NAMES = FILE.with_name("__init__.pyi")
NOT_PUBLIC = {"study"}
"""The command whose function is in a package of its own, `manyhot.study`."""


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
    return _by_ruff("format", made, FILE)


def names() -> str:
    """Return the public names with the function of each command."""
    made = NAMES.read_text(encoding="utf-8")
    for command, entry in commands.COMMANDS.items():
        module, _, name = entry.address.partition(":")
        if command not in NOT_PUBLIC and f" as {name}\n" not in made:
            made += f"from {module} import {name} as {name}\n"
    return _by_ruff("check", made, NAMES, "--select", "I", "--fix", "--quiet")


def _by_ruff(action: str, text: str, file: Path, *options: str) -> str:
    ruff = [str(Path(sys.executable).with_name("ruff")), action, *options, "--stdin-filename", str(file), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    NAMES.write_text(names(), encoding="utf-8")
