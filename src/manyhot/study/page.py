"""The page of a study, like the results section of a paper: question, answer, method, results, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from manyhot._version import __version__
from manyhot.core.effects import BETTER, BOTH_WAYS, PERHAPS_LITTLE, SAME, UNDECIDED, WORSE
from manyhot.files import write_text
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, ListingRow
from manyhot.report.page import asset, environment, policy
from manyhot.report.prerender import draw_inline, style
from manyhot.report.text import Metric, counted, listed
from manyhot.study.claims import (
    NOT_RUN,
    RULE,
    EffectRow,
    about,
    adjusted_with,
    evidence,
    fixed_sentence,
    format_value,
    p_value,
)
from manyhot.study.plan import ALL, BETTER_WORSE, Across, Claim, Study, StudyMetric, StudyRun
from manyhot.study.runner import TRAINING, BuildRecord, Undone
from manyhot.study.study_file import Opening, study_metrics

Made = Mapping[str, pa.Table]

_VERDICT_NAMES = {
    SAME: "No difference",
    BOTH_WAYS: "Goes both ways",
    UNDECIDED: "Undecided",
    NOT_RUN: "Not run",
}

_FEW_SEEDS = 5
"""Number of seeds below which the page notes that intervals are rough."""


def write_study_page(
    study: Study,
    opening: Opening,
    made: Made,
    runs: Sequence[StudyRun],
    undone: Sequence[Undone],
    out: Path,
    *,
    smoke: bool = False,
    call: str = "",
) -> Path:
    """Write the page ``report/NAME.html`` of a study and return its path.

    Parameters
    ----------
    made : Mapping of str to pyarrow.Table
        ``runs``, ``means`` and ``effects``.
    runs : sequence of StudyRun
        The selected runs.
    out : Path
        The folder of all studies.
    call : str
        The command. By default, the command in the docstring of the study file.
    """
    metrics = study_metrics(study)
    table = study.table or tuple(dict.fromkeys(c.metric for c in study.claims))
    effects, means = made["effects"].to_pylist(), made["means"].to_pylist()
    verdicts = _page_verdicts(study, effects, metrics)
    page = {
        "title": study.title,
        "question": study.question,
        "warning": _SMOKE if smoke else "",
        "verdicts": [v for v in verdicts if v["main"]],
        "further": [v for v in verdicts if not v["main"]],
        "rule": RULE,
        "about": list(filter(None, (study.about, _compute(study, runs)))),
        "setup": {
            "Arms": study.grid.arms,
            "Data sets": study.grid.data_sets,
            "Networks": study.grid.networks,
            "Measures": study.measures,
        },
        "effects": _effects(study, effects, metrics),
        "results": _results(means, table, metrics),
        "across": _across(study, means, metrics),
        "limits": (*_rough(study), *study.limits),
        "not_run": (*study.not_run, *_not_run(undone)),
        "command": call or opening.command,
        "version": __version__,
    }
    named = {
        name: Metric(metric.name, metric.label, "", metric.better == "lower", metric.percent)
        for name, metric in metrics.items()
    }
    path = out / "report" / f"{study.name}.html"
    write_text(path, _rendered(page, *_draw(made, named, table)))
    return path


_SMOKE = "This was a smoke run with the smallest possible settings. Its numbers are meaningless."


def _page_verdicts(
    study: Study, effects: Sequence[EffectRow], metrics: Mapping[str, StudyMetric]
) -> list[dict[str, Any]]:
    """Return the name, sentence and evidence of each verdict, its kind, and whether its claim is main."""
    found = []
    for claim in study.claims:
        rows = [r for r in effects if r["claim"] == claim.name]
        kind = rows[0]["verdict"]
        told = evidence(claim, rows, metrics, len(adjusted_with(claim, study.claims)))
        text = fixed_sentence(claim, rows[0], metrics).removeprefix(f"{_word(claim, kind)}: ")
        text = text[0].upper() + text[1:]
        tone = kind.removesuffix(PERHAPS_LITTLE).replace(" ", "-")
        if kind not in _VERDICT_NAMES and claim.called != BETTER_WORSE:
            tone = "told"
        said = {"word": _word(claim, kind), "sentence": text, "evidence": told and f"({told})"}
        found.append({"kind": tone, "main": claim.main, **said})
    return found


def _word(claim: Claim, verdict: str) -> str:
    """Return the name of a verdict."""
    side = verdict.removesuffix(PERHAPS_LITTLE)
    name = _VERDICT_NAMES.get(side) or dict(zip((BETTER, WORSE), claim.called, strict=True))[side]
    return name if side == verdict else f"{name}, perhaps little"


def _compute(study: Study, runs: Sequence[StudyRun]) -> str:
    """Return the number of trained networks, the time, and the device."""
    told = [BuildRecord.read(run.folder / "run.json").made for run in runs]
    trained = [made[TRAINING] for made in told if TRAINING in made]
    if not trained:
        return "No network was trained."
    names = {f"measure {m.name}" for m in study.measures}
    measuring = sum(made[name]["seconds"] for made in told for name in names & set(made))
    machines = Counter(made["machine"] for made in trained)
    return (
        f"Training {counted(len(trained), 'network')} took "
        f"{_time(sum(made['seconds'] for made in trained))} on "
        f"{listed([name for name, _ in machines.most_common()], 3)}, and the measurements took "
        f"{_time(measuring)}. Seeds: {', '.join(map(str, study.grid.seeds))}. Studies with the same grid "
        "share these networks."
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


_HEADS = (
    ("claim", False, "metric, arm and comparison; the rows below show each pair"),
    ("first", True, "mean of the first side"),
    ("second", True, "mean of the second side"),
    ("better by", True, "with its 95 % interval"),
    ("margin", True, "the smallest difference that matters"),
    ("p", True, "two-sided"),
    ("adjusted p", True, "with Holm's correction over the main claims; for a further claim, over all claims"),
    ("d", True, "effect in units of the standard deviation over seeds, with Hedges' correction"),
    ("wins", True, "share of seeds for which the first side is better"),
    ("p of Q", True, "whether pairs differ"),
    ("verdict", False, "by the rule"),
)


def _effects(study: Study, effects: Sequence[EffectRow], metrics: Mapping[str, StudyMetric]) -> Listing:
    claims = {claim.name: claim for claim in study.claims}
    rows = [
        ListingRow(_effect_cells(claims[r["claim"]], r, metrics), own=r["dataset"] is None) for r in effects
    ]
    note = (
        "The first row of a claim shows the mean over all pairs of data set and network; the rows below show "
        "each pair. The adjusted p is corrected by Holm's method, over the main claims for a main claim and "
        "over all claims for a further claim. The effect size d is Cohen's d with Hedges' correction: the "
        "paired difference in units of its standard deviation over seeds. Wins are the share of seeds for "
        "which the first side is better. A small p-value of Cochran's Q means that pairs differ by more than "
        "seeds and images explain."
    )
    heads = tuple(ColumnHead(*head) for head in _HEADS)
    return Listing("effects-table", "Effects in numbers", heads, tuple(rows), note, folded=True)


def _effect_cells(claim: Claim, row: EffectRow, metrics: Mapping[str, StudyMetric]) -> tuple[str, ...]:
    metric = metrics[claim.metric]
    place = ", ".join(p for p in (row["dataset"], row["network"]) if p not in (None, ALL))
    return (
        place or about(claim, metrics),
        _value(metric, row["value"]),
        _value(metric, row["value_against"]),
        _with_ends(metric, row["effect"], row["lo"], row["hi"]),
        format_value(metric, row["margin"]),
        _p(row["p"]),
        _p(row["p_adjusted"]),
        "" if row["d"] is None else f"{row['d']:.2f}".replace("-", "−"),
        "" if row["wins"] is None else f"{100 * row['wins']:.0f} %",
        _p(row["q_p"]),
        _word(claim, row["verdict"]).lower(),
    )


def _p(p: float | None) -> str:
    return "" if p is None else p_value(p).removeprefix("= ")


def _value(metric: StudyMetric, value: float | None) -> str:
    return "" if value is None else format_value(metric, value)


def _with_ends(metric: StudyMetric, value: float | None, lo: float | None, hi: float | None) -> str:
    if value is None:
        return ""
    ends = "" if lo is None or hi is None else f" ({format_value(metric, lo)} to {format_value(metric, hi)})"
    return format_value(metric, value) + ends


def _results(
    means: Sequence[EffectRow], table: Sequence[str], metrics: Mapping[str, StudyMetric]
) -> tuple[Listing, ...]:
    """Return a table of arms × metrics for each data set and network."""
    own = [r for r in means if r["slice"] == ALL and r["metric"] in table and r["arm"] != ALL]
    places = dict.fromkeys((r["dataset"], r["network"]) for r in own)
    names = [name for name in table if any(r["metric"] == name for r in own)]
    heads = (ColumnHead("arm", False), *(_head(metrics[name]) for name in names))
    found = []
    for place in places:
        here = {(r["arm"], r["metric"]): r for r in own if (r["dataset"], r["network"]) == place}
        rows = tuple(
            ListingRow((arm, *(_cell(metrics[name], here.get((arm, name))) for name in names)))
            for arm in dict.fromkeys(arm for arm, _ in here)
        )
        title = ", ".join(place)
        found.append(Listing(f"results-{'-'.join(place)}", title, heads, rows, _counts(here.values())))
    return tuple(found)


def _head(metric: StudyMetric) -> ColumnHead:
    unit, arrow = " (%)" if metric.percent else "", "↓" if metric.better == "lower" else "↑"
    return ColumnHead(f"{metric.label}{unit} {arrow}", title=f"{metric.better} is better")


def _cell(metric: StudyMetric, row: EffectRow | None) -> str:
    if row is None:
        return "–"
    half = "" if row["hi"] is None else f" ± {format_value(metric, row['hi'] - row['value'])}"
    return format_value(metric, row["value"]) + half


def _counts(rows: Iterable[EffectRow]) -> str:
    found = list(rows)
    seeds, n = (sorted({r[c] for r in found}) for c in ("n_seeds", "n"))
    of = (" to ".join(f"{v:,}" for v in dict.fromkeys((c[0], c[-1]))) for c in (seeds, n))
    return (
        "Mean over {} seeds ± half the width of its 95 % interval over seeds and, if they were resampled, "
        "images; n = {}.".format(*of)
    )


def _across(study: Study, means: Sequence[EffectRow], metrics: Mapping[str, StudyMetric]) -> Listing | None:
    """Return a table of the measures across runs; None if there are none."""
    names = [metric.name for m in study.measures if isinstance(m, Across) for metric in m.metrics]
    rows = [r for r in means if r["metric"] in names and r["slice"] == ALL]
    if not rows:
        return None
    data_sets = list(dict.fromkeys(r["dataset"] for r in rows))
    entries = []
    for name in dict.fromkeys(r["metric"] for r in rows):
        here = {r["dataset"]: r for r in rows if r["metric"] == name}
        cells = (_cell(metrics[name], here.get(d)) for d in data_sets)
        entries.append(ListingRow((metrics[name].label, *cells)))
    heads = (ColumnHead("", False), *(ColumnHead(d) for d in data_sets))
    note = "Mean over seeds ± half of its 95 % interval."
    return Listing("across", "Across networks and arms", heads, tuple(entries), note)


def _rough(study: Study) -> tuple[str, ...]:
    n = len(study.grid.seeds)
    if n >= _FEW_SEEDS:
        return ()
    return (f"With {n} seeds, intervals are rough, because the spread over seeds is itself uncertain.",)


def _not_run(undone: Sequence[Undone]) -> list[str]:
    """Return the missing runs and measures, grouped by reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in undone:
        reasons.setdefault((one.step, one.reason), []).append(one.what)
    return [f"{listed(names, 6)}: {step}: {reason}" for (step, reason), names in reasons.items()]


def _draw(
    tables: Mapping[str, pa.Table], metrics: Mapping[str, Metric], format_value: Sequence[str]
) -> tuple[list[Figure], list[Figure]]:
    try:
        import altair as alt
        import vl_convert  # noqa: F401
    except ImportError:
        return [], []
    from manyhot.study.effect_figures import draw_effects, draw_seeds

    with alt.utils.schemapi.debug_mode(False):
        return draw_effects(tables["effects"], metrics), draw_seeds(
            tables["runs"], tables["means"], format_value, metrics
        )


def _rendered(page: Mapping[str, Any], effects: Sequence[Figure], seeds: Sequence[Figure]) -> str:
    """Return the page as HTML, without any scripts."""
    drawn = draw_inline([*effects, *seeds])
    css = asset("report.css") + asset("study.css") + (style() if drawn else "")
    return (
        environment()
        .get_template("study.html")
        .render(
            page=page,
            effects=effects,
            seeds=seeds,
            figures=None,
            drawn=drawn,
            policy=policy(),
            css=Markup(css),  # noqa: S704  our own files
        )
    )
