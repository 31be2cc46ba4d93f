"""What a notebook and a training loop call: judging models from tables, arrays or lists."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.arrays import as_labels as as_labels
from manyhot.arrays import as_predictions as as_predictions
from manyhot.arrays import (
    as_tables,
    ids_of,
    in_class_order,
    label_column,
    labels_of,
    on_host,
    positions,
    prediction_of,
    read_label,
    read_model,
    read_models,
)
from manyhot.classes import ClassList, class_list_of
from manyhot.core.sets import top_k
from manyhot.core.sorting import ORDER
from manyhot.errors import InputError
from manyhot.registry import get
from manyhot.steps import evaluate as step
from manyhot.steps.compare import Comparison
from manyhot.steps.compare import compare as compare_results
from manyhot.steps.describe import Description
from manyhot.steps.describe import describe as describe_labels
from manyhot.steps.diagnose import diagnose_errors as diagnose_tables
from manyhot.steps.findings import SortedErrors
from manyhot.steps.issues import LabelIssues
from manyhot.steps.issues import find_label_issues as find_in_tables
from manyhot.steps.results import Evaluation
from manyhot.tables import Images, Labels, Part, Predictions, Results, align_columns, align_rows, read_part

DEPTH = 20
"""Best classes kept of an image by `Evaluator`, unless a metric looks deeper or needs all scores."""


def evaluate(
    labels: Any,
    predictions: Any,
    *,
    label: Any = None,
    n_classes: int | None = None,
    metrics: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    images: Images | None = None,
    resamples: int = 1000,
    seed: int = 0,
    map_resamples: int = 0,
    trust_order: bool = False,
    dataset: str = "",
    score_kind: str = "score",
) -> Evaluation:
    """Judge one or many models on label sets.

    Parameters
    ----------
    labels : Labels, lists of classes, multi-hot matrix of shape (n, C), or ints of shape (n,)
    predictions : Predictions, iterable of Predictions, array, or mapping of model names to arrays
        Integer arrays of shape (n, k) are classes, best first; float arrays of shape (n, C) are scores.
        Frames are matched by their index, or a column ``image_id``, and by the names of their columns;
        arrays, and frames whose rows or columns are only numbered, by position.
    label : array-like of int, shape (n,), optional
        Original labels, where `labels` is not a table.
    n_classes : int, optional
        C, where neither a table nor a matrix tells it.
    metrics, slices, images, resamples, seed, map_resamples, trust_order, dataset
        As in `manyhot.steps.evaluate.evaluate`.
    score_kind : str
        What scores given as arrays are: ``logit``, ``probability``, or ``score``, which ranks classes and
        claims nothing more. Calibration needs one of the first two; nothing guesses it from the values.

    Returns
    -------
    Evaluation
        ``.to_polars()``, ``.to_pandas()``, ``.value("real1")``.

    Raises
    ------
    InputError, MatchError, OrderError, UnknownNameError
        As in `manyhot.steps.evaluate.evaluate`; MatchError also if frames are not of the same images or
        classes.

    Examples
    --------
    >>> evaluate([[0, 1], [2]], [[1, 0], [0, 2]], n_classes=3, resamples=0).value("real1")
    0.5
    """
    labels, models = as_tables(labels, predictions, n_classes, label, score_kind)
    return step.evaluate(
        labels,
        models,
        metrics=metrics,
        slices=slices,
        images=images,
        resamples=resamples,
        seed=seed,
        map_resamples=map_resamples,
        trust_order=trust_order,
        dataset=dataset,
    )


def diagnose_errors(
    labels: Any,
    predictions: Any,
    *,
    label: Any = None,
    n_classes: int | None = None,
    score_kind: str = "score",
    event: str = "label",
    above: float | None = None,
    rules: Sequence[str] = ORDER,
    images: Images | None = None,
    classes: ClassList | None = None,
    superclasses: Mapping[str, Collection[int]] | None = None,
    pairs: Collection[tuple[int, int]] | None = None,
    together: Labels | None = None,
    non_prototypical: Collection[str] | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    trust_order: bool = False,
    dataset: str = "",
) -> SortedErrors:
    """Sort the errors of one or many models by what they are; see the page *Sorting errors*.

    Parameters
    ----------
    labels, predictions, label, n_classes, score_kind
        As in `evaluate`.
    event, above, rules, images, classes, superclasses, pairs, together, non_prototypical, similar, neighbours
        As in `manyhot.steps.diagnose.diagnose_errors`.
    trust_order, dataset
        As in `evaluate`.

    Returns
    -------
    SortedErrors
        ``.table``, ``.count("valid-label")``, ``.resting``: the rules that could not run, and why.

    Raises
    ------
    InputError, MatchError, OrderError, UnknownNameError
        As in `manyhot.steps.diagnose.diagnose_errors`.

    Examples
    --------
    >>> found = diagnose_errors([[0, 1], [2]], [[1, 0], [0, 2]], label=[0, 2], n_classes=3)
    >>> found.count("valid-label"), found.count("model-failure")
    (1, 1)
    """
    labels, models = as_tables(labels, predictions, n_classes, label, score_kind, classes)
    return diagnose_tables(
        labels,
        models,
        event=event,
        above=above,
        rules=rules,
        images=images,
        classes=classes,
        superclasses=superclasses,
        pairs=pairs,
        together=together,
        non_prototypical=non_prototypical,
        similar=similar,
        neighbours=neighbours,
        trust_order=trust_order,
        dataset=dataset,
    )


def find_label_issues(
    images: Any,
    predictions: Any,
    *,
    score_kind: str = "score",
    votes: Labels | None = None,
    n_classes: int | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    doubtful: float = 0.5,
    missing: float = 0.2,
    together: float = 0.7,
    confused: float = 0.2,
    dataset: str = "",
) -> LabelIssues:
    """Rank original labels that are doubtful, labels that are missing, and pairs of classes that may be one.

    Parameters
    ----------
    images : Images or array-like of int, shape (n,)
        Original labels; -1 where there is none.
    predictions : Predictions, iterable of Predictions, array, or mapping of model names to arrays
        As in `evaluate`, by models that were not trained on these images.
    score_kind : str
        What scores given as arrays are: ``probability``, ``logit``, or ``score``, which only rank.
    votes : Labels, optional
        Label sets that people made; where they were asked about a class they decide.
    n_classes : int, optional
        C, where the predictions do not tell it.
    similar, neighbours, doubtful, missing, together, confused, dataset
        As in `manyhot.steps.issues.find_label_issues`.

    Returns
    -------
    LabelIssues
        ``.of("doubtful-label")``, ``.to_polars()``.

    Raises
    ------
    InputError, MatchError
        As in `manyhot.steps.issues.find_label_issues`.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
    >>> found = find_label_issues([0, 1, 1], p, score_kind="probability")
    >>> found.of("doubtful-label")["image_id"].to_pylist()
    ['2']
    """
    given, parts = read_models(predictions)
    classes = None if votes is None else class_list_of(votes.class_hash)
    if not isinstance(images, Images):
        own, *parts = align_rows([read_part(images, "images"), *parts])
        label = np.asarray(on_host(own.values))
        if label.ndim != 1 or label.dtype.kind not in "iu":
            raise InputError(
                "Original labels are one class an image.",
                got=f"shape {label.shape} of {label.dtype}",
                allowed="(n,) integers, or an images table",
            )
        columns = {"image_id": ids_of(own, len(label)), "label": label_column(label, len(label))}
        images = Images(pa.table(columns), "labels")
    # Original labels are numbers of classes, in the order of which the columns must be.
    (_, *parts), class_hash = in_class_order([Part((), "images"), *parts], classes)
    given += [prediction_of(p, n_classes or 0, score_kind, class_hash) for p in parts]
    # Tables know what their scores are; those of arrays count as scores until somebody says more.
    given = [
        replace(p, score_kind=score_kind) if p.is_dense and p.score_kind == "score" and not p.source else p
        for p in given
    ]
    return find_in_tables(
        images,
        given,
        votes=votes,
        similar=similar,
        neighbours=neighbours,
        n_classes=n_classes or 0,
        doubtful=doubtful,
        missing=missing,
        together=together,
        confused=confused,
        dataset=dataset,
    )


class Evaluator:
    """Judge a model batch by batch, as in a training loop.

    Parameters
    ----------
    n_classes : int
    metrics : sequence of str, optional
        Registered names or call strings; all rank metrics by default. Only if one needs scores are those over
        all classes kept; else the best `DEPTH` classes of each image.
    resamples : int
        Of the bootstrap in `compute`; 0 for no intervals.
    model : str
        Its name in the results.
    score_kind : str
        What scores are; as in `evaluate`.

    Examples
    --------
    >>> import numpy as np
    >>> evaluator = Evaluator(n_classes=3, metrics=["top1", "real1"])
    >>> evaluator.update(np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]), [[1, 2], [2]])
    >>> evaluator.compute().value("real1")
    0.5
    """

    def __init__(
        self,
        *,
        n_classes: int,
        metrics: Sequence[str] | None = None,
        resamples: int = 0,
        model: str = "model",
        score_kind: str = "score",
    ) -> None:
        self.n_classes = n_classes
        self.metrics = list(step.RANK_METRICS if metrics is None else metrics)
        self.resamples = resamples
        self.model = model
        self.score_kind = score_kind
        entries = [get("metric", m) for m in self.metrics]
        self._dense = any(e.about.get("needs") for e in entries)
        self._depth = max(DEPTH, step.depth_of(entries))
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._names: tuple[str, ...] | None = None
        self._labels: list[Labels] = []
        self._predicted: list[npt.NDArray[Any]] = []

    def update(self, predictions: Any, labels: Any, label: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions : array or tensor, shape (b, C) of float or (b, k) of int
            Scores over all classes, or classes, best first. Frames are matched as in `evaluate`; the names of
            columns hold for later batches, too.
        labels, label
            As in `as_labels`.

        Raises
        ------
        InputError
            If the batch is malformed; it is not added.
        """
        is_table = isinstance(labels, Labels)
        own = Part(None, "labels", labels.image_id) if is_table else read_part(labels, "labels")
        parts = align_rows([own, read_label(label), read_model(self.model, predictions)])
        parts, names = align_columns(parts, self._names, of="earlier batches")
        batch = labels if is_table else labels_of(parts[0], parts[1], self.n_classes)
        predicted = prediction_of(parts[2], self.n_classes, self.score_kind, ids=batch.image_id)
        self._labels.append(batch)
        self._predicted.append(self._kept(predicted))
        self._names = names

    def compute(self) -> Evaluation:
        """Return the results over all batches so far.

        Raises
        ------
        InputError
            If there are none.
        """
        if not self._labels:
            raise InputError("There is nothing to compute yet.", do="call update() with a batch first")
        n = sum(map(len, self._labels))
        ids = positions(0, n)
        with_label = [
            t.table if "label" in t.table.column_names else _unlabelled(t.table) for t in self._labels
        ]
        table = pa.concat_tables(with_label).combine_chunks()
        table = table.set_column(table.column_names.index("image_id"), "image_id", ids)
        labels = Labels(table, self.n_classes, name="labels")
        width = min(p.shape[1] for p in self._predicted)
        joined = np.concatenate([p[:, :width] for p in self._predicted])
        predictions = prediction_of(Part(joined, self.model), self.n_classes, self.score_kind, ids=ids)
        return step.evaluate(labels, [predictions], metrics=self.metrics, resamples=self.resamples)

    def _kept(self, predicted: Predictions) -> npt.NDArray[Any]:
        if predicted.classes is not None:
            return predicted.classes
        assert predicted.scores is not None
        return predicted.scores if self._dense else top_k(predicted.scores, self._depth)


def _unlabelled(table: pa.Table) -> pa.Table:
    position = table.column_names.index("classes")
    empty = pa.nulls(table.num_rows, pa.int32())
    return table.add_column(position, "label", empty).select(
        ["image_id", "label", "usable", "classes", "state"]
    )


def compare(
    *results: Evaluation | Results | str | os.PathLike[str],
    families: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    best_from: float = 0.85,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare models between data sets and metrics.

    Parameters
    ----------
    *results : Evaluation, Results or path-like
        What `evaluate` returned, or files and folders of results. The first data set is the one that others
        are compared with.
    families, without, best_from, resamples, seed
        As in `manyhot.steps.compare.compare`.

    Raises
    ------
    ManyhotError
        As in `manyhot.steps.compare.compare` and `manyhot.read_results`.
    """
    from manyhot.tables import read_thresholds

    flat = [r for given in results for r in (given if isinstance(given, list | tuple) else [given])]
    found = [t for r in flat if isinstance(r, str | os.PathLike) and (t := read_thresholds(r)) is not None]
    return compare_results(
        [_results(r) for r in flat],
        families=families,
        without=without,
        best_from=best_from,
        resamples=resamples,
        seed=seed,
        thresholds=found[0] if found else None,
    )


def describe(
    labels: Labels | str | os.PathLike[str], *, classes: ClassList | None = None, dataset: str = "labels"
) -> Description:
    """Describe label sets: their sizes, which classes go together, which original labels are not in them.

    Parameters
    ----------
    labels : Labels or path-like
        In any format where it is a file.
    classes : ClassList, optional
        Gives names of classes.
    dataset : str
        The name of labels that have none.
    """
    if not isinstance(labels, Labels):
        from manyhot.formats import read_labels

        labels = read_labels(labels, classes=classes)
    return describe_labels(labels, classes=classes, dataset=labels.name or dataset)


def _results(given: Evaluation | Results | str | os.PathLike[str]) -> Results:
    if isinstance(given, Results):
        return given
    if isinstance(given, Evaluation):
        return given.tables()
    from manyhot.formats import read_results

    return read_results(given)
