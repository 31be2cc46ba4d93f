"""Checks of what metrics, aggregators, proposers and rules of other packages return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from manyhot.core.aggregation import Aggregate
from manyhot.core.ensembles import Pairs
from manyhot.core.error_kinds import RuleMatch
from manyhot.core.estimates import Estimate, Pooled, Ratio, Weights
from manyhot.plug_ins import ReturnError, naming_failures, naming_return
from manyhot.registry import Entry


def check_estimate(entry: Entry, estimate: Any, arguments: tuple[Any, ...]) -> Estimate:
    """Check what a metric returned for a case. The functions of a `Pooled` are checked when they are called.

    Raises
    ------
    ReturnError
    """
    n = len(arguments[0].labels)
    if not isinstance(estimate, Ratio | Pooled):
        raise ReturnError(
            _shown(estimate), "an estimate, such as mean_over(values, case.labels.scored), or undefined(n)"
        )
    arrays: dict[str, Any] = {"scored": estimate.scored}
    if isinstance(estimate, Ratio):
        arrays |= {"num": estimate.num, "den": estimate.den}
        if estimate.stratum is not None:
            arrays["stratum"] = estimate.stratum
    for name, array in arrays.items():
        _check_array(name, array, n)
    if estimate.scored.dtype != bool:
        raise ReturnError(f"`scored` of {estimate.scored.dtype}", "an array of bool")
    if isinstance(estimate, Ratio):
        return estimate

    def guarded(function: Callable[[Weights | None], Any]) -> Callable[[Weights | None], Any]:
        def call(weights: Weights | None) -> Any:
            with naming_failures(entry.title, entry.function):
                return function(weights)

        return call

    compute = guarded(estimate.value)

    def value(weights: Weights | None = None) -> float:
        found = compute(weights)
        with naming_return(entry.title, entry.function):
            if np.ndim(found) or not isinstance(found, int | float | np.number):
                raise ReturnError(f"{_shown(found)} as the value of a Pooled", "a number")
        return float(found)

    left_out = None if estimate.left_out is None else guarded(estimate.left_out)
    return replace(estimate, value=value, left_out=left_out, doubt=guarded(estimate.doubt))


def check_aggregate(entry: Entry, result: Any, arguments: tuple[Any, ...]) -> Aggregate:
    """Check what an aggregator returned for answers.

    Raises
    ------
    ReturnError
    """
    answers = arguments[0]
    if not isinstance(result, Aggregate):
        raise ReturnError(_shown(result), "an Aggregate")
    _check_array("p", result.p, answers.n_questions)
    outside = (result.p < 0) | (result.p > 1)
    if outside.any():
        raise ReturnError(f"`p` of {float(result.p[outside][0]):g}", "probabilities from 0 to 1")
    if np.isnan(result.p[answers.counts().sum(axis=1) > 0]).any():
        raise ReturnError("`p` that contains NaN", "NaN only for questions without answers")
    return result


def check_pairs(entry: Entry, pairs: Any, arguments: tuple[Any, ...]) -> Pairs:
    """Check what a proposer returned for an ensemble.

    Raises
    ------
    ReturnError
    """
    ensemble = arguments[0]
    if not isinstance(pairs, Pairs):
        raise ReturnError(_shown(pairs), "Pairs")
    for name in ("image", "class_id", "score", "n_models"):
        _check_array(name, getattr(pairs, name), len(pairs.image))
    for name, size in (("image", len(ensemble)), ("class_id", ensemble.n_classes)):
        array = getattr(pairs, name)
        if array.dtype.kind not in "iu":
            raise ReturnError(f"`{name}` of {array.dtype}", "an array of integers")
        unknown = (array < 0) | (array >= size)
        if unknown.any():
            raise ReturnError(f"`{name}` {int(array[unknown][0])}", f"0 to {size - 1}")
    if not np.isfinite(pairs.score).all():
        raise ReturnError(f"`score` of {float(pairs.score[~np.isfinite(pairs.score)][0])}", "finite numbers")
    steps = np.diff(pairs.image.astype(np.int64) * ensemble.n_classes + pairs.class_id)
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0])
        image, class_id = int(pairs.image[at + 1]), int(pairs.class_id[at + 1])
        raise ReturnError(
            f"image {image}, class {class_id} {'again' if steps[at] == 0 else 'after a later pair'}",
            "each pair once, sorted by image and class",
        )
    return pairs


def check_rule_match(entry: Entry, match: Any, arguments: tuple[Any, ...]) -> RuleMatch:
    """Check what a rule returned for errors.

    Raises
    ------
    ReturnError
    """
    if not isinstance(match, RuleMatch):
        raise ReturnError(_shown(match), "a RuleMatch")
    for name in ("fits", "because"):
        _check_array(name, getattr(match, name), len(arguments[0]))
    if match.fits.dtype != bool:
        raise ReturnError(f"`fits` of {match.fits.dtype}", "an array of bool")
    return match


def _check_array(name: str, array: Any, n: int) -> None:
    if not isinstance(array, np.ndarray):
        raise ReturnError(f"`{name}` is {_shown(array)}", f"an array of shape ({n},)")
    if array.shape != (n,):
        raise ReturnError(f"`{name}` of shape {array.shape}", f"shape ({n},)")
    if array.dtype.kind not in "biuf":
        raise ReturnError(f"`{name}` of {array.dtype}", "an array of numbers")


def _shown(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {value!r}"[:60]
