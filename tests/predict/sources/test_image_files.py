import os
import pickle

import pytest

from manyhot.errors import InputError
from manyhot.predict.sources import SourceLostError, image_files, open_source
from manyhot.predict.sources.image_files import folder_label, open_image_folder
from manyhot.predict.sources.remote import fetch_bytes

EXTENSIONS = ".jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff, .ppm, .pgm"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def items(source):
    return [item for part in source.parts for item, _ in part.items()]


def ids(source):
    return [item.image_id for item in items(source)]


def labels(source):
    return {item.image_id: item.label for item in items(source)}


def test_flat_and_nested_in_order_of_the_path(tmp_path):
    names = ("b.JPG", "a/z.png", "a/b/y.jpeg", "a-c.tif", ".hidden/x.jpg", "._b.JPG", "notes.txt", "c.WebP")
    source = open_image_folder(str(touch(tmp_path, *names)))
    assert ids(source) == ["y.jpeg", "z.png", "a-c.tif", "b.JPG", "c.WebP"]
    assert items(source)[0].uri == f"{tmp_path.as_posix()}/a/b/y.jpeg"
    assert source.n == 5


def test_a_note_counts_the_files_that_are_not_read_as_images(tmp_path):
    names = ("a.png", "b.dcm", "c.DCM", "scan/IM0001", "d.heic", ".hidden", "labels.csv", "README", "e.json")
    source = open_source(touch(tmp_path, *names))
    assert ids(source) == ["a.png"]
    assert source.notes == (
        "4 files are not read as images: 2 .dcm, 1 .heic, 1 without a suffix; "
        "convert DICOM files to PNG or TIFF",
    )


def test_no_note_on_what_lies_beside_images(tmp_path):
    names = ("a.png", "labels.csv", "classes.txt", "LICENSE", "README.md", "x.xml", "p.parquet", "e.npy")
    assert open_source(touch(tmp_path, *names)).notes == ()


def test_a_note_on_many_kinds_of_files(tmp_path):
    names = ("a.png", "b.heic", "c.raw", "d.mp4", "e.svg", "f.psd", "g.psd", "h.a b c", "i.x;y")
    assert open_source(touch(tmp_path, *names)).notes == (
        "8 files are not read as images: 2 .psd, 2 without a suffix, 1 .heic, 1 .mp4, 2 of other kinds",
    )


def test_a_folder_of_dicom_files(tmp_path):
    with pytest.raises(InputError, match=r"do: +convert DICOM files to PNG or TIFF$"):
        open_source(touch(tmp_path, "a.dcm", "b.dcm"))


def test_folders_called_by_numbers_sort_as_numbers(tmp_path):
    touch(tmp_path, *(f"train/{i}/{i}.jpg" for i in (0, 2, 10, 1)))
    assert ids(open_image_folder(str(tmp_path))) == ["0.jpg", "1.jpg", "2.jpg", "10.jpg"]
    touch(tmp_path, "train/extra/e.jpg")
    assert ids(open_image_folder(str(tmp_path))) == ["0.jpg", "1.jpg", "10.jpg", "2.jpg", "e.jpg"]


def test_the_uri_begins_as_the_folder_was_given(tmp_path, monkeypatch):
    touch(tmp_path, "photos/a.png")
    monkeypatch.chdir(tmp_path)
    assert items(open_image_folder("photos"))[0].uri == "photos/a.png"
    assert items(open_image_folder("photos/"))[0].uri == "photos/a.png"
    assert items(open_image_folder("."))[0].uri == "photos/a.png"


@pytest.mark.parametrize(
    ("path", "root", "label"),
    [
        ("n01440764/a.jpg", "train", "n01440764"),
        ("val/great_white_shark/a.jpg", "", "great_white_shark"),
        ("7/a.jpg", "train", "7"),
        ("2021/07/a.jpg", "photos", None),
        ("a.jpg", "/data/n01440764", "n01440764"),
        ("a.jpg", "/data/2021", None),
        ("a.jpg", "", None),
    ],
)
def test_the_label_of_a_folder(path, root, label):
    assert folder_label(path, root) == label


def test_links_to_folders_are_followed(tmp_path):
    touch(tmp_path, "store/a.jpg", "view/b.jpg")
    (tmp_path / "view" / "n01440764").symlink_to(tmp_path / "store")
    assert labels(open_image_folder(str(tmp_path / "view"))) == {"a.jpg": "n01440764", "b.jpg": "view"}


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    touch(tmp_path, "a/x.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    assert ids(open_image_folder(str(tmp_path))) == ["x.jpg"]


def test_two_images_of_one_name(tmp_path):
    """Then the ids of all images of the folder are their paths; the parts can be pickled with them."""
    touch(tmp_path, "a/x.jpg", "b/x.jpg", "c/y.jpg", "z.jpg")
    source = pickle.loads(pickle.dumps(open_image_folder(str(tmp_path))))
    assert ids(source) == ["a/x.jpg", "b/x.jpg", "c/y.jpg", "z.jpg"]
    (tmp_path / "b" / "x.jpg").unlink()
    assert ids(open_image_folder(str(tmp_path))) == ["x.jpg", "y.jpg", "z.jpg"]


def test_labels_of_images_of_one_name(tmp_path):
    touch(tmp_path / "photos", "a/x.jpg", "b/x.jpg", "b/y.jpg")
    table = tmp_path / "labels.csv"
    for start in ("", "./", "photos/", str(tmp_path / "photos") + "/"):
        table.write_text(f"path,label\n{start}a/x.jpg,cat\n{start}b/x.jpg,dog\n")
        source = open_source(tmp_path / "photos", labels=table)
        assert [(i.image_id, i.label) for part in source.parts for i, _ in part.items()] == [
            ("a/x.jpg", "cat"),
            ("b/x.jpg", "dog"),
            ("b/y.jpg", None),
        ]


def test_no_images(tmp_path):
    with pytest.raises(InputError) as error:
        open_image_folder(str(tmp_path))
    assert str(error.value) == (
        f"The folder contains no images.\n  where:   {tmp_path}\n  allowed: files ending in {EXTENSIONS}"
    )


def test_no_images_but_archives(tmp_path):
    with pytest.raises(InputError) as error:
        open_source(touch(tmp_path, "val.zip", "readme.md"))
    assert str(error.value) == (
        "The folder contains no images.\n"
        f"  where:   {tmp_path}\n"
        "  got:     2 other files, such as readme.md\n"
        f"  allowed: files ending in {EXTENSIONS}\n"
        "  do:      unpack the .zip files"
    )


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError) as error:
        open_image_folder(str(tmp_path))
    assert str(error.value) == (
        f"A folder cannot be read: Permission denied.\n  where:   {tmp_path}\n  do:      allow reading it"
    )


def test_a_name_that_is_not_text(tmp_path):
    try:
        touch(tmp_path, os.fsdecode(b"caf\xe9.jpg"))
    except OSError:
        pytest.skip("absent: a file system that takes any bytes as a name")
    with pytest.raises(InputError) as error:
        open_image_folder(str(tmp_path))
    assert str(error.value) == (
        "The name of a file is not UTF-8.\n"
        f"  where:   {tmp_path}\n"
        "  got:     caf\\udce9.jpg\n"
        "  allowed: UTF-8\n"
        "  do:      rename it"
    )


def test_a_table_of_labels_for_a_flat_folder(tmp_path):
    touch(tmp_path, "photos/a.jpg", "photos/b.jpg", "photos/c.jpg")
    (tmp_path / "labels.csv").write_text("file_name,label\nphotos/a.jpg,3\nb.jpg,\nelsewhere.jpg,4\n")
    source = open_source(tmp_path / "photos", labels=tmp_path / "labels.csv")
    assert labels(source) == {"a.jpg": "3", "b.jpg": None, "c.jpg": None}
    assert source.strict


@pytest.mark.parametrize(
    ("name", "do"), [("x.jpg", ""), ("a", "\n  do:      write the names with their extensions")]
)
def test_labels_of_other_images(tmp_path, name, do):
    touch(tmp_path, "photos/a.jpg")
    (tmp_path / "labels.csv").write_text(f"image_id,label\n{name},3\n")
    with pytest.raises(InputError) as error:
        open_source(tmp_path / "photos", labels=tmp_path / "labels.csv")
    assert str(error.value) == (
        "None of the labels belongs to an image of the source.\n"
        f"  where:   {tmp_path / 'photos'}\n"
        f"  got:     labels of images such as {name}\n"
        f"  allowed: images such as a.jpg{do}"
    )


def test_parts_of_many_images(tmp_path):
    touch(tmp_path, *(f"{i:04}.jpg" for i in range(1030)))
    source = open_image_folder(str(tmp_path))
    assert [(part.name, part.n) for part in source.parts] == [("00000", 512), ("00001", 512), ("00002", 6)]
    assert ids(source) == [f"{i:04}.jpg" for i in range(1030)]
    assert [part.name for part in source.shard(1, 2).parts] == ["00001"]


def test_an_image_of_another_size_is_another_source(tmp_path):
    """Broken images are mended under their names, and predicted again into the folder that is there."""
    touch(tmp_path, "a/x.jpg", "a/y.jpg")
    before = open_source(tmp_path).fingerprint
    (tmp_path / "a" / "x.jpg").write_bytes(b"1")
    after = open_source(tmp_path).fingerprint
    assert after != before
    os.utime(tmp_path / "a" / "x.jpg", (0, 0))
    assert open_source(tmp_path).fingerprint == after


def test_links_to_nowhere_and_to_themselves(tmp_path):
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("nowhere")
    (tmp_path / "c.jpg").symlink_to("c.jpg")
    (_, _), (_, nowhere), (_, itself) = open_source(tmp_path).parts[0].items()
    with pytest.raises(FileNotFoundError):
        nowhere()
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        itself()


def test_a_path_with_a_null_character_is_one_image(tmp_path):
    (tmp_path / "list.txt").write_text("a\0b.jpg\n")
    ((_, read),) = open_source(tmp_path / "list.txt").parts[0].items()
    with pytest.raises(OSError, match="embedded null"):
        read()


def test_a_text_list(tmp_path):
    touch(tmp_path, "b.jpg", "sub/a.jpg")
    (tmp_path / "list.txt").write_text(f"# photographs\n\nb.jpg\n  sub\\a.jpg  \n{tmp_path}/c d.jpg\n")
    source = open_source(tmp_path / "list.txt")
    assert [item.uri for item in items(source)] == [
        f"{tmp_path}/b.jpg",
        f"{tmp_path}/sub/a.jpg",
        f"{tmp_path}/c d.jpg",
    ]
    assert not source.strict


def test_a_text_list_with_labels(tmp_path):
    (tmp_path / "val.txt").write_text("my photo.jpg 65\nb.jpg 970\nc.JPEG n01440764\n")
    source = open_source(tmp_path / "val.txt")
    assert labels(source) == {"my photo.jpg": "65", "b.jpg": "970", "c.JPEG": "n01440764"}
    assert source.strict


def test_a_list_in_the_folder_of_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path, "a.jpg"))
    (tmp_path / "list.txt").write_text("a.jpg\n")
    assert items(open_source("list.txt"))[0].uri == "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The list names no images.\n  where:   {}"),
        ("a.jpg\na.jpg\n", "The source names an image twice.\n  where:   {}\n  got:     {folder}/a.jpg"),
        (
            "a/x.jpg\nb/x.jpg\n./a/x.jpg\n",
            "Two images have the same id.\n"
            "  where:   {}\n"
            "  got:     {folder}/a/x.jpg and {folder}/./a/x.jpg\n"
            "  allowed: unique ids\n"
            "  do:      rename one of them, or run predict on each folder separately",
        ),
    ],
    ids=["empty", "twice", "same-name"],
)
def test_lists_that_are_refused(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        open_source(path)
    assert str(error.value) == message.format(path, folder=tmp_path)


def test_a_list_with_two_images_of_one_name(tmp_path):
    (tmp_path / "list.txt").write_text("a/x.jpg\n.\\b\\x.jpg\ny.jpg\n")
    assert ids(open_source(tmp_path / "list.txt")) == ["a/x.jpg", "b/x.jpg", "y.jpg"]


def test_an_image_that_vanished_is_one_image(tmp_path):
    touch(tmp_path, "photos/a.jpg", "photos/b.jpg")
    (_, first), (_, second) = open_image_folder(str(tmp_path / "photos")).parts[0].items()
    (tmp_path / "photos" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        first()
    assert second() == b""


def test_a_dangling_link_is_one_image(tmp_path):
    (tmp_path / "x.jpg").symlink_to(tmp_path / "gone.jpg")
    ((_, read),) = open_image_folder(str(tmp_path)).parts[0].items()
    with pytest.raises(FileNotFoundError):
        read()


def test_a_folder_that_vanished_ends_the_run(tmp_path):
    touch(tmp_path, "photos/a.jpg")
    ((_, read),) = open_image_folder(str(tmp_path / "photos")).parts[0].items()
    (tmp_path / "photos").rename(tmp_path / "other")
    with pytest.raises(SourceLostError) as error:
        read()
    assert str(error.value) == (
        "The storage of the images no longer exists.\n"
        f"  where:   {tmp_path / 'photos'}\n"
        "  got:     No such file or directory\n"
        "  do:      make it available again, and run the same command again to resume"
    )


def test_the_disk_of_a_list_that_vanished_ends_the_run(tmp_path):
    touch(tmp_path, "disk/a.jpg", "disk/b.jpg")
    (tmp_path / "list.txt").write_text("disk/a.jpg\ndisk/b.jpg\n")
    (_, first), (_, second) = open_source(tmp_path / "list.txt").parts[0].items()
    first()
    (tmp_path / "disk").rename(tmp_path / "other")
    with pytest.raises(SourceLostError):
        second()


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(OSError, match=r"^not a regular file$"):
        fetch_bytes(str(tmp_path / "x.jpg"))


def test_a_file_too_large_to_be_an_image(tmp_path):
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(OSError, match=r"^2,147,483,648 bytes: more than 1,073,741,824$"):
        fetch_bytes(str(tmp_path / "x.jpg"))


def test_folders_that_link_to_one_another(tmp_path):
    """Six links between three folders were walked 2^40 times over."""
    touch(tmp_path, "x/a.jpg", "y/b.jpg", "z/c.jpg")
    for here in "xyz":
        for there in set("xyz") - {here}:
            (tmp_path / here / f"to_{there}").symlink_to(f"../{there}")
    with pytest.raises(InputError) as error:
        open_image_folder(str(tmp_path))
    first, where, got, do = str(error.value).splitlines()
    assert first == "Folders link to one another in a circle."
    assert where.startswith(f"  where:   {tmp_path}/")
    assert got.startswith(f"  got:     a link to {tmp_path}/")
    assert do == "  do:      remove the links"


def test_folders_with_two_links_to_the_next(tmp_path):
    for i in range(30):
        touch(tmp_path, f"{i:02}/{i}.jpg")
    for i in range(29):
        for name in ("one", "other"):
            (tmp_path / f"{i:02}" / name).symlink_to(f"../{i + 1:02}")
    with pytest.raises(InputError, match=r"^Links lead to a folder in more than 100 ways\."):
        open_image_folder(str(tmp_path))
    # Each of the first five folders is in a source of its own, with the images behind its two links.
    for name in ("one", "other"):
        (tmp_path / "05" / name).unlink()
    assert len(ids(open_image_folder(str(tmp_path / "04")))) == 3


def test_pdf_files_are_named():
    """They were taken for documentation, so that a folder of scans lost documents without a note."""
    assert image_files.other_files_note(["a.tif", "b.pdf", "labels.csv"]) == (
        "1 file is not read as an image: 1 .pdf"
    )


@pytest.mark.parametrize(("n", "most"), [(0, 0), (3, 3), (1_000, 1_000), (1_001, 501), (5_000, 1_000)])
def test_the_headers_of_at_most_1000_tiff_files_are_read(n, most):
    """Of a million other files, not even the paths are made."""
    names = [name for i in range(n) for name in (f"{i}.tif", f"{i}.jpg")]
    found = image_files._some_tiffs("photos", names)
    assert len(found) == most
    assert {path.suffix for path in found} <= {".tif"}


def test_a_link_to_a_class_folder_that_is_gone_is_named(tmp_path):
    touch(tmp_path, "real/n01/a.jpg", "val/n02/b.jpg")
    (tmp_path / "val" / "n01").symlink_to(tmp_path / "real" / "n01")
    assert open_source(tmp_path / "val").notes == ()
    (tmp_path / "real").rename(tmp_path / "purged")
    assert open_source(tmp_path / "val").notes == ("1 link leads nowhere, so images below are missing: n01",)
