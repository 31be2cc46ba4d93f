"""Every loss trains: through epochs in which what is remembered of images changes what is learned."""

import csv
import math

import pytest

pytest.importorskip("timm")

import trainings
from manyhot import registry
from manyhot.errors import InputError
from manyhot.train import train as train_module


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return trainings.data(tmp_path_factory.mktemp("given"))


def train(given, out, **settings):
    source, labels, classes = given
    settings = {**trainings.TINY, "epochs": 6, "size": 16, "teach": "label", **settings}
    return train_module.train(source, labels, out=out, classes=classes, settings=settings).network


@pytest.mark.parametrize("loss", registry.names("loss"))
def test_every_loss_trains(given, loss, tmp_path):
    train(given, tmp_path, loss=loss)
    with (tmp_path / "log.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 6
    assert all(map(math.isfinite, losses))
    # Of assumed negatives more and more are taken for there: their losses need not fall.
    assert losses[-1] < losses[0] or loss.startswith("ll")


def test_what_is_remembered_is_of_images_that_are_not_mixed(given, tmp_path):
    with pytest.raises(InputError) as raised:
        train(given, tmp_path, loss="role", mixup=0.2)
    assert str(raised.value) == (
        "The loss keeps a state for each image, but a mixed image consists of two.\n"
        "  got:     role, mixup 0.2, cutmix 0.0\n"
        "  do:      set `mixup` and `cutmix` to 0, or use another loss"
    )
