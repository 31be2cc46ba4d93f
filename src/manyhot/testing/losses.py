"""The check that every loss must pass, exported by `manyhot.testing`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from manyhot.registry import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from manyhot.train.targets import Targets
import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Ints, Ints32
from manyhot.core.class_hierarchy import Hierarchy
from manyhot.core.cooccurrence import ClassPairs
from manyhot.core.error_kinds import (
    NOTHING,
    RULE_NEEDS,
    ErrorContext,
    Errors,
    NeighbourLabels,
    RuleMatch,
    lacking,
    rarity_of,
    sort_errors,
)
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.registry import get

N_IMAGES, N_CLASSES, EPOCHS = 6, 5, 12


def check_loss(loss: str | Entry, *, seed: int = 0) -> None:
    """Check the common properties of losses; raise an AssertionError that names a violated property.

    Value and gradient are finite, even for extreme logits and in later epochs. The gradient is that of the
    value, unless the loss is registered as `detached`. The order of images does not matter. Inputs are not
    changed. Cells with a weight of 0 are ignored. Unless the loss is registered as `whole_batch`, the losses
    of the two halves of a batch average to the loss of the batch, and the loss of a mixed image is the mean
    of the losses of both images, weighted by their shares. Unless the loss is registered as `regularised`, no
    logits have a lower loss than those that separate the classes.

    Parameters
    ----------
    loss : str or Entry
        A registered name, a call string or an entry.
    seed : int

    Raises
    ------
    MissingExtraError
        PyTorch is not installed.
    """
    from manyhot.extras import required

    required("torch", "Checking a loss", '"manyhot[train]"')
    from manyhot.train.losses import loss_of

    entry = loss_of(loss) if isinstance(loss, str) else loss
    entry = replace(entry, is_checked=False)
    assert entry.about.get("ends") in ("softmax", "sigmoid"), f"{entry.name} does not register `ends`"
    for weighted in (False, True):
        trial = _Trial(entry, seed, weighted)
        trial.check_value()
        trial.check_order()
        trial.check_gradient()
        if weighted:
            trial.check_inert()
        trial.check_epochs()
        trial.check_halves()
        trial.check_mixed()
        trial.check_least()


class _Trial:
    """A loss, and six images of five classes: sets of one, of several and of none, and soft labels."""

    def __init__(self, entry: Entry, seed: int, weighted: bool) -> None:
        import torch

        self.entry = entry
        self.dice = torch.Generator().manual_seed(seed)
        shape = (N_IMAGES, N_CLASSES)
        p = (torch.rand(shape, generator=self.dice) < 0.4).double()
        p[0], p[1, :2], p[2] = 0, 1, torch.rand(N_CLASSES, generator=self.dice).double()
        self.weight = (torch.rand(shape, generator=self.dice) < 0.7).double() if weighted else None
        self.targets = self.targets_of(p)
        self.logits = 2 * torch.randn(shape, generator=self.dice, dtype=torch.float64)

    def targets_of(self, p: Tensor, weight: Tensor | None = None) -> Targets:
        """Return targets of the images, as their teacher would return them, with a fresh memory."""
        import torch

        from manyhot.train.losses import made_memory
        from manyhot.train.targets import Targets, Teacher

        weight = self.weight if weight is None else weight
        if self.entry.about["ends"] == "softmax":
            shown = p if weight is None else p * weight
            p = p / shown.sum(1, keepdim=True).clamp(min=1e-12)
        each = torch.ones_like(p) if weight is None else weight
        cells = torch.arange(N_IMAGES * N_CLASSES)
        lists = torch.arange(N_IMAGES + 1) * N_CLASSES, cells % N_CLASSES, p.flatten(), each.flatten()
        memory = made_memory(self.entry, Teacher(N_CLASSES, *lists, 1.0), 0)
        return Targets(p, weight, torch.arange(N_IMAGES), 0, memory)

    def value(self, logits: Tensor, targets: Targets) -> Any:
        """Return the loss. It gets a copy of the memory, which it may change."""
        fresh = {
            name: m.detach().clone().requires_grad_(m.requires_grad) for name, m in targets.memory.items()
        }
        return self.entry(logits, replace(targets, memory=fresh))

    def same(self, value: Any, expected: Any, breach: str) -> None:
        import torch

        assert torch.allclose(value, expected, rtol=1e-6, atol=1e-9), (
            f"{self.entry.name}: {breach}: {value.item()} is not {expected.item()}"
        )

    def check_value(self) -> None:
        import torch

        inputs = [self.logits, self.targets.p, *([] if self.weight is None else [self.weight])]
        before = [array.clone() for array in inputs]
        for scale in (1.0, 50.0):
            z = (scale * self.logits).requires_grad_()
            value = self.value(z, self.targets)
            assert value.shape == (), f"{self.entry.name} is not one number"
            value.backward()
            assert z.grad is not None, f"{self.entry.name} has no gradient"
            assert torch.isfinite(value), f"{self.entry.name} is {value.item()} for logits times {scale:g}"
            assert torch.isfinite(z.grad).all(), f"{self.entry.name}: its gradient is not finite"
        assert all(map(torch.equal, inputs, before)), "inputs were changed"

    def check_order(self) -> None:
        import torch

        order = torch.randperm(N_IMAGES, generator=self.dice)
        moved = self.value(self.logits[order], _take(self.targets, order))
        self.same(moved, self.value(self.logits, self.targets), "the order of images matters")

    def check_gradient(self) -> None:
        import torch

        if self.entry.about.get("detached"):
            return
        logits = self.logits.clone().requires_grad_()
        right = torch.autograd.gradcheck(
            lambda z: self.value(z, replace(self.targets, epoch=1)), (logits,), raise_exception=False
        )
        assert right, f"{self.entry.name}: its gradient differs from the numerical gradient of its value"

    def check_epochs(self) -> None:
        import torch

        for epoch in range(EPOCHS):
            value = self.entry(self.logits, replace(self.targets, epoch=epoch))
            assert torch.isfinite(value), f"{self.entry.name} is {value.item()} in epoch {epoch}"
        self.targets = self.targets_of(self.targets.p)

    def check_halves(self) -> None:
        import torch

        if self.entry.about.get("whole_batch"):
            return
        rows = torch.arange(N_IMAGES)
        first, second = (self.value(self.logits[half], _take(self.targets, half)) for half in rows.chunk(2))
        whole = self.value(self.logits, self.targets)
        self.same((first + second) / 2, whole, "the mean loss of the two halves is not the loss of the batch")

    def check_mixed(self) -> None:
        import torch

        if self.entry.about.get("whole_batch"):
            return
        order = torch.randperm(N_IMAGES, generator=self.dice)
        share = torch.rand(N_IMAGES, generator=self.dice, dtype=torch.float64)
        parts = sum(
            (each * self.value(self.logits[i : i + 1], _take(self.targets, row[None]))) / N_IMAGES
            for rows, shares in ((torch.arange(N_IMAGES), share), (order, 1 - share))
            for i, (row, each) in enumerate(zip(rows, shares, strict=True))
        )
        mixed = self.value(self.logits, self.targets.mixed(order, share))
        self.same(
            mixed,
            parts,
            "the loss of a mixed image is not the mean of the losses of both images, weighted by shares",
        )

    def check_least(self) -> None:
        import torch

        if self.entry.about.get("regularised"):
            return
        one = torch.eye(N_CLASSES, dtype=torch.float64)[torch.arange(N_IMAGES) % N_CLASSES]
        targets = self.targets_of(one)
        # With smoothing the best are not the surest.
        least = min(self.value(scale * (2 * one - 1), targets) for scale in (1, 2, 4, 30))
        for scale in (0.0, 1.0, 5.0):
            other = self.value(scale * self.logits, targets)
            assert other >= least - 1e-6, (
                f"{self.entry.name}: {other.item()} is less than perfect, {least.item()}"
            )

    def check_inert(self) -> None:
        import torch

        assert self.weight is not None
        none = self.weight == 0
        targets = replace(self.targets, p=torch.where(none, 1 - self.targets.p, self.targets.p))
        logits = self.logits
        if self.entry.about["ends"] == "sigmoid":
            logits = torch.where(none, logits + 1, logits)
        self.same(
            self.value(logits, targets), self.value(self.logits, self.targets), "cells of weight 0 count"
        )


def _take(targets: Targets, rows: Tensor) -> Targets:
    weight = None if targets.weight is None else targets.weight[rows]
    return replace(targets, p=targets.p[rows], weight=weight, rows=targets.rows[rows])


def random_errors(rng: np.random.Generator, *, n: int = 80, c: int = 24, e: int = 150) -> Errors:
    """Return errors with all inputs that rules use, on images with and without labels and neighbours.

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
        together=ClassPairs.of(sets),
        neighbours=NeighbourLabels(nearest, rarity_of(similarity)),
        listed=rng.random(n) < 0.4,
    )
    image, predicted = rng.integers(0, n, e), rng.integers(0, c, e).astype(np.int32)
    state = sets.take(image).state_of(predicted[:, None])[:, 0]
    return Errors(known, image, predicted, state, rng.random(e).astype(np.float32))


def _random_sets(rng: np.random.Generator, n: int, c: int) -> LabelSets:
    """Return label sets with the irregularities of real ones: empty sets, missing labels, unclear classes."""
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
    """Check the common properties of error rules; raise an AssertionError that names a violated property.

    The verdict on an error does not depend on other errors or on the order of errors. The numbering of
    classes does not matter. Inputs are not changed. A deciding class is returned only for errors that match.
    Without errors, there is no verdict. A rule declares all inputs that it uses.

    Parameters
    ----------
    rule : str or Entry
        A registered name, a call string or an entry.
    seed : int
    """
    entry = get("rule", rule) if isinstance(rule, str) else rule
    entry = replace(entry, is_checked=False)
    rng = np.random.default_rng(seed)
    errors = random_errors(rng)
    before = _arrays_of_errors(errors)
    verdict = entry(errors)
    assert isinstance(verdict, RuleMatch), f"{entry.name} returns no verdict"
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(before, _arrays_of_errors(errors), strict=True)
    ), "inputs were changed"
    assert verdict.fits.shape == (len(errors),), f"{entry.name}: `fits` is not one flag per error"
    assert verdict.fits.dtype == bool, f"{entry.name}: `fits` is not one flag per error"
    assert verdict.because.shape == (len(errors),), f"{entry.name}: `because` is not one class per error"
    assert (verdict.because[~verdict.fits] == NOTHING).all(), (
        f"{entry.name}: a deciding class is returned although the rule does not match"
    )
    assert verdict.because.max(initial=NOTHING) < errors.context.n_classes, f"{entry.name}: no such class"
    assert len(entry(errors.take(np.empty(0, np.int64))).fits) == 0, f"{entry.name} finds errors without any"
    _check_alone(entry, errors, verdict, rng)
    _check_renumbered(entry, errors, verdict, rng)
    _check_needs(entry, errors)


def _check_alone(entry: Entry, errors: Errors, verdict: RuleMatch, rng: np.random.Generator) -> None:
    some = rng.permutation(len(errors))[: len(errors) // 2]
    part = entry(errors.take(some))
    assert np.array_equal(part.fits, verdict.fits[some]), (
        f"{entry.name}: whether the rule matches an error depends on other errors"
    )
    assert np.array_equal(part.because, verdict.because[some]), (
        f"{entry.name}: the deciding class of an error depends on other errors"
    )


def _check_renumbered(entry: Entry, errors: Errors, verdict: RuleMatch, rng: np.random.Generator) -> None:
    known, new = errors.context, rng.permutation(errors.context.n_classes)
    assert known.hierarchy is not None
    assert known.neighbours is not None
    assert known.together is not None
    assert known.pairs is not None
    old = np.argsort(new)
    nearest = known.neighbours.classes
    moved = replace(
        known,
        label=_moved(known.label, new),
        valid=_moved(known.valid, new),
        hierarchy=replace(known.hierarchy, down=known.hierarchy.down[old]),
        pairs=new[known.pairs],
        together=_moved_pairs(known.together, new),
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
        f"{entry.name} needs unknown inputs: {', '.join(sorted(needs - set(RULE_NEEDS)))}"
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
            raise AssertionError(f"{entry.name} uses {need} without declaring it") from error


def _moved(classes: Ints, new: Ints) -> Ints32:
    return np.where(classes < 0, classes, new[np.maximum(classes, 0)]).astype(np.int32)


def _moved_pairs(pairs: ClassPairs, new: Ints) -> ClassPairs:
    ends = np.sort(new[np.stack([pairs.a, pairs.b])], axis=0)
    order = np.lexsort((ends[1], ends[0]))
    a, b = ends[:, order].astype(np.int64)
    return replace(pairs, a=a, b=b, both=pairs.both[order], images=pairs.images[np.argsort(new)])


def _arrays_of_errors(errors: Errors) -> list[npt.NDArray[np.generic]]:
    known = errors.context
    arrays = [errors.image, errors.predicted, errors.state, errors.confidence, known.label, known.valid]
    arrays += [a for a in (known.pairs, known.listed) if a is not None]
    arrays += [known.neighbours.classes, known.neighbours.rarity] if known.neighbours is not None else []
    together = known.together
    arrays += [together.a, together.b, together.both, together.images] if together is not None else []
    return [np.array(a) for a in arrays]
