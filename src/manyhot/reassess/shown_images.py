"""Whether raters will see the images of a campaign: a few are decoded as for the rating page."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.errors import InputError, MissingExtraError
from manyhot.files import local_path
from manyhot.predict.decode import other_channels, pages_note
from manyhot.report.pictures import load_pillow

_TRIED, _MEASURED = 5, 1000


def unshown_notes(images: pa.Table) -> Iterator[str]:
    """Yield notes if some images cannot be shown to raters, with the reason.

    The headers of at most 1,000 images are compared with the app's limits, and five of the others are decoded
    by the app's own code. Only files on this computer are tried, and none without the packages of the app.

    Parameters
    ----------
    images : pyarrow.Table
        An images table; without the column ``uri``, none is tried.
    """
    if "uri" not in images.column_names or not len(images):
        return
    try:
        load_pillow()
        from manyhot.reassess.app.picture_cache import why_too_large
    except (ImportError, MissingExtraError):
        return
    log = logging.getLogger("PIL.TiffImagePlugin")  # which would print the reasons a second time
    with _disabled(log), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, which can be shown
        measured = _spread(images, _MEASURED)
        if note := pages_note(measured):
            yield note
        large = {path: reason for path in measured if (reason := why_too_large(path))}
        tried = [path for path in _spread(images, _TRIED) if path not in large]
        reasons = {path: reason for path in tried if (reason := _why_unshown(path))}
    for found, n, said in (
        (large, len(measured), "whose headers were read are too large to be shown"),
        (reasons, len(tried), "that were tried cannot be shown"),
    ):
        if found:
            first, reason = next(iter(found.items()))
            yield f"{len(found):,} of {n:,} images {said} to raters, such as {first}: {reason}"


def _spread(images: pa.Table, n: int) -> list[Path]:
    """Return the files among about `n` images that are evenly spread over the table."""
    rows = np.unique(np.linspace(0, len(images) - 1, n).astype(int))
    places = [place for place in images["uri"].take(pa.array(rows)).to_pylist() if place is not None]
    return [path for path in map(local_path, places) if path is not None and path.is_file()]


def _why_unshown(path: Path) -> str:
    """Return why the app cannot show an image; empty if it can."""
    import PIL

    from manyhot.reassess.app.picture_cache import shrunk

    try:
        shrunk(str(path), "large")
    except InputError as error:
        if reason := other_channels(path.read_bytes()):
            return reason
        unknown = isinstance(error.__cause__, PIL.UnidentifiedImageError)
        return "not an image of a known format" if unknown else str(error.details["got"])
    return ""


@contextlib.contextmanager
def _disabled(log: logging.Logger) -> Iterator[None]:
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
