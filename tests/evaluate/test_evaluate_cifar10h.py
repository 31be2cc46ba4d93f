"""People's answers for CIFAR-10 against out-of-fold probabilities: every figure of the guide, recomputed.

The references read the published files themselves, and use NumPy and SciPy alone.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy, pearsonr

import manyhot
from manyhot.data.inputs import Reading

COUNTS = "48da312b193b82e6939ec20f23d1f09cbdd849c8/data/cifar10h-counts.npy"
PROBABILITIES = "cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "evaluate" / "distributions.md"


@pytest.fixture(scope="module")
def arrays(published):
    counts = np.load(published(COUNTS), allow_pickle=False)
    p = np.load(published(PROBABILITIES), allow_pickle=False)
    assert counts.shape == p.shape == (10_000, 10)
    return counts, p


@pytest.fixture(scope="module")
def found(arrays):
    counts, p = arrays
    result = manyhot.evaluate(counts, p.astype(np.float32), reading=Reading(scores="probability"))
    return {row["metric"]: row for row in result.results.to_pylist() if row["slice"] == "all"}


@pytest.fixture(scope="module")
def by_image(arrays):
    """Return what each image adds to the means, from the definitions."""
    counts, p = arrays
    p = p.astype(np.float32).astype(np.float64)
    shares = counts / counts.sum(axis=1, keepdims=True)
    chosen = np.repeat(np.arange(10)[None], len(p), 0)[None] == np.arange(10)[:, None, None]
    return {
        "cross_entropy_votes": -(shares * np.log(np.maximum(p, np.finfo(np.float32).tiny))).sum(1),
        "kl_votes": entropy(shares, np.maximum(p, np.finfo(np.float32).tiny), axis=1),
        # The mean over votes of the squared distance to the vote.
        "brier_votes": sum(shares[:, k] * ((p - chosen[k]) ** 2).sum(1) for k in range(10)),
        "tv_votes": np.abs(p - shares).sum(1) / 2,
    }


METRICS = ("cross_entropy_votes", "kl_votes", "brier_votes", "tv_votes")


@pytest.mark.parametrize("metric", METRICS)
def test_means_over_images_and_their_intervals(found, by_image, metric):
    values = by_image[metric]
    row = found[metric]
    assert row["value"] == pytest.approx(values.mean(), rel=1e-4)
    assert (row["n"], row["n_skipped"]) == (10_000, 0)
    half = 1.96 * values.std(ddof=1) / 100
    assert row["lo"] == pytest.approx(values.mean() - half, abs=0.12 * half)
    assert row["hi"] == pytest.approx(values.mean() + half, abs=0.12 * half)


def test_correlation_of_entropies(found, arrays):
    counts, p = arrays
    r = pearsonr(entropy(p.astype(np.float32).astype(float), axis=1), entropy(counts, axis=1)).statistic
    assert found["entropy_correlation"]["value"] == pytest.approx(r, abs=1e-5)
    assert r == pytest.approx(0.317, abs=5e-4)  # the figure of the guide


def test_calibration_against_votes_and_accuracy(found, arrays):
    counts, p = arrays
    p = p.astype(np.float32).astype(float)
    best = p.argmax(1)
    share = counts[np.arange(10_000), best] / counts.sum(1)
    edges = np.minimum((p.max(1) * 15).astype(int), 14)
    gaps = [abs((p.max(1) - share)[edges == b].sum()) for b in range(15)]
    assert found["ece_votes"]["value"] == pytest.approx(sum(gaps) / 10_000, abs=1e-6)
    most = counts == counts.max(axis=1, keepdims=True)
    assert found["real1"]["value"] == pytest.approx(most[np.arange(10_000), best].mean())


def test_figures_from_the_references_alone(by_image):
    means = {metric: values.mean() for metric, values in by_image.items()}
    assert means["cross_entropy_votes"] == pytest.approx(0.5135, abs=5e-5)
    assert means["kl_votes"] == pytest.approx(0.359, abs=5e-4)
    assert means["brier_votes"] == pytest.approx(0.172, abs=5e-4)
    assert means["tv_votes"] == pytest.approx(0.102, abs=5e-4)


def test_figures_of_the_guide(found):
    pattern = r"^\| `(\w+)` \| ([\d.]+)(?: %| nats)? \| ([^|]+) \|$"
    rows = {name: rest for name, *rest in re.findall(pattern, GUIDE.read_text(), re.MULTILINE)}
    assert rows.keys() == {*METRICS, "real1", "entropy_correlation", "ece_votes"}
    for metric, (text, interval) in rows.items():
        scale = 100 if metric in ("real1", "tv_votes", "ece_votes") else 1
        decimals = len(text.partition(".")[2])
        row = {end: found[metric][end] for end in ("value", "lo", "hi")}
        shown = {end: value and f"{value * scale:.{decimals}f}" for end, value in row.items()}
        assert shown["value"] == text, metric
        assert interval == (f"{shown['lo']} to {shown['hi']}" if shown["lo"] else "none"), metric
