"""Label sets with the ids of the images of a source."""

from __future__ import annotations

import pyarrow as pa

from manyhot.predict.sources.source import ImageSource
from manyhot.tables import Labels, count_shared
from manyhot.tables.image_ids import EXACT_SHARE, Renamed, without_option
from manyhot.tables.labels import with_ids_like


def labels_of_source(labels: Labels, source: ImageSource) -> tuple[Labels, Renamed]:
    """Return label sets with the image ids of a source, and how the ids were matched.

    The ids of streams, such as remote archives, are unknown before the streams are read, so the ids of the
    label sets must be equal to them.

    Raises
    ------
    MatchError
        If several images match one label set; see `manyhot.tables.image_ids.match_ids`.
    """
    if source.n is None:
        return labels, Renamed(labels.image_id)
    first = ids_of_source(source, 1)
    if count_shared(first, labels.image_id) >= EXACT_SHARE * max(len(first), 1):
        return labels, Renamed(labels.image_id)  # without listing a million images
    with without_option():
        return with_ids_like(labels, ids_of_source(source), other_name="the source")


def ids_of_source(source: ImageSource, parts: int | None = None) -> pa.Array:
    """Return the ids of the images in the first parts of a source, or in all of them."""
    listed = (item.image_id for part in source.parts[:parts] for item, _ in part.items())
    return pa.array(listed, pa.string())
