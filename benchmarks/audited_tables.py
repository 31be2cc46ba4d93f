"""Tables of the simulated audits: from sums over draws to the rows that are committed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import betaincinv, stdtrit

KINDS = ("values", "pairs", "ranks")
LEAST = 0.935
"""Coverage that the intervals of 95 % should reach."""

BLOCK = 100

NO_ORDER = ("pair", "differing")
"""Subjects of two models, which have no order of models."""


class Tally:
    """Sums over draws for each of K values."""

    def __init__(self, true):
        self.true, self.sums = true, defaultdict(lambda: np.zeros(len(true)))

    def add(self, found, scale):
        """Add the estimates of one draw."""
        error = found.value - self.true
        lo, hi = found.interval(scale)
        some = ~np.isnan(lo)
        with np.errstate(invalid="ignore"):
            near = np.abs(error) <= stdtrit(np.maximum(found.df, 1), 0.975) * found.error
        self.sums["intervals"] += some
        self.sums["held too few"] += ~some & near
        self.sums["held"] += some & (lo <= self.true) & (self.true <= hi)
        self.sums["width"] += np.where(some, hi - lo, 0)
        self.sums["error"] += error
        self.sums["squared"] += error**2
        self.sums["variance"] += found.error**2
        self.sums["power"] += found.power
        if scale == "plain":
            self.sums["right"] += some & (((lo > 0) & (self.true > 0)) | ((hi < 0) & (self.true < 0)))
            self.sums["wrong"] += some & (((lo > 0) & (self.true < 0)) | ((hi < 0) & (self.true > 0)))
        else:
            lo, hi = found.interval("plain")
            self.sums["held plain"] += some & (lo <= self.true) & (self.true <= hi)


class RankTally:
    """Sums over draws of how well the order of the models comes out."""

    def __init__(self, true):
        self.true, self.sums = true, defaultdict(float)
        self.order = np.sign(true[:, None] - true)

    def add(self, found, _):
        """Add the estimates of one draw."""
        first = np.argmax(found.value)
        self.sums["best"] += float(self.true[first] == self.true.max())
        self.sums["behind"] += float(self.true.max() - self.true[first])
        n_pairs = len(self.true) * (len(self.true) - 1)
        order = np.sign(found.value[:, None] - found.value)
        self.sums["tau"] += float((order * self.order).sum() / max(n_pairs, 1))


def count_below(held, intervals) -> int:
    """Return how many coverages are surely below 93.5 %: by the 99.9 % intervals of Clopper and Pearson."""
    upper = betaincinv(held + 1, np.maximum(intervals - held, 1e-9), 0.9995)
    return int(np.count_nonzero(upper < LEAST))


def summed(out: Path):
    """Return sums over blocks by data set, metric, size, arm and kind, numbers of draws, and true values."""
    sums, draws, true, alone = {}, defaultdict(int), {}, {}
    for line in out.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = row["data"], row["metric"], row["n"]
        draws[key] += BLOCK
        true[key[:2]], alone[key[:2]] = np.array(row["true"]), row["alone"]
        for arm, found in row["arms"].items():
            for kind, values in zip(KINDS, found, strict=False):
                into = sums.setdefault((*key, arm, kind), defaultdict(float))
                for name, numbers in values.items():
                    into[name] = into[name] + np.array(numbers)
    return sums, draws, true, alone


def write_summary(out: Path, summary: Path) -> None:
    """Write means over models or pairs, one row for each cell, and print how many there are."""
    sums, draws, true, alone = summed(out)
    rows, plain = [], {}
    for (data, metric, n, arm, kind), found in sums.items():
        design, proposals, power = arm.split(" | ")
        plain.setdefault((data, metric, n, kind), found)
        row = {"data": data, "metric": metric, "n": n, "kind": kind, "design": design}
        row |= {"proposals": proposals, "power": power, "draws": draws[data, metric, n]}
        if kind != "values" and (len(true[data, metric]) == 1 or (kind == "ranks" and metric in NO_ORDER)):
            continue
        of = ranks if kind == "ranks" else coverage
        rows.append(row | of(found, plain[data, metric, n, kind], draws[data, metric, n]))
    for (data, metric), values in alone.items():
        for proposals, value in values.items():
            row = {"data": data, "metric": metric, "kind": "alone", "proposals": proposals}
            rows.append(row | alone_of(np.array(value), true[data, metric]))
    pl.DataFrame(rows, infer_schema_length=None).write_csv(summary)
    print(f"{len(rows):,} rows in {summary}")


def coverage(s, plain, draws) -> dict[str, float | int | None]:
    """Return means and medians over the models or pairs with an interval in at least half of the draws."""
    n = len(s["intervals"])
    if not n:
        return {"values": 0}
    most = s["intervals"] >= draws / 2
    row = {"values": n, "with_interval": int(most.sum()), "none": _round(1 - s["intervals"].mean() / draws)}
    if not most.any():
        return row
    held, width = (s[name][most] / s["intervals"][most] for name in ("held", "width"))
    own = plain["width"][most] / np.maximum(plain["intervals"][most], 1)
    deviation = np.sqrt(s["squared"] / draws)
    n_few = (draws - s["intervals"]).sum()
    row |= {
        "coverage": _round(held.mean()),
        "least": _round(held.min()),
        "below": count_below(s["held"][most], s["intervals"][most]),
        "few": _round(s["held too few"].sum() / n_few) if n_few else None,
        "half_width": _round(50 * np.median(width), 3),
        "narrower": _round(np.median(own[own > 0] / width[own > 0]) if (own > 0).any() else None, 3),
        "bias": _round(100 * np.abs(s["error"] / draws).mean(), 3),
        "calibration": _round(np.median(np.sqrt(s["variance"] / draws) / deviation), 3),
        "weight": _round(s["power"].mean() / draws, 3),
    }
    if "right" in s:
        row |= {name: _round(s[name].mean() / draws, 5) for name in ("right", "wrong")}
    return row


def ranks(s, _, draws) -> dict[str, float | int | None]:
    """Return how often the best model is the best, Kendall's τ, and the points that the choice costs."""
    best, tau, behind = (float(s[name][0]) / draws for name in ("best", "tau", "behind"))
    return {"best": _round(best), "tau": _round(tau), "behind": _round(100 * behind, 3)}


def alone_of(value, true) -> dict[str, float | int | None]:
    """Return by how many points values on proposed label sets alone are off, and what order they give."""
    bias, first = 100 * (value - true), np.argmax(value)
    n_pairs = max(len(true) * (len(true) - 1), 1)
    tau = (np.sign(value[:, None] - value) * np.sign(true[:, None] - true)).sum() / n_pairs
    row = {"values": len(true), "bias": _round(bias.mean(), 2)}
    row |= {"bias_least": _round(bias.min(), 2), "bias_most": _round(bias.max(), 2)}
    row |= {"best": float(true[first] == true.max()), "tau": _round(tau)}
    return row | {"behind": _round(100 * (true.max() - true[first]), 3)}


def _round(x, digits=4):
    return None if x is None else round(float(x), digits)
