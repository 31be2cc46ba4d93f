"""Proposals from the 67 published models' five best classes, beside the questions that ReaL asked.

    python benchmarks/propose.py

Data: the catalogue's `imagenet-val-predictions`, 67 models of 50,000 images, and `imagenet-real`, ReaL's
label sets and questions. The published predictions are ranks alone, and the rules here go by rank. ReaL asked
184,962 questions about 24,889 images, chosen with models of its own.

A search learns from known images, which are drawn at random `DRAWS` times: its numbers are means over the
draws, and below each stands from which to which the labels found go, for a lab has one draw.

"questions" are ours, "ReaL's" is how many of ReaL's questions are among them; a question about the original
label of an image that is not asked about counts as neither. "labels" is the share of the 32,442 labels of the
rated images that are proposed or stand as the original label: the recall. "of ReaL's" is the share of our
questions about those images that ReaL asked too, "yes" the share of these that its raters answered with yes.
CPU seconds of the rule alone, one thread; a rule that searches does so on the images named. Rules on
probabilities are timed on made-up ones, for the published files hold none.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from common import quiet

RULES = ("union", "union(k=2)", "union(k=3)", "union(k=5)", "top-k(k=5, model='pnasnet5large')")
SEARCHES = ((0.9, 155), (0.97, 155), (0.9, 2000), (0.97, 2000))
"""Recall, and known images: as many as ReaL's experts looked at, and more."""

DRAWS = 20
NUMBERS = ("seconds", "questions", "images", "shared", "recall", "of_real", "yes")


def load():
    """Return the ensemble of all models with ReaL's label sets known, and ReaL's questions as numbers."""
    from manyhot.data.benchmarks import BENCHMARKS
    from manyhot.reassess.ensemble import ensemble_of
    from manyhot.tables import frames
    from manyhot.tables.arrays import label_sets

    fetched = BENCHMARKS["imagenet"].datasets[0].fetch()
    labels = fetched.labels
    ensemble = ensemble_of(fetched.rows, fetched.published, 1000, labels.class_hash, labels)
    rows = frames.align(labels.image_id, fetched.rows.image_id, left_name="ReaL", right_name="predictions")
    sets = label_sets(labels)
    rated = labels.table["rated"].to_numpy()[sets.rows]
    asked = np.sort(rows.right[sets.rows[rated]] * 1000 + sets.classes[rated])
    return ensemble, asked


def measure(ensemble, asked, spec, known=None):
    """Return what a rule proposes beside ReaL's questions and sets; it may learn from the `known` images."""
    from manyhot.core.proposal_coverage import count_coverage
    from manyhot.core.proposals import apply_rule
    from manyhot.registry import get

    seen = ensemble if known is None else ensemble.knowing(known)
    begun = time.process_time()
    proposed = apply_rule(seen, get("proposer", spec))
    spent = time.process_time() - begun
    keys = proposed.pairs.keys(1000)
    both = np.isin(asked, keys).sum()
    judged = ensemble.known_images if known is None else np.setdiff1d(ensemble.known_images, known)
    c = count_coverage(ensemble, proposed, judged)
    questions, shared = int(c.questions.sum()), int(c.questions.sum() - c.unasked.sum())
    return {
        "seconds": spent,
        "questions": len(keys),
        "images": int((~proposed.left_out).sum()),
        "shared": int(both),
        "recall": float(c.proposed.sum() / c.labels.sum()),
        "of_real": shared / questions,
        "yes": float(c.valid.sum() / shared),
        "about": proposed.pairs.about,
    }


def searched(ensemble, asked, spec, known):
    """Return what `measure` does, None where all models together stay below the recall on these images."""
    from manyhot.errors import InputError

    try:
        return measure(ensemble, asked, spec, known)
    except InputError:
        return None


def time_with_probabilities(ensemble):
    """Print CPU seconds of rules on probabilities, which are made up."""
    from manyhot.registry import get

    rng = np.random.default_rng(0)
    best = np.array([0.6, 0.15, 0.08, 0.04, 0.02], np.float32)
    made = tuple(best * rng.uniform(0.5, 1, (len(top), 1)).astype(np.float32) for top in ensemble.top)
    ensemble = replace(ensemble, probabilities=made)
    for spec in ("union(threshold=0.1)", "label-errors", "mean-probability(threshold=0.02)"):
        begun = time.process_time()
        get("proposer", spec)(ensemble)
        print(f"{spec:<34}{time.process_time() - begun:>9.2f} seconds, probabilities made up")


def show(name, found, n_asked):
    print(
        f"{name:<34}{found['questions']:>10,.0f}{found['images']:>8,.0f}"
        f"{found['shared'] / n_asked:>9.1%}{found['recall']:>9.1%}"
        f"{found['of_real']:>11.1%}{found['yes']:>8.1%}{found['seconds']:>9.2f}",
        flush=True,
    )


def main() -> None:
    quiet()
    ensemble, asked = load()
    print(
        f"{'':<34}{'questions':>10}{'images':>8}{'ReaL’s':>9}{'labels':>9}"
        f"{'of ReaL’s':>11}{'yes':>8}{'seconds':>9}"
    )
    for spec in RULES:
        show(spec, measure(ensemble, asked, spec), len(asked))
    for recall, n in SEARCHES:
        spec = f"real-search(by='rank', recall={recall})"
        draws = [np.random.default_rng(seed).permutation(ensemble.known_images)[:n] for seed in range(DRAWS)]
        found = [f for drawn in draws if (f := searched(ensemble, asked, spec, np.sort(drawn)))]
        means = {number: np.mean([f[number] for f in found]) for number in NUMBERS}
        show(f"real-search {recall:.0%}, {n:,} known", means, len(asked))
        labels, inside = ([f["recall"] for f in found], [f["about"]["searched_recall"] for f in found])
        models = [len(f["about"]["models"]) for f in found]
        print(
            f"    {min(labels):.1%} to {max(labels):.1%} of the labels; {np.mean(inside):.1%} on the known "
            f"images; {min(models)} to {max(models)} models; {DRAWS - len(found)} of {DRAWS} out of reach",
            flush=True,
        )
    time_with_probabilities(ensemble)
    print(f"of ReaL's {len(asked):,} questions; labels on images that the search has not seen")


if __name__ == "__main__":
    main()
