import dataclasses
import importlib.util
import os
import pickle
import sys

import pytest

from manyhot.errors import InputError, MissingExtraError
from manyhot.predict.sources import SourceLostError, open_source, remote
from source_kinds import expected, listed, serving, webdataset, write_folder, write_parquet, write_tar

DO = "check the internet connection and your credentials, and run the same command again to resume"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(remote, "_LONG_PAUSES", (0.01, 0.01))


def upload(s3, folder, bucket="photos"):
    for path in folder.rglob("*"):
        if path.is_file():
            s3.pipe_file(f"{bucket}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def openers(source):
    return {item.image_id: read for part in source.parts for item, read in part.items()}


def lost(read):
    with pytest.raises(SourceLostError) as error:
        read()
    return str(error.value)


def refusal(*args, **options):
    with pytest.raises(InputError) as error:
        open_source(*args, **options)
    return str(error.value)


def test_a_folder_in_a_bucket(tmp_path, s3, images):
    upload(s3, write_folder(tmp_path / "local", images))
    s3.pipe_file("photos/.hidden/x.jpg", b"1")
    s3.pipe_file("photos/notes.txt", b"1")
    s3.pipe_file("photos/empty/", b"")
    here = open_source(tmp_path / "local")
    for address in ("s3://photos", "s3://photos/"):
        source = open_source(address)
        assert listed(source) == listed(here)
        assert source.fingerprint == here.fingerprint
    assert sorted(listed(source)) == expected(images)
    assert next(source.parts[0].items())[0].uri == "s3://photos/n01440764/000.jpg"
    assert len(listed(open_source("s3://photos/n01443537"))) == 6


def test_openers_are_pickled(tmp_path, s3, images):
    upload(s3, write_folder(tmp_path / "local", images))
    read = openers(open_source("s3://photos"))["003.jpg"]
    assert pickle.loads(pickle.dumps(read))() == images[3].data


def test_listing_goes_page_by_page(s3, monkeypatch):
    for i in range(25):
        s3.pipe_file(f"photos/{i:03}.jpg", b"1")
    call, pages = s3.call_s3, []

    def small(name, **options):
        pages.append(name)
        return call(name, MaxKeys=10, **options)

    monkeypatch.setattr(s3, "call_s3", small)
    assert open_source("s3://photos").n == 25
    assert pages == ["list_objects_v2"] * 3


def test_an_image_is_read_in_one_request(s3, monkeypatch):
    s3.pipe_file("photos/a.jpg", b"1")
    (read,) = openers(open_source("s3://photos")).values()
    calls = []
    original = type(s3)._call_s3

    async def counted(self, method, *args, **options):
        calls.append(method)
        return await original(self, method, *args, **options)

    monkeypatch.setattr(type(s3), "_call_s3", counted)
    read()
    assert calls == ["get_object"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "parquet"])
def test_shards_and_tables_in_a_bucket(tmp_path, s3, images, kind):
    folder = tmp_path / "local"
    folder.mkdir()
    for i in range(3):
        own, path = images[10 * i : 10 * i + 10], folder / f"{i}.{kind}"
        if kind == "parquet":
            write_parquet(path, own)
        else:
            write_tar(path, webdataset(own), "w:gz" if kind == "tar.gz" else "w")
    upload(s3, folder)
    for address in ("s3://photos", f"s3://photos/*.{kind}", f"s3://photos/{{0..2}}.{kind}"):
        source = open_source(address)
        assert listed(source) == expected(images)
        assert [part.n for part in source.parts] == ([10] * 3 if kind == "parquet" else [None] * 3)
        assert pickle.loads(pickle.dumps(source)).fingerprint == open_source(address).fingerprint
    before = source.fingerprint
    changed = images[20:29]
    path = folder / f"2.{kind}"
    if kind == "parquet":
        write_parquet(path, changed)
    else:
        write_tar(path, webdataset(changed), "w:gz" if kind == "tar.gz" else "w")
    upload(s3, folder)
    assert open_source(address).fingerprint != before


def test_labels_and_lists_in_a_bucket(tmp_path, s3, images):
    for image in images:
        s3.pipe_file(f"photos/flat/{image.name}", image.data)
    s3.pipe_file(
        "photos/val.csv", "".join(["path,wnid\n", *(f"flat/{i.name},{i.label}\n" for i in images)]).encode()
    )
    assert listed(open_source("s3://photos/flat", labels="s3://photos/val.csv")) == expected(images)
    assert listed(open_source("s3://photos/val.csv")) == expected(images)


def test_an_absent_object_is_one_image(tmp_path, s3, images):
    upload(s3, write_folder(tmp_path / "local", images))
    reads = openers(open_source("s3://photos"))
    s3.rm("photos/n01440764/000.jpg")
    for _ in range(2):  # before anything was read, and after
        with pytest.raises(FileNotFoundError):
            reads["000.jpg"]()
        assert reads["001.jpg"]() == images[1].data


@pytest.mark.parametrize("read_before", [False, True])
def test_a_bucket_that_is_deleted_ends_the_run(s3, read_before):
    s3.pipe_file("photos/a.jpg", b"1")
    s3.pipe_file("photos/b.jpg", b"2")
    reads = openers(open_source("s3://photos"))
    if read_before:
        reads["b.jpg"]()
    s3.rm("photos", recursive=True)
    assert lost(reads["a.jpg"]) == (
        "The storage of the images no longer exists.\n"
        "  where:   s3://photos/a.jpg\n"
        "  got:     The specified bucket does not exist\n"
        f"  do:      {DO}"
    )


def test_a_folder_in_a_bucket_that_is_deleted_ends_the_run(s3):
    for name in ("val/a.jpg", "val/b.jpg", "train/c.jpg"):
        s3.pipe_file(f"photos/{name}", b"1")
    reads = openers(open_source("s3://photos/val"))
    s3.rm("photos/val", recursive=True)
    assert lost(reads["a.jpg"]).startswith(
        "The storage of the images no longer exists.\n  where:   s3://photos/val/a.jpg\n"
    )


def test_a_bucket_that_asks_for_a_rest_is_asked_again(s3, monkeypatch):
    s3.pipe_file("photos/a.jpg", b"1")
    (read,) = openers(open_source("s3://photos")).values()
    cat, asked = s3.cat_file, []

    def busy(path, **options):
        asked.append(path)
        if len(asked) < 3:
            raise OSError(16, "Please reduce your request rate.")
        return cat(path, **options)

    monkeypatch.setattr(s3, "cat_file", busy)
    assert read() == b"1"


def test_a_server_that_stops_ends_the_run(s3, monkeypatch):
    monkeypatch.setattr(s3, "retries", 1)
    s3.pipe_file("photos/a.jpg", b"1")
    s3.pipe_file("photos/b.jpg", b"2")
    reads = openers(open_source("s3://photos"))
    reads["b.jpg"]()
    s3.stop_server()
    message = lost(reads["a.jpg"])
    assert message.startswith(
        "The storage does not respond.\n  where:   s3://photos/a.jpg\n  got:     Could not connect"
    )
    assert message.endswith(f"\n  do:      {DO}")


@pytest.mark.parametrize("kind", ["tar.gz", "parquet"])
def test_a_server_that_stops_while_a_shard_is_read(tmp_path, s3, images, monkeypatch, kind):
    monkeypatch.setattr(s3, "retries", 1)
    path = tmp_path / "local" / f"x.{kind}"
    path.parent.mkdir()
    write_parquet(path, images) if kind == "parquet" else write_tar(path, webdataset(images), "w:gz")
    upload(s3, path.parent)
    source = open_source(f"s3://photos/x.{kind}")
    s3.stop_server()
    assert lost(lambda: listed(source)).startswith(
        f"The storage does not respond.\n  where:   s3://photos/x.{kind}\n"
    )


def test_credentials_that_are_refused_end_the_run(s3, monkeypatch):
    s3.pipe_file("photos/a.jpg", b"1")
    reads = openers(open_source("s3://photos"))

    def refuse(*args, **options):
        raise PermissionError("The provided token has expired.")

    monkeypatch.setattr(s3, "cat_file", refuse)
    monkeypatch.setattr(s3, "info", refuse)
    assert lost(reads["a.jpg"]) == (
        "The storage denies access to its images.\n"
        "  where:   s3://photos/a.jpg\n"
        "  got:     The provided token has expired.\n"
        f"  do:      {DO}"
    )


def test_an_object_that_is_refused_is_one_image(s3, monkeypatch):
    s3.pipe_file("photos/a.jpg", b"1")
    reads = openers(open_source("s3://photos"))

    def refuse(*args, **options):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3, "cat_file", refuse)
    with pytest.raises(PermissionError, match=r"^Access Denied$"):
        reads["a.jpg"]()


def test_a_bucket_that_is_not_there(s3):
    assert refusal("s3://nowhere/val") == (
        "The address cannot be listed.\n"
        "  where:   s3://nowhere/val\n"
        "  got:     The specified bucket does not exist\n"
        "  do:      check the address and your credentials; for https, pass a list of images "
        "instead of a folder"
    )
    assert refusal("s3://photos/val").startswith(
        "The folder contains no images.\n  where:   s3://photos/val\n"
    )
    assert refusal("s3://photos/val.csv") == "The file does not exist.\n  where:   s3://photos/val.csv"
    assert refusal("s3://photos/0.tar").startswith(
        "The file cannot be opened.\n  where:   s3://photos/0.tar\n"
    )
    assert refusal("s3://photos/0.parquet") == "The file does not exist.\n  where:   s3://photos/0.parquet"
    assert refusal("s3://photos/*.tar").startswith("The pattern matches no file.\n")
    (item, _), *others = open_source("s3://photos/a.jpg").parts[0].items()
    assert (item.image_id, item.uri, others) == ("a.jpg", "s3://photos/a.jpg", [])


@pytest.mark.usefixtures("needs_http")
def test_a_list_of_addresses(tmp_path, images):
    write_folder(tmp_path / "www", images)
    with serving(tmp_path / "www") as address:
        lines = [f"{address}/{i.label}/{i.name}?size=large,{i.label}" for i in images]
        (tmp_path / "list.csv").write_text("\n".join(["url,wnid", *lines]) + "\n")
        assert listed(open_source(tmp_path / "list.csv")) == expected(images)
        (tmp_path / "www" / "val.csv").write_text("\n".join(["url,wnid", *lines]) + "\n")
        assert listed(open_source(f"{address}/val.csv")) == expected(images)


@pytest.mark.usefixtures("needs_http")
def test_a_folder_that_a_server_lists(tmp_path, images):
    write_folder(tmp_path / "www", images)
    with serving(tmp_path / "www") as address:
        assert listed(open_source(f"{address}/")) == listed(open_source(tmp_path / "www"))
        assert refusal(f"{address}/none").startswith("The address cannot be listed.\n")


@pytest.mark.usefixtures("needs_http")
def test_a_server_that_does_not_answer_is_no_empty_folder(tmp_path):
    with serving(tmp_path) as address:
        pass
    message = refusal(f"{address}/photos")
    assert message.startswith(f"The address cannot be listed.\n  where:   {address}/photos\n  got:     ")
    assert message.endswith(
        "\n  do:      check the address and your credentials; for https, pass a list of images "
        "instead of a folder"
    )


@pytest.mark.usefixtures("needs_http")
def test_names_on_the_web_are_those_of_the_files(tmp_path):
    folder = tmp_path / "www" / "great white shark"
    folder.mkdir(parents=True)
    for name in ("a b", "50%", "a#b", "a?b", "\u00e9", "e\u0301", "[x]", "a+b"):
        (folder / f"{name}.jpg").write_bytes(name.encode())
    with serving(tmp_path / "www") as address:
        assert sorted(listed(open_source(f"{address}/"))) == sorted(listed(open_source(tmp_path / "www")))
        (tmp_path / "list.txt").write_text(f"{address}/great%20white%20shark/a%20b.jpg\n")
        assert listed(open_source(tmp_path / "list.txt")) == [("a b.jpg", None, b"a b")]


@pytest.mark.usefixtures("needs_http")
def test_parquet_over_http(tmp_path, images):
    # 9 MB, above the block of 4 MB that is read at once.
    large = [dataclasses.replace(image, data=image.data * 3000) for image in images]
    write_parquet(tmp_path / "x.parquet", large, row_group_size=10, compression="none")
    with serving(tmp_path, ranges=True) as address:
        source = open_source(f"{address}/x.parquet")
        assert listed(source) == expected(large)
        assert [part.n for part in source.parts] == [10, 10, 10]
        os.utime(tmp_path / "x.parquet", (0, 0))
        assert open_source(f"{address}/x.parquet").fingerprint != source.fingerprint
    assert lost(lambda: listed(source)).startswith("The storage does not respond.\n")


@pytest.mark.usefixtures("needs_http")
def test_parquet_on_a_server_that_does_not_know_ranges(tmp_path, images):
    large = [dataclasses.replace(image, data=image.data * 3000) for image in images]
    write_parquet(tmp_path / "x.parquet", large, compression="none")
    with serving(tmp_path) as address:
        message = refusal(f"{address}/x.parquet")
    assert message == (
        "The file cannot be read, because the server does not support range requests.\n"
        f"  where:   {address}/x.parquet\n"
        "  do:      download it, or use another server"
    )


@pytest.mark.usefixtures("needs_http")
def test_a_shard_whose_connection_breaks(tmp_path, images, monkeypatch):
    (tmp_path / "www").mkdir()
    write_tar(tmp_path / "www" / "x.tar", [("big.jpg", bytes(4 << 20)), *webdataset(images)])
    with serving(tmp_path / "www") as address:
        source = open_source(f"{address}/x.tar")
        with monkeypatch.context() as patch:
            patch.setattr("shutil.copyfileobj", lambda file, to: to.write(file.read(3 << 20)))
            assert lost(lambda: listed(source)).startswith("The storage does not respond.\n")
        assert len(listed(source)) == 31


@pytest.mark.usefixtures("needs_http")
@pytest.mark.parametrize("kind", ["tar", "tgz"])
def test_shards_over_http(tmp_path, images, kind):
    (tmp_path / "www").mkdir()
    path = write_tar(tmp_path / "www" / f"x.{kind}", webdataset(images), "w:gz" if kind == "tgz" else "w")
    with serving(tmp_path / "www") as address:
        source = open_source(f"{address}/{path.name}")
        assert listed(source) == expected(images)
    assert lost(lambda: listed(source)).startswith("The storage does not respond.\n")


@pytest.mark.usefixtures("needs_http")
def test_what_servers_answer_of_one_image(tmp_path, images):
    write_folder(tmp_path / "www", images[:6])
    answers = {f"/n01440764/{name}.jpg": status for name, status in (("000", 404), ("005", 403))}
    with serving(tmp_path / "www", answers) as address:
        lines = [f"{address}/{i.label}/{i.name}\n" for i in images[:6]]
        (tmp_path / "list.txt").write_text("".join(lines))
        reads = openers(open_source(tmp_path / "list.txt"))
        for _ in range(2):  # before anything was read, and after
            with pytest.raises(FileNotFoundError):
                reads["000.jpg"]()
            with pytest.raises(PermissionError, match=r"^the server responds with 403$"):
                reads["005.jpg"]()
            assert reads["001.jpg"]() == images[1].data
        answers["/n01440764/000.jpg"] = 503
        with pytest.raises(OSError, match="503"):
            reads["000.jpg"]()
    assert lost(reads["001.jpg"]).startswith("The storage does not respond.\n")


@pytest.mark.usefixtures("needs_http")
def test_one_dead_server_among_several_loses_its_own_images(tmp_path, images):
    write_folder(tmp_path / "www", images[:2])
    with serving(tmp_path / "www") as dead:
        pass
    with serving(tmp_path / "www") as alive:
        (tmp_path / "list.txt").write_text(f"{alive}/n01440764/000.jpg\n{dead}/n01443537/001.jpg\n")
        reads = openers(open_source(tmp_path / "list.txt"))
        assert reads["000.jpg"]() == images[0].data
        with pytest.raises(OSError, match="Connect call failed"):
            reads["001.jpg"]()
    assert lost(reads["000.jpg"]).startswith("The storage does not respond.\n")


@pytest.mark.usefixtures("needs_http")
def test_images_that_are_all_gone_end_the_run(tmp_path, images):
    write_folder(tmp_path / "www", images[:2])
    with serving(tmp_path / "www") as address:
        (tmp_path / "list.txt").write_text("".join(f"{address}/{i.label}/{i.name}\n" for i in images[:2]))
        reads = openers(open_source(tmp_path / "list.txt"))
        reads["000.jpg"]()
        (tmp_path / "www").rename(tmp_path / "other")
        assert lost(reads["001.jpg"]).startswith("The storage of the images no longer exists.\n")


def test_a_folder_in_memory_stands_for_all_other_storages(require, images):
    require(importlib.util.find_spec("fsspec"), "fsspec, to read remote files")
    memory = remote.filesystem_of("memory://photos")
    for image in images:
        memory.pipe_file(f"/photos/{image.label}/{image.name}", image.data)
    assert sorted(listed(open_source("memory://photos"))) == expected(images)


@pytest.mark.parametrize(
    ("scheme", "missing", "package"),
    [("gs", "gcsfs", "gcsfs"), ("az", "adlfs", "adlfs")],
)
def test_storages_whose_package_is_missing(require, monkeypatch, scheme, missing, package):
    require(importlib.util.find_spec("fsspec"), "fsspec, to read remote files")
    remote._filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    message = refusal(f"{scheme}://photos/val")
    assert message.startswith(f"Reading {scheme}:// needs another package.\n  got:     ")
    assert message.endswith(f"\n  do:      pip install {package}")


def test_a_storage_that_cannot_be_opened(require, monkeypatch):
    """As hdfs:// where the libraries of Hadoop are missing."""
    require(importlib.util.find_spec("fsspec"), "fsspec, to read remote files")
    remote._filesystem.cache_clear()

    def refuse(*_, **__):
        raise OSError("Unable to load libhdfs\nmore")

    monkeypatch.setattr("fsspec.filesystem", refuse)
    assert refusal("hdfs://photos/val") == (
        "hdfs:// cannot be opened here.\n  got:     Unable to load libhdfs"
    )
    remote._filesystem.cache_clear()


def test_no_such_kind_of_address(require):
    require(importlib.util.find_spec("fsspec"), "fsspec, to read remote files")
    assert refusal("s4://photos/val") == (
        "This kind of address is not supported.\n  got:     s4://\n  allowed: s3://, gs://, https://, …"
    )


def test_without_fsspec(monkeypatch):
    remote._filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError) as error:
        open_source("s3://photos/val")
    assert str(error.value) == (
        "Reading s3:// needs fsspec, which cannot be imported.\n"
        "  got:     import of fsspec halted; None in sys.modules\n"
        '  do:      pip install "manyhot[remote]"'
    )


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{08..10}.tar", ["a-08.tar", "a-09.tar", "a-10.tar"]),
        ("{0..1}/{0..1}.tar", ["0/0.tar", "0/1.tar", "1/0.tar", "1/1.tar"]),
        ("https://host/a.tar?sig=1", ["https://host/a.tar?sig=1"]),
    ],
)
def test_patterns(pattern, paths):
    assert remote.expand(pattern) == paths


def test_a_file_called_like_a_pattern(tmp_path):
    path = write_tar(tmp_path / "a-{0..1}.tar", [("x.jpg", b"1")])
    assert listed(open_source(path)) == [("x.jpg", None, b"1")]
