"""How often `diagnose groups` reports age or sex of patients that are unrelated to their findings.

    python benchmarks/groups_clusters.py [--searches 200] [--seed 0]      # 30 CPU seconds

Data: 120 patients with one to six images, and eight findings, each valid on 15 % of the images on average, by
an own share of the images of each patient (beta distribution, correlation of 0.4 within a patient). Age and
sex are drawn at random for each patient, or for each image. A search reports a property if any group of it is
found. "related": sex multiplies the odds of the first finding by 16, and should be found.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.core.sets import LabelSets
from manyhot.core.share_intervals import wilson_interval
from manyhot.diagnose.groups_attributes import metadata_groups
from manyhot.diagnose.groups_findings import GroupSettings, find_groups
from manyhot.diagnose.groups_outcomes import set_outcomes

PATIENTS, MOST_IMAGES, FINDINGS = 120, 6, 8
SHARE, CORRELATION = 0.15, 0.4
ODDS = 16
CASES = (("patient", False), ("image", False), ("patient", True))
"""Of what age and sex are properties, and whether sex is related to the first finding."""


def simulated(of: str, related: bool, rng: np.random.Generator):
    """Return the groups, label sets and patients of a simulated data set."""
    patient = np.repeat(np.arange(PATIENTS), rng.integers(1, MOST_IMAGES + 1, PATIENTS))
    n, total = (len(patient), PATIENTS if of == "patient" else len(patient))
    age, sex = rng.integers(21, 90, total), rng.random(total) < 0.5
    size = 1 / CORRELATION - 1
    p = rng.beta(SHARE * size, (1 - SHARE) * size, (PATIENTS, FINDINGS))
    if related:
        odds = p[:, 0] / (1 - p[:, 0]) * np.where(sex, ODDS, 1)
        p[:, 0] = odds / (1 + odds)
    sets = LabelSets.from_lists(
        [np.flatnonzero(row) for row in rng.random((n, FINDINGS)) < p[patient]], FINDINGS
    )
    at = patient if of == "patient" else np.arange(n)
    columns = pa.table({"age": age[at], "sex": np.where(sex[at], "F", "M")})
    return list(metadata_groups(columns)), sets, patient


def found(of: str, related: bool, seed: list[int]) -> list[bool]:
    """Return whether anything is found without and with clusters."""
    groups, sets, patient = simulated(of, related, np.random.default_rng(seed))
    outcomes = set_outcomes(sets, 25)
    names = [f"finding {i}" for i in range(FINDINGS)]
    settings = GroupSettings(permutations=200, seed=seed[1])
    unseen = np.zeros(len(sets), bool)
    return [bool(find_groups(groups, unseen, outcomes, names, settings, c)[0]) for c in (None, patient)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rows = []
    for case, (of, related) in enumerate(CASES):
        every = np.array([found(of, related, [asked.seed, i, case]) for i in range(asked.searches)])
        for clusters, n in zip(("none", "patients"), every.sum(axis=0).tolist(), strict=True):
            lo, hi = (float(end) for end in wilson_interval(n, asked.searches))
            row = {"properties_of": of, "related": related, "clusters": clusters}
            rows.append({**row, "searches": asked.searches, "found": n, "lo": f"{lo:.4f}", "hi": f"{hi:.4f}"})
            print(rows[-1], flush=True)
    with Path(__file__).with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
