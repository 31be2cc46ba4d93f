"""Which format a file has, what a file of no known format lacks, and files that are not opened."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from manyhot import registry
from manyhot.errors import InputError
from manyhot.files import PathLike
from manyhot.formats.reading import JSON_KEY, head
from manyhot.kinds import FOLDER, HOLDS
from manyhot.tables.arrays import LABEL_A_SAMPLE
from manyhot.tables.label_values import CHOICE_COUNTS, YES_COUNTS


def detect(
    path: PathLike, holds: Iterable[str] = HOLDS, *, property: str = "matches"
) -> registry.Entry | None:
    """Return the first format that reads one of `holds` and matches a file or folder; None if there is none.

    `property` is the property that decides whether a format matches: `matches` by default, or `explicit` or
    `numbers` if the caller states the content of the file.
    """
    path = Path(path)
    suffix = FOLDER if path.is_dir() else path.suffix.lower()
    for entry in registry.each("format"):
        fits = entry.about["holds"] in holds and suffix in entry.about["suffixes"]
        if fits and property in entry.about and entry.about[property](path):
            return entry
    return None


def holds_images_alone(path: PathLike, label_values: str | None = None) -> bool:
    """Return whether a file contains images but no labels; false if it contains neither.

    If `label_values` declares the meaning of numbers, they are labels, too.
    """
    if label_values is not None and detect(path, ("labels",), property="numbers") is not None:
        return False
    return detect(path, ("labels",)) is None and detect(path, ("images",)) is not None


def holds_photographs(path: PathLike) -> bool:
    """Return whether a folder contains images, in class folders or without labels."""
    found = detect(path, ("labels", "images"))
    return found is not None and found.name in ("image-folder", "photographs")


def labels_beside(path: Path) -> Path | None:
    """Return the file of labels beside the images of a folder, as in Hugging Face's layout; or None."""
    files = (path / f"metadata.{suffix}" for suffix in ("jsonl", "csv", "parquet"))
    return next((file for file in files if file.is_file() and detect(file, ("labels",)) is not None), None)


def format_of(path: Path, holds: str, *, has_values: bool) -> registry.Entry | None:
    """Return the format of a file; `has_values` states whether the caller declared what its numbers mean."""
    properties = (*(("numbers",) if has_values else ()), "matches", "explicit")
    return next((e for p in properties if (e := detect(path, (holds,), property=p))), None)


def boxes_of_tool(path: Path) -> str:
    """Return the tool whose file of boxes this is, as its first keys or tags show; empty for other files."""
    suffix = path.suffix.lower()
    if suffix not in (".xml", ".json") or not path.is_file():
        return ""
    start = head(path)
    if suffix == ".xml":
        return "CVAT or PASCAL VOC" if re.search(r"<annotations?[\s>]", start) else ""
    keys = {*JSON_KEY.findall(start)}
    if {"shapes", "imagePath"} <= keys or {"version", "flags", "shapes"} <= keys:
        return "labelme"
    return "BDD100K" if {"name", "category"} <= keys and keys & {"box2d", "frames"} else ""


def unknown_format(path: Path, holds: str) -> InputError:
    """Return the error for a file or folder that no format for `holds` can read."""
    other = detect(path)
    if path.suffix.lower() == ".json" and path.is_file() and _is_coco_results(path):
        return InputError(
            "The file contains detections in COCO's results format, which has ids instead of names.",
            where=path,
            allowed=_needs(path, holds),
            do="write a table with the columns image_id (file_name of the image), class (name of the "
            "category) and score, with the highest score of each image and class, and an empty class and "
            "score for images without detections, and pass it as predictions",
        )
    if tool := boxes_of_tool(path):
        write = "write the names of the classes of each image to one file, such as a table with the columns "
        export = "export the data set as COCO's JSON, or as PASCAL VOC's folder with Annotations/*.xml; or "
        has_tags = tool.startswith("CVAT") and re.search(r"<image\b[^>]*>\s*<tag\b", head(path)) is not None
        content = "image tags of CVAT" if has_tags else f"boxes of {tool}"
        return InputError(
            f"The file contains {content}, which are not read.",
            where=path,
            allowed=_needs(path, holds),
            do=f"{'' if has_tags else export}{write}image_id and labels",
        )
    if other and holds == "labels" and other.name == "photographs":
        return InputError(
            "The folder contains images without labels.",
            where=path,
            allowed="folders of images, one per class; or label sets in a file",
            do=LABEL_A_SAMPLE if (beside := labels_beside(path)) is None else f"pass {beside}",
        )
    if path.suffix.lower() in PICKLES:
        return InputError(
            "The file was not opened, because it may be a pickle, which can run code.",
            where=path,
            allowed=_needs(path, holds),
            do=advice(path),
        )
    if other:
        columns, advised = _columns(path, holds) if other.about["holds"] == "images" else ("", None)
        got = f"{other.about['holds']} ({other.name}){columns}"
        # Images without original labels are a table in which the columns of labels were not recognised.
        if other.name == "images-table" and path.suffix.lower() == ".txt":
            from manyhot.formats.table_files import read_frame

            read_frame(path)  # raises an error with advice if numbers follow each name
        do = advised if columns and " label (" not in columns else f"pass it as {other.about['holds']}"
        do = _advice_on(path, holds, other, do, bool(columns))
    elif path.is_dir():
        got, do = "a folder of no known format", None
    else:
        columns, do = _columns(path, holds)
        got = f"no known format with suffix {path.suffix or 'none'!r}{columns}"
        if path.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers"):
            do = "save the sheet as CSV in UTF-8, in Excel as 'CSV UTF-8', and pass the CSV file"
    return InputError(
        f"The {'folder' if path.is_dir() else 'file'} does not contain {holds}.",
        where=path,
        got=got,
        allowed=_needs(path, holds),
        do=do,
    )


def _advice_on(
    path: Path, holds: str, other: registry.Entry, do: str | None, has_columns: bool
) -> str | None:
    """Return what to do with a file that contains something else, given a first advice."""
    file = shlex.quote(path.name)
    if holds == "golden" and other.name == "votes-table":
        do = "if these are answers of experts, rename the column of raters to expert_id"
    elif holds == "golden" and has_columns and not do:
        do = "rename the column with the experts' classes to label"
    if do and holds == "labels" and other.about["holds"] == "votes":
        do = "decide between the raters, and pass the labels that this writes: "
        do += f"manyhot aggregate {shlex.quote(str(path))} --out labels.parquet"
    if do and holds == "votes" and other.name in ("label-lists", "prediction-lists"):
        answers = "if each row or line is an answer of one rater, write a table with the columns image_id, "
        do = f"{answers}rater_id and labels; otherwise, {do}"
    if do and holds == "predictions" and other.name == "label-lists":
        do = "if the file contains scores, rename their column or key to score; if it names predicted "
        do += "classes without scores, rename their column or key to tags, or "
        do += f"convert the file: manyhot convert {file} predictions.parquet --format tag-lists"
        do += "; otherwise, pass it as labels"
    if do and holds == "labels" and other.name == "npy" and _holds_states(path):
        do += "; if 0 and 1 are the states of each class, pass `label_values`=states, or "
        do += f"convert the file: manyhot convert {file} labels.parquet --label-values states"
    elif do and holds == "labels" and other.name == "npy" and _may_be_shares(path):
        do += "; if the numbers are the share of raters who chose a class, or its probability, pass "
        do += "`label_values`=shares or p"
    if do and holds == "labels" and other.name == "prediction-lists" and _lists_labels(path):
        do += "; if these are labels, remove the rows that do not count, and "
        do += f"convert the file: manyhot convert {file} labels.parquet --format label-lists"
    if do and holds == "labels" and other.name == "score-columns":
        do += "; if the numbers are the share of people who see a class, pass `label_values`=p (shares if "
        do += "each of them chose one class), or "
        do += f"convert the file: manyhot convert {file} labels.parquet --label-values p"
        if texts := _columns(path, holds)[1]:
            do = f"{texts}; otherwise, {do}"
    return do


def _is_coco_results(path: Path) -> bool:
    """Return whether JSON is a list of boxes or masks with ids of the image and the category, and a score."""
    start = head(path)
    keys = {"image_id", "category_id", "score"}
    return start.startswith("[") and keys <= {*JSON_KEY.findall(start)}


def _lists_labels(path: Path) -> bool:
    """Return whether a table names images and classes, as label lists do."""
    from manyhot.formats.headers import class_name_column, image_name_column
    from manyhot.formats.table_files import TABLE_SUFFIXES, column_names

    names = column_names(path) if path.suffix.lower() in TABLE_SUFFIXES else []
    return image_name_column(names) is not None and class_name_column(names) is not None


def _holds_states(path: Path) -> bool:
    """Return whether an array is a matrix that contains only 0, 1, -1 and NaN."""
    from manyhot.formats.array_files import load_array

    values = load_array(path)[""]
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        return False
    return bool((np.isin(values, (0, 1, -1)) | (values != values)).all())


def _may_be_shares(path: Path) -> bool:
    """Return whether an array is a matrix of numbers between 0 and 1."""
    from manyhot.formats.array_files import load_array

    values = load_array(path)[""]
    if values.ndim != 2 or values.dtype.kind != "f":
        return False
    return bool(((values >= 0) & (values <= 1)).all())


def _columns(path: Path, holds: str) -> tuple[str, str | None]:
    """Return the columns of a table of unknown format and what to do, for a message."""
    from manyhot.formats.headers import class_name_column, image_name_column, is_metadata
    from manyhot.formats.number_columns import DESCRIBED, describe_columns
    from manyhot.formats.table_files import TABLE_SUFFIXES, column_names

    if path.suffix.lower() not in TABLE_SUFFIXES or not (names := column_names(path)):
        return "", None
    shown = [n if n.isprintable() else repr(n) for n in describe_columns(path)[:DESCRIBED]]
    is_absent = image_name_column(names) is None and "image_id" in _needs(path, holds)
    do = "rename the column with the names of the images to image_id" if is_absent else None
    if do and holds == "predictions" and len(names) == 1 and names[0].isdecimal():  # as WILDS asks for
        do = "pass a file with the image id of each line as `rows`; if each line is a predicted class, write "
        do += "the lines to an array, for example in Python: import numpy as np; "
        do += f"np.save({f'{path.stem}.npy'!r}, np.loadtxt({path.name!r}, int))"
    if do and holds == "votes":
        do += "; if each image has a column, write one row per image and one column per rater"
    elif holds == "votes":
        do = "rename the column of raters to rater_id, and the column of chosen classes to labels"
    if holds == "classes":
        do = "rename the column with the number or key of each class to key, or pass a text file with one "
        do += "class per line"
    has_states = any("(0 and 1" in column or "(0, 1 and" in column for column in shown)
    if do and holds == "labels" and class_name_column(names) is None and not has_states:
        do += ", and a column with the names of classes to labels"
    if not do and holds == "labels" and sum("(whole numbers)" in column for column in shown) > 1:
        do = (
            f"if the numbers count votes, pass `label_values`={CHOICE_COUNTS} or {YES_COUNTS}; if they count "
            "objects, write 1 in place of each number above 0"
        )
    texts = [
        n for c in shown[1:] if c.endswith(" (text)") and not is_metadata(n := c.removesuffix(" (text)"))
    ]
    if not do and holds == "labels" and len(texts) > 1:
        do = "if the text columns are classes, write 1 or yes and 0 or no into their cells; if one "
        do += "contains the names of classes, rename it to labels"
    elif not do and holds == "labels" and texts:
        do = f"if {texts[0]!r} contains the names of classes, rename it to labels; "
        do += "if it is a class, write 1 or yes and 0 or no into its cells"
    return f", and the columns {', '.join(shown)}{', …' if len(names) > DESCRIBED else ''}", do


def _needs(path: Path, holds: str) -> str:
    """Return what a file with the suffix of `path` must contain, for each format, and the other suffixes."""
    suffix = FOLDER if path.is_dir() else path.suffix.lower()
    entries = [e for e in registry.entries("format") if e.about["holds"] == holds]
    same = [e for e in entries if suffix in e.about["suffixes"]]
    if not same:
        return "; ".join(formats_holding(holds))
    others = [s for s in suffixes_of(holds) if s != suffix]
    needs = [f"{e.name}: {e.about['needs']}" if "needs" in e.about else e.name for e in same]
    return "; ".join([*needs, *([f"other suffixes: {', '.join(others)}"] if others else [])])


def formats_holding(holds: str) -> list[str]:
    """Return the names of the formats for `holds`, such as labels, with the suffixes of their files."""
    return sorted(
        f"{e.name} ({' '.join(e.about['suffixes'])})"
        for e in registry.entries("format")
        if e.about["holds"] == holds
    )


def suffixes_of(holds: str) -> list[str]:
    """Return the suffixes of files with labels, predictions or anything else in `HOLDS`."""
    return sorted(
        {s for e in registry.entries("format") if e.about["holds"] == holds for s in e.about["suffixes"]}
    )


_TORCH = (".pt", ".pth", ".ckpt")

PICKLES = frozenset((*_TORCH, ".pkl", ".pickle", ".joblib"))
"""Suffixes of pickles."""

MAY_RUN = "may be pickles, which can run code"

SAVE = "save the arrays with numpy.savez(FILE, scores=…, image_id=…, classes=…)"


def advice(path: Path) -> str:
    """Return the line of Python that saves the content of a file from a trusted source in another format."""
    name, suffix = path.name, path.suffix.lower()
    table = f'pandas.read_pickle("{name}").to_parquet("{path.stem}.parquet")'
    if suffix not in _TORCH:
        return f"if you trust the file: {table} for a data frame; otherwise {SAVE}"
    arrays = 'logits=d["logits"], image_id=d["files"], classes=d["classes"]'
    return (
        f'if you trust the file: d = torch.load("{name}", weights_only=True); '
        f'numpy.savez("{path.stem}.npz", {arrays}), with the names that it contains'
    )
