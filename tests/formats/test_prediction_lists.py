"""Predictions as classes with scores, and the files of a folder that are not read."""

import json
import pickle
import unicodedata
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from manyhot import evaluate, read_labels, read_predictions
from manyhot.classes import family_of, from_keys
from manyhot.data.table_inputs import tables_of_frames
from manyhot.errors import InputError, MatchError
from manyhot.formats import detect, read_rows
from manyhot.formats.prediction_folders import prediction_files, unread_notes

CLASSES = from_keys(["Auto", "Kätzchen", "Große Uhr"])
IDS = ["a.jpg", "b.jpg"]
SCORES = np.array([[0.75, 0.125, 0.5], [0.25, 1, 0]], np.float32)
TOP = [["Auto", "Große Uhr"], ["Kätzchen", "Auto"]]
"""The two best classes of each image."""


def of(row, name):
    return float(SCORES[row, CLASSES.keys.index(name)])


def long_rows(names=TOP):
    return [(IDS[i], name, of(i, name)) for i, listed in enumerate(names) for name in listed]


def lines(path, entries):
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
    return path


def top_files(folder):
    """Yield files with the two best classes of each image, in the forms that people send."""
    rows = long_rows()
    for columns in (
        ("image", "class", "score"),
        ("filename", "label", "confidence"),
        ("path", "pred", "prob"),
    ):
        path = folder / f"{columns[1]}.csv"
        pd.DataFrame([rows[i] for i in (1, 0, 3, 2)], columns=columns).to_csv(
            path, index=False
        )  # worst first
        yield path
    path = folder / "long.parquet"
    pd.DataFrame(rows, columns=("image", "class", "score")).to_parquet(path)
    yield path
    both = [(IDS[i], names, [of(i, n) for n in names]) for i, names in enumerate(TOP)]
    path = folder / "lists.parquet"
    pl.DataFrame(both, ("image", "labels", "scores"), orient="row").write_parquet(path)
    yield path
    yield lines(
        folder / "lists.jsonl", [dict(zip(("file_name", "labels", "scores"), b, strict=True)) for b in both]
    )
    yield lines(folder / "rows.jsonl", [dict(zip(("image", "label", "score"), r, strict=True)) for r in rows])
    nested = [
        {"image": i, "predictions": [{"label": n, "score": s} for n, s in zip(names, scores, strict=True)]}
        for i, names, scores in both
    ]
    yield lines(folder / "pipeline.jsonl", nested)
    (folder / "pipeline.json").write_text(json.dumps(nested))
    yield folder / "pipeline.json"
    pl.DataFrame(nested).write_parquet(folder / "pipeline.parquet")
    yield folder / "pipeline.parquet"
    yield lines(
        folder / "objects.jsonl",
        [{"image": i, "scores": dict(zip(n, s, strict=True))} for i, n, s in both],
    )


def test_the_best_classes_of_each_image(tmp_path):
    n = 0
    for path in top_files(tmp_path):
        assert detect(path).about["holds"] == "predictions", path
        for classes in (None, CLASSES):
            found = read_predictions(path, classes=classes)
            keys = (found.class_list or CLASSES).keys
            assert found.image_id.to_pylist() == IDS, path
            assert [[keys[c] for c in row] for row in found.classes] == TOP, path
            assert found.scores.tolist() == [[of(i, name) for name in TOP[i]] for i in range(2)], path
            assert found.model == path.stem
        n += 1
    assert n == 11


def test_all_classes_of_each_image_are_dense(tmp_path):
    every = [list(CLASSES.keys)] * 2
    pd.DataFrame(long_rows(every), columns=["image", "class", "score"]).to_csv(
        tmp_path / "m.csv", index=False
    )
    found = read_predictions(tmp_path / "m.csv", classes=CLASSES)
    assert found.is_dense
    assert found.scores.tolist() == SCORES.tolist()
    own = read_predictions(tmp_path / "m.csv")  # its names, sorted
    order = [CLASSES.keys.index(key) for key in own.class_list.keys]
    assert own.scores.tolist() == SCORES[:, order].tolist()
    assert own.class_list.is_complete


def test_scores_without_classes_are_in_the_order_of_the_list(tmp_path):
    pl.DataFrame({"image_id": IDS, "logits": SCORES.tolist()}).write_parquet(tmp_path / "m.parquet")
    lines(
        tmp_path / "m.jsonl",
        [{"image": i, "logits": row} for i, row in zip(IDS, SCORES.tolist(), strict=True)],
    )
    for name in ("m.parquet", "m.jsonl"):
        found = read_predictions(tmp_path / name, classes=CLASSES)
        assert found.scores.tolist() == SCORES.tolist()
        assert (found.score_kind, found.class_hash) == ("logit", CLASSES.hash)


def test_codes_that_are_no_positions_are_names(tmp_path):
    """Codes of foods were out of range of ImageNet's 1,000 positions, but those below 1,000 were read."""
    path = tmp_path / "m.jsonl"
    scores = [{"162096": 0.9, "5": 0.2}, {"162096": 0.1, "5": 0.8}]
    lines(path, [{"image": i, "scores": s} for i, s in zip("ab", scores, strict=True)])
    found = read_predictions(path)
    assert found.by_name
    columns = [found.class_list.index(key) for key in ("162096", "5")]
    assert found.scores[:, columns].tolist() == np.float32([[0.9, 0.2], [0.1, 0.8]]).tolist()


def test_true_and_false_are_the_scores_1_and_0(tmp_path):
    """Booleans of JSON were refused as numbers with quotes or signs, and those of a column as lists."""
    files = {
        "m.jsonl": '{"image": "a", "predictions": {"table": true, "stamp": false}}\n'
        '{"image": "b", "predictions": {"table": true, "stamp": true}}\n',
        "m.json": '{"a": {"table": true, "stamp": false}, "b": {"table": true, "stamp": true}}',
        "m.csv": "image,class,score\na,table,True\na,stamp,False\nb,table,True\nb,stamp,True\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        found = read_predictions(tmp_path / name, scores="probability", classes=from_keys(("stamp", "table")))
        assert found.scores.tolist() == [[0, 1], [1, 1]], name


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"image": "a", "labels": ["x"], "scores": [1, 2]},
            "The lists of classes and scores differ in length.",
        ),
        ({"image": "a", "labels": ["x"], "scores": ["y"]}, "This is not a score."),
        ({"image": "a", "labels": [0.5], "scores": [1]}, "This is not a class."),
        ({"image": "a", "predictions": [{"label": "x"}]}, "A prediction has no class or no score."),
        ({"image": ["a"], "scores": {"x": 1}}, "does not contain the name of an image and its scores."),
    ],
)
def test_entries_that_cannot_be_read(tmp_path, entry, message):
    path = lines(tmp_path / "m.jsonl", [{"image": "first", "scores": {"x": 1.0}}, entry])
    with pytest.raises(InputError, match=message) as error:
        read_predictions(path)
    assert "line 2" in str(error.value)


NOTHING = {
    "lists.jsonl": '{"image":"a","tags":["cat"],"scores":[0.9]}\n{"image":"b","tags":[],"scores":[]}',
    "null.jsonl": '{"image":"a","tags":["cat"],"scores":[0.9]}\n{"image":"b","tags":null,"scores":null}',
    "one.jsonl": '{"image":"a","label":"cat","score":0.9}\n{"image":"b","label":null,"score":null}',
    "nested.jsonl": '{"image":"a","preds":[{"label":"cat","score":0.9}]}\n{"image":"b","preds":[]}',
    "objects.json": '{"a": {"cat": 0.9}, "b": {}}',
    "rows.csv": "image,class,score\na,cat,0.9\nb,,\n",
    "ranks.csv": "image,class,rank\na,cat,1\nb,,\n",
}


@pytest.mark.parametrize("name", [*NOTHING, "lists.parquet", "null.parquet", "structs.parquet"])
def test_an_image_without_classes_is_answered_with_nothing(tmp_path, name):
    path, nothing = tmp_path / name, None if name.startswith("null") else []
    if name in NOTHING:
        path.write_text(NOTHING[name])
    elif name == "structs.parquet":
        cat = [{"label": "cat", "score": 0.9}]
        pl.DataFrame({"image": ["a", "b"], "predictions": [cat, []]}).write_parquet(path)
    else:
        columns = {"image": ["a", "b"], "tags": [["cat"], nothing], "scores": [[0.9], nothing]}
        pl.DataFrame(columns).write_parquet(path)
    found = read_predictions(path)
    assert found.image_id.to_pylist() == ["a", "b"]
    assert found.classes.tolist() == [[0], [-1]]
    # Image c has no row, and thus no prediction: 1 of 2 answers is right, and not 1 of 1 or 1 of 3.
    labels = tmp_path / "labels.csv"
    labels.write_text("image,labels\na,cat\nb,cat\nc,cat\n")
    made = evaluate(labels, path, metrics=["real1"], resamples=0)
    assert made.value("real1") == 1 / 2
    assert any("lists no class for 1 of 2 images" in note for note in made.notes)


def test_a_score_without_a_class_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("image,class,score\na,cat,0.9\nb,,0.5\n")
    with pytest.raises(InputError, match="A row has no class"):
        read_predictions(path)


def test_label_sets_and_votes_are_no_predictions(tmp_path):
    (tmp_path / "l.csv").write_text("image,class\na.jpg,Auto\n")
    (tmp_path / "v.csv").write_text("image_id,class_id,rater_id,answer,score\na.jpg,Auto,x,yes,1\n")
    (tmp_path / "b.json").write_text(
        '[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]'
    )
    for name in ("l.csv", "v.csv", "b.json"):
        assert detect(tmp_path / name, ("predictions",)) is None
    assert len(read_labels(tmp_path / "l.csv")) == 1


def test_every_file_of_a_folder_that_may_be_predictions_is_named(tmp_path):
    pd.DataFrame(long_rows(), columns=["image", "class", "score"]).to_csv(tmp_path / "top.csv", index=False)
    states = (tmp_path / "hard.csv", tmp_path / "labels.csv")
    for path in states:
        path.write_text("image_id,Auto,Uhr\na.jpg,1,0\n")
    for name in (
        "net.pt",
        "net.pkl",
        "net.joblib",
        "net.feather",
        "README.md",
        "classes.txt",
        "p.png",
        ".DS_Store",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "odd.json").write_text('{"a": 1}')
    for folder in ("model", "figures", "embeddings"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "model" / "logits.npy", SCORES)
    np.save(tmp_path / "embeddings" / "net.npy", SCORES)
    (tmp_path / "skipped.csv").write_text("image_id,uri,reason\n")
    files = prediction_files([tmp_path])
    assert [path.name for path in files] == ["top.csv"]
    listed = "\n".join(unread_notes([tmp_path], files, {"labels.csv"}))
    for name in ("hard.csv", "net.pt;", "net.pkl", "net.joblib", "net.feather", "odd.json", ": model;"):
        assert name in listed
    assert (
        f"{tmp_path}: not read, because they are neither tables nor arrays: 1 .md, 1 .png, 1 .txt" in listed
    )
    for name in ("top.csv", "labels.csv", "skipped.csv", "DS_Store", "figures", "embeddings"):
        assert name not in listed
    # A table of 0 and 1 is read if it is passed itself.
    assert read_predictions(states[0]).scores.tolist() == [[1, 0]]
    (tmp_path / "top.csv").unlink()
    with pytest.raises(InputError, match=r"contains no predictions.*\n.*\n.*got:.*net.pt"):
        prediction_files([tmp_path])


def test_unfinished_predictions_are_named(tmp_path):
    """The first of two shards leaves parts, from which the second makes the file."""
    (tmp_path / "top.csv").write_text("image_id,class,score\na.jpg,Auto,0.9\n")
    (tmp_path / ".parts" / "half").mkdir(parents=True)
    note = "the predictions of half are not complete, and not read: repeat manyhot predict, or its shards"
    assert unread_notes([tmp_path], prediction_files([tmp_path])) == [f"{tmp_path}: {note}"]
    (tmp_path / "top.csv").unlink()
    with pytest.raises(InputError, match=note):
        prediction_files([tmp_path])


def test_unicode_forms_of_names_are_equal(tmp_path):
    decomposed = [unicodedata.normalize("NFD", key) for key in CLASSES.keys]
    assert from_keys(decomposed).hash == CLASSES.hash
    frame = pd.DataFrame(SCORES, index=pd.Index(IDS, name="image"), columns=decomposed)
    frame.to_csv(tmp_path / unicodedata.normalize("NFD", "köln.csv"))
    (path,) = tmp_path.iterdir()
    found = read_predictions(path, classes=CLASSES)
    assert found.scores.tolist() == SCORES.tolist()
    assert found.model == unicodedata.normalize("NFC", "köln")
    (tmp_path / "l.csv").write_text("image,label\n" + f"a.jpg,{decomposed[1]}\nb.jpg,{CLASSES.keys[1]}\n")
    assert read_labels(tmp_path / "l.csv").class_list.keys == (CLASSES.keys[1],)


def test_families_have_letters_of_any_alphabet():
    assert family_of("köln_swin") == family_of(unicodedata.normalize("NFD", "köln_swin")) == "köln"
    assert (family_of("xcit_s12"), family_of("convv2_x")) == ("xcit", "conv")


@pytest.mark.parametrize(
    ("text", "line"), [("image,Kätzchen\na,1\n", 1), ("image,class\na,b\nc,Kätzchen\n", 3)]
)
def test_text_in_another_encoding_is_named(tmp_path, text, line):
    path = tmp_path / "l.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as error:
        read_labels(path)
    around = text.splitlines()[line - 1]
    assert str(error.value) == (
        f"The file was not read, because it is not in UTF-8.\n  where:   {path}, line {line}\n"
        f"  got:     byte 0xe4; as Latin-1 or Windows-1252, the text is …{around}…\n"
        "  allowed: text in UTF-8\n"
        "  do:      save it as UTF-8, for example as 'CSV UTF-8' in Excel, or with iconv -f CP1252 -t UTF-8"
    )


DUMP = {"a.jpg": {"cat": 0.9, "dog": 0.4}, "b.jpg": {"cat": 0.25, "dog": 0.75}}
PAIRS = [[{"label": n, "score": s} for n, s in scores.items()] for scores in DUMP.values()]
DUMPS = {
    "scores by class": DUMP,
    "pairs by image": dict(zip(DUMP, PAIRS, strict=True)),
    "pairs": PAIRS,
    "objects with pairs": [{"image": i, "result": p} for i, p in zip(DUMP, PAIRS, strict=True)],
}
"""What scripts around transformers.pipeline("image-classification") write."""


@pytest.mark.parametrize("what", DUMPS)
def test_dumps_are_read_from_files_and_from_memory(tmp_path, what):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(DUMPS[what]))
    rows = list(DUMP) if what == "pairs" else None
    read = read_predictions(path, scores="probability", rows=rows)
    (in_memory,) = tables_of_frames(DUMPS[what], None, "probability", read_rows(rows) if rows else None)
    (named,) = tables_of_frames({"m": DUMPS[what]}, None, "probability", read_rows(rows) if rows else None)
    assert named.model == "m"
    for one in (read, in_memory, named):
        assert (one.image_id.to_pylist(), one.class_list.keys) == (["a.jpg", "b.jpg"], ("cat", "dog"))
        assert one.scores.tolist() == np.array([[0.9, 0.4], [0.25, 0.75]], np.float32).tolist()


def test_numbers_of_numpy_are_numbers():
    values = {i: {c: np.float32(s) for c, s in scores.items()} for i, scores in DUMP.items()}
    (found,) = tables_of_frames(values, None, "probability")
    assert found.scores.tolist() == np.array([[0.9, 0.4], [0.25, 0.75]], np.float32).tolist()


def test_json_lines_of_a_pipeline(tmp_path):
    path = tmp_path / "model.jsonl"
    lines = [{"file": i, "result": p} for i, p in zip(DUMP, PAIRS, strict=True)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_predictions(path).image_id.to_pylist() == ["a.jpg", "b.jpg"]


def test_lists_without_images_need_the_row_order(tmp_path, message):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(PAIRS))
    text = message(lambda: read_predictions(path))
    assert text.startswith(
        f"The file does not contain the image of each row.\n  where:   {path}\n  do:      pass"
    )
    assert message(lambda: read_predictions(path, rows=["a.jpg"])) == (
        "The predictions and the row order have different numbers of rows.\n"
        f"  where:   {path}\n  got:     2 rows\n  allowed: 1\n  do:      pass the row order of this file"
    )


def test_whole_numbers_by_image_are_votes_unless_they_are_passed_as_predictions(tmp_path):
    """peerannot's answers have the same form: the class that each rater chose."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a.jpg": {"ann": 1, "bob": 0}, "b.jpg": {"ann": 0, "bob": 1}}))
    assert detect(path).name == "peerannot"
    assert read_predictions(path, scores="probability").scores.tolist() == [[1, 0], [0, 1]]
    path.write_text(json.dumps({"a.jpg": {"ann": 1, "bob": 7}}))
    assert detect(path, ("predictions",), property="explicit") is None
    path.write_text(json.dumps({"a.jpg": {}, "b.jpg": {"ann": 1, "bob": 7.5}}))
    assert detect(path).name == "prediction-lists"


def test_the_unnamed_index_of_pandas_contains_the_images(tmp_path):
    frame = pd.DataFrame({"cat": [0.9, 0.25], "dog": [0.4, 0.75]}, index=["a.jpg", "b.jpg"])
    frame.to_parquet(tmp_path / "m.parquet")
    frame.to_csv(tmp_path / "m.csv")
    for name in ("m.parquet", "m.csv"):
        found = read_predictions(tmp_path / name, scores="probability")
        assert (found.image_id.to_pylist(), found.class_list.keys) == (["a.jpg", "b.jpg"], ("cat", "dog"))


class _Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle ran')",)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("m.pkl", 'pandas.read_pickle("m.pkl").to_parquet("m.parquet") for a data frame'),
        ("m.pt", 'd = torch.load("m.pt", weights_only=True); numpy.savez("m.npz", logits=d["logits"]'),
    ],
)
def test_pickles_are_not_opened_but_the_line_that_saves_them_is_said(tmp_path, message, name, line):
    (tmp_path / name).write_bytes(pickle.dumps(_Bomb()))
    text = message(lambda: read_predictions(tmp_path / name))
    assert text.startswith(
        "The file was not opened, because it may be a pickle, which can run code.\n"
        f"  where:   {tmp_path / name}\n"
    )
    assert line in text


def test_arrays_without_images_name_the_arrays_that_are_read(tmp_path, message):
    np.savez(tmp_path / "m.npz", logits=np.zeros((2, 3), np.float32), rows_of=np.array(["a.jpg", "b.jpg"]))
    text = message(lambda: read_predictions(tmp_path / "m.npz"))
    assert "got:     the arrays logits, rows_of\n" in text
    assert (
        "allowed: an array image_id, image_ids, ids, filenames, file_names, files, names, images, paths"
        in text
    )
    np.savez(tmp_path / "m.npz", logits=np.zeros((2, 3), np.float32), paths=np.array(["a.jpg", "b.jpg"]))
    assert read_predictions(tmp_path / "m.npz").image_id.to_pylist() == ["a.jpg", "b.jpg"]


def test_tags_of_a_class_list_with_synonyms(tmp_path):
    """Of each class, the best of its tags counts; the other tags are left out, with a note."""
    classes = replace(from_keys(["cat", "dog"], "own"), synonyms=(("tabby",), ("puppy", "hound")))
    meant = {"cat": 0, "tabby": 0, "dog": 1, "puppy": 1, "Hound": 1}
    rng = np.random.default_rng(0)
    entries, expected = [], []
    for i in range(30):
        tags = rng.permutation([*meant, "sky", "grass"])[: 1 + i % 7].tolist()
        scores = rng.permutation(np.arange(1, 8) / 8)[: len(tags)].tolist()
        entries.append({"image": f"{i}.jpg", "tags": tags, "scores": scores})
        best = {}
        for tag, score in zip(tags, scores, strict=True):
            if tag in meant:
                best[meant[tag]] = max(best.get(meant[tag], 0), score)
        expected.append(sorted(best.items(), key=lambda pair: -pair[1]))
    assert [] in expected
    assert any(len(pairs) == 2 for pairs in expected)
    found = read_predictions(lines(tmp_path / "m.jsonl", entries), classes=classes, scores="probability")
    listed = [
        [(int(c), float(s)) for c, s in zip(row, of_row, strict=True) if c >= 0]
        for row, of_row in zip(found.classes, found.scores, strict=True)
    ]
    assert listed == expected
    assert found.unlisted == ("grass", "sky")
    (note,) = found.notes
    assert note.endswith("of which the highest-ranked counts: cat, tabby (cat), Hound, dog, puppy (dog)")
    (tmp_path / "l.csv").write_text("image,labels\na,dog;puppy;cat\nb,tabby\n")
    assert read_labels(tmp_path / "l.csv", classes=classes).table["classes"].to_pylist() == [[1, 0], [0]]


def test_tags_of_which_none_is_a_class_are_refused(tmp_path, message):
    path = lines(tmp_path / "m.jsonl", [{"image": "a", "tags": ["sky"], "scores": [0.5]}])
    assert message(lambda: read_predictions(path, classes=CLASSES)).startswith(
        f"A class is not in the class list.\n  where:   {path}\n  got:     sky\n"
    )


def test_results_of_coco_are_refused_by_name(tmp_path, message):
    """They were of no known format, and as rows, the advice was to pass floats."""
    path = tmp_path / "detections.json"
    path.write_text(json.dumps([{"image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.9}]))
    for read in (read_predictions, read_labels):
        refused = message(lambda read=read: read(path))
        assert refused.startswith("The file contains detections in COCO's results format, which has ids")
        assert "highest score of each image and class" in refused


def model_files(folder, first, second):
    """Yield predictions with the name of the model in each row."""
    ids, names = list("abcd"), [first, first, second, second]
    wide = pd.DataFrame(
        {"image": ids, "model": names, "cat": [0.1, 0.2, 0.3, 0.4], "dog": [0.5, 0.6, 0.7, 0.8]}
    )
    wide.to_csv(folder / "wide.csv", index=False)
    yield folder / "wide.csv"
    long = wide.melt(["image", "model"], ["cat", "dog"], "class", "score")
    long.to_csv(folder / "long.csv", index=False)
    yield folder / "long.csv"
    wide.rename(columns={"model": "Model version"}).to_parquet(folder / "wide.parquet")
    yield folder / "wide.parquet"
    entries = [
        {"image": row.image, "model": row.model, "scores": {"cat": row.cat, "dog": row.dog}}
        for row in wide.itertuples()
    ]
    yield lines(folder / "lines.jsonl", entries)


def test_predictions_of_several_models_are_not_those_of_one(tmp_path):
    read = list(model_files(tmp_path, "v3.1", "v3.1"))
    assert len(read) == 4
    for path in read:
        assert read_predictions(path).model == path.stem
    for path in model_files(tmp_path, "v3.1", "v3.10"):
        with pytest.raises(
            InputError, match=r"several models(.|\n)*v3\.1, v3\.10(.|\n)*one file for each model"
        ):
            read_predictions(path)


def test_what_describes_a_model_is_no_name_of_one(tmp_path):
    entries = [
        {"image": f"{i}.jpg", "model": {"name": "net", "step": i}, "scores": {"cat": 0.5, "dog": 0.25}}
        for i in range(3)
    ]
    assert len(read_predictions(lines(tmp_path / "lines.jsonl", entries))) == 3
    table = {"image": ["a", "b"], "model": [["x"], ["y"]], "class": ["cat", "dog"], "score": [0.5, 0.25]}
    pl.DataFrame(table).write_parquet(tmp_path / "long.parquet")
    assert len(read_predictions(tmp_path / "long.parquet")) == 2


def test_tags_are_objects_with_a_name_and_a_confidence(tmp_path):
    """As AWS Rekognition and other taggers write them, in percent: the order is that of the scores."""
    rng = np.random.default_rng(4)
    ids, names = [f"{i}.jpg" for i in range(40)], ["bag", "red"]
    valid, scores = rng.integers(0, 2, (40, 2)), rng.random((40, 2)).round(3)
    expected = np.mean([average_precision_score(valid[:, c], scores[:, c]) for c in range(2)])
    labels = pd.DataFrame(valid, ids, names)
    for key, name, confidence in (("tags", "name", "confidence"), ("Labels", "Name", "Confidence")):
        entries = [
            {
                "file": i,
                key: [{name: n, confidence: 100 * s, "other": 1} for n, s in zip(names, row, strict=True)],
            }
            for i, row in zip(ids, scores.tolist(), strict=True)
        ]
        path = tmp_path / f"{key}.json"
        path.write_text(json.dumps(entries))
        for predictions in (path, {"tagger": entries}):
            found = evaluate(labels, predictions, metrics=["map_macro"], resamples=0)
            assert found.value("map_macro") == pytest.approx(expected, abs=1e-6)
        with pytest.raises(InputError, match="divide percentages by 100"):
            read_predictions(path, scores="probability")
        path.write_text(json.dumps([{"file": "0.jpg", key: []}, *entries[1:]]))
        assert read_predictions(path).classes[0].tolist() == [-1, -1]


ANSWERS = {
    "objects": [
        {"image": "a.jpg", "app": "4.1", "predictions": [{"label": "blight", "confidence": 90}]},
        {"image": "a.jpg", "app": "4.2", "predictions": [{"label": "rust", "confidence": 60}]},
    ],
    "two lists": [
        {"image": "a.jpg", "labels": ["blight", "rust"], "scores": [0.9, 0.1]},
        {"image": "a.jpg", "labels": ["scab", "mildew"], "scores": [0.9, 0.1]},
    ],
    "by class": [
        {"image": "a.jpg", "scores": {"blight": 0.9}},
        {"image": "a.jpg", "scores": {"rust": 0.9}},
    ],
    "dense": [{"image": "a.jpg", "scores": [0.9, 0.1]}, {"image": "a.jpg", "scores": [0.8, 0.2]}],
}


@pytest.mark.parametrize("entries", ANSWERS.values(), ids=ANSWERS)
def test_two_lists_for_an_image_are_not_joined(tmp_path, entries):
    """Apps send an image again after an update, and phones name two images alike."""
    with pytest.raises(MatchError) as error:
        read_predictions(lines(tmp_path / "log.jsonl", entries))
    assert str(error.value).startswith(
        f"An image has two lists of predictions.\n  where:   {tmp_path / 'log.jsonl'}, line 2\n"
    )
    other = {**entries[0], "image": "b.jpg"}
    found = read_predictions(lines(tmp_path / "again.jsonl", [entries[0], other, {**entries[0], "app": 1}]))
    assert found.image_id.to_pylist() == ["a.jpg", "b.jpg"]
    (note,) = found.notes
    assert note == (
        "1 of 3 entries repeat an image with the same values, as in logs that were sent again, and were "
        "left out"
    )


def test_one_class_for_each_entry_may_have_several_entries(tmp_path):
    entries = [{"image": "a.jpg", "label": c, "score": s} for c, s in (("cat", 0.5), ("dog", 0.25))]
    assert read_predictions(lines(tmp_path / "log.jsonl", entries)).in_full().scores.tolist() == [[0.5, 0.25]]


def test_two_rows_of_lists_in_parquet_are_not_joined(tmp_path):
    table = {"image": ["a", "a"], "label": [["cat"], ["dog"]], "score": [[0.5], [0.25]]}
    pl.DataFrame(table).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(MatchError, match="An image is listed more than once"):
        read_predictions(tmp_path / "log.parquet")
