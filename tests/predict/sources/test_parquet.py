import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.predict.sources import SourceLostError, open_source, parquet
from source_kinds import SHARED, expected, image_table, listed, write_parquet


def write(path, described=None, /, **columns):
    table = pa.table(columns)
    if described:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": described}})})
    pq.write_table(table, path)
    return path


def rows(source):
    return [(item.image_id, item.label) for part in source.parts for item, _ in part.items()]


def refusal(path, **options):
    with pytest.raises(InputError) as error:
        listed(open_source(path, **options))
    return str(error.value)


@pytest.mark.parametrize("group", [7, 30, 100])
def test_row_groups_of_any_size(tmp_path, images, group):
    source = open_source(write_parquet(tmp_path / "x.parquet", images, row_group_size=group))
    assert listed(source) == expected(images)
    assert source.n == 30
    assert source.strict
    assert next(source.parts[-1].items())[0].uri.startswith(f"{tmp_path}/x.parquet#")


def test_parts_within_a_row_group_in_any_order(tmp_path):
    images = pa.array([b"%d" % i for i in range(1500)])
    source = open_source(
        write(tmp_path / "x.parquet", image=images, image_id=[f"{i}.jpg" for i in range(1500)])
    )
    assert [part.n for part in source.parts] == [512, 512, 476]
    for number in (2, 0, 1, 1, 2):
        assert [int(read()) for _, read in source.parts[number].items()] == list(
            range(512 * number, min(512 * (number + 1), 1500))
        )
    half = source.parts[0].items()
    assert [int(next(half)[1]()) for _ in range(100)] == list(range(100))
    assert [int(read()) for _, read in source.parts[1].items()] == list(range(512, 1024))
    assert [int(read()) for _, read in half] == list(range(100, 512))


def test_parts_in_order_decode_a_row_group_once(tmp_path, monkeypatch):
    write(tmp_path / "x.parquet", image=[b"x"] * 1500, image_id=[f"{i}.jpg" for i in range(1500)])
    source = open_source(tmp_path / "x.parquet")
    made = []
    cursor = parquet._Cursor
    monkeypatch.setattr(parquet, "_Cursor", lambda *args: made.append(args) or cursor(*args))
    assert len(listed(source)) == 1500
    assert len(made) == 1


def test_only_the_columns_of_a_part_are_read(tmp_path):
    path = write(tmp_path / "x.parquet", image=[b"1"], image_id=["a"], label=[3], mask=[b"2"], note=["x"])
    assert open_source(path).parts[0].columns.all() == ["image", "image_id", "label"]


@pytest.mark.parametrize("pattern", ["", "train-*.parquet", "train-{00000..00002}.parquet"])
def test_several_files(tmp_path, images, pattern):
    for i in range(3):
        write_parquet(tmp_path / f"train-{i:05}.parquet", images[10 * i : 10 * i + 10])
    assert listed(open_source(f"{tmp_path}/{pattern}")) == expected(images)


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({"image_id": ["a/b", "c"]}, ["a/b", "c"]),
        ({"file_name": ["a/b.jpg", "c\\d.jpg"]}, ["b.jpg", "d.jpg"]),
        ({"__key__": ["x/1", "x/2"]}, ["1", "2"]),
        ({"id": [17, 3]}, ["17", "3"]),
        ({"id": [1.5, 2.5]}, ["train-000000", "train-000001"]),
        ({"path": pa.array(["a", "b"]).dictionary_encode()}, ["a", "b"]),
        ({}, ["train-000000", "train-000001"]),
    ],
)
def test_where_ids_come_from(tmp_path, columns, ids):
    assert rows(open_source(write(tmp_path / "train.parquet", image=[b"1", b"2"], **columns))) == [
        (name, None) for name in ids
    ]


def test_ids_in_the_struct(tmp_path):
    image = [{"bytes": b"1", "path": "val/ILSVRC2012_val_00000001_n01751748.JPEG"}]
    assert rows(open_source(write(tmp_path / "x.parquet", image=image))) == [
        ("ILSVRC2012_val_00000001.JPEG", None)
    ]
    image = [{"bytes": b"1", "path": None}]
    image = pa.array(image, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    assert rows(open_source(write(tmp_path / "x.parquet", image=image))) == [("x-000000", None)]


def test_rows_are_numbered_through_the_groups_of_a_file(tmp_path):
    pq.write_table(pa.table({"image": [b""] * 5}), tmp_path / "x.parquet", row_group_size=2)
    assert [name for name, _ in rows(open_source(tmp_path / "x.parquet"))] == [f"x-{i:06}" for i in range(5)]


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ({"label": [3, -1, None]}, [3, None, None]),
        ({"label": [3, 4, 5], "wnid": ["n01440764", "", None]}, ["n01440764", None, None]),
        ({"class": ["cat", "dog", "cat"]}, ["cat", "dog", "cat"]),
        ({"class": pa.array(["cat", "dog", "cat"]).dictionary_encode()}, ["cat", "dog", "cat"]),
        ({"cls": [1, 2, 3], "labels": [[1], [2], [3]]}, [1, 2, 3]),
        ({"labels": [[1], [2], [3]], "label_largest": ["a", "b", "c"]}, [None, None, None]),
        ({"label": [[1], [2], [3]], "fine_label": [4, 5, 6]}, [4, 5, 6]),
    ],
)
def test_where_labels_come_from(tmp_path, columns, labels):
    path = write(tmp_path / "x.parquet", image=[b"1", b"2", b"3"], **columns)
    assert [label for _, label in rows(open_source(path))] == labels


def test_the_names_of_class_labels(tmp_path):
    described = {"species": {"_type": "ClassLabel", "names": ["cat", "dog"]}, "image": {"_type": "Image"}}
    path = write(tmp_path / "x.parquet", described, image=[b"1"] * 3, species=[1, 0, -1])
    assert [label for _, label in rows(open_source(path))] == ["dog", "cat", None]
    write(path, described, image=[b"1"], species=[2])
    assert refusal(path) == (
        f"A label is out of range.\n  where:   {path}, column species\n  got:     2\n  allowed: 0 to 1"
    )


def test_names_that_are_no_text(tmp_path):
    """JSON may contain half of a character; tables cannot, so the numbers remain."""
    described = {"species": {"_type": "ClassLabel", "names": ["cat", "\ud800"]}, "image": {"_type": "Image"}}
    source = open_source(write(tmp_path / "x.parquet", described, image=[b"1"], species=[1], id=["a"]))
    assert [label for _, label in rows(source)] == [None]
    assert source.fingerprint


def test_imagenet_as_hugging_face_names_its_classes(tmp_path):
    known = class_list()
    names = [", ".join(dict.fromkeys((n, *s))) for n, s in zip(known.names, known.synonyms, strict=True)]
    described = {"label": {"_type": "ClassLabel", "names": names}}
    path = write(tmp_path / "x.parquet", described, image=[b"1"] * 2, label=[134, 517])
    assert [label for _, label in rows(open_source(path))] == ["n02012849", "n03126707"]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"jpeg": [b"1"], "mask_png": [b"2"]}, "jpeg"),
        ({"png": [b"1"], "IMG": [b"2"]}, "IMG"),
        ({"thumb": [b"1"], "name": ["x"]}, "thumb"),
        ({"image": [{"bytes": b"1", "path": "a"}], "hash": [b"2"]}, "image"),
        ({"picture": pa.array([b"1"], pa.large_binary())}, "picture"),
    ],
)
def test_which_column_holds_images(tmp_path, columns, found):
    source = open_source(write(tmp_path / "x.parquet", **columns))
    assert source.parts[0].columns.image == found
    assert len(listed(source)) == 1


def test_several_columns_that_may_hold_images(tmp_path):
    path = write(tmp_path / "x.parquet", left=[b"1"], right=[b"2"], label=[3])
    assert refusal(path) == (
        "Several columns may contain the images.\n"
        f"  where:   {path}\n"
        "  got:     left, right\n"
        "  allowed: one column of bytes, or one named image, img, jpeg, jpg, png, bytes, content\n"
        "  do:      rename one of them, or remove all but one"
    )


def test_no_column_of_images(tmp_path):
    path = write(tmp_path / "x.parquet", image=["a.jpg"], label=[3])
    assert refusal(path) == (
        "No column contains images.\n"
        f"  where:   {path}\n"
        "  got:     image, label\n"
        "  allowed: a column of bytes, or of structs of bytes and path"
    )


def test_nulls_are_empty_images(tmp_path):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    image = pa.array([{"bytes": None, "path": "a"}, None, {"bytes": b"", "path": "c"}], kind)
    path = write(tmp_path / "x.parquet", image=image, image_id=["a", "b", "c"])
    assert listed(open_source(path)) == [("a", None, b""), ("b", None, b""), ("c", None, b"")]


@pytest.mark.parametrize("value", [None, ""])
def test_an_image_without_id(tmp_path, value):
    path = write(tmp_path / "x.parquet", image=[b"1", b"2"], file_name=["a.jpg", value])
    assert refusal(path) == (
        f"An image has no id.\n  where:   {path}#1\n  got:     no value in column file_name"
    )


def test_two_images_of_one_name(tmp_path):
    path = write(tmp_path / "x.parquet", image=[b"1", b"2", b"3"], path=["a/x.jpg", "b.jpg", "b\\x.jpg"])
    items = [item for part in open_source(path).parts for item, _ in part.items()]
    assert [item.image_id for item in items] == ["a/x.jpg", "b.jpg", "b/x.jpg"]


def test_two_images_of_one_id(tmp_path):
    path = write(tmp_path / "x.parquet", image=[b"1", b"2", b"3"], path=["a/x.jpg", "b.jpg", "./a/x.jpg"])
    assert refusal(path) == (
        "Two images have the same id.\n"
        f"  where:   {path}\n"
        f"  got:     {path}#0 and {path}#2\n"
        "  allowed: unique ids\n"
        "  do:      add a column 'image_id', or run predict on each file separately"
    )


def test_files_of_other_columns(tmp_path):
    write(tmp_path / "a.parquet", image=[b"1"], label=[3])
    write(tmp_path / "b.parquet", image=[b"1"], klass=[3])
    assert refusal(tmp_path) == (
        "The file lacks columns that the other files have.\n"
        f"  where:   {tmp_path}/b.parquet\n"
        "  got:     image, klass\n"
        "  allowed: at least image, label"
    )


def test_no_rows(tmp_path):
    path = write(tmp_path / "x.parquet", image=pa.array([], pa.binary()))
    assert refusal(path) == f"The table has no rows.\n  where:   {path}"


def test_truncated(tmp_path, images):
    path = write_parquet(tmp_path / "x.parquet", images)
    source = open_source(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert refusal(path).startswith(
        f"The Parquet file is incomplete.\n  where:   {path}\n  got:     Parquet magic "
    )
    with pytest.raises(InputError) as error:
        listed(source)
    assert str(error.value).startswith("The Parquet file is incomplete.\n")


def test_a_file_that_vanished_ends_the_run(tmp_path, images):
    path = write_parquet(tmp_path / "x.parquet", images)
    source = open_source(path)
    path.unlink()
    with pytest.raises(SourceLostError) as error:
        listed(source)
    assert str(error.value).startswith(f"The storage of the images no longer exists.\n  where:   {path}\n")


def test_a_table_of_labels(tmp_path, images):
    path = write_parquet(tmp_path / "x.parquet", images)
    (tmp_path / "labels.csv").write_text("filename,class\n" + "".join(f"val/{i.name},7\n" for i in images))
    assert {label for _, label in rows(open_source(path, labels=tmp_path / "labels.csv"))} == {"7"}


@pytest.mark.parametrize(
    ("name", "n", "column", "first"),
    [
        ("voc/images.parquet", 5479, "jpeg", ("voc2007_000004", None)),
        ("coco/images.parquet", 236, "jpeg", ("000000000025", None)),
        ("cifar10/cifar10_subset.parquet", 12_000, "jpeg", ("train/airplane/0236.jpg", 0)),
    ],
)
def test_shared_data(require, name, n, column, first):
    require((SHARED / name).is_file(), f"{SHARED / name}, images in Parquet")
    source = open_source(SHARED / name)
    assert source.n == n
    item, read = next(source.parts[0].items())
    assert (item.image_id, item.label) == first
    assert read().startswith(b"\xff\xd8")
    assert source.parts[0].columns.image == column


def test_a_table_is_pickled_without_its_images(tmp_path, images):
    source = open_source(write_parquet(tmp_path / "x.parquet", images))
    assert len(pickle.dumps(source.parts[0])) < 1000
    assert image_table(images).nbytes > 3000


def test_metadata_that_is_nested_deeply_is_ignored(tmp_path):
    table = pa.table({"image": [b"x"], "image_id": ["a.jpg"], "label": [3]})
    pq.write_table(table.replace_schema_metadata({"huggingface": "[" * 100_000}), tmp_path / "x.parquet")
    assert rows(open_source(tmp_path / "x.parquet")) == [("a.jpg", 3)]


def test_names_of_classes_that_are_no_list(tmp_path):
    described = {"label": {"_type": "ClassLabel", "names": 5}}
    path = write(tmp_path / "x.parquet", described, image=[b"x"], image_id=["a.jpg"], label=[3])
    assert rows(open_source(path)) == [("a.jpg", 3)]


@pytest.mark.parametrize("column", ["image_id", "label"])
def test_texts_that_are_not_utf8(tmp_path, column):
    bad = pa.array([b"\xff"], pa.binary()).view(pa.string())
    columns = {"image": [b"x"], "image_id": ["a.jpg"], "label": ["b"]}
    path = write(tmp_path / "x.parquet", **(columns | {column: bad}))
    assert refusal(path) == (
        f"A string is not UTF-8.\n  where:   {path}, column {column}\n"
        "  got:     Invalid UTF8 sequence at string index 0\n  do:      create it again"
    )


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_column_that_occurs_twice(tmp_path, column):
    names = ["image", "label", column]
    arrays = {"image": pa.array([b"x"]), "label": pa.array([1])}
    pq.write_table(pa.Table.from_arrays([arrays[n] for n in names], names=names), tmp_path / "x.parquet")
    assert refusal(tmp_path / "x.parquet") == (
        f"Two columns of the table have the same name.\n  where:   {tmp_path / 'x.parquet'}\n"
        f"  got:     {column!r}\n  allowed: each name once\n  do:      rename or remove one of them"
    )


def test_a_column_name_that_is_not_utf8(tmp_path):
    path = write(tmp_path / "x.parquet", image=[b"x"], image_id=["a.jpg"], name=["b"])
    path.write_bytes(path.read_bytes().replace(b"name", b"n\xffme"))
    assert refusal(path).startswith(f"The Parquet file is incomplete.\n  where:   {path}\n")


def test_images_in_a_column_without_a_name(tmp_path):
    images = pa.array([{"bytes": b"1", "path": "1.jpg"}])
    pq.write_table(pa.Table.from_arrays([images], names=[""]), tmp_path / "x.parquet")
    assert refusal(tmp_path / "x.parquet").startswith("No column contains images.\n")
