"""Objects: our table, others with a box a row, COCO's JSON, VOC's folders; and semantic masks beside them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.formats import read_objects
from manyhot.tables import Objects, write_objects

CLASSES = from_keys(("cat", "dog", "sofa"))
ROWS = {
    "image_id": ["x/a.jpg", "x/a.jpg", "b.jpg"],
    "class": ["dog", "sofa", "dog"],
    "x1": [0.0, 0.25, 0.5],
    "y1": [0.0, 0.5, 0.5],
    "x2": [0.5, 1.0, 1.0],
    "y2": [0.5, 1.0, 1.0],
    "difficult": [False, False, True],
}


def told(objects):
    boxes = [tuple(round(v, 4) for v in box) for box in objects.boxes.tolist()]
    keys = [objects.keys[c] for c in objects.class_id]
    ids = objects.table["image_id"].to_pylist()
    return list(zip(ids, keys, boxes, objects.ignore.tolist(), strict=True))


EXPECTED = [
    ("a.jpg", "dog", (0, 0, 0.5, 0.5), False),
    ("a.jpg", "sofa", (0.25, 0.5, 1, 1), False),
    ("b.jpg", "dog", (0.5, 0.5, 1, 1), True),
]


def parquet(path, rows=ROWS):
    pq.write_table(pa.table(rows), path)
    return path


def test_a_table_and_our_own(tmp_path):
    objects = read_objects(parquet(tmp_path / "o.parquet"))
    assert told(objects) == EXPECTED
    assert objects.keys == ("dog", "sofa")
    write_objects(objects, tmp_path / "objects.parquet")
    again = read_objects(tmp_path / "objects.parquet")
    assert (told(again), again.keys) == (EXPECTED, ("dog", "sofa"))
    over = read_objects(tmp_path / "objects.parquet", classes=CLASSES)
    assert (told(over), over.class_id.tolist()) == (EXPECTED, [1, 2, 1])


def test_two_images_of_one_name(tmp_path):
    """Their ids are paths, as in the predictions of their folder, and their masks are found by path."""
    names = ["x/a.jpg", "y/a.jpg", "y/b.jpg"]
    objects = read_objects(parquet(tmp_path / "o.parquet", ROWS | {"image_id": names}))
    assert [row[0] for row in told(objects)] == names
    for name in ("x/a", "y/b", "a"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / f"{name}.png").write_bytes(png([[0]]))
    found = read_objects(tmp_path / "o.parquet", masks=tmp_path / "masks").semantic
    assert {i: p.relative_to(tmp_path).as_posix() for i, p in found.items()} == {
        "x/a.jpg": "masks/x/a.png",
        "y/b.jpg": "masks/y/b.png",
    }
    content = COCO | {"images": [i | {"file_name": f"{i['id']}/a.jpg"} for i in COCO["images"]]}
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert {row[0] for row in told(read_objects(tmp_path / "c.json"))} == {"7/a.jpg", "9/a.jpg"}


def test_numbers_tell_the_order_of_the_classes(tmp_path):
    objects = read_objects(parquet(tmp_path / "o.parquet", ROWS | {"class_id": [2, 0, 2]}))
    assert objects.keys == ("sofa", "class 1", "dog")
    assert told(objects) == EXPECTED


COCO = {
    "images": [
        {"id": 7, "file_name": "val/a.jpg", "width": 40, "height": 20},
        {"id": 9, "file_name": "b.jpg", "width": 10, "height": 10},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 63, "name": "sofa"}],
    "annotations": [
        {"image_id": 7, "category_id": 18, "bbox": [0, 0, 20, 10], "iscrowd": 0},
        {
            "image_id": 7,
            "category_id": 63,
            "bbox": [10, 10, 30, 10],
            "segmentation": [[10, 10, 40, 10, 40, 20]],
            "iscrowd": 0,
        },
        {
            "image_id": 9,
            "category_id": 18,
            "bbox": [5, 5, 5, 5],
            "segmentation": {"counts": "abc", "size": [10, 10]},
            "iscrowd": 1,
        },
    ],
}


def test_coco(tmp_path):
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(COCO))
    objects = read_objects(path)
    assert told(objects) == EXPECTED
    assert objects.table["polygons"].to_pylist() == [None, [[0.25, 0.5, 1.0, 0.5, 1.0, 1.0]], None]


def annotation(name, objects, width=40, height=20, more=""):
    inside = "".join(
        f"<object><name>{key}</name><difficult>{hard}</difficult><bndbox>"
        + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for key, hard, box in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"{more}<annotation><filename>{name}</filename>{size}{inside}</annotation>"


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / "VOC2012"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "SegmentationClass").mkdir()
    first = annotation("a.jpg", [("dog", 0, (1, 1, 20, 10)), ("sofa", 0, (11, 11, 40, 20))])
    (folder / "Annotations" / "a.xml").write_text(first)
    (folder / "Annotations" / "b.xml").write_text(
        annotation("b.jpg", [("dog", 1, (6, 6, 10, 10))], width=10, height=10)
    )
    Image.new("L", (40, 20), 12).save(folder / "SegmentationClass" / "a.png")
    return folder


def test_voc(voc):
    objects = read_objects(voc)
    assert told(objects) == EXPECTED
    assert len(objects.keys) == 20
    assert objects.semantic == {"a.jpg": voc / "SegmentationClass" / "a.png"}
    assert read_objects(voc, classes=CLASSES).semantic == {}  # its masks count in VOC's classes


def png(values):
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(out, "png")
    return out.getvalue()


def test_masks_in_a_table_or_a_folder(tmp_path):
    mask = png(np.zeros((4, 4)))
    path = parquet(tmp_path / "o.parquet")
    images = parquet(tmp_path / "images.parquet", {"image_id": ["a.jpg", "b.jpg"], "mask_png": [mask, None]})
    assert read_objects(path, masks=images).semantic == {"a.jpg": mask}
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(mask)
    assert read_objects(path, masks=tmp_path / "masks").semantic == {"a.jpg": tmp_path / "masks" / "a.png"}


def test_masks_may_be_named_with_other_folders(tmp_path):
    path, mask = parquet(tmp_path / "o.parquet"), png([[1, 0], [2, 255]])
    images = parquet(tmp_path / "m.parquet", {"image_id": ["masks/a.png"], "mask": [mask]})
    assert read_objects(path, masks=images).semantic == {"a.jpg": mask}
    (tmp_path / "masks" / "train").mkdir(parents=True)
    (tmp_path / "masks" / "train" / "a.png").write_bytes(mask)
    found = read_objects(path, masks=tmp_path / "masks").semantic
    assert found == {"a.jpg": tmp_path / "masks" / "train" / "a.png"}


def test_bad_input(tmp_path, voc):
    def error(path, **options):
        with pytest.raises(InputError) as caught:
            read_objects(path, **options)
        return str(caught.value)

    path = parquet(tmp_path / "o.parquet")
    rows = {k: v for k, v in ROWS.items() if k != "class"}
    assert error(parquet(tmp_path / "n.parquet", rows)) == (
        "The objects have no classes.\n"
        f"  where:   {tmp_path / 'n.parquet'}\n"
        "  got:     image_id, x1, y1, x2, y2, difficult\n"
        "  allowed: a column 'class' or 'class_id'"
    )
    assert error(parquet(tmp_path / "i.parquet", rows | {"class_id": [0, 1, 0]})) == (
        "The classes of the objects have no names.\n"
        f"  where:   {tmp_path / 'i.parquet'}\n"
        "  got:     image_id, x1, y1, x2, y2, difficult, class_id\n"
        "  allowed: a column 'class', or a class list passed as `classes`"
    )
    assert error(parquet(tmp_path / "t.parquet", ROWS | {"class_id": [0, 1, 2]})) == (
        f"A class has two numbers, or a number has two classes.\n  where:   {tmp_path / 't.parquet'}"
    )
    assert error(path, classes=from_keys(("dog",), "mine")) == (
        "A class is not in the class list.\n"
        f"  where:   {path}\n"
        "  got:     sofa\n"
        "  allowed: 0 to 0, or a key or name of mine\n"
        "  do:      pass a list with this class as `classes`, or remove the value if it is not a class"
    )
    masks = parquet(tmp_path / "m.parquet", {"image_id": ["z.jpg"], "mask": [png([[0]])]})
    assert error(path, masks=masks) == (
        "None of the masks belongs to an image with objects.\n"
        f"  where:   {masks}\n"
        "  got:     masks of images such as z.jpg\n"
        "  allowed: masks of images such as a.jpg"
    )
    assert error(path, masks=path) == (
        "The file contains no masks.\n"
        f"  where:   {path}\n"
        f"  got:     {', '.join(ROWS)}\n"
        "  allowed: a folder of PNGs; or Parquet with image_id and mask_png or mask"
    )
    (tmp_path / "c.json").write_text(json.dumps(COCO | {"images": []}))
    assert error(tmp_path / "c.json") == (
        "An annotation has an unknown image.\n"
        f"  where:   {tmp_path / 'c.json'}, annotation without an id\n"
        "  got:     image_id 7\n"
        "  allowed: image_id of one of the 0 entries\n"
        "  do:      remove the annotation, or add its image to the file"
    )
    (tmp_path / "d.json").write_text('{"images": []}')
    assert error(tmp_path / "d.json") == (
        "The file is not in COCO's format.\n"
        f"  where:   {tmp_path / 'd.json'}\n"
        "  got:     images\n"
        "  allowed: an object with the lists images, annotations, categories"
    )
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]>'
    (voc / "Annotations" / "b.xml").write_text(annotation("b.jpg", [], more=bomb))
    assert error(voc) == (
        "The annotation is not in VOC's format.\n"
        f"  where:   {voc / 'Annotations' / 'b.xml'}\n"
        "  got:     a declaration"
    )
    (voc / "Annotations" / "b.xml").write_text(annotation("b.jpg", [("dog", 0, (1, 1, "?", 2))]))
    assert "could not convert string to float: '?'" in error(voc)


def test_ids_of_our_own_tables_stay_as_they_are(tmp_path):
    """CIFAR-10 has an image 0110.jpg in each of ten folders: cut to base names, these would share boxes."""
    columns = {
        "image_id": ["test/cat/0110.jpg", "test/dog/0110.jpg"],
        "class_id": pa.array([0, 1], pa.int32()),
    }
    columns |= {
        c: pa.array([v, v], pa.float32())
        for c, v in zip(("x1", "y1", "x2", "y2"), (0, 0, 0.5, 0.5), strict=True)
    }
    objects = Objects(pa.table(columns | {"ignore": [False, False]}), ("cat", "dog"))
    write_objects(objects, tmp_path / "objects.parquet")
    assert list(read_objects(tmp_path / "objects.parquet").images) == columns["image_id"]
