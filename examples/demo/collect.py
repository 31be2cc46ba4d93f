"""Collect the photographs of the demo from installed packages, and write the label sets given to them.

``python examples/demo/collect.py --out demo`` copies the photographs of ``photos.csv`` to ``demo/photos`` and
writes ``demo/labels.parquet`` from ``labels.csv``. No package is imported for it: what is needed are files.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from manyhot.classes import class_list
from manyhot.errors import ManyhotError, MissingExtraError
from manyhot.files import atomic_write, sha256
from manyhot.tables import Labels, write_labels

HERE = Path(__file__).parent

Row = Mapping[str, str]


def collect(out: Path) -> list[Row]:
    """Copy the photographs and write their label sets.

    Returns
    -------
    list of Row
        The photographs left out because the installed package ships another picture than the one that was
        looked at, or none.

    Raises
    ------
    MissingExtraError
        A package is not installed.
    """
    photos = read("photos.csv")
    check_installed(photos)
    seen = [photo for photo in photos if is_the_one_seen(photo)]
    for photo in seen:
        with atomic_write(out / "photos" / photo["image_id"]) as part:
            shutil.copyfile(path_of(photo), part)
    inputs = {name: sha256(HERE / name) for name in ("labels.csv", "photos.csv")}
    labels = label_sets(seen, read("labels.csv"))
    write_labels(labels, out / "labels.parquet", call="examples/demo/collect.py", inputs=inputs)
    return [photo for photo in photos if photo not in seen]


def label_sets(photos: Sequence[Row], answers: Iterable[Row]) -> Labels:
    """Return the label sets of the photographs; each was looked at, so one without answers is rated too."""
    classes = class_list("imagenet1k")
    asked: dict[str, list[Row]] = {photo["image_id"]: [] for photo in photos}
    for answer in answers:
        if answer["image_id"] in asked:
            asked[answer["image_id"]].append(answer)
    label = [classes.index(photo["label"]) if photo["label"] else None for photo in photos]
    columns = {
        "image_id": pa.array(asked, pa.string()),
        "label": pa.array(label, pa.int32()),
        "rated": [True] * len(photos),
        "usable": [True] * len(photos),
        "classes": [[classes.index(row["class"]) for row in rows] for rows in asked.values()],
        "state": [[row["state"] for row in rows] for rows in asked.values()],
        "method": ["by eye"] * len(photos),
    }
    return Labels(pa.table(columns), len(classes), classes.hash, asked_known=True, name="demo")


def check_installed(photos: Iterable[Row]) -> None:
    """Refuse to go on without one of the packages, naming all that are missing."""
    missing = sorted({p["package"] for p in photos if importlib.util.find_spec(module_of(p)) is None})
    if missing:
        raise MissingExtraError(
            "Packages that ship photographs of the demo are not installed.",
            got=", ".join(missing),
            do=f"pip install {' '.join(missing)}",
        )


def is_the_one_seen(photo: Row) -> bool:
    """Whether the package ships, byte for byte, the picture that was looked at."""
    path = path_of(photo)
    return path.is_file() and sha256(path) == photo["sha256"]


def path_of(photo: Row) -> Path:
    """Return where a photograph lies in its installed package."""
    spec = importlib.util.find_spec(module_of(photo))
    places = spec.submodule_search_locations if spec is not None else None
    return Path(*(places or ())[:1], *Path(photo["path"]).parts[1:])


def module_of(photo: Row) -> str:
    """Return the module that a package installs: scikit-image installs skimage."""
    return photo["path"].partition("/")[0]


def read(name: str) -> list[Row]:
    """Read a CSV file that lies beside this one."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    out: Path = parser.parse_args(arguments).out
    try:
        left_out = collect(out)
    except ManyhotError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for p in left_out:
        print(f"left out: {p['image_id']}: not the picture that {p['package']} {p['version']} ships")
    print(f"{out / 'photos'}: {len(read('photos.csv')) - len(left_out)} photographs")
    print(out / "labels.parquet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
