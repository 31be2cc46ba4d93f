"""Compare models on slices of the images: the rows of the pairs table of each slice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from manyhot.classes import class_list_of
from manyhot.core.array_types import Bools
from manyhot.data.data_sets import Source
from manyhot.evaluate.compared_pairs import DISJOINT
from manyhot.evaluate.judge import Judge, JudgeOptions
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slices import ALL, column_of, is_requested, labels_of, make_slices
from manyhot.tables.arrays import label_sets


def with_slice_pairs(evaluation: Evaluation, source: Source, options: JudgeOptions) -> Evaluation:
    """Return an evaluation with the pairs of models on each requested slice.

    Parameters
    ----------
    evaluation : Evaluation
        The evaluation on all images of the source, with the requested slices.
    source : Source
        All models predict all labelled images.
    options : JudgeOptions
    """
    if not options.slices:
        return evaluation
    labels, masks = labels_of(source), _masks(source, options.slices)
    metrics = evaluation.results["metric"].unique().to_pylist()
    # What a slice has too few images for is undefined there. The order of rows was checked on all images.
    options = replace(options, slices=(), metrics=metrics, keep_undefined=True, trust_order=True)
    judges = {
        name: Judge(
            replace(source, labels=replace(labels, table=labels.table.filter(pa.array(mask)))), options
        )
        for name, mask in masks.items()
    }
    for model in source.models():
        for judge in judges.values():
            judge.add(model, *judge.fit(model))
    pairs = [evaluation.pairs]
    for name, judge in judges.items():
        table = judge.finish().pairs
        column = pa.repeat(pa.scalar(name, pa.string()), len(table))
        pairs.append(table.set_column(table.column_names.index("slice"), "slice", column))
    about = {**evaluation.metadata, DISJOINT: json.dumps({source.name: _disjoint(masks)})}
    return replace(evaluation, pairs=pa.concat_tables(pairs), metadata=about)


def _masks(source: Source, requested: Sequence[str]) -> dict[str, Bools]:
    """Return the mask of each requested slice that contains images."""
    labels = labels_of(source)
    sets, classes = label_sets(labels), source.classes or class_list_of(labels.class_hash)
    made = make_slices(labels, sets, images=source.images, classes=classes, requested=requested)
    made = made.with_class_masks(sets)
    named = enumerate(zip(made.names, made.masks, strict=True))
    return {
        name: mask
        for i, (name, mask) in named
        if name != ALL and mask.any() and (i >= made.standing or is_requested(name, requested))
    }


def _disjoint(masks: Mapping[str, Bools]) -> list[str]:
    """Return the columns of which two slices or more share no image."""
    columns = defaultdict[str, list[Bools]](list)
    for name, mask in masks.items():
        columns[column_of(name)].append(mask)
    return [name for name, own in columns.items() if len(own) > 1 and np.sum(own, 0).max() == 1]
