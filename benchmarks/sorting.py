"""How far error sorting agrees with Peychev et al.'s own and with experts, and how long it takes.

Experts (Vasudevan et al. 2022) put the last 378 mistakes of ViT-3B and 249 of Greedy Soups into categories.
Peychev et al. sort errors on Shankar et al.'s labels, which are used here, too: save them by hand where
``manyhot fetch imagenet-multilabel`` says. The experts' mistakes are sorted on ReaL's label sets;
``non-prototypical`` is left out, since its list comes from these very categories, and ``out-of-vocabulary``
is skipped, for want of embeddings of these images.

Run as ``python benchmarks/sorting.py``; with ``--time`` the 67 published models are sorted as well. Tables as
Markdown.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

from manyhot import Reading, diagnose_errors, read_findings, read_labels  # noqa: E402
from manyhot.core.error_kinds import ORDER  # noqa: E402
from manyhot.data import catalog  # noqa: E402
from manyhot.formats.tsipras import read_superclasses  # noqa: E402
from manyhot.tables import Predictions, one_chunk  # noqa: E402

IN_ORDER = Reading(trust_order=True)
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

PUBLISHED = """
alexnet 7542 84 846 1727 262 252 15 4356
densenet121 4203 95 996 1156 216 176 9 1555
densenet161 3664 103 1028 1004 200 154 10 1165
densenet169 3911 100 1007 1079 209 166 9 1341
densenet201 3694 99 1000 1012 203 159 10 1211
inception_v3 3590 94 979 983 203 148 11 1172
resnet18 5069 107 962 1381 226 184 10 2199
resnet34 4348 116 971 1177 219 198 7 1660
squeezenet1_0 7354 84 893 1742 261 234 15 4125
squeezenet1_1 7249 86 884 1652 253 229 15 4130
vgg11 5221 103 942 1416 253 209 12 2286
vgg11_bn 4980 96 970 1414 235 235 12 2018
vgg13 4976 100 947 1385 251 192 13 2088
vgg13_bn 4709 116 948 1295 244 182 10 1914
vgg16 4689 80 980 1284 237 208 12 1888
vgg16_bn 4323 105 983 1195 225 176 7 1632
vgg19 4530 96 963 1233 239 194 12 1793
vgg19_bn 4170 95 996 1176 223 166 10 1504
"""
"""Errors of torchvision's networks, and how many are of each of `KINDS`, as Peychev et al. publish them in
``stats-imagenet/non_problematic_stats_all.csv`` of eth-sri/automated-error-analysis. Those of the networks
that the catalogue has predictions of, by the same weights: top-1 differs by 0.08 points at most."""

KINDS = ("collapsed-pair", "valid-label", "fine-grained", "out-of-vocabulary", "co-occurrence")
KINDS += ("non-prototypical", "model-failure")

LIKE_THEIRS = 0.05
"""With it as large a share of errors is fine-grained as with their superclasses."""

LARGEST = (0.02, 0.04, 0.05, 0.06, 0.12, 0.4)


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
    found = diagnose_errors(labels, predictions, rules=rules, reading=IN_ORDER, **options)
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
        f"\nRules and experts agree on {same} of the {judged} mistakes that ReaL does not accept "
        f"({same / judged:.1%}, Cohen's kappa {kappa(pairs):.2f}); rules that sort all of them as "
        f"*fine-grained* would agree on {always} ({always / judged:.1%})."
    )


def published():
    """Return the names of the networks of `PUBLISHED`, and the share of each kind, shape (18, 7)."""
    rows = [line.split() for line in PUBLISHED.split("\n") if line]
    numbers = np.array([[int(n) for n in row[1:]] for row in rows])
    assert (numbers[:, 1:].sum(1) == numbers[:, 0]).all()
    return [row[0] for row in rows], numbers[:, 1:] / numbers[:, :1]


def theirs_and_others(real, rows):
    """Return the labels that they judge on, ReaL's of all other images, and the networks."""
    labels = read_labels(catalog.fetch_file("imagenet-multilabel", "multilabel.csv"))
    others = pc.invert(pc.is_in(real.image_id, labels.image_id))
    models = dict(common.models(rows))
    return labels, replace(real, table=real.table.filter(others)), [models[name] for name in published()[0]]


def our_shares(labels, real, models, fine_grained="fine-grained", **options):
    """Return the share of each kind, in their order of rules; NaN where a rule is skipped."""
    rules = ["collapsed-pair(original=True)", "valid-label(unclear=True)", fine_grained, *KINDS[3:]]
    options["cooccurrence_labels"] = real
    found = diagnose_errors(labels, models, rules=rules, reading=IN_ORDER, **options)
    return np.array([[m.shares.get(kind, np.nan) for kind in KINDS] for m in found.models])


def print_published(labels, real, models):
    names, theirs = published()
    ours = our_shares(labels, real, models, f"fine-grained(largest={LIKE_THEIRS})")
    print(f"\n{len(names)} networks, mean shares of errors, largest={LIKE_THEIRS}:\n")
    print("| kind | Peychev et al. | here | mean absolute difference | Pearson's r |")
    print("| --- | --- | --- | --- | --- |")
    for i, kind in enumerate(KINDS):
        if np.isnan(ours[:, i]).any():
            print(f"| {kind} | {theirs[:, i].mean():.1%} | – | – | – |")
            continue
        apart, r = np.abs(ours[:, i] - theirs[:, i]).mean(), np.corrcoef(ours[:, i], theirs[:, i])[0, 1]
        print(f"| {kind} | {theirs[:, i].mean():.1%} | {ours[:, i].mean():.1%} | {apart:.1%} | {r:.3f} |")


def print_sensitivity(labels, subset, real, models):
    def share(pairs, category, kinds):
        of = [k for c, k in pairs if c == category and k not in ("valid-label", "no error")]
        return f"{sum(k in kinds for k in of)} of {len(of)}"

    head = ["superclasses", "fine-grained, 18 networks", "r"]
    for model in MODELS:
        head += [f"{model}: agree", "fine-grained found", "spurious taken for it"]
    print(f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    groups = read_superclasses(catalog.fetch_file("tsipras", "superclasses.npy"), 1000, None)
    choices = [(f"fine-grained(largest={n})", {}) for n in LARGEST]
    for rule, options in [*choices, ("fine-grained", {"superclasses": groups})]:
        theirs = published()[1][:, KINDS.index("fine-grained")]
        ours = our_shares(subset, real, models, rule, **options)[:, KINDS.index("fine-grained")]
        cells = [f"{ours.mean():.1%}", f"{np.corrcoef(theirs, ours)[0, 1]:.3f}"]
        for model in MODELS:
            pairs = sort(labels, model, [rule if r == "fine-grained" else r for r in RULES], **options)
            same, judged = agreement(pairs)
            cells += [
                f"{same} of {judged}",
                share(pairs, "fine-grained", SAME["fine-grained"]),
                share(pairs, "spurious correlation", SAME["fine-grained"]),
            ]
        print(f"| {'Tsipras et al.' if options else rule[13:-1]} | {' | '.join(cells)} |")


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
    subset, real, networks = theirs_and_others(labels, rows)
    print_published(subset, real, networks)
    for model in MODELS:
        print_confusion(model, sort(labels, model))
    print_sensitivity(labels, subset, real, networks)
    if arguments.time:
        print_time(labels, rows)


if __name__ == "__main__":
    main()
