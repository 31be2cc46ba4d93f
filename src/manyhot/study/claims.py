"""The claims of a study: their differences, variances, effects and verdicts, and the verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot import tables
from manyhot.core.effects import (
    ALPHA,
    BETTER,
    BOTH_WAYS,
    PERHAPS_LITTLE,
    ROUNDING,
    SAME,
    UNDECIDED,
    WORSE,
    Effect,
    SeedValues,
    Variance,
    effect_of,
    heterogeneity,
    images_variance,
    seed_variances,
    sum_of,
    verdict_of,
)
from manyhot.core.model_pairs import holm
from manyhot.study.plan import ALL, Claim, Measurement, Study, StudyMetric
from manyhot.study.study_file import study_metrics
from manyhot.study.tables import Measurements, Place, cell_of, or_null
from manyhot.tables.definitions import COUNT, FLAG, REAL, TEXT, declare_table

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

_OF_CLAIM = (
    TEXT("claim", "the claim"),
    TEXT.nullable("dataset", "the data set; null for the mean over all pairs"),
    TEXT.nullable("network", "the network; null for the mean over all pairs"),
)
"""The difference of a claim, over all pairs of data set and network or for one."""

declare_table(
    "differences",
    (
        *_OF_CLAIM,
        REAL("difference", "mean difference; above 0 if the arm is better"),
        REAL.nullable("variance_seeds", "variance of the mean difference over seeds; null for a single seed"),
        REAL.nullable("df_seeds", "degrees of freedom of this variance"),
        COUNT("n_seeds", "number of differences at equal seeds"),
        REAL.nullable(
            "variance_images",
            "variance of the mean difference over images; null without resamples, NaN if undefined",
        ),
        REAL.nullable("df_images", "degrees of freedom of this variance"),
        COUNT("n", "number of images (minimum over seeds and pairs)"),
    ),
)

declare_table(
    "effects",
    (
        *_OF_CLAIM,
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        TEXT("arm", "the arm"),
        TEXT("against", "the other arm, metric or number"),
        REAL.nullable("value", "mean of the arm over common seeds, then over pairs"),
        REAL.nullable("value_against", "the same mean for the other side"),
        REAL.nullable("effect", "difference of the two means; above 0 if the arm is better, null if not run"),
        REAL.nullable("lo", "lower end of the 95 % interval over seeds and images"),
        REAL.nullable("hi", "upper end of the 95 % interval"),
        REAL.nullable("p", "two-sided p-value of no effect"),
        REAL.nullable(
            "p_adjusted",
            "p-value corrected by Holm's method: for a main claim, over the main claims; for any other "
            "claim, over all claims; null for single pairs",
        ),
        REAL.nullable("q", "Cochran's Q over the pairs; null for single pairs"),
        REAL.nullable("q_p", "p-value of Q, by Welch's approximation; small if pairs differ"),
        REAL.nullable("d", "effect in units of the standard deviation over seeds, with Hedges' correction"),
        REAL.nullable("wins", "share of seeds for which the arm is better; a tie counts one half"),
        REAL.nullable("error_seeds", "standard error over seeds"),
        REAL.nullable(
            "error_images",
            "standard error over images; null without resamples: the interval is then computed over seeds",
        ),
        REAL.nullable("df", "degrees of freedom of the interval"),
        COUNT("n_seeds", "number of differences at equal seeds"),
        COUNT("n_pairs", "number of averaged pairs of data set and network"),
        REAL("margin", "the smallest difference that matters, fixed beforehand"),
        FLAG("main", "whether the claim is a main claim of the study"),
        TEXT("verdict", "by the rule", values=CLAIM_VERDICTS),
        TEXT.nullable("sentence", "the verdict in words; null for single pairs"),
    ),
)


@dataclass(frozen=True, eq=False)
class PairedValues:
    """A claim for one data set and network, with the values of both sides at their common seeds.

    Attributes
    ----------
    sign : int
        -1 if lower is better.
    """

    place: Place
    one: list[Measurement]
    other: list[Measurement]
    sign: int

    @property
    def cell(self) -> SeedValues:
        """The differences, above 0 if the arm is better."""
        a, b = cell_of(self.one, self.place[0]), cell_of(self.other, self.place[0])
        replicates = None
        if a.replicates is not None:
            # A constant has no images.
            there = b.values[:, None] if b.replicates is None else b.replicates
            replicates = self.sign * (a.replicates - there)
        return SeedValues(self.sign * (a.values - b.values), replicates, self.place[0])


def paired_values(claim: Claim, study: Study, measurements: Measurements) -> list[PairedValues]:
    """Return the values of a claim for each data set and network for which both sides were measured."""
    sign = 1 if study_metrics(study)[claim.metric].better == "higher" else -1
    found = []
    for place in claim_places(claim, study):
        one = measurements.by_seed(place, claim.arm, claim.metric, claim.slice)
        other = _other(claim, place, one, measurements)
        seeds = [seed for seed in one if seed in other]
        if seeds:
            found.append(PairedValues(place, [one[s] for s in seeds], [other[s] for s in seeds], sign))
    return found


def _other(
    claim: Claim, place: Place, one: Mapping[int, Measurement], measurements: Measurements
) -> dict[int, Measurement]:
    if claim.against:
        return measurements.by_seed(place, claim.against, claim.metric, claim.slice)
    if isinstance(claim.than, str):
        return measurements.by_seed(place, claim.arm, claim.than, claim.slice)
    return {seed: Measurement(claim.metric, float(claim.than or 0.0), m.n) for seed, m in one.items()}


def claim_places(claim: Claim, study: Study) -> list[Place]:
    """Return the pairs of data set and network of a claim."""
    grid = study.grid
    data_sets = claim.data_sets or tuple(d.name for d in grid.data_sets)
    networks = claim.networks or tuple(n.name for n in grid.networks)
    if claim.arm == ALL:
        networks = (ALL,)
    return [(d, n) for d in data_sets for n in networks if (d, n) not in grid.without]


def differences_table(study: Study, measurements: Measurements) -> pa.Table:
    """Return the difference of each claim and its variances, over all pairs and for each pair.

    From this table and the values of ``runs``, `effects_table` can recompute the effects without resamples.
    """
    made = []
    for claim in study.claims:
        own = paired_values(claim, study, measurements)
        made += [_difference(claim, pairs, place) for pairs, place in _rows_of(own)]
    return pa.Table.from_pylist(made, tables.schema("differences"))


def _rows_of(own: list[PairedValues]) -> list[tuple[list[PairedValues], tuple[str | None, str | None]]]:
    """Return all pairs, then each pair, each with its data set and network."""
    whole: list[tuple[list[PairedValues], tuple[str | None, str | None]]] = [(own, (None, None))]
    return whole * bool(own) + [([pair], pair.place) for pair in own]


def _difference(
    claim: Claim, pairs: Sequence[PairedValues], place: tuple[str | None, str | None]
) -> dict[str, Any]:
    cells = [pair.cell for pair in pairs]
    over_seeds, over_images = seed_variances(cells), images_variance(cells)
    resampled = any(cell.replicates is not None for cell in cells)
    return {
        "claim": claim.name,
        "dataset": place[0],
        "network": place[1],
        "difference": float(np.mean([cell.values.mean() for cell in cells])),
        "variance_seeds": or_null(sum(v.variance for v in over_seeds)),
        "df_seeds": or_null(sum_of(over_seeds).df),
        "n_seeds": sum(len(cell.values) for cell in cells),
        "variance_images": over_images.variance if resampled else None,
        "df_images": or_null(over_images.df),
        "n": min(m.n for pair in pairs for m in (*pair.one, *pair.other)),
    }


def effects_table(study: Study, measurements: Measurements, differences: pa.Table) -> pa.Table:
    """Return the effect of each claim, over all pairs of data set and network and for each pair.

    Parameters
    ----------
    measurements : Measurements
        The values. Their resamples are not used.
    differences : pyarrow.Table
        Table ``differences``. Only its variances over images are used.
    """
    variances = {(row["claim"], row["dataset"], row["network"]): row for row in differences.to_pylist()}
    images = {key: _over_images(row) for key, row in variances.items()}
    compared = {claim.name: paired_values(claim, study, measurements) for claim in study.claims}
    pooled = {
        name: effect_of([pair.cell for pair in own], images[name, None, None])
        for name, own in compared.items()
        if own
    }
    adjusted = _adjusted(study, pooled)
    made: list[dict[str, Any]] = []
    for claim in study.claims:
        own = compared[claim.name]
        single = [effect_of([pair.cell], images[claim.name, *pair.place]) for pair in own]
        rows = [_effect(claim, [pair], effect) for pair, effect in zip(own, single, strict=True)]
        row = _effect(claim, own, pooled.get(claim.name), adjusted[claim.name], single)
        n_claims = len(adjusted_with(claim, study.claims))
        for one in (row, *rows):
            variance = variances.get((claim.name, one["dataset"], one["network"]))
            if variance is not None and variance["variance_images"] is None:
                one["error_images"] = None
        row["sentence"] = sentence(claim, [row, *rows], study_metrics(study), n_claims)
        made += [row, *rows]
    return pa.Table.from_pylist(made, tables.schema("effects"))


def _over_images(row: Mapping[str, Any]) -> Variance:
    """Return the variance over images of a row; without resamples, it is 0."""
    variance, df = row["variance_images"], row["df_images"]
    return Variance(0.0, math.nan) if variance is None else Variance(variance, math.nan if df is None else df)


def _adjusted(study: Study, pooled: Mapping[str, Effect]) -> dict[str, float]:
    """Return the p-value of each claim with Holm's correction over the claims of `adjusted_with`."""
    found = {}
    for claim in study.claims:
        family = [one.name for one in adjusted_with(claim, study.claims)]
        p = holm(np.array([pooled[name].p if name in pooled else np.nan for name in family]))
        found[claim.name] = float(p[family.index(claim.name)])
    return found


def _effect(
    claim: Claim,
    at: Sequence[PairedValues],
    effect: Effect | None,
    adjusted: float | None = None,
    single: Sequence[Effect] = (),
) -> dict[str, Any]:
    """Return a row of the table; with an adjusted p, the one over all pairs, of which `single` has each."""
    pooled = adjusted is not None
    row: dict[str, Any] = {
        "claim": claim.name,
        "dataset": None if pooled else at[0].place[0],
        "network": None if pooled else at[0].place[1],
        "metric": claim.metric,
        "slice": claim.slice,
        "arm": claim.arm,
        "against": claim.against or str(claim.than),
        "n_seeds": 0,
        "n_pairs": len(at),
        "margin": claim.margin,
        "main": claim.main,
        "verdict": NOT_RUN,
        "q": None,
        "q_p": None,
    }
    if effect is None:
        return row
    names = ("lo", "hi", "p", "d", "wins", "error_seeds", "error_images", "df")
    q, q_p = heterogeneity(single)
    return {
        **row,
        "value": _mean([c.one for c in at]),
        "value_against": _mean([c.other for c in at]),
        "effect": effect.value,
        **{name: or_null(getattr(effect, name)) for name in names},
        "p_adjusted": or_null(adjusted) if adjusted is not None else None,
        "q": or_null(q),
        "q_p": or_null(q_p),
        "n_seeds": effect.n_seeds,
        "verdict": verdict_of(effect, claim.margin, adjusted, single),
    }


def _mean(sides: Sequence[Sequence[Measurement]]) -> float:
    return float(np.mean([np.mean([m.value for m in side]) for side in sides]))


def doubts(study: Study, measurements: Measurements) -> Iterator[str]:
    """Yield the reasons why measured claims have no effect, or have intervals over seeds alone."""
    undefined, alone = dict[str, str](), list[str]()
    for metric in dict.fromkeys(claim.metric for claim in study.claims):
        own = [row.measurement for _, row in measurements.rows if row.measurement.metric == metric]
        bad = [m for m in own if math.isnan(m.value)]
        if bad:
            undefined[metric] = f"{metric} is undefined in {len(bad):,} of {len(own):,} measurements"
            undefined[metric] += f" (n {min(m.n for m in bad):,})"
        if own and len(bad) < len(own) and all(m.replicates is None for m in own):
            alone.append(metric)
    yield from undefined.values()
    if alone:
        yield (
            f"{', '.join(alone)}: measured without resamples of the images, so intervals are computed over "
            "seeds alone and are too narrow for other images"
        )


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
    """Return on how many pairs a claim is true, on how many it is clear, and the difference on each."""
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
    """Return a mark if the interval excludes 0, but the adjusted p-value is too high."""
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
