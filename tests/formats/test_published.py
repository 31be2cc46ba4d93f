"""Published label sets: ReaL's scores, Shankar et al., Chen et al."""

import json
import shutil
import zipfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from manyhot import read_labels, read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError
from manyhot.formats import detect
from manyhot.formats.prediction_folders import prediction_files


@pytest.fixture(scope="module")
def real_folder(release):
    return release("reassessed-imagenet/bcd006fe", "scores.npz", "real.json", "raters.npz")


@pytest.fixture(scope="module")
def scores(real_folder):
    return read_labels(real_folder / "scores.npz")


def test_scores_give_the_published_label_sets(scores, real_folder):
    released = read_labels(real_folder / "real.json").to_polars()
    yes = scores.to_polars().explode("classes", "state", empty_as_null=True).filter(pl.col("state") == "yes")
    sets = yes.group_by("image_id").agg(pl.col("classes").sort())
    wanted = released.filter(pl.col("classes").list.len() > 0).select(
        "image_id", pl.col("classes").list.sort()
    )
    assert sets.sort("image_id").equals(wanted)
    assert len(yes) == 57_553
    assert len(scores) - len(sets) == 3_163


def test_scores_tell_who_was_asked_what(scores):
    frame = scores.to_polars()
    rated, unrated = frame.filter("rated"), frame.filter(~pl.col("rated"))
    assert (len(rated), len(unrated)) == (24_889, 25_111)
    assert rated["classes"].list.len().sum() == 184_962
    assert set(rated["n_votes"].explode(empty_as_null=True)) == {5}
    assert unrated["classes"].list.len().unique().to_list() == [1]
    assert unrated["p"].explode(empty_as_null=True).unique().to_list() == [1.0]
    assert unrated["n_votes"].explode(empty_as_null=True).unique().to_list() == [0]
    assert scores.asked_known
    assert scores.name == "ReaL"
    assert frame["image_id"][[0, -1]].to_list() == [
        "ILSVRC2012_val_00000001.JPEG",
        "ILSVRC2012_val_00050000.JPEG",
    ]


def test_published_scores_stay_with_their_classes(scores, real_folder):
    # Entry by entry from the file, by the way that is slow and plain.
    with np.load(real_folder / "scores.npz") as file:
        score, info = file["tensor"], file["info"]
    for i in (0, 1, 77_777, 184_961):
        row = scores.to_polars().filter(pl.col("image_id") == info[i, 0])
        place = row["classes"][0].to_list().index(int(info[i, 1]))
        assert row["p"][0][place] == pytest.approx(score[i], rel=1e-6)
        assert row["state"][0][place] == ("yes" if score[i] >= 0.8 else "no")


def test_archives_of_real_are_no_predictions(real_folder, tmp_path):
    assert detect(real_folder / "scores.npz").name == "real-scores"
    assert detect(real_folder / "raters.npz").name == "real-votes"
    shutil.copy(real_folder / "scores.npz", tmp_path)
    np.savez(tmp_path / "model.npz", classes=np.tile(np.arange(5), (2, 1)), ids=np.array(["a", "b"]))
    assert [p.name for p in prediction_files([tmp_path])] == ["model.npz"]
    assert read_predictions(tmp_path / "model.npz").image_id.to_pylist() == ["a", "b"]


def write_scores(folder, *, score=(0.9, 0.1), image="ILSVRC2012_val_00000002.JPEG", classes=("3", "12")):
    path = folder / "scores.npz"
    np.savez(path, tensor=np.array(score), info=np.array([[image, c] for c in classes]))
    return path


def write_sets(folder, **sets):
    full = [[7] for _ in range(50_000)]
    full[1] = [3]
    for image, classes in sets.items():
        full[int(image[1:])] = classes
    (folder / "real.json").write_text(json.dumps(full))


def test_made_up_scores(tmp_path):
    path = write_scores(tmp_path)
    write_sets(tmp_path)
    rows = read_labels(path).table.slice(0, 2).to_pylist()
    assert [row["classes"] for row in rows] == [[7], [3, 12]]
    assert [row["state"] for row in rows] == [["yes"], ["yes", "no"]]
    assert [row["rated"] for row in rows] == [False, True]


def test_scores_alone(tmp_path, message):
    path = write_scores(tmp_path)
    assert message(lambda: read_labels(path)) == (
        "The file has no labels of unrated images, which are in real.json.\n"
        f"  where:   {path}\n"
        "  got:     no real.json in this folder\n"
        "  do:      put this release's real.json into this folder, as in the catalogue's imagenet-real"
    )


def test_scores_beside_label_sets_of_another_release(tmp_path, message):
    path = write_scores(tmp_path)
    write_sets(tmp_path, i1=[3, 4, 5])
    assert message(lambda: read_labels(path)) == (
        "The scores and the real.json in the same folder are from different releases.\n"
        f"  where:   {path}\n"
        "  got:     2 labels of rated images in only one of them\n"
        "  allowed: a real.json with the classes whose score is 0.8 or more, and no others"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"classes": ("3", "1000")},
            "This is not a class.\n  where:   {}\n  got:     '1000'\n  allowed: 0 to 999",
        ),
        (
            {"classes": ("3", "tench")},
            "This is not a class.\n  where:   {}\n  got:     'tench'\n  allowed: 0 to 999",
        ),
        (
            {"image": "ILSVRC2012_val_00050001.JPEG"},
            "This is not an image of ImageNet's validation set.\n  where:   {}\n"
            "  got:     'ILSVRC2012_val_00050001.JPEG'\n"
            "  allowed: ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG",
        ),
        (
            {"image": "ILSVRC2012_val_0000000x.JPEG"},
            "This is not an image of ImageNet's validation set.\n  where:   {}\n"
            "  got:     'ILSVRC2012_val_0000000x.JPEG'\n"
            "  allowed: ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG",
        ),
        *(
            (
                {"classes": ("3", name)},
                f"This is not a class.\n  where:   {{}}\n  got:     {name!r}\n  allowed: 0 to 999",
            )
            for name in ("9" * 25, "-1", "1.5", "1_0", "\u0663", "")
        ),
        ({"score": (0.9, 1.5)}, "A score is not a probability.\n  where:   {}\n  allowed: 0 to 1"),
        ({"score": (0.9, np.nan)}, "A score is not a probability.\n  where:   {}\n  allowed: 0 to 1"),
        (
            {"score": (0.9,)},
            "The file is not ReaL's table of scores.\n  where:   {}\n"
            "  got:     tensor of float64 (1,), info of <U28 (2, 2)\n"
            "  allowed: tensor of float64 (n,), info of text (n, 2)",
        ),
    ],
)
def test_scores_that_are_none(tmp_path, message, change, said):
    path = write_scores(tmp_path, **change)
    write_sets(tmp_path)
    assert message(lambda: read_labels(path)) == said.format(path)


def test_scores_without_rows(tmp_path, message):
    path = tmp_path / "scores.npz"
    np.savez(path, tensor=np.empty(0), info=np.empty((0, 2), "U5"))
    assert message(lambda: read_labels(path)) == f"The file has no rows.\n  where:   {path}"


def test_members_that_are_no_arrays(tmp_path, message):
    path = tmp_path / "scores.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tensor", b"abc")
        archive.writestr("info", b"abc")
    assert message(lambda: read_labels(path)) == (
        f"The file is not ReaL's table of scores.\n  where:   {path}\n"
        "  got:     tensor of bool (0,), info of bool (0,)\n"
        "  allowed: tensor of float64 (n,), info of text (n, 2)"
    )


def test_pickled_scores_are_not_loaded(tmp_path, message):
    path = tmp_path / "scores.npz"
    np.savez(path, tensor=np.array([object()]), info=np.array([["a", "1"]]))
    assert message(lambda: read_labels(path)).startswith(
        "The file was not read, because it contains Python objects"
    )


ANNOTATIONS = {
    "initial_annots": {
        "ILSVRC2012_val_00000001.JPEG": {"wrong": ["n01665541", "n01697457"], "correct": ["n01751748"]},
        "ILSVRC2012_val_00000005.JPEG": {"correct": ["n02804414"], "unclear": ["n03125729", "n02804414"]},
        "ILSVRC2012_val_00000064.JPEG": {"wrong": ["n01440764"]},
        "0a1b2c3d": {"correct": ["n01440764"]},
    },
    "problematic_images": {"ILSVRC2012_val_00000064.JPEG": {"reason": "…"}, "elsewhere.JPEG": {}},
    "imagenet_m": ["ILSVRC2012_val_00000001.JPEG"],
}


@pytest.fixture
def annotated(tmp_path):
    path = tmp_path / "human_accuracy_v3.0.0.json"
    path.write_text(json.dumps(ANNOTATIONS))
    return path


def test_annotations_of_shankar_et_al(annotated):
    labels = read_labels(annotated)
    rows = labels.table.to_pylist()
    key = class_list().keys
    assert [row["image_id"][-10:] for row in rows] == ["00001.JPEG", "00005.JPEG", "00064.JPEG"]
    assert [[key[c] for c in row["classes"]] for row in rows] == [
        ["n01751748", "n01665541", "n01697457"],
        ["n02804414", "n03125729"],
        ["n01440764"],
    ]
    assert [row["state"] for row in rows] == [["yes", "no", "no"], ["yes", "unclear"], ["no"]]
    assert [row["usable"] for row in rows] == [True, True, False]
    assert labels.asked_known
    assert labels.class_hash == class_list().hash
    assert detect(annotated).name == "tfds-multilabel"


def test_annotations_as_a_csv_file(tmp_path):
    path = tmp_path / "multilabel.csv"
    path.write_text(
        "id,original_label,proposed_labels,unclear_multi_labels,wrong_multi_labels,is_problematic\n"
        'b.JPEG,3,"3, 9",,5,False\na.JPEG,4,,6,"4, 7",True\n'
    )
    labels = read_labels(path)
    assert labels.table.select(("image_id", "label", "usable", "classes", "state")).to_pylist() == [
        {
            "image_id": "b.JPEG",
            "label": 3,
            "usable": True,
            "classes": [3, 9, 5],
            "state": ["yes", "yes", "no"],
        },
        {
            "image_id": "a.JPEG",
            "label": 4,
            "usable": False,
            "classes": [6, 4, 7],
            "state": ["unclear", "no", "no"],
        },
    ]
    assert labels.asked_known
    assert labels.class_hash == class_list().hash


def test_annotations_of_imagenetv2_are_read_on_request(annotated, message):
    labels = read_labels(annotated, format="tfds-multilabel(images='v2')")
    assert labels.table["image_id"].to_pylist() == ["0a1b2c3d.jpeg"]
    assert labels.name == "ImageNetV2 multi-label"
    assert message(lambda: read_labels(annotated, format="tfds-multilabel(images='train')")) == (
        f"There are no such images.\n  where:   {annotated}\n  got:     train\n  allowed: validation, v2"
    )


def test_annotations_without_the_images_asked_for(tmp_path, message):
    path = tmp_path / "h.json"
    path.write_text(json.dumps({"initial_annots": {"0a1b": {}}, "problematic_images": {}}))
    assert message(lambda: read_labels(path)) == (
        "The file has no images of the validation set.\n"
        f"  where:   {path}\n"
        "  do:      read its other images with format=\"tfds-multilabel(images='v2')\""
    )


@pytest.mark.parametrize(
    ("annotation", "got"), [({"maybe": []}, "maybe"), ([], "[]"), ({"correct": [1]}, "{'correct': [1]}")]
)
def test_strange_annotations(tmp_path, message, annotation, got):
    path = tmp_path / "h.json"
    name = "ILSVRC2012_val_00000001.JPEG"
    path.write_text(json.dumps({"initial_annots": {name: annotation}, "problematic_images": {}}))
    assert message(lambda: read_labels(path)) == (
        f"An entry is not an annotation of an image.\n  where:   {path}, image {name}\n"
        f"  got:     {got}\n  allowed: lists of WordNet ids under correct, unclear and wrong"
    )


def test_annotations_of_an_unknown_class(tmp_path, message):
    path = tmp_path / "h.json"
    annotation = {"ILSVRC2012_val_00000001.JPEG": {"correct": ["n00000001"]}}
    path.write_text(json.dumps({"initial_annots": annotation, "problematic_images": {}}))
    assert message(lambda: read_labels(path)) == (
        f"A key is not in the class list.\n  where:   {path}\n  got:     n00000001\n"
        "  allowed: the 1,000 keys of imagenet1k"
    )


def test_half_a_table_of_annotations(tmp_path, message):
    path = tmp_path / "h.json"
    path.write_text('{"initial_annots": {}}')
    assert message(lambda: read_labels(path)) == (
        f"The file is not Shankar et al.'s table of annotations.\n  where:   {path}\n"
        "  allowed: an object with `initial_annots` and `problematic_images`"
    )


def test_rows_as_csv(tmp_path):
    path = tmp_path / "multilabel.csv"
    path.write_text(
        "id,category,original_label,proposed_labels,manually_validated,unclear_multi_labels,"
        "wrong_multi_labels,is_problematic\n"
        'a.JPEG,M,3,"3, 9",True,,5,False\n'
        'b.JPEG,M,4,,True,6,"4, 7",True\n'
    )
    assert detect(path).name == "multilabel-csv"
    assert read_labels(path).table.to_pylist() == [
        {"image_id": "a.JPEG", "label": 3, "rated": True, "usable": True, "classes": [3, 9, 5]}
        | {"state": ["yes", "yes", "no"], "method": "Shankar et al."},
        {"image_id": "b.JPEG", "label": 4, "rated": True, "usable": False, "classes": [6, 4, 7]}
        | {"state": ["unclear", "no", "no"], "method": "Shankar et al."},
    ]
    path.write_text(path.read_text().replace('"3, 9"', '"3; x"'))
    with pytest.raises(InputError, match=r"^The file"):
        read_labels(path)


def test_rows_of_tfds_have_original_labels(tmp_path):
    path = tmp_path / "multilabel.parquet"
    rows = pa.table(
        {
            "file_name": pa.array([b"a.JPEG", b"b.JPEG"]),
            "original_label": pa.array([3, 4], pa.int64()),
            "correct_multi_labels": [[3, 9], []],
            "wrong_multi_labels": [[5], [4]],
            "unclear_multi_labels": [[], [6]],
            "is_problematic": [False, True],
        }
    )
    pq.write_table(rows, path)
    labels = read_labels(path)
    assert labels.table.to_pylist() == [
        {"image_id": "a.JPEG", "label": 3, "rated": True, "usable": True, "classes": [3, 9, 5]}
        | {"state": ["yes", "yes", "no"], "method": "Shankar et al."},
        {"image_id": "b.JPEG", "label": 4, "rated": True, "usable": False, "classes": [6, 4]}
        | {"state": ["unclear", "no"], "method": "Shankar et al."},
    ]


def tfds(path, **columns):
    rows = {
        "file_name": ["a.JPEG", "b.JPEG"],
        "original_label": [3, 4],
        "correct_multi_labels": [[3, 9], []],
        "wrong_multi_labels": [[5], [4]],
        "unclear_multi_labels": pa.array([[], None], pa.list_(pa.null())),
        "is_problematic": [False, True],
    }
    pq.write_table(pa.table(rows | columns), path)
    return path


NO_CLASSES = "These are not classes.\n  where:   {}, column {}\n  got:     {}\n  allowed: {}"
BEYOND = "Integer value 1099511627776 not in range: -2147483648 to 2147483647"


def test_lists_without_any_class(tmp_path):
    labels = read_labels(tfds(tmp_path / "t.parquet"))
    assert labels.table["classes"].to_pylist() == [[3, 9, 5], [4]]


@pytest.mark.parametrize(
    ("column", "values", "got", "allowed"),
    [
        ("correct_multi_labels", [[1.9], [2.0]], "double", "whole numbers, 0 to 999"),
        ("correct_multi_labels", [["n01440764"], []], "string", "whole numbers, 0 to 999"),
        ("wrong_multi_labels", [[2**40], []], BEYOND, "whole numbers, 0 to 999"),
        ("correct_multi_labels", [1, 2], "a column of int64", "lists of whole numbers, 0 to 999"),
        ("original_label", ["a", "b"], "string", "whole numbers, 0 to 999"),
        ("original_label", [2**40, 1], BEYOND, "whole numbers, 0 to 999"),
    ],
)
def test_rows_of_tfds_that_hold_other_things(tmp_path, message, column, values, got, allowed):
    path = tfds(tmp_path / "t.parquet", **{column: values})
    assert message(lambda: read_labels(path)) == NO_CLASSES.format(path, column, got, allowed)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"correct_multi_labels": [[3, None], []]},
            "A list of classes contains an empty value.\n  where:   {}, column correct_multi_labels\n"
            "  allowed: whole numbers, 0 to 999",
        ),
        (
            {"is_problematic": [0, 1]},
            "A column does not contain only true and false.\n  where:   {}, column is_problematic\n"
            "  got:     int64\n  allowed: bool",
        ),
        (
            {"file_name": [b"\xff", b"b"]},
            "The column does not contain image names.\n  where:   {}, column file_name\n"
            "  got:     binary (Invalid UTF8 payload)\n  allowed: text in UTF-8",
        ),
    ],
)
def test_strange_rows_of_tfds(tmp_path, message, columns, said):
    path = tfds(tmp_path / "t.parquet", **columns)
    assert message(lambda: read_labels(path)) == said.format(path)


CHEN = "n01440764/n01440764_10042.JPEG\t0\t0,391\t0.2654,1.0000\nn01443537/n01443537_2.JPEG\t1\t\t\n"


def test_labels_of_chen_et_al(tmp_path):
    path = tmp_path / "multilabel_annotations.tsv"
    path.write_text(CHEN)
    labels = read_labels(path)
    assert labels.table["image_id"].to_pylist() == ["n01440764_10042.JPEG", "n01443537_2.JPEG"]
    assert labels.table["label"].to_pylist() == [0, 1]
    assert labels.table["classes"].to_pylist() == [[0, 391], []]
    assert labels.table["state"].to_pylist() == [["no", "yes"], []]
    assert pc.list_flatten(labels.table["p"]).to_numpy().tolist() == pytest.approx([0.2654, 1.0])
    assert labels.table["rated"].to_pylist() == [False, False]
    assert labels.asked_known
    lower = read_labels(path, format="chen(threshold=0.2)")
    assert lower.table["state"].to_pylist() == [["yes", "yes"], []]


def test_two_hundred_thousand_lines_of_chen_et_al(tmp_path):
    path = tmp_path / "m.tsv"
    lines = (
        f"n01440764/n01440764_{i}.JPEG\t{i % 1000}\t{i % 1000},{(i + 1) % 1000}\t0.5,0.25"
        for i in range(200_000)
    )
    path.write_text("\n".join(lines))
    labels = read_labels(path)
    assert len(labels) == 200_000
    assert labels.table["classes"][199_999].as_py() == [999, 0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "a.JPEG\t0\t0,391\t0.5\n",
            "An image has different numbers of probabilities and classes.\n  where:   {}, image a.JPEG\n"
            "  got:     1 probabilities\n  allowed: 2",
        ),
        (
            "a.JPEG\t0\t0,x\t0.5,1\n",
            "This is not a class.\n  where:   {}\n  got:     'x'\n  allowed: a class index",
        ),
        (
            "a.JPEG\t0\t0\thigh\n",
            "This is not a number.\n  where:   {}\n  got:     'high'\n  allowed: a probability",
        ),
        (
            "b.JP",
            "The last line of the file is not complete.\n  where:   {}\n  got:     'b.JP'\n"
            "  allowed: filename, gt_index, idx_list, prob_list, separated by tabs\n"
            "  do:      create or download it again",
        ),
        (
            "b.JPEG\t0",
            "The last line of the file is not complete.\n  where:   {}\n  got:     'b.JPEG\\t0'\n"
            "  allowed: filename, gt_index, idx_list, prob_list, separated by tabs\n"
            "  do:      create or download it again",
        ),
        (
            "b.JPEG\t0\t1,2",
            "The last line of the file is not complete.\n  where:   {}\n  got:     'b.JPEG\\t0\\t1,2'\n"
            "  allowed: filename, gt_index, idx_list, prob_list, separated by tabs\n"
            "  do:      create or download it again",
        ),
        (
            "a.JPEG\t0\t0\t100\n",
            "This is not a probability.\n  where:   {}\n  got:     '100'\n  allowed: 0 to 1",
        ),
        (
            "a.JPEG\t0\t0\t-0.5\n",
            "This is not a probability.\n  where:   {}\n  got:     '-0.5'\n  allowed: 0 to 1",
        ),
        (
            "a.JPEG\t0\t0\tinf\n",
            "This is not a probability.\n  where:   {}\n  got:     'inf'\n  allowed: 0 to 1",
        ),
        (
            "a.JPEG\t\t0\t1\n",
            "An image has no original label.\n  where:   {}, row 2\n  allowed: a class index in each line",
        ),
    ],
)
def test_broken_lines_of_chen_et_al(tmp_path, message, line, said):
    path = tmp_path / "m.tsv"
    path.write_text(CHEN + line)
    assert message(lambda: read_labels(path)) == said.format(path)


def test_nan_in_the_first_line_of_chen_et_al(tmp_path, message):
    path = tmp_path / "m.tsv"
    path.write_text("a.JPEG\t0\t0,391\tnan,1\n")
    assert message(lambda: read_labels(path)) == (
        f"This is not a number.\n  where:   {path}\n  got:     'nan'\n  allowed: a probability"
    )


@pytest.mark.parametrize("threshold", ["50", "-0.1"])
def test_thresholds_that_are_no_probabilities(tmp_path, message, threshold):
    path = tmp_path / "m.tsv"
    path.write_text(CHEN)
    assert message(lambda: read_labels(path, format=f"chen(threshold={threshold})")) == (
        f"The threshold is not a probability.\n  where:   {path}\n  got:     {threshold}\n  allowed: 0 to 1"
    )


@pytest.mark.parametrize("threshold", ["'x'", "None", "[1]", "True", "1e999"])
def test_thresholds_that_are_no_numbers(tmp_path, message, threshold):
    path = tmp_path / "m.tsv"
    path.write_text(CHEN)
    assert message(lambda: read_labels(path, format=f"chen(threshold={threshold})")) == (
        f"The option 'threshold' needs a number.\n  got:     chen(threshold={threshold})\n"
        "  allowed: threshold=1"
    )


def test_lines_of_chen_et_al_over_another_class_list(tmp_path, message):
    path = tmp_path / "m.tsv"
    path.write_text(CHEN)
    assert message(lambda: read_labels(path, classes=from_keys(["a", "b"]))) == (
        "A class is out of range.\n  where:   Chen et al., image n01440764_10042.JPEG\n"
        "  got:     391\n  allowed: 0 to 1\n"
        "  do:      correct it, or pass the list of all classes as `classes`"
    )


def test_a_list_of_ids_is_still_no_labels(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("a.jpg\nb.jpg\n")
    assert detect(path, ("labels",)) is None
    assert detect(path, ("images",)).name == "images-table"
