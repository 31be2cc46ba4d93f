"""What the rules that sort errors need beside predictions and label sets, and the tree of classes."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.core.class_hierarchy import Hierarchy
from manyhot.core.cooccurrence import ClassPairs
from manyhot.core.error_kinds import NOTHING, ErrorContext, NeighbourLabels, rarity_of
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.data import catalog
from manyhot.data.data_sets import Source
from manyhot.data.reading_options import ObjectsLike
from manyhot.data.table_inputs import open_objects
from manyhot.errors import InputError, MatchError, first_names
from manyhot.files import hashes_of
from manyhot.formats import detect, read_findings, read_images, read_labels
from manyhot.formats.tsipras import read_superclasses
from manyhot.formats.writing import PathLike
from manyhot.predict.network import Network
from manyhot.predict.similar import labels_of_searched
from manyhot.predict.sources import ImageSource
from manyhot.predict.sources.label_ids import labels_of_source, objects_of_source
from manyhot.tables import Images, Labels, Objects, one_chunk
from manyhot.tables.arrays import States, label_sets, states_of_labels, states_of_objects
from manyhot.tables.class_paths import class_paths
from manyhot.tables.frames import list_matrix
from manyhot.tables.image_ids import ids_like

_WEASELS = ("n02441942", "n02442845", "n02443114", "n02443484")
"""Weasel, mink, polecat, black-footed ferret."""

COLLAPSED = (
    ("n02110185", "n02109961"),  # Siberian husky: Eskimo dog
    ("n02110063", "n02109961"),  # malamute: Eskimo dog
    ("n04355933", "n04356056"),  # sunglass: sunglasses
    ("n04356056", "n04355933"),
    ("n02504013", "n01871265"),  # Indian elephant: tusker
    ("n02504458", "n01871265"),  # African elephant: tusker
    ("n03063599", "n07930864"),  # coffee mug: cup
    ("n03710637", "n03710721"),  # maillot, tights: maillot, swimsuit
    ("n03710721", "n03710637"),
    ("n03773504", "n04008634"),  # missile: projectile
    ("n04008634", "n03773504"),
    ("n03642806", "n03832673"),  # laptop: notebook
    ("n03832673", "n03642806"),
    ("n03782006", "n04152593"),  # monitor: screen
    ("n04152593", "n03782006"),
    ("n02979186", "n04392985"),  # cassette player: tape player
    *((a, b) for a in _WEASELS for b in _WEASELS if a != b),
    ("n02808440", "n04493381"),  # bathtub: tub
)
"""By their keys: a class, and another whose prediction says the same of it. Vasudevan et al. 2022, as Peychev
et al. 2023 list them."""

_MISTAKES = "imagenet-mistakes"
"""The catalogue entry in which experts called images of ImageNet's validation set non-prototypical."""

_VALIDATED = "imagenet-val-predictions"
"""The catalogue entry with predictions of these images."""

_CATEGORY = "non-prototypical"
"""The category of such images in findings."""


def _published_ids(source: Source) -> list[str] | None:
    """Return the images of ImageNet's validation set that experts called non-prototypical."""
    if source.published is None or source.published.predictions != _VALIDATED:
        return None
    files = [f.path for f in catalog.catalog_entry(_MISTAKES).files if f.path.endswith("_mistakes.json")]
    return [i for path in catalog.fetch(_MISTAKES, only=files).values() for i in listed_ids(path)]


def listed_ids(path: PathLike) -> list[str]:
    """Return the images that a file lists as non-prototypical.

    Parameters
    ----------
    path : path-like
        A table of findings or a list of images, in any format. If findings have a column ``category``, only
        the rows of the category for non-prototypical images are used.
    """
    path = Path(path)
    if path.is_file() and detect(path, ("findings",)) is not None:
        table = read_findings(path)
        if "category" in table.column_names:
            table = table.filter(pa.compute.equal(table["category"], _CATEGORY))
        return [i for i in table["image_id"].to_pylist() if i is not None]
    ids: list[str] = read_images(path).image_id.to_pylist()
    return ids


@dataclass(frozen=True, eq=False)
class EvidenceFiles:
    """Tables or files with evidence; None for each kind of evidence that is missing.

    Attributes
    ----------
    superclasses, collapsed_pairs, cooccurrence_labels, non_prototypical
        As in `manyhot.diagnose_errors`.
    nearest
        The table ``similar``, and the images listed in it with their original labels.
    """

    superclasses: PathLike | Mapping[str, Collection[int]] | None = None
    collapsed_pairs: Collection[tuple[int, int]] | None = None
    cooccurrence_labels: PathLike | Labels | None = None
    non_prototypical: PathLike | Collection[str] | None = None
    nearest: tuple[pa.Table | None, Images | None] = (None, None)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 hash of each file, keyed by name."""
        return hashes_of((self.superclasses, self.cooccurrence_labels, self.non_prototypical))

    def read_superclasses(
        self, n_classes: int, classes: ClassList | None
    ) -> Mapping[str, Collection[int]] | None:
        """Return the classes of each superclass."""
        path = self.superclasses
        if not isinstance(path, str | os.PathLike):
            return path
        if str(path) == "tsipras" and not Path(path).exists():
            path = catalog.fetch_file("tsipras", "superclasses.npy")
        return read_superclasses(path, n_classes, classes)

    def read_labels(self, classes: ClassList | None) -> Labels | None:
        """Return the label sets in which to count classes that occur together."""
        place = self.cooccurrence_labels
        return read_labels(place, classes=classes) if isinstance(place, str | os.PathLike) else place

    def listed_ids(self, source: Source) -> Collection[str] | None:
        """Return the images that raters called non-prototypical."""
        if self.non_prototypical is None:
            return _published_ids(source)
        place = self.non_prototypical
        return listed_ids(place) if isinstance(place, str | os.PathLike) else place


@dataclass
class ErrorEvidence:
    """The evidence that rules need in addition to predictions, and why some of it is missing."""

    labels: Labels
    sets: LabelSets
    classes: ClassList | None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.classes is not None and len(self.classes) != self.labels.n_classes:
            raise MatchError(
                "The class list does not match the labels.",
                where=self.classes.name,
                got=f"{len(self.classes):,} classes",
                allowed=f"{self.labels.n_classes:,} classes",
                do="pass the class list of the labels",
            )

    def context(self, files: EvidenceFiles, source: Source) -> tuple[ErrorContext, dict[str, str]]:
        """Return the evidence and, for each kind of evidence, the reason that applies if it is missing."""
        together = ClassPairs.of(self._cooccurrence_sets(files.read_labels(source.classes)))
        superclasses = files.read_superclasses(self.labels.n_classes, source.classes)
        listed = files.listed_ids(source)
        similar, images = files.nearest
        context = replace(
            ErrorContext.of(self.sets),
            hierarchy=self._hierarchy() if superclasses is None else None,
            groups=None if superclasses is None else self._groups(superclasses),
            pairs=self._pairs(files.collapsed_pairs),
            together=together if len(together.a) else None,
            neighbours=None if similar is None else self.neighbours(similar, images),
            listed=None if listed is None else self._listed(listed),
        )
        is_named = self.classes is not None and bool(self.classes.name)
        about = "the classes have" if is_named else "without a class list there is"
        return context, {
            "superclasses": f"{about} no hierarchy, no superclasses are given, and no classes are confused "
            "clearly more often than others",
            "pairs": "no collapsed pairs are known" + " for these classes" * is_named,
            "others": "no rater was asked about a class other than the original labels",
            "together": "no image has two labels",
            "neighbours": "no embeddings are given"
            if similar is None
            else "none of the similar images has an original label",
            "listed": "no list of non-prototypical images is given",
        }

    def _hierarchy(self) -> Hierarchy | None:
        tree, note = class_tree(self.classes)
        self.notes += [note] * bool(note)
        return tree

    def _groups(self, superclasses: Mapping[str, Collection[int]]) -> npt.NDArray[np.int64]:
        if not superclasses:
            raise InputError("`superclasses` is empty.", do="leave out `superclasses` to use the hierarchy")
        groups = np.full(self.labels.n_classes, NOTHING)
        for number, (name, members) in enumerate(superclasses.items()):
            listed = self._classes(list(members), f"superclass {name}")
            twice = listed[groups[listed] != NOTHING]
            if len(twice):
                raise InputError(
                    "A class belongs to two superclasses.",
                    where=f"superclass {name}",
                    got=f"class {twice[0]}",
                )
            groups[listed] = number
        return groups

    def _pairs(self, pairs: Collection[tuple[int, int]] | None) -> npt.NDArray[np.int64] | None:
        if pairs is None and self.classes is not None:
            at = {key: i for i, key in enumerate(self.classes.keys)}
            pairs = [(at[a], at[b]) for a, b in COLLAPSED if a in at and b in at]
        if not pairs:
            return None
        odd = next((pair for pair in pairs if len(pair) != 2), None)
        if odd is not None:
            raise InputError(
                "A collapsed pair must consist of two classes.", got=odd, allowed="(valid, predicted)"
            )
        return self._classes(list(pairs), "collapsed pairs")

    def _classes(self, listed: Sequence[object], where: str) -> npt.NDArray[np.int64]:
        """Return classes as numbers, of the shape that they are listed in."""
        found = np.asarray(listed) if listed else np.empty(0, np.int64)
        if found.dtype.kind not in "iu":
            raise InputError("A class is not a number.", where=where, got=listed, allowed="ids of classes")
        if found.size and not (found.min() >= 0 and found.max() < self.labels.n_classes):
            raise InputError(
                "A class is out of range.",
                where=where,
                got=int(found.min() if found.min() < 0 else found.max()),
                allowed=f"0 to {self.labels.n_classes - 1}",
            )
        return found.astype(np.int64)

    def _cooccurrence_sets(self, together: Labels | None) -> LabelSets:
        if together is None:
            return self.sets
        if together.n_classes != self.labels.n_classes:
            raise MatchError(
                "The label sets used to count which classes occur together have a different class list.",
                where=together.name or None,
                got=f"{together.n_classes:,} classes",
                allowed=f"{self.labels.n_classes:,} classes",
            )
        return label_sets(together)

    def _listed(self, ids: Collection[str]) -> npt.NDArray[np.bool_]:
        distinct = pa.array(list(dict.fromkeys(ids)), pa.string())
        listed = pc.is_in(self.labels.image_id, self._like(distinct, self.labels.image_id, "the list"))
        if not pc.any(listed).as_py():
            self.notes.append(f"none of the {len(ids):,} images listed as non-prototypical is in the labels")
        return np.asarray(listed.to_numpy(zero_copy_only=False), bool)

    def _like(self, ids: pa.Array, others: pa.Array, name: str) -> pa.Array:
        """Return ids as the labels or the images write them, and note how they were matched."""
        like = ids_like(ids, others, name=name, other_name=self.labels.name or "the labels")
        note = f"{name}: {like.text}"
        if like.n and note not in self.notes:
            self.notes.append(note)
        return like.ids

    def neighbours(self, similar: pa.Table, images: Images | None) -> NeighbourLabels | None:
        """Return the labels of similar images and how rare images are; None if none has a label."""
        if similar["class_id"].null_count < len(similar):
            raise InputError(
                "The similar images were searched separately for each class.",
                got=f"{len(similar) - similar['class_id'].null_count:,} rows with a class",
                allowed="one row per image, with the nearest images of any class",
                do="search again with manyhot similar --among any",
            )
        images = labels_of_searched(images, self.labels.image_id, self.labels.class_hash)
        ids, label = self.labels.image_id, self.sets.label
        if images is not None and images.label is not None:
            ids, label = images.image_id, pc.fill_null(images.label, NO_LABEL).to_numpy().astype(np.int32)
        name = "the similar images"
        own = self._like(one_chunk(similar["image_id"]), self.labels.image_id, name)
        rows = pc.index_in(self.labels.image_id, own)
        there = np.flatnonzero(rows.is_valid().to_numpy(zero_copy_only=False))
        if not len(there):
            raise MatchError(
                "None of the images is in the table of similar images.",
                got=f"ids such as {similar['image_id'][0]}" if len(similar) else "no rows",
                allowed=f"ids such as {self.labels.image_id[0]}",
            )
        lists = one_chunk(similar["neighbours"]).take(rows.drop_null())
        near_ids = lists.flatten().dictionary_encode()
        near_ids = self._like(near_ids.dictionary, ids, name).take(near_ids.indices)
        at = pc.fill_null(pc.index_in(near_ids, ids), NOTHING).to_numpy()
        flat = np.where(at == NOTHING, NOTHING, label[at])
        offsets = lists.offsets.to_numpy()
        offsets = pa.array(offsets - offsets[0], pa.int32())
        near = list_matrix(pa.ListArray.from_arrays(offsets, pa.array(flat)), NOTHING)
        best = list_matrix(one_chunk(similar["similarity"]).take(rows.drop_null()), np.nan)
        classes = np.full((len(self.labels), near.shape[1]), NOTHING, np.int64)
        closest = np.full(len(self.labels), np.nan)
        classes[there] = near
        closest[there] = best[:, 0] if best.shape[1] else np.nan
        if not (classes != NOTHING).any():
            return None  # otherwise the rule would silently match no error
        if len(there) < len(self.labels):
            without = len(self.labels) - len(there)
            self.notes.append(f"{without:,} of {len(self.labels):,} images have no similar images")
        return NeighbourLabels(classes, rarity_of(closest))


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """Label sets of images and locations of their objects, with the classes of the model."""

    network: Network
    states: States | None
    objects: Objects | None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        network: Network,
        class_list: ClassList | None,
        objects: ObjectsLike | None,
        masks: PathLike | None,
        labels: PathLike | None,
        source: ImageSource,
    ) -> ImageFacts:
        """Read objects, masks and label sets of the images of a source.

        Raises
        ------
        InputError
            If there are masks but no objects, or a file cannot be read.
        MatchError
            If the model has none of the classes, or no image has objects.
        """
        if masks is not None and objects is None:
            raise InputError(
                "Masks can only be used with objects.", got=masks, do="also pass the objects as `objects`"
            )
        found, notes = None, list[str]()
        if objects is not None:
            found, like = objects_of_source(open_objects(objects, class_list, masks), source)
            notes += [like.text] if like.n else []
        classes = class_list or (network.classes if found is None else from_keys(found.keys, found.name))
        states = None if found is None else states_of_objects(found, classes)
        if labels is not None:
            sets, like = labels_of_source(read_labels(labels, classes=classes), source)
            states, notes = states_of_labels(sets, classes), [*notes, *([like.text] if like.n else [])]
        facts = cls(network, states, found, tuple(notes))
        if states is not None and not facts.common:
            raise MatchError(
                "The model has none of the classes.",
                where=network.name,
                got=first_names(classes.keys, 3),
                allowed=f"keys of {network.classes.name}, such as {network.classes.keys[0]}",
            )
        return facts

    @cached_property
    def common(self) -> dict[int, int]:
        """Map from class ids of the label sets to class ids of the model, for the classes that both have."""
        assert self.states is not None
        own = {key: i for i, key in enumerate(self.network.classes.keys)}
        keys = self.states.classes.keys
        return {i: own[key] for i, key in enumerate(keys) if key in own}

    @cached_property
    def _rows(self) -> dict[str, int]:
        assert self.states is not None
        return {name: i for i, name in enumerate(self.states.image_id.to_pylist())}

    def states_of(self, image_id: str) -> dict[int, str]:
        """Return the states of the model's classes for an image, if raters were asked about them."""
        if self.states is None or image_id not in self._rows:
            return {}
        names = {YES: "yes", UNCLEAR: "unclear", NO: "no"}
        found = self.states.state[self._rows[image_id]].tolist()
        return {own: names[found[i]] for i, own in self.common.items() if found[i] in names}

    def object_of(self, class_id: int) -> int:
        """Return the id of a model's class in the objects' class list; -1 if the list does not contain it."""
        assert self.objects is not None
        key = self.network.classes.keys[class_id]
        return self.objects.keys.index(key) if key in self.objects.keys else -1


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

Synsets = tuple[str, ...]
"""A class and those above it, up to the root."""


def class_tree(classes: ClassList | None) -> tuple[Hierarchy | None, str]:
    """Return the tree of a class list, and a note on where it comes from; None if there is no tree.

    The classes of a list without hypernyms are looked up by key, name and synonym among ImageNet-1k's classes
    and their hypernyms in WordNet. The size of a group is its number of ImageNet-1k classes, because sizes in
    a list of ten classes do not show which groups are fine-grained.
    """
    if classes is None:
        return None, ""
    if any(classes.hypernyms):
        return _own_tree(classes)
    paths = [_wordnet_path(classes, i) for i in range(len(classes))]
    lacking = [name for name, path in zip(classes.names, paths, strict=True) if not path]
    n = len(classes) - len(lacking)
    if n < max(MIN_NAMED * len(classes), 2):
        return None, ""
    note = f"superclasses are taken from WordNet, which contains {n:,} of the {len(classes):,} class names"
    if lacking:
        note += f"; no superclass is known for {first_names(lacking, _SHOWN)}"
    own = [path or (f"own {i}",) for i, path in enumerate(paths)]
    return _in_wordnet(tuple(own)), note


@lru_cache(maxsize=16)
def _in_wordnet(own: tuple[Synsets, ...]) -> Hierarchy:
    """Return the tree of these paths with WordNet's sizes of groups, which take 20 ms to count."""
    return Hierarchy.of(own, class_paths(class_list())[0], "WordNet")


def _own_tree(classes: ClassList) -> tuple[Hierarchy, str]:
    """Return the tree of the hypernyms of a class list, and a note on their order and on several roots."""
    paths, note = class_paths(classes)
    roots = list(dict.fromkeys(path[-1] for path in paths if len(path) > 1))
    if len(roots) > 1:
        more = (
            f"the hypernyms of {classes.name} have {len(roots):,} roots ({first_names(roots, _SHOWN)}): for "
            "the severity of errors, these roots are placed below one additional root"
        )
        note = f"{note}; {more}" if note else more
    return Hierarchy.of(paths), note


def _wordnet_path(classes: ClassList, i: int) -> Synsets | None:
    paths, by_name = _wordnet()
    for name in dict.fromkeys((classes.keys[i], classes.names[i], *classes.synonyms[i])):
        plain = _plain(name)
        at = name if name in paths else _SAME.get(plain.replace(" ", ""), by_name.get(plain))
        if at is not None and at in paths:
            return paths[at]
    return None


@cache
def _wordnet() -> tuple[Mapping[str, Synsets], Mapping[str, str]]:
    """Return the path of each synset at or above a class of ImageNet-1k, and the synset of each name.

    If several synsets have a name, it is the one with the most classes of ImageNet-1k at or below it. If two
    have equally many, as the two cranes, the name is ambiguous and is not looked up.
    """
    imagenet = class_list()
    paths: dict[str, Synsets] = {}
    sizes: Counter[str] = Counter()
    names: dict[str, set[str]] = defaultdict(set)
    for i, path in enumerate(class_paths(imagenet)[0]):
        for key, name in zip(path[1:], imagenet.hypernyms[i], strict=True):
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
