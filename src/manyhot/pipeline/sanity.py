"""Do maps hang on what a network learnt and on the class asked about? They are compared with others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot import tables
from manyhot.models.explain import Explainer
from manyhot.models.layers import randomised
from manyhot.pipeline.common import Progress
from manyhot.steps.localising import Agreement, agreements, alike

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Of the layers, from the scores down, whose weights are shuffled; at least the last one."""

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Checked:
    """An image whose maps are compared.

    Attributes
    ----------
    crop : ndarray of uint8, shape (3, height, width)
    classes : sequence of int
    valid : frozenset of int
        Those in the label set.
    maps : sequence of ndarray of float32, shape (k, h, w)
        Of each method, for each class, over the crop.
    """

    crop: npt.NDArray[np.uint8]
    classes: Sequence[int]
    valid: frozenset[int]
    maps: Sequence[Maps]


@dataclass(eq=False)
class Sanity:
    """Collects the first images and compares their maps.

    Attributes
    ----------
    explainers : sequence of Explainer
    most : int
        Images.
    progress : callable, optional
    """

    explainers: Sequence[Explainer]
    most: int
    progress: Progress | None = None
    images: list[Checked] = field(default_factory=list)

    def add(self, image: Checked) -> None:
        """Keep an image, if there is room."""
        if len(self.images) < self.most and image.classes:
            self.images.append(image)

    def table(self, dataset: str, resamples: int, seed: int) -> pa.Table:
        """Return the table ``sanity``."""
        rows: list[dict[str, Any]] = []
        for place, explainer in enumerate(self.explainers):
            told = {"dataset": dataset, "model": explainer.network.name, "method": explainer.method}
            found = [*self._among(place), *self._shuffled(place, explainer, seed)]
            rows += agreements(told, found, resamples=resamples, seed=seed)
        return pa.Table.from_pylist(rows, schema=tables.schema("sanity"))

    def _among(self, place: int) -> Iterator[Agreement]:
        """Yield how alike maps are to those of another class in the label set, and of the next image."""
        for i, image in enumerate(self.images):
            maps = image.maps[place]
            valid = [m for c, m in zip(image.classes, maps, strict=True) if c in image.valid]
            for one, other in itertools.combinations(valid, 2):
                yield Agreement("class", i, alike(one, other))
            if len(self.images) > 1:
                after = self.images[(i + 1) % len(self.images)].maps[place]
                yield Agreement("image", i, alike(maps[0], after[0]))

    def _shuffled(self, place: int, explainer: Explainer, seed: int) -> Iterator[Agreement]:
        """Yield how alike maps are to those of the network without what its last layers learnt."""
        done = set()
        for step, share in enumerate(SHARES if self.images else ()):
            network, layers, of_layers = randomised(explainer.network, share, seed)
            if layers in done:  # of a small network
                continue
            done.add(layers)
            layer = explainer.grid if explainer.method == "gradcam" else ""
            other = Explainer(network, explainer.method, layer, explainer.batch)
            for i, (image, maps) in enumerate(zip(self.images, self._anew(other), strict=True)):
                for before, after in zip(image.maps[place], maps, strict=True):
                    yield Agreement("weights", i, alike(before, after), layers, of_layers)
            if self.progress is not None:
                self.progress(f"checking {explainer.method}", step + 1, len(SHARES))

    def _anew(self, explainer: Explainer) -> Iterator[Maps]:
        for start in range(0, len(self.images), explainer.batch):
            part = self.images[start : start + explainer.batch]
            yield from explainer.maps(np.stack([i.crop for i in part]), [i.classes for i in part])
