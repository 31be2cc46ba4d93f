"""What networks learn from: the same images, as often, through the same network and augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from ensembles import out_of_fold
from raters import reassess

from manyhot import Labels, read_labels, read_predictions, write_labels
from manyhot.study import Arm, StudyRun


def true_sets(run: StudyRun) -> Path:
    """Return the true label sets of the training images, original labels among them."""
    return run.labels("train")


def reassessed_sets(run: StudyRun) -> Path:
    """Return label sets that an ensemble proposed and simulated raters cleaned, as a campaign would."""
    return reassess(run.folder / "reassessed", run.labels("train"), run.classes, out_of_fold(run), run.seed)


def soft_labels(run: StudyRun) -> Path:
    """Return what an ensemble gives each class, on average over its members."""
    labels = read_labels(run.labels("train"))
    p = np.mean([read_predictions(file).scores for file in out_of_fold(run)], axis=0, dtype=np.float32)
    n, c = p.shape
    table = pa.table(
        {
            "image_id": labels.image_id,
            "label": labels.table["label"],
            "rated": [False] * n,
            "usable": [True] * n,
            "classes": pa.array([list(range(c))] * n, pa.list_(pa.int32())),
            "state": np.where(p >= 0.5, "yes", "no").tolist(),
            "p": pa.array(p.tolist(), pa.list_(pa.float32())),
            "method": ["mean of an ensemble"] * n,
        }
    )
    found = Labels(table, c, labels.class_hash, asked_known=True, name="soft labels")
    return write_labels(found, run.folder / "soft.parquet")


_LABEL = {"teach": "label", "loss": "softmax"}

SINGLE = Arm("single", "The class of the largest object; cross-entropy of a softmax.", true_sets, _LABEL)

SINGLE_BCE = Arm(
    "single-bce",
    "The class of the largest object, all others taken to be absent; binary cross-entropy. It tells what "
    "the loss does from what label sets do.",
    true_sets,
    {"teach": "label", "loss": "bce"},
)

SETS = Arm(
    "sets",
    "True label sets; binary cross-entropy.",
    true_sets,
    {"teach": "sets", "loss": "bce", "empty": "no"},
)

REASSESSED = Arm(
    "reassessed",
    "Label sets made without knowing them: proposed by a cross-fitted ensemble of networks trained on "
    "single labels, answered by simulated raters of the quality measured of ReaL's, aggregated by manyhot; "
    "binary cross-entropy.",
    reassessed_sets,
    {"teach": "sets", "loss": "bce", "empty": "no"},
)

SOFT = Arm(
    "soft",
    "The probabilities of the same ensemble; cross-entropy of a softmax.",
    soft_labels,
    {"teach": "soft", "loss": "softmax"},
)

ROLE = Arm(
    "role",
    "The class of the largest object alone is known; ROLE (Cole et al. 2021), which learns the other labels "
    "of each training image with the network, expecting 1.5 an image.",
    true_sets,
    {"teach": "label", "loss": "role(k=1.5)"},
)

EM_APL = Arm(
    "em-apl",
    "The class of the largest object alone is known; entropy maximisation with pseudo-labels (Zhou et al. "
    "2022), in the settings published for VOC.",
    true_sets,
    {"teach": "label", "loss": "em_apl(alpha=0.2, beta=0.02)"},
)

ARMS = (SINGLE, SINGLE_BCE, SETS, REASSESSED, SOFT, ROLE, EM_APL)
