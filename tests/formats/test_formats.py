"""Formats on small files of each kind, and each kind of broken file."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import read_images, read_labels, read_predictions, tables
from manyhot.classes import class_list
from manyhot.errors import InputError, UnknownNameError
from manyhot.formats import detect, read_classes
from manyhot.formats.csv_tables import write_csv
from manyhot.formats.prediction_folders import prediction_files
from manyhot.tables import Images, Predictions

LABEL_FORMATS = (
    "campaign (folder); celeba-attributes (.txt); chen (.tsv .txt); coco-labels (.json); fiftyone (.json); "
    "fiftyone-samples (.json folder); "
    "ground-truth (.manifest .jsonl .json); "
    "hf-labels (folder .parquet); image-folder (folder); imagenet-mistakes-labels (.json); "
    "indicator (.csv .tsv .parquet .txt); label-lists (.csv .tsv .parquet .json .jsonl); "
    "labels-table (.parquet .csv .tsv); multilabel-csv (.csv); multilabelfy (.json); "
    "npy-labels (.npy); npz-labels (.npz); open-images (.parquet .csv .tsv); real (.json); "
    "real-scores (.npz); "
    "tfds-multilabel (.json .parquet); tsipras-main (.pkl); tsipras-selected (.pkl); "
    "voc-image-sets (.txt folder); voc-labels (folder)"
)
LABEL_COLUMNS = (
    "multilabel-csv: id, original_label and proposed_labels; "
    "open-images: ImageID, LabelName and Confidence; "
    "label-lists: image_id, filename, path or id, and labels, tags, classes or label; "
    "indicator: image_id, filename, path or id, and one column of 0 and 1 per class; "
    "labels-table: image_id and classes, or image_id, class_id and state; "
    "other suffixes: .json, .jsonl, .manifest, .npy, .npz, .parquet, .pkl, .tsv, .txt, folder"
)


def message(make, kind=InputError):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


@pytest.fixture
def rows():
    return Images(
        pa.table({"image_id": ["a.jpg", "b.jpg", "c.jpg"], "label": pa.array([0, 1, 2], pa.int32())})
    )


def test_real_json_is_in_the_order_of_file_names(tmp_path):
    sets = [[] for _ in range(50_000)]
    sets[0], sets[292] = [65], [3, 0]
    path = tmp_path / "real.json"
    path.write_text(json.dumps(sets))
    labels = read_labels(path)
    frame = labels.to_polars().filter(pl.col("classes").list.len() > 0)
    assert frame["image_id"].to_list() == ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000293.JPEG"]
    assert frame["classes"].to_list() == [[65], [3, 0]]
    assert frame["rated"].to_list() == [None, None]
    assert not labels.asked_known


def test_real_json_of_another_length(tmp_path):
    path = tmp_path / "real.json"
    path.write_text("[[1], [2]]")
    assert message(lambda: read_labels(path)) == (
        "The file is not ReaL's list of ImageNet's validation images.\n"
        f"  where:   {path}\n"
        "  got:     2 entries\n"
        "  allowed: 50,000\n"
        "  do:      for another data set, use a table of image_id and classes"
    )


def test_truncated_json(tmp_path):
    path = tmp_path / "real.json"
    path.write_text("[[1], [2")
    assert message(lambda: read_labels(path)) == (
        "The file is not complete JSON.\n"
        f"  where:   {path}\n"
        "  got:     Expecting ',' delimiter: line 1 column 9 (char 8)\n"
        "  do:      create or download it again"
    )


def test_multilabelfy(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"x/ab.jpeg": ["370", "2"], "cd.jpeg": []}')
    labels = read_labels(path)
    assert labels.table["image_id"].to_pylist() == ["ab.jpeg", "cd.jpeg"]
    assert labels.table["classes"].to_pylist() == [[370, 2], []]
    assert labels.table["rated"].to_pylist() == [True, True]


def test_multilabelfy_with_a_class_that_does_not_exist(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"ab.jpeg": ["1000"]}')
    assert message(lambda: read_labels(path)) == (
        f"This is not a class.\n  where:   {path}, image ab.jpeg\n  got:     '1000'\n  allowed: 0 to 999"
    )


def test_data_set_json_gives_row_order_and_labels(tmp_path):
    path = tmp_path / "imagenetv2-b-33.json"
    path.write_text(
        json.dumps({"seed": 1, "image_filenames": [["abc", "n01443537"], ["x.JPEG", "n01440764"]]})
    )
    images = read_images(path)
    assert images.image_id.to_pylist() == ["abc.jpeg", "x.JPEG"]
    assert images.label.to_pylist() == [1, 0]


def test_data_set_json_with_an_unknown_word_net_id(tmp_path):
    path = tmp_path / "d.json"
    path.write_text(json.dumps({"image_filenames": [["abc", "n00000001"]]}))
    assert message(lambda: read_images(path)) == (
        "A WordNet id is not in the class list.\n"
        f"  where:   {path}\n"
        "  got:     n00000001\n"
        "  allowed: the 1,000 keys of imagenet1k"
    )


@pytest.mark.parametrize(
    "text", ["a.jpg\nb.jpg\n\nc.jpg\n", "image_id,label\nx/a.jpg,n01440764\nb.jpg,1\nc.jpg,tench\n"]
)
def test_row_order_as_text_and_csv(tmp_path, text):
    path = tmp_path / ("rows.csv" if "," in text else "rows.txt")
    path.write_text(text)
    images = read_images(path)
    assert images.image_id.to_pylist() == ["x/a.jpg" if "," in text else "a.jpg", "b.jpg", "c.jpg"]
    if "," in text:
        assert images.label.to_pylist() == [0, 1, 0]


def test_npy_of_ranks_and_of_scores(tmp_path, rows):
    np.save(tmp_path / "ranks.npy", np.array([[3, 1], [0, 2], [999, 5]]))
    np.save(tmp_path / "dense.npy", np.zeros((3, 1000)))
    ranks = read_predictions(tmp_path / "ranks.npy", rows=rows)
    assert (ranks.model, ranks.is_dense, ranks.classes.dtype) == ("ranks", False, np.int16)
    dense = read_predictions(tmp_path / "dense.npy", rows=rows, scores="logit")
    assert (dense.is_dense, dense.score_kind, dense.scores.dtype) == (True, "logit", np.float32)


def test_npz_names_its_arrays(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(
        path, probabilities=np.full((2, 1000), 1e-3, np.float32), filenames=np.array(["d/a.jpg", "b.jpg"])
    )
    found = read_predictions(path)
    assert found.image_id.to_pylist() == ["d/a.jpg", "b.jpg"]
    assert found.score_kind == "probability"


def test_npz_that_leaves_it_open(tmp_path, rows):
    path = tmp_path / "m.npz"
    np.savez(path, left=np.zeros((3, 5)), right=np.zeros((3, 5)))
    assert message(lambda: read_predictions(path, rows=rows)) == (
        "The array of predictions is ambiguous.\n"
        f"  where:   {path}\n"
        "  got:     left, right\n"
        "  allowed: one of classes, indices, topk, top_k, preds, predictions, logits, probabilities, probs, "
        "softmax, scores"
    )


def test_array_without_row_order(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, np.zeros((3, 5), int))
    assert message(lambda: read_predictions(path)) == (
        "The file does not contain the image of each row.\n"
        f"  where:   {path}\n"
        "  do:      pass the row order as `rows`: ids (in a file: one per line), a CSV with image_id, "
        "the label sets if they are in the same order, or a data-set JSON"
    )


def test_label_sets_give_the_order_of_rows(tmp_path):
    ids, path, labels = ["c.jpg", "a.jpg", "b.jpg"], tmp_path / "m.npy", tmp_path / "labels.csv"
    np.save(path, np.eye(3, 2, dtype=np.float32))
    labels.write_text("image,cat,dog\n" + "".join(f"{name},{i % 2},1\n" for i, name in enumerate(ids)))
    assert read_predictions(path, rows=labels, scores="logit").image_id.to_pylist() == ids


def test_array_with_another_number_of_rows(tmp_path, rows):
    path = tmp_path / "m.npy"
    np.save(path, np.zeros((4, 5), int))
    assert message(lambda: read_predictions(path, rows=rows)) == (
        "The predictions and the row order have different numbers of rows.\n"
        f"  where:   {path}\n"
        "  got:     4 rows\n"
        "  allowed: 3\n"
        "  do:      pass the row order of this file"
    )


def test_scores_over_another_number_of_classes(tmp_path, rows):
    path = tmp_path / "m.npy"
    np.save(path, np.zeros((3, 998), np.float32))
    assert read_predictions(path, rows=rows).n_classes == 998
    assert message(lambda: read_predictions(path, rows=rows, classes=class_list())) == (
        "The scores and the class list have different numbers of classes.\n"
        f"  where:   {path}\n"
        "  got:     998 columns\n"
        "  allowed: 1,000\n"
        "  do:      pass the class list of the model as `classes`"
    )


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was executed')",))


@pytest.mark.parametrize(("name", "dtype"), [("ids", "str"), ("logits", "float")])
def test_an_array_of_objects_is_named_with_the_line_that_saves_it(tmp_path, name, dtype):
    """Such as the ids in a column of pandas; saved as the message says, they are read."""
    arrays = {"ids": np.array(["a.jpg", "b.jpg"]), "logits": np.eye(2, 3)}
    np.savez(tmp_path / "p.npz", **arrays | {name: arrays[name].astype(object)})
    assert message(lambda: read_predictions(tmp_path / "p.npz")) == (
        "The file was not read, because it contains Python objects (a pickle), which can run code.\n"
        f"  where:   {tmp_path / 'p.npz'}, array {name}\n"
        "  allowed: arrays of numbers, and of text for ids\n"
        f"  do:      save it again with numpy.savez(FILE, {name}=numpy.array({name}, dtype={dtype}), …)"
    )
    np.savez(tmp_path / "p.npz", **arrays | {name: np.array(arrays[name].astype(object), dtype=dtype)})
    assert read_predictions(tmp_path / "p.npz").image_id.to_pylist() == ["a.jpg", "b.jpg"]


def test_a_raw_memmap_has_no_header(tmp_path, rows):
    path = tmp_path / "m.npy"
    raw = np.memmap(path, mode="w+", dtype=np.float16, shape=(2, 3))
    raw[:] = 1
    raw.flush()
    assert message(lambda: read_predictions(path, rows=rows)) == (
        "The file has no NPY header.\n"
        f"  where:   {path}\n"
        "  allowed: a file that numpy.save or numpy.lib.format.open_memmap wrote\n"
        "  do:      if it is a raw numpy.memmap, save it as another file with numpy.save('NEW.npy', "
        "numpy.memmap(FILE, mode='r', dtype=DTYPE, shape=SHAPE))"
    )


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kind", ["object array", "raw pickle"])
def test_pickles_are_never_executed(tmp_path, rows, suffix, kind):
    path = tmp_path / f"m.{suffix}"
    if kind == "raw pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif suffix == "npy":
        np.save(path, np.array([Bomb()], object), allow_pickle=True)
    else:
        np.savez(path, classes=np.array([Bomb()], object))
    named = (suffix, kind) == ("npz", "object array")
    do = "numpy.savez(FILE, classes=numpy.array(classes, dtype=str), …)"
    assert message(lambda: read_predictions(path, rows=rows)) == (
        "The file was not read, because it contains Python objects (a pickle), which can run code.\n"
        f"  where:   {path}{', array classes' if named else ''}\n"
        "  allowed: arrays of numbers, and of text for ids\n"
        f"  do:      save it again with {do if named else 'numpy.save(…, allow_pickle=False)'}"
    )


@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, -1])
def test_truncated_files(tmp_path, rows, suffix, keep):
    path = tmp_path / f"m.{suffix}"
    classes = np.tile(np.arange(5), (3, 1))
    if suffix == "npy":
        np.save(path, classes)
    elif suffix == "npz":
        np.savez(path, classes=classes)
    else:
        tables.write_predictions(Predictions(rows.image_id, "m", classes.astype(np.int32)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)] if keep == 0.5 else content[:keep])
    text = message(lambda: read_predictions(path, rows=rows))
    names = {"npy": "NumPy", "npz": "NumPy", "parquet": "Parquet"}
    # A file cut inside its first bytes is not known to be of its kind; nothing but its name says so.
    assert text.startswith(
        (
            f"The file is not a complete {names[suffix]} file.\n",
            "The file was not read, because it contains Python objects",
        )
    )
    assert f"\n  where:   {path}" in text


def test_damaged_member_of_an_archive(tmp_path, rows):
    good = io.BytesIO()
    np.savez_compressed(good, classes=np.arange(3000).reshape(3, 1000))
    content = bytearray(good.getvalue())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    assert message(lambda: read_predictions(path, rows=rows)).startswith(
        "The file is not a complete NumPy file.\n"
    )


def test_archive_without_arrays(tmp_path, rows):
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert "The file contains no array of numbers" in message(lambda: read_predictions(path, rows=rows))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_one_row_an_image(tmp_path, suffix):
    path = tmp_path / f"l.{suffix}"
    frame = pl.DataFrame(
        {"image_id": ["x/a.jpg", "b.jpg"], "label": [3, None], "classes": ["3 n01440764", ""]}
    )
    if suffix == "csv":
        frame.write_csv(path)
    else:
        frame.with_columns(classes=pl.Series([["3", "n01440764"], []])).write_parquet(path)
    labels = read_labels(path)
    assert labels.table["image_id"].to_pylist() == ["x/a.jpg", "b.jpg"]
    assert labels.table["classes"].to_pylist() == [[3, 0], []]
    assert labels.table["state"].to_pylist() == [["yes", "yes"], []]
    assert not labels.asked_known


def test_labels_long(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("image_id,class_id,state\na.jpg,tench,yes\na.jpg,goldfish,no\nb.jpg,,\n")
    labels = read_labels(path)
    assert labels.table["classes"].to_pylist() == [[0, 1], []]
    assert labels.table["state"].to_pylist() == [["yes", "no"], []]
    assert labels.asked_known


def test_empty_sets_survive_the_long_form(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,usable,classes\na,0,true,0 1\nb,1,true,\n")
    labels = read_labels(tmp_path / "l.csv")
    again = read_labels(write_csv(labels.table, tmp_path / "long.csv", long=True))
    assert again.table["image_id"].to_pylist() == ["a", "b"]
    assert again.table["classes"].to_pylist() == [[0, 1], []]


def test_predictions_long_by_rank_and_by_score(tmp_path):
    (tmp_path / "r.csv").write_text("image_id,class_id,rank\na,5,2\na,7,1\nb,1,1\n")
    (tmp_path / "s.csv").write_text("image_id,class_id,score\na,5,0.1\na,7,0.9\nb,1,1.0\n")
    for name in ("r.csv", "s.csv"):
        found = read_predictions(tmp_path / name)
        assert found.image_id.to_pylist() == ["a", "b"]
        assert found.classes.tolist() == [[7, 5], [1, -1]]


def test_unknown_class_name(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("image_id,class_id,state\na.jpg,tenhc,yes\n")
    assert read_labels(path).class_list.keys == ("tenhc",)
    assert message(lambda: read_labels(path, classes=class_list())) == (
        "A class is not in the class list.\n"
        f"  where:   {path}\n"
        "  got:     tenhc\n"
        "  allowed: 0 to 999, or a key or name of imagenet1k\n"
        "  do:      pass a list with this class as `classes`, or remove the value if it is not a class"
    )


@pytest.mark.parametrize("long", [False, True])
def test_csv_round_trip(tmp_path, long):
    p = Predictions(
        pa.array(["a", "b"]),
        "m",
        np.array([[7, 5], [1, -1]], np.int32),
        np.array([[2.5, 1], [0.25, 0]], np.float32),
        np.array([3, 0.5], np.float32),
        "logit",
        1000,
    )
    again = read_predictions(write_csv(p.to_table(), tmp_path / "m.csv", long=long), scores="logit")
    assert again.classes.tolist() == p.classes.tolist()
    assert again.scores[0].tolist() == [2.5, 1]
    assert again.logsumexp.tolist() == [3, 0.5]


def test_parquet_tells_model_and_class_list(tmp_path):
    known = class_list()
    p = Predictions(
        pa.array(["a"]), "timm/resnet50", np.array([[1]], np.int32), n_classes=1000, class_hash=known.hash
    )
    path = tables.write_predictions(p, tmp_path / tables.predictions_file_name(p.model))
    assert path.name == "timm--resnet50.parquet"
    again = read_predictions(path)
    assert (again.model, again.n_classes, again.class_hash) == ("timm/resnet50", 1000, known.hash)


def test_file_of_another_kind(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("image_id,label\na,1\n")
    text = message(lambda: read_labels(path))
    assert text == (
        "The file does not contain labels.\n"
        f"  where:   {path}\n"
        "  got:     images (images-table), and the columns image_id (text), label (0 and 1)\n"
        f"  allowed: {LABEL_COLUMNS}\n"
        "  do:      pass it as images"
    )


def test_file_of_no_kind(tmp_path):
    path = tmp_path / "notes.doc"
    path.write_text("")
    assert message(lambda: read_labels(path)) == (
        "The file does not contain labels.\n"
        f"  where:   {path}\n"
        "  got:     no known format with suffix '.doc'\n"
        f"  allowed: {LABEL_FORMATS}"
    )


def test_lines_of_predicted_classes_are_read_as_an_array_with_rows(tmp_path, rows, monkeypatch):
    """As WILDS asks for: one number per line and no header, so that the first number looks like a column."""
    path = tmp_path / "predictions.csv"
    path.write_text("1\n0\n2\n")
    text = message(lambda: read_predictions(path, rows=rows))
    assert text.splitlines()[-1].startswith(
        "  do:      pass a file with the image id of each line as `rows`; "
    )
    monkeypatch.chdir(tmp_path)
    exec(text.partition("in Python: ")[2])
    found = read_predictions("predictions.npy", rows=rows)
    assert found.image_id.to_pylist() == rows.image_id.to_pylist()
    assert found.classes.ravel().tolist() == [1, 0, 2]
    path.write_text("cat\n1\n0\n")  # a column with a name
    assert message(lambda: read_predictions(path, rows=rows)).endswith(
        "  do:      rename the column with the names of the images to image_id"
    )


def test_absent_file(tmp_path):
    assert message(lambda: read_labels(tmp_path / "l.json")) == (
        f"The file does not exist.\n  where:   {tmp_path / 'l.json'}"
    )


def test_unknown_format(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("")
    assert message(lambda: read_labels(path, format="rael"), UnknownNameError).endswith(
        "do:      did you mean 'real'?"
    )


def test_folders_are_searched_and_other_tables_passed_over(tmp_path, rows):
    np.save(tmp_path / "b.npy", np.tile(np.arange(5), (3, 1)))
    tables.write(rows.table, tmp_path / "images.parquet", "images")
    tables.write_predictions(Predictions(rows.image_id, "a", np.array([[0, 1]] * 3)), tmp_path / "a.parquet")
    (tmp_path / "labels.csv").write_text("image_id,class_id,state\n")
    (tmp_path / "skipped.csv").write_text("image_id,uri,reason\n")
    assert [p.name for p in prediction_files([tmp_path])] == ["a.parquet", "b.npy"]


def test_folder_without_predictions(tmp_path):
    assert message(lambda: prediction_files([tmp_path])) == (
        f"The folder contains no predictions.\n  where:   {tmp_path}\n"
        "  allowed: .csv, .json, .jsonl, .npy, .npz, .parquet, .tsv\n"
        "  do:      make them with manyhot predict IMAGES --model NAME --out FOLDER"
    )
    (tmp_path / "predictions").mkdir()  # as manyhot detect writes them
    assert message(lambda: prediction_files([tmp_path])).endswith(
        f"\n  do:      pass {tmp_path / 'predictions'}"
    )


def test_published_files_are_recognised(published):
    kinds = {
        "bcd006fe12e929f055e0ec7fe39dbf4d64a6881a/real.json": "real",
        "imagenetv2_refined_labels.json": "multilabelfy",
        "imagenetv2-b-33.json": "imagenetv2",
        "imagenet-validation-original.json": "imagenetv2",
    }
    assert {ending: detect(published(ending)).name for ending in kinds} == kinds


def test_set_sizes_of_the_published_labels(published):
    real = read_labels(published("real.json"))
    sizes = np.bincount(real.to_polars()["classes"].list.len().to_numpy())
    assert sizes.tolist() == [3163, 39394, 5408, 1319, 411, 161, 88, 41, 13, 2]
    v2 = read_labels(published("imagenetv2_refined_labels.json"))
    sizes = np.bincount(v2.to_polars()["classes"].list.len().to_numpy())
    assert sizes.tolist() == [129, 5083, 2385, 1306, 628, 237, 127, 48, 23, 18, 13, 1, 2]
    assert sizes[2:].sum() / len(v2) == 0.4788


def test_class_list_of_ones_own(tmp_path):
    (tmp_path / "c.txt").write_text("cat\ndog\n\nbird\n")
    (tmp_path / "c.csv").write_text("class_id,key,name\n0,n1,cat\n1,n2,dog\n2,n3,bird\n")
    text, table = read_classes(tmp_path / "c.txt"), read_classes(tmp_path / "c.csv")
    assert text.keys == ("cat", "dog", "bird")
    assert (table.keys, table.names) == (("n1", "n2", "n3"), ("cat", "dog", "bird"))
    (tmp_path / "l.csv").write_text("image_id,class_id,state\na,bird,yes\na,cat,no\n")
    labels = read_labels(tmp_path / "l.csv", classes=table)
    assert labels.table["classes"].to_pylist() == [[2, 0]]
    assert (labels.n_classes, labels.class_hash) == (3, table.hash)
    assert read_classes("imagenet1k") is class_list()


def test_class_list_with_synonyms_and_definitions(tmp_path):
    (tmp_path / "c.csv").write_text(
        "key,name,synonyms,definition,hypernyms\nn1,cat,tabby; tomcat,a pet,\nn2,dog,,,n9 animal;n8 thing\n"
    )
    pq.write_table(
        pa.table(
            {
                "key": ["n1", "n2"],
                "synonyms": [["tabby; striped", "tomcat"], None],
                "definition": ["a pet", None],
                "hypernyms": [[], ["n9 animal", "n8 thing"]],
            }
        ),
        tmp_path / "c.parquet",
    )
    text, table = read_classes(tmp_path / "c.csv"), read_classes(tmp_path / "c.parquet")
    assert text.synonyms == (("tabby", "tomcat"), ())
    assert table.synonyms == (("tabby; striped", "tomcat"), ())
    for known in (text, table):
        assert known.definitions == ("a pet", "")
        assert known.hypernyms == ((), ("n9 animal", "n8 thing"))


@pytest.mark.parametrize("sign", [" | ", "|", " > "])
def test_hypernyms_with_another_separator_are_refused(tmp_path, sign):
    """They would be one long name each, and no two classes would have a common ancestor."""
    path = tmp_path / "c.csv"
    path.write_text(f"key,hypernyms\nlion,Panthera{sign}Felidae\ncat,Felis{sign}Felidae\n")
    with pytest.raises(InputError) as error:
        read_classes(path)
    assert str(error.value) == (
        f"Hypernyms seem to be separated by {sign.strip()!r}.\n"
        f"  where:   {path}\n"
        f"  got:     Panthera{sign}Felidae\n"
        "  allowed: semicolons: parent; grandparent; root\n"
        f"  do:      replace {sign.strip()!r} by ';'"
    )


def test_class_list_in_another_order_than_it_says(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("class_id,key\n1,a\n0,b\n")
    assert message(lambda: read_classes(path)) == (
        "The column 'class_id' of a class list does not number the rows from 0.\n"
        f"  where:   {path}\n"
        "  got:     1, 0\n"
        "  allowed: 0, 1, 2, …"
    )


def test_nothing_is_claimed_about_a_class_list_that_nobody_named(tmp_path, rows):
    np.save(tmp_path / "m.npy", np.tile(np.arange(5), (3, 1)))
    assert read_predictions(tmp_path / "m.npy", rows=rows).class_hash == ""
    assert (
        read_predictions(tmp_path / "m.npy", rows=rows, classes=class_list()).class_hash == class_list().hash
    )


def test_ids_that_look_like_numbers_stay_names(tmp_path):
    (tmp_path / "l.csv").write_text(
        "image_id , label, classes\n007,0,0\n7,1,1\n00012e4,2,2\n1.10,3,3\n1.1,4,4\n"
    )
    labels = read_labels(tmp_path / "l.csv")
    assert labels.table["image_id"].to_pylist() == ["007", "7", "00012e4", "1.10", "1.1"]
    (tmp_path / "c.csv").write_text("key\n01\n1\n")
    assert read_classes(tmp_path / "c.csv").keys == ("01", "1")


def test_ids_of_an_archive_go_before_the_row_order(tmp_path, rows):
    path = tmp_path / "m.npz"
    np.savez(path, classes=np.array([[0], [1], [2]]), image_id=np.array([3, 1, 2]))
    assert read_predictions(path, rows=rows).image_id.to_pylist() == ["3", "1", "2"]
    np.savez(path, classes=np.array([[0]]), image_id=np.array(["\xe9".encode("latin-1")]))
    assert message(lambda: read_predictions(path)) == (
        f"An image id is not UTF-8.\n  where:   {path}\n  got:     b'\\xe9'"
    )


def test_names_tell_the_class_list(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,classes\na,n01440764,tench\n")
    assert read_labels(tmp_path / "l.csv").class_hash == class_list().hash


def test_huge_classes_do_not_wrap_around(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,classes\na,1,4294967297\n")
    assert message(lambda: read_labels(tmp_path / "l.csv")) == (
        "A class is out of range.\n"
        "  where:   l, image a\n"
        "  got:     2147483647\n"
        "  allowed: 0 to 999\n"
        "  do:      correct it, or pass the list of all classes as `classes`"
    )


def test_an_empty_score(tmp_path):
    (tmp_path / "p.csv").write_text("image_id,class_id,score\na,1,0.5\na,2,\n")
    assert message(lambda: read_predictions(tmp_path / "p.csv")) == (
        f"A list of scores contains an empty value.\n  where:   {tmp_path / 'p.csv'}\n  allowed: numbers"
    )


def test_images_have_no_long_form(tmp_path, rows):
    assert message(lambda: write_csv(rows.table, tmp_path / "x.csv", long=True)) == (
        "Only tables with a list of classes have a long form.\n  got:     image_id, label"
    )


def test_a_table_of_sets_alone_is_what_it_is_given_for(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image_id,classes\na,0 1\n")
    assert read_labels(path).table["classes"].to_pylist() == [[0, 1]]
    assert read_predictions(path).classes.tolist() == [[0, 1]]


@pytest.mark.parametrize("separator", [";", "|", ", "])
def test_names_with_spaces(tmp_path, separator):
    (tmp_path / "l.csv").write_text(
        f'image_id,label,classes\na,2,"great white shark{separator}tench"\nb,1,goldfish\n'
    )
    assert read_labels(tmp_path / "l.csv").table["classes"].to_pylist() == [[2, 0], [1]]


def test_a_file_without_rows(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("image_id,label,classes\n")
    assert message(lambda: read_labels(path)) == f"The file has no rows.\n  where:   {path}"


def test_a_misspelt_file_suggests_the_nearest_name_beside_it(tmp_path):
    (tmp_path / "large.npy").touch()
    (tmp_path / "rows.txt").touch()
    for read in (lambda p: prediction_files([p]), read_predictions):
        with pytest.raises(InputError) as error:
            read(tmp_path / "larg.npy")
        assert str(error.value) == (
            f"The file does not exist.\n  where:   {tmp_path / 'larg.npy'}\n"
            f"  do:      did you mean '{tmp_path / 'large.npy'}'?"
        )
    with pytest.raises(InputError) as error:
        prediction_files([tmp_path / "x" / "large.npy"])
    assert str(error.value) == f"The file does not exist.\n  where:   {tmp_path / 'x' / 'large.npy'}"


def test_a_pattern_stands_for_the_files_that_match_it(tmp_path, monkeypatch, message):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        for epoch in (10, 90):
            np.save(tmp_path / run / f"epoch_{epoch}.npy", np.eye(2))
    found = [tmp_path / run / "epoch_90.npy" for run in "ab"]
    assert prediction_files([tmp_path / "*" / "epoch_9?.npy"]) == found
    monkeypatch.chdir(tmp_path)
    assert prediction_files(["*/epoch_90.npy"]) == [path.relative_to(tmp_path) for path in found]
    (tmp_path / "a" / "[x].npy").write_bytes(found[0].read_bytes())
    assert prediction_files(["a/[x].npy"]) == [Path("a/[x].npy")]  # a file that exists is no pattern
    assert message(lambda: prediction_files(["*/epoch_5.npy"])) == (
        "No file or folder matches the pattern.\n  where:   */epoch_5.npy"
    )
