"""The files that `tools/fuzz.py` breaks: a small one of every kind that manyhot reads, and its reader."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import format_seeds
import source_kinds


@dataclass(frozen=True)
class Seed:
    """A file, and what reads it.

    Attributes
    ----------
    name : str
        The name of the file, below the folder of the case.
    make : callable
        Writes it to a path.
    read : callable
        Reads it, and returns what was read as texts and numbers.
    beside : mapping of str to bytes
        Other files of the folder.
    kind : str
        How its structure is changed: ``json``, ``csv``, ``parquet``, ``npz``, ``tar`` or ``bytes``.
    exact : bool
        Whether what is read does not depend on the order of rows, on the compression and on white space.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    kind: str
    beside: tuple[tuple[str, bytes], ...] = ()
    exact: bool = True


def corpus() -> list[Seed]:
    """Return all seeds, always in the same order."""
    return [*_formats(), *_images(), *_sources(), *_folders(), *_models(), *_recipes()]


def _kind(name: str) -> str:
    ending = name.rpartition(".")[2]
    return {"json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet", "npz": "npz"}.get(
        ending, "bytes"
    )


UNORDERED = {"real.json", "scores.npz", "image_info.pkl", "annotations_classify_task.pkl", "objects.pkl"}
"""Seeds whose rows have a meaning by their place, or that are not read as they are."""


def _formats() -> Iterator[Seed]:
    for name, (read, make) in format_seeds.FILES.items():
        options = {"rows": format_seeds.ROWS} if read is format_seeds.read_predictions else {}
        yield Seed(name, make, partial(_table, read, options), _kind(name), exact=name not in UNORDERED)


def _table(read: Callable[..., Any], options: dict[str, Any], path: Path) -> Any:
    content = read(path, **options)
    found = {
        name: getattr(content, name)
        for name in ("table", "experts", "classes", "class_list", "image_id", "scores", "keys", "n_classes")
        if hasattr(content, name)
    }
    return plain(found or content)


def plain(value: Any) -> Any:
    """Return tables and arrays as texts and numbers; rows in a fixed order, because files have any."""
    if isinstance(value, pa.Table):
        return sorted(repr(sorted(row.items())) for row in value.to_pylist())
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value.to_pylist()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in sorted(value.items(), key=lambda item: str(item[0]))}
    return repr(value)


def _images() -> Iterator[Seed]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    kinds = {
        "a.jpg": ("JPEG", {}),
        "progressive.jpg": ("JPEG", {"progressive": True}),
        "a.png": ("PNG", {}),
        "a.webp": ("WEBP", {}),
        "a.bmp": ("BMP", {}),
        "a.gif": ("GIF", {}),
        "a.tif": ("TIFF", {}),
        "packed.tif": ("TIFF", {"compression": "tiff_lzw"}),
        "a.ppm": ("PPM", {}),
    }
    for name, (kind, options) in kinds.items():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        yield Seed(name, partial(Path.write_bytes, data=file.getvalue()), _decoded, "bytes", exact=False)


def _decoded(path: Path) -> Any:
    from manyhot.predict.decode import decode

    image = decode(path.read_bytes())
    return image if isinstance(image, str) else list(image.shape)


_ROWS = [("a/1.jpg", "x"), ("a/2.jpg", "y"), ("b/3.jpg", "x")]


def _sources() -> Iterator[Seed]:
    members = [("1.jpg", b"1"), ("1.cls", b"x"), ("2.jpg", b"2"), ("2.json", b'{"label": 5}')]
    buffer = io.BytesIO()
    with source_kinds.tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            source_kinds.add(tar, name, data)
    packers: dict[str, Callable[[bytes], bytes]] = {
        "x.tar": bytes,
        "x.tar.gz": partial(gzip.compress, mtime=0),
        "x.tar.xz": lzma.compress,
        "x.tar.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    }
    for name, pack in packers.items():
        kind = "tar" if name == "x.tar" else "bytes"
        yield Seed(name, partial(Path.write_bytes, data=pack(buffer.getvalue())), _listed, kind)
    images = [{"bytes": b"1", "path": "1.jpg"}, {"bytes": b"2", "path": "2.jpg"}]
    label = {"_type": "ClassLabel", "names": ["x", "y"]}
    told = {"huggingface": json.dumps({"info": {"features": {"label": label}}})}
    table = pa.table({"image": images, "label": [0, 1]}).replace_schema_metadata(told)
    yield Seed("images.parquet", lambda path: pq.write_table(table, path), _listed, "parquet")
    plain_table = pa.table({"image_id": ["1.jpg", "2.jpg"], "image": [b"1", b"2"], "label": ["x", "y"]})
    yield Seed("bytes.parquet", lambda path: pq.write_table(plain_table, path), _listed, "parquet")
    lines = "".join(f"{path}\n" for path, _ in _ROWS).encode()
    yield Seed("list.txt", partial(Path.write_bytes, data=lines), _listed, "bytes")
    rows = ("path,label\n" + "".join(f"{path},{label}\n" for path, label in _ROWS)).encode()
    yield Seed("list.csv", partial(Path.write_bytes, data=rows), _listed, "csv")
    labels = ("filename,label\n" + "".join(f"{path[2:]},{label}\n" for path, label in _ROWS)).encode()
    folder = tuple((f"photos/{path}", b"x") for path, _ in _ROWS)
    yield Seed("labels.csv", partial(Path.write_bytes, data=labels), _labelled, "csv", folder)


def _listed(path: Path, labels: Path | None = None) -> Any:
    from manyhot.predict.sources import open_source

    def read(reader: Callable[[], bytes]) -> str:
        try:
            return repr(reader())
        except OSError as error:  # this image is skipped, with a reason
            return type(error).__name__

    source = open_source(path, labels=labels)
    return sorted(
        (item.image_id, str(item.label), read(reader))
        for part in source.parts
        for item, reader in part.items()
    )


def _labelled(path: Path) -> Any:
    return _listed(path.parent / "photos", path)


def _folders() -> Iterator[Seed]:
    from manyhot.formats import read_labels, read_objects

    box = "".join(f"<{end}>2</{end}>" for end in ("xmin", "ymin", "xmax", "ymax"))
    size = "<size><width>4</width><height>3</height></size>"
    xml = f"<annotation>{size}<object><name>café</name><bndbox>{box}</bndbox></object></annotation>".encode()
    up = partial(_above, 2)
    yield Seed("Annotations/a.xml", partial(_write, xml), partial(up, read_objects), "bytes")
    yield Seed("Annotations/b.xml", partial(_write, xml), partial(up, read_labels), "bytes")
    seeds = format_seeds
    features = {"image": {"_type": "Image"}, "labels": [seeds.LABEL], "label": seeds.LABEL}
    sink = pa.BufferOutputStream()
    table = pa.table({"image": seeds.IMAGES, "labels": seeds.LISTS, "label": [1, 2, -1]})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    saved = {
        "state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(),
        "dataset_info.json": json.dumps({"features": features}).encode(),
        "data.arrow": sink.getvalue().to_pybytes(),
    }
    for name, content in saved.items():
        others = tuple((other, data) for other, data in saved.items() if other != name)
        for read in (partial(_above, 1, read_labels), _listed_above):
            yield Seed(name, partial(_write, content), read, _kind(name), others)


def _above(levels: int, read: Callable[..., Any], path: Path) -> Any:
    return _table(read, {}, path.parents[levels - 1])


def _listed_above(path: Path) -> Any:
    return _listed(path.parent)


def _write(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _models() -> Iterator[Seed]:
    from manyhot.classes import from_keys
    from manyhot.predict.weights import Head, Trained, read_head, read_trained, write_head, write_trained

    def head(path: Path) -> None:
        weight = np.arange(6, dtype=np.float32).reshape(2, 3)
        made = Head("timm/x", from_keys(["a", "b"], "two"), "softmax", weight, weight[:, 0], penalty=1.0, n=5)
        write_head(made, path)

    def trained(path: Path) -> None:
        import torch

        weights = {"w": torch.zeros(1)}
        write_trained(Trained("resnet18", {}, from_keys(["a", "b"], "two"), "softmax", {}, weights), path)

    read = {"head": read_head, "trained": read_trained}
    for name, make in {"head": head, "trained": trained}.items():
        yield Seed(f"{name}.safetensors", make, partial(_shown, read[name]), "safetensors", exact=False)


def _shown(read: Callable[[Path], Any], path: Path) -> str:
    return repr(read(path))


def _recipes() -> Iterator[Seed]:
    from manyhot.train.recipe import read_recipe, recipe_of

    text = b'model = "timm/resnet18"\nepochs = 3\nlr = 1e-3\nteach = "sets"\n'
    yield Seed("recipe.toml", partial(_write, text), lambda p: repr(recipe_of(read_recipe(p), p)), "toml")
