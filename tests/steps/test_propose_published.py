"""Proposals of 67 published models beside ReaL's own questions, counted again from the files as they are."""

import re
from pathlib import Path

import numpy as np
import pytest

from manyhot import catalog
from manyhot.pipeline import BENCHMARKS
from manyhot.steps.propose import propose

DOCS = Path(__file__).resolve().parents[2] / "docs" / "proposing.md"


@pytest.fixture(scope="module")
def published(mirror):
    """Return the data set, and its files as arrays: class 1 to 5 of each model, labels, ReaL's questions."""
    cache = catalog.cache_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHOT_MIRROR", str(mirror))
        fetched = BENCHMARKS["imagenet"].datasets[0].fetch()
        models = fetched.published
        arrays = []
        for file in catalog.entry("imagenet-val-predictions").files:
            if file.path.endswith(".npy"):
                stored = np.load(cache / "imagenet-val-predictions" / file.path).astype(np.int64)
                arrays.append(stored[:, ::-1] if "reversed" in file.flags else stored)
        scores = np.load(cache / "imagenet-real" / "scores.npz")
    number = np.array([int(name[15:23]) for name in scores["info"][:, 0]]) - 1
    asked = {
        (i, c): s >= 0.8
        for i, c, s in zip(number, scores["info"][:, 1].astype(int), scores["tensor"], strict=True)
    }
    place = np.array([int(name.as_py()[15:23]) - 1 for name in fetched.rows.image_id])
    return fetched, models, arrays, asked, place


@pytest.mark.parametrize(("rule", "depth"), [("union", 1), ("union(k=5)", 5)])
def test_union_beside_real(published, rule, depth):
    fetched, models, arrays, asked, place = published
    found = propose(fetched.rows, models, rule, known=fetched.labels, resamples=0)
    label = fetched.rows.label.to_numpy()
    best = np.concatenate([a[:, :depth] for a in arrays] + [label[:, None]], axis=1)
    keys = np.unique(place[:, None] * 1000 + best)
    several = np.bincount(keys // 1000, minlength=50_000) > 1
    keys = keys[several[keys // 1000]]
    ours = {(int(k) // 1000, int(k) % 1000) for k in keys}
    assert len(found) == len(ours)
    assert found.n_asked == several.sum()
    given = np.array([int(i[15:23]) - 1 for i in found.table["image_id"].to_pylist()]) * 1000
    assert np.array_equal(np.sort(given + found.table["class_id"].to_numpy()), keys)
    valid = {pair for pair, yes in asked.items() if yes}
    standing = {(int(i), int(c)) for i, c in zip(place, label, strict=True) if not several[i]}
    rated = {i for i, _ in asked}
    about = [pair for pair in ours if pair[0] in rated]
    expected = found.expected
    assert (expected.n_images, expected.n_labels) == (24_889, 32_442)
    assert expected.n_questions == len(about)
    assert expected.n_unasked == sum(pair not in asked for pair in about)
    assert expected.recall.value == pytest.approx(len(valid & (ours | standing)) / len(valid))
    assert expected.precision.value == pytest.approx(len(valid & ours) / len(about))
    shared = len(ours & asked.keys())
    told = [
        f"{len(ours):,}",
        f"{several.sum():,}",
        f"{shared / len(asked):.1%}",
        f"{expected.recall.value:.1%}",
        f"{sum(p in asked for p in about) / len(about):.1%}",
        f"{len(valid & ours) / shared:.1%}",
    ]
    row = re.search(rf"^\| `{re.escape(rule)}` \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert row[1].split(" | ") == [t.replace("%", " %") for t in told]
