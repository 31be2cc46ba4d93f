"""Ids of images: how they are written, and how those of two files correspond if they are written differently.

An id is a name, with folders if its file names folders. Two files may write the ids of the same images with
other leading folders, extensions or letter case. Columns of ids are listed by preference.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.distinct import distinct_keys
from manyhot.errors import InputError, MatchError
from manyhot.parameters import is_whole

AUTO, EXACT = "auto", "exact"
_PATH, _NAME, _STEM, _CASE, _NUMBER, _UNICODE = "path", "name", "stem", "case", "number", "unicode"
_IGNORED = {
    _PATH: "leading folders",
    _NAME: "folders",
    _STEM: "extensions",
    _CASE: "letter case",
    _NUMBER: "leading zeros and .0 of whole numbers",
    _UNICODE: "Unicode forms and spaces at the ends",
}
"""What each way ignores. Without folders, an id is its last part; without leading folders, one id is the end
of the other, from one of its folders on."""

_LADDER = (
    *(way for count in (1, 2, 3) for way in itertools.combinations((_PATH, _STEM, _CASE), count)),
    *((_NUMBER,), (_STEM, _NUMBER)),
)
"""What ``auto`` tries, in this order. It never ignores folders in which ids differ: ``train/1.jpg`` and
``val/1.jpg`` are two images. Spreadsheets and frames write 0042 as 42 or 42.0."""

EXACT_SHARE = 0.1
"""Other ways are tried if less than this share of the smaller file's ids are in the other file."""

MATCHED_SHARE = 0.5
"""A way is taken if it matches at least this share of the smaller file's ids."""

_EXTENSION = r"([^/])\.[A-Za-z][A-Za-z0-9]{1,4}$"
_DO = "in both files, include in each id the folders that distinguish the images"
_NORMAL = ((r"^(\./+)+", ""), (r"/(\./+)+", "/"), (r"([^:/])/{2,}", r"\1/"), (r"(?s)^.*/$", ""))
_DEPTH = 100
"""Folders that are removed at most; the paths of file systems have fewer."""

Rows = npt.NDArray[np.int64]

_TEXTS = (str, os.PathLike)
_ROWS = "one id for each row (text or a whole number), as a list, an array or an index; or a file of them"


def normal_ids(names: pa.Array) -> pa.Array:
    """Return names as ids: with slashes, and without ``./``, ``/./`` and double slashes.

    A name that ends in a slash is a folder, not an image. It becomes an empty id, which tables reject.
    """
    ids = pc.replace_substring(names, "\\", "/")
    for pattern, by in _NORMAL:
        ids = pc.replace_substring_regex(ids, pattern, by)
    return ids


def row_ids(rows: Iterable[object]) -> pa.Array:
    """Return the image id of each row from a list, an array, an index or a column.

    Raises
    ------
    InputError
        If these are not ids: text, paths or whole numbers.
    """
    if _has_columns(rows) or not isinstance(rows, Iterable):
        raise InputError(
            "These are not the ids of rows.",
            where="`rows`",
            got=f"{'a table' if _has_columns(rows) else 'an object'} of type {type(rows).__name__}",
            allowed=_ROWS,
            do="pass its column or index with the ids" if _has_columns(rows) else None,
        )
    ids = _listed(rows)
    wrong = next((i for i, v in enumerate(ids) if not is_whole(v) and not isinstance(v, _TEXTS)), None)
    if wrong is not None or not ids:
        raise InputError(
            "These are not the ids of rows.",
            where="`rows`" if wrong is None else f"`rows`, position {wrong:,}",
            got="none" if wrong is None else repr(ids[wrong]),
            allowed=_ROWS,
        )
    return normal_ids(pa.array([os.fspath(v) if isinstance(v, _TEXTS) else str(v) for v in ids], pa.string()))


def _has_columns(values: object) -> bool:
    return isinstance(values, Mapping) or hasattr(values, "columns") or hasattr(values, "column_names")


def _listed(values: Iterable[object]) -> list[object]:
    """Return the Python objects in a list, or in an array or a column of any library."""
    for name in ("tolist", "to_list", "to_pylist"):
        if callable(as_list := getattr(values, name, None)):
            found = as_list()
            return found if isinstance(found, list) else [found]
    return list(values)


def first_unique(*levels: Sequence[str]) -> Sequence[str]:
    """Return the first of several id lists that has no duplicates; the last list if all have duplicates.

    This names the images of a folder by their base names, as published label sets do, or by their paths if
    two images have the same base name.
    """
    return next((ids for ids in levels if len(set(ids)) == len(ids)), levels[-1])


def check_match(match: str) -> None:
    """Raise an error for an unknown way to match ids."""
    ways = match.split("+")
    known = match in (AUTO, EXACT) or "/" in match
    if not known and not (set(ways) <= _IGNORED.keys() - {_UNICODE} and len(set(ways)) == len(ways)):
        raise InputError(
            "There is no such way to match ids.",
            where="`match`",
            got=match or "nothing",
            allowed=f"{AUTO}, {EXACT}; {_PATH}, {_NAME}, {_STEM}, {_CASE}, {_NUMBER}, or several of them "
            "joined by +; or a leading folder to remove, such as val/",
        )


@dataclass(frozen=True, eq=False)
class Matching:
    """The ids of two files that refer to the same images.

    Attributes
    ----------
    left, right : ndarray of int64, shape (m,)
        Id ``left[i]`` of one file and id ``right[i]`` of the other are the same image. `left` ascends.
    ignored : tuple of str
        How the ids differ; empty if they are equal.
    """

    left: Rows
    right: Rows
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return max(len(distinct_keys(self.left)), len(distinct_keys(self.right)))

    @property
    def is_one_to_one(self) -> bool:
        """Whether each id has at most one match."""
        return len(distinct_keys(self.left)) == len(distinct_keys(self.right)) == len(self.left)

    def differing(self, left: pa.Array, right: pa.Array) -> Rows:
        """Return the positions of the pairs of ids that are not equal."""
        if not self.ignored:
            return np.zeros(0, np.int64)
        return np.flatnonzero(pc.not_equal(left.take(pa.array(self.left)), right.take(pa.array(self.right))))

    def describe(self, left: pa.Array, right: pa.Array) -> str:
        """Return how many ids differ and how, with an example; empty if none differs."""
        differ = self.differing(left, right)
        if not len(differ):
            return ""
        one, other = left[int(self.left[differ[0]])], right[int(self.right[differ[0]])]
        return (
            f"{len(differ):,} image{' is' if len(differ) == 1 else 's are'} matched without regard to "
            f"{_ignored(self.ignored)}, such as {other} with {one}"
        )


def match_ids(
    left: pa.Array, right: pa.Array, *, left_name: str, right_name: str, match: str = AUTO
) -> Matching:
    """Match two columns of unique ids of images.

    With ``auto``, ids must be equal if at least a tenth of the smaller column is in the other. Otherwise,
    leading folders, extensions and letter case are ignored, first alone and then in combination, and then
    the zeros at the ends of whole numbers. The first way that matches at least half of the smaller column is
    used.

    Parameters
    ----------
    left, right : pyarrow.Array of string
    left_name, right_name : str
        Names of the two columns in messages.
    match : str
        ``auto``; ``exact``; what to ignore: ``path`` (one id is the end of the other), ``name`` (all
        folders), ``stem`` (extensions), ``case``, ``number`` (leading zeros and a final ``.0`` of whole
        numbers), or several of them joined by ``+``; or a folder such as ``val/``, which is removed from the
        ids of one side. Ids of this side that do not begin with the folder are not matched.

    Raises
    ------
    InputError
        If `match` is unknown.
    MatchError
        If two ids of a file match the same id of the other.
    """
    exact = Matching(*_as_pairs(_positions(left, right)))
    if match == EXACT or (match == AUTO and len(exact) == min(len(left), len(right))):
        return exact
    check_match(match)
    names = (left_name, right_name)
    if "/" in match:
        return _below(left, right, match, names)
    if match != AUTO:
        found = _matched(left, right, tuple(match.split("+")))
        if not found.is_one_to_one:
            raise _ambiguous(found, left, right, names)
        return found
    return _first_way(left, right, exact, names)


@dataclass(frozen=True, eq=False)
class Renamed:
    """The ids of a file, in the form in which another file writes them.

    Attributes
    ----------
    ids : pyarrow.Array of string, shape (n,)
        Ids without a match are unchanged.
    n : int
        Number of replaced ids.
    text : str
        How the ids were matched, with an example; empty if all matched ids are equal.
    """

    ids: pa.Array
    n: int = 0
    text: str = ""


def ids_like(ids: pa.Array, others: pa.Array, *, name: str, other_name: str, match: str = AUTO) -> Renamed:
    """Return ids in the form in which another file writes them.

    Raises
    ------
    InputError
        As in `match_ids`.
    """
    if ids.equals(others):
        return Renamed(ids)
    found = match_ids(others, ids, left_name=other_name, right_name=name, match=match)
    if not (n := len(found.differing(others, ids))):
        return Renamed(ids)
    at = np.arange(len(ids))
    at[found.right] = len(ids) + found.left
    return Renamed(pa.concat_arrays([ids, others]).take(pa.array(at)), n, found.describe(others, ids))


@contextlib.contextmanager
def without_option() -> Iterator[None]:
    """Omit the option `match` from errors for ambiguous ids, in functions without this option."""
    try:
        yield
    except MatchError as error:
        raise MatchError(error.what, **{**error.details, "do": _DO}) from error  # type: ignore[arg-type]


def nearest_way(left: pa.Array, right: pa.Array) -> str:
    """Return advice on which way of matching matches the most ids; empty if none matches any ids."""
    ways = [(_NAME,), *_LADDER, *((_NAME, *way) for way in _LADDER if _PATH not in way)]
    found = [("+".join(way), _matched(left, right, way)) for way in ways]
    for folder in filter(None, map(common_folder, (left, right))):
        with contextlib.suppress(MatchError):
            found.append((folder, _below(left, right, folder, ("", ""))))
    found = [(way, one) for way, one in found if one.is_one_to_one and len(one)]
    if not found:
        return _for_queries_or_products(left, right)
    way, best = max(found, key=lambda one: len(one[1]))
    return f"if these are the same images, pass `match`={way}: {best.describe(left, right)}"


def _for_queries_or_products(left: pa.Array, right: pa.Array) -> str:
    """Return advice if ids are URLs with a query, or if ids of one table begin with those of the other."""
    if any(pc.any(pc.match_substring_regex(ids, r"://.*\?")).as_py() for ids in (left, right)):
        return "remove what follows the question mark of URLs in both tables"
    for few, many in ((left, right), (right, left)):
        begins = pc.replace_substring_regex(many, r"[^A-Za-z0-9][A-Za-z0-9]*(\.[A-Za-z0-9]+)?$", "")
        if pc.any(pc.is_in(begins, value_set=few)).as_py() and len(pc.unique(begins)) < len(begins):
            return (
                "if one table has a row per product and the other one per photograph, join them first, so "
                "that each photograph has a row with the labels of its product, and pass the product as "
                "`clusters`"
            )
    return ""


def missed_way(left: pa.Array, right: pa.Array) -> str:
    """Return advice for two files in which only some ids are equal, and most others match in another way.

    Empty if there is no such way. ``auto`` does not use it, because the other images may be different ones.
    """
    exact = Matching(*_as_pairs(_positions(left, right)))
    rest = min(len(left), len(right)) - len(exact)
    if not rest:
        return ""
    found, least = (_matched(left, right, way) for way in _LADDER), len(exact) + MATCHED_SHARE * rest
    more = next((one for one in found if len(one) >= least and one.is_one_to_one), None)
    if more is None:
        return ""
    return (
        f"{len(exact):,} ids are equal, and {len(more) - len(exact):,} others are only equal without regard "
        f"to {_ignored(more.ignored)}; if these are the same images, pass `match`={'+'.join(more.ignored)}"
    )


def common_folder(ids: pa.Array) -> str:
    """Return the folders with which all ids begin."""
    ends = pc.min_max(ids).values()
    folders = [str(end).split("/")[:-1] for end in ends]
    same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*folders, strict=False)))
    return "".join(f"{name}/" for name, _ in same)


def _first_way(left: pa.Array, right: pa.Array, exact: Matching, names: tuple[str, str]) -> Matching:
    """Return what ``auto`` does with ids that are not all equal."""
    least = min(len(left), len(right))
    same = _matched(left, right, (_UNICODE,))
    if same.is_one_to_one and len(same) > len(exact):
        exact = same
    if len(exact) >= EXACT_SHARE * least:
        return exact
    ambiguous = None
    for way in _LADDER:
        found = _matched(left, right, way)
        if len(found) < max(1, MATCHED_SHARE * least):
            continue
        if found.is_one_to_one:
            return found
        ambiguous = ambiguous or found
    if ambiguous is not None and not len(exact):
        raise _ambiguous(ambiguous, left, right, names)
    return exact


def _matched(left: pa.Array, right: pa.Array, ways: tuple[str, ...]) -> Matching:
    """Return the pairs of ids that are equal if something is ignored. They may be ambiguous."""
    found = _pairs(_keys(left, ways), _keys(right, ways), by_end=_PATH in ways)
    return Matching(found.left, found.right, ways)


def _below(left: pa.Array, right: pa.Array, folder: str, names: tuple[str, str]) -> Matching:
    """Match ids after a leading folder is removed on each side on which it occurs."""
    folder = normal_ids(pa.array([folder.rstrip("/\\") + "/x"]))[0].as_py().removesuffix("x")
    rows, keys = [], []
    for ids in (left, right):
        inside = np.flatnonzero(pc.starts_with(ids, folder))
        rows.append(inside if len(inside) else np.arange(len(ids)))
        chosen = ids.take(pa.array(rows[-1]))
        keys.append(pc.utf8_slice_codeunits(chosen, len(folder)) if len(inside) else chosen)
    found = match_ids(keys[0], keys[1], left_name=names[0], right_name=names[1])
    ignored = tuple(dict.fromkeys((_PATH, *found.ignored)))
    return Matching(rows[0][found.left], rows[1][found.right], ignored)


def _keys(ids: pa.Array, ways: tuple[str, ...]) -> pa.Array:
    ids = pc.utf8_trim_whitespace(ids)
    if not pc.all(pc.string_is_ascii(ids)).as_py():
        ids = pc.utf8_normalize(ids, "NFC")
    if _NAME in ways:
        ids = pc.replace_substring_regex(ids, r"^.*/(.)", r"\1")
    if _STEM in ways:
        ids = pc.replace_substring_regex(ids, _EXTENSION, r"\1")
    if _NUMBER in ways:
        ids = pc.replace_substring_regex(ids, r"(^|/)0*([0-9]+)(\.0)?$", r"\1\2")
    return pc.utf8_lower(ids) if _CASE in ways else ids


def _pairs(left: pa.Array, right: pa.Array, *, by_end: bool = False) -> Matching:
    """Return all pairs of equal keys, or of keys of which one is the end of the other.

    Equal keys come first. Each other key is matched with its longest end that is left on the other side.
    """
    own, theirs = _positions(left, right), _positions(right, left)
    found = [_as_pairs(own), _as_pairs(theirs)[::-1]]
    if by_end:
        rest = [np.flatnonzero(at < 0) for at in (own, theirs)]
        keys = [side.take(pa.array(rows)) for side, rows in zip((left, right), rest, strict=True)]
        found += [(rest[0][a], rest[1][b]) for a, b in _by_end(keys[0], keys[1])]
        found += [(rest[0][a], rest[1][b]) for b, a in _by_end(keys[1], keys[0])]
    width = max(len(right), 1)
    pairs = distinct_keys(np.concatenate([a * width + b for a, b in found]))
    return Matching(pairs // width, pairs % width)


def _by_end(longer: pa.Array, shorter: pa.Array) -> Iterator[tuple[Rows, Rows]]:
    """Yield the rows of keys, and those of their longest ends among others, folder by folder."""
    rows, keys = np.arange(len(longer)), longer
    row_of = np.full(len(shorter), -1)
    for _ in range(_DEPTH if len(shorter) else 0):
        nested = np.flatnonzero(pc.match_substring(keys, "/"))
        if not len(nested):
            break
        rows, keys = rows[nested], keys.take(pa.array(nested))
        keys = pc.replace_substring_regex(keys, r"^[^/]*/", "", max_replacements=1)
        at = _positions(keys, shorter)
        row_of[at[at >= 0]] = rows[at >= 0]
        yield rows[at >= 0], at[at >= 0]
        rows, keys = rows[at < 0], keys.filter(pa.array(at < 0))
    # Without their extensions, two of the others may be equal; only the first has been matched.
    first = _positions(shorter, shorter)
    again = np.flatnonzero((first != np.arange(len(shorter))) & (row_of[first] >= 0))
    yield row_of[first[again]], again


def _positions(own: pa.Array, others: pa.Array) -> Rows:
    """Return the first row of each key among others; -1 if it is not there."""
    found: Rows = pc.fill_null(pc.index_in(own, others), -1).to_numpy().astype(np.int64)
    return found


def _as_pairs(at: Rows) -> tuple[Rows, Rows]:
    rows = np.flatnonzero(at >= 0)
    return rows, at[rows]


def _ambiguous(matching: Matching, left: pa.Array, right: pa.Array, names: tuple[str, str]) -> MatchError:
    """Return the error for ids that match several others, with an example."""
    sides = [
        (matching.right, right, matching.left, left, *names[::-1]),
        (matching.left, left, matching.right, right, *names),
    ]
    one, ids, other, of, many_name, one_name = max(sides, key=lambda side: np.bincount(side[2]).max())
    counts = np.bincount(other)
    at = int(np.argmax(counts > 1))
    examples = [str(ids[int(row)]) for row in one[other == at][:2]]
    more = int(np.count_nonzero(counts > 1)) - 1
    ends = [e.removesuffix(str(of[at])) for e in examples]
    folder = next((e for e, whole in zip(ends, examples, strict=True) if e != whole and e.endswith("/")), "")
    settle = f"pass the leading folder to remove, such as `match`={folder}" if folder else ""
    return MatchError(
        f"An id of {one_name} matches several ids of {many_name}.",
        got=f"{' and '.join(examples)} for {of[at]}" + (f", and {more:,} more such ids" if more else ""),
        allowed=f"ids that differ in more than {_ignored(matching.ignored)}",
        do="; or ".join(filter(None, (_DO, settle, f"pass `match`={EXACT}"))),
    )


def _ignored(ways: Sequence[str]) -> str:
    words = [_IGNORED[way] for way in ways]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


IMAGE_NAME_COLUMNS = (
    *("image_id", "filename", "file_name", "fname", "file", "filepath", "path", "image", "image_path"),
    *("image_name", "image_index", "imageid", "img", "img_id", "img_name", "img_path", "image_file"),
    *("image_filename", "img_filename", "image_uuid", "patch_id", "patch_name", "photo_id", "id_code"),
    *("dicom_id", "image\\label", "bild", "datei", "dateiname", "foto", "id", "uuid"),
    *("unnamed:_0", "__index_level_0__", ""),
)
"""Columns with the names of images, by preference; the last three are the index of pandas, or of R.

Words that may be classes or other things are left out: in SkinCon, *patch* is a class of 0 and 1.
"""


def fold_name(column: str) -> str:
    """Return the name of a column in lower case, with underscores instead of spaces, hyphens and dots."""
    return re.sub(r"[\s.\-]+", "_", column.strip()).casefold()


def check_columns_once(columns: Iterable[str], where: object) -> None:
    """Raise an error if two columns have the same name: neither, or only the first, can be selected."""
    name, count = next(iter(Counter(columns).most_common(1)), ("", 0))
    if count > 1:
        raise InputError(
            "Two columns of the table have the same name.",
            where=where,
            got=repr(name),
            allowed="each name once",
            do="rename or remove one of them",
        )


def image_name_column(columns: Iterable[str]) -> str | None:
    """Return the column with image names; None if there is none."""
    return first_column(columns, IMAGE_NAME_COLUMNS)


def first_column(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first of `names` that is the name of a column; None if none is."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(fold_name(column), column)
    return next((by_name[name] for name in names if name in by_name), None)
