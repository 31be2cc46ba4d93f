"""The tree of classes: that of their class list, or WordNet's by the names of the classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from manyhot.classes import ClassList, class_list
from manyhot.core.class_hierarchy import Hierarchy

MIN_NAMED = 0.5
"""Minimum share of classes whose names WordNet has, for its tree to be used."""

_SHOWN = 8

_SAME = {
    "aeroplane": "n02691156",  # airplane
    "automobile": "n02958343",
    "car": "n02958343",  # not the railcar
    "couch": "n04256520",  # sofa
    "cow": "n02402425",  # cattle
    "diningtable": "n03201208",
    "motorbike": "n03790512",
    "person": "n00007846",
    "tv": "n04404412",
    "tvmonitor": "n03782006",
}
"""Names of common data sets that WordNet spells otherwise, or that several of its synsets have."""

Path = tuple[str, ...]


def class_tree(classes: ClassList | None) -> tuple[Hierarchy | None, str]:
    """Return the tree of a class list, and a note about its origin; None if there is no tree.

    The classes of a list without hypernyms are looked up by key, name and synonym in the part of WordNet
    above ImageNet-1k. Sizes of groups are those in ImageNet-1k, because the sizes of groups in a list of ten
    classes do not show which groups are fine-grained.
    """
    if classes is None:
        return None, ""
    if any(classes.hypernyms):
        return Hierarchy.of(_own_paths(classes)), ""
    paths = [_wordnet_path(classes, i) for i in range(len(classes))]
    lacking = [name for name, path in zip(classes.names, paths, strict=True) if not path]
    n = len(classes) - len(lacking)
    if n < max(MIN_NAMED * len(classes), 2):
        return None, ""
    note = f"superclasses are taken from WordNet, which has the names of {n:,} of {len(classes):,} classes"
    if lacking:
        more = ", …" if lacking[_SHOWN:] else ""
        note += f"; no superclass is known for {', '.join(lacking[:_SHOWN])}{more}"
    own = [path or (f"own {i}",) for i, path in enumerate(paths)]
    return _in_wordnet(tuple(own)), note


@lru_cache(maxsize=16)
def _in_wordnet(own: tuple[Path, ...]) -> Hierarchy:
    """Return the tree of these paths with WordNet's sizes of groups, which take 20 ms to count."""
    return Hierarchy.of(own, _own_paths(class_list()), "WordNet")


def _own_paths(classes: ClassList) -> list[Path]:
    """Return the path of each class to the root, starting with its key."""
    ups = [[step.partition(" ")[0] for step in path] for path in classes.hypernyms]
    return [(key, *up) for key, up in zip(classes.keys, ups, strict=True)]


def _wordnet_path(classes: ClassList, i: int) -> Path | None:
    paths, by_name = _wordnet()
    for name in dict.fromkeys((classes.keys[i], classes.names[i], *classes.synonyms[i])):
        plain = _plain(name)
        at = name if name in paths else _SAME.get(plain.replace(" ", ""), by_name.get(plain))
        if at is not None and at in paths:
            return paths[at]
    return None


@cache
def _wordnet() -> tuple[Mapping[str, Path], Mapping[str, str]]:
    """Return the path of each synset at or above a class of ImageNet-1k, and the synset of each name.

    If several synsets have a name, it is the one with the most classes of ImageNet-1k at or below it. If two
    have equally many, as the two cranes, the name is ambiguous and is not looked up.
    """
    imagenet = class_list()
    paths: dict[str, Path] = {}
    sizes: Counter[str] = Counter()
    names: dict[str, set[str]] = defaultdict(set)
    for i, path in enumerate(_own_paths(imagenet)):
        steps = zip(path[1:], imagenet.hypernyms[i], strict=True)
        for key, name in steps:
            names[_plain(name.partition(" ")[2])].add(key)
        for name in (imagenet.names[i], *imagenet.synonyms[i]):
            names[_plain(name)].add(path[0])
        sizes.update(path)
        for at in range(len(path)):
            paths.setdefault(path[at], path[at:])
    by_name = {name: _largest(keys, sizes) for name, keys in names.items()}
    return paths, {name: key for name, key in by_name.items() if key is not None}


def _largest(keys: set[str], sizes: Mapping[str, int]) -> str | None:
    ranked: Sequence[str] = sorted(keys, key=lambda key: -sizes[key])
    return None if len(ranked) > 1 and sizes[ranked[0]] == sizes[ranked[1]] else ranked[0]


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").casefold().strip()
