"""A study that nothing is trained for: networks are files with their settings, and numbers are drawn."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from manyhot.study import (
    Across,
    Arm,
    Claim,
    Grid,
    Measurement,
    Net,
    RunMeasure,
    Study,
    StudyDataSet,
    StudyMetric,
)

GAIN = {"label": 0.0, "sets": 0.05, "cleaned": 0.04}
METRIC = StudyMetric("map", "mAP", percent=True)
DOC = '''"""A toy.

Question: Do sets help?

Command: manyhot study toy.py

Time: a second.

Result: they
do.
"""
'''


def make(folder, smoke):
    (folder / "images.parquet").write_bytes(b"pictures" if smoke else b"many pictures")
    (folder / "classes.txt").write_text("cat\ndog\n")
    for split in ("train", "val", "test"):
        (folder / f"labels-{split}.parquet").write_text(split)


def truth(run):
    return run.labels("train")


def cleaned(run):
    """Write labels that tell what they were made of."""
    path = run.folder / "labels.parquet"
    path.write_text("".join(run.of("label", seed).model.read_text() for seed in (0, 1)))
    return path


def take(run):
    """Draw a number of a network, and what it would be on 50 resamples of the data set's images."""
    own = np.random.default_rng([run.seed, len(run.arm), len(run.network)])
    images = np.random.default_rng(len(run.data_set)).normal(0, 0.01, 50)
    value = 0.5 + GAIN[run.arm] + own.normal(0, 0.004)
    return [
        Measurement("map", value, 40, replicates=value + images),
        Measurement("map", value / 2, 10, "n_labels>=2"),
    ]


def agreement(rows):
    """Return how many rows there are, as a number across runs."""
    return [Measurement("share", len(rows) / 100 + rows[0].seed / 1000, len(rows))]


def claim(**given):
    said = {"better": "Sets help.", "worse": "Sets harm.", "same": "Sets make no difference."}
    return Claim(
        **{
            "name": "sets",
            "metric": "map",
            "arm": "sets",
            "against": "label",
            "margin": 0.01,
            **said,
            **given,
        }
    )


def study(**given):
    """Return the study; keywords are parts of it, or of its grid."""
    grid = {
        "data_sets": (StudyDataSet("voc", "VOC.", make), StudyDataSet("cifar", "CIFAR.", make)),
        "networks": (
            Net("small", "A small one.", {"model": "timm/test_resnet", "epochs": 9}, {"epochs": 1}),
        ),
        "arms": (
            Arm("cleaned", "Cleaned sets.", cleaned, {"teach": "sets"}, wants=("label",)),
            Arm("label", "Single labels.", truth, {"teach": "label"}),
            Arm("sets", "Label sets.", truth, {"teach": "sets"}),
        ),
        "seeds": (0, 1, 2),
    }
    parts = {
        "name": "toy",
        "title": "A toy",
        "question": "Do sets help?",
        "measures": (
            RunMeasure("judged", "Judged.", take, (METRIC,)),
            Across("agree", "How they agree.", agreement, (StudyMetric("share", "share"),)),
        ),
        "claims": (claim(), claim(name="cleaned", arm="cleaned")),
        "limits": ("It is a toy.",),
        "about": "Nothing was trained.",
    }
    own = {name: given.pop(name) for name in (*grid, "without") if name in given}
    return Study(**{**parts, "grid": Grid(**{**grid, **own}), **given})


class Trainer:
    """Stands in for `manyhot.train.train.train`, and counts."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, labels, *, out, classes, settings, **_):
        self.calls.append(settings)
        model = Path(out) / "model.safetensors"
        model.parent.mkdir(parents=True, exist_ok=True)
        model.write_text(json.dumps([settings, Path(labels).read_text()]))
        return SimpleNamespace(network=model)
