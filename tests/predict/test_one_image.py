"""One image is answered at once, and nothing is written unless a folder is named."""

import importlib

import numpy as np
import pytest
from scipy.special import softmax

import manyhot
from manyhot.predict.network import Network
from small_models import COLOURS, SMALL, mean_colour

pytestmark = pytest.mark.usefixtures("quick_trials")

ONE_IMAGE = importlib.import_module("manyhot.predict.one_image")


@pytest.fixture
def photo(folder, tmp_path, monkeypatch, tint):
    """Return a blue photograph; any name is that of the model that tells colours."""
    monkeypatch.setattr(ONE_IMAGE, "find_model", lambda *_, **__: tint)
    monkeypatch.chdir(tmp_path)
    return folder / "blue" / "b.png"


def test_the_best_classes_with_their_probability(photo, tmp_path):
    before = set(tmp_path.rglob("*"))
    (found,) = manyhot.predict(photo, "tint", top=3).answers
    expected = softmax([0.0, 0.0, 10.0, 5.0])
    assert found.keys == ("blue", "grey", "red")
    assert found.values == pytest.approx(expected[[2, 3, 0]], rel=1e-5)
    assert list(found.lines()) == [
        f"tint, {photo}:",
        f"  {100 * expected[2]:5.1f} %  blue",
        f"  {100 * expected[3]:5.1f} %  grey",
        f"  {100 * expected[0]:5.1f} %  red",
    ]
    assert found.to_json()["classes"][0] == {"key": "blue", "name": "blue", "probability": found.values[0]}
    assert set(tmp_path.rglob("*")) == before


def test_all_classes_of_a_model_that_has_fewer_than_are_shown(photo):
    (found,) = manyhot.predict(photo, "tint").answers
    assert sorted(found.keys) == sorted(COLOURS.keys)


def test_scores_that_are_no_probabilities_are_shown_as_they_are(photo, monkeypatch):
    plain = Network("plain", COLOURS, SMALL, forward=mean_colour, score_kind="score")
    monkeypatch.setattr(ONE_IMAGE, "find_model", lambda *_, **__: plain)
    (found,) = manyhot.predict(photo, "plain", top=2).answers
    assert (found.unit, found.values) == ("score", (10.0, 5.0))
    assert list(found.lines())[1:] == ["    10.000  blue", "     5.000  grey"]


@pytest.mark.parametrize("options", [{"out": "given"}, {"dense": True}])
def test_a_folder_is_written_if_it_is_named_or_needed(photo, tmp_path, options, monkeypatch, tint):
    monkeypatch.setattr(
        importlib.import_module("manyhot.predict.several"), "find_model", lambda *_, **__: tint
    )
    found = manyhot.predict(photo, "tint", **options)
    folder = tmp_path / options.get("out", "predictions")
    assert found.answers == ()
    assert manyhot.read_predictions(folder / "tint.parquet").image_id.to_pylist() == ["b.png"]
    assert np.isfinite(found.models[0].rate)
