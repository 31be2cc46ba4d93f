"""Probabilities from scores, checked, and in blocks, so that there is no second matrix of all scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from manyhot.core.array_types import AnyFloats, Floats, Floats32, Ints
from manyhot.errors import InputError

ROWS = 256
"""Images per block: 1 MB of float32 scores of 1,000 classes fits the second-level cache."""

SLACK = 0.02
"""Tolerance of probabilities and their sums above 1: half precision rounds a logit of 64 by 1/64."""

Name = Callable[[int], str]


def log_totals(scores: AnyFloats, shift: AnyFloats, name: Name) -> Floats:
    """Return the logarithm of the summed exponentials of each row, shape (n,).

    Parameters
    ----------
    scores : ndarray of float16 or float32, shape (n, C)
        Logits; minus infinity is a probability of 0.
    shift : ndarray of float, shape (n,)
        Number to subtract from each row, usually its highest logit. If exponentials of a row overflow with
        this number, the row's highest logit is used instead.
    name : callable
        Returns the name of a row, for error messages.

    Raises
    ------
    InputError
        If a row contains NaN or infinity, or contains only minus infinity.
    """
    totals = np.empty(len(scores))
    buffer = np.empty((min(ROWS, len(scores)), scores.shape[1]), np.float32)
    for start in range(0, len(scores), ROWS):
        part = slice(start, start + ROWS)
        totals[part] = _log_sums(scores[part], shift[part].astype(np.float32), buffer)
    again = np.flatnonzero(~np.isfinite(totals))
    if len(again):
        best = scores[again].astype(np.float32).max(axis=1)
        totals[again] = _log_sums(scores[again], best, np.empty((len(again), scores.shape[1]), np.float32))
    bad = ~np.isfinite(totals)
    if bad.any():
        raise InputError(
            "The softmax of the logits is undefined: a row contains NaN, infinity, or only minus infinity.",
            where=name(int(np.argmax(bad))),
            got=f"{np.count_nonzero(bad):,} of {len(bad):,} rows",
            allowed="finite logits; minus infinity for a class that is ruled out",
            do="run predict on these images again; half precision overflows in some models",
        )
    return totals


def _log_sums(rows: AnyFloats, shift: AnyFloats, buffer: Floats32) -> Floats:
    part = buffer[: len(rows)]
    # Values that are not finite make the sums NaN or infinite.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        np.subtract(rows, shift[:, None], out=part, dtype=np.float32)
        np.exp(part, out=part)
        # Sums in float64 do not depend visibly on the order of classes.
        return np.asarray(shift + np.log(part.sum(axis=1, dtype=np.float64)))


def blocks(
    scores: AnyFloats, kind: str, totals: Floats | None, name: Name
) -> Iterator[tuple[int, AnyFloats]]:
    """Yield the first row and the float32 probabilities of each block, shape (b, C), in a reused array.

    Raises
    ------
    InputError
        If probabilities are not within 0 and 1.
    """
    buffer = np.empty((min(ROWS, len(scores)), scores.shape[1]), np.float32)
    for start in range(0, len(scores), ROWS):
        rows = scores[start : start + ROWS]
        part = buffer[: len(rows)]
        if kind == "logit":
            assert totals is not None  # for the type checker
            shift = totals[start : start + ROWS, None].astype(np.float32)
            np.exp(np.subtract(rows, shift, out=part), out=part)
        else:
            part[...] = rows
            if not (part.min() >= 0 and part.max() <= 1 + SLACK):
                worst = np.maximum(part.max(axis=1) - 1, -part.min(axis=1))
                row = int(np.argmax(np.where(np.isnan(worst), np.inf, worst)))
                off = part[row][~((part[row] >= 0) & (part[row] <= 1 + SLACK))]
                raise not_a_probability(float(off[0]), name(start + row))
        yield start, part


def row_sums(scores: AnyFloats, name: Name) -> Floats:
    """Return the sum of the probabilities of each image.

    Raises
    ------
    InputError
        If a number is not a probability.
    """
    parts = (part.sum(axis=1, dtype=np.float64) for _, part in blocks(scores, "", None, name))
    return np.concatenate([np.empty(0), *parts])


def check_sums(scores: AnyFloats, name: Name) -> None:
    """Check that the probabilities of all classes add up to 1.

    Raises
    ------
    InputError
        If the probabilities do not add up to 1, or if a number is not a probability.
    """
    sums = row_sums(scores, name)
    off = np.abs(sums - 1) > SLACK
    if off.any():
        row = int(np.argmax(off))
        raise InputError(
            "The probabilities of an image do not add up to 1.",
            where=name(row),
            got=f"{sums[row]:g}; {np.count_nonzero(off):,} of {len(off):,} images are affected",
            allowed=f"1 ± {SLACK}",
            do="for scores of independent classes, such as sigmoids, use ece_set, brier_set or "
            "classwise_ece_set, or recalibrate each class with manyhot calibrate",
        )


def check_lists(listed: AnyFloats, name: Name) -> None:
    """Check the probabilities of top classes, shape (n, k).

    Raises
    ------
    InputError
        If a number is not a probability, or if the probabilities of an image add up to more than 1.
    """
    bad = ~((listed >= 0) & (listed <= 1 + SLACK))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise not_a_probability(float(listed[row, place]), name(int(row)))
    sums = listed.sum(axis=1, dtype=np.float64)
    row = int(np.argmax(sums)) if len(sums) else 0
    if len(sums) and sums[row] > 1 + SLACK:
        raise InputError(
            "The probabilities of an image add up to more than 1.",
            where=name(row),
            got=f"{sums[row]:g}",
            allowed=f"at most 1 + {SLACK}",
            do="declare the kind with `scores`: logit, probability or none; logsumexp must cover all classes",
        )


def check_possible(logits: AnyFloats, image: Ints, classes: Ints, name: Name) -> None:
    """Check the logits of right classes, shape (m,).

    Raises
    ------
    InputError
        If a logit is minus infinity.
    """
    ruled_out = np.isneginf(logits)
    if ruled_out.any():
        row = int(np.argmax(ruled_out))
        raise InputError(
            "A class in the labels has a logit of minus infinity, so its likelihood is 0.",
            where=f"{name(int(image[row]))}, class {classes[row]}",
            got=f"{np.count_nonzero(ruled_out):,} such (image, class) pairs",
            allowed="finite logits of the classes in the labels",
            do="predict over all classes of the labels",
        )


def log_probability(stored: AnyFloats) -> Floats:
    """Return the logarithms of stored probabilities, with the same shape.

    A stored 0 is a small number that was rounded to 0. It is replaced by `least_probability`.
    """
    return np.asarray(np.log(np.maximum(stored.astype(np.float64), least_probability(stored))))


def least_probability(stored: AnyFloats) -> float:
    """Return the smallest positive number in half precision, or the smallest normal one in single."""
    return 2.0**-24 if stored.dtype == np.float16 else 2.0**-126


def checked(probability: AnyFloats, name: Name) -> Floats:
    """Return one probability per row, shape (n,), clipped to 1.

    Probabilities are rounded to float32, so that equal rows tie regardless of the order of summation.

    Raises
    ------
    InputError
        If a number is not within 0 and 1.
    """
    bad = ~((probability >= 0) & (probability <= 1 + SLACK))
    if bad.any():
        row = int(np.argmax(bad))
        raise not_a_probability(float(probability[row]), name(row))
    return np.minimum(probability, 1).astype(np.float32).astype(np.float64)


def not_a_probability(value: float, where: str) -> InputError:
    """Return the error for scores that are declared to give probabilities, but do not."""
    return InputError(
        "A probability is not between 0 and 1.",
        where=where,
        got=f"{value:g}",
        allowed="0 to 1",
        do="divide percentages by 100, or declare the kind with `scores`: logit, probability or none; a list "
        "of logits needs logsumexp over all classes",
    )
