"""Finding a class by words."""

from __future__ import annotations

import difflib
import re
import unicodedata
from bisect import bisect_left

from manyhot.classes import ClassList

_WORD = re.compile(r"\w+")
_NAME, _SYNONYM, _DEFINITION = 100, 10, 1
_WHOLE = 2
"""A whole word counts twice as much as one that is only begun."""
_NEAR = 0.75
_LAST = "\U0010ffff"


class Search:
    """Finds classes whose name, synonyms or definition have words that begin as those searched for.

    Names count more than synonyms, and these more than definitions; among equals the shorter name is first. A
    plural finds the singular. Where nothing is found, words that are spelled nearly alike are looked for.
    """

    def __init__(self, classes: ClassList) -> None:
        self._names = classes.names
        self._classes: dict[str, dict[int, int]] = {}
        for class_id in range(len(classes)):
            self._add(class_id, classes.definitions[class_id], _DEFINITION)
            self._add(class_id, " ".join(classes.synonyms[class_id]), _SYNONYM)
            self._add(class_id, classes.names[class_id], _NAME)
        self._words = sorted(self._classes)

    def __call__(self, text: str) -> list[int]:
        """Return the classes that all words of a text are found in, the best first."""
        words = _words(text)
        scores = self._all([self._begun(word) for word in words])
        if not scores:
            scores = self._all([self._begun(word) or self._near(word) for word in words])
        return sorted(scores, key=lambda c: (-scores[c], len(self._names[c]), c))

    def _add(self, class_id: int, text: str, weight: int) -> None:
        for word in _words(text):
            self._classes.setdefault(word, {})[class_id] = weight  # a name comes last: it counts most

    def _all(self, found: list[dict[int, int]]) -> dict[int, int]:
        """Return the classes that each word is found in, with their scores together."""
        if not found:
            return {}
        return {c: sum(one[c] for one in found) for c in found[0] if all(c in one for one in found)}

    def _begun(self, word: str) -> dict[int, int]:
        """Return the classes with words that begin like one, with their scores."""
        scores: dict[int, int] = {}
        whole = {word, *_singulars(word)}
        words = self._words[bisect_left(self._words, word) : bisect_left(self._words, word + _LAST)]
        for known in {*words, *whole}:
            times = _WHOLE if known in whole else 1
            for class_id, weight in self._classes.get(known, {}).items():
                scores[class_id] = max(scores.get(class_id, 0), weight * times)
        return scores

    def _near(self, word: str) -> dict[int, int]:
        """Return the classes with words that are spelled nearly like one, with their scores."""
        # Of those alone that could be: to compare all words of 21,000 classes takes half a second.
        like = [w for w in self._words if abs(len(w) - len(word)) <= 2 and w[0] == word[0]]
        scores: dict[int, int] = {}
        for known in difflib.get_close_matches(word, like, n=5, cutoff=_NEAR):
            for class_id, weight in self._classes[known].items():
                scores[class_id] = max(scores.get(class_id, 0), weight)
        return scores


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def _singulars(word: str) -> set[str]:
    endings = (("ies", "y"), ("es", ""), ("s", ""))
    return {word.removesuffix(a) + b for a, b in endings if word.endswith(a) and len(word) > len(a) + 2}
