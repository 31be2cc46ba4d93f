"""Published labels that users download by hand, saved where manyhot looks for them."""

import os
import shutil
from pathlib import Path

MULTILABEL = Path(__file__).resolve().parents[3] / "shared" / "data" / "shankar" / "multilabel.csv"


def save_multilabel(require):
    """Save Shankar et al.'s labels in the cache of the tests."""
    require(MULTILABEL.is_file(), f"{MULTILABEL}, Shankar et al.'s labels, whose licence is not stated")
    folder = Path(os.environ["MANYHOT_CACHE"]) / "imagenet-multilabel"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MULTILABEL, folder / MULTILABEL.name)


def save_counts(content):
    """Save CIFAR-10H's counts, which are for non-commercial use, in the cache of the tests."""
    folder = Path(os.environ["MANYHOT_CACHE"]) / "cifar-10h"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cifar10h-counts.npy").write_bytes(content)
