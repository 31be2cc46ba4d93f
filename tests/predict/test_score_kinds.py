"""Outputs of which nobody said whether they are logits or probabilities."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import manyhot
from manyhot.data.inputs import Reading, open_inputs
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_predictions
from manyhot.predict.in_memory import predict_in_memory, predict_loader
from manyhot.predict.models import find_model
from manyhot.predict.score_kinds import assumed_scores, probabilities_note
from manyhot.run import Run
from manyhot.tables import Predictions, metadata, write_predictions

pytestmark = pytest.mark.usefixtures("quick_trials")

NOTE = (
    "{}: the scores are assumed to be logits, but all scores of the first images are between 0 and 1, like "
    "probabilities. If the network ends in a softmax or in sigmoids, declare scores='probability' and "
    "predict again, or declare it when the predictions are read, as in manyhot evaluate LABELS --predictions "
    "FOLDER --scores probability"
)

NETWORKS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, ends):
        super().__init__()
        self.ends = ends
    def forward(self, images):
        mean = images.mean((2, 3)) - 0.5
        return torch.sigmoid(mean) if self.ends else 10 * mean

def sigmoids():
    return Net(True)

def logits():
    return Net(False)
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_ends.py").write_text(NETWORKS)
    (tmp_path / "photos").mkdir()
    for i, colour in enumerate([(200, 10, 10), (10, 200, 10), (10, 10, 200)]):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def predicted(model, out="out", **options):
    options = {"engine": "torch", "dense": True, **options}
    return manyhot.predict("photos", f"python:own_ends:{model}", out=out, **options)


def stored(out="out", model="sigmoids"):
    path = f"{out}/python--own_ends.{model}.parquet"
    return read_predictions(path), metadata(pq.read_schema(path))


def test_sigmoids_that_nobody_declared_are_named_at_once(photos):
    events = []
    found = predicted("sigmoids", run=Run(on_event=lambda *event: events.append(event)))
    note = NOTE.format("python/own_ends.sigmoids")
    assert found.notes.count(note) == 1
    assert [values["text"] for kind, values in events if kind == "note"].count(note) == 1
    kinds = [kind for kind, values in events if kind == "done" or values.get("text") == note]
    assert kinds == ["note", "done"]


def test_what_was_assumed_is_stored_and_can_be_declared_later(photos):
    predicted("sigmoids")
    found, about = stored()
    assert (found.score_kind, found.scores_assumed, about["scores_assumed"]) == ("logit", True, "true")
    declared = found.declared("probability")
    assert (declared.score_kind, declared.scores_assumed) == ("probability", False)
    assert np.array_equal(declared.confidence(), found.scores)
    labels = manyhot.as_labels([[0], [1], [2]], n_classes=3)
    (source,) = open_inputs(labels, "out", reading=Reading(scores="probability", trust_order=True))
    assert [model.score_kind for model in source.models()] == ["probability"]


def test_top_classes_can_be_declared_later_too(photos):
    predicted("sigmoids", dense=False, top=2)
    found, _ = stored()
    shares = found.declared("probability").confidence()
    assert np.array_equal(shares, found.scores)


def test_declared_kinds_are_not_assumed(photos):
    found = predicted("sigmoids(scores='probability')")
    assert not any("taken for logits" in note for note in found.notes)
    read, about = stored()
    assert (read.score_kind, read.scores_assumed) == ("probability", False)
    assert "scores_assumed" not in about
    assert read.declared("logit").score_kind == "probability"


def test_logits_have_no_note_and_stay_as_they_are(photos):
    found = predicted("logits")
    assert not any("taken for logits" in note for note in found.notes)
    read, _ = stored(model="logits")
    assert read.score_kind == "logit"
    assert read.scores.min() < 0
    declared = predicted("logits(scores='logit')", out="declared")
    again, _ = stored("declared", "logits")
    assert np.array_equal(read.scores, again.scores)
    assert not declared.failed


def test_another_kind_is_another_run(photos):
    predicted("sigmoids")
    with pytest.raises(MatchError) as error:
        predicted("sigmoids(scores='probability')")
    assert str(error.value).startswith(
        "The folder contains predictions from another run, which differs in scores.\n"
    )


def test_in_memory(photos):
    network = find_model("python:own_ends:sigmoids")
    found = predict_in_memory("photos", network, top=None, engine="torch")
    assert NOTE.format(network.name) in found.notes
    assert found.predictions.scores_assumed


def test_the_kind_survives_writing_and_reading(tmp_path):
    made = Predictions(
        pa.array(["a"]),
        "m",
        scores=np.array([[0.2, 0.3]], np.float32),
        score_kind="logit",
        scores_assumed=True,
    )
    write_predictions(made, tmp_path / "m.parquet")
    assert read_predictions(tmp_path / "m.parquet").scores_assumed
    write_predictions(made.declared("probability"), tmp_path / "m.parquet")
    assert not read_predictions(tmp_path / "m.parquet").scores_assumed


class Sigmoids(torch.nn.Module):
    def forward(self, images):
        return torch.sigmoid(images.flatten(1))


def test_a_loader_declares_its_scores():
    loader = [(torch.linspace(-2, 2, 12).reshape(4, 3), None)]
    assumed = predict_loader(Sigmoids(), loader, ids="number", top=None)
    assert assumed.notes == (NOTE.format("Sigmoids"),)
    assert (assumed.predictions.score_kind, assumed.predictions.scores_assumed) == ("logit", True)
    for top in (None, 2):
        found = predict_loader(Sigmoids(), loader, ids="number", top=top, scores="probability")
        assert found.notes == ()
        assert found.predictions.logsumexp is None
        assert (found.predictions.score_kind, found.predictions.scores_assumed) == ("probability", False)
        assert np.array_equal(found.predictions.confidence(), found.predictions.scores)
    with pytest.raises(InputError) as error:
        predict_loader(Sigmoids(), loader, ids="number", scores="sigmoid")
    assert str(error.value) == (
        "There are no such scores.\n  got:     sigmoid\n  allowed: logit, probability, score"
    )


def test_the_answer_to_one_image_says_so(photos):
    found = manyhot.predict("photos/0.png", "python:own_ends:sigmoids", engine="torch")
    (answer,) = found.answers
    assert [*answer.lines()][-1] == answer.note == NOTE.format("python/own_ends.sigmoids")
    assert found.notes == (answer.note,)
    found = manyhot.predict("photos/0.png", "python:own_ends:logits", engine="torch")
    assert found.answers[0].note == ""


def test_averages_of_assumed_logits_are_probabilities_without_a_note():
    """The advice to declare scores='probability' ended in an error, because the members give logits."""
    scores = np.array([[0.2, 0.8]], np.float32)
    for kind, note in (("logit", NOTE.format("net")), ("probability", "")):
        network = SimpleNamespace(name="net", score_kind=kind, about=assumed_scores(""))
        assert probabilities_note(network, scores) == note
