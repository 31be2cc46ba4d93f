"""PASCAL VOC in the eight forms in which people keep such labels: the same numbers to the last digit."""

import io
import json
from xml.etree import ElementTree

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

import manyhot as mh
from page_sizes import cut, opener, size
from skipping import missing
from source_kinds import SHARED

METRICS = ["map_macro", "f1_micro(threshold=0.5)", "lrap"]
RNG = np.random.default_rng(0)


def features(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        small = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BOX), np.float64) / 255
    return np.append(small.ravel(), 1.0)


@pytest.fixture(scope="module")
def voc():
    """Label sets of the test images, and the scores of a linear head on thumbnails."""
    path = SHARED / "voc" / "images.parquet"
    if not path.exists():
        missing(path)
    table = pl.read_parquet(path, columns=["image_id", "split", "labels", "jpeg"])
    table = pl.concat([table.filter(split="train")[:1500], table.filter(split="test")])
    classes = sorted(set(table["labels"].explode()))
    hot = np.array([[c in row for c in classes] for row in table["labels"]])
    x, is_test = np.stack([features(j) for j in table["jpeg"]]), (table["split"] == "test").to_numpy()
    train = x[~is_test]
    head = np.linalg.solve(train.T @ train + np.eye(x.shape[1]), train.T @ hot[~is_test])
    scores = pd.DataFrame(1 / (1 + np.exp(-8 * (x[is_test] @ head - 0.35))), columns=classes).astype(
        np.float32
    )
    scores.index = table["image_id"].filter(is_test).to_list()
    return pd.DataFrame(hot[is_test], scores.index, classes), scores


def one_hot(labels, folder):
    labels.astype(int).to_csv(folder / "labels.csv", index_label="filename")
    return folder / "labels.csv"


def rows_of(labels):
    return [(i, [c for c in labels.columns if row[c]]) for i, row in labels.iterrows()]


def long(labels, folder):
    pairs = [(i, c) for i, names in rows_of(labels) for c in names]
    pd.DataFrame(pairs, columns=["image", "label"]).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def semicolons(labels, folder):
    cells = [(i, ",".join(names)) for i, names in rows_of(labels)]
    pd.DataFrame(cells, columns=["file_name", "tags"]).to_csv(folder / "labels.csv", index=False, sep=";")
    return folder / "labels.csv"


def json_lines(labels, folder):
    lines = [json.dumps({"file_name": i, "labels": names}) for i, names in rows_of(labels)]
    (folder / "labels.jsonl").write_text("\n".join(lines))
    return folder / "labels.jsonl"


def voc_folder(labels, folder):
    (folder / "Annotations").mkdir()
    for i, names in rows_of(labels):
        page = ElementTree.Element("annotation")
        ElementTree.SubElement(page, "filename").text = f"{i}.jpg"
        size = ElementTree.SubElement(page, "size")
        for side in ("width", "height"):
            ElementTree.SubElement(size, side).text = "100"
        for name in names:
            item = ElementTree.SubElement(page, "object")
            ElementTree.SubElement(item, "name").text = name
            box = ElementTree.SubElement(item, "bndbox")
            for corner, at in (("xmin", 1), ("ymin", 1), ("xmax", 50), ("ymax", 50)):
                ElementTree.SubElement(box, corner).text = str(at)
        ElementTree.ElementTree(page).write(folder / "Annotations" / f"{i}.xml")
    return folder


def pandas(labels, folder):
    return labels


def polars(labels, folder):
    return pl.from_pandas(labels.reset_index(names="image_id"))


def hugging_face(labels, folder):
    names = list(labels.columns)
    features = datasets.Features(
        {
            "image_id": datasets.Value("string"),
            "labels": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    ids = [[names.index(c) for c in row] for _, row in rows_of(labels)]
    return datasets.Dataset.from_dict({"image_id": list(labels.index), "labels": ids}, features=features)


FORMS = [one_hot, long, semicolons, json_lines, voc_folder, pandas, polars, hugging_face]


def judged(labels, scores):
    options = {"metrics": METRICS, "scores": "probability", "resamples": 200}
    found = mh.evaluate(labels, scores, **options).to_polars().filter(slice="all")
    return {r["metric"]: (r["value"], r["lo"], r["hi"], r["n"]) for r in found.to_dicts()}


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True], ids=["straight", "shuffled"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_same_numbers(voc, tmp_path, form, shuffle):
    labels, scores = voc
    expected = judged(labels, scores)
    if shuffle:
        labels = labels.iloc[RNG.permutation(len(labels)), RNG.permutation(labels.shape[1])]
        scores = scores.iloc[RNG.permutation(len(scores)), RNG.permutation(scores.shape[1])]
    given = form(labels, tmp_path)
    if not isinstance(given, pd.DataFrame | pl.DataFrame | datasets.Dataset):
        scores.to_csv(tmp_path / "head.csv", index_label="filename")
        assert judged(given, [tmp_path / "head.csv"]) == expected
    assert judged(given, scores) == expected
    assert len(expected) == 3
    assert all(lo < value < hi and n == len(labels) for value, lo, hi, n in expected.values())


@pytest.mark.slow
def test_map_is_that_of_scikit_learn(voc):
    labels, scores = voc
    value = judged(labels, scores)["map_macro"][0]
    assert value == pytest.approx(average_precision_score(labels.to_numpy(), scores.to_numpy()), abs=1e-10)


@pytest.mark.slow
def test_the_report_of_two_models_is_short(voc, chromium, tmp_path):
    pytest.importorskip("vl_convert")
    labels, scores = voc
    blurred = (scores + RNG.normal(scale=0.2, size=scores.shape)).clip(0, 1).astype(np.float32)
    models = {"head": scores, "blurred": blurred}
    mh.evaluate(labels, models, scores="probability").write(tmp_path)
    page = tmp_path / "report" / "index.html"
    with opener(chromium) as opened:
        wide, phone = opened(page, 1400), opened(page, 390)
        assert size(wide)[1] <= 3000
        answer = wide.locator("main p").first.inner_text()
        assert answer.startswith("blurred is worse than head by ")
        assert size(phone)[0] == 390
        assert cut(phone) == []
