"""Label sets and objects of the images of a source, whose ids are written differently."""

import pyarrow as pa
import pytest

from manyhot.errors import MatchError
from manyhot.predict.sources import open_source
from manyhot.predict.sources.label_ids import labels_of_source, objects_of_source
from manyhot.tables import Labels, Objects
from source_kinds import write_tar


def labels(ids):
    n = len(ids)
    sets = {"usable": [True] * n, "classes": [[i] for i in range(n)], "state": [["yes"]] * n}
    return Labels(pa.table({"image_id": ids, **sets}), 10, name="sets")


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(name.encode())
    return tmp_path / "photos"


def test_each_label_set_is_of_its_image(folder):
    written = ["data/b/1.png", "data/a/1.png", "data/c/9.png"]
    matched, like = labels_of_source(labels(written), open_source(folder))
    assert matched.image_id.to_pylist() == ["b/1.jpg", "a/1.jpg", "data/c/9.png"]
    assert matched.table["classes"].to_pylist() == [[0], [1], [2]]
    assert like.text == (
        "2 images are matched without regard to leading folders and extensions, such as data/a/1.png with "
        "a/1.jpg"
    )


def test_equal_ids(folder):
    own = labels(["a/1.jpg", "b/1.jpg", "c/9.jpg"])
    matched, like = labels_of_source(own, open_source(folder))
    assert (matched is own, like.n, like.text) == (True, 0, "")


def test_ambiguous_ids(folder):
    with pytest.raises(MatchError) as error:
        labels_of_source(labels(["1.jpg", "2.jpg"]), open_source(folder))
    assert str(error.value) == (
        "An id of sets matches several ids of the source.\n"
        "  got:     a/1.jpg and b/1.jpg for 1.jpg\n"
        "  allowed: ids that differ in more than leading folders\n"
        "  do:      in both files, include in each id the folders that distinguish the images"
    )


def objects(ids, **semantic):
    n = len(ids)
    boxes = {name: [float(name.endswith("2"))] * n for name in ("x1", "y1", "x2", "y2")}
    columns = {"image_id": ids, "class_id": range(n), "ignore": [False] * n, **boxes}
    return Objects(pa.table(columns), tuple("abcd"), semantic=semantic, name="boxes")


def test_objects_and_masks_are_of_their_images(folder):
    written = ["data/b/1.png", "data/a/1.png", "data/c/9.png", "data/b/1.png"]
    own = objects(written)
    own.semantic.update({"data/a/1.png": b"mask of a/1", "data/c/9.png": b"none"})
    matched, like = objects_of_source(own, open_source(folder))
    assert matched.table["image_id"].to_pylist() == ["b/1.jpg", "a/1.jpg", "data/c/9.png", "b/1.jpg"]
    assert matched.class_id.tolist() == [0, 1, 2, 3]
    assert matched.semantic == {"a/1.jpg": b"mask of a/1", "data/c/9.png": b"none"}
    assert like.n == 2
    equal = objects(["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    assert objects_of_source(equal, open_source(folder))[0] is equal


def test_objects_of_other_images_are_refused(folder):
    with pytest.raises(MatchError) as error:
        objects_of_source(objects(["x.jpg"]), open_source(folder))
    assert str(error.value) == (
        "None of the images has objects.\n"
        f"  where:   {folder.as_posix()}\n"
        "  got:     images such as a/1.jpg, a/2.jpg\n"
        "  allowed: images with objects, such as x.jpg\n"
        "  do:      check that both belong to the same data set"
    )


def test_streams_name_their_images_too_late(tmp_path):
    import gzip

    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"1")])
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    own = labels(["v/1.jpg"])
    assert labels_of_source(own, open_source(path))[0].image_id.to_pylist() == ["1.jpg"]
    assert labels_of_source(own, open_source(tmp_path / "x.tar.gz"))[0] is own
