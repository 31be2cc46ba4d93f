"""Sources with other pixels are predicted, skipped and resumed like any other."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from manyhot.errors import MatchError
from manyhot.predict.engines import EngineOptions
from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings, run
from manyhot.predict.sources import open_source
from manyhot.predict.sources.source import alter_images
from manyhot.tables import read
from small_models import COLOURS, SMALL


@dataclass(frozen=True)
class Painted:
    """Paints images in one colour."""

    colour: tuple[int, int, int]
    only: tuple[str, ...] = ()
    fails: str = ""

    @property
    def key(self):
        return f"painted {self.colour} {self.only} {self.fails}"

    def wants(self, image_id):
        return not self.only or image_id in self.only

    def __call__(self, image_id, pixels):
        assert pixels.dtype == np.uint8
        assert pixels.shape == (10, 12, 3)
        return "nothing to paint" if image_id == self.fails else np.full_like(pixels, self.colour)


@pytest.fixture
def settings():
    return PredictSettings(top=1, engine="torch")


def best(out):
    table = read(out / "tint.parquet", "predictions")
    return dict(zip(table["image_id"].to_pylist(), [c[0] for c in table["classes"].to_pylist()], strict=True))


def test_pixels_are_altered_and_ids_and_labels_stay(folder, tint, settings, tmp_path):
    run(alter_images(open_source(folder), Painted((0, 250, 0))), tint, tmp_path / "green", settings)
    assert best(tmp_path / "green") == {"b.png": 1, "g.png": 1, "r.png": 1}
    images = read(tmp_path / "green" / "images.parquet", "images")
    assert images["label"].to_pylist() == [2, 1, 0]
    assert images["width"].to_pylist() == [12, 12, 12]
    assert (tmp_path / "green" / "skipped.csv").read_text().splitlines()[1:] == [
        f"e.jpg,{folder / 'e.jpg'},the file is empty,tint"
    ]


def test_an_image_that_cannot_be_altered_is_skipped_with_the_reason(folder, tint, settings, tmp_path):
    run(
        alter_images(open_source(folder), Painted((250, 0, 0), fails="g.png")), tint, tmp_path / "a", settings
    )
    assert best(tmp_path / "a") == {"b.png": 0, "r.png": 0}
    assert f"g.png,{folder / 'green' / 'g.png'},nothing to paint,tint" in (
        (tmp_path / "a" / "skipped.csv").read_text().splitlines()
    )


def test_images_that_are_not_wanted_are_left_out(folder, tint, settings, tmp_path):
    done = run(
        alter_images(open_source(folder), Painted((250, 0, 0), ("b.png",))), tint, tmp_path / "a", settings
    )
    assert done.n == 1
    assert best(tmp_path / "a") == {"b.png": 0}
    assert (tmp_path / "a" / "skipped.csv").read_text().splitlines()[1:] == []


def test_an_alteration_of_an_alteration(folder, tint, settings, tmp_path):
    once = alter_images(open_source(folder), Painted((0, 0, 9), ("b.png",)))
    run(alter_images(once, Painted((0, 250, 0))), tint, tmp_path / "a", settings)
    assert best(tmp_path / "a") == {"b.png": 1}


def test_other_pixels_are_another_run(folder, tint, settings, tmp_path):
    source = open_source(folder)
    run(alter_images(source, Painted((0, 250, 0))), tint, tmp_path / "a", settings)
    assert run(alter_images(source, Painted((0, 250, 0))), tint, tmp_path / "a", settings).n == 0
    with pytest.raises(MatchError, match="another run, which differs in source"):
        run(alter_images(source, Painted((250, 0, 0))), tint, tmp_path / "a", settings)


def test_parts_that_hold_no_wanted_image(many, tint, settings, tmp_path):
    only = ("00003.jpg", "01099.jpg")
    alteration = Wide((0, 250, 0), only)
    done = run(alter_images(open_source(many), alteration), tint, tmp_path / "a", settings)
    assert (done.n, best(tmp_path / "a")) == (2, dict.fromkeys(only, 1))


def test_features_of_parts_that_hold_no_wanted_image(many, settings, tmp_path):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    network = Network("flat", COLOURS, SMALL, module.eval(), head="1")
    source = alter_images(open_source(many), Wide((0, 255, 0), ("01099.jpg",)))
    run(source, network, tmp_path / "a", replace(settings, engine_options=EngineOptions(features=True)))
    np.testing.assert_array_equal(
        np.load(tmp_path / "a" / "embeddings" / "flat.npy"), np.repeat([[0, 1, 0]], 64, axis=1)
    )


class Wide(Painted):
    def __call__(self, image_id, pixels):
        return np.full_like(pixels, self.colour)


def test_an_engine_is_built_once(folder, tint, settings, tmp_path):
    told = []
    tell = lambda kind, about: told.append(kind)  # noqa: E731
    first = run(
        alter_images(open_source(folder), Painted((0, 250, 0))), tint, tmp_path / "a", settings, "", tell
    )
    second = run(
        alter_images(open_source(folder), Painted((250, 0, 0))),
        tint,
        tmp_path / "b",
        replace(settings, engine="auto"),
        notify=tell,
        choice=first.choice,
    )
    assert told.count("engines") == 1
    assert second.choice is first.choice
    assert best(tmp_path / "b") == {"b.png": 0, "g.png": 0, "r.png": 0}
