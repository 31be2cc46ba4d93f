"""Whether raters will see the images of a campaign: a few are decoded as for the rating page."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from manyhot.errors import MissingExtraError
from manyhot.files import local_path
from manyhot.predict.decode import other_channels
from manyhot.report.pictures import decoded, load_pillow, opener

_TRIED = 5
_SIDE = 480


def unshown_notes(images: pa.Table) -> Iterator[str]:
    """Yield a note if some of a few images cannot be shown to raters, with the reason.

    Only files on this computer are tried, and none without Pillow.

    Parameters
    ----------
    images : pyarrow.Table
        An images table; without the column ``uri``, none is tried.
    """
    if "uri" not in images.column_names or not len(images):
        return
    try:
        pillow = load_pillow()
    except MissingExtraError:
        return
    rows = np.unique(np.linspace(0, len(images) - 1, _TRIED).astype(int))
    places = [place for place in images["uri"].take(pa.array(rows)).to_pylist() if place is not None]
    paths = [path for path in map(local_path, places) if path is not None and path.is_file()]
    log = logging.getLogger("PIL.TiffImagePlugin")  # which would print the reasons a second time
    with _disabled(log):
        reasons = {path: reason for path in paths if (reason := decoded(pillow, opener(str(path)), _SIDE)[1])}
    if reasons:
        first, reason = next(iter(reasons.items()))
        yield (
            f"{len(reasons):,} of {len(paths):,} images that were tried cannot be shown to raters, such as "
            f"{first}: {other_channels(first.read_bytes()) or reason}"
        )


@contextlib.contextmanager
def _disabled(log: logging.Logger) -> Iterator[None]:
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
