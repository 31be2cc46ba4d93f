"""Files of every format, cut at many places and with bytes changed: read, or refused in our own words."""

import json
import random
import warnings
import zipfile
from functools import partial

import pyarrow as pa
import pytest

from format_seeds import FILES, IMAGES, LABEL, LISTS, ROWS
from manyhot.errors import ManyhotError
from manyhot.formats import detect, read_labels, read_objects, read_predictions

CUTS, CHANGES = 12, 30
"""How often a file is cut, and how often it is changed. `tools/fuzz.py` does more."""


def try_to_read(read, path):
    """Read a file, or get our own error; anything else, a warning included, fails the test."""
    options = {"rows": ROWS} if read is read_predictions else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(path, **options)
        except ManyhotError as error:
            str(error).encode()


def broken(content, seed):
    """Yield a file cut at many places, and changed in one to four bytes."""
    rng = random.Random(seed)
    for at in {0, 1, len(content) - 1, *(rng.randrange(len(content)) for _ in range(CUTS))}:
        yield content[:at]
    for _ in range(CHANGES):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 2, 4))):
            changed[rng.randrange(len(content))] = rng.randrange(256)
        yield bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_broken_files(tmp_path, name):
    read, make = FILES[name]
    path = tmp_path / name
    make(path)
    content = path.read_bytes()
    # A file of 50,000 images takes 50 ms to read.
    for i, each in enumerate(broken(content, name)):
        if len(content) < 50_000 or i % 8 == 0:
            path.write_bytes(each)
            try_to_read(read, path)


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data.arrow"])
def test_broken_data_sets(tmp_path, name):
    features = {"image": {"_type": "Image"}, "labels": [LABEL], "label": LABEL}
    table = pa.table({"image": IMAGES, "labels": LISTS, "label": [1, 2, -1]})
    with pa.OSFile(str(tmp_path / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as file:
        file.write_table(table)
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}))
    assert len(read_labels(tmp_path)) == 3
    path = tmp_path / name
    for content in broken(path.read_bytes(), name):
        path.write_bytes(content)
        try_to_read(read_labels, tmp_path)


def test_broken_annotations_of_voc(tmp_path):
    (tmp_path / "Annotations").mkdir()
    box = "".join(f"<{end}>2</{end}>" for end in ("xmin", "ymin", "xmax", "ymax"))
    inside = f"<object><name>caf\u00e9</name><bndbox>{box}</bndbox></object>"
    size = "<size><width>4</width><height>3</height></size>"
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(f"<annotation>{size}{inside}</annotation>", encoding="utf-8")
    assert len(read_objects(tmp_path)) == len(read_labels(tmp_path)) == 1
    for content in broken(path.read_bytes(), "a.xml"):
        path.write_bytes(content)
        try_to_read(read_objects, tmp_path)
        try_to_read(read_labels, tmp_path)


def test_every_format_is_broken(tmp_path):
    """The files above are of all formats, and fine until they are changed."""
    from manyhot import registry

    found = {
        "campaign",  # two tables, each of a format of its own
        "counts",
        "hf-labels",
        "image-folder",
        "npy-labels",
        "photographs",
        "real-scores",
        "tsipras",
        "tsipras-main",
        "tsipras-selected",
        "voc-folder",
        "voc-labels",
    }
    for name, (read, make) in FILES.items():
        path = tmp_path / name
        make(path)
        if name not in ("scores.npz", "image_info.pkl", "annotations_classify_task.pkl", "objects.pkl"):
            read(path, **({"rows": ROWS} if read is read_predictions else {}))
            if isinstance(read, partial):  # a format that must be named
                found.add(read.keywords["format"].partition("(")[0])
                continue
            holds = (read.__name__.removeprefix("read_"),)
            found.add((detect(path, holds) or detect(path, holds, property="explicit")).name)
    assert zipfile.is_zipfile(tmp_path / "scores.npz")
    assert found == set(registry.names("format"))
