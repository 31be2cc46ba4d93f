"""Differences between models from resamples and from leaving out each image, and the table of resamples."""

from __future__ import annotations

import hashlib
from collections import UserDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.array_types import Bools, Floats, Floats32, Ints
from manyhot.core.clusters import Clusters
from manyhot.core.distinct import few_values
from manyhot.core.model_pairs import (
    PairTable,
    compare_pairs,
    jackknife_errors,
    only_one_right,
    paired_errors,
    pairs_of,
)
from manyhot.core.ratio_intervals import with_few_apart, with_none_apart
from manyhot.core.resampled_statistics import MANY_IMAGES
from manyhot.evaluate.compared_pairs import NO_PAIRS, ComparedPairs
from manyhot.evaluate.judged_batches import JudgedBatch
from manyhot.evaluate.result_rows import pair_rows
from manyhot.evaluate.slices import ALL
from manyhot.tables import one_chunk, schema
from manyhot.tables.result_tables import accuracies, describe_metric
from manyhot.tables.state_lists import ragged

Key = tuple[str, str, str]
"""Model, metric and slice."""

_Pair = tuple[str, str]
"""Metric and model."""

MOST_STORED = 64 << 20
"""Bytes of changes without each image up to which they are stored: those of 20 models on 1.28 million images
take 0.4 GB of memory to write."""

_NO_VALUES = np.empty(0, np.float32)
"""The values of a metric that is not resampled."""


class CountedImages:
    """The images that each metric of each model counts; many of these sets are equal.

    Parameters
    ----------
    image_id : pyarrow.Array
        The ids of all n images.
    """

    def __init__(self, image_id: pa.Array) -> None:
        self._image_id = image_id
        self._keys: dict[_Pair, bytes] = {}
        self._masks: dict[bytes, Bools] = {}
        self._digests: dict[bytes, str] = {}
        self._bits: dict[bytes, bytes] = {}

    def add(self, model: str, metric: str, scored: Bools) -> None:
        """Add the images that count, shape (n,)."""
        key = hashlib.blake2b(np.packbits(scored).tobytes(), digest_size=16).digest()
        self._masks.setdefault(key, scored)
        self._keys[metric, model] = key

    def of_models(self, models: Collection[str]) -> tuple[list[list[str]], dict[str, npt.NDArray[np.uint8]]]:
        """Return metric, model and key of each set of images of some models, and the sets by key, as bits."""
        keys = [[metric, m, key.hex()] for (metric, m), key in self._keys.items() if m in models]
        return keys, {key: np.packbits(self._masks[bytes.fromhex(key)]) for _, _, key in keys}

    def restore(self, keys: Sequence[Sequence[str]], masks: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Add what `of_models` returned."""
        for metric, model, key in keys:
            self._keys[metric, model] = bytes.fromhex(key)
        for key, bits in masks.items():
            self._masks.setdefault(
                bytes.fromhex(key), np.unpackbits(bits, count=len(self._image_id)).astype(bool)
            )

    def bits(self, metric: str, model: str) -> bytes | None:
        """Return whether each image is counted, eight images per byte; None if it is not known."""
        key = self._keys.get((metric, model))
        if key is None:
            return None
        return self._bits.setdefault(key, np.packbits(self._masks[key]).tobytes())

    def groups(self, metric: str, models: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return a number for each model, shape (M,), equal for models with the same counted images."""
        keys = [self._keys[metric, m] for m in models]
        groups: npt.NDArray[np.intp] = np.unique(keys, return_inverse=True)[1]
        return groups

    def mask(self, metric: str, model: str) -> Bools:
        """Return whether each image is counted, shape (n,)."""
        return self._masks[self._keys[metric, model]]

    def n_counted(self, metric: str, model: str) -> int:
        """Return how many images count."""
        return int(np.count_nonzero(self.mask(metric, model)))

    def n_shared(
        self, metric: str, models: Sequence[str], a: Ints, b: Ints, weights: Floats | None = None
    ) -> Ints:
        """Return the number of images that are counted for both models of each pair, shape (P,).

        With weights of the images, shape (n,), it is the rounded sum of the weights.
        """
        keys = [self._keys[metric, m] for m in models]
        distinct = list(dict.fromkeys(keys))
        masks = np.stack([self._masks[k] for k in distinct]).astype(np.float64)
        shared = np.rint((masks if weights is None else masks * weights) @ masks.T).astype(np.int64)
        at = np.array([distinct.index(k) for k in keys])
        return np.asarray(shared[at[a], at[b]])

    def digest(self, metric: str, model: str) -> str | None:
        """Return a hash of the ids of the counted images, in any order; None if they are not known."""
        key = self._keys.get((metric, model))
        if key is None:
            return None
        if key not in self._digests:
            ids = self._sorted_ids.filter(pa.array(self._masks[key][self._order]))
            text = "\n".join(ids.to_pylist()).encode()
            self._digests[key] = hashlib.blake2b(text, digest_size=8).hexdigest()
        return self._digests[key]

    @cached_property
    def _order(self) -> Ints:
        return np.asarray(pc.sort_indices(self._image_id))

    @cached_property
    def _sorted_ids(self) -> pa.Array:
        return self._image_id.take(pa.array(self._order))


def samples_table(
    dataset: str,
    samples: Mapping[Key, Floats32],
    counted: CountedImages,
    more: Mapping[str, Sequence[Any]] | None = None,
) -> pa.Table:
    """Return the samples table of resampled values per model, metric and slice; `more` adds columns."""
    models, metrics, slices = zip(*samples, strict=True) if samples else ((), (), ())
    flat = np.concatenate([np.empty(0, np.float32), *samples.values()])
    images = [counted.digest(metric, model) if name == ALL else None for model, metric, name in samples]
    columns = {
        "dataset": pa.repeat(pa.scalar(dataset, pa.string()), len(samples)),
        "model": pa.array(models, pa.string()),
        "metric": pa.array(metrics, pa.string()),
        "slice": pa.array(slices, pa.string()),
        "values": ragged([len(values) for values in samples.values()], flat),
        "images": pa.array(images, pa.string()),
    }
    every = schema("samples")
    columns |= {name: pa.array(values, every.field(name).type) for name, values in (more or {}).items()}
    return pa.table({f.name: columns.get(f.name, pa.nulls(len(samples), f.type)) for f in every}, every)


class _CompactValues(UserDict[_Pair, Any]):
    """Values of the images by metric and model, kept in a byte each where few of them differ.

    For 1.28 million images, that is 1.3 instead of 5.1 MB.
    """

    def __getitem__(self, pair: _Pair) -> Floats32:
        kept = self.data[pair]
        values: Floats32 = kept[0].take(kept[1]) if isinstance(kept, tuple) else kept
        return values

    def __setitem__(self, pair: _Pair, values: Floats32) -> None:
        few = few_values(values) if len(values) > MANY_IMAGES else None
        self.data[pair] = values if few is None else few

    def sort(self, key: Callable[[_Pair], int]) -> None:
        """Put the pairs in order."""
        self.data = {pair: self.data[pair] for pair in sorted(self.data, key=key)}


class SampledPairs:
    """The values of many models, from which pairs of models and data sets are compared.

    Parameters
    ----------
    image_id : pyarrow.Array
        The ids of all images.
    reference : str
        The only model that others are compared with, so that standard errors of differences from it are
        computed as models are added. Empty if all pairs may be compared.

    Attributes
    ----------
    is_collecting : bool
        Whether pairs may be compared.
    counted : CountedImages
        The images that each metric of each model counts.
    """

    def __init__(self, image_id: pa.Array, reference: str = "") -> None:
        self._reference = reference
        self._accuracies = frozenset(accuracies())
        self.is_collecting = True
        self.counted = CountedImages(image_id)
        self._samples: dict[Key, Floats32] = {}
        self._right: dict[_Pair, npt.NDArray[np.uint8]] = {}
        self._changes = _CompactValues()
        self._errors: dict[_Pair, tuple[float, float]] = {}

    def stop(self) -> None:
        """Discard what is needed only for pairs, because no pairs are compared."""
        self.is_collecting = False
        self._samples = {key: values for key, values in self._samples.items() if key[1] in self._accuracies}
        for values in (self._right, self._changes, self._errors):
            values.clear()

    def of_models(self, models: Collection[str]) -> JudgedBatch:
        """Return what was collected for some models, for `restore`."""
        keys, masks = self.counted.of_models(models)
        samples = {key: values for key, values in self._samples.items() if key[0] in models}
        right, changes = (
            {k: v for k, v in of.items() if k[1] in models} for of in (self._right, self._changes)
        )
        errors = [[*pair, *ends] for pair, ends in self._errors.items() if pair[1] in models]
        about = {
            "counted": keys,
            "samples": [*samples],
            "right": [*right],
            "changes": [*changes],
            "errors": errors,
        }
        arrays: dict[str, npt.NDArray[Any]] = {f"mask-{key}": bits for key, bits in masks.items()}
        for name, values in (("samples", samples), ("right", right)):
            arrays[name] = np.stack([*values.values()]) if values else np.empty(0)
        arrays |= {f"changes-{i}": values for i, values in enumerate(changes.values())}
        return JudgedBatch(about, arrays)

    def restore(self, batch: JudgedBatch) -> None:
        """Add what `of_models` returned."""
        about, arrays = batch.about, batch.arrays
        masks = {n.removeprefix("mask-"): bits for n, bits in arrays.items() if n.startswith("mask-")}
        self.counted.restore(about["counted"], masks)
        for i, (model, metric, name) in enumerate(about["samples"]):
            self._samples[model, metric, name] = arrays["samples"][i]
        for i, (metric, model) in enumerate(about["right"]):
            self._right[metric, model] = arrays["right"][i]
        for i, (metric, model) in enumerate(about["changes"]):
            self._changes[metric, model] = arrays[f"changes-{i}"]
        for metric, model, error, df in about["errors"]:
            self._errors[metric, model] = error, df
        for metric in {metric for metric, _ in self._changes}:
            self._compare_waiting(metric)

    def add_right(self, model: str, metric: str, right: Bools) -> None:
        """Add the images in the numerator of a share, shape (n,)."""
        if self.is_collecting:
            self._right[metric, model] = np.packbits(right)

    def add_changes(self, model: str, metric: str, changes: Floats) -> None:
        """Add the change in a value from leaving out each counted image, or each cluster, shape (m,)."""
        if not self.is_collecting:
            return
        self._changes[metric, model] = changes.astype(np.float32)
        self._compare_waiting(metric)

    def _compare_waiting(self, metric: str) -> None:
        """Compare models with the reference, once it is there, and forget their changes."""
        if (metric, self._reference) in self._changes:
            waiting = [m for name, m in self._changes if name == metric and m != self._reference]
            for other in waiting:
                self._errors[metric, other] = self._error_to_reference(metric, other)
                del self._changes[metric, other]

    def add_samples(self, key: Key, values: Floats32) -> None:
        """Add the resampled values of a model, shape (R,)."""
        if self.is_collecting or key[1] in self._accuracies:
            self._samples[key] = values

    def sort(self, keys: Iterable[Key]) -> None:
        """Sort what was collected in the order of `keys`, which does not depend on batches of models."""
        order = {key: i for i, key in enumerate(keys)}
        self._samples = dict(sorted(self._samples.items(), key=lambda item: order[item[0]]))
        self._changes.sort(lambda pair: order[(*pair[::-1], ALL)])

    @property
    def is_too_large(self) -> bool:
        """Whether the changes are too large to be stored."""
        return bool(sum(c.nbytes for c in self._changes.values()) > MOST_STORED)

    def samples(self, dataset: str) -> pa.Table:
        """Return the samples table, with the data that `of_samples` needs to compare models with others."""
        if not self.is_collecting or self.is_too_large:
            return samples_table(dataset, self._samples, self.counted)
        by_changes = ((model, metric, ALL) for metric, model in self._changes)
        samples = self._samples | {key: self._samples.get(key, _NO_VALUES) for key in by_changes}
        stored = [(metric, model) if name == ALL else ("", "") for model, metric, name in samples]
        right = (self._right.get(pair) for pair in stored)
        columns = {
            "counted": [self.counted.bits(*pair) for pair in stored],
            "right": [None if bits is None else bits.tobytes() for bits in right],
            "changes": [self._changes.get(pair) for pair in stored],
        }
        return samples_table(dataset, samples, self.counted, columns)

    @classmethod
    def of_samples(cls, samples: pa.Table) -> SampledPairs:
        """Return the values in the samples table of one data set, for models that can be compared."""
        table = samples.filter(pc.is_valid(samples["counted"])).combine_chunks()
        values, changes = (one_chunk(table[name]) for name in ("values", "changes"))
        bits = [(row["counted"], row["right"]) for row in table.select(["counted", "right"]).to_pylist()]
        n = 8 * max((len(counted) for counted, _ in bits), default=0)
        pairs = cls(pa.nulls(n, pa.string()))
        names = zip(*(table[name].to_pylist() for name in ("model", "metric")), strict=True)
        for i, ((model, metric), (counted, right)) in enumerate(zip(names, bits, strict=True)):
            scored = np.unpackbits(np.frombuffer(counted, np.uint8)).astype(bool)
            pairs.counted.add(model, metric, scored)
            if len(values[i].values):
                pairs._samples[model, metric, ALL] = values[i].values.to_numpy()
            if right is not None:
                pairs._right[metric, model] = np.frombuffer(right, np.uint8)
            if changes[i].is_valid:
                pairs._changes[metric, model] = changes[i].values.to_numpy()
        return pairs

    def cluster_changes(self, metric: str, clusters: Clusters) -> Floats | None:
        """Return the change in the difference of two models if each cluster is left out, shape (K,).

        None if it is unknown, or if there are not exactly two models.
        """
        models = [model for name, model in self._changes if name == metric]
        if len(models) != 2 or len(np.unique(self.counted.groups(metric, models))) > 1:
            return None
        found = np.zeros(clusters.n)
        sizes = clusters.sizes(self.counted.mask(metric, models[0]))
        first, second = (self._changes[metric, model].astype(np.float64) for model in models)
        found[sizes > 0] = second - first
        return found

    def rows(
        self, dataset: str, values: Mapping[Key, float], compared: ComparedPairs
    ) -> Iterator[dict[str, Any]]:
        """Yield the columns of the pairs table for each metric on all images.

        Parameters
        ----------
        values : Mapping
            The value of each model, metric and slice, in the order of the models.
        """
        if compared.pairs == NO_PAIRS:
            return
        judged = dict.fromkeys(model for model, *_ in values)
        sampled = (metric for _, metric, _ in self._samples)
        for metric in dict.fromkeys([*sampled, *(metric for metric, _ in [*self._changes, *self._errors])]):
            models = [m for m in judged if (m, metric, ALL) in self._samples or self._has_changes(metric, m)]
            if compared.reference and compared.reference not in models:
                continue
            # Where all models count other images, such as their own errors, no two can be compared. Of two
            # models, the row with an undefined difference says so to a page, which is drawn without samples.
            group = self.counted.groups(metric, models)
            if len(np.unique(group)) == len(models) != 2:
                continue
            reference = compared.index_in(models)
            point = np.array([values[m, metric, ALL] for m in models])
            a, b = pairs_of(len(models), reference)
            if all(self._has_changes(metric, m) for m in models):
                errors, df = self._change_errors(metric, models, group, reference)
                table = compare_pairs(point, reference=reference, group=group, errors=errors, df=df)
            else:
                table = self._sampled(metric, models, point, group, reference)
            n = self.counted.n_shared(metric, models, a, b)
            if describe_metric(metric).get("unit") == "share":
                table = with_none_apart(table, np.minimum(n, self._n_changes(metric)))
            yield pair_rows(dataset, metric, ALL, models, table, n)

    def _has_changes(self, metric: str, model: str) -> bool:
        return (metric, model) in self._changes or (metric, model) in self._errors

    def _n_changes(self, metric: str) -> float:
        """Return the number of images or clusters that were left out one at a time; infinite if none were."""
        return max((len(c) for (name, _), c in self._changes.items() if name == metric), default=np.inf)

    def _error_to_reference(self, metric: str, model: str) -> tuple[float, float]:
        """Return the standard error of the difference to the reference, and its df; NaN on other images."""
        names = (self._reference, model)
        if len(set(self.counted.groups(metric, names).tolist())) > 1:
            return np.nan, np.nan
        errors, df = jackknife_errors(np.stack([self._changes[metric, m] for m in names]))
        return float(errors[0, 1]), float(df[0, 1])

    def _change_errors(
        self, metric: str, models: Sequence[str], group: Ints, reference: int | None
    ) -> tuple[Floats, Floats]:
        """Return standard errors of differences, and their df; NaN between models that count other images."""
        if reference is not None:
            others = (m for m in models if m != self._reference)
            errors, df = zip(*(self._errors[metric, m] for m in others), strict=True)
            return np.array(errors), np.array(df)
        found = np.full((2, len(models), len(models)), np.nan)
        for number in np.unique(group):
            inside = np.flatnonzero(group == number)
            changes = np.stack([self._changes[metric, m] for m in np.array(models)[inside].tolist()])
            found[:, inside[:, None], inside] = jackknife_errors(changes)
        a, b = pairs_of(len(models))
        return found[0, a, b], found[1, a, b]

    def _sampled(
        self, metric: str, models: Sequence[str], point: Floats, group: Ints, reference: int | None
    ) -> PairTable:
        """Compare models by resamples; shares of the same images also by the images on which they differ."""
        samples = np.stack([self._samples[m, metric, ALL] for m in models])
        if len(np.unique(group)) > 1 or not all((metric, m) in self._right for m in models):
            return compare_pairs(point, samples, reference=reference, group=group)
        n = self.counted.n_counted(metric, models[0])
        apart = only_one_right(np.stack([self._right[metric, m] for m in models]), reference)
        errors = paired_errors(*apart, n)
        table = compare_pairs(point, samples, reference=reference, group=group, errors=errors)
        return with_few_apart(table, *apart, n)
