"""How far error sorting agrees with experts, and how long it takes.

Experts (Vasudevan et al. 2022) put the last 378 mistakes of ViT-3B and 249 of Greedy Soups into categories.
Here the rules sort the same mistakes on ReaL's label sets; ``non-prototypical`` is left out, since its list
comes from these very categories, and ``out-of-vocabulary`` rests, for want of embeddings of these images.

Run as ``python benchmarks/sorting.py``; with ``--time`` the 67 published models are sorted as well. Tables as
Markdown.
"""

from __future__ import annotations

import argparse
import time

import common

common.quiet()

import numpy as np  # noqa: E402

from manyhot import catalog, diagnose_errors, read_findings  # noqa: E402
from manyhot.core.sorting import ORDER  # noqa: E402
from manyhot.formats.superclasses import read_superclasses  # noqa: E402
from manyhot.tables import Predictions, one_chunk  # noqa: E402

MODELS = ("vit3b", "greedy_soups")
RULES = tuple(rule for rule in ORDER if rule != "non-prototypical")
SAME = {
    "fine-grained": ("fine-grained", "collapsed-pair"),
    "fine-grained, several labels": ("fine-grained", "collapsed-pair"),
    "fine-grained, out of vocabulary": ("out-of-vocabulary",),
    "spurious correlation": ("co-occurrence",),
    "non-prototypical": ("model-failure",),
}
"""Kinds that say the same as a published category; what the left-out rule would find is left over."""

LARGEST = (0.03, 0.06, 0.12, 0.13, 0.22, 0.4)


def mistakes(model):
    """Return the published mistakes of a model as predictions, and their categories."""
    table = read_findings(catalog.fetch_file("imagenet-mistakes", f"{model}_mistakes.json"))
    predicted = table["class_b"].to_numpy()[:, None]
    return Predictions(one_chunk(table["image_id"]), model, predicted, n_classes=1000), dict(
        zip(table["image_id"].to_pylist(), table["category"].to_pylist(), strict=True)
    )


def sort(labels, model, rules=RULES, **options):
    """Return pairs of the published category and our kind, one a mistake."""
    predictions, category = mistakes(model)
    found = diagnose_errors(labels, predictions, rules=rules, trust_order=True, **options)
    kinds = dict(zip(found.table["image_id"].to_pylist(), found.table["kind"].to_pylist(), strict=True))
    return [(category[i], kinds.get(i, "no error")) for i in category]


def agreement(pairs):
    """Return how many kinds say what the experts say, and of how many that ReaL does not accept."""
    judged = [(c, k) for c, k in pairs if k not in ("valid-label", "no error")]
    return sum(k in SAME[c] for c, k in judged), len(judged)


def kappa(pairs):
    """Return Cohen's kappa of kinds and categories, of mistakes that ReaL does not accept."""
    kind = {k: i for i, kinds in enumerate(dict.fromkeys(SAME.values())) for k in kinds}
    judged = [(kind[SAME[c][0]], kind[k]) for c, k in pairs if k in kind]
    theirs, ours = np.array(judged).T
    agree = np.mean(theirs == ours)
    chance = sum(np.mean(theirs == i) * np.mean(ours == i) for i in set(kind.values()))
    return (agree - chance) / (1 - chance)


def print_confusion(model, pairs):
    kinds = [k for k in (*RULES, "no error") if any(k == kind for _, kind in pairs)]
    print(f"\n{model}, {len(pairs)} mistakes:\n")
    print(f"| experts | n | {' | '.join(kinds)} |")
    print(f"| --- |{' --- |' * (len(kinds) + 1)}")
    for category in SAME:
        counts = [sum(pair == (category, kind) for pair in pairs) for kind in kinds]
        print(f"| {category} | {sum(counts)} | {' | '.join(map(str, counts))} |")
    same, judged = agreement(pairs)
    always, _ = agreement([(c, k if k == "valid-label" else "fine-grained") for c, k in pairs])
    print(
        f"\nOf {judged} that ReaL does not accept, {same} agree ({same / judged:.1%}), Cohen's kappa "
        f"{kappa(pairs):.2f}; calling each fine-grained would agree on {always} ({always / judged:.1%})."
    )


def print_sensitivity(labels):
    def share(pairs, category, kinds):
        of = [k for c, k in pairs if c == category and k not in ("valid-label", "no error")]
        return f"{sum(k in kinds for k in of)} of {len(of)}"

    print(
        "\n| superclasses | "
        + " | ".join(f"{m}: agree | fine-grained found | spurious taken for it" for m in MODELS)
        + " |"
    )
    print("| --- |" + " --- |" * 6)
    groups = read_superclasses(catalog.fetch_file("tsipras", "superclasses.npy"), 1000, None)
    choices = [
        (
            f"largest={n}",
            {"rules": tuple(r if r != "fine-grained" else f"fine-grained(largest={n})" for r in RULES)},
        )
        for n in LARGEST
    ]
    for name, options in [*choices, ("Tsipras et al.", {"superclasses": groups})]:
        cells = []
        for model in MODELS:
            pairs = sort(labels, model, **options)
            same, judged = agreement(pairs)
            cells += [
                f"{same} of {judged}",
                share(pairs, "fine-grained", SAME["fine-grained"]),
                share(pairs, "spurious correlation", SAME["fine-grained"]),
            ]
        print(f"| {name} | {' | '.join(cells)} |")


def print_time(labels, rows):
    models = [m for _, m in common.models(rows)]
    begun = time.perf_counter()
    found = diagnose_errors(labels, models)
    spent = time.perf_counter() - begun
    assert spent < 10, f"sorting takes {spent:.1f} s, not under 10"
    print(f"\n{len(models)} models, {len(labels):,} images, {len(found):,} errors: {spent:.2f} s")
    shares = {k: np.mean([m.shares[k] for m in found.models]) for k in found.models[0].counts}
    print("; ".join(f"{kind} {share:.1%}" for kind, share in shares.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    labels, rows = common.validation()
    for model in MODELS:
        print_confusion(model, sort(labels, model))
    print_sensitivity(labels)
    if arguments.time:
        print_time(labels, rows)


if __name__ == "__main__":
    main()
