"""Outputs of timm's inference.py, as pandas writes them in each of its formats."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.formats import detect

KNOWN = class_list()
NAMES = ["in/a.JPEG", "b.JPEG", "c.JPEG"]
INDEX = np.array([[607, 0, 2], [2, 1, 739], [999, 5, 3]])
PROB = np.array([[0.5, 0.25, 0.125], [1, 9.5e-05, 0], [0.4, 0.3, 0.2]], np.float32)


def described(i):
    """Return timm's description of a class: all its names; 77 names of ours are clearer ones."""
    return ", ".join((KNOWN.names[i], *KNOWN.synonyms[i]))


LABEL = {
    "name": np.vectorize(lambda i: KNOWN.keys[i], otypes=[object])(INDEX),
    "description": np.vectorize(described, otypes=[object])(INDEX),
    "detailed": np.vectorize(lambda i: f"{described(i)}: {KNOWN.definitions[i]}", otypes=[object])(INDEX),
}
FORMATS = ("csv", "parquet", "json", "json-split", "lines", "csv in json")


@pytest.fixture
def save(tmp_path):
    pandas = pytest.importorskip("pandas")

    def write(columns, kind):
        frame = pandas.DataFrame(columns)
        path = tmp_path / f"resnet50-224.{'json' if 'json' in kind or kind == 'lines' else kind}"
        with np.printoptions(threshold=sys.maxsize):
            if kind == "parquet":
                frame.set_index("filename").to_parquet(path)
            elif kind == "json":
                frame.set_index("filename").to_json(path, indent=4, orient="index")
            elif kind == "json-split":
                frame.to_json(path, indent=4, orient="split", index=False)
            elif kind == "lines":
                frame.to_json(path, lines=True, orient="records")
            else:
                frame.to_csv(path, index=False)
        return path

    return write


def columns(separate=False, k=3, **arrays):
    """Return the columns that inference.py makes of arrays."""
    made = {"filename": NAMES}
    for name, array in arrays.items():
        if separate and k > 1:
            made |= {f"{name}_{i}": array[:, i] for i in range(array.shape[1])}
        else:
            made[name] = array[:, 0] if k == 1 else list(array)
    return made


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_every_layout(save, kind, separate, k):
    path = save(
        columns(separate, k, index=INDEX[:, :k], label=LABEL["description"][:, :k], prob=PROB[:, :k]), kind
    )
    assert detect(path).name == "timm-inference"
    found = read_predictions(path)
    assert found.image_id.to_pylist() == ["a.JPEG", "b.JPEG", "c.JPEG"]
    assert found.classes.tolist() == INDEX[:, :k].tolist()
    assert found.scores == pytest.approx(PROB[:, :k], abs=1e-9)
    assert (found.score_kind, found.model, found.class_hash) == ("probability", "resnet50-224", "")


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("label_type", LABEL)
def test_labels_are_looked_up(save, kind, label_type):
    found = read_predictions(save(columns(label=LABEL[label_type], prob=PROB), kind))
    assert found.classes.tolist() == INDEX.tolist()
    assert found.class_hash == KNOWN.hash


def test_every_description_of_timm(require):
    package = importlib.util.find_spec("timm")
    require(package, "timm")
    # Its files, not its functions: those load torch.
    folder = Path(package.submodule_search_locations[0]) / "data" / "_info"
    lemmas, definitions = (
        dict(line.split("\t", 1) for line in (folder / name).read_text(encoding="utf-8").splitlines())
        for name in ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")
    )
    known = KNOWN.descriptions
    told = [lemmas[key] for key in KNOWN.keys]
    assert [i for i, text in enumerate(told) if known[text] != {i}] == [134, 517]  # crane and crane
    detailed = [f"{lemmas[key]}: {definitions[key]}" for key in KNOWN.keys]
    assert all(known[text] == {i} for i, text in enumerate(detailed))


def test_two_cranes(save, message):
    label = LABEL["description"].copy()
    label[1, 1] = "crane"
    path = save(columns(label=label, prob=PROB), "csv")
    assert message(lambda: read_predictions(path)) == (
        "Several classes have this label.\n"
        f"  where:   {path}\n  got:     crane\n"
        f"  allowed: {KNOWN.names[134]} (class 134), {KNOWN.names[517]} (class 517)\n"
        "  do:      run inference.py with --include-index or --label-type name"
    )


def test_labels_of_another_list(save, message):
    path = save(columns(label=LABEL["name"], prob=PROB), "csv")
    assert message(lambda: read_predictions(path, classes=from_keys(["cat", "dog"], "pets"))) == (
        "A label is not in the class list.\n"
        f"  where:   {path}\n  got:     {sorted(set(LABEL['name'].ravel()))[0]}\n"
        "  allowed: keys, names and descriptions of pets\n"
        "  do:      run inference.py with --include-index, or pass the class list of the model"
    )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("separate", [False, True])
def test_scores_over_all_classes(save, kind, separate):
    logits = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    found = read_predictions(save(columns(separate, 1000, logit=logits), kind))
    assert found.is_dense
    assert found.scores == pytest.approx(logits, abs=1e-6)
    assert found.score_kind == "logit"


def test_scores_without_classes(save, message):
    path = save(columns(prob=PROB), "csv")
    assert message(lambda: read_predictions(path)) == (
        f"The classes of the scores are unknown.\n  where:   {path}\n"
        "  got:     3 scores per image, best first\n"
        "  allowed: scores over all 1,000 classes in order (--topk 0), or scores with classes\n"
        "  do:      run inference.py with --include-index"
    )
    sorted_scores = -np.sort(np.random.default_rng(0).normal(size=(3, 1000)))
    path = save(columns(logit=sorted_scores), "parquet")
    assert "got:     1000 scores per image, best first\n" in message(lambda: read_predictions(path))


def test_output_column_of_another_name(save, message):
    path = save(columns(index=INDEX, confidence=PROB), "csv")
    found = read_predictions(path, format="timm-inference", scores="probability")
    assert found.score_kind == "probability"
    path = save(columns(index=INDEX, prob=PROB, logit=PROB), "csv")
    assert message(lambda: read_predictions(path)) == (
        f"The column of scores is ambiguous.\n  where:   {path}\n  got:     prob, logit"
    )


def test_ragged_and_empty_values(tmp_path, message):
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps({"a": {"index": [1, 2], "prob": [0.5, 0.2]}, "b": {"index": [1], "prob": [0.5]}})
    )
    assert message(lambda: read_predictions(path)) == (
        f"The images have different numbers of classes.\n  where:   {path}\n  got:     1 to 2 values\n"
        "  allowed: the same number of values for each image, as set by --topk of inference.py"
    )
    path = tmp_path / "m.csv"
    path.write_text("filename,index,prob\na,1,0.5\nb,,0.5\n")
    assert message(lambda: read_predictions(path)) == (
        f"The images have different numbers of classes.\n  where:   {path}\n"
        "  got:     an empty or unreadable value\n"
        "  allowed: the same number of values for each image, as set by --topk of inference.py"
    )


@pytest.mark.parametrize(
    "text", ['{"a": {"prob": [1,', '{"filename": "a", "prob"', "filename,prob\na,1,2,3\n"]
)
def test_broken_files(tmp_path, message, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    said = message(lambda: read_predictions(path))
    assert said.startswith(("The file is not complete JSON.\n", "The file cannot be read as a table.\n"))
    assert f"\n  where:   {path}\n" in said


def test_a_list_of_labels_is_no_output_of_timm(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("filename,label\na.jpg,tench\n")
    assert detect(path).name == "label-lists"


NO_CLASS = "This is not a class.\n  where:   {}, column index\n  got:     {}\n  allowed: 0 to 999"
NO_NAMES = "The column does not contain image names.\n  where:   {}, column filename\n  got:     {}\n"
NO_NAMES += "  allowed: text in UTF-8"


@pytest.mark.parametrize(
    ("index", "got"), [("1.9", "1.9"), ("nan", "nan"), ("inf", "inf"), ("99999999999", "99999999999")]
)
def test_indices_that_are_no_classes(tmp_path, message, index, got):
    path = tmp_path / "m.csv"
    path.write_text(f"filename,index,prob\na,[{index} 2],[0.2 0.1]\n")
    assert message(lambda: read_predictions(path)) == NO_CLASS.format(path, got)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "filename,index,prob\n"),
        ("m.json", '{"columns":["filename","index","prob"],"data":[]}'),
    ],
)
def test_outputs_without_images(tmp_path, message, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert message(lambda: read_predictions(path)) == f"The file has no rows.\n  where:   {path}"


OTHER = (
    "A column does not contain {0}.\n  where:   {1}, column {2}\n  got:     {3}\n"
    "  allowed: {0}, or one list of them per image"
)


@pytest.mark.parametrize(
    ("row", "column", "wanted", "got"),
    [
        ({"index": [[1], [2]], "prob": [0.5, 0.1]}, "index", "numbers", "List(Int64)"),
        ({"index": {"a": 1}, "prob": 0.5}, "index", "numbers", "Struct({'a': Int64})"),
        ({"index": [True, False], "prob": [0.5, 0.1]}, "index", "numbers", "Boolean"),
        ({"label": [1, 2], "prob": [0.5, 0.1]}, "label", "texts", "Int64"),
    ],
)
def test_columns_of_other_things(tmp_path, message, row, column, wanted, got):
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"a": row}))
    assert message(lambda: read_predictions(path)) == OTHER.format(wanted, path, column, got)


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (pa.array([b"\xff\xfe"]), "large_binary (Invalid UTF8 payload)"),
        (
            pa.array([["a"]]),
            "large_list<item: large_string> (Unsupported cast from large_list<item: large_string> to utf8 "
            "using function cast_string)",
        ),
    ],
)
def test_names_that_are_no_text(tmp_path, message, names, got):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"filename": names, "index": [[1]], "prob": [[0.5]]}), path)
    assert message(lambda: read_predictions(path)) == NO_NAMES.format(path, got)
