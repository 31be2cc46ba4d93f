"""What to do after a diagnosis: a sentence and a command, on the data of the call that led there."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from manyhot.commands import COMMANDS

SHARED = ("classes", "images", "match", "models", "predictions", "rows", "scores", "trust-order")
"""Options that say which data are read and how, which the next command needs as well."""


TO_FIT = ("classes", "labels", "masks", "split")
"""The same for a head that is fitted to images."""


OF_IMAGES = (
    "diagnose corruptions",
    "diagnose duplicates",
    "diagnose shortcuts",
    "explain",
    "mitigate",
    "patchml",
)
"""Commands whose argument is images; that of the others is labels."""


class NextStep(NamedTuple):
    """What to do after a diagnosis: a sentence, and the command.

    A chapter registers its step as `next`. In the command, DATASET stands for labels, IMAGES stands for
    images, and a word in capital letters after an option stands for the value of that option.
    """

    text: str
    command: str

    def after(self, call: str) -> NextStep:
        """Return the step with the data and the options of a call; placeholders of unknown values remain."""
        own_command, options = _parsed(call)
        of_images = own_command in OF_IMAGES
        place = re.search(r"^[a-z ]+ (IMAGES|DATASET)\b", self.command)
        if place is None:
            return self
        wants_images = place[1] == "IMAGES"
        given = "images" if wants_images and not of_images else ""
        first = [value for name, value in options if name == given and of_images <= wants_images]
        if len(first) != 1:
            return self
        is_fitted = self.command.startswith("manyhot mitigate")
        shared: tuple[str, ...] = TO_FIT if is_fitted else () if of_images else SHARED
        command = self.command[: place.start(1)] + shlex.quote(first[0]) + self.command[place.end(1) :]
        for name in dict.fromkeys(name for name, _ in options if name):
            own = "".join(
                f" --{name} {shlex.quote(v) if v else ''}".rstrip() for n, v in options if n == name
            )
            found = re.search(rf" --{name} [A-Z]+(:[A-Z]+)?(?!\S)", command)
            if found:
                command = command[: found.start()] + own + command[found.end() :]
            elif name in shared and f" --{name} " not in command:
                command += own
        if not of_images:  # a benchmark or a campaign has its own predictions
            command = command.replace(" --predictions FOLDER", "")
        return self._replace(command=command)


def _parsed(call: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the command of a command line, and its options by name; arguments have no name."""
    try:
        _, *words = shlex.split(call)
    except ValueError:
        return "", []
    n = next((n for n in (2, 1) if " ".join(words[:n]) in COMMANDS), 0)
    command, rest, options = " ".join(words[:n]), words[n:] if n else [], list[tuple[str, str]]()
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        if not word.startswith("--"):
            options.append(("", word))
        elif has_value or not rest or rest[0].startswith("--"):
            options.append((name[2:], value))
        else:
            options.append((name[2:], rest.pop(0)))
    return command, options
