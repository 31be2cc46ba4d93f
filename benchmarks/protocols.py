"""Three protocols on the same images: the tables of docs/explanation/protocols.md.

    python benchmarks/protocols.py multilabel.csv
    python benchmarks/protocols.py --page

The first compares ReaL, the labels of Shankar et al. in your file, and the classes that raters of Tsipras et
al. selected, with `manyhot diagnose protocols` and 67 published models, and writes protocols.jsonl: a row of
a table is a line. The second writes the tables of the page from this file. It takes a minute.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "protocols.jsonl"
PAGE = HERE.parent / "docs" / "explanation" / "protocols.md"

REAL, SHANKAR, TSIPRAS = "ReaL", "Shankar et al.", "Tsipras et al."
WRITTEN = ("sets", "agreement", "missing", "errors", "ranks", "variance")
"""Tables whose rows are written; of errors, only the means over models."""

Row = dict[str, Any]


def compare(multilabel: Path) -> Iterator[Row]:
    """Yield the rows of the tables."""
    from manyhot import diagnose_protocols, read_labels
    from manyhot.data import catalog

    tsipras = catalog.fetch("tsipras")
    selected = read_labels(tsipras["annotations_classify_task.pkl"], format="tsipras-selected")
    sets = {REAL: "imagenet-val", SHANKAR: multilabel, TSIPRAS: selected}
    found = diagnose_protocols(sets)
    for name in WRITTEN:
        for row in found.tables[f"protocol_{name}"].to_pylist():
            if name != "errors" or row["model"] is None:
                yield {"table": name, **row}
    yield from same_protocol(multilabel, tsipras)


def same_protocol(multilabel: Path, tsipras: Mapping[str, Path]) -> Iterator[Row]:
    """Yield shares of images with two or more labels that are not in the tables."""
    import numpy as np

    from manyhot import read_images, read_labels
    from manyhot.data import catalog

    real, theirs = read_labels(catalog.fetch_file("imagenet-real", "scores.npz")), read_labels(multilabel)
    rated = dict(zip(real.image_id.to_pylist(), real.table["rated"].to_pylist(), strict=True))
    size = sizes(real)
    usable = theirs.table["usable"].to_pylist()
    own = [i for i, use in zip(theirs.image_id.to_pylist(), usable, strict=True) if use]
    shankar = sizes(theirs)
    for seen in (True, False):
        images = [i for i in own if rated[i] is seen]
        which = "that ReaL's raters saw" if seen else "that ReaL's raters did not see"
        for name, sizes_of in ((SHANKAR, shankar), (REAL, size)):
            filled = [sizes_of[i] for i in images if sizes_of[i]]
            yield share(f"{name}, images of Shankar et al. {which}", np.array(filled) > 1)
    sample = read_images(tsipras["annotations_classify_task.pkl"])
    ids = sample.image_id.to_pylist()
    objects = [n or 1 for n in sample.table["n_objects"].to_pylist()]
    yield share(f"{TSIPRAS}, 10,000 images, two or more objects", np.array(objects) > 1)
    chosen = sizes(read_labels(tsipras["annotations_classify_task.pkl"], format="tsipras-selected"))
    filled = [n for n in (chosen.get(i, 1) for i in ids) if n]
    yield share(f"{TSIPRAS}, 10,000 images, label sets with a class", np.array(filled) > 1)
    yield share(f"{REAL}, the same 10,000 images", np.array([size[i] for i in ids if size[i]]) > 1)
    v2 = sizes(read_labels(catalog.fetch_file("multilabelfy-imagenetv2", "imagenetv2_refined_labels.json")))
    yield share("Multilabelfy, 10,000 images of ImageNetV2", np.array([*v2.values()]) > 1)
    yield share("Multilabelfy, label sets with a class", np.array([n for n in v2.values() if n]) > 1)


def sizes(labels: Any) -> dict[str, int]:
    """Return the size of the label set of each image."""
    from manyhot.tables.arrays import label_sets

    return dict(zip(labels.image_id.to_pylist(), label_sets(labels).size.tolist(), strict=True))


def share(what: str, several: Any) -> Row:
    """Return a share of images with Wilson's interval."""
    from manyhot.core.share_intervals import wilson_interval

    k, n = int(several.sum()), len(several)
    lo, hi = map(float, wilson_interval(k, n))
    return {"table": "share", "what": what, "several": k / n, "lo": lo, "hi": hi, "n": n}


def rounded(row: Row) -> Row:
    return {name: round(v, 6) if isinstance(v, float) else v for name, v in row.items()}


def read() -> dict[str, list[Row]]:
    """Return the committed rows, by table."""
    tables: dict[str, list[Row]] = {}
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tables.setdefault(row.pop("table"), []).append(row)
    return tables


def percent(value: float, lo: float | None, hi: float | None, times: float = 100) -> str:
    """Return a share in percent, or a difference in points, with its interval."""
    ends = "" if lo is None else f" ({times * lo:.1f} to {times * hi:.1f})"
    return f"{times * value:.1f}{ends}".replace("-", "−")


def of(row: Row, name: str) -> str:
    """Return a value whose ends are called after it."""
    return percent(row[name], row[f"{name}_lo"], row[f"{name}_hi"])


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_of_sets(found: dict[str, list[Row]]) -> str:
    rows = [
        (
            r["group"] if r["group"] != r["labels"] else "all of its own",
            {"all": "all", "rated": "seen by the raters of each"}[r["slice"]],
            r["labels"],
            "–" if r["asked"] is None else f"{r['asked']:.1f}",
            f"{r['n_empty']:,}",
            of(r, "several"),
            f"{r['n']:,}",
        )
        for r in found["sets"]
        if r["group"] in (r["labels"], "all label sets", f"{REAL}, {SHANKAR}")
    ]
    heads = ("images that both or all have", "which", "label sets", "classes asked about", "empty")
    return markdown((*heads, "two or more classes, %", "n"), rows)


def table_of_relations(found: dict[str, list[Row]]) -> str:
    measures: dict[tuple[str, str], dict[str, Row]] = {}
    for r in found["agreement"]:
        measures.setdefault((r["group"], r["slice"]), {})[r["measure"]] = r
    rows = []
    for (group, part), m in measures.items():
        if "equal" in m:
            shares = (percent(m[name]["value"], None, None) for name in ("overlapping", "disjoint"))
            nested, empty = (
                percent(sum(m[name]["value"] for name in names), None, None)
                for names in (("a_in_b", "b_in_a"), ("a_empty", "b_empty"))
            )
            equal = percent(m["equal"]["value"], m["equal"]["lo"], m["equal"]["hi"])
            kappa = m.get("fleiss_kappa")
            k = "–" if kappa is None else f"{kappa['value']:.3f} ({kappa['lo']:.3f} to {kappa['hi']:.3f})"
            which = "all" if part == "all" else "seen by the raters of each"
            rows.append((group, which, equal, nested, *shares, empty, k, f"{m['equal']['n']:,}"))
    heads = ("images that both have", "which", "equal, %", "nested", "overlapping", "disjoint", "one empty")
    return markdown((*heads, "kappa", "n"), rows)


def table_of_missing(found: dict[str, list[Row]]) -> str:
    states: dict[tuple[str, str, str], dict[str, Row]] = {}
    for r in found["missing"]:
        if r["slice"] == "all" and r["which"] != "all":
            states.setdefault((r["labels_a"], r["labels_b"], r["which"]), {})[r["state"]] = r
    rows = []
    for (a, b, which), row in states.items():
        cells = (
            of(row[s], "share") if s in row else "–"
            for s in ("yes", "unclear", "no", "not asked", "not recorded")
        )
        rows.append((f"{a}: {which}", b, *cells, f"{next(iter(row.values()))['n']:,}"))
    heads = ("labels of", "by", "yes, %", "unclear", "no", "not asked", "not recorded", "n")
    return markdown(heads, rows)


def table_of_models(found: dict[str, list[Row]]) -> str:
    order = {(r["group"], r["by_a"], r["by_b"]): r for r in found["ranks"]}
    rows = []
    for r in found["errors"]:
        ranked = order.get((r["group"], r["by_a"], r["by_b"]))
        if ranked is None or r["group"] == "all label sets":
            continue
        tau = f"{ranked['tau']:.3f} ({ranked['tau_lo']:.3f} to {ranked['tau_hi']:.3f})"
        swaps = f"{ranked['swapped']} ({ranked['surely']})"
        rows.append((r["by_a"], r["by_b"], of(r, "difference"), of(r, "right"), tau, swaps, f"{r['n']:,}"))
    heads = ("by", "then by", "accuracy, points", "errors that are right, %", "Kendall's tau")
    return markdown((*heads, "pairs that change places (surely)", "n"), rows)


def table_of_variance(found: dict[str, list[Row]]) -> str:
    groups: dict[str, list[Row]] = {}
    for r in found["variance"]:
        groups.setdefault(r["group"], []).append(r)
    rows = [(group, *map(deviation, parts), f"{parts[0]['n']:,}") for group, parts in groups.items()]
    return markdown(("images of", "models", "protocols", "models × protocols", "n"), rows)


def deviation(row: Row) -> str:
    sd, lo, hi = (f"{100 * row[name]:.2f}" for name in ("sd", "sd_lo", "sd_hi"))
    return f"{sd} ({lo} to {hi})"


def table_of_shares(found: dict[str, list[Row]]) -> str:
    rows = [(r["what"], percent(r["several"], r["lo"], r["hi"]), f"{r['n']:,}") for r in found["share"]]
    return markdown(("label sets", "two or more, %", "n"), rows)


TABLES = {
    "sets": table_of_sets,
    "relations": table_of_relations,
    "missing": table_of_missing,
    "models": table_of_models,
    "variance": table_of_variance,
    "shares": table_of_shares,
}


def with_tables(text: str) -> str:
    """Return the page with the tables of the committed rows, each after the line ``% table: NAME``."""
    found = read()
    for name, make in TABLES.items():
        pattern = re.compile(rf"(% table: {name}\n)(?:\|.*\n)*")
        text = pattern.sub(lambda m, make=make: m[1] + make(found), text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "multilabel", type=Path, nargs="?", help="Shankar et al.'s labels, which you downloaded"
    )
    parser.add_argument("--page", action="store_true", help="write the tables of the page")
    options = parser.parse_args()
    if options.multilabel:
        lines = [json.dumps(rounded(row), ensure_ascii=False) for row in compare(options.multilabel)]
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if options.page:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
