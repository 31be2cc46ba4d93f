"""Several models at once: the same files as one after the other, each image decoded once, failures alone."""

import dataclasses
import importlib

import numpy as np
import pytest

import manyhot
from manyhot.errors import InputError, UnknownNameError
from manyhot.predict.network import Network
from manyhot.predict.several import names_of
from manyhot.predict.sources import open_source
from manyhot.run import Run
from small_models import COLOURS, SMALL, mean_colour

pytestmark = pytest.mark.usefixtures("quick_trials")

SCORING = importlib.import_module("manyhot.predict.scoring")
SEVERAL = importlib.import_module("manyhot.predict.several")


def tints():
    """Return models that share a crop, but not the normalisation, and one with another crop."""
    dark = dataclasses.replace(SMALL, mean=(0.5, 0.5, 0.5))
    small = dataclasses.replace(SMALL, size=(4, 4), scale=(4, 4))
    crops = {"tint": SMALL, "dark": dark, "small": small}
    return {name: Network(name, COLOURS, crop, forward=mean_colour) for name, crop in crops.items()}


@pytest.fixture
def networks(monkeypatch):
    """Return the models that names refer to."""
    known = tints()
    monkeypatch.setattr(SEVERAL, "find_model", lambda name, *_, **__: known[name])
    return known


def contents(out):
    names = sorted(p for p in out.rglob("*") if p.is_file())
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in names}


def test_the_files_are_those_of_one_model_after_the_other(networks, folder, tmp_path):
    for name in networks:
        manyhot.predict(folder, name, out=tmp_path / "alone")
    found = manyhot.predict(folder, list(networks), out=tmp_path / "together")
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert [one.model for one in found.models] == list(networks)
    assert all("beside 2 other models" in "\n".join(one.lines()) for one in found.models)


def test_each_image_is_decoded_once_and_cropped_once_for_each_crop(networks, folder, tmp_path, monkeypatch):
    decoded, cropped = [], []
    decode, crop = SCORING.decode, type(SMALL).__call__

    def counted(data):
        decoded.append(data)
        return decode(data)

    def counted_crop(self, pixels):
        cropped.append(self.size)
        return crop(self, pixels)

    monkeypatch.setattr(
        importlib.import_module("manyhot.predict.run"), "sample", lambda *_: np.zeros((1, 3, 8, 8), np.uint8)
    )
    monkeypatch.setattr(SCORING, "decode", counted)
    monkeypatch.setattr(type(SMALL), "__call__", counted_crop)
    manyhot.predict(folder, list(networks), out=tmp_path / "out")
    assert len(decoded) == 4  # with the empty file
    assert sorted(cropped) == sorted(3 * [SMALL.size, (4, 4)])


def broken(images):
    return np.full((len(images), len(COLOURS)), np.nan, np.float32)


def test_models_that_fail_are_named_and_stop_no_other(networks, folder, tmp_path):
    networks["broken"] = Network("broken", COLOURS, SMALL, forward=broken)
    events = []
    run = Run(on_event=lambda kind, values: events.append((kind, values)))
    found = manyhot.predict(folder, ["tint", "broken", "small"], out=tmp_path / "out", run=run)
    assert [one.model for one in found.models] == ["tint", "small"]
    do = "use a higher `precision`, or check the weights"
    reason = f"The network returns NaN scores (where: broken; got: for {folder / 'blue/b.png'}; do: {do})"
    assert [(name, error.in_a_line()) for name, error in found.failed.items()] == [("broken", reason)]
    assert (found.exit_code, found.to_json()["failed"]) == (3, {"broken": reason})
    assert f"broken failed: {reason}" in found.notes
    assert ("failures", {"model": "broken", "text": f"broken failed: {reason}"}) in events
    manyhot.predict(folder, ["tint"], out=tmp_path / "alone")
    assert (tmp_path / "out/tint.parquet").read_bytes() == (tmp_path / "alone/tint.parquet").read_bytes()
    assert not (tmp_path / "out/broken.parquet").exists()


def test_the_error_of_a_model_is_raised_if_no_model_can_predict(networks, folder, tmp_path):
    networks["broken"] = networks["worse"] = Network("broken", COLOURS, SMALL, forward=broken)
    with pytest.raises(InputError, match="NaN scores"):
        manyhot.predict(folder, "broken", out=tmp_path / "out")
    with pytest.raises(InputError, match="NaN scores"):
        manyhot.predict(folder, ["broken", "worse"], out=tmp_path / "out")


def test_progress_counts_the_images_of_the_run_with_most_to_do(networks, folder, tmp_path, monkeypatch):
    """After an earlier run has predicted one of the two parts with the first model."""
    sources = importlib.import_module("manyhot.predict.sources.image_files")
    monkeypatch.setattr(sources, "part_ranges", lambda n: [("00000", 0, 2), ("00001", 2, n)])
    run_module = importlib.import_module("manyhot.predict.run")
    jobs = []
    source = open_source(folder)
    for network in networks.values():
        jobs.append(run_module.prepare_run(source, network, tmp_path / "out", run_module.PredictSettings()))
    jobs[0].missing = jobs[0].missing[:1]
    events = []
    list(run_module.predict_runs(jobs, lambda _, values: events.append(values)))
    assert [event["of"] for event in events] == [4] * len(events)
    assert events[-1]["images"] == 4


def test_large_models_predict_one_after_the_other(networks, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(SEVERAL, "_weights", lambda _: SEVERAL.WEIGHTS_AT_ONCE // 2)
    found = manyhot.predict(folder, list(networks), out=tmp_path / "out")
    assert [one.others for one in found.models] == [1, 1, 0]


def test_two_models_of_one_name_are_not_mixed(networks, folder, tmp_path):
    """Such as a model with and without an option, or files of one name in two folders."""
    other = dataclasses.replace(networks["small"], name="tint")
    networks["tint(size=4)"] = other
    found = manyhot.predict(folder, ["tint", "tint(size=4)"], out=tmp_path / "out")
    assert [one.model for one in found.models] == ["tint"]
    (error,) = found.failed.values()
    assert "predictions from another run" in error.what
    manyhot.predict(folder, "tint", out=tmp_path / "alone")
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_patterns_and_files_of_names(tmp_path):
    (tmp_path / "names.txt").write_text("squeezenet\n\nefficientnet-lite[01]\n", encoding="utf-8")
    lite = [f"efficientnet-lite{i}" for i in range(3)]
    assert names_of(["efficientnet-lite?"]) == lite
    assert names_of([str(tmp_path / "names.txt"), "efficientnet-lite0"]) == ["squeezenet", *lite[:2]]
    assert names_of(["onnx:a*.onnx", "python:b:c", "timm/d(checkpoint='e*')"]) == [
        "onnx:a*.onnx",
        "python:b:c",
        "timm/d(checkpoint='e*')",
    ]
    with pytest.raises(UnknownNameError, match="No model matches the pattern"):
        names_of(["nothing*"])
    with pytest.raises(InputError, match="The file cannot be read"):
        names_of([str(tmp_path / "absent.txt")])
