"""Headers of foreign tables: their separator, which columns contain names, and what Arrow cannot hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from manyhot.errors import InputError
from manyhot.tables.image_ids import IMAGE_NAME_COLUMNS as IMAGE_NAME_COLUMNS
from manyhot.tables.image_ids import first_column as first_column
from manyhot.tables.image_ids import fold_name as fold_name
from manyhot.tables.image_ids import image_name_column as image_name_column

CLASS_NAME_COLUMNS = (
    "labels",
    "tags",
    "classes",
    "categories",
    "finding_labels",
    "label",
    "tag",
    "class",
    "category",
    "class_name",
    "label_name",
    "finding_label",
)
"""Columns with the names of classes, by preference. Those that end in s may contain several names."""

RATER_NAMES = (
    *("rater_id", "worker", "rater", "annotator", "worker_id", "annotator_id"),
    *("reviewer", "reviewer_id", "moderator", "moderator_id"),
    *("adjuster", "adjuster_id", "assessor", "assessor_id"),
    *("reader", "reader_id", "radiologist", "radiologist_id", "rad_id"),
    *("email_address", "email"),
)
"""Columns with the names of raters, by preference."""

ID_NEEDS = "image_id, filename, path or id"
LABEL_NEEDS = "labels, tags, classes or label"
"""What a message asks for; the reference lists all names."""

METADATA_COLUMNS = (
    "age",
    "sex",
    "gender",
    "split",
    "fold",
    "index",
    "is_train",
    "is_valid",
    "is_val",
    "is_test",
    "service_test",  # FairFace
    "rated",
    "usable",
    "n_votes",
    "width",
    "height",
)
"""Columns that are not classes although they may contain 0 and 1."""

_LONGEST = 1 << 26
"""Maximum length of a header in characters; a million columns take 10 MB."""


def class_name_column(columns: Iterable[str], among: Sequence[str] = CLASS_NAME_COLUMNS) -> str | None:
    """Return the column with the names of classes; None if there is none."""
    return first_column(columns, among)


def is_plural(column: str) -> bool:
    """Return whether the name of a column is a plural, such as ``tags``."""
    return column.strip().endswith(("s", "S")) and fold_name(column) != "class"


def is_metadata(column: str) -> bool:
    """Return whether a column is metadata of the image, not a class, even if it contains only 0 and 1."""
    return fold_name(column) in (*METADATA_COLUMNS, *IMAGE_NAME_COLUMNS)


_WEIGHTS = re.compile(
    r"(case|image|sample|sampling|survey|inverse)?_?weights?|(inclusion|sampling)_prob(abilit(y|ies))?",
    re.IGNORECASE,
)
"""Names of columns that are likely to say how images were sampled."""


def weight_notes(columns: Iterable[str]) -> list[str]:
    """Return notes on columns that are likely to contain sampling weights, which are not used."""
    return [
        f"each image counts once, and {name} is not used: if images were not sampled with equal probability, "
        "such as by a model's score, the values describe the sample, not all images; for "
        "samples with known probabilities, see manyhot evaluate --audited"
        for name in columns
        if _WEIGHTS.fullmatch(name)
    ]


def raw_header(path: Path) -> list[str]:
    """Return the columns of a text table; empty if the header cannot be read."""
    line = _first_line(path)
    try:
        return next(csv.reader([line], delimiter=_separator(line, path)), []) or [""]
    except csv.Error:  # a field of more than 128 kB
        return [c.strip('"') for c in line.split(_separator(line, path))]


def separator_of(path: Path) -> str:
    """Return the separator of a text table: the most frequent of comma, semicolon and tab in its header."""
    return _separator(_first_line(path), path)


def _first_line(path: Path) -> str:
    # Like polars: a file with the line ends of old Macs is one line, and therefore an error.
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        return file.readline(_LONGEST).rstrip("\r\n")


def _separator(line: str, path: Path) -> str:
    bare = re.sub(r'"[^"]*"', "", line)
    first = "\t" if path.suffix.lower() == ".tsv" else ","
    return max((first, ",", ";", "\t"), key=bare.count)


_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda")
"""First bytes of gzip, zstd and zlib."""


def check_packed(path: Path) -> None:
    """Raise an error for compressed files. polars would decompress 40 kB of zeros to 40 MB."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_PACKED):
        raise InputError(
            "The file was not read, because it is compressed.",
            where=path,
            do="decompress it first, for example with gunzip",
        )


_UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""First bytes of texts in UTF-16, or of UTF-32, which no spreadsheet writes."""


_TEXTS = (".csv", ".tsv", ".txt")


def check_encoding(path: Path) -> None:
    """Raise an error for text in UTF-16, such as Excel's "Unicode Text", or a first line not in UTF-8."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_UTF16):
        raise InputError(
            "The file was not read, because it is in UTF-16.",
            where=path,
            allowed="text in UTF-8",
            do="save it as UTF-8, for example as 'CSV UTF-8' in Excel, or with iconv -f UTF-16 -t UTF-8",
        )
    if path.suffix.lower() in _TEXTS and not start.startswith(_PACKED):
        with path.open("rb") as file:
            check_utf8(file.readline(_LONGEST), path)
    if path.suffix.lower() in (".csv", ".tsv") and not start.startswith(_PACKED):
        _check_first_line(_first_line(path), path)


def _check_first_line(line: str, path: Path) -> None:
    """Raise an error for a first line that is no header, and for the line ends of old Macs."""
    if re.fullmatch(r'"?sep=."?', line.strip(), re.IGNORECASE):
        what, got, do = "a header", line.strip(), "delete this line, which only Excel reads"
    elif "\r" in re.sub(r'"[^"]*"', "", line):
        what, got = "ended by a line feed", "a carriage return, the line end of old Macs"
        do = "save the file as UTF-8, for example as 'CSV UTF-8' in Excel"
    else:
        return
    raise InputError(f"The first line of the table is not {what}.", where=path, got=got, do=do)


def check_utf8(line: bytes, path: Path, number: int = 1) -> None:
    """Raise an error for a line that is not UTF-8. The error shows the line as decoded with Windows-1252."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        around = line[max(0, error.start - 20) : error.start + 20].decode("cp1252", "replace")
        raise InputError(
            "The file was not read, because it is not in UTF-8.",
            where=f"{path}, line {number:,}",
            got=f"byte {line[error.start]:#04x}; as Latin-1 or Windows-1252, the text is …{around.strip()}…",
            allowed="text in UTF-8",
            do="save it as UTF-8, for example as 'CSV UTF-8' in Excel, or with iconv -f CP1252 -t UTF-8",
        ) from error


REMARKS = (
    *("comment", "comments", "note", "notes", "remark", "remarks"),
    *("anmerkung", "anmerkungen", "bemerkung", "bemerkungen", "kommentar", "notiz", "notizen"),
)
"""Columns that are no classes if they are empty."""
