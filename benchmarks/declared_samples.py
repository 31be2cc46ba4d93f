"""How often the 95 % intervals of samples that users drew themselves contain the value of all images.

``python benchmarks/declared_samples.py`` draws 2,000 samples from 3,000 simulated images under each of four
designs, declares their probabilities or strata, and prints the coverage of the intervals of a share and the
bias of its estimate, for two estimators. Proposed labels are right on most images.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.stats import t

from manyhot.core.audited import LinearisedValues, estimate
from manyhot.evaluate.audited import ESTIMATORS
from manyhot.tables.declared_samples import DeclaredDesign

N, SAMPLES = 3_000, 2_000
IDS = pa.array([f"{i:05}" for i in range(N)])


def main() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(N) < 0.3
    valid = (rng.random(N) < np.where(hard, 0.5, 0.1)).astype(float)
    proposed = (rng.random(N) < np.where(valid > 0, 0.7, 0.1)).astype(float)
    strata = pa.array(np.where(hard, "hard", "easy").tolist())
    designs = {
        "all unsure images, 5 % of the others": DeclaredDesign(IDS, np.where(hard, 1, 0.05)),
        "40 % of the unsure images, 5 % of the others": DeclaredDesign(IDS, np.where(hard, 0.4, 0.05)),
        "by a score": DeclaredDesign(IDS, np.clip(rng.random(N) ** 2, 0.02, 1)),
        "180 and 100 images of two strata": DeclaredDesign(IDS, strata=strata),
    }
    print(f"{'design':46} {'estimator':10} {'images':>6} {'coverage':>8} {'bias':>8}")
    for title, design in designs.items():
        samples = [design.drawn(IDS.take(pa.array(drawn(design, hard, rng)))).sample for _ in range(SAMPLES)]
        size = np.mean([len(s) for s in samples])
        for name in ("ppi++", "sample"):
            found = [of_sample(s, valid, proposed, ESTIMATORS[name]) for s in samples]
            inside = np.mean([abs(v - valid.mean()) <= half for v, half in found])
            bias = np.mean([v for v, _ in found]) - valid.mean()
            print(f"{title:46} {name:10} {size:6.0f} {inside:8.1%} {bias:+8.2%}")


def drawn(design, hard, rng):
    """Return the rows of a sample: independent draws, or fixed numbers of two strata."""
    if design.probability is not None:
        return np.flatnonzero(rng.random(N) < design.probability)
    sizes = ((hard, 180), (~hard, 100))
    return np.concatenate([rng.choice(np.flatnonzero(rows), n, replace=False) for rows, n in sizes])


def of_sample(sample, valid, proposed, power):
    """Return the estimated share and the half-width of its interval."""
    rows, mean = sample.images, np.array([proposed.mean()])
    values = LinearisedValues(valid[rows][:, None], proposed[rows][:, None], mean, np.zeros(1), mean)
    found = estimate(values, sample, power=power)
    return found.value[0], t.ppf(0.975, found.df[0]) * found.error[0]


if __name__ == "__main__":
    main()
