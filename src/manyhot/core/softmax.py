"""From scores to probabilities: in blocks, so that no second matrix of all scores is made, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from manyhot.core.array_types import AnyFloats, Floats, Floats32, Ints
from manyhot.errors import InputError

ROWS = 256
"""Images worked on at once: 1 MB of float32 scores of 1,000 classes stays in the second-level cache."""

SLACK = 0.02
"""How far above 1 a probability or a sum of them may be: half precision rounds a logit of 64 by 1/64."""

Name = Callable[[int], str]


def log_totals(scores: AnyFloats, shift: AnyFloats, name: Name) -> Floats:
    """Return the logarithm of the summed exponentials of each row, shape (n,).

    Parameters
    ----------
    scores : ndarray of float16 or float32, shape (n, C)
        Logits. One of minus infinity is a probability of 0.
    shift : ndarray of float, shape (n,)
        What is taken off each row first: its highest logit. A row in which it is not, so that exponentials
        overflow, has that looked for.
    name : callable
        What a row is called in messages.

    Raises
    ------
    InputError
        If a row holds NaN or infinity, or nothing but minus infinity.
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
            "Logits without a softmax: a row holds NaN, infinity, or nothing but minus infinity.",
            where=name(int(np.argmax(bad))),
            got=f"{np.count_nonzero(bad):,} of {len(bad):,} rows",
            allowed="finite logits; minus infinity for a class that is ruled out",
            do="predict these images again; half precision overflows in some models",
        )
    return totals


def _log_sums(rows: AnyFloats, shift: AnyFloats, buffer: Floats32) -> Floats:
    part = buffer[: len(rows)]
    # What is not finite is seen in the sums: inf - inf is NaN, and so on.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        np.subtract(rows, shift[:, None], out=part, dtype=np.float32)
        np.exp(part, out=part)
        # Added up in float64, the order of classes does not show.
        return np.asarray(shift + np.log(part.sum(axis=1, dtype=np.float64)))


def blocks(
    scores: AnyFloats, kind: str, totals: Floats | None, name: Name
) -> Iterator[tuple[int, AnyFloats]]:
    """Yield the first row of each block and its probabilities, float32, shape (b, C); each is overwritten.

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


def check_sums(scores: AnyFloats, name: Name) -> None:
    """Refuse probabilities of all classes that do not add up to 1.

    Raises
    ------
    InputError
        Then, and as `blocks`.
    """
    parts = (part.sum(axis=1, dtype=np.float64) for _, part in blocks(scores, "", None, name))
    found = np.concatenate([np.empty(0), *parts])
    off = np.abs(found - 1) > SLACK
    if off.any():
        row = int(np.argmax(off))
        raise InputError(
            "The probabilities of an image do not add up to 1.",
            where=name(row),
            got=f"{found[row]:g}, and {np.count_nonzero(off):,} of {len(off):,} images like it",
            allowed=f"1, give or take {SLACK}",
            do="for scores that stand for each class alone, as sigmoids do, use ece_set, brier_set, "
            "classwise_ece_set or isotonic calibration",
        )


def check_lists(listed: AnyFloats, name: Name) -> None:
    """Refuse probabilities of the best classes, shape (n, k), that are none or add up to more than 1.

    Raises
    ------
    InputError
    """
    bad = ~((listed >= 0) & (listed <= 1 + SLACK))
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise not_a_probability(float(listed[row, place]), name(int(row)))
    found = listed.sum(axis=1, dtype=np.float64)
    row = int(np.argmax(found)) if len(found) else 0
    if len(found) and found[row] > 1 + SLACK:
        raise InputError(
            "The probabilities of an image add up to more than 1.",
            where=name(row),
            got=f"{found[row]:g}",
            allowed=f"at most 1, give or take {SLACK}",
            do="say what the scores are: logit, probability or score; logsumexp is over all classes",
        )


def check_possible(logits: AnyFloats, image: Ints, classes: Ints, name: Name) -> None:
    """Refuse logits of classes that are right, shape (m,), that are minus infinity.

    Raises
    ------
    InputError
    """
    ruled_out = np.isneginf(logits)
    if ruled_out.any():
        row = int(np.argmax(ruled_out))
        raise InputError(
            "A class that is right has a logit of minus infinity: its likelihood is 0.",
            where=f"{name(int(image[row]))}, class {classes[row]}",
            got=f"{np.count_nonzero(ruled_out):,} such cells",
            allowed="finite logits of the classes in the labels",
            do="predict over all classes that the labels have",
        )


def log_probability(stored: AnyFloats) -> Floats:
    """Return the logarithms of stored probabilities, of their shape.

    A 0 is what rounding makes of less than a type can hold: it counts as the least that half precision holds,
    or as the least normal number of single precision.
    """
    least = 2.0**-24 if stored.dtype == np.float16 else 2.0**-126
    return np.asarray(np.log(np.maximum(stored.astype(np.float64), least)))


def checked(probability: AnyFloats, name: Name) -> Floats:
    """Return one probability a row, shape (n,), cut to 1 where rounding took it above.

    They are rounded to float32: equal rows then tie, in whatever order their sums were taken.

    Raises
    ------
    InputError
        If one is not within 0 and 1.
    """
    bad = ~((probability >= 0) & (probability <= 1 + SLACK))
    if bad.any():
        row = int(np.argmax(bad))
        raise not_a_probability(float(probability[row]), name(row))
    return np.minimum(probability, 1).astype(np.float32).astype(np.float64)


def not_a_probability(value: float, where: str) -> InputError:
    """Return the error for scores that are no probabilities, though they are said to be or to give some."""
    return InputError(
        "A probability is not between 0 and 1.",
        where=where,
        got=f"{value:g}",
        allowed="0 to 1",
        do="say what the scores are: logit, probability or score; a list of logits needs logsumexp over "
        "all classes",
    )
