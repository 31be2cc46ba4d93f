"""Predictions in memory and in files, by a model of which everybody can tell what it should say."""

import csv
import json
import tarfile
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import manyhot
from manyhot import tables
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.predict.engines import EngineOptions
from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.run import PredictSettings, run
from manyhot.predict.scoring import _logsumexp
from manyhot.predict.sources import open_source
from small_models import COLOURS
from source_kinds import add

pytestmark = pytest.mark.usefixtures("quick_trials")


def test_best_classes_first_with_logits(folder, tint):
    said = predict_in_memory(folder, tint, top=2).predictions
    assert said.image_id.to_pylist() == ["b.png", "g.png", "r.png"]
    assert said.classes.tolist() == [[2, 3], [1, 3], [0, 3]]
    assert said.scores.tolist() == [[10, 5]] * 3
    assert (said.scores.dtype, said.logsumexp.dtype) == (np.float32, np.float32)
    assert (said.model, said.score_kind, said.n_classes, said.class_hash) == (
        "tint",
        "logit",
        4,
        COLOURS.hash,
    )


def test_all_scores_and_their_logsumexp(folder, tint):
    dense, best = (
        predict_in_memory(folder, tint, top=None).predictions,
        predict_in_memory(folder, tint, top=1).predictions,
    )
    assert dense.is_dense
    assert dense.scores.shape == (3, 4)
    np.testing.assert_allclose(best.logsumexp, np.log(np.exp(dense.scores.astype(float)).sum(1)), rtol=1e-6)
    assert np.array_equal(dense.logsumexp, best.logsumexp)


def test_large_logits_do_not_overflow():
    large = _logsumexp(np.array([[1000, 1000], [-1000, -2000]], np.float32))
    np.testing.assert_allclose(large, [1000 + np.log(2), -1000], rtol=1e-6)


def test_images_with_labels_and_sizes(folder, tint):
    images = predict_in_memory(folder, tint).images
    assert images.label.to_pylist() == [2, 1, 0]
    assert images.table["uri"][0].as_py() == f"{folder.as_posix()}/blue/b.png"
    assert images.table["width"].to_pylist() == [12] * 3
    assert images.table["height"].to_pylist() == [10] * 3


def test_no_label_column_where_no_folder_is_a_class(folder, tint):
    assert predict_in_memory(folder / "blue", tint).images.label.to_pylist() == [2]
    (folder / "blue").rename(folder / "sky")
    assert predict_in_memory(folder / "sky", tint).images.label is None


def test_labels_of_a_table(folder, tint, tmp_path):
    (tmp_path / "labels.csv").write_text("file_name,class\nb.png,red\nr.png,2\n")
    images = predict_in_memory(folder, tint, labels=tmp_path / "labels.csv").images
    assert images.label.to_pylist() == [0, None, 2]
    (tmp_path / "labels.csv").write_text("file_name,class\nb.png,mauve\nr.png,red\n")
    with pytest.raises(InputError) as error:
        predict_in_memory(folder, tint, labels=tmp_path / "labels.csv")
    assert str(error.value) == (
        "A label is not in the class list.\n"
        f"  where:   {tmp_path / 'labels.csv'}\n"
        "  got:     mauve\n"
        "  allowed: keys, names and numbers of the 4 classes of own classes\n"
        "  do:      pass the class list of these labels as `classes`"
    )


def test_a_wrong_label_ends_the_run_before_an_image_is_scored(folder, tint, tmp_path):
    (tmp_path / "labels.csv").write_text("file_name,class\nb.png,red\nr.png,mauve\n")
    told = []
    with pytest.raises(InputError, match="A label is not in the class list"):
        run(
            open_source(folder, labels=tmp_path / "labels.csv"),
            tint,
            tmp_path / "out",
            PredictSettings(),
            notify=lambda kind, _: told.append(kind),
        )
    assert told == []


def test_what_cannot_be_decoded_is_listed(folder, tint):
    said = predict_in_memory(folder, tint)
    assert [(s.image_id, s.reason) for s in said.skipped] == [("e.jpg", "the file is empty")]


def test_nothing_can_be_decoded(tmp_path, tint):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    (tmp_path / "in" / "b.jpg").write_text("no image")
    for go in (
        lambda: predict_in_memory(tmp_path / "in", tint),
        lambda: into(tmp_path / "in", tint, tmp_path / "out"),
    ):
        with pytest.raises(InputError) as error:
            go()
        assert str(error.value) == (
            "None of the images could be decoded.\n"
            f"  where:   {tmp_path / 'in'}\n"
            f"  got:     {tmp_path / 'in' / 'a.jpg'}: the file is empty; and 1 more"
        )


def test_progress_counts_images(folder, tint):
    seen = []
    predict_in_memory(folder, tint, batch=3, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(3, 4), (4, 4)]


def test_classes_of_the_data_set_are_found_by_key(folder, tint):
    some = from_keys(("blue", "red"), "two colours")
    said = predict_in_memory(folder, tint, classes=some, top=2)
    assert said.predictions.classes.tolist() == [[0, 1], [0, 1], [1, 0]]
    assert said.predictions.scores.tolist() == [[10, 0], [0, 0], [10, 0]]
    np.testing.assert_allclose(said.predictions.logsumexp, np.log(np.exp([[10, 0], [0, 0], [10, 0]]).sum(1)))
    assert (said.predictions.class_hash, said.images.label.to_pylist()) == (some.hash, [0, None, 1])


@pytest.mark.parametrize("make", [list, tuple, "file", "path"])
def test_classes_are_a_list_or_a_file_as_in_predict(folder, tint, tmp_path, monkeypatch, make):
    """A list ended with an AttributeError, blamed on the model, and a file with another."""
    path = tmp_path / "classes.txt"
    path.write_text("blue\nred\n")
    classes = {"file": str(path), "path": path}[make] if isinstance(make, str) else make(("blue", "red"))
    said = predict_in_memory(folder, tint, classes=classes, top=2)
    assert said.predictions.classes.tolist() == [[0, 1], [0, 1], [1, 0]]  # of blue, green and red
    (tmp_path / "two_colours.py").write_text(TWO_COLOURS)
    monkeypatch.syspath_prepend(tmp_path)
    own = predict_in_memory(folder, "python:two_colours:network(size=4)", classes=classes)
    assert own.predictions.class_hash == from_keys(("blue", "red")).hash
    said = manyhot.predict_loader(torch.nn.Identity(), [torch.eye(2)], ids=["a", "b"], classes=classes)
    assert said.predictions.class_hash == from_keys(("blue", "red")).hash


def test_classes_that_the_model_does_not_know(folder, tint):
    with pytest.raises(MatchError) as error:
        predict_in_memory(folder, tint, classes=from_keys(("blue", "mauve", "teal"), "three"))
    assert str(error.value) == (
        "The model lacks some classes of the data set.\n"
        "  where:   tint\n"
        "  got:     2 of 3 unknown, such as mauve\n"
        "  allowed: the 4 keys of own classes, such as red\n"
        "  do:      choose a model that has them, or pass a class list without them as `classes`"
    )


def test_scores_that_are_not_numbers(folder, tint):
    broken = replace(tint, forward=lambda images: np.full((len(images), 4), np.nan))
    with pytest.raises(InputError) as error:
        predict_in_memory(folder, broken)
    assert str(error.value) == (
        "The network returns NaN scores.\n"
        "  where:   tint\n"
        f"  got:     for {folder}/blue/b.png\n"
        "  do:      use a higher `precision`, or check the weights"
    )


def test_scores_of_another_shape(folder, tint):
    broken = replace(tint, forward=lambda images: np.zeros((len(images), 3)))
    with pytest.raises(InputError) as error:
        predict_in_memory(folder, broken)
    assert str(error.value) == (
        "The model does not return one score for each image and class.\n"
        "  where:   tint\n"
        "  got:     shape (3, 3)\n"
        "  allowed: shape (3, 4)"
    )


def test_a_model_that_runs_itself_has_no_other_engine(folder, tint):
    with pytest.raises(InputError) as error:
        predict_in_memory(folder, tint, engine="openvino")
    assert str(error.value) == (
        "This model runs its own code, without an engine.\n"
        "  where:   tint\n"
        "  got:     `engine`=openvino\n"
        "  allowed: scores only, with `engine`=auto"
    )


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"top": 0}, "`top` is out of range.\n  got:     0\n  allowed: 1 or more"),
        ({"workers": 0}, "`workers` is out of range.\n  got:     0\n  allowed: 1 or more"),
        ({"precision": "f8"}, "There is no such precision.\n  got:     f8\n  allowed: f32, bf16, f16"),
    ],
)
def test_options_out_of_range(folder, tint, options, what):
    with pytest.raises(InputError) as error:
        predict_in_memory(folder, tint, **options)
    assert str(error.value) == what


def test_an_unknown_model(folder):
    with pytest.raises(UnknownNameError) as error:
        predict_in_memory(folder, "efficientnet-lite7")
    assert str(error.value).endswith(
        "do:      did you mean 'efficientnet-lite2' or 'efficientnet-lite1' or 'efficientnet-lite0'?"
    )


# Files.


def into(source, network, out, **settings):
    return run(open_source(str(source)), network, out, PredictSettings(**settings))


def read(out, model="tint"):
    path = out / f"{model}.parquet"
    return tables.predictions_from_table(tables.read(path, "predictions"), model="?")


@pytest.mark.parametrize("top", [1, 3, 20, None])
def test_files_hold_what_memory_does(folder, tint, tmp_path, top):
    said = predict_in_memory(folder, tint, top=top)
    into(folder, tint, tmp_path / "out", top=top)
    found = read(tmp_path / "out")
    assert found.about() == said.predictions.about()
    assert found.image_id.equals(said.predictions.image_id)
    for name in ("classes", "scores", "logsumexp"):
        assert np.array_equal(getattr(found, name), getattr(said.predictions, name))
    images = tables.read(tmp_path / "out" / "images.parquet", "images")
    assert images.to_pylist() == said.images.table.to_pylist()
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reason = {"reason": "the file is empty", "model": "tint"}
    assert rows == [{"image_id": "e.jpg", "uri": f"{folder}/e.jpg", **reason}]
    assert not (tmp_path / "out" / ".parts").exists()


def test_images_of_several_splits_are_named_and_noted(folder, tint, tmp_path):
    """All shards of a folder as on the hub were predicted without a note, and nothing named their splits."""
    shards = {"train": ["red/r.png", "blue/b.png"], "test": ["green/g.png"]}
    (tmp_path / "hub/data").mkdir(parents=True)
    for split, own in shards.items():
        table = pa.table({"image_id": own, "image": [(folder / name).read_bytes() for name in own]})
        pq.write_table(table, tmp_path / f"hub/data/{split}-00000-of-00001.parquet")
    source = open_source(tmp_path / "hub")
    note = (
        "the files belong to several splits (test, train), and all of them are read; to read one split, pass "
        f"its files, such as '{tmp_path}/hub/data/train-00000-of-00001.parquet'"
    )
    assert source.notes == (note,)
    said = predict_in_memory(tmp_path / "hub", tint)
    assert note in said.notes
    into(tmp_path / "hub", tint, tmp_path / "out")
    images = tables.read(tmp_path / "out" / "images.parquet", "images")
    assert images.to_pylist() == said.images.table.to_pylist()
    named = {image: split for split, own in shards.items() for image in own}
    assert dict(zip(*images.select(["image_id", "split"]).to_pydict().values(), strict=True)) == named
    one = predict_in_memory(tmp_path / "hub/data/train-00000-of-00001.parquet", tint)
    assert note not in one.notes
    assert "split" not in one.images.table.column_names


TWO_COLOURS = """
import torch


def network():
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
"""
SETS = {"r.png": ["red", "blue"], "b.png": ["blue"], "g.png": []}


def sets_in_parquet(root, images):
    table = pa.table({"image_id": [*images], "image": [*images.values()], "labels": [*SETS.values()]})
    pq.write_table(table, root / "sets.parquet")
    return root / "sets.parquet"


def sets_in_features(root, images):
    labels = [[["red", "blue"].index(name) for name in own] for own in SETS.values()]
    features = {
        "image": {"_type": "Image"},
        "what": {"_type": "List", "feature": {"_type": "ClassLabel", "names": ["red", "blue"]}},
    }
    table = pa.table({"image_id": [*images], "image": [*images.values()], "what": labels})
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(about), root / "sets.parquet")
    return root / "sets.parquet"


def sets_in_json(root, images, suffix=""):
    path = root / f"sets.tar{suffix}"
    with tarfile.open(path, "w:gz" if suffix else "w") as tar:
        for name, data in images.items():
            add(tar, name, data)
            add(tar, f"{name[0]}.json", json.dumps({"place": "Peru", "labels": SETS[name]}).encode())
    return path


def sets_in_a_list(root, images):
    for name, data in images.items():
        (root / name).write_bytes(data)
    rows = [f"{name},{' '.join(own)}\n" for name, own in SETS.items()]
    (root / "list.csv").write_text("".join(["file_name,labels\n", *rows]))
    return root / "list.csv"


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (sets_in_parquet, "in the column labels"),
        (sets_in_features, "in the column what"),
        (sets_in_json, "in the JSON files under labels"),
        (partial(sets_in_json, suffix=".gz"), "in the JSON files under labels"),
        (sets_in_a_list, "in the column labels"),
    ],
)
def test_label_sets_in_a_source_are_named(folder, tmp_path, monkeypatch, make, place):
    """A note said that these images have no labels, and to let people label them."""
    images = {name.rpartition("/")[2]: (folder / name).read_bytes() for name in ("red/r.png", "blue/b.png")}
    images["g.png"] = (folder / "green/g.png").read_bytes()
    path = make(tmp_path, images)
    (tmp_path / "classes.txt").write_text("red\nblue\n")
    (tmp_path / "two_colours.py").write_text(TWO_COLOURS)
    monkeypatch.syspath_prepend(tmp_path)
    model, classes = "python:two_colours:network(size=4)", tmp_path / "classes.txt"
    done = manyhot.predict(path, model, classes=classes, out=tmp_path / "out")
    is_read = path.suffix in (".parquet", ".csv")
    do = (
        f"pass {path} to manyhot evaluate as labels"
        if is_read
        else "write a table with the columns image_id and labels for manyhot evaluate"
    )
    text = f"the images have label sets, {place}, which predict does not read; to evaluate on them, {do}"
    assert done.notes[-1] == text
    if is_read:  # what the note says works
        found = manyhot.read_labels(path).table
        names = manyhot.read_labels(path).class_list.keys
        assert {r["image_id"]: {names[c] for c in r["classes"]} for r in found.to_pylist()} == {
            name: set(own) for name, own in SETS.items()
        }


def test_same_images_same_bytes(many, tint, tmp_path):
    for name in ("a", "b"):
        into(many, tint, tmp_path / name, engine_options=EngineOptions(workers=2))
    for file in ("tint.parquet", "images.parquet", "skipped.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_readable_without_manyhot(folder, tint, tmp_path):
    into(folder, tint, tmp_path, top=2)
    assert pq.read_table(tmp_path / "tint.parquet").to_pylist()[0]["classes"] == [2, 3]
    assert pq.read_table(tmp_path / "images.parquet").to_pylist()[2]["label"] == 0


def test_metadata_tell_engine_and_precision(folder, tint, tmp_path):
    into(folder, tint, tmp_path)
    about = tables.metadata(pq.read_schema(tmp_path / "tint.parquet"))
    assert (about["engine"], about["precision"], about["difference_from_torch"]) == ("own", "f32", "")


def test_two_models_share_a_folder(folder, tint, tmp_path):
    into(folder, tint, tmp_path)
    green = folder / "green" / "g.png"
    green.write_bytes(bytes(green.stat().st_size))  # damaged between the two
    done = into(folder, replace(tint, name="own/other"), tmp_path)
    assert [f.name for f in done.merged.files] == ["own--other.parquet"]
    assert len(read(tmp_path)) == 3
    assert len(read(tmp_path, "own--other")) == 2
    images = tables.read(tmp_path / "images.parquet", "images")
    assert sorted(images["image_id"].to_pylist()) == ["b.png", "g.png", "r.png"]
    with (tmp_path / "skipped.csv").open(newline="") as file:
        rows = [(r["image_id"], r["model"]) for r in csv.DictReader(file)]
    assert rows == [("e.jpg", "own/other"), ("g.png", "own/other"), ("e.jpg", "tint")]


def test_an_image_that_vanishes_while_running(folder, tint):
    gone = folder / "red" / "r.png"
    source = open_source(str(folder))
    gone.unlink()
    from manyhot.predict.engines import build_engine
    from manyhot.predict.scoring import Keep, Scorer, score_parts

    scorer = Scorer(tint, build_engine("auto", tint), Keep())
    ((part,),) = score_parts([[(part, scorer)] for part in source.parts])
    assert (
        dict(zip((i.image_id for i in part.items), part.reasons, strict=True))["r.png"]
        == "the file no longer exists"
    )


def test_pictures_that_are_larger_than_the_crop_are_resized(tmp_path, tint):
    Image.new("RGB", (100, 50), "red").save(tmp_path / "a.png")
    assert predict_in_memory(tmp_path, tint).predictions.classes[0, 0] == 0
