"""Data sets of Hugging Face: which rows are which images, in memory and in files."""

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.errors import InputError

NAMES = ["car", "cat", "dog"]
RNG = np.random.default_rng(1)
TRUTH = (RNG.random((20, 3)) < 0.4).astype(int)
SCORES = RNG.normal(size=(20, 3)) + TRUTH
IDS = [f"{i:02d}.jpg" for i in range(20)]
MAP = average_precision_score(TRUTH, SCORES, average="macro")
LISTS = [np.flatnonzero(row).tolist() for row in TRUTH]
FEATURE = datasets.Sequence(datasets.ClassLabel(names=NAMES))


def data_set(columns=None, features=None):
    """Return label sets with further columns."""
    kinds = datasets.Features({"labels": FEATURE, **(features or {})})
    return datasets.Dataset.from_dict({"labels": LISTS, **(columns or {})}, features=kinds)


def saved(made, folder):
    """Return a data set in memory, and its files."""
    made.save_to_disk(folder / "saved")
    made.to_parquet(folder / "labels.parquet")
    return made, folder / "saved", folder / "labels.parquet"


def map_macro(labels, scores=SCORES, **options):
    found = mh.evaluate(labels, {"m": scores}, metrics=["map_macro"], resamples=0, **options)
    return found.value("map_macro")


def test_rows_without_ids_are_matched_by_position(tmp_path):
    for labels in saved(data_set(), tmp_path):
        assert map_macro(labels) == map_macro(labels, rows=IDS) == pytest.approx(MAP)
    kinds = datasets.Features({"label": datasets.ClassLabel(names=NAMES)})
    single = datasets.Dataset.from_dict({"label": TRUTH.argmax(1).tolist()}, features=kinds)
    top = mh.evaluate(single, {"m": SCORES}, metrics=["top1"], resamples=0).value("top1")
    assert top == (SCORES.argmax(1) == TRUTH.argmax(1)).mean()
    with pytest.raises(InputError, match="The labels and the row order have different numbers of rows"):
        map_macro(data_set(), rows=IDS[:-1])


@pytest.mark.parametrize("name", ["image_id", "id", "img_id", "image", "photo_id"])
def test_columns_of_ids(name, tmp_path):
    order = RNG.permutation(20)
    made = data_set({name: IDS}, {name: datasets.Value("string")})
    for labels in saved(made, tmp_path):
        assert map_macro(labels, SCORES[order], rows=[IDS[i] for i in order]) == pytest.approx(MAP)
    numbers = data_set({name: list(range(100, 120))}, {name: datasets.Value("int64")})
    assert map_macro(numbers, SCORES[order], rows=order + 100) == pytest.approx(MAP)


def test_the_paths_of_images_are_ids(tmp_path):
    for name in IDS:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    files = [str(tmp_path / name) for name in IDS]
    order = RNG.permutation(20)
    for labels in saved(data_set({"image": files}, {"image": datasets.Image()}), tmp_path):
        assert map_macro(labels, SCORES[order], rows=[IDS[i] for i in order]) == pytest.approx(MAP)
    in_memory = [Image.new("RGB", (4, 4))] * 20  # without paths
    for labels in saved(data_set({"image": in_memory}, {"image": datasets.Image()}), tmp_path / "memory"):
        assert map_macro(labels) == map_macro(labels, rows=IDS) == pytest.approx(MAP)


def test_rows_of_zeros_and_ones():
    made = datasets.Dataset.from_dict({"image_id": IDS, "labels": TRUTH.tolist()})
    assert map_macro(made, rows=IDS, classes=NAMES) == pytest.approx(MAP)


def test_several_splits_and_streams_are_refused():
    with pytest.raises(InputError) as error:
        map_macro(datasets.DatasetDict(train=data_set(), test=data_set()))
    assert str(error.value) == (
        "This is a dict of several data sets.\n  got:     DatasetDict: train, test\n"
        "  allowed: one data set\n  do:      pass one of them, such as dataset['train']"
    )
    with pytest.raises(InputError) as error:
        map_macro(data_set().to_iterable_dataset())
    assert str(error.value) == (
        "This data set can only be read sequentially.\n  got:     IterableDataset\n"
        "  allowed: a data set in memory or on disk\n"
        "  do:      load it without streaming=True, or pass Dataset.from_list(list(dataset), "
        "features=dataset.features)"
    )


def test_numbers_and_texts_in_one_column_of_a_frame():
    """Arrow has no type for them; they are read as a file would be: one odd cell of many is a mistake."""
    frame = pd.DataFrame({"cat": [1, 0] * 10, "dog": [0, 1] * 10}, index=[f"{i}.jpg" for i in range(20)])
    frame["cat"] = frame["cat"].astype(object)
    frame.loc["2.jpg", "cat"] = "escalated"
    with pytest.raises(InputError, match=r"column cat, row 3[^$]*escalated[^$]*correct the cell"):
        mh.describe(frame.assign(market="DE"))
    notes = mh.describe(frame[:3].assign(market="DE")).notes
    assert notes == (
        "labels: columns of the labels in which some cells contain text other than yes, no and maybe are not "
        "read as classes: cat",
    )
