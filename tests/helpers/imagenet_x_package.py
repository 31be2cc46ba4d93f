"""A made-up package imagenet-x: files of the published layout, which carry no published annotation."""

import hashlib
import json
from dataclasses import replace

from manyhot.data import catalog
from manyhot.formats.imagenet_x import FACTORS, PROTOTYPES

TOP, MULTI = "imagenet_x_val_top_factor.jsonl", "imagenet_x_val_multi_factor.jsonl"


def lines_of(rows):
    """Return JSON lines of images, each a name, a class and the names of its factors."""
    described = (
        {"file_name": name, "class": label, **{f: int(f in factors) for f in FACTORS}, "one_word": "é"}
        for name, label, factors in rows
    )
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in described)


def write_annotations(folder, rows, prototypes=()):
    """Write the files of both kinds of factors, with the same factors, and the prototypes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (TOP, MULTI):
        (folder / name).write_text(lines_of(rows), encoding="utf-8")
    (folder / PROTOTYPES).write_text("file_name\n" + "".join(f"{name}\n" for name in prototypes))
    return folder


def install(patch, site, rows, prototypes=()):
    """Make a package with these annotations importable, and the catalogue expect its bytes."""
    folder = write_annotations(site / "imagenet_x" / "annotations", rows, prototypes)
    (site / "imagenet_x" / "__init__.py").write_text("raise AssertionError('nothing imports the package')\n")
    patch.syspath_prepend(site)
    entries = dict(catalog._entries())
    files = tuple(_pinned(f, (folder / f.path).read_bytes()) for f in entries["imagenet-x"].files)
    entries["imagenet-x"] = replace(entries["imagenet-x"], files=files)
    patch.setattr(catalog, "_entries", lambda: entries)


def _pinned(file, content):
    return replace(file, size=len(content), sha256=hashlib.sha256(content).hexdigest())
