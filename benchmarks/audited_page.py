"""The tables of audited-proofs.md, from the committed results.

    python benchmarks/audited_page.py

writes them into the page. A table stands between the line ``% table: NAME`` and the next empty line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from audited_tables import count_below

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "explanation" / "audited-proofs.md"
LEAST = 0.935
OFF = 0.1
"""How much a width may differ from the planned one."""
FEWEST_SHOWN = 0.5
"""Share of draws with an interval from which a coverage is shown."""
RARE = 0.1
"""Share of draws below which a bin is rarely shown."""

NAMES = {"real": "ReaL", "multilabelfy": "Multilabelfy", "cifar10h": "CIFAR-10H", "voc": "VOC"}
POWERS = {"0.0": "sample", "tuned": "ppi++", "1.0": "difference"}
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    """Return the rows of a file of results."""
    return pl.read_csv(HERE / name, infer_schema_length=None).to_dicts()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(x: float | None, digits: int = 1) -> str:
    return "–" if x is None else f"{100 * x:.{digits}f} %"


def points(x: float | None, digits: int = 2) -> str:
    return "–" if x is None else f"{x:.{digits}f}"


def signed(x: float | None, digits: int = 1) -> str:
    return "–" if x is None else f"{x:+.{digits}f}".replace("-", "−")


def times(x: float | None) -> str:
    return "–" if x is None else f"{x:.2f}×"


def held(row: Row) -> str:
    """Return the mean coverage, the least one, and how many are surely below 93.5 %."""
    if row["coverage"] is None:
        return "–"
    below = f", {row['below']} below" if row["below"] else ""
    return f"{100 * row['coverage']:.1f} ({100 * row['least']:.1f}{below})"


def misses(row: Row) -> bool:
    """Return whether the mean coverage, or surely that of a model, is below 93.5 %."""
    return row["coverage"] is not None and (row["coverage"] < LEAST or row["below"] > 0)


def evaluated(**of: Any) -> list[Row]:
    """Return the rows of the simulation of `evaluate`."""
    return [r for r in read("audited_evaluate.csv") if all(r[k] == v for k, v in of.items())]


def simulated(name: str = "audited.csv", **of: Any) -> list[Row]:
    """Return the rows of the simulation of designs."""
    return [r for r in read(name) if all(r[k] == v for k, v in of.items())]


def overview() -> str:
    """All metrics on all images, by data and who proposes: the mean, the lowest, and what has no interval."""
    rows = []
    keys = ("data", "design", "proposed_by", "n")
    every = evaluated(slice="all", estimator="ppi++")
    found = {tuple(r[k] for k in keys) for r in every}
    for key in sorted(found, key=lambda k: (list(NAMES).index(k[0]), k[2], k[1] == "active", k[3])):
        inside = [r for r in every if tuple(r[k] for k in keys) == key]
        some = [r for r in inside if r["coverage"] is not None]
        least = min(some, key=lambda r: r["coverage"])
        mean = sum(r["coverage"] for r in some) / len(some)
        below = f"{sum(r['below'] for r in some)} of {sum(r['with_interval'] for r in some)}"
        few = [f"`{r['metric']}`" for r in inside if r["none"] > FEWEST_SHOWN]
        data, design, by, n = key
        cells = [NAMES[data], design, by, f"{n:,}", f"{least['draws']:,}", percent(mean)]
        cells += [f"{percent(least['coverage'])} (`{least['metric']}`)", below, ", ".join(few) or "–"]
        rows.append(cells)
    heads = ["data", "design", "proposed by", "audited", "draws", "mean coverage", "lowest of a metric"]
    return table([*heads, "surely below", "no interval in most draws"], rows)


def of_slices() -> str:
    """Coverage by slice with the default estimator: means over metrics, and how many miss 93.5 %."""
    rows = []
    for data in NAMES:
        of = evaluated(data=data, design="uniform", estimator="ppi++", proposed_by="labels")
        for name in dict.fromkeys(r["slice"] for r in of if r["slice"] not in ("all", "pairs")):
            cells = [f"`{name}`" if name != "all" else name]
            for n in (250, 1000):
                inside = [r for r in of if (r["slice"], r["n"]) == (name, n)]
                some = [r for r in inside if r["coverage"] is not None]
                mean = sum(r["coverage"] for r in some) / len(some) if some else None
                none = sum(r["none"] for r in inside) / len(inside) if inside else None
                missing = sum(map(misses, some))
                cells += [percent(mean), f"{missing} of {len(some)}", percent(none, 0)]
            rows.append([NAMES[data], *cells])
    heads = ["data", "slice"]
    for n in ("250", "1,000"):
        heads += [f"coverage, {n} audited", "metrics below 93.5 %", "no interval"]
    return table(heads, rows)


def by_metric(data: str, proposed_by: str) -> str:
    """Coverage and width of each metric with the default estimator and uniform draws."""
    of = evaluated(data=data, design="uniform", estimator="ppi++", proposed_by=proposed_by, slice="all")
    rows = []
    for metric in dict.fromkeys(r["metric"] for r in of):
        cells = [f"`{metric}`"]
        for n in (250, 1000):
            found = [r for r in of if (r["metric"], r["n"]) == (metric, n)]
            cells += [text for r in found for text in (held(r), points(r["half_width"]), percent(r["none"]))]
        last = [r for r in of if r["metric"] == metric][-1]
        rows.append([*cells, signed(last["alone"])])
    heads = ["metric"]
    for n in ("250", "1,000"):
        heads += [f"coverage, {n} audited (least)", "± points", "no interval"]
    return table([*heads, "labels alone are off by"], rows)


def of_pairs() -> str:
    """Differences of models by `evaluate`: coverage, and how often *better* is false or missed."""
    rows = []
    for r in evaluated(slice="pairs", metric="real1"):
        about = [
            NAMES[r["data"]],
            r["design"],
            r["estimator"],
            r["proposed_by"],
            f"{r['n']:,}",
            str(r["models"]),
        ]
        missed = 1 - r["right"] - r["wrong"] - r["equal"]
        rows.append(
            [
                *about,
                held(r),
                points(r["half_width"]),
                percent(r["wrong"], 2),
                percent(missed),
                percent(r["none"]),
            ]
        )
    heads = ["data", "design", "estimator", "proposed by", "audited", "pairs", "coverage (least)", "± points"]
    return table([*heads, "false *better*", "missed *better*", "no interval"], rows)


def by_design(data: str, n: int) -> str:
    """Accuracies and differences by design, proposals and estimator."""
    rows = []
    of = {
        (r["design"], r["proposals"], r["power"], r["kind"]): r
        for r in simulated(data=data, metric="real1", n=n)
    }
    for (design, proposals, power, kind), r in of.items():
        if kind != "values":
            continue
        pair = of.get((design, proposals, power, "pairs"))
        cells = [design, "–" if power == "0.0" else proposals, POWERS[power]]
        cells += [held(r), points(r["half_width"]), times(r["narrower"]), percent(r["none"])]
        if pair:
            cells += [held(pair), times(pair["narrower"]), percent(pair["none"])]
            cells += [percent(pair["right"]), percent(pair["wrong"], 2)]
        rows.append(cells)
    heads = ["design", "proposals", "estimator", "coverage (least)", "± points", "narrower", "no interval"]
    if any(key[3] == "pairs" for key in of):
        heads += ["pairs: coverage (least)", "narrower", "no interval", "decided rightly", "wrongly"]
    return table(heads, rows)


def by_size() -> str:
    """Accuracies by the number of audited images."""
    arms = [("uniform", "0.0"), ("uniform", "tuned"), ("active", "tuned")]
    rows = []
    for data in NAMES:
        proposals = "label" if data == "cifar10h" else "others"
        for n in (100, 250, 500, 1000, 2000):
            cells = [NAMES[data], f"{n:,}"]
            for design, power in arms:
                of = {
                    "data": data,
                    "metric": "real1",
                    "n": n,
                    "kind": "values",
                    "design": design,
                    "power": power,
                }
                for r in simulated(**of, proposals=proposals):
                    cells += [held(r), points(r["half_width"]), percent(r["none"])]
            if len(cells) > 2:
                rows.append(cells)
    heads = ["data", "audited"]
    for arm in ("plain sample", "uniform, ppi++", "active, ppi++"):
        heads += [f"{arm}: coverage (least)", "± points", "no interval"]
    return table(heads, rows)


def of_ranks(data: str) -> str:
    """How well the order of the models comes out."""
    arms = [
        ("uniform", "others", "0.0"),
        ("uniform", "others", "tuned"),
        ("uniform", "others + label", "1.0"),
    ]
    arms += [("active", "others + label", "1.0"), ("pairs", "others + label", "1.0")]
    rows = []
    for n in (100, 250, 500, 1000, 2000):
        for design, proposals, power in arms:
            of = {"data": data, "metric": "real1", "n": n, "design": design, "proposals": proposals}
            for r in simulated(**of, power=power, kind="ranks"):
                pair = simulated(**of, power=power, kind="pairs")[0]
                name = "–" if power == "0.0" else proposals
                cells = [f"{n:,}", design, name, POWERS[power], percent(r["best"]), points(r["behind"])]
                rows.append([*cells, points(r["tau"], 3), percent(pair["right"]), percent(pair["wrong"], 2)])
    for r in simulated(data=data, metric="real1", kind="alone"):
        best = "yes" if r["best"] else "no"
        rows.append(
            ["0", "–", r["proposals"], "alone", best, points(r["behind"]), points(r["tau"], 3), "–", "–"]
        )
    heads = ["audited", "design", "proposals", "estimator", "best model found", "points behind the best"]
    return table([*heads, "Kendall's τ", "pairs decided rightly", "wrongly"], rows)


def own_pairs() -> str:
    """Pairs with designs of their own."""
    rows = []
    for metric in ("pair", "differing"):
        for r in simulated(metric=metric, kind="pairs"):
            name = "–" if r["power"] == "0.0" else r["proposals"]
            where = "the two differ" if metric == "differing" else "all"
            cells = [NAMES[r["data"]], f"{r['n']:,}", where, r["design"], name, POWERS[r["power"]], held(r)]
            cells += [
                points(r["half_width"]),
                percent(r["none"]),
                percent(r["right"]),
                percent(r["wrong"], 2),
            ]
            rows.append(cells)
    heads = ["data", "audited", "images", "design", "proposals", "estimator", "coverage (least)", "± points"]
    return table([*heads, "no interval", "decided rightly", "wrongly"], rows)


def other_intervals() -> str:
    """The bootstrap, the population, and confidence sequences."""
    names = {"bootstrap": "these images, bootstrap", "population": "the population", "sequence": "sequence"}
    rows = []
    for metric, name in names.items():
        for r in simulated(metric=metric):
            if r["kind"] in ("values", "pairs") and r["power"] == "tuned":
                if metric != "population" and r["design"] != "uniform":
                    continue
                what = f"{name}, {r['design']}" if metric == "population" else name
                kind = "accuracy" if r["kind"] == "values" else "difference"
                if metric != "population" and r["kind"] == "pairs":  # simulated for accuracies alone
                    continue
                cells = [what, kind, f"{r['n']:,}", f"{r['draws']:,}", str(r["values"])]
                rows.append([*cells, held(r), points(r["half_width"]), percent(r["none"])])
    heads = ["interval", "of", "audited", "draws", "models or pairs", "coverage (least)", "± points"]
    return table([*heads, "no interval"], rows)


def of_proposals() -> str:
    """Coverage and width by the proposals."""
    every = simulated("audited_proposals.csv")
    alone = {r["proposals"]: r for r in every if r["kind"] == "alone"}
    rows = []
    for proposals in dict.fromkeys(r["proposals"] for r in every if r["kind"] == "values"):
        for n in (250, 1000):
            of = [r for r in every if (r["proposals"], r["n"], r["kind"]) == (proposals, n, "values")]
            by_power = {r["power"]: r for r in of}
            if not of:
                continue
            cells = [proposals, signed(alone.get(proposals, {}).get("bias")), f"{n:,}"]
            for power in ("tuned", "1.0"):
                r = by_power.get(power)
                cells += [held(r), times(r["narrower"]), percent(r["none"])] if r else ["–"] * 3
            rows.append(cells)
    heads = ["proposals", "alone are off by", "audited"]
    for name in ("ppi++", "difference"):
        heads += [f"{name}: coverage (least)", "narrower", "no interval"]
    return table(heads, rows)


def of_plans() -> str:
    """Widths that come, divided by the planned ones: the range over questions, widths and designs."""
    lines = map(json.loads, (HERE / "audit_plans.jsonl").read_text(encoding="utf-8").splitlines())
    by_key: dict[tuple[str, ...], list[Row]] = {}
    for line in lines:
        source = line["source"]
        source = "none" if source == "published" else f"{source:,} images"
        key = NAMES[line["data"]], source, line["proposed_by"], line["question"]
        by_key.setdefault(key, []).append(line)
    rows = []
    for key, found in by_key.items():
        medians = sorted(line["median"] for line in found)
        text = _range(medians[0], medians[-1])
        text = f"**{text}**" if max(abs(m - 1) for m in medians) > OFF else text
        widths = _range(min(line["low"] for line in found), max(line["high"] for line in found))
        most = [max(line[name] for line in found) for name in ("without", "all")]
        promised = "–" if key[1] == "none" else percent(min(line["promised"] for line in found), 0)
        rows.append([*key, f"{found[0]['draws']:,}", text, widths, promised, *(percent(x, 0) for x in most)])
    heads = ["data", "pilot", "proposed by", "question", "plans a row", "median ratio", "80 % are from"]
    return table([*heads, "promised", "no interval", "plans all images"], rows)


def _range(low: float, high: float) -> str:
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def of_bins() -> str:
    """Accuracies in bins of confidence; means over the bins of all models."""
    every = [r for r in simulated("audited_reliability.csv") if r["event"] == "set"]
    rows = []
    for arm in dict.fromkeys(map(_arm, every)):
        of = [r for r in every if _arm(r) == arm]
        for what in ("all images", "bins"):
            inside = [r for r in of if (r["to"] - r["from"] == 1) == (what == "all images")]
            some = [r for r in inside if r["intervals"] >= RARE * r["draws"]]
            coverage = [r["held"] / r["intervals"] for r in some]
            held, intervals = (
                np.array([r[k] for r in inside if r["intervals"]]) for k in ("held", "intervals")
            )
            without = sum(r["shown"] for r in inside) - intervals.sum()
            cells = [NAMES[arm[0]], *arm[1:3], f"{arm[3]:,}", what, f"{len(some)} of {len(inside)}"]
            cells += [percent(float(np.mean(coverage))), percent(min(coverage))]
            cells += [
                str(count_below(held, intervals)),
                points(float(np.median([r["half_width"] for r in some]))),
            ]
            cells += [f"{without:,}"]
            rows.append(cells)
    heads = [
        "data",
        "design",
        "estimator",
        "audited",
        "of",
        "shown",
        "mean coverage",
        "lowest",
        "surely below",
    ]
    return table([*heads, "± points", "shown without interval"], rows)


def _arm(row: Row) -> tuple[str, str, str, int]:
    return row["data"], row["design"], row["estimator"], row["n"]


TABLES: dict[str, Callable[[], str]] = {
    "overview": overview,
    "slices": of_slices,
    "real labels": lambda: by_metric("real", "labels"),
    "multilabelfy labels": lambda: by_metric("multilabelfy", "labels"),
    "multilabelfy models": lambda: by_metric("multilabelfy", "models"),
    "cifar10h labels": lambda: by_metric("cifar10h", "labels"),
    "voc labels": lambda: by_metric("voc", "labels"),
    "voc models": lambda: by_metric("voc", "models"),
    "pairs": of_pairs,
    "real designs": lambda: by_design("real", 1000),
    "multilabelfy designs": lambda: by_design("multilabelfy", 1000),
    "cifar10h designs": lambda: by_design("cifar10h", 1000),
    "voc designs": lambda: by_design("voc", 1000),
    "sizes": by_size,
    "own pairs": own_pairs,
    "real ranks": lambda: of_ranks("real"),
    "multilabelfy ranks": lambda: of_ranks("multilabelfy"),
    "reliability": of_bins,
    "intervals": other_intervals,
    "proposals": of_proposals,
    "plans": of_plans,
}

_TABLE = re.compile(r"^% table: (?P<name>.+)\n(?:\|.*\n)*", re.MULTILINE)


def with_tables(text: str) -> str:
    """Return the page with the tables of the committed results."""
    return _TABLE.sub(lambda found: f"% table: {found['name']}\n{TABLES[found['name']]()}", text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
