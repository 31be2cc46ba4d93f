import bz2
import gzip
import importlib.util
import lzma
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from manyhot.errors import InputError
from manyhot.predict.sources import SourceLostError, open_source, tar
from manyhot.predict.sources.tar import open_tars
from source_kinds import SHARED, add, expected, listed, webdataset, write_tar

EXTENSIONS = ".jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff, .ppm, .pgm"


PACK = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tgz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def labels(source):
    return {item.image_id: item.label for part in source.parts for item, _ in part.items()}


def opened(tmp_path, *members, name="x.tar"):
    """Open an archive and, read as a stream, the same one: both must tell the same."""
    path = write_tar(tmp_path / name, members)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    source = open_source(path)
    assert listed(open_source(packed)) == listed(source)
    assert open_source(packed).strict == source.strict
    return source


def refusal(path, **options):
    with pytest.raises(InputError) as error:
        listed(open_source(path, **options))
    return str(error.value)


def test_webdataset(tmp_path, images):
    source = opened(tmp_path, *webdataset(images))
    assert listed(source) == expected(images)
    assert source.strict
    assert source.n == 30


def test_the_uri_is_the_archive_and_the_member(tmp_path):
    source = opened(tmp_path, ("./a/x.jpg", b"1"))
    assert next(source.parts[0].items())[0].uri == f"{tmp_path}/x.tar/a/x.jpg"


@pytest.mark.parametrize(
    ("beside", "label"),
    [
        (("x.cls", b"7\n"), "7"),
        (("x.json", b'{"label": 7}'), "7"),
        (("x.json", b'{"caption": "a fish", "label": 7, "wnid": "n01440764"}'), "n01440764"),
        (("x.json", b"7"), "7"),
        (("x.json", b'{"caption": "a fish"}'), None),
        (("x.txt", b"7"), None),
        (("x.cls", b""), None),
    ],
)
def test_where_a_sample_has_its_label(tmp_path, beside, label):
    assert labels(opened(tmp_path, ("x.jpg", b"1"), beside)) == {"x.jpg": label}
    assert labels(opened(tmp_path, beside, ("x.jpg", b"1"))) == {"x.jpg": label}


def test_other_pictures_of_a_sample_are_no_images(tmp_path):
    members = ("7.jpg", b"1"), ("7.mask.png", b"2"), ("7.cls", b"3"), ("a.1.jpg", b""), ("a.2.jpg", b"")
    assert labels(opened(tmp_path, *members)) == {"7.jpg": "3", "a.1.jpg": None, "a.2.jpg": None}


@pytest.mark.parametrize(
    ("members", "found"),
    [
        # WebDataset takes all four for one sample; each image keeps the label that is called as it is.
        (("a.v1.jpg", "a.v1.cls=3", "a.v2.jpg", "a.v2.cls=4"), {"a.v1.jpg": "3", "a.v2.jpg": "4"}),
        (("a.v1.jpg", "a.v1.cls=3", "a.v2.jpg"), {"a.v1.jpg": "3", "a.v2.jpg": None}),
        (("7.left.jpg", "7.right.jpg", "7.cls=3"), {"7.left.jpg": "3", "7.right.jpg": "3"}),
        (("7.jpg", "7.cls=3", "7.mask.cls=9"), {"7.jpg": "3"}),
        (("7.jpg", "7.label.cls=3"), {"7.jpg": "3"}),
    ],
)
def test_labels_of_names_with_dots(tmp_path, members, found):
    pairs = (member.partition("=") for member in members)
    assert labels(opened(tmp_path, *((name, text.encode()) for name, _, text in pairs))) == found


def test_folders_in_an_archive_are_labels(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "val", type=tarfile.DIRTYPE)
        add(tar, "val/n01440764", type=tarfile.DIRTYPE)
        add(tar, "val/n01440764/a.jpg", b"1")
        add(tar, "val/n01440764/._a.jpg", b"what macOS leaves")
        add(tar, ".cache/b.jpg", b"hidden")
        add(tar, "val/readme.md", b"text")
    source = open_source(path)
    assert labels(source) == {"a.jpg": "n01440764"}
    assert not source.strict


def test_an_archive_for_each_class(tmp_path):
    write_tar(tmp_path / "n01440764.tar", [("a.jpg", b"1")])
    write_tar(tmp_path / "n01443537.tar", [("b.jpg", b"2")])
    assert labels(open_source(tmp_path)) == {"a.jpg": "n01440764", "b.jpg": "n01443537"}
    write_tar(tmp_path / "0007.tar", [("c.jpg", b"3")])
    assert labels(open_source(tmp_path / "0007.tar")) == {"c.jpg": None}


def test_long_names_and_names_in_other_encodings(tmp_path):
    long = "/".join(["folder"] * 40) + "/x.jpg"
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(tmp_path / "x.tar", "w", format=kind, pax_headers={"comment": "é"}) as tar:
            add(tar, long, b"1")
        assert list(labels(open_source(tmp_path / "x.tar"))) == ["x.jpg"]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        add(tar, "café.jpg", b"1")
    assert list(labels(open_source(tmp_path / "x.tar"))) == ["caf\N{REPLACEMENT CHARACTER}.jpg"]


def test_links_are_listed_with_their_reason(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a.jpg", b"1")
        add(tar, "b.jpg", type=tarfile.LNKTYPE, linkname="a.jpg")
        add(tar, "c.jpg", type=tarfile.SYMTYPE, linkname="a.jpg")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress((tmp_path / "x.tar").read_bytes()))
    for name in ("x.tar", "x.tar.gz"):
        (_, first), *links = open_source(tmp_path / name).parts[0].items()
        assert first() == b"1"
        for _, read in links:
            with pytest.raises(OSError, match=r"^a link within the archive, which is not followed$"):
                read()


def test_files_with_holes_are_listed_with_their_reason(tmp_path):
    """Their bytes do not lie in one piece: read from the offset on, they would be those of the next file."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000"}
        data = b"1\n8000\n1000\n".ljust(512, b"\0") + b"x" * 1000
        add(tar, "a.jpg", data, pax_headers={"GNU.sparse.name": "a.jpg", **holes})
        add(tar, "b.jpg", b"2" * 20_000)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("x.tar", "x.tar.gz"):
        (_, first), (_, second) = open_source(tmp_path / name).parts[0].items()
        with pytest.raises(OSError, match=r"^a sparse file \(tar --sparse\), which is not read$"):
            first()
        assert second() == b"2" * 20_000


def test_copies_of_an_archive_are_one_source(tmp_path, images):
    """Machines that share the work have copies of their own, of other dates."""
    path = write_tar(tmp_path / "x.tar.gz", webdataset(images), "w:gz")
    (tmp_path / "copy").mkdir()
    copy = shutil.copyfile(path, tmp_path / "copy" / "x.tar.gz")
    os.utime(copy, (0, 0))
    assert open_source(copy).fingerprint == open_source(path).fingerprint
    changed = [*webdataset(images[:-1]), ("029.jpg", images[-1].data[::-1]), ("029.cls", b"n01494475")]
    write_tar(copy, changed, "w:gz")
    assert open_source(copy).fingerprint != open_source(path).fingerprint


def test_brackets_in_a_pattern_stand_for_themselves(tmp_path):
    (tmp_path / "[1]").mkdir()
    write_tar(tmp_path / "[1]" / "x.tar", [("a.jpg", b"1")])
    assert open_source(f"{tmp_path}/[1]/*.tar").n == 1


@pytest.mark.parametrize("ending", PACK)
def test_shards_in_the_order_of_their_pattern(tmp_path, images, ending):
    for i in range(3):
        path = write_tar(tmp_path / f"shard-{i:03}.{ending}", webdataset(images[10 * i : 10 * i + 10]))
        path.write_bytes(PACK[ending](path.read_bytes()))
    for pattern in (f"shard-{{000..002}}.{ending}", f"*.{ending}", f"shard-00?.{ending}", ""):
        source = open_source(f"{tmp_path}/{pattern}")
        assert listed(source) == expected(images)
        assert [part.name for part in source.parts] == ["00000", "00001", "00002"]
        assert source.n == (30 if ending == "tar" else None)
    assert len(listed(open_source(f"{tmp_path}/shard-{{001..002}}.{ending}"))) == 20


def test_what_webdataset_writes(tmp_path, images, require):
    require(importlib.util.find_spec("webdataset"), "webdataset")
    import webdataset as wds

    with wds.TarWriter(str(tmp_path / "x.tar")) as sink:
        for i, image in enumerate(images):
            sink.write({"__key__": f"{i:03}", "jpg": image.data, "cls": i, "json": {"caption": "x"}})
    assert listed(open_source(tmp_path / "x.tar")) == [(i.name, str(n), i.data) for n, i in enumerate(images)]


def test_samples(require):
    path = SHARED / "samples" / "samples.tar"
    require(path.is_file(), f"{path}, one image a class")
    source = open_source(path, labels=path.parent / "index.csv")
    assert source.n == 1000
    found = {item.image_id: item.label for part in source.parts for item, _ in part.items()}
    assert found["n01440764_tench.JPEG"] == "n01440764"
    assert None not in found.values()


def test_truncated(tmp_path, images):
    whole = write_tar(tmp_path / "whole.tar", webdataset(images)).read_bytes()
    shard = tmp_path / "shard-000.tar"
    shard.write_bytes(whole[:12_850])
    assert refusal(shard) == (
        "The archive is truncated.\n"
        f"  where:   {shard}\n"
        "  got:     unexpected end of data after 6 images, the last of them 005.jpg\n"
        "  do:      download or create it again"
    )
    packed = tmp_path / "shard-000.tar.gz"
    packed.write_bytes(gzip.compress(whole)[:-300])
    assert refusal(packed).startswith(
        f"The archive is truncated.\n  where:   {packed}\n  got:     Compressed file ended "
    )


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.zst"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.5, 0.75])
def test_truncated_anywhere(tmp_path, images, ending, share):
    whole = write_tar(tmp_path / "whole.tar", webdataset(images)).read_bytes()
    whole = PACK[ending](whole)
    shard = tmp_path / f"x.{ending}"
    shard.write_bytes(whole[: int(len(whole) * share)])
    assert refusal(shard).startswith("The archive is truncated.\n")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_archives_one_after_the_other(tmp_path, pack):
    two = [write_tar(tmp_path / f"{i}.tar", [(f"{i}.jpg", b"1" * 30_000)]).read_bytes() for i in range(2)]
    path = tmp_path / ("x.tar" if pack is bytes else "x.tar.gz")
    path.write_bytes(b"".join(map(pack, two)))
    assert refusal(path) == (
        "The file contains several concatenated archives.\n"
        f"  where:   {path}\n"
        "  do:      pass them one by one, or join them with tar --concatenate"
    )


def test_without_its_end(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1")])
    path.write_bytes(path.read_bytes()[:1024])
    assert refusal(path) == (
        "The archive is truncated.\n"
        f"  where:   {path}\n"
        "  got:     empty header after 0 images\n"
        "  do:      download or create it again"
    )


def test_damaged_in_the_middle(tmp_path, images):
    path = write_tar(tmp_path / "x.tar", webdataset(images))
    content = bytearray(path.read_bytes())
    content[10 * 1024 + 100] ^= 255  # a header
    path.write_bytes(content)
    assert refusal(path) == (
        "The archive is damaged.\n"
        f"  where:   {path}\n"
        "  got:     bad checksum after 4 images, the last of them 003.jpg\n"
        "  do:      download or create it again"
    )


@pytest.mark.parametrize(
    ("ending", "said"), [("tar", "invalid header"), ("tar.gz", "Not a gzipped file (b'he')")]
)
def test_no_archive(tmp_path, ending, said):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"hello " * 200)
    assert refusal(path) == (
        "The file is not a tar archive.\n"
        f"  where:   {path}\n"
        f"  got:     {said}\n"
        "  allowed: .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .tar.zst"
    )


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_an_archive_without_images(tmp_path, ending):
    path = write_tar(tmp_path / f"x.{ending}", [("a.txt", b"1")], "w:gz" if ending == "tar.gz" else "w")
    assert refusal(path) == (
        f"The archive contains no images.\n  where:   {path}\n  allowed: files ending in {EXTENSIONS}"
    )


def test_a_shard_that_is_not_there(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.jpg", b"1")])
    assert refusal(f"{tmp_path}/{{0..1}}.tar") == f"The file does not exist.\n  where:   {tmp_path}/1.tar"
    assert refusal(f"{tmp_path}/a*.tar") == (
        "The pattern matches no file.\n"
        f"  where:   {tmp_path}/a*.tar\n"
        "  allowed: ranges such as {000..127}, and * and ?"
    )


def test_two_shards_with_the_same_name(tmp_path):
    for i in range(2):
        write_tar(tmp_path / f"{i}.tar", [("a.jpg", b"1"), (f"b{i}.jpg", b"2")])
    source = pickle.loads(pickle.dumps(open_tars(f"{tmp_path}/*.tar")))
    items = [item for part in source.parts for item, _ in part.items()]
    assert [i.image_id for i in items] == ["0.tar/a.jpg", "0.tar/b0.jpg", "1.tar/a.jpg", "1.tar/b1.jpg"]


def test_two_folders_with_the_same_name(tmp_path):
    """Read as a stream, the archive is known only at the end, and the base names are ids."""
    path = write_tar(tmp_path / "x.tar", [("a/1.jpg", b"1"), ("b/1.jpg", b"2"), ("b/2.jpg", b"3")])
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    read = [
        [(i.image_id, r()) for part in open_tars(str(tmp_path / name)).parts for i, r in part.items()]
        for name in ("x.tar", "x.tar.gz")
    ]
    assert read[0] == [("a/1.jpg", b"1"), ("b/1.jpg", b"2"), ("b/2.jpg", b"3")]
    assert read[1] == [("1.jpg", b"1"), ("1.jpg", b"2"), ("2.jpg", b"3")]


def test_labels_apart_from_their_images(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("b.jpg", b"1"), ("a.cls", b"7"), ("b.cls", b"8")])
    assert refusal(path) == (
        "A label in the archive has no image next to it.\n"
        f"  where:   {path}\n"
        "  got:     a.cls\n"
        "  allowed: the members of each sample next to each other, such as 000.jpg and 000.cls\n"
        "  do:      create the archive again with sorted names: tar --sort=name"
    )


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("a.json", b"{"), "This is not JSON.\n  where:   {}/a.json\n  got:     Expecting property name"),
        (
            ("a.cls", b"\xff"),
            "A label is not text.\n  where:   {}/a.cls\n  got:     'utf-8' codec can't decode",
        ),
        (
            ("a.json", b'{"label": "\\ud800"}'),
            "A label is not text.\n  where:   {}/a.json\n  got:     '\\ud800'\n  allowed: UTF-8",
        ),
    ],
)
def test_labels_that_cannot_be_read(tmp_path, member, message):
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), member])
    assert refusal(path).startswith(message.format(path).replace("{{", "{"))


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_shard_that_vanished_ends_the_run(tmp_path, ending):
    path = write_tar(tmp_path / f"x.{ending}", [("a.jpg", b"1")], "w:gz" if ending == "tar.gz" else "w")
    source = open_source(path)
    Path(path).unlink()
    with pytest.raises(SourceLostError) as error:
        listed(source)
    assert str(error.value) == (
        "The storage of the images no longer exists.\n"
        f"  where:   {path}\n"
        "  got:     No such file or directory\n"
        "  do:      make it available again, and run the same command again to resume"
    )


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_table_of_labels(tmp_path, images, ending):
    path = write_tar(tmp_path / f"x.{ending}", webdataset(images), "w:gz" if ending == "tar.gz" else "w")
    (tmp_path / "labels.csv").write_text("image_id,label\n" + "".join(f"{i.name},5\n" for i in images[1:]))
    source = open_source(path, labels=tmp_path / "labels.csv")
    assert labels(source) == {i.name: "5" for i in images[1:]} | {"000.jpg": None}
    assert source.strict


def test_parts_of_a_large_archive(tmp_path):
    path = write_tar(tmp_path / "x.tar", [(f"{i:04}.jpg", b"%d" % i) for i in range(600)])
    source = open_source(path)
    assert [(part.name, part.n) for part in source.parts] == [("00000", 512), ("00001", 88)]
    assert [read() for _, read in source.parts[1].items()] == [b"%d" % i for i in range(512, 600)]


def test_a_label_that_is_nested_deeply(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.json", b"[" * 100_000)])
    assert refusal(path) == (
        f"This is not JSON.\n  where:   {path}/a.json\n"
        "  got:     maximum recursion depth exceeded while decoding a JSON array from a unicode string"
    )


FRAMES = [(f"clip.{i:06}.jpg", bytes([i % 256]) * 1000) for i in range(300)]


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(tar, "_MOST_HELD", 50_000)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("beside", [[], [("clip.cls", b"7")], [("clip.txt", b"notes"), ("clip.json", b"7")]])
def test_frames_of_a_video_are_not_held_together(tmp_path, beside):
    source = opened(tmp_path, *beside, *FRAMES)
    label = "7" if beside else None
    assert listed(source) == [(name, label, data) for name, data in FRAMES]


@pytest.mark.usefixtures("little_memory")
def test_labels_of_frames(tmp_path):
    labels = [(name.replace("jpg", "cls"), data[:1].hex().encode()) for name, data in FRAMES]
    source = opened(tmp_path, *(m for both in zip(FRAMES, labels, strict=True) for m in both))
    assert listed(source) == [(name, data[:1].hex(), data) for name, data in FRAMES]


@pytest.mark.usefixtures("little_memory")
def test_masks_of_a_large_sample_are_no_images(tmp_path):
    masks = [(f"7.mask{i:03}.png", b"1" * 1000) for i in range(200)]
    assert listed(opened(tmp_path, ("7.cls", b"3"), ("7.jpg", b"0"), *masks)) == [("7.jpg", "3", b"0")]


@pytest.mark.usefixtures("little_memory")
def test_a_label_after_the_frames_of_a_stream(tmp_path):
    path = write_tar(tmp_path / "x.tar.gz", [*FRAMES, ("clip.cls", b"7")], "w:gz")
    assert refusal(path) == (
        "A label in the archive has no image next to it.\n"
        f"  where:   {path}\n"
        "  got:     clip.cls\n"
        "  allowed: the members of each sample next to each other, such as 000.jpg and 000.cls\n"
        "  do:      create the archive again with sorted names: tar --sort=name"
    )


def test_an_archive_that_was_replaced_is_opened_again(tmp_path):
    first = opened(tmp_path, ("x.jpg", b"first"))
    ((_, opener),) = first.parts[0].items()
    assert opener() == b"first"
    (tmp_path / "x.tar").rename(tmp_path / "old.tar")
    second = opened(tmp_path, ("longer-name.jpg", b"0123"), ("x.jpg", b"other"))
    readers = {item.image_id: opener for item, opener in second.parts[0].items()}
    assert readers["x.jpg"]() == b"other"
    assert readers["longer-name.jpg"]() == b"0123"


def test_no_more_archives_are_kept_open_than_a_few(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(100):
        folder = tmp_path / str(i)
        folder.mkdir()
        ((_, opener),) = opened(folder, ("x.jpg", b"%d" % i)).parts[0].items()
        assert opener() == b"%d" % i
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 32
