"""Verdicts: sentences written beforehand, with the values that decided between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from manyhot.core.effects import ALPHA, BETTER, BOTH_WAYS, PERHAPS_LITTLE, ROUNDING, SAME, UNDECIDED, WORSE
from manyhot.study.plan import ALL, Claim, StudyMetric

RULE = (
    "Differences are taken at equal seeds and signed so that values above 0 are better. They are averaged "
    "over seeds, then over pairs of data set and network. The 95 % interval is computed over seeds and, if a "
    "measure resamples images, over images. The verdict is the first of these that applies: goes both ways "
    "(one pair has an interval above 0 and another pair an interval below 0; or differences of pairs lie on "
    "both sides of 0, and Cochran's Q has p < 0.05), no difference larger than the margin (the interval lies "
    "between −margin and margin), better (the interval lies above 0, and the p-value with Holm's correction "
    "is below 0.05), worse (the interval lies below 0, and the corrected p-value is below 0.05), or "
    "undecided. “Perhaps by less than matters” is added to better and worse if the interval contains "
    "differences smaller than the margin. Holm's correction is applied over the main claims for a main "
    "claim, and over all claims for a further claim."
)
"""The rule for verdicts, for the page and the docs."""


EffectRow = Mapping[str, Any]
"""A row of the table ``effects``, or of another."""


NOT_RUN = "not run"

CLAIM_VERDICTS = (
    BETTER,
    BETTER + PERHAPS_LITTLE,
    WORSE,
    WORSE + PERHAPS_LITTLE,
    SAME,
    BOTH_WAYS,
    UNDECIDED,
    NOT_RUN,
)
"""All verdicts, as in the table ``effects``."""


def adjusted_with(claim: Claim, claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims over which the p-value of a claim is adjusted: the main claims, or all."""
    return [one for one in claims if one.main or not claim.main]


def sentence(
    claim: Claim, rows: Sequence[EffectRow], metrics: Mapping[str, StudyMetric], n_claims: int
) -> str:
    """Return the verdict on a claim: its `fixed_sentence`, with its `evidence` in brackets."""
    told = evidence(claim, rows, metrics, n_claims)
    text = fixed_sentence(claim, rows[0], metrics)
    return f"{text.rstrip('.')} ({told})." if told else text


def fixed_sentence(claim: Claim, row: EffectRow, metrics: Mapping[str, StudyMetric]) -> str:
    """Return the sentence that the claim provides for the verdict of a row."""
    side = row["verdict"].removesuffix(PERHAPS_LITTLE)
    fixed = {BETTER: claim.better, WORSE: claim.worse, SAME: claim.same}
    if side not in fixed:
        return f"{side.capitalize()}: {about(claim, metrics)}."
    little = PERHAPS_LITTLE if side != row["verdict"] else ""
    return f"{fixed[side].rstrip('.')}{little}."


def evidence(
    claim: Claim, rows: Sequence[EffectRow], metrics: Mapping[str, StudyMetric], n_claims: int
) -> str:
    """Return the evidence for a verdict; empty if nothing was run.

    Parameters
    ----------
    claim : Claim
    rows : sequence of Mapping
        The effects of the claim as in the table: first the mean over all pairs of data set and network, then
        each pair.
    metrics : Mapping
        Metrics by name.
    n_claims : int
        Number of claims over which the p-value is adjusted.
    """
    metric, (row, *single) = metrics[claim.metric], rows
    if row["verdict"] == NOT_RUN:
        return ""
    told = [f"{_sides(claim, row, metrics)}: {measured(metric, row)}"]
    if row["verdict"] in (SAME, UNDECIDED) or row["verdict"].endswith(PERHAPS_LITTLE):
        told.append(f"margin {difference(metric, claim.margin).lstrip('+')}")
    if len(single) > 1:
        told.append(_pairs(claim, metric, single))
        if row["q_p"] is not None and row["q_p"] < ALPHA:
            told.append(f"these differ (Cochran's Q {row['q']:.1f}, p {p_value(row['q_p'])})")
    if n_claims > 1 and row["p_adjusted"] is not None:
        main = "main " if claim.main else ""
        told.append(f"p {p_value(row['p_adjusted'])}, adjusted for {n_claims} {main}claims{_marked(row)}")
    return "; ".join(told)


def _pairs(claim: Claim, metric: StudyMetric, single: Sequence[EffectRow]) -> str:
    """Return at how many pairs a claim holds, at how many it is decided, and the difference at each."""
    where = "pairs of data set and network" if claim.arm != ALL else "data sets"
    better = sum(r["effect"] > ROUNDING for r in single)
    sign = 1 if metric.better == "higher" else -1
    each = ", ".join(difference(metric, sign * r["effect"]).removesuffix(" points") for r in single)
    decided = ", ".join(
        f"{sum(r['verdict'].removesuffix(PERHAPS_LITTLE) == verdict for r in single)} {word.lower()}"
        for verdict, word in zip((BETTER, WORSE), claim.called, strict=True)
    )
    first = claim.called[0].lower()
    return f"{first} in {better} of {len(single)} {where} ({each}), each by itself: {decided}"


def _marked(row: EffectRow) -> str:
    """Return a mark if the interval excludes 0, but the adjusted p-value does not decide."""
    if row["verdict"] != UNDECIDED or row["lo"] is None or row["lo"] <= 0 <= row["hi"]:
        return ""
    return ", so that the claim is undecided although the interval excludes 0"


def _sides(claim: Claim, row: EffectRow, metrics: Mapping[str, StudyMetric]) -> str:
    """Return the means of both sides, such as ``mAP 63.1 against 62.0``."""
    metric = metrics[claim.metric]
    one, other = (format_value(metric, row[side]) for side in ("value", "value_against"))
    if row["verdict"] in (UNDECIDED, BOTH_WAYS):  # whose sentence names the metric already
        return f"{one} against {other}"
    than = f"{metrics[claim.than].label} " if isinstance(claim.than, str) else ""
    return f"{metric.label} {one} against {than}{other}"


def about(claim: Claim, metrics: Mapping[str, StudyMetric]) -> str:
    """Return the comparison of a claim, such as ``sets against label in mAP``."""
    metric = metrics[claim.metric].label
    if claim.against:
        return f"{claim.arm} against {claim.against} in {metric}"
    than = metrics[claim.than].label if isinstance(claim.than, str) else f"{claim.than:g}"
    return f"{metric} against {than}" + ("" if claim.arm == ALL else f", in {claim.arm}")


def measured(metric: StudyMetric, row: EffectRow) -> str:
    """Return a difference with its measured sign, and its interval."""
    sign = 1 if metric.better == "higher" else -1
    ends = sorted(sign * row[end] for end in ("lo", "hi") if row[end] is not None)
    told = [difference(metric, sign * row["effect"])]
    few = "nothing varies" if row["error_seeds"] is not None else "there is only one seed"
    told.append(
        f"95 % interval {' to '.join(format_value(metric, e) for e in ends)}"
        if ends
        else f"no interval, as {few}"
    )
    if sign < 0:
        told.append("lower is better")
    return ", ".join(told)


def difference(metric: StudyMetric, value: float) -> str:
    """Return ``+1.2 points`` or ``+0.012``."""
    unit = " points" if metric.percent else ""
    text = format_value(metric, value)
    sign = "+" if value > 0 and text.strip("0.") else ""
    return f"{sign}{text}{unit}"


def format_value(metric: StudyMetric, value: float) -> str:
    """Return a value as it is shown on the page: in percent with one decimal, or with three decimals.

    A value that would round to 0 is shown with more decimals, because a verdict may depend on its sign.
    """
    if math.isnan(value):
        return "–"
    drawn, decimals = (100 * value, 1) if metric.percent else (value, 3)
    text = f"{drawn:.{decimals}f}"
    if not float(text) and abs(drawn) >= 1e-5:
        text = f"{drawn:.{-math.floor(math.log10(abs(drawn)))}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def p_value(p: float) -> str:
    """Return ``= 0.012``, small ones as ``< 0.001``."""
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"
