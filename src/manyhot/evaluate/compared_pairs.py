"""Which pairs of models are compared: all pairs, no pairs, or each model with a reference."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa

from manyhot.core.ratio_intervals import FEWEST_CLUSTERS
from manyhot.core.resampling import Bootstrap
from manyhot.errors import UnknownNameError, did_you_mean, first_names
from manyhot.parameters import Shown

CompareWith = Annotated[str | None, Shown("MODEL")]
"""The option that says which pairs are compared: the name of a model, `ALL_PAIRS` or `NO_PAIRS`."""

MAX_COMPARED = 300
"""Models up to which all pairs are compared by default: 1,000 models have 499,500 pairs under each metric."""

ALL_PAIRS: Literal["all"] = "all"
NO_PAIRS: Literal["none"] = "none"

FEWEST_SHARED = 0.1
"""Share of images that two data sets have in common from which a note says so."""

_LISTED = 10
"""Models that an error lists."""

KEY = "compared_pairs"
"""Metadata of results: which pairs are compared, by data set, as JSON."""

DISJOINT = "disjoint_slices"
"""Key of the metadata: for each data set, the columns of which no two slices share an image, as JSON."""

CLUSTERED = "clustered_slices"
"""Key of the metadata: for each data set with clusters, Cochran's Q by column and metric, as JSON."""

DRAWN_IMAGES = "drawn_images"
"""Key of the metadata: for each data set, a hash of its images in order and of their resamples, as JSON."""

SAMPLED_IMAGES = "sampled_images"
"""Key of the metadata: for each data set, the smallest hashes of its image ids, as JSON."""

_SAMPLED = 64
"""Hashes of ids that are stored for a data set."""

COMPARED_VALUES = "compared_values"
"""Key of the metadata: values that are compared instead of those of the results, as JSON."""

JUDGED_ON = "judged_on"
"""Key of the metadata: for each data set, what its models were evaluated on, and how, as JSON."""

JOINED = (KEY, DISJOINT, CLUSTERED, COMPARED_VALUES, DRAWN_IMAGES, JUDGED_ON, SAMPLED_IMAGES)
"""Keys of the metadata that `joined_about` joins."""


def drawn_images(dataset: str, image_id: pa.Array, bootstrap: Bootstrap) -> dict[str, str]:
    """Return the metadata that says which images a data set and each of its resamples contain.

    On two data sets with the same hash, resample r contains the same images, whatever their labels are. The
    metadata is empty without resamples.
    """
    if not bootstrap.resamples:
        return {}
    clusters = [] if bootstrap.clusters is None else map(str, bootstrap.clusters.number.tolist())
    ids = image_id.to_pylist()
    how = ["counts"] if bootstrap.draws_counts else []
    text = "\n".join([str(bootstrap.resamples), str(bootstrap.seed), *how, *ids, *clusters])
    drawn = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    sampled = heapq.nsmallest(_SAMPLED, hashes_of_ids(ids))
    return {DRAWN_IMAGES: json.dumps({dataset: drawn}), SAMPLED_IMAGES: json.dumps({dataset: sampled})}


def hashes_of_ids(ids: Iterable[str]) -> Iterator[int]:
    """Yield the CRC-32 of each image id; those with the smallest are a sample of the images."""
    return (zlib.crc32(one.encode()) for one in ids)


def shared_images(about: Mapping[str, str], first: str, second: str) -> float:
    """Return the approximate share of the smaller of two data sets that is in the other; 0 if unknown."""
    sampled = json.loads(about.get(SAMPLED_IMAGES, "{}"))
    a, b = sampled.get(first), sampled.get(second)
    if not (a and b):
        return 0.0
    end = min(max(a), max(b))  # up to which both have all hashes
    a, b = ({value for value in one if value <= end} for one in (a, b))
    return len(a & b) / min(len(a), len(b)) if a and b else 0.0


def notes_on_shared_images(about: Mapping[str, str], drops: pa.Table) -> Iterator[str]:
    """Yield a note for each pair of data sets that share images: drops between them are not paired."""
    pairs = dict.fromkeys(zip(*(drops[c].to_pylist() for c in ("dataset_x", "dataset_y")), strict=True))
    drawn = json.loads(about.get(DRAWN_IMAGES, "{}"))
    for x, y in pairs:
        share = shared_images(about, x, y)
        if x != y and drawn.get(x) != drawn.get(y) and share >= FEWEST_SHARED:
            yield (
                f"{x} and {y} share images: about {share:.0%} of the ids of the smaller are in the other; "
                "intervals of drops treat all images as independent, and are too wide if these are the same "
                "images; evaluate the images that only one of the data sets has separately, with manyhot "
                "evaluate --images"
            )


def numbers_of_clusters(about: Mapping[str, str]) -> dict[str, int]:
    """Return the number of clusters in each data set with clusters, from the metadata of results."""
    judged = json.loads(about.get(JUDGED_ON, "{}"))
    keys = {name: own.get("clusters", "none").split()[0] for name, own in judged.items()}
    return {name: int(key.replace(",", "")) for name, key in keys.items() if key != "none"}


def notes_on_clusters(about: Mapping[str, str], drops: pa.Table) -> Iterator[str]:
    """Yield a note that intervals of drops are computed over clusters, if any are."""
    known = drops.filter(drops["lo"].is_valid())
    compared = dict.fromkeys(name for side in "xy" for name in known[f"dataset_{side}"].to_pylist())
    numbers = numbers_of_clusters(about)
    clusters = {name: numbers[name] for name in compared if name in numbers}
    if clusters:
        few = f"; with fewer than {FEWEST_CLUSTERS} clusters, they may be too narrow"
        said = first_names([f"{n:,} in {name}" for name, n in clusters.items()])
        yield (
            f"intervals of drops are computed over clusters of images ({said})"
            f"{few if min(clusters.values()) < FEWEST_CLUSTERS else ''}"
        )


def reference_of(compare_with: str | None) -> str:
    """Return the model that all others are compared with; empty if there is none."""
    return "" if compare_with in (None, ALL_PAIRS, NO_PAIRS) else str(compare_with)


def may_compare(compare_with: str | None, n_models: int) -> bool:
    """Return whether pairs of models are compared if there are `n_models` models."""
    return compare_with != NO_PAIRS and (compare_with is not None or n_models <= MAX_COMPARED)


def check_reference(compare_with: str | None, models: Sequence[str]) -> None:
    """Raise an error if none of the models is the reference."""
    reference = reference_of(compare_with)
    if reference and reference not in models:
        others = f"and {len(models) - _LISTED:,} more" if len(models) > _LISTED else ""
        raise UnknownNameError(
            f"There is no model {reference!r} to compare with.",
            where="`compare_with`",
            allowed=", ".join(filter(None, (*sorted(models)[:_LISTED], others))),
            do=did_you_mean(reference, models, n=1) or f"pass {ALL_PAIRS} to compare all pairs",
        )


@dataclass(frozen=True)
class ComparedPairs:
    """Which pairs of the models of a data set are compared.

    Attributes
    ----------
    pairs : {"all", "none", "reference", "some"}
        *some* if several results were joined, because models from different results are not compared.
    reference : str
        The model that all others are compared with; empty unless `pairs` is *reference*.
    """

    pairs: Literal["all", "none", "reference", "some"] = ALL_PAIRS
    reference: str = ""

    @classmethod
    def choose(cls, compare_with: str | None, models: Sequence[str]) -> ComparedPairs:
        """Return which pairs are compared for a value of the option; no pairs if the reference is missing."""
        if not may_compare(compare_with, len(models)):
            return cls(NO_PAIRS)
        reference = reference_of(compare_with)
        if not reference:
            return cls(ALL_PAIRS)
        return cls("reference", reference) if reference in models else cls(NO_PAIRS)

    @classmethod
    def of(cls, about: Mapping[str, str], dataset: str) -> ComparedPairs:
        """Return which pairs of a data set are compared, from the metadata of results.

        Results of earlier versions do not record this; they contain all pairs or none.
        """
        found = json.loads(about.get(KEY, "{}")).get(dataset)
        return cls() if found is None else cls(**found)

    @property
    def are_all(self) -> bool:
        """Whether all pairs are compared."""
        return self.pairs == ALL_PAIRS

    def about(self, dataset: str) -> dict[str, str]:
        """Return the metadata of results on one data set."""
        return {KEY: json.dumps({dataset: asdict(self)})}

    def index_in(self, models: Sequence[str]) -> int | None:
        """Return the position of the reference among some models; None if there is no reference."""
        return models.index(self.reference) if self.reference else None

    def among(self, models: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the compared pairs of some models."""
        if self.pairs == "reference":
            others = (m for m in models if m != self.reference)
            yield from ((self.reference, other) for other in others if self.reference in models)
        elif self.pairs != NO_PAIRS:
            yield from itertools.combinations(models, 2)

    def note(self, compare_with: str | None, n_models: int) -> str:
        """Return why no pairs are compared, unless this was requested; empty if pairs are compared."""
        if self.pairs != NO_PAIRS or compare_with == NO_PAIRS or n_models < 2:
            return ""
        if compare_with is not None:
            return f"no models are compared with {compare_with}, which was not evaluated on this data set"
        return (
            f"no pairs of models are compared, because there are more than {MAX_COMPARED} models "
            f"({n_models:,}); to compare all with one of them, pass its name as `compare_with`; to compare "
            f"all pairs, pass {ALL_PAIRS}"
        )


def compared_values(about: Mapping[str, str]) -> dict[tuple[str, str, str, str], float]:
    """Return the values that are compared instead of those of the results.

    The keys are data set, metric, slice and model.
    """
    rows = json.loads(about.get(COMPARED_VALUES, "[]"))
    return {(dataset, metric, name, model): value for dataset, metric, name, model, value in rows}


def joined_about(
    parts: Iterable[tuple[Mapping[str, str], Iterable[str]]], *, several_models: bool = False
) -> dict[str, str]:
    """Return the metadata of joined results: which pairs are compared on each data set, and on which slices.

    Parameters
    ----------
    parts : iterable of tuple
        The metadata and the data sets of each part.
    several_models : bool
        Whether several parts may contain different models on the same data set.
    """
    joined, drawn, values = dict[str, ComparedPairs](), dict[str, str](), list[list[Any]]()
    by_dataset: dict[str, dict[str, Any]] = {name: {} for name in (SAMPLED_IMAGES, CLUSTERED, DISJOINT)}
    judged = dict[str, dict[str, str]]()
    for about, datasets in parts:
        for name, merged in by_dataset.items():
            merged |= json.loads(about.get(name, "{}"))
        judged = json.loads(about.get(JUDGED_ON, "{}")) | judged
        values += json.loads(about.get(COMPARED_VALUES, "[]"))
        own_draws = json.loads(about.get(DRAWN_IMAGES, "{}"))
        for dataset in datasets:
            draw = own_draws.get(dataset, "")
            drawn[dataset] = draw if drawn.get(dataset, draw) == draw else ""
            own = ComparedPairs.of(about, dataset)
            is_same = dataset not in joined or (joined[dataset] == own and not several_models)
            joined[dataset] = own if is_same else ComparedPairs("some")
    compared = {dataset: asdict(own) for dataset, own in joined.items()}
    draws = drawn if any(drawn.values()) else {}
    every = {**by_dataset, DRAWN_IMAGES: draws, JUDGED_ON: judged, COMPARED_VALUES: values}
    filled = {KEY: compared} | {name: value for name, value in every.items() if value}
    return {name: json.dumps(value) for name, value in filled.items()}
