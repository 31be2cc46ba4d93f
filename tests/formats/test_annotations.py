"""COCO, VOC and Open Images as label sets, with what their annotators looked for."""

import json

import numpy as np
import pyarrow as pa
import pytest

from manyhot import read_labels
from manyhot.classes import from_keys
from manyhot.formats import detect, read_classes, read_images, read_objects
from manyhot.formats.writing import save
from manyhot.tables import Labels

KEYS = ("dog", "cat", "sofa")
"""The categories of COCO below, by number."""


def states(labels, keys=None):
    keys = keys or labels.class_list.keys
    rows = labels.table.select(["image_id", "classes", "state"]).to_pylist()
    return {r["image_id"]: {keys[c]: s for c, s in zip(r["classes"], r["state"], strict=True)} for r in rows}


def annotation(image, category, crowd=0, box=(0, 0, 5, 5)):
    return {
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "iscrowd": crowd,
        "segmentation": [],
    }


COCO = {
    "info": {},
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 10, "height": 10},
        {"id": 8, "file_name": "b.jpg", "width": 10, "height": 10},
        {"id": 9, "file_name": "c.jpg", "width": 10, "height": 10},
    ],
    "categories": [{"id": 63, "name": "sofa"}, {"id": 18, "name": "dog"}, {"id": 21, "name": "cat"}],
    "annotations": [
        annotation(7, 18),
        annotation(7, 18, crowd=1),
        annotation(7, 63, crowd=1),
        annotation(9, 21, box=(20, 20, 5, 5)),
    ],
}


def write(tmp_path, content):
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(content))
    return path


def test_coco(tmp_path):
    labels = read_labels(write(tmp_path, COCO))
    assert labels.class_list.keys == KEYS
    assert (labels.asked_known, labels.n_classes, labels.class_hash) == (True, 3, labels.class_list.hash)
    assert states(labels) == {
        "a.jpg": {"dog": "yes", "cat": "no", "sofa": "unclear"},  # the only sofas are a crowd
        "b.jpg": {"dog": "no", "cat": "no", "sofa": "no"},
        "c.jpg": {"dog": "no", "cat": "unclear", "sofa": "no"},  # the cat is outside of the image
    }
    assert read_objects(tmp_path / "instances_val.json").keys == KEYS
    own = from_keys(("cat", "horse", "dog", "sofa"))
    over = read_labels(tmp_path / "instances_val.json", classes=own)
    assert over.class_hash == own.hash
    assert states(over, own.keys)["b.jpg"] == dict.fromkeys(own.keys, "no")


@pytest.mark.parametrize(
    "first", [{"type": "instances"}, {"videos": []}, {"videos": [{"id": 1, "name": "a"}]}]
)
def test_coco_whose_first_key_is_another(tmp_path, first):
    """BDD100K's conversion and files of tracking were of no known format."""
    path = write(tmp_path, first | COCO)
    assert states(read_labels(path)) == states(read_labels(write(tmp_path, COCO)))
    path = write(tmp_path, first | COCO)
    assert [detect(path, (holds,)).name for holds in ("labels", "images", "objects")] == [
        "coco-labels",
        "coco-images",
        "coco-instances",
    ]
    numbered = sorted(COCO["categories"], key=lambda category: category["id"])
    assert read_classes(write(tmp_path, first | COCO | {"categories": numbered})).keys == KEYS


@pytest.mark.parametrize("folder", ["/data/val/", "C:\\data\\val\\", "val/"])
def test_coco_with_the_folders_of_another_machine(tmp_path, folder):
    images = [image | {"file_name": folder + image["file_name"]} for image in COCO["images"]]
    plain = states(read_labels(write(tmp_path, COCO)))
    found = states(read_labels(write(tmp_path, COCO | {"images": images})))
    assert list(found.values()) == list(plain.values())
    objects = read_objects(tmp_path / "instances_val.json")
    images = {i for i, rows in found.items() if "yes" in rows.values() or "unclear" in rows.values()}
    assert {i.rpartition("/")[2] for i in images} == set(objects.table["image_id"].to_pylist())
    assert next(iter(found)) == ("val/a.jpg" if folder == "val/" else "a.jpg")


@pytest.mark.parametrize("root", ["", "/data/fleet/", "C:\\fleet\\"])
def test_coco_keeps_the_folders_in_which_images_are(tmp_path, root):
    """Label Studio and FiftyOne find the images by them."""
    folders = ["cam01/", "cam02/", "cam03/day/"]
    images = [
        i | {"file_name": root + f + i["file_name"]} for i, f in zip(COCO["images"], folders, strict=True)
    ]
    labels = read_labels(write(tmp_path, COCO | {"images": images}))
    assert labels.image_id.to_pylist() == ["cam01/a.jpg", "cam02/b.jpg", "cam03/day/c.jpg"]
    save(labels, tmp_path / "tasks.json", "label-studio(prefix='s3://fleet/v3/')")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert tasks[2]["data"]["image"] == "s3://fleet/v3/cam03/day/c.jpg"
    save(labels, tmp_path / "labels.json", "fiftyone")
    assert list(json.loads((tmp_path / "labels.json").read_text())["labels"])[2] == "cam03/day/c"


def test_lvis(tmp_path):
    """Gupta et al. 2019: only some categories of an image are verified to be absent."""
    images = [
        {"id": 7, "coco_url": "http://x/val2017/a.jpg", "width": 10, "height": 10, "neg_category_ids": [63]},
        {"id": 9, "coco_url": "http://x/val2017/b.jpg", "width": 10, "height": 10, "neg_category_ids": []},
    ]
    content = COCO | {"images": images, "annotations": [annotation(7, 18)]}
    assert states(read_labels(write(tmp_path, content))) == {
        "a.jpg": {"dog": "yes", "sofa": "no"},
        "b.jpg": {},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"images": [{"id": 7}]},
            "An entry is not in COCO's format.\n  where:   {}\n  got:     KeyError: 'coco_url'",
        ),
        ({"images": ["a.jpg"]}, "An entry is not in COCO's format.\n  where:   {}\n  got:     TypeError"),
        (
            {"annotations": [annotation(7, 99) | {"id": 5}]},
            "An annotation has an unknown category.\n  where:   {}, annotation 5\n  got:     category_id 99\n"
            "  allowed: category_id of one of the 3 entries: 63, 18, 21\n"
            "  do:      remove the annotation, or add its category to the file",
        ),
        ({"annotations": [7]}, "An entry is not in COCO's format.\n  where:   {}\n  got:     AttributeError"),
        ({"images": COCO["images"] * 2}, "An image is listed more than once.\n  where:   {}"),
        (
            {"categories": COCO["categories"] * 2},
            "The class list contains a key twice.\n  where:   instances_val",
        ),
    ],
)
def test_broken_coco(tmp_path, message, change, said):
    path = write(tmp_path, COCO | change)
    assert message(lambda: read_labels(path)).startswith(said.format(path))


def shot(number, location, **more):
    about = {"id": f"e4d5-{number}", "file_name": f"{location}/{number}.JPG", "location": location}
    return about | {"seq_id": "0ba3", "frame_num": number, "datetime": "2023-09-03 16:36:00"} | more


def seen(number, category, **more):
    return {"id": f"a{number}", "image_id": f"e4d5-{number}", "category_id": category} | more


CAMERA_TRAPS = {
    "info": {"version": "1.0"},
    "images": [
        shot(1, "CAM01", width=10, height=10),
        shot(2, "CAM01"),
        shot(3, "CAM02", corrupt=True),
        shot(4, "CAM02"),
    ],
    "categories": [{"id": 0, "name": "empty"}, {"id": 2, "name": "elk"}, {"id": 10, "name": "coyote"}],
    "annotations": [
        seen(1, 2, bbox=[20, 20, 5, 5]),  # outside of the image
        seen(1, 2, sequence_level_annotation=True),
        seen(1, 10),
        seen(2, 10, bbox=[1, 1, 5, 5]),  # the size of the image is unknown
        seen(3, 0),
    ],
}
"""COCO Camera Traps by its README: ids are texts, and annotations need no box."""


def test_camera_traps(tmp_path, message):
    path = write(tmp_path, CAMERA_TRAPS)
    labels = read_labels(path)
    assert (labels.class_list.keys, labels.asked_known) == (("empty", "elk", "coyote"), True)
    assert states(labels) == {
        "CAM01/1.JPG": {"empty": "no", "elk": "yes", "coyote": "yes"},
        "CAM01/2.JPG": {"empty": "no", "elk": "no", "coyote": "yes"},
        "CAM02/3.JPG": {"empty": "yes", "elk": "no", "coyote": "no"},
        "CAM02/4.JPG": {"empty": "no", "elk": "no", "coyote": "no"},
    }
    assert labels.table["usable"].to_pylist() == [True, True, False, True]
    found = states(read_labels(path, format="coco-labels(none='empty')"), ("elk", "coyote"))
    assert found["CAM02/3.JPG"] == {"elk": "no", "coyote": "no"}
    assert found["CAM02/4.JPG"] == {}  # not even annotated as empty
    assert message(lambda: read_labels(path, format="coco-labels(none='blank')")) == (
        f"The file has no such category.\n  where:   {path}\n  got:     none='blank'\n"
        "  allowed: empty, elk, coyote"
    )
    assert message(lambda: read_objects(path)) == (
        f"An annotation has no box.\n  where:   {path}, annotation a1\n"
        "  got:     id, image_id, category_id, sequence_level_annotation\n"
        "  allowed: bbox: [left, top, width, height] in pixels\n"
        "  do:      if annotations name the classes of whole images, pass the file as labels"
    )


def test_camera_traps_in_which_not_all_classes_were_asked_about(tmp_path):
    categories = [{"id": i, "name": name} for i, name in enumerate(("empty", "elk", "coyote"))]
    absent = {"a.jpg": [1], "b.jpg": [0, 2], "c.jpg": [0, 1]}
    images = [{"id": i, "file_name": n, "neg_category_ids": ids} for i, (n, ids) in enumerate(absent.items())]
    annotations = [{"id": i, "image_id": i, "category_id": i} for i in range(2)]
    path = write(tmp_path, {"images": images, "categories": categories, "annotations": annotations})
    assert states(read_labels(path, format="coco-labels(none='empty')"), ("elk", "coyote")) == {
        "a.jpg": {"elk": "no"},
        "b.jpg": {"elk": "yes", "coyote": "no"},
        "c.jpg": {"elk": "no"},
    }


def test_images_of_camera_traps(tmp_path):
    images = [shot(1, "CAM01", note=1, tags=["a"]), shot(2, "CAM02", note="x")]
    table = read_images(write(tmp_path, CAMERA_TRAPS | {"images": images})).table
    assert table.to_pylist() == [
        {
            "image_id": f"CAM0{i}/{i}.JPG",
            "location": f"CAM0{i}",
            "seq_id": "0ba3",
            "frame_num": i,
            "datetime": "2023-09-03 16:36:00",
            "note": note,
        }
        for i, note in ((1, "1"), (2, "x"))
    ]


LABELME = {
    "version": "5.0",
    "flags": {},
    "shapes": [{"label": "car", "points": [[1, 1], [5, 5]]}],
    "imagePath": "a",
}
BDD = {"name": "a.jpg", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 5, "y2": 5}}]}


@pytest.mark.parametrize(
    ("name", "content", "tool"),
    [
        (
            "a.xml",
            "<annotations><version>1.1</version><image name='a.jpg'/></annotations>",
            "CVAT or PASCAL VOC",
        ),
        ("a.xml", "<annotation><filename>a.jpg</filename></annotation>", "CVAT or PASCAL VOC"),
        ("a.json", json.dumps(LABELME), "labelme"),
        ("a.json", json.dumps([BDD]), "BDD100K"),
        ("a.json", json.dumps({"name": "a", "frames": [{"objects": [{"category": "car"}]}]}), "BDD100K"),
    ],
)
def test_boxes_of_other_tools_are_refused_by_name(tmp_path, message, name, content, tool):
    """The advice for CVAT was to pass it as classes, and labelme's keys were images."""
    path = tmp_path / name
    path.write_text(content)
    for read in (read_labels, read_classes):
        refused = message(lambda read=read: read(path))
        assert refused.startswith(
            f"The file contains boxes of {tool}, which are not read.\n  where:   {path}\n"
        )
        assert refused.partition("do:      ")[2] == (
            "export the data set as COCO's JSON, or as PASCAL VOC's folder with Annotations/*.xml; or "
            "write the names of the classes of each image to one file, such as a table with the columns "
            "image_id and labels"
        )


def test_image_tags_of_cvat_and_xml_of_other_tools(tmp_path, message):
    """The tags were called boxes, with advice for boxes, and METS was a class list of Label Studio."""
    path = tmp_path / "a.xml"
    path.write_text('<annotations><image name="a.jpg" width="1"><tag label="x"></tag></image></annotations>')
    assert message(lambda: read_labels(path)).startswith(
        "The file contains image tags of CVAT, which are not read.\n"
    )
    assert message(lambda: read_labels(path)).partition("do:      ")[2] == (
        "write the names of the classes of each image to one file, such as a table with the columns image_id "
        "and labels"
    )
    path.write_text('<mets:mets xmlns:mets="http://www.loc.gov/METS/"><mets:div ID="P1"/></mets:mets>')
    for read in (read_labels, read_classes):
        assert "no known format with suffix '.xml'" in message(lambda read=read: read(path))


def test_ignored_objects_and_boxes_without_area_in_coco(tmp_path):
    """``"ignore": 1`` made a class valid, and a box without area made it unclear in silence."""
    annotations = [
        annotation(7, 18) | {"ignore": 1},
        annotation(8, 18) | {"ignore": 0},
        annotation(8, 21, box=(1, 1, 0, 0)),
        annotation(9, 21, box=(1, 1, -2, 3)),
        annotation(9, 21),
        annotation(9, 63, crowd=1, box=(1, 1, 0, 0)),
        {"image_id": 9, "category_id": 18, "ignore": 1},  # of the whole image
    ]
    labels = read_labels(write(tmp_path, COCO | {"annotations": annotations}))
    assert states(labels) == {
        "a.jpg": {"dog": "unclear", "cat": "no", "sofa": "no"},
        "b.jpg": {"dog": "yes", "cat": "unclear", "sofa": "no"},
        "c.jpg": {"dog": "unclear", "cat": "yes", "sofa": "unclear"},
    }
    assert labels.notes == (
        "2 boxes have no area or are outside their image; a class with no other objects in an "
        "image is unclear there",
    )
    objects = read_objects(write(tmp_path, COCO | {"annotations": annotations[:-1]}))
    assert objects.ignore.tolist() == [True, False, False, False, False, True]


def test_what_is_not_annotations(tmp_path):
    """Results of MegaDetector also begin with ``info`` or ``images``."""
    found = {
        "info": {},
        "detection_categories": {"1": "animal"},
        "images": [{"file": "a.jpg", "detections": []}],
    }
    path = write(tmp_path, found)
    assert getattr(detect(path, ("labels",)), "name", "") != "coco-labels"


@pytest.mark.parametrize("first", ["empty", "cat"])
def test_label_sets_as_coco(tmp_path, first):
    keys = (first, "dog")
    columns = {
        "image_id": ["x/a.jpg", "x/b.jpg"],
        "usable": [True, True],
        "classes": [[0, 1], [0, 1]],
        "state": [["yes", "no"], ["unclear", "yes"]],
    }
    own = from_keys(keys)
    labels = Labels(pa.table(columns), 2, own.hash, asked_known=True)
    saved = save(labels, tmp_path / "c.json", "coco-labels", classes=own)
    base = 0 if first == "empty" else 1
    assert json.loads((tmp_path / "c.json").read_text()) == {
        "images": [{"id": 1, "file_name": "x/a.jpg"}, {"id": 2, "file_name": "x/b.jpg"}],
        "categories": [{"id": base, "name": first}, {"id": base + 1, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": base},
            {"id": 2, "image_id": 2, "category_id": base, "iscrowd": 1},
            {"id": 3, "image_id": 2, "category_id": base + 1},
        ],
    }
    assert saved.notes == (
        "c.json has neither the boxes nor the ids of another COCO file: images are numbered from 1, and "
        f"categories from {base}, so join other files, such as detections, by file_name and by the name of "
        "the category",
    )
    assert read_labels(tmp_path / "c.json").table.equals(labels.table)
    columns |= {"classes": [[0, 1], [1]], "state": [["yes", "no"], ["yes"]]}
    partial = Labels(pa.table(columns), 2, own.hash, asked_known=True)
    save(partial, tmp_path / "p.json", "coco-labels", classes=own)
    images = json.loads((tmp_path / "p.json").read_text())["images"]
    assert [i["neg_category_ids"] for i in images] == [[base + 1], []]
    assert read_labels(tmp_path / "p.json").table.equals(partial.table)
    columns |= {"classes": [[0], [1]], "state": [["yes"], ["yes"]]}
    unknown = Labels(pa.table(columns), 2, own.hash)
    save(unknown, tmp_path / "u.json", "coco-labels", classes=own)
    back = read_labels(tmp_path / "u.json")
    assert back.table.equals(unknown.table)
    assert not back.asked_known


def voc_file(folder, name, objects):
    inside = "".join(
        f"<object><name>{key}</name><difficult>{hard}</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>5</xmax><ymax>5</ymax></bndbox></object>"
        for key, hard in objects
    )
    text = f"<annotation><filename>{name}</filename><size><width>9</width><height>9</height></size>{inside}"
    (folder / "Annotations" / f"{name[:-4]}.xml").write_text(f"{text}</annotation>")


def test_voc(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "a.jpg").write_text("")  # a folder of images is not one of classes
    voc_file(tmp_path, "a.jpg", [("dog", 0), ("dog", 1), ("sofa", 1)])
    voc_file(tmp_path, "b.jpg", [])
    labels = read_labels(tmp_path)
    assert (labels.n_classes, labels.asked_known, labels.class_list.keys[:2]) == (
        20,
        True,
        ("aeroplane", "bicycle"),
    )
    found = states(labels)
    assert found["b.jpg"] == dict.fromkeys(labels.class_list.keys, "no")
    assert {key: state for key, state in found["a.jpg"].items() if state != "no"} == {
        "dog": "yes",
        "sofa": "unclear",
    }


OPEN_IMAGES = """\
ImageID,Source,LabelName,Confidence
000b,verification,/m/dog,1
000a,verification,/m/cat,0
000b,verification,/m/cat,0
000a,machine,/m/cat,0.9
000c,machine,/m/dog,0.3
000c,machine,/m/cat,0.7
000d,verification,/m/dog,1
000d,crowdsource-verification,/m/dog,0
"""


def test_open_images(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(OPEN_IMAGES)
    labels = read_labels(path)
    assert states(labels) == {
        "000b": {"/m/dog": "yes", "/m/cat": "no"},
        "000a": {"/m/cat": "no"},  # a verification replaces the machine's label
        "000c": {"/m/cat": "yes"},  # and a machine's doubt is not a verification
        "000d": {"/m/dog": "unclear"},
    }
    assert labels.asked_known
    assert labels.table["rated"].to_pylist() == [True, True, False, True]
    assert not labels.class_list.is_complete
    strict = read_labels(path, format="open-images(threshold=0.8, suffix='.jpg')")
    assert states(strict)["000c.jpg"] == {}


def test_open_images_in_random_orders(tmp_path):
    """By the rules in the reference, row by row: human answers count, and machine's only without them."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(1, 15))
        columns = rng.choice(list("abcd"), n), rng.choice(["verification", "machine"], n)
        rows = list(zip(*columns, rng.choice(["/m/1", "/m/2"], n), rng.integers(0, 2, n), strict=True))
        path = tmp_path / "labels.csv"
        lines = [",".join(map(str, row)) for row in rows]
        path.write_text("\n".join(["ImageID,Source,LabelName,Confidence", *lines]))
        expected = {image: {} for image, *_ in rows}
        for image, name in {(row[0], row[2]) for row in rows}:
            found = [(s, c) for i, s, m, c in rows if (i, m) == (image, name)]
            human = {c for s, c in found if s == "verification"}
            if human:
                expected[image][name] = ("no", "yes")[min(human)] if len(human) == 1 else "unclear"
            elif machine := {c for _, c in found}:
                state = {frozenset({0}): "", frozenset({1}): "yes"}.get(frozenset(machine), "unclear")
                expected[image] |= {name: state} if state else {}
        assert states(read_labels(path)) == expected


def test_boxes_of_open_images(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded\n"
        "000a,xclick,/m/dog,1,0.1,0.2,0.1,0.2,0\n000a,xclick,/m/dog,1,0.3,0.4,0.1,0.2,0\n"
    )
    labels = read_labels(path)
    assert (states(labels), labels.asked_known) == ({"000a": {"/m/dog": "yes"}}, True)


def test_class_descriptions_of_open_images(tmp_path):
    (tmp_path / "classes.csv").write_text("LabelName,DisplayName\n/m/dog,Dog\n/m/cat,Cat\n")
    classes = read_classes(tmp_path / "classes.csv")
    assert (classes.keys, classes.names) == (("/m/dog", "/m/cat"), ("Dog", "Cat"))
    (tmp_path / "labels.csv").write_text(OPEN_IMAGES)
    assert read_labels(tmp_path / "labels.csv", classes=classes).class_hash == classes.hash
    path = tmp_path / "class-descriptions.csv"  # up to V6, without a header
    path.write_text('/m/dog,Dog\n/m/cat,"Cat, domestic"\n')
    classes = read_classes(path)
    assert (classes.keys, classes.names) == (("/m/dog", "/m/cat"), ("Dog", "Cat, domestic"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            "a,x,/m/dog,1.5",
            "This is not a confidence.\n  where:   {}, image a\n  got:     1.5\n  allowed: 0 to 1",
        ),
        (
            "a,x,/m/dog,nan",
            "This is not a confidence.\n  where:   {}, image a\n  got:     nan\n  allowed: 0 to 1",
        ),
        ("a,x,,1", "A row has no class.\n  where:   {}, row 0"),
        (",x,/m/dog,1", "A row has no image.\n  where:   {}, row 0"),
    ],
)
def test_broken_tables_of_open_images(tmp_path, message, row, said):
    path = tmp_path / "l.csv"
    path.write_text(f"ImageID,Source,LabelName,Confidence\n{row}\n")
    assert message(lambda: read_labels(path)) == said.format(path)
    assert message(lambda: read_labels(path, format="open-images(threshold=2.0)")) == (
        f"The threshold is not a probability.\n  where:   {path}\n  got:     2.0\n  allowed: 0 to 1"
    )
