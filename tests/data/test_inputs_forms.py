"""Every public function that takes label sets gives the same result for each form of the same data.

The functions are those whose signature says that they take label sets, so that a new one is tested, too.
"""

import dataclasses
import functools
import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import manyhot as mh
from manyhot.command import hints_of, metadata_of
from manyhot.formats import read_classes, read_images
from manyhot.parameters import Shown
from manyhot.result import Result
from manyhot.tables import Predictions
from own_data import (
    ASKED,
    IMAGES,
    LABELS,
    LABELS_WITH_IDS,
    SAY_NO,
    SCORES,
    SCORES_WITH_IDS,
    SINGLE,
    own_data,
    with_unasked,
    write_files,
)

OWN_OPTIONS = {"calibrate": {"fit": 0.9}, "compare": {"metrics": ["real1", "map_macro"]}}
OPTIONS = {"size": 4, "resamples": 4, "min_images": 2, "k": 2, "scores": "probability", "dataset": "own"}


def takes_labels(function) -> bool:
    """Return whether a parameter of a function is label sets in any form."""
    hints = hints_of(function).values() if inspect.isfunction(function) else ()
    return any(m.name == "DATASET" for hint in hints for m in metadata_of(hint, Shown))


# The labels of duplicates are beside photographs, which have no rows.
FUNCTIONS = {
    name: getattr(mh, name)
    for name in mh.__all__
    if takes_labels(getattr(mh, name)) and name != "diagnose_duplicates"
}
PREDICTED = [name for name in FUNCTIONS if name not in ("describe", "data_card")]


def test_the_functions_that_take_labels():
    """The functions of the issue are among them; a signature without its type would leave one untested."""
    assert {"evaluate", "compare", "calibrate", "conformal", "find_label_issues"} < set(FUNCTIONS)
    assert len([name for name in FUNCTIONS if name.startswith("diagnose_")]) == 9


def call(name, labels, predictions, out, **options):
    """Call a function with the options that it takes."""
    function = FUNCTIONS[name]
    names = set(inspect.signature(function).parameters)
    names |= {f.name for f in dataclasses.fields(mh.Reading)} if "reading" in names else set()
    chosen = {**OPTIONS, **OWN_OPTIONS.get(name, {}), "out": out, **options}
    given = {k: v for k, v in chosen.items() if k in names}
    in_files = isinstance(predictions, Path)
    if name not in PREDICTED:
        return function(labels, **given)
    if name == "compare":
        other = predictions.with_name("other.csv") if in_files else predictions
        models = (predictions, other) if in_files else ({"model": predictions, "other": other},)
        return function(*models, labels=labels, **given)
    predictions = predictions if in_files else {"model": predictions}
    if name == "diagnose_ood":
        return function(labels, predictions, ood=labels, ood_predictions=predictions, **given)
    if name == "diagnose_robustness":
        both = {"own": (labels, predictions), "again": (labels, predictions)}
        return function(both, **given)
    return function(labels, predictions, **given)


def numbers_of(result):
    """Return what a result holds, without the order of rows."""
    if isinstance(result, Predictions):
        rows = zip(result.image_id.to_pylist(), result.scores.tolist(), strict=True)
        return sorted(map(repr, rows))
    if not isinstance(result, Result):
        return repr(result)
    if not result.tables:
        # A data set of Hugging Face says where its labels are from, as its file does.
        text = re.sub(r"method \| [\w ]+", "", "\n".join(result.lines()))
        text = text.replace("nothing to do, this is the audit", "drew the audit")  # of equal inputs
        return re.sub(r"\S*(out-\d+|/)\S*", "", text)
    return {
        table: sorted(repr([(k, v) for k, v in row.items() if k != "method"]) for row in rows.to_pylist())
        for table, rows in result.tables.items()
    }


FILES = {"unasked": "indicators", "0 and 1": "indicators"}


def kind_of(form):
    """Return the kind of file with the same answers as a form of label sets."""
    return "0 and 1" if form in SAY_NO else "lists"


@pytest.fixture(scope="module")
def results_of_files(tmp_path_factory):
    """Return a function that gives what a function makes of files, and options of calls in memory."""

    @functools.cache
    def get(name, kind="lists", *, numbered=False, with_images=True):
        data = own_data(numbered=numbered)
        data = with_unasked(data) if kind == "unasked" else data
        data = data.labelled() if kind in ("one each", "images") else data
        folder = write_files(data, tmp_path_factory.mktemp("files") / "own", labels=FILES.get(kind, kind))
        images = folder / "images.csv"
        options = {"images": images} if with_images else {}
        found = call(name, folder / "labels.csv", folder / "model.csv", folder / "out-0", **options)
        return numbers_of(found), {"images": read_images(images)} if with_images else {}

    return get


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", LABELS_WITH_IDS)
def test_labels_with_ids(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, kind_of(form))
    data = own_data()
    for labels in (data, data.shuffled(columns=False)):  # the order of the columns declares the class ids
        made = call(name, LABELS_WITH_IDS[form](labels), data.frame, tmp_path / "out-1", **options)
        assert numbers_of(made) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", LABELS)
def test_labels_without_ids(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, kind_of(form), numbered=True)
    data = own_data()
    made = call(name, LABELS[form](data), data.scores, tmp_path / "out-1", classes=data.classes, **options)
    assert numbers_of(made) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", ASKED)
def test_labels_with_classes_that_were_not_asked_about(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, "unasked")
    data = with_unasked(own_data())
    for labels in (data, data.shuffled(columns=False)):  # the order of the columns declares the class ids
        made = call(name, ASKED[form](labels), data.frame, tmp_path / "out-1", **options)
        assert numbers_of(made) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", SINGLE)
def test_one_label_per_image(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, "one each")
    data = own_data().labelled()
    for labels in (data, data.shuffled(columns=False)):  # the order of the columns declares the class ids
        made = call(name, SINGLE[form](labels), data.frame, tmp_path / "out-1", **options)
        assert numbers_of(made) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("form", IMAGES)
def test_images_tables(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, "images")
    data = own_data().labelled()
    for labels in (data, data.shuffled(columns=False)):  # the order of the columns declares the class ids
        made = call(name, IMAGES[form](labels), data.frame, tmp_path / "out-1", **options)
        assert numbers_of(made) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_label_per_image_without_ids(name, results_of_files, tmp_path):
    expected, options = results_of_files(name, "one each", numbered=True)
    data = own_data().labelled()
    numbers = [data.classes.index(first) for first in data.first]
    for labels in (data.first, np.array(numbers), numbers):
        made = call(name, labels, data.scores, tmp_path / "out-1", classes=data.classes, **options)
        assert numbers_of(made) == expected


@pytest.mark.parametrize("name", PREDICTED)
@pytest.mark.parametrize("form", SCORES_WITH_IDS)
def test_scores_with_ids(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, "0 and 1")
    data = own_data()
    for scores in (data, data.shuffled()):
        made = call(
            name, data.labels.astype(bool), SCORES_WITH_IDS[form](scores), tmp_path / "out-1", **options
        )
        assert numbers_of(made) == expected


@pytest.mark.parametrize("name", PREDICTED)
@pytest.mark.parametrize("form", SCORES)
def test_scores_without_ids(name, form, results_of_files, tmp_path):
    expected, options = results_of_files(name, numbered=True)
    data = own_data()
    made = call(name, data.names, SCORES[form](data), tmp_path / "out-1", classes=data.classes, **options)
    assert numbers_of(made) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_classes_as_names_a_path_and_a_class_list(name, results_of_files, tmp_path):
    expected, options = results_of_files(name, numbered=True)
    data = own_data()
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(data.classes))
    for classes in (tuple(data.classes), np.array(data.classes), path, str(path), read_classes(path)):
        made = call(name, data.names, data.scores, tmp_path / "out-1", classes=classes, **options)
        assert numbers_of(made) == expected


def test_a_class_that_is_called_like_a_column_of_ids():
    """Scores and booleans are no ids, and a frame with an index has ids already."""
    data = own_data()
    names = ["path", *data.classes[1:]]
    for index in (None, data.ids):
        labels = pd.DataFrame(data.hot.astype(bool), index, names)
        scores = pd.DataFrame(data.scores, index, names)
        found = mh.evaluate(labels, scores, metrics=["map_macro"], scores="probability", resamples=0)
        expected = mh.evaluate(
            data.hot, data.scores, metrics=["map_macro"], scores="probability", resamples=0
        )
        assert found.value("map_macro") == expected.value("map_macro")
