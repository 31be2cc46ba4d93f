"""A gallery to a static folder: one page, one script, one style sheet, small photographs, data in parts.

Browsers refuse ``fetch`` and modules from ``file://``, where a gallery must work, too: data are scripts that
call one function, and the script of the page is a classic one. Photographs are called by number, so that no
file name of a data set ever stands in an address.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import escape

from manyhot.errors import OutputError
from manyhot.files import atomic_write, refused, write_text
from manyhot.report.gallery import VERDICTS, Gallery, Shot
from manyhot.report.pictures import load_pillow, read_photograph

PART = 100
"""Images in a part of the data: some 60 kB, and a part is read in 5 ms."""

LARGE, SMALL = 640, 128
"""Pixels of the long side of a photograph, and of the sides of a thumbnail: some 50 and 4 kB."""

WHOLE = 10_000
"""Confidences are whole numbers out of this, which halves the data."""

STATES = ("yes", "unclear", "no", "not asked", "unrecorded")

Progress = Callable[[str, int, int], None]


def write_gallery(gallery: Gallery, out: Path, *, progress: Progress | None = None) -> list[Path]:
    """Write a gallery into the folder `out`, which is made anew, and return its files.

    The same input gives the same bytes.

    Raises
    ------
    MissingExtraError
        Pillow is not installed.
    OutputError
        The folder holds something else, or a file cannot be written.
    """
    pillow = load_pillow()
    _clear(out)
    photographs = _write_photographs(pillow, gallery.shots, out, progress)
    data = _write_data(gallery, photographs, out)
    written = [out / "index.html", out / "gallery.css", out / "gallery.js"]
    for path in written[1:]:
        write_text(path, _template(path.name))
    write_text(written[0], _page(gallery))
    return [*written, *data]


def _clear(out: Path) -> None:
    """Remove an earlier gallery; refuse a folder that holds anything else."""
    if out.is_dir() and any(out.iterdir()) and not (out / "gallery.js").is_file():
        raise OutputError(
            "The folder holds something other than a gallery.", where=out, do="choose another --out"
        )
    if out.exists() and not out.is_dir():
        raise OutputError("A file is where the gallery's folder would be.", where=out, do="move it")
    try:
        # No page stands over photographs of another run, whenever this one is stopped.
        (out / "index.html").unlink(missing_ok=True)
        for name in ("photos", "thumbs", "data"):
            shutil.rmtree(out / name, ignore_errors=True)
            (out / name).mkdir(parents=True)
        # First of all, so that a run that is stopped can be repeated.
        (out / "gallery.js").touch()
    except OSError as error:
        raise refused(out, error) from error


def _write_photographs(
    pillow: Any, shots: Sequence[Shot], out: Path, progress: Progress | None
) -> list[tuple[int, int] | str]:
    """Write each photograph in two sizes; return the size of each large one, or why there is none."""

    def write(at: int) -> tuple[int, int] | str:
        # Pillow decodes, scales and encodes without the lock of Python.
        large, reason = read_photograph(pillow, shots[at].uri, LARGE)
        if large is None:
            return reason
        _save(large, out / "photos" / f"{at}.jpg", 82)
        square = pillow.ImageOps.fit(large, (SMALL, SMALL))
        _save(square, out / "thumbs" / f"{at}.jpg", 78)
        return large.width, large.height

    # Here and not in each thread: what warns is a setting of the whole process.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        found = []
        try:
            for size in pool.map(write, range(len(shots))):
                found.append(size)
                if progress:
                    progress("photographs", len(found), len(shots))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _save(image: Any, path: Path, quality: int) -> None:
    try:
        image.save(path, "JPEG", quality=quality)
    except OSError as error:
        raise refused(path, error) from error


def _page(gallery: Gallery) -> str:
    page = _template("gallery.html")
    return page.replace("{{ title }}", str(escape(gallery.title))).replace("{{ n }}", f"{len(gallery):,}")


def _template(name: str) -> str:
    return (files("manyhot.report") / "templates" / name).read_text(encoding="utf-8")


def _write_data(gallery: Gallery, photographs: Sequence[tuple[int, int] | str], out: Path) -> list[Path]:
    index = out / "data" / "index.js"
    _write_call(index, "index", _index(gallery, photographs))
    written = [index]
    for number, part in enumerate(_parts(gallery, photographs)):
        path = out / "data" / f"{number}.js"
        _write_call(path, "part", {"number": number, "images": part})
        written.append(path)
    return written


def _write_call(path: Path, name: str, data: Any) -> None:
    # ASCII: U+2028 and what is no character at all stand as escapes.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    with atomic_write(path) as part:
        part.write_text(f"manyhotGallery.{name}({text});\n", encoding="ascii", newline="\n")


def _index(gallery: Gallery, photographs: Sequence[tuple[int, int] | str]) -> dict[str, Any]:
    """Return what filters need of all images, column by column."""
    shots = gallery.shots
    kinds = sorted({kind for s in shots for kind in s.kinds} - {""})
    return {
        "title": gallery.title,
        "similarBy": gallery.similar_by,
        "call": gallery.call,
        "models": gallery.models,
        "names": {str(c): name for c, name in gallery.names.items()},
        "kinds": kinds,
        "verdicts": VERDICTS,
        "states": STATES,
        "part": PART,
        "whole": WHOLE,
        "ids": [s.image_id for s in shots],
        "labels": [s.label for s in shots],
        "sets": [[c for c, state in s.label_set if state == "yes"] for s in shots],
        "known": [int(s.known) for s in shots],
        "judged": ["".join(str(VERDICTS.index(v)) for v in s.verdicts) for s in shots],
        "top": [[of[0][0] if of else None for of in s.seen] for s in shots],
        "sure": [[_whole(of[0][1]) if of else None for of in s.seen] for s in shots],
        "errors": [[kinds.index(k) if k else -1 for k in s.kinds] for s in shots] if kinds else [],
        "absent": [i for i, told in enumerate(photographs) if isinstance(told, str)],
    }


def _parts(gallery: Gallery, photographs: Sequence[tuple[int, int] | str]) -> Iterator[list[dict[str, Any]]]:
    whole = [_detail(s, p) for s, p in zip(gallery.shots, photographs, strict=True)]
    for start in range(0, len(whole), PART):
        yield whole[start : start + PART]


def _detail(shot: Shot, photograph: tuple[int, int] | str) -> dict[str, Any]:
    return {
        "photo": photograph,
        "unclear": [c for c, state in shot.label_set if state == "unclear"],
        "rejected": shot.n_rejected,
        "remark": shot.remark,
        "seen": [[[c, _whole(sure)] for c, sure in of] for of in shot.seen],
        "states": {str(c): STATES.index(state) for c, state in shot.states.items()},
        "similar": {str(c): rows for c, rows in shot.similar.items() if rows},
    }


def _whole(confidence: float | None) -> int | None:
    # Scores that are no probabilities, NaN included, are none to draw as bars.
    known = confidence is not None and 0 <= confidence <= 1 + 1e-4
    return round(min(confidence, 1.0) * WHOLE) if known and confidence is not None else None
