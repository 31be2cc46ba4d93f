import importlib.util
import json
import pickle
import shutil
import struct
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.errors import FetchError, InputError, MissingExtraError
from manyhot.predict.sources import SourceLostError, open_source
from source_kinds import expected, image_table, listed, write_folder, write_parquet


@pytest.fixture
def datasets(require, tmp_path, monkeypatch):
    require(importlib.util.find_spec("datasets"), "datasets, of Hugging Face")
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    return datasets


def made(datasets, images, **columns):
    """Return a data set as one has it in memory."""
    names = sorted({image.label for image in images})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    content = {
        "image": [{"bytes": image.data, "path": image.name} for image in images],
        "label": [names.index(image.label) for image in images],
    }
    return datasets.Dataset.from_dict(content | columns, features=features)


def refusal(where):
    with pytest.raises(InputError) as error:
        listed(open_source(where))
    return str(error.value)


def test_a_saved_data_set(tmp_path, datasets, images):
    made(datasets, images).save_to_disk(tmp_path / "saved", num_shards=3)
    source = open_source(tmp_path / "saved")
    assert listed(source) == expected(images)
    assert source.n == 30
    assert source.strict
    assert next(source.parts[0].items())[0].uri == f"{tmp_path}/saved/data-00000-of-00003.arrow#0"


def test_saved_data_sets_are_read_without_their_package(tmp_path, datasets, images, monkeypatch):
    made(datasets, images).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert listed(open_source(tmp_path / "saved")) == expected(images)


@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_a_saved_data_set_in_a_bucket(tmp_path, datasets, images, s3, splits):
    one = made(datasets, images)
    datasets.DatasetDict(dict.fromkeys(splits, one)).save_to_disk(tmp_path / "saved", num_shards={"train": 3})
    for path in (tmp_path / "saved").rglob("*.*"):
        s3.pipe_file(f"photos/saved/{path.relative_to(tmp_path / 'saved').as_posix()}", path.read_bytes())
    address = "s3://photos/saved" + ("/train" if len(splits) > 1 else "")
    source = open_source(address)
    assert listed(source) == expected(images)
    assert source.strict
    assert [part.n for part in source.parts] == [None] * 3
    assert next(source.parts[1].items())[0].uri == ("s3://photos/saved/train/data-00001-of-00003.arrow#0")
    assert pickle.loads(pickle.dumps(source)).fingerprint == open_source(address).fingerprint
    if len(splits) > 1:
        assert refusal("s3://photos/saved") == (
            "The data set has several splits.\n"
            "  where:   s3://photos/saved\n"
            "  allowed: train, test\n"
            "  do:      choose one, such as s3://photos/saved/train"
        )
    shard = "photos/saved/train/data-00001-of-00003.arrow"
    s3.pipe_file(shard, s3.cat_file(shard)[:1500])
    assert open_source(address).fingerprint != source.fingerprint
    assert refusal(address).startswith(f"The data set is not complete.\n  where:   s3://{shard}\n")
    s3.rm("photos/saved/train/data-00000-of-00003.arrow")
    assert refusal(address).startswith("The file cannot be opened.\n")


def test_one_split_is_taken_and_of_several_one_is_asked_for(tmp_path, datasets, images):
    one = made(datasets, images)
    datasets.DatasetDict({"test": one}).save_to_disk(tmp_path / "one")
    assert listed(open_source(tmp_path / "one")) == expected(images)
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "two")
    assert refusal(tmp_path / "two") == (
        "The data set has several splits.\n"
        f"  where:   {tmp_path}/two\n"
        "  allowed: train, test\n"
        f"  do:      choose one, such as {tmp_path}/two/train"
    )
    assert listed(open_source(tmp_path / "two" / "train")) == expected(images)


@pytest.mark.parametrize("name", ["state.json", "data-00000-of-00001.arrow"])
def test_a_saved_data_set_that_is_not_complete(tmp_path, datasets, images, name):
    folder = tmp_path / "saved"
    made(datasets, images).save_to_disk(folder)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["x"]}))
    made(datasets, images).save_to_disk(folder / "x")
    (folder / "x" / name).unlink()
    assert refusal(folder) == (
        "The folder is not a complete saved data set.\n"
        f"  where:   {folder}/x\n"
        f"  got:     no {name}\n"
        "  do:      create or download it again"
    )


def test_a_truncated_data_file(tmp_path, datasets, images):
    made(datasets, images).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:3000])
    assert refusal(tmp_path / "saved").startswith(
        f"The data set is not complete.\n  where:   {path}\n  got:     "
    )


def test_rows_picked_by_an_index(tmp_path, datasets, images):
    made(datasets, images).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved" / "state.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"_indices_data_files": [{"filename": "i.arrow"}]})
    )
    assert refusal(tmp_path / "saved") == (
        "The folder is not a data set written by save_to_disk.\n"
        f"  where:   {tmp_path}/saved\n"
        "  got:     rows that are selected by an index\n"
        "  do:      save it again with datasets 2.0 or later"
    )


def test_a_saved_data_set_that_vanished_ends_the_run(tmp_path, datasets, images):
    made(datasets, images).save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved")
    with pytest.raises(SourceLostError) as error:
        listed(source)
    assert str(error.value).startswith("The storage of the images no longer exists.\n")


def test_by_name_from_parquet(tmp_path, datasets, images):
    write_parquet(tmp_path / "photos" / "train-00000-of-00001.parquet", images)
    write_parquet(tmp_path / "photos" / "test-00000-of-00001.parquet", images[:3])
    name = f"hf:{tmp_path}/photos"
    assert listed(open_source(f"{name}:train")) == expected(images)
    assert listed(open_source(f"{name}:test")) == expected(images[:3])
    assert listed(open_source(f"{name}:train[10:20]")) == expected(images[10:20])
    assert refusal(name) == (
        "The data set has several splits.\n"
        f"  where:   {name}\n"
        "  allowed: train, test\n"
        f"  do:      choose one, such as {name}:train"
    )


def test_by_name_from_folders_of_classes(tmp_path, datasets, images):
    write_folder(tmp_path / "photos", images)
    source = open_source(f"hf:{tmp_path}/photos")
    assert sorted(listed(source)) == expected(images)
    assert source.n == 30


def test_rows_without_names_are_numbered(tmp_path, datasets, images):
    table = image_table(images).drop_columns("image").append_column("jpeg", [[i.data for i in images]])
    pq.write_table(table, tmp_path / "x.parquet")
    found = listed(open_source(f"hf:{tmp_path}:train"))
    assert [name for name, _, _ in found] == [f"{tmp_path.name}-train-{i:06}" for i in range(30)]
    assert [data for _, _, data in found] == [i.data for i in images]


def test_a_hub_that_does_not_respond(datasets, monkeypatch):
    def refuse(name, split):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(FetchError, match=r"^The data set cannot be loaded\."):
        open_source("hf:owner/name")


def test_a_name_that_cannot_be_loaded(tmp_path, datasets):
    assert refusal("hf:") == (
        "The name of the data set is missing.\n  where:   hf:\n  allowed: hf:NAME or hf:NAME:SPLIT"
    )
    message = refusal(f"hf:{tmp_path}/none")
    assert message.startswith(f"The data set cannot be loaded.\n  where:   hf:{tmp_path}/none\n  got:     ")
    assert message.endswith(
        "\n  allowed: hf:NAME or hf:NAME:SPLIT"
        "\n  do:      check the name and the internet connection; the path of a saved folder does not start "
        "with hf:"
    )


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError) as error:
        open_source("hf:imagenet-1k:validation")
    assert str(error.value) == (
        "Reading a Hugging Face data set by name needs datasets, which cannot be imported.\n"
        "  got:     import of datasets halted; None in sys.modules\n"
        '  do:      pip install "manyhot[hub]"'
    )


def saved_by_hand(folder, state, *, damaged=False):
    """Write a folder as `save_to_disk` does; damaged, with an offset that points out of the file."""
    image = pa.array([{"bytes": b"one", "path": "1.jpg"}, {"bytes": b"two", "path": "2.jpg"}])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("image", image.type)])) as stream:
        stream.write_table(pa.table({"image": image}))
    data = sink.getvalue().to_pybytes()
    offsets = struct.pack("<3i", 0, 3, 6)
    assert offsets in data
    folder.mkdir()
    (folder / "data.arrow").write_bytes(
        data.replace(offsets, struct.pack("<3i", 0, -3, 6), 1) if damaged else data
    )
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_offsets_that_point_out_of_the_file(tmp_path):
    """Arrow ended the process: std::length_error."""
    state = {"_data_files": [{"filename": "data.arrow"}]}
    whole = open_source(saved_by_hand(tmp_path / "whole", state))
    assert [read() for part in whole.parts for _, read in part.items()] == [b"one", b"two"]
    with pytest.raises(
        InputError, match=r"^The data set is not complete\.\n  where:   .*data\.arrow\n  got:     .*"
    ):
        open_source(saved_by_hand(tmp_path / "damaged", state, damaged=True))


def test_images_without_the_paths_that_they_mostly_have(tmp_path):
    folder = saved_by_hand(tmp_path / "x", {"_data_files": [{"filename": "data.arrow"}]})
    data = (folder / "data.arrow").read_bytes()
    (folder / "data.arrow").write_bytes(data.replace(b"path", b"past"))
    assert [read() for part in open_source(folder).parts for _, read in part.items()] == [b"one", b"two"]


def test_a_path_that_is_not_utf8(tmp_path):
    """Arrow says so, or fails at saying it, depending on the byte."""
    folder = saved_by_hand(tmp_path / "x", {"_data_files": [{"filename": "data.arrow"}]})
    data = (folder / "data.arrow").read_bytes()
    for byte in (b"\xa0", b"\xff", b"\xc3"):
        (folder / "data.arrow").write_bytes(data.replace(b"2.jpg", byte + b".jpg"))
        with pytest.raises(InputError, match=r"^The data set is not complete\."):
            open_source(folder)


@pytest.mark.parametrize(
    "files", [5, ["data.arrow"], [{}], [{"filename": 5}], [{"filename": "data.arrow"}, 1]]
)
def test_states_that_name_no_files(tmp_path, files):
    with pytest.raises(InputError) as error:
        open_source(saved_by_hand(tmp_path / "x", {"_data_files": files}))
    assert str(error.value).startswith("The folder is not a data set written by save_to_disk.")


def test_a_file_name_with_half_a_character(tmp_path):
    with pytest.raises(InputError) as error:
        open_source(saved_by_hand(tmp_path / "x", {"_data_files": [{"filename": "\ud800.arrow"}]}))
    assert "  got:     no \\ud800.arrow\n" in str(error.value)


def test_a_type_that_arrow_does_not_know(tmp_path, monkeypatch):
    """An integer of 5 bits, say, which a changed byte of the schema gives."""

    def refuse(_):
        raise pa.ArrowNotImplementedError("Integers with less than 8 bits not implemented")

    folder = saved_by_hand(tmp_path / "x", {"_data_files": [{"filename": "data.arrow"}]})
    monkeypatch.setattr(pa.ipc, "open_stream", refuse)
    with pytest.raises(InputError) as error:
        open_source(folder)
    assert str(error.value) == (
        f"The data set is not complete.\n  where:   {folder}/data.arrow\n"
        "  got:     Integers with less than 8 bits not implemented\n  do:      create or download it again"
    )
