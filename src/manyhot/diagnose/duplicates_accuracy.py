"""Accuracy of models with and without the images that have duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Bools
from manyhot.core.share_intervals import difference_of_shares, proportion_interval
from manyhot.tables import Row, one_chunk, schema
from manyhot.tables.definitions import COUNT, REAL, TEXT, bounds, declare_table, interval
from manyhot.tables.image_ids import ids_like

WITHOUT = {
    "between": "images with a duplicate in another split or data set",
    "repeated": "images that are duplicates of an earlier image",
    "conflict": "images with a duplicate of another label",
}
"""What is left out."""

_SHARE, _DIFFERENCE = "its 95 % interval", "the 95 % interval of difference (Newcombe)"

declare_table(
    "duplicate_accuracy",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("metric", "top1 (original label) or real1 (label set)"),
        TEXT("without", "which images are left out, as in images.parquet", values=tuple(WITHOUT)),
        *interval("value", "accuracy on all images", _SHARE, value=REAL),
        *interval("value_without", "accuracy on the images that remain", _SHARE),
        REAL.nullable("difference", "value_without minus value, of the same model"),
        *bounds("lo", "hi", _DIFFERENCE),
        COUNT("n", "number of images"),
        COUNT("n_without", "number of images that remain"),
    ),
)


def accuracy_without(right: Bools, left_out: Bools) -> Row:
    """Return the accuracy of a model with and without some images, and their difference, with intervals.

    Parameters
    ----------
    right, left_out : ndarray of bool, shape (n,)

    Notes
    -----
    Let s be the share of images left out. The accuracy on the rest minus the accuracy on all images is s
    times the difference between the accuracy on the rest and on the images left out. The rest and the images
    left out have no image in common, so the interval is s times Newcombe's interval of their difference.
    """
    n, k, out = len(right), int(right.sum()), int(left_out.sum())
    rest = int(right[~left_out].sum())
    gap = difference_of_shares(np.array([[rest], [k - rest]]), np.array([[n - out], [out]]))
    ends = zip(("difference", "lo", "hi"), gap, strict=True)
    return {
        **_share("value", k, n),
        **_share("value_without", rest, n - out),
        **{name: _or_none(float(value[0]) * out / n) for name, value in ends},
        "n": n,
        "n_without": n - out,
    }


def _share(name: str, hits: int, images: int) -> Row:
    lo, hi = (float(end) for end in proportion_interval(hits, images))
    share = hits / images if images else float("nan")
    return {name: _or_none(share), f"{name}_lo": _or_none(lo), f"{name}_hi": _or_none(hi)}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


@dataclass(frozen=True, eq=False)
class RightAnswers:
    """Whether M models are right on n images.

    Attributes
    ----------
    dataset : str
    models : tuple of str
    image_id : pyarrow.Array, shape (n,)
    right : Mapping of str to ndarray of bool, shape (n, M)
        By metric.
    """

    dataset: str
    models: tuple[str, ...]
    image_id: pa.Array
    right: Mapping[str, Bools]


def accuracy_without_duplicates(answers: RightAnswers | None, images: pa.Table) -> pa.Table:
    """Return the table ``duplicate_accuracy``: the accuracy of each model without each kind of duplicates.

    Parameters
    ----------
    answers : RightAnswers, optional
    images : pyarrow.Table
        Images with the flags in `WITHOUT`. Answers for other images are ignored.
    """
    rows = [] if answers is None else list(_rows(answers, images))
    return pa.Table.from_pylist(rows, schema("duplicate_accuracy"))


def _rows(answers: RightAnswers, images: pa.Table) -> Iterator[Row]:
    own = one_chunk(images["image_id"])
    like = ids_like(answers.image_id, own, name="the labels", other_name="the images").ids
    at = pc.index_in(like, own)
    known = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    flags = {name: images[name].to_numpy()[at.drop_null().to_numpy()] for name in WITHOUT}
    for metric, right in answers.right.items():
        for i, model in enumerate(answers.models):
            for name, out in flags.items():
                if out.any():
                    about = {"dataset": answers.dataset, "model": model, "metric": metric, "without": name}
                    yield {**about, **accuracy_without(right[known, i], out)}
