"""Finding a class by words."""

from __future__ import annotations

import re
import unicodedata

from manyhot.classes import ClassList

_WORD = re.compile(r"\w+")


class Search:
    """Finds classes whose name, synonyms or definition have words that begin as those searched for.

    Names count more than synonyms, and these more than definitions; among equals the shorter name is first.
    """

    def __init__(self, classes: ClassList) -> None:
        self._names = classes.names
        self._words = [
            tuple(
                _words(text)
                for text in (classes.names[c], " ".join(classes.synonyms[c]), classes.definitions[c])
            )
            for c in range(len(classes))
        ]

    def __call__(self, text: str) -> list[int]:
        """Return the classes that all words of a text are found in, the best first."""
        wanted = _words(text)
        if not wanted:
            return []
        scored = [(self._score(c, wanted), c) for c in range(len(self._words))]
        found = [(score, c) for score, c in scored if score]
        return [c for _, c in sorted(found, key=lambda f: (-f[0], len(self._names[f[1]]), f[1]))]

    def _score(self, class_id: int, wanted: list[str]) -> int:
        """Return 0 where a word is not found."""
        total = 0
        for word in wanted:
            best = 0
            for weight, words in zip((100, 10, 1), self._words[class_id], strict=True):
                if word in words:
                    best = max(best, weight * 2)
                elif any(w.startswith(word) for w in words):
                    best = max(best, weight)
            if not best:
                return 0
            total += best
        return total


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))
