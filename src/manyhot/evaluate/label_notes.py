"""Notes on how label sets determine metrics: unclear classes, metrics left out, values by chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pyarrow import compute as pc

from manyhot.core.curve_metrics import CHANCE, RANKING_METRICS, random_values
from manyhot.core.sets import UNCLEAR
from manyhot.evaluate.requirements import option_of
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.results import Evaluation
from manyhot.registry import get, names, options_of
from manyhot.tables import Labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.result_tables import default_metrics


def unclear_notes(evaluation: Evaluation, labels: Labels, dataset: str) -> Iterator[Note]:
    """Yield notes with the numbers of unclear pairs, and of empty cells, if metrics count them as not valid.

    Empty cells are pairs that nobody was asked about, if raters were asked about most pairs.
    """
    sets = label_sets(labels)
    counting = [m for m in evaluation.results["metric"].unique().to_pylist() if _counts_unclear(m)]
    n = int(np.count_nonzero((sets.state == UNCLEAR) & sets.usable[sets.rows]))
    n_pairs = int(np.count_nonzero(sets.usable)) * sets.n_classes
    n_listed = int(np.count_nonzero(sets.usable[sets.rows]))
    is_most = sets.asked_known and not sets.complete and 2 * n_listed > n_pairs
    counts = {"unclear": n, "not asked": n_pairs - n_listed if is_most else 0}
    for what, count in counts.items():
        if not count or not counting:
            continue
        one = count == 1
        pairs = "1 pair of an image and a class" if one else f"{count:,} pairs of an image and a class"
        state = "unclear" if what == "unclear" else "without an answer"
        text = f"{pairs} {'is' if one else 'are'} {state} and {'counts' if one else 'count'} as not valid in "
        text += ", ".join(counting)
        if sets.asked_known:
            text += f"; to leave {'it' if one else 'them'} out, pass `metrics`, such as "
            text += f"'{counting[0]}(masked=True)'"
        yield Note(dataset, "", what, count, text)


def _counts_unclear(name: str) -> bool:
    if name.partition("(")[0] not in names("metric"):  # a share beside a metric, such as real1_unasked
        return False
    metric = get("metric", name)
    return "masked" in options_of(metric) and not option_of(metric, "masked")


def best_classes_notes(evaluation: Evaluation, labels: Labels, dataset: str) -> Iterator[Note]:
    """Yield a note if label sets have no mAP and F1 because predictions contain only the best classes.

    With scores of all classes, these are the default metrics of label sets without original labels. If only
    some models have such scores, another note says so.
    """
    has_label = "label" in labels.table.column_names and labels.table["label"].null_count < len(labels)
    computed = set(evaluation.results["metric"].unique().to_pylist())
    wanted = default_metrics(dense=True, labelled=False)
    if has_label or labels.exclusive or not computed or computed & set(wanted):
        return
    text = (
        "mAP and F1 are left out, because they need scores of all classes, and the predictions contain only "
        "the best classes of each image; predict or export the scores of all classes"
    )
    yield Note(dataset, "", "needs_scores", len(labels), text)


def chance_notes(evaluation: Evaluation, labels: Labels, dataset: str) -> Iterator[Note]:
    """Yield a note with the values expected by chance, if each model predicts all images with label sets."""
    table = evaluation.results.filter(pc.equal(evaluation.results["slice"], "all"))
    images = {
        m: table.filter(pc.equal(table["metric"], m))["n"].unique().to_pylist() for m in RANKING_METRICS
    }
    expected = random_values(label_sets(labels)) if any(images.values()) else {}
    shown = {m: value for m, (value, n) in expected.items() if images[m] == [n]}
    if shown:
        values = ", ".join(f"{metric} {value:.1%}" for metric, value in shown.items())
        yield Note(dataset, "", CHANCE, len(labels), f"a ranking at random has {values}")
