"""What holds for sources of every kind."""

import importlib.util
import os
import pickle
from dataclasses import replace

import pytest

from forking import commands
from manyhot.errors import InputError
from manyhot.predict.sources import hugging_face_hub, image_files, open_source, parquet, tar
from manyhot.predict.sources.source import EXTENSIONS, part_ranges
from source_kinds import CLASSES, expected, listed, webdataset, write_folder, write_parquet, write_tar

KINDS_ALLOWED = (
    "an image, a folder of images, a list (.txt, .csv), tar archives, Parquet files, "
    "or a Hugging Face data set (a folder or hf:NAME)"
)


def folder(root, images):
    return write_folder(root / "folder", images)


def flat_folder(root, images):
    write_list(root / "labels.csv", images)
    (root / "flat").mkdir(parents=True)
    for image in images:
        (root / "flat" / image.name).write_bytes(image.data)
    return root / "flat"


def write_list(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(["path,label\n", *(f"flat/{image.name},{image.label}\n" for image in images)]))
    return path


def csv_list(root, images):
    flat_folder(root, images)
    return root / "labels.csv"


def text_list(root, images):
    flat_folder(root, images)
    (root / "list.txt").write_text("".join(f"flat/{image.name} {image.label}\n" for image in images))
    return root / "list.txt"


def tars(root, images, ending="tar", mode="w"):
    root.mkdir(parents=True, exist_ok=True)
    for i in range(0, len(images), 12):
        write_tar(root / f"{i:03}.{ending}", webdataset(images[i : i + 12]), mode)
    return f"{root}/*.{ending}"


def packed_tars(root, images):
    return tars(root, images, "tar.gz", "w:gz")


def plain_tar(root, images):
    root.mkdir(parents=True)
    return write_tar(root / "x.tar", [(f"val/{image.label}/{image.name}", image.data) for image in images])


def tables(root, images):
    write_parquet(root / "0.parquet", images[:12], row_group_size=5)
    write_parquet(root / "1.parquet", images[12:])
    return root


def dataset_of(images):
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    content = {
        "image": [{"bytes": image.data, "path": image.name} for image in images],
        "label": [CLASSES.index(image.label) for image in images],
    }
    return datasets.Dataset.from_dict(content, features=features)


def saved(root, images):
    dataset_of(images).save_to_disk(root, num_shards=3)
    return root


def by_name(root, images):
    write_parquet(root / "train.parquet", images)
    return f"hf:{root}:train"


KINDS = [folder, flat_folder, csv_list, text_list, tars, packed_tars, plain_tar, tables, saved, by_name]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request, require, tmp_path, monkeypatch):
    """Return what makes a source of one kind, cut into parts of seven images."""
    if request.param in (saved, by_name):
        require(importlib.util.find_spec("datasets"), "datasets, of Hugging Face")
        import datasets  # noqa: F401

        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for module in (image_files, tar, parquet, hugging_face_hub):
        monkeypatch.setattr(module, "part_ranges", lambda n: part_ranges(n, 7))

    def make(root, images):
        where = request.param(root, images)
        return open_source(where, labels=root / "labels.csv" if request.param is flat_folder else None)

    return make


def test_the_same_images(tmp_path, kind, images):
    source = kind(tmp_path / "a", images)
    assert sorted(listed(source)) == expected(images)
    assert source.n in (30, None)
    assert len({part.name for part in source.parts}) == len(source.parts) > 2
    assert all(part.name.isdigit() for part in source.parts)
    assert len({item.uri for part in source.parts for item, _ in part.items()}) == 30


def test_the_number_of_images_of_a_part(tmp_path, kind, images):
    for part in kind(tmp_path / "a", images).parts:
        assert part.n in (len(list(part.items())), None)


def test_parts_in_any_order_and_pickled(tmp_path, kind, images):
    source = kind(tmp_path / "a", images)
    alone = [listed(replace(source, parts=(part,))) for part in source.parts]
    assert [listed(replace(source, parts=(part,))) for part in source.parts[::-1]] == alone[::-1]
    again = pickle.loads(pickle.dumps(source))
    assert [listed(replace(again, parts=(part,))) for part in again.parts] == alone
    assert again.fingerprint == source.fingerprint


def test_an_opener_is_pickled(tmp_path, kind, images):
    source = kind(tmp_path / "a", images)
    found = [
        (item.image_id, pickle.loads(pickle.dumps(read))())
        for part in source.parts
        for item, read in part.items()
    ]
    assert sorted(found) == [(image.name, image.data) for image in images]


def test_a_part_read_halfway_leaves_the_others_as_they_are(tmp_path, kind, images):
    source = kind(tmp_path / "a", images)
    whole = listed(source)
    for part in source.parts:
        next(part.items())
    assert listed(source) == whole


def test_shards_are_the_whole(tmp_path, kind, images):
    source = kind(tmp_path / "a", images)
    found = [row for i in range(3) for row in listed(source.shard(i, 3))]
    assert sorted(found) == expected(images)


def test_the_fingerprint_tells_sources_apart(tmp_path, kind, images):
    moved = [replace(images[0], label=CLASSES[1]), *images[1:]]
    added = [*images, replace(images[0], name="030.jpg")]
    versions = [images, moved, added, images[:-1], images[1:]]
    prints = [kind(tmp_path / str(i), version).fingerprint for i, version in enumerate(versions)]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_is_the_same_in_another_process(tmp_path, kind, images):
    source = kind(tmp_path / "a", images)
    code = (
        "import pickle, sys; from pathlib import Path; "
        "print(pickle.loads(Path(sys.argv[1]).read_bytes()).fingerprint)"
    )
    (tmp_path / "pickled").write_bytes(pickle.dumps(source))
    done = commands.run(tmp_path / "pickled", script=code)
    assert done.stdout.strip() == source.fingerprint


def refusal(where, **options):
    with pytest.raises(InputError) as error:
        open_source(where, **options)
    return str(error.value)


def test_what_is_not_there(tmp_path):
    (tmp_path / "photos").mkdir()
    assert refusal(tmp_path / "photo") == (
        f"The source does not exist.\n  where:   {tmp_path}/photo\n  do:      did you mean {tmp_path}/photos?"
    )
    assert refusal(tmp_path / "x" / "y") == f"The source does not exist.\n  where:   {tmp_path}/x/y"


def test_one_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"the bytes")
    (tmp_path / "labels.csv").write_text("image_id,label\na.jpg,dog\n", encoding="utf-8")
    source = open_source(tmp_path / "a.jpg", labels=tmp_path / "labels.csv")
    (part,) = source.parts
    ((item, read),) = part.items()
    assert (item.image_id, item.uri, item.label) == ("a.jpg", f"{tmp_path}/a.jpg", "dog")
    assert read() == b"the bytes"


def test_a_pattern_of_images(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    assert refusal(f"{tmp_path}/*.jpg") == (
        "The pattern matches files other than tar archives and Parquet files.\n"
        f"  where:   {tmp_path}/*.jpg\n"
        f"  got:     2 files, such as {tmp_path}/a.jpg\n"
        f"  allowed: {KINDS_ALLOWED}\n"
        "  do:      pass its folder, or a list of paths"
    )


@pytest.mark.parametrize(("name", "do"), [("a.zip", "\n  do:      unpack it"), ("a.npy", "")])
def test_no_known_kind(tmp_path, name, do):
    (tmp_path / name).touch()
    assert refusal(tmp_path / name) == (
        f"This kind of source cannot be read.\n  where:   {tmp_path}/{name}\n  allowed: {KINDS_ALLOWED}{do}"
    )


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.parquet", "x.csv", "x.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_files_without_an_end(tmp_path, name, kind):
    """A pipe is waited for when it is opened, and the end of a device was sought for ever."""
    path = tmp_path / name
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    for where in (path, tmp_path, tmp_path / "x*"):
        if where == tmp_path and path.suffix in (".csv", ".txt"):
            continue  # no image in the folder
        with pytest.raises(InputError) as error:
            open_source(where)
        assert str(error.value) == (
            f"This is not a regular file.\n  where:   {path}\n  got:     a pipe, socket or device\n"
            "  do:      write its content to a file"
        )


def test_an_empty_folder(tmp_path):
    assert refusal(tmp_path) == (
        "The folder contains no images.\n"
        f"  where:   {tmp_path}\n"
        f"  allowed: files ending in {', '.join(EXTENSIONS)}"
    )


def test_a_folder_called_like_a_file(tmp_path):
    for name in ("x.tar", "x.csv", "x.jpg", "x.parquet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
        assert open_source(tmp_path / name).n == 1


def test_archives_beside_images_are_passed_over(tmp_path, images):
    write_folder(tmp_path, images)
    write_tar(tmp_path / "backup.tar", [("z.jpg", b"")])
    assert open_source(tmp_path).n == 30


def test_labels_that_are_not_there(tmp_path, images):
    write_folder(tmp_path, images)
    assert refusal(tmp_path, labels=tmp_path / "x.csv") == (
        f"The file does not exist.\n  where:   {tmp_path}/x.csv"
    )
