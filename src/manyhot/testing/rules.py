"""What must hold for every rule that sorts errors; `manyhot.testing` offers it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy import typing as npt

from manyhot.core.error_kinds import (
    NOTHING,
    RULE_NEEDS,
    ErrorContext,
    Errors,
    Hierarchy,
    NeighbourLabels,
    RuleMatch,
    count_together,
    lacking,
    rarity_of,
    sort_errors,
)
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.registry import Entry, get


def random_errors(rng: np.random.Generator, *, n: int = 80, c: int = 24, e: int = 150) -> Errors:
    """Return errors about which everything is known, on images with and without labels and neighbours.

    Parameters
    ----------
    rng : numpy.random.Generator
    n, c, e : int
        Images, classes and errors.
    """
    sets = _random_sets(rng, n, c)
    paths = [[f"class {i}", f"kind {i // 3}", f"group {i // 6}", "thing"] for i in range(c)]
    paths[0], paths[1] = ["class 0", "thing"], ["class 1"]
    nearest = np.where(rng.random((n, 4)) < 0.9, rng.integers(0, c, (n, 4)), NOTHING)
    similarity = np.where(rng.random(n) < 0.9, rng.random(n), np.nan)
    known = replace(
        ErrorContext.of(sets),
        hierarchy=Hierarchy.of(paths),
        pairs=rng.integers(0, c, (40, 2)),
        together=count_together(sets),
        neighbours=NeighbourLabels(nearest, rarity_of(similarity)),
        listed=rng.random(n) < 0.4,
    )
    image, predicted = rng.integers(0, n, e), rng.integers(0, c, e).astype(np.int32)
    state = sets.take(image).state_of(predicted[:, None])[:, 0]
    return Errors(known, image, predicted, state, rng.random(e).astype(np.float32))


def _random_sets(rng: np.random.Generator, n: int, c: int) -> LabelSets:
    """Return label sets with everything that real ones have: empty sets, missing labels, unclear classes."""
    asked = rng.random((n, c)) < 0.15
    asked[: n // 10] = False
    rows, classes = np.nonzero(asked)
    return LabelSets(
        c,
        np.concatenate([[0], np.cumsum(asked.sum(1))]).astype(np.int64),
        classes.astype(np.int32),
        rng.choice([NO, UNCLEAR, YES], len(rows), p=[0.4, 0.1, 0.5]).astype(np.uint8),
        np.where(rng.random(n) < 0.9, rng.integers(0, c, n), NO_LABEL).astype(np.int32),
        rng.random(n) < 0.95,
        asked_known=True,
    )


def check_rule(rule: str | Entry, *, seed: int = 0) -> None:
    """Check what holds for all rules that sort errors; a breach raises an AssertionError that names it.

    Each error is judged by itself, whatever others there are and in whichever order; the numbering of classes
    does not matter; inputs are not changed; a class that decided belongs to an error that fits; without
    errors there is no verdict; a rule says that it needs what it looks at.

    Parameters
    ----------
    rule : str or Entry
        A registered name, a call string or an entry.
    seed : int
    """
    entry = get("rule", rule) if isinstance(rule, str) else rule
    rng = np.random.default_rng(seed)
    errors = random_errors(rng)
    before = _arrays_of_errors(errors)
    verdict = entry(errors)
    assert isinstance(verdict, RuleMatch), f"{entry.name} returns no verdict"
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(before, _arrays_of_errors(errors), strict=True)
    ), "inputs were changed"
    assert verdict.fits.shape == (len(errors),), f"{entry.name}: `fits` is not one flag an error"
    assert verdict.fits.dtype == bool, f"{entry.name}: `fits` is not one flag an error"
    assert verdict.because.shape == (len(errors),), f"{entry.name}: `because` is not one class an error"
    assert (verdict.because[~verdict.fits] == NOTHING).all(), (
        f"{entry.name}: a class decided where the rule does not fit"
    )
    assert verdict.because.max(initial=NOTHING) < errors.context.n_classes, f"{entry.name}: no such class"
    assert len(entry(errors.take(np.empty(0, np.int64))).fits) == 0, f"{entry.name} finds errors without any"
    _check_alone(entry, errors, verdict, rng)
    _check_renumbered(entry, errors, verdict, rng)
    _check_needs(entry, errors)


def _check_alone(entry: Entry, errors: Errors, verdict: RuleMatch, rng: np.random.Generator) -> None:
    some = rng.permutation(len(errors))[: len(errors) // 2]
    part = entry(errors.take(some))
    assert np.array_equal(part.fits, verdict.fits[some]), f"{entry.name}: an error is not judged by itself"
    assert np.array_equal(part.because, verdict.because[some]), (
        f"{entry.name}: an error is not judged by itself"
    )


def _check_renumbered(entry: Entry, errors: Errors, verdict: RuleMatch, rng: np.random.Generator) -> None:
    known, new = errors.context, rng.permutation(errors.context.n_classes)
    assert known.hierarchy is not None
    assert known.neighbours is not None
    assert known.together is not None
    assert known.pairs is not None
    low, high = new[known.together[0] // known.n_classes], new[known.together[0] % known.n_classes]
    pair = np.minimum(low, high) * known.n_classes + np.maximum(low, high)
    order, old = np.argsort(pair), np.argsort(new)
    nearest = known.neighbours.classes
    moved = replace(
        known,
        label=_moved(known.label, new),
        valid=_moved(known.valid, new),
        hierarchy=replace(known.hierarchy, down=known.hierarchy.down[old]),
        pairs=new[known.pairs],
        together=(pair[order], known.together[1][order]),
        neighbours=replace(known.neighbours, classes=_moved(nearest, new)),
    )
    renumbered = entry(replace(errors, context=moved, predicted=_moved(errors.predicted, new)))
    assert np.array_equal(renumbered.fits, verdict.fits), f"{entry.name}: the numbering of classes matters"
    assert np.array_equal(renumbered.because, _moved(verdict.because, new)), (
        f"{entry.name}: the numbering of classes matters"
    )


def _check_needs(entry: Entry, errors: Errors) -> None:
    needs = set(entry.about.get("needs", ()))
    assert needs <= set(RULE_NEEDS), (
        f"{entry.name} needs what nobody knows: {', '.join(sorted(needs - set(RULE_NEEDS)))}"
    )
    fields = {"superclasses": ("hierarchy", "groups")}
    for need in RULE_NEEDS:
        nothing: dict[str, None] = dict.fromkeys(fields.get(need, (need,)))
        without = replace(errors, context=replace(errors.context, **nothing))  # type: ignore[arg-type]
        if need in needs:
            assert lacking(without.context, entry) == [need], f"{entry.name}: {need} is not missed"
            assert (sort_errors(without, [entry]).kind == NOTHING).all(), f"{entry.name} runs without {need}"
            continue
        try:
            entry(without)
        except (AssertionError, TypeError, AttributeError) as error:
            raise AssertionError(f"{entry.name} looks at {need} and does not say that it needs it") from error


def _moved(classes: npt.NDArray[np.integer], new: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    return np.where(classes < 0, classes, new[np.maximum(classes, 0)]).astype(np.int32)


def _arrays_of_errors(errors: Errors) -> list[npt.NDArray[np.generic]]:
    known = errors.context
    arrays = [errors.image, errors.predicted, errors.state, errors.confidence, known.label, known.valid]
    arrays += [a for a in (known.pairs, known.listed) if a is not None]
    arrays += [known.neighbours.classes, known.neighbours.rarity] if known.neighbours is not None else []
    arrays += [*known.together] if known.together is not None else []
    return [np.array(a) for a in arrays]
