"""Proposals of 67 published models beside ReaL's own questions, counted again from the files as they are."""

import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.files import cache_folder
from manyhot.reassess.propose import propose

DOCS = Path(__file__).resolve().parents[2] / "docs" / "guides" / "reassess" / "proposals.md"


@pytest.fixture(scope="module")
def published(mirror):
    """Return the data set, and its files as arrays: class 1 to 5 of each model, ReaL's questions and scores.

    A pair of an image and a class is one number: 1,000 times the image and the class.
    """
    cache = cache_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHOT_MIRROR", str(mirror))
        fetched = BENCHMARKS["imagenet"].datasets[0].fetch()
        models = fetched.published
        arrays = []
        for file in catalog.catalog_entry("imagenet-val-predictions").files:
            if file.path.endswith(".npy"):
                stored = np.load(cache / "imagenet-val-predictions" / file.path).astype(np.int64)
                arrays.append(stored[:, ::-1] if "reversed" in file.flags else stored)
        scores = np.load(cache / "imagenet-real" / "scores.npz")
    number = np.array([int(name[15:23]) for name in scores["info"][:, 0]]) - 1
    asked = number * 1000 + scores["info"][:, 1].astype(int)
    assert len(np.unique(asked)) == len(asked) == len(scores["tensor"])
    place = np.array([int(name.as_py()[15:23]) - 1 for name in fetched.rows.image_id])
    return fetched, models, arrays, asked, scores["tensor"] >= 0.8, place


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "depth"), [("union", 1), ("union(k=5)", 5)])
def test_union_beside_real(published, rule, depth):
    fetched, models, arrays, asked, yes, place = published
    found = propose(fetched.rows, models, rule, known_labels=fetched.labels, resamples=0)
    label = fetched.rows.label.to_numpy()
    named = np.zeros(50_000 * 1000, bool)
    for best in [a[:, :depth] for a in arrays] + [label[:, None]]:
        named[place[:, None] * 1000 + best] = True
    keys = np.flatnonzero(named)
    several = np.bincount(keys // 1000, minlength=50_000) > 1
    keys = keys[several[keys // 1000]]
    assert len(found) == len(keys)
    assert found.n_asked == several.sum()
    numbers = pc.utf8_slice_codeunits(found.table["image_id"], 15, 23).cast("int64").to_numpy()
    assert np.array_equal(np.sort((numbers - 1) * 1000 + found.table["class_id"].to_numpy()), keys)
    valid = asked[yes]
    standing = (place * 1000 + label)[~several[place]]
    about = keys[np.isin(keys // 1000, asked // 1000)]
    expected = found.expected
    assert (expected.n_images, expected.n_labels) == (24_889, 32_442)
    assert expected.n_questions == len(about)
    assert expected.n_unasked == np.isin(about, asked, invert=True).sum()
    reached = np.isin(valid, np.concatenate([keys, standing])).mean()
    accepted = np.isin(valid, keys).sum()
    assert expected.recall.value == pytest.approx(reached)
    assert expected.precision.value == pytest.approx(accepted / len(about))
    shared = np.isin(asked, keys).sum()
    told = [
        f"{len(keys):,}",
        f"{several.sum():,}",
        f"{shared / len(asked):.1%}",
        f"{expected.recall.value:.1%}",
        f"{np.isin(about, asked).mean():.1%}",
        f"{accepted / shared:.1%}",
    ]
    row = re.search(rf"^\| `{re.escape(rule)}` \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert row[1].split(" | ") == [t.replace("%", " %") for t in told]
