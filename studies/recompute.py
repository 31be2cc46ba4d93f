"""Recompute every verdict of the committed studies, in NumPy and SciPy, without manyhot.

Call: python studies/recompute.py

The script reads, of ``studies/answers/NAME``, the value of every run (``runs.csv``), the variance over
images of every difference (``differences.csv``), and which metrics are better if lower (``means.csv``). Of
``effects.csv`` it reads the claims alone: what is compared where, the margin, and which are main claims. It
prints each verdict that it computes, and a mark if the table has another one.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

ANSWERS = Path(__file__).parent / "answers"
STUDIES = ("transfer", "uncertainty", "benchmarking", "robustness")
ALPHA = 0.05
ROUNDING = 1e-12

Row = dict[str, str]


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its interval, p-value, and squared standard error and its degrees of freedom."""

    value: float
    lo: float
    hi: float
    p: float
    variance: float
    df: float


@dataclass(frozen=True)
class Verdict:
    """A claim of a study as recomputed, and as the committed table has it."""

    claim: str
    effect: Estimate
    p_adjusted: float
    q: float
    q_p: float
    verdict: str
    committed: Row


def rows(folder: Path, name: str) -> list[Row]:
    """Return the rows of a table."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def estimate(value: float, parts: list[tuple[float, float]]) -> Estimate:
    """Return the interval of a value from variances and their degrees of freedom (Satterthwaite 1946)."""
    variance = sum(v for v, _ in parts)
    df = variance**2 / sum(v**2 / f for v, f in parts)
    error = math.sqrt(variance)
    half = stats.t(df).ppf(1 - ALPHA / 2) * error
    return Estimate(value, value - half, value + half, 2 * stats.t(df).sf(abs(value) / error), variance, df)


def differences(claim: Row, cell: Row, runs: list[Row], lower: set[str]) -> np.ndarray:
    """Return the difference of both sides at each seed in one cell, above 0 if the first is better."""

    def values(arm: str, metric: str) -> dict[str, float]:
        where = {"dataset": cell["dataset"], "network": cell["network"], "slice": claim["slice"]}
        key = {**where, "arm": arm, "metric": metric}
        return {r["seed"]: float(r["value"]) for r in runs if all(r[c] == v for c, v in key.items())}

    one = values(claim["arm"], claim["metric"])
    other = values(claim["against"], claim["metric"]) or values(claim["arm"], claim["against"])
    if not other:  # a number
        other = dict.fromkeys(one, float(claim["against"]))
    sign = -1 if claim["metric"] in lower else 1
    return sign * np.array([one[seed] - other[seed] for seed in one if seed in other])


def over_images(row: Row) -> list[tuple[float, float]]:
    """Return the variance over images of a row of ``differences``, if there is one."""
    return [(float(row["variance_images"]), float(row["df_images"]))] if row["variance_images"] else []


def cochran(cells: list[Estimate]) -> tuple[float, float]:
    """Return Cochran's Q (1954), and its p-value by Welch's approximation (1951)."""
    k = len(cells)
    if k < 2:
        return math.nan, math.nan
    weight = np.array([1 / c.variance for c in cells])
    value, df = np.array([c.value for c in cells]), np.array([c.df for c in cells])
    q = float((weight * (value - np.average(value, weights=weight)) ** 2).sum())
    spread = float(((1 - weight / weight.sum()) ** 2 / df).sum())
    f = q / (k - 1) / (1 + 2 * (k - 2) * spread / (k**2 - 1))
    return q, float(stats.f(k - 1, (k**2 - 1) / (3 * spread)).sf(f))


def holm(p: list[float]) -> list[float]:
    """Return p-values with Holm's correction (1979)."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = highest
    return adjusted


def decide(effect: Estimate, margin: float, p_adjusted: float, cells: list[Estimate], q_p: float) -> str:
    """Return the verdict by the rule."""
    opposed = any(c.lo > 0 for c in cells) and any(c.hi < 0 for c in cells)
    both_signs = any(c.value > ROUNDING for c in cells) and any(c.value < -ROUNDING for c in cells)
    if opposed or (both_signs and q_p < ALPHA):
        return "goes both ways"
    if -margin <= effect.lo and effect.hi <= margin:
        return "same"
    if effect.lo <= 0 <= effect.hi or p_adjusted >= ALPHA:
        return "undecided"
    side = "better" if effect.lo > 0 else "worse"
    near = min(abs(effect.lo), abs(effect.hi))
    return side if near >= margin else f"{side}, perhaps by less than matters"


def verdicts(name: str) -> Iterator[Verdict]:
    """Yield the verdict on each claim of a study."""
    folder = ANSWERS / name
    runs, effects = rows(folder, "runs"), rows(folder, "effects")
    images = {(r["claim"], r["dataset"], r["network"]): r for r in rows(folder, "differences")}
    lower = {r["metric"] for r in rows(folder, "means") if r["better"] == "lower"}
    claims = [r for r in effects if not r["dataset"]]
    pooled, single = [], []
    for claim in claims:
        places = [r for r in effects if r["claim"] == claim["claim"] and r["dataset"]]
        found = [differences(claim, place, runs, lower) for place in places]
        over_seeds = [(float(d.var(ddof=1)) / len(d), len(d) - 1) for d in found]
        own = [over_images(images[claim["claim"], r["dataset"], r["network"]]) for r in places]
        single.append(
            [
                estimate(float(d.mean()), [seeds, *image])
                for d, seeds, image in zip(found, over_seeds, own, strict=True)
            ]
        )
        shares = [(v / len(found) ** 2, df) for v, df in over_seeds]
        whole = over_images(images[claim["claim"], "", ""])
        pooled.append(estimate(float(np.mean([d.mean() for d in found])), [*shares, *whole]))
    main = [claim["main"] == "true" for claim in claims]
    over_all = holm([effect.p for effect in pooled])
    over_main = iter(holm([effect.p for effect, is_main in zip(pooled, main, strict=True) if is_main]))
    for claim, is_main, p, effect, cells in zip(claims, main, over_all, pooled, single, strict=True):
        adjusted = next(over_main) if is_main else p
        q, q_p = cochran(cells)
        verdict = decide(effect, float(claim["margin"]), adjusted, cells, q_p)
        yield Verdict(claim["claim"], effect, adjusted, q, q_p, verdict, claim)


def main() -> int:
    """Print all verdicts; return 1 if one differs from the committed table."""
    wrong = 0
    for name in STUDIES:
        print(name)
        for found in verdicts(name):
            same = found.verdict == found.committed["verdict"]
            wrong += not same
            mark = "" if same else f"  <- the table says: {found.committed['verdict']}"
            e = found.effect
            print(f"  {found.claim}: {e.value:+.4f} ({e.lo:+.4f} to {e.hi:+.4f}), {found.verdict}{mark}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
