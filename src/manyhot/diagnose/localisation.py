"""Whether maps point at objects, and whether they depend on the network's weights and on the class."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.core.array_types import Floats, Mask
from manyhot.core.detection import (
    DIFFICULT,
    EVERYTHING,
    LOCALISATION_MEASURES,
    HeatMap,
    by_chance,
    centre,
    localise,
    points_at,
    rank_correlation,
)
from manyhot.core.estimates import Ratio
from manyhot.core.ratio_intervals import IMAGES_FOR_PERCENTILES, ratio_interval
from manyhot.core.resampling import Bootstrap, percentile_interval
from manyhot.diagnose.attribution import Explainer
from manyhot.diagnose.explanations import MAP_MEASURES
from manyhot.diagnose.network_layers import randomised
from manyhot.parameters import RESAMPLES
from manyhot.run import QUIET, Run
from manyhot.tables import RowDict, schema
from manyhot.tables.frames import null_if_nan

VARIANTS = ("", "_by_chance", "_centre")
"""Endings of the columns of a measure: for the map, for a meaningless one, for the middle of the image."""


@dataclass(frozen=True)
class MapAgreement:
    """How similar two maps are.

    Attributes
    ----------
    against : str
        What maps are compared with: one of `manyhot.diagnose.explanations.COMPARED_WITH`.
    image : int
        Number of the image.
    value : float
        Rank correlation of the two maps; NaN if either map is constant.
    layers, of_layers : int, optional
        Number of final layers with shuffled weights, and number of all layers with weights.
    """

    against: str
    image: int
    value: float
    layers: int | None = None
    of_layers: int | None = None


def measure(heat_map: HeatMap, region: Mask, boxes: Mask, others: Mask) -> RowDict:
    """Return the columns of the table ``maps`` that measure how well a map points at an object.

    Parameters
    ----------
    heat_map : ndarray of float, shape (h, w)
        The map, with NaN outside the model's crop.
    region, boxes : ndarray of bool, shape (h, w)
        The pixels of the object, and the pixels in its boxes.
    others : ndarray of bool, shape (h, w)
        The pixels of objects of other classes.
    """
    seen = ~np.isnan(heat_map)
    area = float(region[seen].mean()) if seen.any() else 0.0
    middle = np.where(seen, centre(*heat_map.shape), np.nan)
    beside = others & ~region & seen
    values: RowDict = {"area": area}
    why = _why_not(heat_map[seen], region, area)
    # Only this can be measured in images that are labelled as a whole and have boxes of something else.
    if beside.any() and np.ptp(heat_map[seen]) > 0 and not (why and region.any()):
        other = (points_at(heat_map, beside), float(beside[seen].mean()), points_at(middle, beside))
        values |= dict(zip((f"pointing_other{end}" for end in VARIANTS), other, strict=True))
    if why:
        return values | {"skipped": why}
    own = (localise(heat_map, region), by_chance(region, seen), localise(middle, region))
    named = zip(VARIANTS, own, strict=True)
    values |= {f"{name}{end}": value for end, of in named for name, value in asdict(of).items()}
    return values | {"difficult": bool(boxes.mean() < DIFFICULT and others.any())}


def _why_not(values: npt.NDArray[np.floating], region: Mask, area: float) -> str:
    if not region.any():
        return "no object of the class"
    if not area:
        return "the object is outside the model's crop"
    if area >= EVERYTHING:
        return f"the object covers {100 * EVERYTHING:.0f} % or more of the model's crop"
    return "the map is the same everywhere" if values.min() == values.max() else ""


def summarise(maps: pa.Table, *, resamples: int = RESAMPLES, seed: int = 0) -> pa.Table:
    """Return the table ``localisation``: the means of each method over maps of classes in the label set.

    Parameters
    ----------
    maps : pyarrow.Table
        The table of this name.
    resamples : int
        Number of bootstrap resamples of images; 0 for no intervals. All maps of an image are resampled
        together.
    """
    groups: dict[tuple[str, str, str], list[RowDict]] = defaultdict(list)
    for row in maps.to_pylist():
        if row["state"] == "yes" and (row["skipped"] or row["pointing"] is not None):
            groups[row["dataset"], row["model"], row["method"]].append(row)
    rows = [
        dict(zip(("dataset", "model", "method"), key, strict=True)) | {"slice": name} | row
        for key, own in groups.items()
        for name, part in _slices(own).items()
        for row in _means(part, resamples, seed)
    ]
    rows.sort(key=lambda row: row["slice"].startswith("class="))  # the rest of all methods comes first
    return pa.Table.from_pylist(rows, schema=schema("localisation"))


def _slices(rows: Sequence[RowDict]) -> dict[str, Sequence[RowDict]]:
    found: dict[str, list[RowDict]] = {"all": [*rows], "difficult": [r for r in rows if r["difficult"]]}
    for row in sorted(rows, key=lambda row: int(row["class_id"])):
        found.setdefault(f"class={row['class_name']}", []).append(row)
    return {name: own for name, own in found.items() if own}


def _means(part: Sequence[RowDict], resamples: int, seed: int) -> Iterator[RowDict]:
    n_skipped = sum(row["skipped"] is not None for row in part)
    for metric in MAP_MEASURES:
        rows = [row for row in part if row[metric] is not None]
        if rows or metric in LOCALISATION_MEASURES:
            yield {"metric": metric, **_mean_of(rows, metric, resamples, seed), "n_skipped": n_skipped}


def _mean_of(rows: Sequence[RowDict], metric: str, resamples: int, seed: int) -> RowDict:
    values = np.array([[row[f"{metric}{end}"] for end in VARIANTS] for row in rows], float).reshape(
        -1, len(VARIANTS)
    )
    less = values[:, :1] - values[:, 2:]
    image = np.unique([row["image_id"] for row in rows], return_inverse=True)[1]
    mean, lo, hi = mean_over_images(np.concatenate([values, less], axis=1), image, resamples, seed)
    return {
        "value": mean[0],
        "lo": null_if_nan(lo[0]),
        "hi": null_if_nan(hi[0]),
        "by_chance": mean[1],
        "centre": mean[2],
        "excess": mean[3],
        "excess_lo": null_if_nan(lo[3]),
        "excess_hi": null_if_nan(hi[3]),
        "n": len(rows),
        "n_images": len(set(image.tolist())),
    }


def mean_over_images(
    values: Floats, image: npt.NDArray[np.integer], resamples: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Return the means of columns, with intervals over images. The rows of an image are resampled together.

    With fewer than `manyhot.core.ratio_intervals.IMAGES_FOR_PERCENTILES` images, the intervals are computed
    by the jackknife. Otherwise, they are percentiles of resamples.

    Parameters
    ----------
    values : ndarray of float, shape (r, m)
        Between -1 and 1.
    image : ndarray of int, shape (r,)

    Returns
    -------
    mean, lo, hi : ndarray of float64, shape (m,)
        NaN if there are no rows. The interval is also NaN if there are no resamples.
    """
    m = values.shape[1]
    if not len(values):
        return (np.full(m, np.nan),) * 3
    n = int(image.max()) + 1
    sums = np.zeros((n, m))
    np.add.at(sums, image, values)
    counts = np.bincount(image, minlength=n)
    if not resamples:
        return values.mean(0), np.full(m, np.nan), np.full(m, np.nan)
    if np.count_nonzero(counts) < IMAGES_FOR_PERCENTILES:
        ratios = [Ratio(column, counts.astype(np.float64), counts > 0) for column in sums.T]
        lo, hi = np.array([ratio_interval(ratio, scale="plain") for ratio in ratios]).T
    else:
        drawn = Bootstrap(np.ones((1, n), bool), resamples, seed).ratios(
            sums.astype(np.float32), counts[:, None].astype(np.float32), np.zeros(m, np.intp)
        )
        lo, hi = percentile_interval(drawn[0].T)
    return values.mean(0), np.clip(lo, -1, 1), np.clip(hi, -1, 1)  # of few images, they may be outside


def agreement_rows(
    keys: Mapping[str, str], agreements: Sequence[MapAgreement], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[RowDict]:
    """Return rows of the table ``sanity`` for a model and a method.

    Parameters
    ----------
    keys : Mapping of str to str
        dataset, model and method.
    """
    groups: dict[tuple[str, int | None, int | None], list[MapAgreement]] = defaultdict(list)
    for one in agreements:
        groups[one.against, one.layers, one.of_layers].append(one)
    return [
        dict(keys) | {"against": against, "layers": layers, "of_layers": of} | _mean(own, resamples, seed)
        for (against, layers, of), own in groups.items()
    ]


def _mean(agreements: Sequence[MapAgreement], resamples: int, seed: int) -> RowDict:
    finite = [one for one in agreements if not np.isnan(one.value)]
    values = np.array([[one.value] for one in finite], float).reshape(-1, 1)
    image = np.unique([one.image for one in finite], return_inverse=True)[1]
    mean, lo, hi = mean_over_images(values, image, resamples, seed)
    ends = {"lo": null_if_nan(lo[0]), "hi": null_if_nan(hi[0])}
    return {"value": mean[0], **ends, "n": len(finite), "n_skipped": len(agreements) - len(finite)}


SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the layers, from the scores down, whose weights are shuffled; at least the last one."""

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Checked:
    """An image whose maps are compared.

    Attributes
    ----------
    crop : ndarray of uint8, shape (3, height, width)
    classes : sequence of int
    valid : frozenset of int
        The classes that are in the label set.
    maps : sequence of ndarray of float32, shape (k, h, w)
        The maps of the classes over the crop, one array for each method.
    """

    crop: npt.NDArray[np.uint8]
    classes: Sequence[int]
    valid: frozenset[int]
    maps: Sequence[Maps]


@dataclass(eq=False)
class Sanity:
    """Sanity checks, which compare the maps of the first images.

    Attributes
    ----------
    explainers : sequence of Explainer
    most : int
        Maximum number of images.
    run : Run
        Progress.
    """

    explainers: Sequence[Explainer]
    most: int
    run: Run = QUIET
    images: list[Checked] = field(default_factory=list)

    def add(self, image: Checked) -> None:
        """Keep an image, if there is room."""
        if len(self.images) < self.most and image.classes:
            self.images.append(image)

    def table(self, dataset: str, resamples: int, seed: int) -> pa.Table:
        """Return the table ``sanity``."""
        rows: list[dict[str, Any]] = []
        for place, explainer in enumerate(self.explainers):
            keys = {"dataset": dataset, "model": explainer.network.name, "method": explainer.method}
            found = [*self._among(place), *self._shuffled(place, explainer, seed)]
            rows += agreement_rows(keys, found, resamples=resamples, seed=seed)
        return pa.Table.from_pylist(rows, schema=tables.schema("sanity"))

    def _among(self, place: int) -> Iterator[MapAgreement]:
        """Yield how similar maps are to those of another class in the label set, and of the next image."""
        for i, image in enumerate(self.images):
            maps = image.maps[place]
            valid = [m for c, m in zip(image.classes, maps, strict=True) if c in image.valid]
            for one, other in itertools.combinations(valid, 2):
                yield MapAgreement("class", i, rank_correlation(one, other))
            if len(self.images) > 1:
                after = self.images[(i + 1) % len(self.images)].maps[place]
                yield MapAgreement("image", i, rank_correlation(maps[0], after[0]))

    def _shuffled(self, place: int, explainer: Explainer, seed: int) -> Iterator[MapAgreement]:
        """Yield how similar maps are to those of the network with its last layers shuffled."""
        done = set()
        for step, share in enumerate(SHARES if self.images else ()):
            network, layers, of_layers = randomised(explainer.network, share, seed)
            if layers in done:  # of a small network
                continue
            done.add(layers)
            layer = explainer.grid if explainer.method == "gradcam" else ""
            other = Explainer(network, explainer.method, layer, explainer.batch)
            for i, (image, maps) in enumerate(zip(self.images, self._maps_of(other), strict=True)):
                for before, after in zip(image.maps[place], maps, strict=True):
                    yield MapAgreement("weights", i, rank_correlation(before, after), layers, of_layers)
            if self.run.on_progress:
                self.run.on_progress(f"checking {explainer.method}", step + 1, len(SHARES))

    def _maps_of(self, explainer: Explainer) -> Iterator[Maps]:
        for start in range(0, len(self.images), explainer.batch):
            part = self.images[start : start + explainer.batch]
            yield from explainer.maps(np.stack([i.crop for i in part]), [i.classes for i in part])
