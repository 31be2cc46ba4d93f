"""Photographs are read from wherever predict found them."""

import importlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.evaluate.gallery import find_photographs
from manyhot.predict.sources import open_source

PICTURES = {f"{i}.jpg": f"picture {i}".encode() for i in range(5)}


def tar(path, pictures=PICTURES):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in pictures.items():
            member = tarfile.TarInfo(f"cats/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def parquet(path):
    table = pa.table({"image_id": list(PICTURES), "image": list(PICTURES.values())})
    pq.write_table(table, path, row_group_size=2)
    return path


def saved(path):
    """Write a data set as ``save_to_disk`` does."""
    path.mkdir()
    structs = [{"bytes": data, "path": name} for name, data in PICTURES.items()]
    table = pa.table({"image": structs})
    with pa.ipc.new_stream(path / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    (path / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    return path


def folder(path):
    path.mkdir()
    for name, data in PICTURES.items():
        (path / name).write_bytes(data)
    return path


SOURCES = {
    "a.tar": tar,
    "b.tar.gz": tar,
    "c.parquet": parquet,
    "saved": saved,
    "photos #1": folder,
}


def uris_of(source):
    """Return where predict says that each image lies."""
    return {item.image_id: item.uri for part in open_source(source).parts for item, _ in part.items()}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source(tmp_path, name):
    uris = uris_of(SOURCES[name](tmp_path / name))
    found = {i: read() for i, read in find_photographs([uris[p] for p in reversed(PICTURES)])}
    assert found == dict(enumerate(reversed(PICTURES.values())))


def test_several_sources_and_images_twice(tmp_path):
    uris = [u for name in SOURCES for u in uris_of(SOURCES[name](tmp_path / name)).values()] * 2
    found = {i: read() for i, read in find_photographs(uris)}
    assert [found[i] for i in range(len(uris))] == list(PICTURES.values()) * len(SOURCES) * 2


def test_a_path_that_is_written_in_another_way(tmp_path, monkeypatch):
    tar(tmp_path / "a.tar")
    monkeypatch.chdir(tmp_path)
    ((place, read),) = find_photographs(["./a.tar//cats/3.jpg"])
    assert (place, read()) == (0, b"picture 3")


def test_no_further_than_to_the_last_that_is_wanted(tmp_path, monkeypatch):
    table = parquet(tmp_path / "c.parquet")
    asked = []

    class Part:
        def __init__(self, part):
            self.part = part

        def items(self):
            asked.append(self.part.name)
            return self.part.items()

    source = open_source(table)
    watched = replace(source, parts=tuple(map(Part, source.parts)))
    monkeypatch.setattr(importlib.import_module("manyhot.evaluate.gallery"), "open_source", lambda _: watched)
    ((_, read),) = find_photographs([f"{table}#1"])
    assert read() == b"picture 1"
    assert len(asked) == 1, "of three groups of rows"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gone.jpg", "the file does not exist"),
        ("gone.tar/cats/1.jpg", "the file does not exist"),
        ("gone.parquet#1", "the file does not exist"),
        (None, "the images table has no uri for this image"),
        ("https://example.org/a.tar/1.jpg", "not a file on this computer"),
        ("a.tar/cats/77.jpg", "a.tar does not hold it"),
        ("c.parquet#77", "c.parquet does not hold it"),
        ("text.jpg/1.jpg", "text.jpg does not hold it"),
        ("cut.tar/cats/1.jpg", "cut.tar: the archive is truncated"),
    ],
)
def test_what_cannot_be_found_says_why(tmp_path, monkeypatch, uri, reason):
    monkeypatch.chdir(tmp_path)
    tar(Path("a.tar"))
    parquet(Path("c.parquet"))
    Path("text.jpg").write_text("no archive")
    Path("cut.tar").write_bytes(Path("a.tar").read_bytes()[:700])
    ((place, read),) = find_photographs([uri])
    with pytest.raises(OSError, match=r".") as error:
        read()
    assert (place, str(error.value)) == (0, reason)


def test_a_damaged_archive_does_not_hide_what_lies_elsewhere(tmp_path):
    whole = tar(tmp_path / "whole.tar")
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:700])
    found = dict(find_photographs([f"{tmp_path}/cut.tar/cats/1.jpg", f"{whole}/cats/1.jpg"]))
    assert found[1]() == b"picture 1"
