"""Sorted errors as they come out: findings, counts, and what the reader must know about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from manyhot.core.sorting import shares
from manyhot.errors import InputError


@dataclass(frozen=True)
class ModelErrors:
    """How many errors of one model are of which kind.

    Attributes
    ----------
    dataset, model : str
    n, n_skipped : int
        Images judged; images in common that are not usable, or have no label or no prediction to judge.
    n_errors : int
        Errors, of any confidence.
    counts : dict of str to int
        Errors above the confidence asked for, by kind.
    """

    dataset: str
    model: str
    n: int
    n_skipped: int
    n_errors: int
    counts: dict[str, int]

    @property
    def n_sorted(self) -> int:
        """Errors above the confidence asked for."""
        return sum(self.counts.values())

    @property
    def shares(self) -> dict[str, float]:
        """The share of each kind; NaN where there is no error."""
        return shares(self.counts)


@dataclass(frozen=True, eq=False)
class SortedErrors:
    """Errors with their kinds, and what the reader must know about them.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``: `kind`, `image_id`, `class_a` (the class that decided; null where none did),
        `class_b` (the predicted one), `label`, `state`, `n_labels`, `dataset`, `model`, `confidence`.
    models : tuple of ModelErrors
    rules : tuple of str
        As they were asked.
    resting : dict of str to str
        Rules that could not run, and why.
    notes : tuple of str
    event : str
        One of `EVENTS`.
    above : float or None
    """

    table: pa.Table
    models: tuple[ModelErrors, ...]
    rules: tuple[str, ...]
    resting: dict[str, str]
    notes: tuple[str, ...]
    event: str
    above: float | None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return (
            f"SortedErrors({len(self):,} errors of {len(self.models)} models, {len(self.resting)} rules rest)"
        )

    def count(self, kind: str, *, model: str | None = None) -> int:
        """Return the errors of a kind, of one model or of all.

        Raises
        ------
        InputError
            If no rule finds this kind, or there is no such model.
        """
        found = [m for m in self.models if model in (None, m.model)]
        if not found:
            names = ", ".join(dict.fromkeys(m.model for m in self.models))
            raise InputError("There is no such model.", got=model, allowed=names)
        if kind not in found[0].counts:
            raise InputError("There is no such kind of error.", got=kind, allowed=", ".join(found[0].counts))
        return sum(m.counts[kind] for m in found)

    def to_polars(self) -> object:
        """Return the findings as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)

    @classmethod
    def concat(cls, parts: Sequence[SortedErrors]) -> SortedErrors:
        """Join the errors of several data sets, sorted by the same rules."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        return cls(
            pa.concat_tables([p.table for p in parts]),
            tuple(m for p in parts for m in p.models),
            first.rules,
            _joined_resting(parts),
            tuple(f"{p.models[0].dataset}: {note}" for p in parts for note in p.notes),
            first.event,
            first.above,
        )


def _joined_resting(parts: Sequence[SortedErrors]) -> dict[str, str]:
    """Return why rules rest, and on which data set where not for one reason on all."""
    found: dict[str, str] = {}
    for rule in dict.fromkeys(rule for p in parts for rule in p.resting):
        whys = [p.resting.get(rule) for p in parts]
        if len(set(whys)) == 1:
            found[rule] = str(whys[0])
        else:
            told = zip(parts, whys, strict=True)
            found[rule] = "; ".join(f"{p.models[0].dataset}: {why}" for p, why in told if why)
    return found
