"""What defines groups of images besides the photographs: metadata, objects and embeddings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Bools
from manyhot.data.inputs import LabelsLike, Reading
from manyhot.formats.writing import PathLike
from manyhot.predict.embeddings import Embedded, embedded_in, is_array, read_embeddings
from manyhot.tables import Images, Labels, Objects
from manyhot.tables.arrays import boxes_that_fit
from manyhot.tables.image_ids import ids_like


@dataclass(frozen=True, eq=False)
class GroupEvidence:
    """What defines groups besides the photographs."""

    metadata: Images | None
    objects: Objects | None
    embedded: Embedded | None
    clusters: str | None
    reading: Reading

    def columns(self, labels: Labels) -> pa.Table | None:
        """Return the metadata of the images, one row for each image."""
        if self.metadata is None:
            return None
        at = self._rows(labels, self.metadata.image_id, self.metadata.name or "the metadata")
        table = self.metadata.table
        return table.select([n for n in table.column_names if n not in ("image_id", "uri")]).take(at)

    def present(self, labels: Labels) -> tuple[Bools, tuple[str, ...]] | None:
        """Return which objects each image shows, and the objects' names."""
        if (objects := self.objects) is None:
            return None
        ids = pa.array(list(objects.images), pa.string())
        at = np.asarray(pc.fill_null(self._rows(labels, ids, objects.name or "the objects"), -1).to_numpy())
        shown = np.zeros((len(ids) + 1, len(objects.keys)), bool)
        certain = ~objects.ignore & boxes_that_fit(objects)
        for i, rows in enumerate(objects.images.values()):
            shown[i, objects.class_id[rows][certain[rows]]] = True
        return shown[at], objects.keys

    def _rows(self, labels: Labels, ids: pa.Array, name: str) -> pa.Array:
        like = ids_like(
            ids, labels.image_id, name=name, other_name=labels.name or "the labels", match=self.reading.match
        )
        return pc.index_in(labels.image_id, like.ids)


def embeddings_of(folder: PathLike | None, labels: LabelsLike, reading: Reading) -> Embedded | None:
    """Return the embeddings in a folder or an array, or those beside the labels, if there are any."""
    if folder is None:
        is_folder = isinstance(labels, str | os.PathLike) and Path(labels).is_dir()
        return embedded_in(labels) if is_folder else None
    found = None if is_array(folder) else embedded_in(folder)
    return found or read_embeddings(folder, rows=reading.row_images())
