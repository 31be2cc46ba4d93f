"""Cells of text that name one class or several, what divides the names, and other lists in cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.class_names import lookup_in
from manyhot.formats.headers import is_plural
from manyhot.formats.reading import cut_for_message

SEPARATORS = ("\n", "|", ";", ",")
"""Separators of names in a cell, by preference. Without one, spaces separate the names in a column whose name
ends in s."""

_RARE_SEPARATORS = (" / ", " : ", " ")
"""Separators that are only recognised by the names that they separate."""

_N_TRIED = 1000
"""Number of cells in which separators are tried."""

Splitter = Callable[[str], Sequence[str]]


def splitter(
    column: str, cells: Iterable[str], classes: ClassList | None, separator: str, where: str, by_row: bool
) -> Splitter:
    """Return a function that divides a cell into names. A cell that is a class of `classes` is one name.

    If `by_row` is true, images have several rows, so commas that may be part of a name are read as such,
    unless the name of the column is plural.

    Raises
    ------
    InputError
        If commas may separate names or be part of them, or if a cell contains an object of JSON or Python.
    """
    cells = list(cells)
    _check_no_objects(cells, where)
    if separator:
        return lambda cell: cell.split(separator)
    lookup = lookup_in(classes or class_list())
    plain = [text for cell in cells if (text := cell.strip()) and not text.startswith("[")]
    unknown = [cell for cell in plain if lookup(cell) is None]
    if not unknown:
        return lambda cell: [cell]  # such as 'great white shark, white shark'
    if classes is not None and (divide := _dividing_into_most(classes, unknown)):
        return divide
    chosen = next((s for s in SEPARATORS if any(s in cell for cell in plain)), None) if not classes else None
    if chosen == ",":
        try:
            check_commas(column, plain, where)
        except InputError:
            if not by_row or is_plural(column):
                raise
            return lambda cell: [cell]
    if chosen or is_plural(column) or all(re.fullmatch(r"[\d\s]*", cell) for cell in plain):
        return lambda cell: [cell] if classes is not None and lookup(cell) is not None else cell.split(chosen)
    return lambda cell: [cell]


def _dividing_into_most(classes: ClassList, cells: Iterable[str]) -> Splitter | None:
    """Return the function that divides most cells into names of `classes` alone; None without separators."""
    tried = [*dict.fromkeys(cells)][:_N_TRIED]
    lookup = lookup_in(classes)
    found = list[tuple[int, Splitter]]()
    for separator in (*SEPARATORS, *_RARE_SEPARATORS):
        divided = [cell for cell in tried if separator in cell]
        if not divided:
            continue
        divide = dividing_between_names(classes, separator)
        n_whole = sum(all(lookup(name.strip()) is not None for name in divide(cell)) for cell in divided)
        # Words of a name that is not in the list may be names, too, so that spaces must divide most cells.
        if separator in SEPARATORS or n_whole > (len(divided) / 2 if separator == " " else 0):
            found.append((n_whole, divide))
    return max(found, key=itemgetter(0))[1] if found else None


_OBJECT = re.compile(r"""\s*\[?\s*\{\s*["']""")


def _check_no_objects(cells: Iterable[str], where: str) -> None:
    odd = next((cell for cell in cells if _OBJECT.match(cell)), None)
    if odd is not None:
        raise InputError(
            "The cells are JSON objects, not names of classes.",
            where=where,
            got=cut_for_message(odd),
            allowed='names such as cat|dog, or lists of names such as ["cat", "dog"]',
            do="write the names of the valid classes of each image, or one column of 0 and 1 per class",
        )


def dividing_between_names(classes: ClassList, separator: str) -> Splitter:
    """Return a function that divides a cell at separators, except within names of `classes`.

    Among the ways to divide a cell, the one with the fewest parts that are not classes is chosen, and then
    the one with the fewest parts, so that *Beaches, dunes, sands* is not divided although *sands* is a class.
    """
    lookup = lookup_in(classes)
    widest = 1 + max((name.count(separator) for name in (*classes.descriptions, *classes.keys)), default=0)

    def divide(cell: str) -> list[str]:
        if lookup(cell.strip()) is not None:
            return [cell]
        pieces = cell.split(separator)
        best: list[tuple[int, int, list[str]]] = [(0, 0, [])]
        for end in range(1, len(pieces) + 1):
            ways = []
            for start in range(max(0, end - widest), end):
                name = separator.join(pieces[start:end])
                is_class = lookup(name.strip()) is not None
                if is_class or end - start == 1:
                    n_unknown, n_parts, names = best[start]
                    ways.append((n_unknown + (not is_class), n_parts + 1, [*names, name]))
            best.append(min(ways))
        return best[-1][2]

    return divide


def check_commas(column: str, cells: Iterable[str], where: str) -> None:
    """Raise an error if commas in cells may be part of names, such as *Transport, road*.

    Commas separate names if all cells are lists, or if each name in a list is also a cell or a class of
    ImageNet-1k. Commas in names are usually followed by a space. If no comma is, it is enough that one name
    in a list is a cell or a class, or also occurs at another place of another list. The first part of
    ``Pepper,_bell___healthy`` and ``Pepper,_bell___Bacterial_spot`` does not; in a column whose name is
    plural, another list is enough.
    """
    lookup = lookup_in(class_list())
    texts = [cell.strip() for cell in cells]
    lists = [text for text in texts if "," in text]
    single = {text for text in texts if text and "," not in text}
    parts = {(part.strip(), text, n) for text in lists for n, part in enumerate(text.split(","))}
    by = 1 if is_plural(column) else 2
    names = Counter(name for name, _ in {(part[0], part[by]) for part in parts if part[0]})
    unseen = {n for n in names if n not in single and not n.isdigit() and lookup(n) is None}
    if not unseen or not single:
        return
    is_shared = len(unseen) < len(names) or max(names.values()) > 1
    if is_shared and not any(re.search(r",\s", text) for text in lists):
        return
    example = next(text for text in lists if any(part.strip() in unseen for part in text.split(",")))
    raise InputError(
        "Commas may separate the classes of an image or be part of the names of classes.",
        where=where,
        got=f"{cut_for_message(example)}, beside {cut_for_message(min(single))}; no image has only "
        f"{cut_for_message(min(unseen))}",
        allowed="cells in which each name also occurs alone, or names that are separated by | or ;",
        do="pass the list of all classes as `classes`, which resolves this; or read the file with manyhot "
        "convert or read_labels and a format: label-lists(separator=',') divides the cells, and "
        "label-lists(separator='|') keeps them whole",
    )


_N_SIDE_BY_SIDE = 3
"""Number of different cells from which names that are only found side by side may be parts of one name."""


def note_on_spaces(cells: Iterable[str], where: str) -> str:
    """Return a note on cells divided at spaces that may be names, such as *Aphis fabae*; empty without any.

    In lists of tags, some tag is first in one cell, or alone, and follows another tag in a different cell. In
    names of several words, a first word never follows another word.
    """
    lists = [words for cell in cells if not cell.startswith("[") and (words := cell.split())]
    first, others = {words[0] for words in lists}, {word for words in lists for word in words[1:]}
    if sum(len(words) > 1 for words in lists) < _N_SIDE_BY_SIDE or first & others:
        return ""
    example = next(words for words in lists if len(words) > 1)
    return (
        f"{where} is divided at spaces, but {cut_for_message(example[1])!r} is never the first or only word "
        f"of a cell, as in {cut_for_message(' '.join(example))!r}; if spaces are part of names, rename the "
        "column to label, or pass the list of all classes as `classes`"
    )


def note_on_commas(cells: Iterable[str], where: str) -> str:
    """Return a note on names that lists with commas only contain side by side; empty if there are none."""
    lists = [[part.strip() for part in cell.split(",")] for cell in cells if re.search(r",\s", cell)]
    n_names = Counter(name for names in lists for name in names)
    pairs = Counter(pair for names in lists for pair in pairwise(names))
    for (first, second), n in pairs.items():
        if n >= _N_SIDE_BY_SIDE and n == n_names[first] == n_names[second]:
            return (
                f"{where} is divided at commas, but {cut_for_message(first)!r} and "
                f"{cut_for_message(second)!r} only occur side by side; if commas are part of names, pass the "
                "list of all classes as `classes`"
            )
    return ""


LIST_COLUMNS = {
    "classes": pl.String,
    "state": pl.String,
    "p": pl.Float32,
    "n_votes": pl.Int32,
    "scores": pl.Float32,
    "class_names": pl.String,
    "sources": pl.String,
    "conflicts": pl.Int32,
}


def with_lists(
    frame: pl.DataFrame, columns: Iterable[str], classes: ClassList | None, path: Path
) -> pl.DataFrame:
    """Return a table in which these columns are lists; lists written as text are parsed."""
    for name in columns:
        if name in frame.columns and not isinstance(frame[name].dtype, pl.List):
            kind, text = LIST_COLUMNS[name], frame[name].cast(pl.String).fill_null("")
            if kind == pl.String and (text.str.starts_with('["') | text.is_in(["", "[]"])).all():
                decoded = text.replace("", "[]").str.json_decode(pl.List(pl.String))
                frame = frame.with_columns(decoded.alias(name))
                continue
            # Names may hold spaces, so spaces separate items only if nothing else does.
            item = r"[^,;|\[\]\"']+" if text.str.contains(r"[,;|]").any() else r"[^\s\[\]\"']+"
            items = text.str.extract_all(item).list.eval(pl.element().str.strip_chars())
            if name == "classes":
                items = _whole_names(text, items, classes, path)
            frame = frame.with_columns(items.cast(pl.List(kind)).alias(name))
    return frame


def _whole_names(text: pl.Series, items: pl.Series, classes: ClassList | None, path: Path) -> pl.Series:
    """Return lists of names in which names of the class list are not divided at commas."""
    cells = text.unique().to_list()
    has_marks = any(mark in cell for cell in cells for mark in ";|[\"'")
    if classes is None:
        if not has_marks:
            check_commas(text.name, cells, f"{path}, column {text.name}")
        return items
    if has_marks or not any("," in cell for cell in cells):
        names = {cell: [cell.strip()] for cell in cells if classes.find(cell.strip()) is not None}
    else:
        divide = dividing_between_names(classes, ",")
        names = {cell: [name for part in divide(cell) if (name := part.strip())] for cell in cells}
    whole = pl.Series(text.name, [names.get(cell, []) for cell in text.to_list()], pl.List(pl.String))
    return items.zip_with(~text.is_in(list(names)), whole)
