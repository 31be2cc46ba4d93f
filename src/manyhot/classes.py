"""Class lists: ImageNet-1k, the 200 classes each of ImageNet-A and -R, and those of users' data sets.

The class id, which all tables use, is the position in the list. If ids are used with another list, a model is
evaluated on the wrong classes without notice. Therefore, a list has a `ClassList.hash`, which is stored in
files, and `CLASS_ORDERS` lists the common wrong orders of ImageNet predictions.

The names, definitions and hypernyms of ImageNet-1k are derived from WordNet 3.0, Copyright 2006 by Princeton
University, by ``tools/build_imagenet1k.py``; the licence is in ``NOTICE``.

A model's name determines the family of its architecture (`family_of`) and its pretraining data
(`pretraining_of`). Models of one family are correlated, so statements about models in general must count
families (`manyhot.core.comparison`). The rules cover the names of timm, torchvision and Cadene's pretrained
models; a table of models overrides them.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy import typing as npt

from manyhot.errors import InputError, UnknownNameError

_T = TypeVar("_T")

SUPERCLASSES = ("organism", "artifact", "other")
"""The superclasses of `ClassList.superclass`."""

_ORGANISM, _ARTIFACT = "n00004475", "n00021939"

BUILT_IN_CLASSES = ("imagenet1k", "imagenet-a", "imagenet-r")
"""The names of the built-in class lists."""


@dataclass(frozen=True, repr=False)
class ClassList:
    """The classes of a data set, in the order of their ids.

    Parameters
    ----------
    name : str
        The name of the list, such as ``imagenet1k``.
    keys : tuple of str, length C
        WordNet ids or folder names. The position of a key is its class id.
    names : tuple of str, length C
        Readable names. The names of ImageNet-1k are unique.
    synonyms : tuple of tuple of str, length C
        Other names, such as *crane*. Several classes may share a synonym.
    definitions : tuple of str, length C
        Definitions; empty if there is none.
    hypernyms : tuple of tuple of str, length C
        The hypernyms of each class as texts such as ``n00015388 animal``, starting with the direct hypernym.
    is_complete : bool
        Whether these are all classes of the data set. False if the names were collected from a file that does
        not list its classes.

    Raises
    ------
    InputError
        If a key occurs twice or contains a line break, if a key or name cannot be encoded as UTF-8, or if the
        columns differ in length.
    """

    name: str
    keys: tuple[str, ...]
    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    definitions: tuple[str, ...]
    hypernyms: tuple[tuple[str, ...], ...]
    is_complete: bool = True

    def __post_init__(self) -> None:
        lengths = [len(column) for column in self.columns]
        if len(set(lengths)) > 1:
            raise InputError(
                "The columns of a class list differ in length.",
                where=self.name,
                got=", ".join(map(str, lengths)),
                allowed="as many names, synonyms, definitions and hypernyms as keys",
            )
        self._check_keys()

    def _check_keys(self) -> None:
        seen: set[str] = set()
        for text in (*self.keys, *self.names):
            _check_characters(text, self.name)
        for key in self.keys:
            if key in seen or "\n" in key:
                raise InputError(
                    "The class list contains a key twice." if key in seen else "A key contains a line break.",
                    where=self.name,
                    got=repr(key),
                    allowed="each key once, on one line",
                )
            seen.add(key)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def columns(self) -> tuple[tuple[Any, ...], ...]:
        """The keys, names, synonyms, definitions and hypernyms."""
        return self.keys, self.names, self.synonyms, self.definitions, self.hypernyms

    def with_columns(self, columns: Iterable[Any]) -> ClassList:
        """Return the list with other keys, names, synonyms, definitions and hypernyms."""
        keys, names, synonyms, definitions, hypernyms = columns
        return replace(
            self, keys=keys, names=names, synonyms=synonyms, definitions=definitions, hypernyms=hypernyms
        )

    def __repr__(self) -> str:
        return f"<ClassList {self.name}: {len(self)} classes, hash {self.hash}>"

    @cached_property
    def hash(self) -> str:
        """The hash that identifies the class list in files: 16 hexadecimal digits.

        The hash is the beginning of the SHA-256 hash of the keys in order, one per line, in Unicode form
        NFC. Names and definitions are not hashed, because they do not change class ids. 64 bits are enough to
        detect mix-ups and short enough to compare by eye.
        """
        return hashlib.sha256(normal_name("\n".join(self.keys)).encode()).hexdigest()[:16]

    @cached_property
    def superclass(self) -> npt.NDArray[np.int8]:
        """The superclass of each class as its position in `SUPERCLASSES`, shape (C,).

        Superclasses are derived from the hypernyms. In ImageNet-1k, 410 classes are organisms. Shankar et al.
        (2020) count the other 590 as objects, which manyhot divides into 522 artifacts and 68 others (food,
        landscapes, plant parts and signs). In a list without hypernyms, all classes are *other*.

        References
        ----------
        V. Shankar et al. Evaluating Machine Accuracy on ImageNet. ICML 2020.
        """
        codes = np.array([_superclass(path) for path in self.hypernyms], np.int8)
        codes.setflags(write=False)
        return codes

    def index(self, key_or_name: str) -> int:
        """Return the class id of a key, a name or a synonym.

        The text is looked up among the keys, then among the names. If there is no match, case is ignored and
        underscores are read as spaces, first among the names, then among the keys, then among names and
        synonyms, and at last `descriptions` are searched. Different Unicode forms of a character, such as *é*
        as one or two characters, are treated as equal.

        Raises
        ------
        UnknownNameError
            If no class has the name.
        InputError
            If several classes have the name.
        """
        ids = self.find_all(key_or_name)
        if not ids:
            raise self._unknown(key_or_name)
        if len(ids) > 1:
            raise self._ambiguous(key_or_name, ids)
        return min(ids)

    def find(self, key_or_name: str) -> int | None:
        """Return the class id as `index` does, or None if the name matches no class or several classes.

        A lookup takes a microsecond. If no class has the name, `index` takes thousands of times as long,
        because it searches for similar names.
        """
        ids = self.find_all(key_or_name)
        return min(ids) if len(ids) == 1 else None

    @cached_property
    def descriptions(self) -> Mapping[str, Collection[int]]:
        """The class ids for each text that other tools use for a class, such as its name with its synonyms.

        timm and Hugging Face describe a class of ImageNet-1k as ``great white shark, white shark, man-eater,
        …``, and timm's detailed labels add the definition after a colon. The two classes named *crane* have
        the same text.
        """
        lines = (
            (i, line)
            for i, (name, synonyms) in enumerate(zip(self.names, self.synonyms, strict=True))
            for line in {", ".join((name, *synonyms)), ", ".join(synonyms), name, self.keys[i]} - {""}
        )
        return _group((i, text) for i, line in lines for text in (line, f"{line}: {self.definitions[i]}"))

    @cached_property
    def by_number(self) -> Mapping[int, int]:
        """The class id of each key, if all keys are different whole numbers, such as 101; otherwise empty."""
        numbers = [int(key) for key in self.keys if re.fullmatch("[0-9]{1,9}", key)]
        same = len(self) == len(numbers) == len(set(numbers))
        return {number: i for i, number in enumerate(numbers)} if same else {}

    def find_all(self, text: str) -> Collection[int]:
        """Return the ids of all classes that match a text in the first of the ways that `index` tries."""
        text = normal_name(text)
        folded = folded_name(text)
        exact, loose = self._by_name[:2], self._by_name[2:]
        found = next((ids for by_text in exact if (ids := by_text.get(text))), None)
        found = found or next((ids for by_text in loose if (ids := by_text.get(folded))), None)
        return found or self.descriptions.get(text, ())

    @cached_property
    def _by_name(self) -> tuple[Mapping[str, Collection[int]], ...]:
        keys = list(enumerate(map(normal_name, self.keys)))
        names = list(enumerate(map(normal_name, self.names)))
        synonyms = [(i, normal_name(synonym)) for i, own in enumerate(self.synonyms) for synonym in own]
        folded = [(i, folded_name(name)) for i, name in [*names, *synonyms]]
        folded_keys = [(i, folded_name(key)) for i, key in keys]
        return tuple(map(_group, (keys, names, folded[: len(names)], folded_keys, folded)))

    def _ambiguous(self, text: str, ids: Collection[int]) -> InputError:
        candidates = ", ".join(f"{self.names[i]} ({self.keys[i]}, class {i})" for i in sorted(ids))
        return InputError(
            f"{len(ids)} classes of {self.name} have the name {text!r}.",
            allowed=candidates,
            do="use the key or the full name",
        )

    def _unknown(self, text: str) -> UnknownNameError:
        folded = {folded_name(name): name for name in [*sum(self.synonyms, ()), *self.names, *self.keys]}
        near = [
            folded[name] for name in difflib.get_close_matches(folded_name(text), folded, n=3, cutoff=0.7)
        ]
        return UnknownNameError(
            f"There is no class {text!r} in {self.name}.",
            allowed=f"the keys, names and synonyms of its {len(self)} classes, such as {self.keys[0]}"
            + (f" or {self.names[0]}" if self.names[0] != self.keys[0] else ""),
            do=f"did you mean {' or '.join(map(repr, near))}?" if near else None,
        )


def class_list(name: str = "imagenet1k") -> ClassList:
    """Return a built-in class list.

    Raises
    ------
    UnknownNameError
        If there is no built-in class list with this name.
    """
    if name not in BUILT_IN_CLASSES:
        raise UnknownNameError(
            f"There is no built-in class list {name!r}.",
            allowed=", ".join(BUILT_IN_CLASSES),
            do="for your own data set, use from_keys(keys)",
        )
    return _load(name)


def class_list_of(key: str) -> ClassList | None:
    """Return the built-in class list with this hash, or None."""
    return next((classes for classes in map(class_list, BUILT_IN_CLASSES) if classes.hash == key), None)


@cache
def _load(name: str) -> ClassList:
    if name != "imagenet1k":
        return _part_of(class_list(), name, _data(f"{name}.txt").split())
    rows = [line.split("\t") for line in _data(f"{name}.tsv").splitlines()[1:]]
    keys, names, synonyms, definitions, hypernyms = zip(*rows, strict=True)
    return ClassList(name, keys, names, _split(synonyms), definitions, _split(hypernyms))


def _part_of(whole: ClassList, name: str, keys: Sequence[str]) -> ClassList:
    part: Any = itemgetter(*map(whole.keys.index, keys))
    return ClassList(name, *map(part, whole.columns))


def of_outputs(n: int, name: str) -> ClassList:
    """Return the class list for n unnamed outputs: ImageNet-1k if n is 1000, otherwise 0 to n - 1."""
    return class_list() if n == len(class_list()) else from_keys([str(i) for i in range(n)], name)


def from_keys(keys: Sequence[str], name: str = "own classes") -> ClassList:
    """Return a class list for your own data set, with the keys as names and without hypernyms.

    Parameters
    ----------
    keys : sequence of str, length C
        Keys in the order of class ids. For folders of images, sort the names as strings, as torchvision and
        timm do.
    name : str
        Name of the list, for messages.

    Raises
    ------
    InputError
        If there are no keys, a key occurs twice, or a key contains a line break.
    """
    if len(keys) == 0:
        raise InputError("A class list needs at least one class.", where=name)
    none = ((),) * len(keys)
    return ClassList(name, tuple(keys), tuple(keys), none, ("",) * len(keys), none)


def classes_seen(names: Iterable[str], name: str = "own classes") -> ClassList:
    """Return a class list of the distinct names that occur in a file, sorted as strings.

    Classes without images are missing, so the list may be incomplete.

    Raises
    ------
    InputError
        As in `from_keys`.
    """
    return replace(from_keys(sorted(set(map(normal_name, names))), name), is_complete=False)


def to_json(classes: ClassList) -> dict[str, Any]:
    """Return a class list as a dict that can be stored in a model file; `from_json` is the inverse."""
    return {"name": classes.name, "keys": classes.keys, "names": classes.names}


def from_json(content: Mapping[str, Any]) -> ClassList:
    """Return the class list stored in a dict by `to_json`, or the built-in class list with the same hash.

    Raises
    ------
    KeyError, TypeError, InputError
        If `content` does not have the form that `to_json` returns.
    """
    classes = from_keys([str(key) for key in content["keys"]], str(content["name"]))
    return class_list_of(classes.hash) or replace(classes, names=tuple(map(str, content["names"])))


def _sorted_as_strings(n_classes: int) -> npt.NDArray[np.int32] | None:
    return np.array(sorted(range(n_classes), key=str), np.int32) if n_classes > 10 else None


def _from_one(n_classes: int) -> npt.NDArray[np.int32] | None:
    return np.roll(np.arange(n_classes, dtype=np.int32), 1) if n_classes > 1 else None


def _devkit(n_classes: int) -> npt.NDArray[np.int32] | None:
    # tests/test_classes.py compares the order with the devkit's labels of validation images.
    if n_classes != 1000:
        return None
    class_of = {key: i for i, key in enumerate(class_list().keys)}
    return np.array([class_of[key] for key in _data("ilsvrc2012_devkit.txt").split()], np.int32)


def _devkit_from_one(n_classes: int) -> npt.NDArray[np.int32] | None:
    order = _devkit(n_classes)
    return None if order is None else np.roll(order, 1)


CLASS_ORDERS: Mapping[str, Callable[[int], npt.NDArray[np.int32] | None]] = {
    "folders 0, 1, 10, … sorted as strings": _sorted_as_strings,
    "indices that start at 1": _from_one,
    "the ILSVRC devkit (ILSVRC2012_ID)": _devkit_from_one,
    "the ILSVRC devkit (ILSVRC2012_ID - 1)": _devkit,
}
"""Common wrong orders of predictions, by their descriptions in messages.

Each function returns, for C classes, ``true_class_of``, an ndarray of int32, shape (C,): index i of the wrong
order is class ``true_class_of[i]`` of the sorted keys. It returns None if the order does not exist or is the
right one: up to ten folders have the same order as strings, and the devkit has 1,000 classes. All orders are
permutations of the classes: if indices start at 1, index 0, which does not occur, is the last class, whose
index C is out of range.
"""


def _check_characters(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "A key or name contains a lone surrogate, which is half of a character.",
            where=where,
            got=repr(text),
            allowed="characters that UTF-8 can encode",
        ) from error


def _superclass(path: tuple[str, ...]) -> int:
    ids = {step.partition(" ")[0] for step in path}
    return 0 if _ORGANISM in ids else 1 if _ARTIFACT in ids else 2


def normal_name(text: str) -> str:
    """Return a name in Unicode form NFC, the form in which names of classes and models are compared.

    In file names, macOS writes *é* as two characters, and most other systems write it as one.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded_name(text: str) -> str:
    """Return a name with spaces in place of underscores and without differences in case."""
    return text.replace("_", " ").casefold()


def _group(pairs: Iterable[tuple[int, str]]) -> dict[str, set[int]]:
    by_text: dict[str, set[int]] = {}
    for i, text in pairs:
        by_text.setdefault(text, set()).add(i)
    return by_text


def _split(column: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(field.split("|")) if field else () for field in column)


def _data(name: str) -> str:
    return (files("manyhot") / "data" / name).read_text(encoding="utf-8")


_PREFIX = re.compile(r"^(tf|legacy|gluon|ssl|swsl|ig|adv|ens|dm|eca|ese|gc|test|hf|own|timm|torchvision)[_/]")

_FAMILIES = (
    ("inception", r"bninception|(adv_|ens_adv_)?inception(?!_next)|polynet|xception"),
    ("inceptionnext", r"inception_next"),
    ("csp", r"cs3?|csp|darknet|sedarknet"),
    ("densenet", r"densenet"),
    ("byoanet", r"lambda|halo|botne|sebotne|sehalonet|lamhalobotnet|bat_"),
    ("nfnet", r"nfnet|nf_"),
    ("resnet", r"\w*(resnet|resnext|resnest|res2net|res2next|senet)"),
    ("nasnet", r"p?nasnet"),
    ("regnet", r"regnet"),
    ("vit", r"vit|deit|beit|eva|tiny_vit|flexivit|naflexvit|vitamin|samvit|aimv2"),
    ("convnext", r"convnext"),
    ("swin", r"swin"),
    ("efficientnet", r"efficientnet|mixnet|tinynet"),
    ("mobilenet", r"(se)?mnasnet|(se)?mobilenet|lcnet|fbnet|spnasnet|semnasnet"),
    ("hgnet", r"hgnet"),
    ("maxvit", r"maxx?vit|coatne"),
    ("metaformer", r"poolformer|convformer|caformer"),
    ("mlp", r"mixer|resmlp|gmlp|gmixer"),
    ("rexnet", r"rexnet"),
    ("repvgg", r"repvgg|mobileone"),
    ("vgg", r"vgg"),
    ("fisher vectors", r"fv_\d"),
)
"""Families by patterns of names; the first match counts. Other names are a family up to their first digit."""

_PRETRAINING = (
    ("jft", r"jft"),
    ("ig-1b", r"ig1b|swag"),
    ("yfcc-100m", r"yfcc|yfc"),
    ("laion-2b", r"laion"),
    ("webli", r"webli|siglip"),
    ("clip", r"openai|clip|quickgelu|metaclip|dfn|datacomp"),
    ("merged-30m", r"m30m|m38m"),
    ("in-21k/22k", r"in2[12]k|_21k|22k|ssld_stage1"),
    ("in-12k", r"in12k"),
    ("seer", r"seer"),
    ("lvd-142m", r"lvd|dinov"),
    ("in-1k", r""),
)


def family_of(model: str) -> str:
    """Return the family of a model's architecture.

    ResNets, ResNeXts, SE-ResNets and similar architectures form one family, and so do plain vision
    transformers. If families are too broad, intervals over families are conservative; if families are too
    narrow, the intervals are too short.

    Examples
    --------
    >>> family_of("timm/seresnext50_32x4d.racm_in1k@288"), family_of("convnextv2_tiny"), family_of("xcit_s12")
    ('resnet', 'convnext', 'xcit')
    """
    name = normal_name(model).partition("@")[0].partition(".")[0].lower()
    bare = name
    while (shorter := _PREFIX.sub("", bare)) != bare:
        bare = shorter
    for family, pattern in _FAMILIES:
        if re.match(pattern, bare):
            return family
    start = re.match(r"[^\W\d_]+(?=v\d)|[^\W\d_]+", bare)
    return start.group() if start else name


def pretraining_of(model: str) -> str:
    """Return the data on which a timm model was pretrained before ImageNet-1k, from the tag in its name.

    The result is ``in-1k`` if the tag names no other data, and empty if the name has no tag, as in versions
    of timm before 0.9.

    Examples
    --------
    >>> pretraining_of("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k"), pretraining_of("resnet50.a1_in1k")
    ('merged-30m', 'in-1k')
    """
    _, dot, tag = model.partition("@")[0].partition(".")
    if not dot:
        return ""
    return next(data for data, pattern in _PRETRAINING if re.search(pattern, tag.lower()))
