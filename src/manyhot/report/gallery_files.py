"""Writing a gallery as a static folder, and links from a report into it.

The folder holds one page, one script (made of a file for each view), one style sheet, small photographs and
the data in parts. Browsers refuse ``fetch`` and modules from ``file://``, where a gallery must work, too, so
data are scripts that call one function, and the page's script is a classic one. Photographs are numbered, so
that no address contains a file name of the data set.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import escape

from manyhot.core.class_errors import FALSE_POSITIVE, MISS
from manyhot.core.threads import cores
from manyhot.errors import InputError, OutputError
from manyhot.files import write_refused
from manyhot.report.gallery import LARGEST, TOP_VERDICTS, Gallery, PairError, Shot
from manyhot.report.gallery_labels import LabelPlace
from manyhot.report.page import asset
from manyhot.report.pictures import Opener, Photographs, decoded, in_files, load_pillow
from manyhot.report.text import counted
from manyhot.run import Progress

PART = 100
"""Images per part of the data: about 60 kB, read in 5 ms."""


LARGE, SMALL = 640, 160
"""Pixels of the longer side of a photograph, and of the sides of a thumbnail: about 50 and 6 kB."""


WHOLE = 10_000
"""Confidences are stored as integers out of this, which halves the data."""


_AHEAD = 64
_FOLDERS = ("photos", "thumbs", "data")
_SCRIPTS = ("gallery.js", "gallery_image.js", "gallery_grid.js", "gallery_selection.js")
_FILES = ("gallery.css", "gallery.js", "index.html")
INDEX, CALL, _UNFINISHED = "data/index.js", "manyhotGallery.", ".unfinished-"
CLASS_STATES = ("yes", "unclear", "no", "not asked", "unrecorded")


def write_gallery(
    gallery: Gallery,
    out: Path,
    *,
    photographs: Photographs | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write a gallery to the folder `out`, replacing any earlier one, and return its files.

    The same input gives the same bytes. An earlier gallery remains until the new one is complete.

    Parameters
    ----------
    photographs : Photographs, optional
        The photographs to read. By default, each is read from its own file.
    progress : callable, optional

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    InputError
        If none of the photographs can be shown.
    OutputError
        If the folder contains anything but an earlier gallery, or a file cannot be written.
    """
    pillow = load_pillow()
    _check_place(out)
    read = in_files([s.uri for s in gallery.shots]) if photographs is None else photographs
    with _beside(out) as part:
        shown = _write_photographs(pillow, read, len(gallery.shots), part, progress)
        _check_any(gallery, shown)
        names = _write_data(gallery, shown, part)
        _write(part / "gallery.css", asset("gallery.css"))
        _write(part / "gallery.js", "".join(map(asset, _SCRIPTS)))
        _write(part / "index.html", _page(gallery))
        _swap(part, out)
    return [out / name for name in (*reversed(_FILES), *names)]


def _check_place(out: Path) -> None:
    """Raise an error if a folder contains anything but an earlier gallery."""
    if out.exists() and not out.is_dir():
        raise OutputError(
            "The gallery's folder cannot be created, because a file has the same name.",
            where=out,
            do="move or rename the file",
        )
    names = [p.name for p in out.iterdir() if not p.name.startswith(_UNFINISHED)] if out.is_dir() else []
    if names and not _is_gallery(out):
        raise OutputError(
            "The folder contains something other than a gallery.",
            where=out,
            got=sorted(names)[0],
            do="choose another folder with `out`",
        )


def remove_gallery(folder: Path) -> None:
    """Remove a gallery; other files in its folder remain."""
    if _is_gallery(folder):
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()


def _is_gallery(folder: Path) -> bool:
    try:
        with (folder / INDEX).open("rb") as file:
            return file.read(len(CALL)) == CALL.encode()
    except OSError:
        return False


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Yield a temporary folder within `out`, so that moving files out of it is renaming."""
    part = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out))
        for name in _FOLDERS:
            (part / name).mkdir()
        yield part
    except OSError as error:
        raise write_refused(out / "index.html", error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()  # only if it is empty: a failed run leaves nothing


def _swap(part: Path, out: Path) -> None:
    """Replace an earlier gallery; the page goes first and comes last, so it never shows parts of both."""
    (out / "index.html").unlink(missing_ok=True)
    for name in _FOLDERS:
        if (out / name).exists():
            (out / name).rename(part / f"old {name}")
    for name in (*_FOLDERS, *_FILES):
        (part / name).replace(out / name)


_Shown = tuple[int, int] | str


def _write_photographs(
    pillow: Any, photographs: Photographs, n: int, out: Path, progress: Progress | None
) -> list[_Shown]:
    """Write each photograph in two sizes, and return its size, or why it is not shown."""
    shown: list[_Shown] = [""] * n
    # Not in each thread: filters of warnings are a setting of the whole process.
    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
        warnings.simplefilter("ignore")
        try:
            # Pillow decodes, scales and encodes without the lock of Python.
            for done, (at, result) in enumerate(_side_by_side(pool, pillow, photographs, out), 1):
                shown[at] = result
                if progress:
                    progress("photographs", done, n)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return shown


def _side_by_side(
    pool: ThreadPoolExecutor, pillow: Any, photographs: Photographs, out: Path
) -> Iterator[tuple[int, _Shown]]:
    """Yield the result of each photograph; few are in flight, because openers may hold their bytes."""
    waiting: deque[tuple[int, Future[_Shown]]] = deque()
    for at, read in photographs:
        waiting.append((at, pool.submit(_write_photograph, pillow, read, out, f"{at}.jpg")))
        if len(waiting) > _AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    yield from ((at, future.result()) for at, future in waiting)


def _write_photograph(pillow: Any, read: Opener, out: Path, name: str) -> _Shown:
    large, reason = decoded(pillow, read, LARGE)
    if large is None:
        return reason
    profile = large.info.get("icc_profile")
    large.save(out / "photos" / name, "JPEG", quality=82, icc_profile=profile)
    side = min(SMALL, *large.size)  # browsers enlarge a small photograph as well
    small = pillow.ImageOps.fit(large, (side, side))
    small.save(out / "thumbs" / name, "JPEG", quality=78, icc_profile=profile)
    return large.width, large.height


def _check_any(gallery: Gallery, shown: Sequence[_Shown]) -> None:
    if shown and all(isinstance(result, str) for result in shown):
        raise InputError(
            f"None of the {len(shown):,} photographs can be shown.",
            where=gallery.shots[0].uri,
            got=shown[0],
            do=(
                "pass their current addresses as `images`, an images table with the columns image_id and uri"
            ),
        )


def _page(gallery: Gallery) -> str:
    link = f'<a href="{escape(gallery.report)}">Report</a>' if gallery.report else ""
    values = {
        "n": f"{len(gallery):,}",
        "report": link,
        "title": str(escape(gallery.title)),
        "overall": str(escape(totals_sentence(gallery))),
    }
    # In one pass: titles and names of models might contain another placeholder.
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: values[match[1]], asset("gallery.html"))


def _write_data(gallery: Gallery, photographs: Sequence[_Shown], out: Path) -> list[str]:
    """Write the data, and return the names of the files."""
    calls: dict[str, tuple[str, Any]] = {INDEX: ("index", _index(gallery, photographs))}
    for number, part in enumerate(_parts(gallery, photographs)):
        calls[f"data/{number}.js"] = ("part", {"number": number, "images": part})
    for path, (name, data) in calls.items():
        # ASCII: U+2028 and lone surrogates are escaped.
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        _write(out / path, f"{CALL}{name}({text});\n")
    return list(calls)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _index(gallery: Gallery, photographs: Sequence[_Shown]) -> dict[str, Any]:
    """Return the columns of all images that filters need."""
    shots = gallery.shots
    kinds = sorted({kind for s in shots for kind in s.kinds} - {""})
    return {
        "title": gallery.title,
        "similarBy": gallery.similar_by,
        "call": gallery.call,
        "models": gallery.models,
        "names": {str(c): name for c, name in gallery.names.items()},
        "kinds": kinds,
        "verdicts": TOP_VERDICTS,
        "states": CLASS_STATES,
        "part": PART,
        "largest": LARGEST,
        "whole": WHOLE,
        "shown": len(gallery),
        "voted": gallery.is_voted,
        "members": {str(c): n for c, n in gallery.n_members.items() if c in gallery.names},
        "ids": [s.image_id for s in shots],
        "labels": [s.label for s in shots],
        "sets": [[c for c, state in s.label_set if state == "yes"] for s in shots],
        "known": [int(s.is_rated) for s in shots],
        "judged": ["".join(str(TOP_VERDICTS.index(v)) for v in s.verdicts) for s in shots],
        "top": [[of[0][0] if of else None for of in s.seen] for s in shots],
        "sure": [[_whole(of[0][1]) if of else None for of in s.seen] for s in shots],
        "errors": [[kinds.index(k) if k else -1 for k in s.kinds] for s in shots] if kinds else [],
        "pairs": [[_pair(e) for e in s.pair_errors] for s in shots]
        if any(s.pair_errors for s in shots)
        else [],
        "findings": gallery.findings,
        "found": [s.findings for s in shots] if gallery.findings else [],
        "absent": [i for i, result in enumerate(photographs) if isinstance(result, str)],
    }


def _parts(gallery: Gallery, photographs: Sequence[_Shown]) -> Iterator[list[dict[str, Any]]]:
    whole = [_detail(s, p) for s, p in zip(gallery.shots, photographs, strict=True)]
    for start in range(0, len(whole), PART):
        yield whole[start : start + PART]


def _detail(shot: Shot, photograph: _Shown) -> dict[str, Any]:
    return {
        "photo": photograph,
        "uri": shot.uri,
        "unclear": [c for c, state in shot.label_set if state == "unclear"],
        "rejected": shot.n_rejected,
        "remark": shot.remark,
        "places": [_place(p) for p in shot.label_places],
        "seen": [[[c, _whole(sure)] for c, sure in of] for of in shot.seen],
        "states": {str(c): CLASS_STATES.index(state) for c, state in shot.states.items()},
        "similar": {str(c): rows for c, rows in shot.similar.items() if rows},
    }


def _place(place: LabelPlace | None) -> list[int | None] | None:
    return None if place is None else [place.rank, place.n_listed, _whole(place.confidence)]


def _pair(error: PairError) -> list[int | bool | None]:
    # A class that no other image has, has no threshold.
    threshold = None if error.threshold is None or error.threshold != error.threshold else error.threshold
    is_miss = error.error == MISS
    return [error.model, error.class_id, is_miss, _whole(error.probability), _whole(threshold)]


def _whole(confidence: float | None) -> int | None:
    # Scores that are not probabilities, NaN included, are not drawn as bars.
    if confidence is None or not 0 <= confidence <= 1 + 1e-4:
        return None
    return round(min(confidence, 1.0) * WHOLE)


GALLERY_FOLDER = "gallery"
"""Folder of the gallery, beside the report's page."""


CONFIDENT = 0.9
"""Confidence above which a model is called confident; the gallery has a filter for it."""


@dataclass(frozen=True, eq=False)
class GalleryLink:
    """A summary of a report's gallery, and links into the gallery.

    Attributes
    ----------
    title : str
        The data set that the gallery shows.
    ids : frozenset of str
        Ids of the images in the gallery.
    counts : mapping of str to mapping of str to int
        For each model, the number of images with each verdict of `manyhot.report.gallery.TOP_VERDICTS`.
    confident : mapping of str to mapping of str to int
        Like `counts`, but only for images on which the model's confidence is above `CONFIDENT`.
    rated : bool
        Whether raters checked the label set of any image.
    """

    title: str
    ids: frozenset[str]
    counts: Mapping[str, Mapping[str, int]]
    confident: Mapping[str, Mapping[str, int]]
    rated: bool

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, **filters: str) -> str:
        """Return the address of the gallery with these filters."""
        fragment = urlencode(filters, quote_via=quote)
        return f"{GALLERY_FOLDER}/index.html" + (f"#{fragment}" if fragment else "")


def read_gallery_link(report: Path) -> GalleryLink | None:
    """Return the summary of the gallery in a report's folder; None if there is none."""
    folder = report / GALLERY_FOLDER
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
        index = json.loads(text.removeprefix(f"{CALL}index(").removesuffix(");\n"))
        link = GalleryLink(
            index["title"],
            frozenset(index["ids"][: index["shown"]]),
            _counts(index, 0),
            _counts(index, CONFIDENT * index["whole"]),
            any(index["known"][: index["shown"]]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return link if (folder / "index.html").is_file() else None


def _counts(index: Mapping[str, Any], above: float) -> dict[str, Counter[str]]:
    rows = list(zip(index["judged"], index["sure"], strict=True))[: index["shown"]]
    return {
        model: Counter(
            index["verdicts"][int(judged[m])] for judged, sure in rows if not above or (sure[m] or 0) > above
        )
        for m, model in enumerate(index["models"])
    }


MOST = 3
"""Largest number of models that are all named."""

_OUTCOMES = {
    "right": "right",
    "valid": "right",
    "wrong": "wrong",
    "refuted": "wrong",
    "unclear": "unclear",
    "unasked": "not asked",
    "unknown": "without labels",
    "none": "not predicted",
}
_LEFT = ("wrong", "unclear", "not asked", "without labels", "not predicted")


def totals_sentence(gallery: Gallery) -> str:
    """Return a sentence with the number of images on which each model is right; empty if there are none.

    As in real1, images on which raters found no valid class are left out.
    """
    models = gallery.models
    every = gallery.shots[: len(gallery)]
    shots = [shot for shot in every if not _is_empty(shot)]
    if not shots or not models:
        return ""
    basis, n_empty = _basis(shots), len(every) - len(shots)
    without = f" {n_empty:,} image{'s have' if n_empty > 1 else ' has'} no valid class." if n_empty else ""
    if not basis:
        return "The images have no original labels, and no rater has seen them."
    counts = [Counter(_OUTCOMES[shot.verdicts[m]] for shot in shots) for m in range(len(models))]
    n = f"{len(shots):,} image{'s' * (len(shots) != 1)}"
    if len(models) > MOST:
        return f"{basis}, {_range(models, [of['right'] for of in counts])} of {n}.{without}"
    if any(shot.pair_errors for shot in every):
        return " ".join(_pair_counts(models, every))
    each = [
        f"{m} is right on {of['right']:,} of {n}{_left(of)}" for m, of in zip(models, counts, strict=True)
    ]
    return f"{basis}, {'; '.join(each)}.{without}"


def _pair_counts(models: Sequence[str], shots: Sequence[Shot]) -> Iterator[str]:
    """Yield how many false positives and misses each model makes on these images."""
    for m, model in enumerate(models):
        of = Counter(e.error for shot in shots for e in shot.pair_errors if e.model == m)
        if of:
            n = f"{len(shots):,} image{'s' * (len(shots) != 1)}"
            missed = f"{of[MISS]:,} miss{'es' * (of[MISS] != 1)}"
            yield f"{model} makes {counted(of[FALSE_POSITIVE], 'false positive')} and {missed} on {n}."


def _is_empty(shot: Shot) -> bool:
    """Return whether raters found no class of an image valid."""
    return shot.is_rated and all(state != "yes" for _, state in shot.label_set)


def _basis(shots: Sequence[Shot]) -> str:
    """Return what right means; empty if nothing is known about any image."""
    by_set = any(shot.is_rated for shot in shots)
    by_label = any(not shot.is_rated and shot.label is not None for shot in shots)
    if by_set and by_label:
        return "By the label set or, for images that no rater has seen, by the label"
    return "By the label set" if by_set else "By the label" if by_label else ""


def _left(counts: Counter[str]) -> str:
    """Return the numbers of the other images, in brackets."""
    parts = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _LEFT if counts[outcome])
    return f" ({parts})" if parts else ""


def _range(models: Sequence[str], right: Sequence[int]) -> str:
    low, high = min(right), max(right)
    if low == high:
        return f"each of the {len(models):,} models is right on {low:,}"
    worst, best = models[right.index(low)], models[right.index(high)]
    return f"{len(models):,} models are right on {low:,} ({worst}) to {high:,} ({best})"
