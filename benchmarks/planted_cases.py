"""Ten planted shortcuts on two data sets: whether they are found, removed, and said to be gone.

``python benchmarks/planted_cases.py out`` plants each kind of `planted_data.KINDS` on training images of one
class of CIFAR-10 and of VOC (all of them, or nine in ten), and on half of the held-out images of all classes.
It prints, and writes to ``planted_cases.csv``, a row for each case and method:

- what ``diagnose shortcuts`` marks, for the head with the shortcut and for a clean head;
- what ``mitigate`` makes of it, with its defaults, and its verdict;
- peers on the same features: deep feature reweighting (Kirichenko et al. 2022), group DRO on the last layer
  (Sagawa et al. 2020), and plain retraining. A peer needs images of all four groups, which the training
  images of most cases do not have, so each is given validation images, half of them with the companion;
- a clean head: the same head fitted to the same images before anything was planted.

The criterion has each held-out image twice, with the companion and without; ``mitigate`` has one of the two.
A shortcut is *removed* if images of other classes with the companion are called the class at most 1.2 times
as often as by the clean head, and the accuracy is within 2 points of its; of a natural companion, if the
intervals of both gaps contain 0. A verdict *gone* where it is not removed is a *false all-clear*. `ratio` is
how many times as often, with its bootstrap interval over images, and `floor` is how many of ten other clean
heads, fitted to bootstraps of the training images, the rule says the same of: that nothing was removed.

``--class``, ``--seed``, ``--kind`` and ``--data`` choose others; the committed table is of the defaults,
which nothing was tuned on (that was done on cats, seed 1). Run again it goes on where it was: remove the
folder to begin anew. ``--again`` treats all cases again, and keeps what does not depend on ``mitigate``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import planted_backbone  # noqa: E402
import planted_data  # noqa: E402
import torch  # noqa: E402
from planted_data import KINDS, Planted  # noqa: E402

import manyhot  # noqa: E402
from manyhot.core.companion_effects import (  # noqa: E402
    BOTH,
    COMPANION_ONLY,
    MAIN_ONLY,
    NEITHER,
    gap,
    paired_difference,
)
from manyhot.core.sets import NO, YES  # noqa: E402
from manyhot.predict.engines import EngineOptions  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.run import PredictSettings, run  # noqa: E402
from manyhot.predict.sources import open_source  # noqa: E402
from manyhot.predict.weights import Head, read_head, write_head  # noqa: E402
from manyhot.train.heads import fit_sigmoid, fit_softmax  # noqa: E402
from manyhot.train.mitigate.mitigation_result import best_treatment  # noqa: E402

SPEC = planted_backbone.SPEC
TABLE = Path(__file__).with_suffix(".csv")
DATA = {"cifar10": "softmax", "voc": "sigmoid"}
RATIO, COST = 1.2, 0.02
CLEAN_HEADS = 10
"""Other clean heads, which say how often the rule is wrong by chance."""

COLUMNS = (
    *("data", "kind", "main", "method", "marked", "verdict", "removed", "false_all_clear"),
    *("ratio", "ratio_lo", "ratio_hi", "floor"),
    *("called_with", "called_with_clean", "called_without", "n_with", "recall_both", "recall_main_only"),
    *("recall_gap_lo", "recall_gap_hi", "hallucination_gap_lo", "hallucination_gap_hi"),
    *("accuracy", "accuracy_clean", "seconds"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--class", dest="main", default="dog")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--data", action="append", choices=DATA)
    parser.add_argument("--table", type=Path, help="where to write; by default beside this file")
    parser.add_argument("--again", action="store_true", help="run mitigate again, and keep the other rows")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PLANTED_CACHE", str(given.out / "features.sqlite"))
    rows: list[dict] = []
    for data in given.data or DATA:
        for kind in given.kind or KINDS:
            if kind == "natural" and data == "cifar10":
                continue  # one object an image
            rows += (treated_again if given.again else case)(given.out, data, kind, given.main, given.seed)
            show(rows[-6:])
            write(rows, given.table or TABLE)
    summarise(rows)


def case(out: Path, data: str, kind: str, main: str, seed: int) -> list[dict]:
    """Return the rows of a case."""
    main = "horse" if kind == "natural" else main
    folder = out / f"{data}-{main}-{kind}-{seed}"
    if (folder / "rows.json").exists():
        return json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    begun = time.process_time()
    planted = planted_data.plant(folder, getattr(planted_data, data)(main, seed), main, kind, seed)
    rows, verdict, treatment = mitigated(planted, DATA[data])
    features = Features.of(planted, kind)
    clean, *others = clean_heads(planted, features, DATA[data])
    heads = {"as it is": rows["start"], "mitigate": rows["best"], **peers(planted, features, DATA[data])}
    marks = {
        name: found(planted, name, head) for name, head in (("as it is", rows["start"]), ("clean", clean))
    }
    reference = measures(planted, features, clean)
    made = []
    for name, head in {**heads, "clean": clean}.items():
        own = {"data": data, "kind": kind, "main": main, "method": name, "marked": marks.get(name, "")}
        own |= {"method": f"{name}: {treatment}", "verdict": verdict} if name == "mitigate" else {}
        made.append(judged(own, measures(planted, features, head), reference))
    told = [compared(kind, measures(planted, features, head), reference) for head in others]
    made[-1]["floor"] = sum(not row["removed"] for row in told)
    made = [{c: row.get(c, "") for c in COLUMNS} for row in made]
    made[0]["seconds"] = round(time.process_time() - begun)
    (folder / "rows.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
    return made


def treated_again(out: Path, data: str, kind: str, main: str, seed: int) -> list[dict]:
    """Return the rows of a case that was run before, with a new one of ``mitigate``."""
    main = "horse" if kind == "natural" else main
    folder = out / f"{data}-{main}-{kind}-{seed}"
    path = folder / "rows.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    planted = planted_data.plant(folder, getattr(planted_data, data)(main, seed), main, kind, seed)
    heads, verdict, treatment = mitigated(planted, DATA[data])
    features, clean = Features.of(planted, kind), read_head(folder / "clean.safetensors")
    own = {"data": data, "kind": kind, "main": main, "method": f"mitigate: {treatment}", "verdict": verdict}
    reference = measures(planted, features, clean)
    row = judged(own, measures(planted, features, heads["best"]), reference)
    made[1] = {c: row.get(c, "") for c in COLUMNS}
    path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return made


def judged(row: dict, told: dict, reference: dict) -> dict:
    """Return the row of a head with what was measured, and whether its verdict is a false all-clear."""
    row = row | compared(row["kind"], told, reference)
    all_clear = row.get("verdict", "") in ("gone", "not present")
    return row | {"false_all_clear": all_clear and not row["removed"]}


def compared(kind: str, told: dict, reference: dict) -> dict:
    """Return what was measured of a head beside a clean one."""
    rate, clean = (own["called_with"] for own in (told, reference))
    row = {k: v for k, v in told.items() if k in COLUMNS} | {"removed": is_removed(kind, told, reference)}
    row |= {"called_with_clean": clean, "accuracy_clean": reference["accuracy"]}
    called, reference_called = told["called"], reference["called"]
    n = len(called)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), 2000)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (counts @ called) / (counts @ reference_called)
    lo, hi = np.nanpercentile(drawn, (2.5, 97.5))
    hi = np.inf if np.isnan(hi) else hi  # the clean head calls none of a resample the class
    return row | {"ratio": rate / clean if clean else np.inf, "ratio_lo": float(lo), "ratio_hi": float(hi)}


def is_removed(kind: str, told: dict, reference: dict) -> bool:
    if kind == "natural":
        return all(told[f"{g}_lo"] <= 0 <= told[f"{g}_hi"] for g in ("recall_gap", "hallucination_gap"))
    rate = told["called_with"] <= RATIO * reference["called_with"]
    return bool(rate and told["accuracy"] >= reference["accuracy"] - COST)


# The heads.


def mitigated(planted: Planted, loss: str) -> tuple[dict[str, Head], str, str]:
    """Return the heads of ``mitigate`` without treatment and with the best, its verdict and its treatment."""
    folder, result = planted.folder, mitigation(planted, loss)
    print("\n".join(line for line in result.lines() if "shortcut" in line), flush=True)
    label_sets = loss == "sigmoid"
    own = [r for r in result.mitigation.to_pylist() if r["treatment"].startswith("label sets") == label_sets]
    by_head = {r["treatment"]: r for r in own}
    start, *treated = by_head
    best = best_treatment(own) if treated else start
    heads = {
        "start": read_head(folder / "mitigation" / by_head[start]["head"]),
        "best": read_head(folder / "mitigation" / by_head[best]["head"]),
    }
    return heads, by_head[best]["verdict"], best


def mitigation(planted: Planted, loss: str) -> manyhot.Mitigation:
    """Return what ``mitigate`` makes of a case."""
    folder, keys = planted.folder, planted.classes.keys
    return manyhot.mitigate(
        folder / "images.parquet",
        folder / "objects.parquet",
        out=folder / "mitigation",
        model=SPEC,
        pairs=[f"{keys[planted.main]}:{keys[planted.companion]}"],
        labels=folder / "labels.parquet",
        classes=folder / "classes.txt",
        split=folder / "images.parquet",
        losses=(loss,),
        engine="torch",
        resamples=0,
    )


@dataclass(frozen=True)
class Features:
    """Features by image: as planted, with the companion the other way round, and as they were."""

    planted: dict[str, np.ndarray]
    flipped: dict[str, np.ndarray]
    clean: dict[str, np.ndarray]

    @classmethod
    def of(cls, planted: Planted, kind: str) -> Features:
        """Read what ``mitigate`` left, and compute the others."""
        folder = planted.folder
        made = read(folder / "mitigation" / "predictions" / "original") | predicted(folder, "val")
        flipped = {} if KINDS[kind].paint is None else predicted(folder, "flipped")
        return cls(made, flipped, predicted(folder, "clean"))


def predicted(folder: Path, name: str) -> dict[str, np.ndarray]:
    source, to = open_source(folder / f"{name}.parquet"), folder / f"features-{name}"
    run(source, find_model(SPEC), to, PredictSettings(1, "torch", EngineOptions(features=True)))
    return read(to)


def read(folder: Path) -> dict[str, np.ndarray]:
    (file,) = (folder / "embeddings").glob("*.npy")
    ids = manyhot.read_predictions(folder / f"{file.stem}.parquet").image_id.to_pylist()
    return dict(zip(ids, np.load(file).astype(np.float32), strict=True))


def rows_of(planted: Planted, *parts: str) -> np.ndarray:
    return np.flatnonzero(np.isin(planted.photos.part, parts) & planted.used)


def matrix(planted: Planted, features: dict[str, np.ndarray], rows) -> np.ndarray:
    return np.stack([features[planted.photos.ids[i]] for i in rows])


def fit(planted: Planted, loss: str, x, rows, companion, **how) -> Head:
    if loss == "softmax":
        return fit_softmax(x, planted.photos.label[rows], planted.classes, SPEC, **how)
    state = np.full((len(rows), len(planted.classes)), NO)
    known = planted.photos.state[rows]
    state[:, : known.shape[1]][known] = YES
    if companion is not None:
        state[companion[rows], planted.companion] = YES
    return fit_sigmoid(x, state, planted.classes, SPEC, **how)


CLEAN: dict[tuple, list[Head]] = {}
"""Clean heads by data and classes: cases of the same images share them."""


def clean_heads(planted: Planted, features: Features, loss: str) -> list[Head]:
    """Return a head fitted to all training images as they were, and others fitted to bootstraps of them."""
    key = (planted.photos.name, planted.main, planted.classes.keys)
    if key not in CLEAN:
        rows = np.flatnonzero(planted.photos.part == "train")
        x = matrix(planted, features.clean, rows)
        head = fit(planted, loss, x, rows, None)
        counts = np.random.default_rng(0).multinomial(len(x), np.full(len(x), 1 / len(x)), CLEAN_HEADS)
        how = {"penalty": head.penalty, "start": head}
        CLEAN[key] = [head, *(fit(planted, loss, x, rows, None, weights=own, **how) for own in counts)]
    return CLEAN[key]


def peers(planted: Planted, features: Features, loss: str) -> dict[str, Head]:
    """Return heads of other methods, on training and validation images."""
    rows = rows_of(planted, "train", "val")
    x = matrix(planted, features.planted, rows)
    own = planted.photos.state[rows, planted.main]
    group = 2 * own + planted.chosen[rows]
    # Of a softmax, the groups of deep feature reweighting are of all classes, or it would see dogs in half.
    classes = planted.photos.label[rows] if loss == "softmax" else own
    fine = 2 * classes.astype(int) + planted.chosen[rows]
    held = planted.photos.part[rows] == "val"
    rng = np.random.default_rng(0)
    groups = np.unique(fine[held])
    fewest = min(np.count_nonzero(held & (fine == g)) for g in groups)
    balanced = np.concatenate([rng.permutation(np.flatnonzero(held & (fine == g)))[:fewest] for g in groups])
    plain = fit(planted, loss, x, rows, planted.chosen)
    return {
        "deep feature reweighting": fit(planted, loss, x[balanced], rows[balanced], planted.chosen),
        "group DRO": group_dro(planted, plain, x, rows, group),
        "plain retraining": plain,
    }


def group_dro(planted: Planted, base: Head, x, rows, group, steps=300, rate=0.01, eta=0.1) -> Head:
    """Fit a last layer to the worst group (Sagawa et al. 2020, algorithm 1, in full batches, with a penalty).

    The main class alone is fitted for sigmoids: the groups are of this class.
    """
    loss, scale = base.loss, x.std(0) + 1e-6
    z = torch.tensor((x - x.mean(0)) / scale)
    label = torch.tensor(planted.photos.label[rows].astype(np.int64))
    target = torch.tensor(planted.photos.state[rows, planted.main].astype(np.float32))
    n = len(planted.classes) if loss == "softmax" else 1
    torch.manual_seed(0)
    layer = torch.nn.Linear(z.shape[1], n)
    torch.nn.init.zeros_(layer.weight)
    descent = torch.optim.Adam(layer.parameters(), lr=rate)
    q = torch.full((4,), 0.25)
    members = [torch.tensor(group == g) for g in range(4)]
    for _ in range(steps):
        out = layer(z)
        each = (
            torch.nn.functional.cross_entropy(out, label, reduction="none")
            if loss == "softmax"
            else torch.nn.functional.binary_cross_entropy_with_logits(out[:, 0], target, reduction="none")
        )
        losses = torch.stack([each[m].mean() if m.any() else each.sum() * 0 for m in members])
        q = q * torch.exp(eta * losses.detach())
        q = q / q.sum()
        total = (q * losses).sum() + base.penalty / 2 * layer.weight.square().sum()
        descent.zero_grad()
        total.backward()
        descent.step()
    weight = layer.weight.detach().numpy() / scale
    bias = layer.bias.detach().numpy() - weight @ x.mean(0)
    whole, offset = base.weight.copy(), base.bias.copy()
    at = slice(None) if loss == "softmax" else [planted.main]
    whole[at], offset[at] = weight, bias
    if loss == "softmax" and n > len(planted.photos.keys):
        offset[planted.companion] = -100.0
    return Head(base.backbone, base.classes, loss, whole, offset, base.penalty, base.n)


# What is said of them.


def measures(planted: Planted, features: Features, head: Head, part: str = "test") -> dict:
    """Return how often images of a part are called the class in each split, both gaps, and the accuracy.

    All images are in two splits, with the companion and without it, unless it is a natural one.
    """
    rows = rows_of(planted, part)
    own, chosen = planted.photos.state[rows, planted.main], planted.chosen[rows]
    parts = [(matrix(planted, features.planted, rows), chosen)]
    parts += [(matrix(planted, features.flipped, rows), ~chosen)] if features.flipped else []
    called, splits, right, order = [], [], [], []
    for x, companion in parts:
        p = head.probabilities(x)
        known = p[:, : len(planted.photos.keys)]
        main = planted.main
        called.append(known.argmax(1) == main if head.loss == "softmax" else p[:, main] >= 0.5)
        splits.append(
            np.where(own, np.where(companion, BOTH, MAIN_ONLY), np.where(companion, COMPANION_ONLY, NEITHER))
        )
        right.append(planted.photos.state[rows, known.argmax(1)])
        order.append(np.arange(len(rows)))
    hits, split = np.concatenate(called), np.concatenate(splits)
    place = np.argsort(np.concatenate(order), kind="stable")
    hits, split = hits[place], split[place]  # images in the same order with and without the companion
    of = {which: hits[split == which] for which in (BOTH, MAIN_ONLY, COMPANION_ONLY, NEITHER)}
    names = ("recall_both", "recall_main_only", "called_with", "called_without")
    told = {name: one.mean() for name, one in zip(names, of.values(), strict=True)}
    for name, (one, other) in {
        "recall_gap": (BOTH, MAIN_ONLY),
        "hallucination_gap": (COMPANION_ONLY, NEITHER),
    }.items():
        paired = bool(features.flipped)
        found = paired_difference(of[one], of[other]) if paired else gap(hits, split, one, other)
        told |= {f"{name}_lo": found.lo, f"{name}_hi": found.hi}
    accuracy = float(np.mean(right))
    called_with = of[COMPANION_ONLY]
    return told | {"accuracy": accuracy, "n_with": len(called_with), "called": called_with}


def found(planted: Planted, name: str, head: Head) -> str:
    """Return the mark of the pair, and other pairs that are marked."""
    folder, keys = planted.folder, planted.classes.keys
    path = folder / f"{name.replace(' ', '-')}.safetensors"
    write_head(head, path)
    result = manyhot.diagnose_shortcuts(
        folder / "held-out.parquet",
        objects=folder / "objects.parquet",
        out=folder / f"found-{path.stem}",
        model=f"head:{path}(backbone='{SPEC}')",
        labels=folder / "labels.parquet",
        classes=folder / "classes.txt",
        pair=[f"{keys[planted.main]}:{keys[planted.companion]}"],
        engine="torch",
        min_images=20,
        resamples=0,
    )
    row = result.shortcuts.to_pylist()[0]
    return row["mark"] or "no"


def show(rows: list[dict]) -> None:
    columns = ("method", "marked", "verdict", "removed", "ratio", "called_with", "called_without", "accuracy")
    for row in rows:
        shown = [f"{v:.3f}" if isinstance(v := row[c], float) else str(v) for c in columns]
        print(f"| {row['data']} | {row['kind']} | {' | '.join(shown)} |", flush=True)


def write(rows: list[dict], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})


def summarise(rows: list[dict]) -> None:
    """Print how many cases are found and removed by each method, and how many all-clears are false."""
    for data in dict.fromkeys(r["data"] for r in rows):
        own = [r for r in rows if r["data"] == data]
        start = [r for r in own if r["method"] == "as it is"]
        print(f"{data}: found {sum(r['marked'] != 'no' for r in start)} of {len(start)}")
        clean = [r for r in own if r["method"] == "clean"]
        print(f"{data}: clean heads marked {sum(r['marked'] != 'no' for r in clean)} of {len(clean)}")
        for method in dict.fromkeys(r["method"].partition(":")[0] for r in own):
            mine = [r for r in own if r["method"].partition(":")[0] == method]
            print(f"{data}, {method}: removed {sum(r['removed'] for r in mine)} of {len(mine)}")
        print(f"{data}: false all-clears {sum(r['false_all_clear'] for r in own)}")


if __name__ == "__main__":
    main()
