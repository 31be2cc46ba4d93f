"""What a ranking at random reaches on the same label sets, as a note beside mAP."""

from __future__ import annotations

from collections.abc import Iterator

from pyarrow import compute as pc

from manyhot.core.curve_metrics import CHANCE, RANKING_METRICS, random_values
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.results import Evaluation
from manyhot.tables import Labels
from manyhot.tables.arrays import label_sets


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
