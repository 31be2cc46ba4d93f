"""What raters say about the top-1 errors of the 67 published models, as a table for the docs.

    python benchmarks/errors.py [--all]

Errors on ImageNet's validation set: the best class is not the original label. "asked": somebody was asked
about the class. Of these, "accepted" by ReaL's label sets and by most raters (three yes of five). Where the
original label was asked about too, "preferred" to it by ReaL's scores and by strictly more yes; ties are no
preference. Then, on the 6,761 images whose main object the raters of Tsipras et al. named: the errors whose
class they named, those whose original label they named, and those of which they named neither. Intervals are
Wilson's. The mean has none: models share their images; Fisher vectors, which are no networks, are left out of
it. Twelve models are shown, or all with --all.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import quiet
from scipy.stats import kendalltau

from manyhot.core.share_intervals import wilson_interval
from manyhot.data.benchmarks import BENCHMARKS

SHOWN = 12
METRICS = ["top1", "errors_asked", "accepted_errors", "preferred_errors"]


def tables():
    """Return ReaL's labels, those by share of yes, main objects, and the row order of predictions."""
    from manyhot import aggregate, read_images, read_labels
    from manyhot.data import catalog

    rows = read_images(catalog.fetch_file("imagenet-val-predictions", "imagenet-validation-original.json"))
    files = catalog.fetch("imagenet-real")
    real = read_labels(files["scores.npz"]).with_labels(rows)
    by_share = aggregate(files["raters.npz"], images=rows, method="yes-share").labels
    main = read_labels(catalog.fetch("tsipras")["annotations_classify_task.pkl"])
    return real, by_share, main, rows


def numbers(labels, judged, name):
    """Return value, interval and n by model and metric."""
    from manyhot import Reading, evaluate

    reading = Reading(trust_order=True, dataset=name)
    found = evaluate(labels, judged, metrics=METRICS, resamples=1, reading=reading)
    rows = [r for r in found.results.to_pylist() if r["slice"] == "all"]
    return {(r["model"], r["metric"]): r for r in rows}


def mains(main, rows, top):
    """Return how many errors there are on images with a main object, and whose class it is."""
    at = {name: i for i, name in enumerate(rows.image_id.to_pylist())}
    where = np.array([at[name] for name in main.image_id.to_pylist()])
    named = main.table["classes"].combine_chunks().flatten().to_numpy()
    label, best = main.table["label"].to_numpy(), top[where]
    wrong = best != label
    theirs, original = wrong & (named == best), wrong & (named == label)
    return wrong.sum(), theirs.sum(), original.sum()


def share(k, n):
    lo, hi = wilson_interval(k, n)
    return f"{k / n:.3f} ({float(lo):.3f}–{float(hi):.3f})"


def cell(row):
    return f"{row['value']:.3f} ({row['lo']:.3f}–{row['hi']:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    quiet()
    judged = BENCHMARKS["errors"].datasets[0].fetch().published
    real, by_share, objects, rows = tables()
    found, shares = numbers(real, judged, "real"), numbers(by_share, judged, "share")
    order = sorted((found[p.model, "top1"]["value"], p.model) for p in judged)
    counted = {p.model: mains(objects, rows, np.asarray(p.classes)[:, 0]) for p in judged}
    head = ["model", "top-1", "errors", "asked", "accepted", "preferred", "accepted by most"]
    head += ["preferred by more", "n", "main object", "original label is it", "neither"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    picked = np.linspace(0, len(order) - 1, SHOWN).round().astype(int)
    for value, model in order if options.all else [order[i] for i in picked]:
        n, theirs, original = counted[model]
        cells = [
            f"{value:.4f}",
            f"{found[model, 'errors_asked']['n']:,}",
            cell(found[model, "errors_asked"]),
            cell(found[model, "accepted_errors"]),
            cell(found[model, "preferred_errors"]),
            cell(shares[model, "accepted_errors"]),
            cell(shares[model, "preferred_errors"]),
            f"{n:,}",
            share(theirs, n),
            share(original, n),
            share(n - theirs - original, n),
        ]
        print(f"| {model} | {' | '.join(cells)} |")
    nets = [p for p in judged if not p.model.startswith("fv_")]
    averaged = [
        np.mean([table[p.model, metric]["value"] for p in nets])
        for table, names in ((found, METRICS), (shares, METRICS[2:]))
        for metric in names
    ]
    over = np.array([counted[p.model] for p in nets], float)
    averaged += list((over[:, 1:] / over[:, :1]).mean(0))
    named = [averaged[0], "", *averaged[1:-2], "", *averaged[-2:], 1 - sum(averaged[-2:])]
    cells = [v if isinstance(v, str) else f"{v:.3f}" for v in named]
    print(f"| mean of {len(nets)} networks | {' | '.join(cells)} |\n")
    top1 = [found[p.model, "top1"]["value"] for p in nets]
    for metric in METRICS[1:]:
        tau = kendalltau(top1, [found[p.model, metric]["value"] for p in nets]).statistic
        print(f"Kendall's tau of {metric} with top1, {len(nets)} networks: {tau:.3f}")


if __name__ == "__main__":
    main()
