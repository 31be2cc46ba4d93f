"""The top classes of several models on the images that all of them predict."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Predictions
from manyhot.data.inputs import open_inputs
from manyhot.errors import MatchError
from manyhot.evaluate.model_answers import ModelAnswers
from manyhot.tables.array_inputs import as_labels


def source_of(models):
    labels = as_labels([[0], [1, 2], [], [2]], n_classes=3)
    (source,) = open_inputs(labels, models)
    return source


def test_only_images_of_all_models_with_a_label_set_count():
    first = Predictions(pa.array(["3", "1", "0", "2"]), "first", classes=np.array([[2], [1], [1], [0]]))
    second = Predictions(pa.array(["0", "3"]), "second", classes=np.array([[0], [1]]))
    answers = ModelAnswers.of(source_of([first, second]))
    assert answers.models == ("first", "second")
    assert answers.image_id.to_pylist() == ["0", "3"]
    assert answers.rows.tolist() == [0, 3]
    assert answers.top.tolist() == [[1, 0], [2, 1]]
    assert set(answers.right) == {"real1"}
    assert answers.right["real1"].tolist() == [[False, True], [True, False]]


def test_models_without_common_images_are_an_error():
    first = Predictions(pa.array(["0"]), "first", classes=np.array([[2]]))
    second = Predictions(pa.array(["3"]), "second", classes=np.array([[1]]))
    with pytest.raises(MatchError, match="No labelled image has predictions from all models"):
        ModelAnswers.of(source_of([first, second]))
