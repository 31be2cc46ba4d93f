"""Judge a model batch by batch, as it predicts, in one process or in several."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.core.sets import Case
from manyhot.core.top_classes import top_k
from manyhot.data.inputs import Reading
from manyhot.data.table_inputs import labels_of_table
from manyhot.errors import InputError, first_names
from manyhot.evaluate.evaluate import evaluate
from manyhot.evaluate.requirements import NEEDS, depth_of, unmet
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.streamed_images import StreamedImages, read_ids, some_names
from manyhot.extras import required
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.parameters import RESAMPLES
from manyhot.registry import get
from manyhot.tables import FramePart, Labels, Predictions, ScoreKind, align_rows, read_frame_part
from manyhot.tables.array_inputs import in_class_order, prediction_of, read_label, read_model
from manyhot.tables.arrays import label_sets
from manyhot.tables.class_values import with_ids
from manyhot.tables.label_arrays import labels_as_table, positions
from manyhot.tables.label_values import LabelValues
from manyhot.tables.own_classes import JoinedClasses, own_list
from manyhot.tables.result_tables import default_metrics
from manyhot.tables.score_columns import with_scores

DEPTH = 20
"""Number of top classes that `Evaluator` keeps for an image, unless a metric needs more, or all scores."""

STATE_VERSION = 1
"""Version of what `Evaluator.state_dict` returns."""


class Evaluator:
    """Evaluate a model batch by batch, for example in a training loop.

    In several processes, each process evaluates its part of the images, and `merge` joins the parts.

    Parameters
    ----------
    classes : path, ClassList or sequence of str, optional
        The class list, as in `evaluate`: names in the order of the columns of scores, a file, or the name of
        a built-in list. Labels and top classes in batches can then be names. Columns of frames and class
        lists of tables are matched to the class list by name.
    n_classes : int
        Number of classes, if `classes` is not passed. The first table of labels with a class list, or the
        first frame, then names the classes.
    metrics : sequence of str, optional
        Names or call strings of metrics; by default all rank metrics. Scores over all classes are kept only
        if a metric needs them. Otherwise only the top `DEPTH` classes per image are kept.
    resamples : int
        Number of bootstrap resamples in `compute`; 0 for no intervals.
    model : str
        Name of the model in the results.
    scores : {"logit", "probability", "cosine", "none"}, optional
        Kind of the scores, as in `Reading`.
    score_kind : str
        The former name of `scores`.
    label_values : {"states", "counts", "shares", "p", "yes-of-5"}, optional
        The meaning of the numbers in matrices of labels, as in `as_labels`. By default, states and counts are
        recognised in each batch.

    Raises
    ------
    InputError
        If there is neither `classes` nor `n_classes`, or if the two disagree.

    Examples
    --------
    >>> import numpy as np
    >>> evaluator = Evaluator(n_classes=3, metrics=["top1", "real1"])
    >>> evaluator.update(np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]), [[1, 2], [2]])
    >>> evaluator.compute().value("real1")
    0.5
    >>> evaluator = Evaluator(classes=["cat", "cow", "dog"], metrics=["real1"])
    >>> evaluator.update(np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]), [["cow", "dog"], ["dog"]])
    >>> evaluator.compute().value("real1")
    0.5
    """

    def __init__(
        self,
        *,
        classes: ClassNamesLike | None = None,
        n_classes: int = 0,
        metrics: Sequence[str] | None = None,
        resamples: int = RESAMPLES,
        model: str = "model",
        scores: ScoreKind | None = None,
        score_kind: str = "",
        label_values: LabelValues | None = None,
    ) -> None:
        self.classes = open_class_list(classes)
        self.n_classes = _size(self.classes, n_classes)
        self.metrics = list(default_metrics(dense=False) if metrics is None else metrics)
        self.resamples = resamples
        self.model = model
        self.label_values = label_values
        reading = Reading(scores=scores, score_kind=score_kind)
        self.scores = reading.kind_of_arrays
        entries = [get("metric", m) for m in self.metrics]
        self._dense = any(e.about.get("needs") for e in entries)
        self._depth = max(DEPTH, depth_of(entries))
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._images = StreamedImages()

    def update(self, predictions: Any, labels: Any, label: Any = None, *, ids: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions : array or tensor, shape (b, C) of float or (b, k) of int
            Scores over all classes, or classes, best first. Frames are matched as in `evaluate`, and the
            names of their columns also apply to later batches.
        labels, label
            As in `as_labels`; or a frame with a row per image and a column with lists of names.
        ids : sequence of str or int, shape (b,), optional
            Ids of the images, for all batches or for none. An image that is added more than once, for example
            because a distributed sampler pads the data set, counts once. Without ids, every row is an image
            of its own. The index of a frame is not an id: it only matches the rows within a batch.

        Raises
        ------
        InputError
            If the batch is malformed, if a name is not in the class list, or if the scores do not have the
            kind that a metric needs. The batch is then not added.
        MatchError
            If the classes of a table or the columns of a frame differ from those of the evaluator.
        """
        labels, listed = self._read_table(labels)
        is_table = isinstance(labels, Labels)
        own = FramePart(None, "labels", labels.image_id) if is_table else read_frame_part(labels, "labels")
        lists = [listed, labels.class_list if is_table else None]
        model = with_scores([read_model(self.model, predictions)], [own], lists)
        parts = [own, read_label(label), *model]
        image_id = None if ids is None else read_ids(ids)
        order = [] if image_id is None else [FramePart(None, "ids", image_id)]
        parts = align_rows([*order, *parts])[len(order) :]
        parts, listed = self._with_classes(parts, listed)
        # Ids may repeat within a batch, while those of a table may not.
        sets = replace(parts[0], ids=None)
        values = self.label_values
        batch = labels if is_table else labels_as_table(sets, parts[1], self.n_classes, label_values=values)
        predicted = prediction_of(parts[2], self.n_classes, self.scores, ids=batch.image_id)
        if not self._images.tables:
            self._check_scores(batch, predicted)
        images = StreamedImages.of(batch, self._to_keep(predicted), image_id)
        self._images.add(images.over(listed, is_own=self.classes is None), "this batch")

    def compute(self) -> Evaluation:
        """Return the results over all batches so far.

        With ids, the images are in the order of their ids, so that the results do not depend on how images
        were divided into batches and processes.

        Raises
        ------
        InputError
            If there are no batches.
        MatchError
            If an image was added with different labels.
        """
        if not sum(map(len, self._images.tables)):
            raise InputError(
                "There are no batches to compute results from.", do="call update() with a batch first"
            )
        images, n_repeated, n_differing = self._images.distinct()
        labels, predictions = self._tables(images)
        found = evaluate(labels, [predictions], metrics=self.metrics, resamples=self.resamples)
        return found.with_notes(list(self._notes(n_repeated, n_differing)))

    def merge(self, *others: Evaluator) -> None:
        """Add the batches of other evaluators, for example those of other processes.

        The order of merging does not change results: without ids, merged images are sorted by their labels
        and predictions, so that sums are the same to the last digit.

        Parameters
        ----------
        *others : Evaluator
            Evaluators with the same `metrics` and `scores`, and the same `classes` or `n_classes`. They are
            not changed.

        Raises
        ------
        InputError
            If the settings differ, or if some evaluators have ids and others do not. Nothing is then added.
        MatchError
            If the class lists of their tables or the columns of their frames differ.

        Examples
        --------
        In each of several processes of ``torch.distributed``:

        >>> evaluators = [None] * dist.get_world_size()  # doctest: +SKIP
        >>> dist.all_gather_object(evaluators, evaluator)  # doctest: +SKIP
        >>> sum(evaluators[1:], evaluators[0]).compute()  # doctest: +SKIP
        """
        merged = StreamedImages(merged=True)
        for number, other in enumerate((self, *others)):
            self._check_settings(other._settings(), "Evaluators with different settings cannot be merged.")
            merged.add(other._images, f"evaluator {number}")
        self._images = merged

    def __add__(self, other: Evaluator) -> Evaluator:
        """Return a new evaluator with the batches of both."""
        if not isinstance(other, Evaluator):
            return NotImplemented
        both = copy.copy(self)
        both.merge(other)  # replaces the images of the copy, and only of the copy
        return both

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the images as numbers, strings and bytes.

        The state can be pickled, sent to other processes, and saved with ``torch.save``. It can be loaded
        with ``torch.load(weights_only=True)``.

        Returns
        -------
        dict
            The keys ``version``, ``n_classes``, ``classes`` (keys, or None), ``metrics``, ``scores``, and
            ``images`` (an Arrow stream with one row per image, or None without images).
        """
        return {"version": STATE_VERSION, **self._settings(), "images": self._images.to_bytes()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the images by those of a state.

        Parameters
        ----------
        state : mapping
            Return value of `state_dict` of an evaluator with the same settings.

        Raises
        ------
        InputError
            If the settings differ, or the state is damaged. The evaluator is then unchanged.
        """
        own = ("version", *self._settings(), "images")
        if not isinstance(state, Mapping) or set(state) != set(own):
            raise InputError(
                "This is not the state of an evaluator.",
                got=", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__,
                allowed=", ".join(own),
                do="pass what Evaluator.state_dict() returned",
            )
        if state["version"] != STATE_VERSION:
            raise InputError(
                "The state was written by another version of manyhot.",
                got=f"version {state['version']}",
                allowed=f"version {STATE_VERSION}",
            )
        self._check_settings(state, "The state belongs to an evaluator with different settings.")
        images = StreamedImages.from_bytes(state["images"])
        self._check_list(images)
        if images.tables:
            self._tables(images.numbered())  # checks the ranges of classes
        self._images = images

    def as_torch_metric(self, metric: str | None = None, **options: Any) -> Any:
        """Return a torchmetrics metric with the settings of this evaluator, for Lightning.

        The torchmetrics metric can be part of a ``MetricCollection``, and can be moved and saved with a
        module. Its `update` takes the same arguments as that of the evaluator. Its `compute` returns a dict
        of scalars over the images of all processes, or one scalar if `metric` is passed. Its attribute
        `evaluation` is the `Evaluation` of the last call of `compute`, with the number of images of each
        value.

        Parameters
        ----------
        metric : str, optional
            One of the evaluator's `metrics`, whose value `compute` returns; by default, the values of all.
            With one metric, Lightning logs the object itself and resets it after each epoch:
            ``self.log("mAP", metric)``.
        **options
            Options of ``torchmetrics.Metric``, such as ``dist_sync_on_step``.

        Returns
        -------
        torchmetrics.Metric

        Raises
        ------
        InputError
            If `metric` is not one of `metrics`.
        UnknownNameError
            If `metric` is not registered.
        MissingExtraError
            If torchmetrics is not installed.

        Examples
        --------
        >>> evaluator = Evaluator(n_classes=3, metrics=["map_macro", "lrap"])
        >>> judge = evaluator.as_torch_metric("map_macro")  # doctest: +SKIP
        >>> judge.update(logits, multi_hot)  # doctest: +SKIP
        >>> self.log("mAP", judge)  # doctest: +SKIP
        """
        required("torchmetrics", "A metric of torchmetrics", "torchmetrics")
        from manyhot.evaluate.torch_metric import TorchMetric

        return TorchMetric(self, None if metric is None else self._own_metric(metric), **options)

    def _own_metric(self, spec: str) -> str:
        name, own = get("metric", spec).name, [get("metric", m).name for m in self.metrics]
        if name not in own:
            raise InputError(
                "The evaluator does not compute this metric.",
                got=name,
                allowed=", ".join(own),
                do="create the evaluator with this metric in `metrics`",
            )
        return name

    def _check_scores(self, batch: Labels, predicted: Predictions) -> None:
        """Raise an error on metrics that need another kind of scores, before all batches have passed."""
        ranked = (
            self._to_keep(predicted) if predicted.classes is not None else np.empty((len(batch), 0), np.int32)
        )
        case = Case(label_sets(batch), ranked, predicted.scores, predicted.score_kind)
        for lack in unmet([get("metric", name) for name in self.metrics], case, predicted):
            if lack.kind.removeprefix("needs_") in NEEDS:
                raise lack.error(self.model)

    def _read_table(self, labels: Any) -> tuple[Any, ClassList | None]:
        """Return labels, those with a class list over the list of the evaluator, and this list if known."""
        classes = self.classes or self._images.classes
        if not isinstance(labels, Labels):
            read = labels_of_table(labels, classes) if hasattr(labels, "columns") else None
            if read is None or len(read) != len(labels):
                return labels, classes
            labels = read
        own = None if labels.assumed else labels.known_classes
        if own is None or (classes is not None and own.hash == classes.hash):
            return labels, classes
        if classes is not None:
            return JoinedClasses(len(classes), classes).of_labels(labels), classes
        if len(own) != self.n_classes:
            raise InputError(
                "The labels and the evaluator have different numbers of classes.",
                where=labels.name or "labels",
                got=f"{len(own):,}: {some_names(own)}",
                allowed=f"{self.n_classes:,}",
                do="create the evaluator with `classes`, the list of all classes",
            )
        return labels, own

    def _with_classes(
        self, parts: Sequence[FramePart], classes: ClassList | None
    ) -> tuple[list[FramePart], ClassList | None]:
        """Return parts over the class list, with ids in place of names, and this list if known."""
        of = f"the class list {self.classes.name}" if self.classes else "earlier batches"
        ordered, columns = in_class_order(parts, classes, of=of)
        named, own, _ = with_ids(ordered, classes or columns)
        if own is not None and classes is None and columns is None:
            raise InputError(
                "The classes are names, but the evaluator has no class list.",
                got=some_names(own),
                do="create the evaluator with `classes`, the list of all classes",
            )
        return named, classes or columns

    def _settings(self) -> dict[str, Any]:
        return {
            "n_classes": self.n_classes,
            "classes": None if self.classes is None else list(self.classes.keys),
            "metrics": list(self.metrics),
            "scores": self.scores,
        }

    def _check_settings(self, theirs: Mapping[str, Any], message: str) -> None:
        for name, value in self._settings().items():
            if theirs[name] != value:
                raise InputError(
                    message,
                    where=name,
                    got=_text(theirs[name]),
                    allowed=_text(value),
                    do="create all evaluators with the same classes, metrics and scores",
                )

    def _check_list(self, images: StreamedImages) -> None:
        own = self.classes or images.classes
        if images.tables and images.class_hash != (own.hash if own else ""):
            raise InputError(
                "The images of the state have a different class list from the evaluator.",
                got=f"class list {images.class_hash}" if images.class_hash else "no class list",
                allowed=f"class list {own.hash}: {some_names(own)}" if own else "no class list",
                do="create all evaluators with the same classes, metrics and scores",
            )

    def _tables(self, images: StreamedImages) -> tuple[Labels, Predictions]:
        (table,), (predicted,) = images.tables, images.predicted
        if not images.has_ids:
            table = table.add_column(0, "image_id", positions(len(table)))
        own = self.classes or images.classes
        labels = Labels(
            table,
            self.n_classes,
            own.hash if own else "",
            images.asked_known,
            name="labels",
            class_list=own and own_list(own),
            complete=images.complete,
            positives_only=images.positives_only,
            exclusive=images.exclusive,
        )
        part = FramePart(predicted, self.model)
        return labels, prediction_of(part, self.n_classes, self.scores, own, labels.image_id)

    def _notes(self, n_repeated: int, n_differing: int) -> Iterator[Note]:
        if n_repeated:
            total = sum(map(len, self._images.tables))
            text = f"{n_repeated:,} of {total:,} rows repeat an id, as in padded data, and were left out"
            if n_differing:
                text += (
                    f"; {n_differing:,} of the ids {'has' if n_differing == 1 else 'have'} several "
                    "predictions, and one of them was used"
                )
            yield Note("labels", self.model, "repeated", n_repeated, text)

    def _to_keep(self, predicted: Predictions) -> npt.NDArray[Any]:
        if predicted.classes is not None:
            return predicted.classes
        assert predicted.scores is not None
        return predicted.scores if self._dense else top_k(predicted.scores, self._depth)


def _size(classes: ClassList | None, n_classes: int) -> int:
    """Return the number of classes."""
    if classes is None and not n_classes:
        raise InputError("The number of classes is unknown.", do="pass `classes` or `n_classes`")
    if classes is not None and n_classes not in (0, len(classes)):
        raise InputError(
            "The class list does not have `n_classes` classes.",
            where=classes.name,
            got=f"{len(classes):,} classes",
            allowed=f"{n_classes:,}",
            do="leave out `n_classes`",
        )
    return n_classes if classes is None else len(classes)


def _text(value: Any) -> str:
    shown = value if isinstance(value, list) else [value]
    return first_names(shown, 10)
