"""Several alterations in one pass: the same files, each image decoded once, full batches."""

import dataclasses
import importlib

import numpy as np
import pytest
from PIL import Image

from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings, predict_runs, prepare_run, run
from manyhot.predict.sources import alter_images, open_source
from small_models import COLOURS, SMALL, mean_colour

RUN = importlib.import_module("manyhot.predict.run")
SOURCE = importlib.import_module("manyhot.predict.sources.source")
SETTINGS = PredictSettings(None)


@dataclasses.dataclass(frozen=True)
class Shift:
    """Makes images darker; every third of those that it wants is skipped."""

    by: int
    images: frozenset[str]

    @property
    def key(self):
        return f"shift {self.by}"

    def wants(self, image_id):
        return image_id in self.images

    def __call__(self, image_id, pixels):
        return "too dark: always" if int(image_id[:2]) % 3 == self.by % 3 else pixels - np.uint8(self.by)


@pytest.fixture
def shifts(tmp_path):
    """Return a source of 20 images, and alterations of all of them, twice, and of 5, once."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(50, 200, (9, 9, 3), dtype=np.uint8)).save(
            tmp_path / "photos" / f"{i:02}.png"
        )
    every = frozenset(f"{i:02}.png" for i in range(20))
    alterations = [Shift(1, every), Shift(2, every), Shift(3, frozenset(sorted(every)[:5]))]
    source = open_source(tmp_path / "photos")
    return [alter_images(source, alteration) for alteration in alterations]


def prepared(sources, out, network):
    """Return runs with one engine."""
    jobs = []
    for i, source in enumerate(sources):
        choice = next((job.choice for job in jobs if job.choice), None)
        jobs.append(prepare_run(source, network, out / str(i), SETTINGS, choice=choice))
    return jobs


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("together", [2, 3])
def test_the_files_are_those_of_one_run_after_the_other(shifts, tmp_path, monkeypatch, together):
    sizes = []

    def forward(images):
        sizes.append(len(images))
        return mean_colour(images)

    network = Network("tint", COLOURS, SMALL, forward=forward)
    for i, source in enumerate(shifts):
        run(source, network, tmp_path / "alone" / str(i), SETTINGS)
    jobs = prepared(shifts, tmp_path / "together", network)
    decoded, decode = [], SOURCE.decode
    monkeypatch.setattr(SOURCE, "decode", lambda data: decoded.append(data) or decode(data))
    sizes.clear()
    progress = []
    monkeypatch.setattr(RUN, "ALTERED_AT_ONCE", together)
    for job in predict_runs(jobs, lambda _, values: progress.append(values["images"])):
        job.finish()
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert len(decoded) == (20 if together == 3 else 25)
    assert progress == sorted(progress)
    assert progress[-1] == 45
    # 8 originals at a time, of each alteration two of three images: batches of 8, and one with the rest.
    assert sum(sizes) == 13 + 14 + 3
    assert sum(size < 8 for size in sizes) <= (3 if together == 3 else 4)


def test_what_is_written_is_not_predicted_again(shifts, tmp_path):
    sizes = []

    def forward(images):
        sizes.append(len(images))
        return mean_colour(images)

    network = Network("tint", COLOURS, SMALL, forward=forward)
    _, second, _ = prepared(shifts, tmp_path / "out", network)
    (done,) = predict_runs([second], lambda *_: None)
    assert done is second  # killed before it was merged
    sizes.clear()
    again = prepared(shifts, tmp_path / "out", network)
    finished = list(predict_runs(again, lambda *_: None))
    assert [again.index(job) for job in finished] == [1, 0, 2]
    assert sum(sizes) == 13 + 3
    for job in finished:
        job.finish()
    alone = tmp_path / "alone"
    for i, source in enumerate(shifts):
        run(source, network, alone / str(i), SETTINGS)
    assert contents(tmp_path / "out") == contents(alone)


def test_networks_share_what_is_altered(shifts, tmp_path, monkeypatch):
    """With another crop, and one of them partly predicted."""
    networks = [Network("tint", COLOURS, SMALL, forward=mean_colour)]
    crop = dataclasses.replace(SMALL, size=(4, 4), scale=(4, 4))
    networks.append(Network("small", COLOURS, crop, forward=mean_colour))
    for i, source in enumerate(shifts):
        for network in networks:
            run(source, network, tmp_path / "alone" / str(i), SETTINGS)
    list(predict_runs(prepared(shifts[:1], tmp_path / "together", networks[1]), lambda *_: None))
    jobs = [job for network in networks for job in prepared(shifts, tmp_path / "together", network)]
    altered, alter = [], Shift.__call__
    monkeypatch.setattr(Shift, "__call__", lambda self, *image: altered.append(self) or alter(self, *image))
    for job in predict_runs(jobs, lambda *_: None):
        job.finish()
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert len(altered) == 45
