"""Notes on how label sets determine metrics: unclear classes, metrics left out, values by chance."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools, Ints
from manyhot.core.curve_metrics import CHANCE, RANKING_METRICS, random_values
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES, LabelSets
from manyhot.data.data_sets import Source
from manyhot.errors import first_names
from manyhot.evaluate.ranks import best_and_closest
from manyhot.evaluate.requirements import entries_of, mixed_masks, option_of
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slices import ALL, column_of, is_requested, make_slices
from manyhot.registry import Entry, get, names, options_of
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import label_sets
from manyhot.tables.result_tables import default_metrics, is_over_classes


class PredictedImages:
    """The labelled images that at least one model predicts."""

    def __init__(self, labels: Labels) -> None:
        self._all, self._seen = labels, np.zeros(len(labels), bool)

    def add(self, model: Predictions) -> None:
        """Add the images of a model."""
        if not self._seen.all():
            self._seen |= pc.is_in(self._all.image_id, value_set=model.image_id).to_numpy(False)

    @property
    def labels(self) -> Labels:
        """The label sets of these images."""
        if self._seen.all():
            return self._all
        return replace(self._all, table=self._all.table.filter(pa.array(self._seen)))


def answer_notes(
    dataset: str,
    labels: Labels,
    metrics: Sequence[str],
    *,
    unlabelled: Collection[int] = (),
    instead: str = "pass `metrics`, such as '{}(masked=True)'",
) -> Iterator[Note]:
    """Yield notes on undecided images, and on unclear and unanswered pairs that metrics count as not valid.

    Parameters
    ----------
    labels : Labels
        The label sets of the evaluated images.
    metrics : sequence of str
        The metrics that count such pairs; without any, no pairs are counted.
    unlabelled : collection of int
        Classes that occur only in the predictions. Their pairs are not counted, because another note names
        them.
    instead : str
        How to leave these pairs out, with ``{}`` in place of the first metric.
    """
    sets = label_sets(labels)
    if n_undecided := int(np.count_nonzero(sets.counted & ~sets.usable)):
        text = (
            f"metrics of label sets skip {n_undecided:,} of {np.count_nonzero(sets.counted):,} images, "
            "because raters chose one class of each, but no class reached the threshold: it is undecided "
            "which is valid; to include more images, aggregate the votes with a lower threshold"
        )
        yield Note(dataset, "", "undecided", n_undecided, text)
    if not metrics:
        return
    counts = sets.usable[sets.rows]  # of which no class is one of the predictions alone
    n_pairs = int(np.count_nonzero(sets.usable)) * (sets.n_classes - len(unlabelled))
    # Lists of classes and full matrices of 0 and 1 leave no pair without an answer.
    has_blanks = labels.positives_only or (sets.asked_known and sets.unlisted == NOT_ASKED)
    n_blank = n_pairs - int(np.count_nonzero(counts)) if has_blanks else 0
    n_unclear = int(np.count_nonzero((sets.state == UNCLEAR) & counts))
    leave_out = f"; to leave {{}} out, {instead.format(metrics[0])}" if sets.asked_known else ""
    if labels.positives_only and n_blank:
        leave_out = "; the labels contain positives but no negatives, so no metric can leave {} out"
    for kind, state, n in (("unclear", "unclear", n_unclear), ("not asked", "without an answer", n_blank)):
        if n:
            one = n == 1
            pairs = "1 pair of an image and a class" if one else f"{n:,} pairs of an image and a class"
            share = "" if kind == "unclear" else f" ({n / n_pairs:.1%})"
            text = f"{pairs}{share} {'is' if one else 'are'} {state} and "
            text += f"{'counts' if one else 'count'} as not valid in {', '.join(metrics)}"
            yield Note(dataset, "", kind, n, text + leave_out.format("it" if one else "them"))


def table_notes(
    dataset: str,
    labels: Labels,
    classes: ClassList | None,
    metrics: Sequence[str] | None,
    by_class: Mapping[str, pa.Table],
) -> Iterator[Note]:
    """Yield notes on classes that masked metrics leave out, and if only some requested metrics are masked."""
    entries = () if metrics is None else entries_of(metrics)
    if any(option_of(m, "masked") or m.name.startswith("classwise_ece_asked") for m in entries):
        yield from certain_notes(dataset, labels, classes)
    text = mixed_masks(metrics)
    if text and any(map(len, by_class.values())) and label_sets(labels).leaves_out_cells(True):
        yield Note(dataset, "", "classes", 0, text)


def certain_notes(dataset: str, labels: Labels, classes: ClassList | None) -> Iterator[Note]:
    """Yield a note on classes that masked metrics leave out, because all of their answers are yes."""
    n_yes, n_no = _answers_by_class(label_sets(labels), masked=True)
    certain = np.flatnonzero((n_yes > 0) & (n_no == 0)).tolist()
    if certain:
        names = [str(c) if classes is None else classes.names[c] for c in certain]
        them = "it" if len(names) == 1 else "them"
        text = (
            f"{first_names(names)}: no image is known to be without {them}, so any ranking of the answers is "
            "perfect; masked average precision, AUROC, precision and F1 of classes, thresholds and "
            f"calibration leave {them} out, recall does not"
        )
        yield Note(dataset, "", "classes", len(certain), text)


def _answers_by_class(sets: LabelSets, *, masked: bool, mask: Bools | None = None) -> tuple[Ints, Ints]:
    """Return the numbers of positives and negatives of each class on the images of a slice."""
    counts = sets.usable if mask is None else sets.usable & mask
    listed, cells = counts[sets.rows], np.full(sets.n_classes, np.count_nonzero(counts))
    n_yes, n_no, n_listed = (
        np.bincount(sets.classes[listed & own], minlength=sets.n_classes)
        for own in (sets.state == YES, sets.state == NO, True)
    )
    if not masked:
        return n_yes, cells - n_yes
    return n_yes, n_no + (cells - n_listed if sets.unlisted == NO else 0)


def slice_class_notes(
    source: Source, labels: Labels, metrics: Collection[str], slices: Sequence[str]
) -> Iterator[Note]:
    """Yield notes on means over classes that include different classes on the slices of a column.

    Parameters
    ----------
    labels : Labels
        The label sets of the evaluated images.
    metrics : collection of str
        Call strings of the evaluated metrics.
    slices : sequence of str
        The requested slices.
    """
    averages = [m for m in metrics if is_over_classes(m)]
    if not (averages and slices):
        return
    entries = entries_of(averages)
    sets, classes = label_sets(labels), source.classes or labels.known_classes
    made = make_slices(labels, sets, images=source.images, classes=classes, requested=slices)
    masks = dict(zip(made.names, made.masks, strict=True))
    texts = dict[tuple[str, tuple[int, ...], tuple[tuple[str, int], ...]], list[str]]()
    for column in dict.fromkeys(column_of(name) for name in masks if is_requested(name, slices)):
        own = [ALL, *(n for n in masks if is_requested(n, slices) and column_of(n) == column)]
        for metric in entries:
            counted = {name: _averaged(metric, sets, masks[name]) for name in own}
            counted = {name: each for name, each in counted.items() if each.any()}
            some = np.logical_or.reduce([*counted.values()]) & ~np.logical_and.reduce([*counted.values()])
            if some.any():
                numbers = tuple((name, int(each.sum())) for name, each in counted.items())
                key = (column, tuple(np.flatnonzero(some).tolist()), numbers)
                texts.setdefault(key, []).append(metric.name)
    for (column, some_classes, numbers), means in texts.items():
        one = len(means) == 1
        shown = first_names([f"{n:,} on {name}" for name, n in numbers])
        missing = first_names([str(c) if classes is None else classes.names[c] for c in some_classes])
        text = (
            f"{', '.join(means)} {'is a mean' if one else 'are means'} over different classes on the "
            f"slices of {column}: {shown}; not all of them include {missing}. To compare slices, pass the "
            "list of the other classes as `classes`"
        )
        yield Note(source.name, "", "slice_classes", len(some_classes), text)


def _averaged(metric: Entry, sets: LabelSets, mask: Bools) -> Bools:
    """Return which classes a mean over classes includes on a slice, as those metrics define it."""
    masked, needed = bool(option_of(metric, "masked")), metric.about["over_classes"]
    n_yes, n_no = _answers_by_class(sets, masked=masked, mask=mask)
    needs_no = needed == "with both" or (masked and needed == "with both if masked")
    return np.asarray((n_yes > 0) & ((n_no > 0) | (not needs_no)))


def unmasked_metrics(evaluation: Evaluation) -> list[str]:
    """Return the metrics that count pairs without a clear answer as not valid but could leave them out."""
    return [m for m in evaluation.results["metric"].unique().to_pylist() if _counts_unclear(m)]


def _counts_unclear(name: str) -> bool:
    if name.partition("(")[0] not in names("metric"):  # a share beside a metric, such as real1_unasked
        return False
    metric = get("metric", name)
    return "masked" in options_of(metric) and not option_of(metric, "masked")


def best_classes_notes(evaluation: Evaluation, labels: Labels, dataset: str) -> Iterator[Note]:
    """Yield a note if label sets have no mAP or F1 because predictions lack scores of some classes.

    With scores of all classes, these are the default metrics of label sets without original labels. If only
    some models have such scores, another note reports this.
    """
    has_label = "label" in labels.table.column_names and labels.table["label"].null_count < len(labels)
    computed = set(evaluation.results["metric"].unique().to_pylist())
    wanted = default_metrics(dense=True, labelled=False)
    if has_label or labels.exclusive or not computed or computed & set(wanted):
        return
    text = (
        "mAP and F1 are left out, because they need scores of all classes of the label sets, and no model "
        "has them; predict or export these scores"
    )
    yield Note(dataset, "", "needs_scores", len(labels), text)


def vote_notes(evaluation: Evaluation, labels: Labels, dataset: str) -> Iterator[Note]:
    """Yield a note if the model that is ranked best is not the one whose probabilities match votes best.

    There is none if the two models do not differ beyond noise in `kl_votes`.
    """
    if both := best_and_closest(evaluation.as_results(), dataset):
        yield Note(dataset, "", "votes", len(labels), ", but ".join(both))


def chance_notes(evaluation: Evaluation, labels: Labels, dataset: str) -> Iterator[Note]:
    """If all models predict all images with label sets, yield a note with the values expected by chance.

    If raters answered only about the classes that models proposed, it is unknown which others are valid, and
    thus how many valid classes a random ranking finds.
    """
    sets = label_sets(labels)
    if sets.unlisted == NOT_ASKED and sets.usable[sets.rows].sum() < sets.usable.sum() * sets.n_classes:
        return
    table = evaluation.results.filter(pc.equal(evaluation.results["slice"], "all"))
    images = {
        m: table.filter(pc.equal(table["metric"], m))["n"].unique().to_pylist() for m in RANKING_METRICS
    }
    expected = random_values(sets) if any(images.values()) else {}
    shown = {m: value for m, (value, n) in expected.items() if images[m] == [n]}
    if shown:
        values = ", ".join(f"{metric} {value:.1%}" for metric, value in shown.items())
        yield Note(dataset, "", CHANCE, len(labels), f"a ranking at random has {values}")
