"""Errors with their kinds: the result of sorting them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from manyhot import tables
from manyhot.console import table_lines
from manyhot.core.error_kinds import shares
from manyhot.core.share_intervals import proportion_interval
from manyhot.diagnose.class_errors import class_error_lines, first_class_errors
from manyhot.diagnose.first_findings import FIRST_FINDINGS, Findings
from manyhot.errors import InputError
from manyhot.formats.csv_tables import write_csv
from manyhot.formats.writing import PathLike, check_apart
from manyhot.report.chapter import NextStep
from manyhot.report.text import counted
from manyhot.tables import Row, schema

LIST_LABEL_ISSUES = NextStep(
    "list the labels that may be wrong or missing.", "manyhot diagnose labels DATASET --predictions FOLDER"
)


def wrong_labels_sentence(skipped_rules: Collection[str], min_confidence: float | None) -> str:
    """Return a warning about wrong labels if only original labels are known, and otherwise an empty text."""
    if "valid-label" not in skipped_rules:
        return ""
    which = "An error" if min_confidence is None else f"An error with a confidence above {min_confidence:g}"
    return (
        f"{which} may be due to a wrong or missing label, whatever its kind: the kinds cannot show this, "
        f"because only the original labels are known."
    )


@dataclass(frozen=True)
class ModelErrors:
    """A model's number of errors, by kind.

    Attributes
    ----------
    dataset, model : str
    n, n_skipped : int
        Number of images evaluated, and number of aligned images that are not usable, or lack a label or a
        prediction.
    n_errors : int
        Number of errors, whatever their confidence.
    counts : dict of str to int
        Number of sorted errors, by kind.
    severity : float
        Mean height of the lowest common ancestor of the predicted class and the closest valid class, over the
        sorted errors for which this height is known; NaN if there are none.
    n_severity : int
        Number of errors over which `severity` is averaged.
    """

    dataset: str
    model: str
    n: int
    n_skipped: int
    n_errors: int
    counts: dict[str, int]
    severity: float = float("nan")
    n_severity: int = 0

    @property
    def n_sorted(self) -> int:
        """The number of sorted errors: those with a confidence above the minimum."""
        return sum(self.counts.values())

    @property
    def shares(self) -> dict[str, float]:
        """The share of each kind; NaN if there are no errors."""
        return shares(self.counts)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as an object, with None for a severity that is unknown."""
        keys = ("dataset", "model", "n", "n_skipped", "n_errors", "n_sorted", "counts", "n_severity")
        severity = self.severity if self.n_severity else None
        return {key: getattr(self, key) for key in keys} | {"severity": severity}


@dataclass(frozen=True, eq=False)
class SortedErrors(Findings):
    """Errors with their kinds.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``, with the columns `kind`, `image_id`, `class_a` (the class that determined the
        kind; null if none did), `class_b` (the predicted class), `label`, `state`, `n_labels`, `dataset`,
        `model`, `confidence`, and the names of the classes, `name_a`, `name_b` and `label_name`.
    models : tuple of ModelErrors
    rules : tuple of str
        The rules in the order in which they were applied.
    skipped_rules : dict of str to str
        Rules that could not be applied, with the reasons.
    event : {"label", "set"}
        What counts as an error.
    min_confidence : float or None
        Only errors with a confidence above this value were sorted.
    superclasses : {"given", "class list", "WordNet", "confusions", "none"}
        The origin of the superclasses: the argument, the class list, WordNet (looked up by class name), or
        clusters of classes that the models confuse. If data sets have different origins, all are listed, such
        as "WordNet, none".
    class_errors : pyarrow.Table
        The table ``class_errors`` with the false positives and misses of each class, if there are no original
        labels and a model predicts independent classes; otherwise empty.
    class_counts : tuple of dict
        For each model in `class_errors`, the number of (image, class) pairs that were judged.
    sources, hints
        As in `Findings`.
    notes, metadata, inputs
        As in `Result`.
    """

    SCORE = "confidence"

    models: tuple[ModelErrors, ...]
    rules: tuple[str, ...]
    skipped_rules: dict[str, str]
    event: str
    min_confidence: float | None
    superclasses: str = "none"
    class_errors: pa.Table = field(default_factory=lambda: schema("class_errors").empty_table(), repr=False)
    class_counts: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        skipped = len(self.skipped_rules)
        return f"SortedErrors({len(self):,} errors of {len(self.models)} models, {skipped} rules skipped)"

    @property
    def kinds(self) -> list[str]:
        """The kinds that errors were sorted into."""
        return list(dict.fromkeys(kind for m in self.models for kind in m.counts))

    def count(self, kind: str, *, model: str | None = None) -> int:
        """Return the number of errors of one kind, for one model or for all models.

        Raises
        ------
        InputError
            If there is no such kind or model.
        """
        models = [m for m in self.models if model in (None, m.model)]
        if not models:
            names = ", ".join(dict.fromkeys(m.model for m in self.models))
            raise InputError("There is no such model.", got=model, allowed=names)
        if kind not in models[0].counts:
            raise InputError("There is no such kind of error.", got=kind, allowed=", ".join(models[0].counts))
        return sum(m.counts[kind] for m in models)

    def lines(self) -> Iterator[str]:
        """Yield the share of each kind, the skipped rules, and the errors with the highest confidence."""
        yield from class_error_lines(self.class_errors, self.class_counts, FIRST_FINDINGS)
        above = () if self.min_confidence is None else (f"above {self.min_confidence:g}",)
        against = "the original label" if self.event == "label" else "the label set"
        for dataset in dict.fromkeys(m.dataset for m in self.models):
            yield f"{dataset}: errors against {against}, and shares of each kind"
            rows = [self._cells(m) for m in self.models if m.dataset == dataset]
            yield from table_lines(("model", "images", "errors", *above, *self.kinds), rows)
            yield from (_severity_line(m) for m in self.models if m.dataset == dataset and m.n_severity)
            yield ""
        yield from (f"rule {rule} skipped: {why}" for rule, why in self.skipped_rules.items())
        if self.skipped_rules:
            yield ""
        yield from self.first_lines("predicted")
        yield from self.hints
        yield ""

    def _cells(self, model: ModelErrors) -> tuple[str, ...]:
        sorted_errors = [] if self.min_confidence is None else [f"{model.n_sorted:,}"]
        n, counts = model.n_sorted, model.counts
        percent = (_percent(counts[kind], n) if kind in counts else "–" for kind in self.kinds)
        return (model.model, f"{model.n:,}", f"{model.n_errors:,}", *sorted_errors, *percent)

    def to_json(self) -> dict[str, Any]:
        """Return the counts for each model, as printed by manyhot diagnose errors --json."""
        return {
            "event": self.event,
            "min_confidence": self.min_confidence,
            "rules": self.rules,
            "superclasses": self.superclasses,
            "models": [m.to_json() for m in self.models],
            "skipped_rules": self.skipped_rules,
            "first": self.first,
            "notes": self.notes,
        } | ({"class_errors": self.class_counts} if self.class_counts else {})

    @property
    def shown(self) -> list[Row]:
        """The errors whose images the gallery shows: for independent classes, false positives and misses."""
        return first_class_errors(self.class_errors, FIRST_FINDINGS) if self.class_counts else self.first

    @property
    def gallery_tables(self) -> tuple[pa.Table, ...]:
        """The kinds of errors, and the false positives and misses."""
        return self.table, self.class_errors

    def write_beside(self, out: PathLike) -> list[Path]:
        """Write the number of errors per kind and model next to the findings."""
        findings = self._paths(out, "findings")[0]
        written = [write_csv(counts_table(self), _counts_path(findings))]
        beside = _class_errors_path(findings, is_file=self.is_file(out))
        for path in (beside.with_suffix(".parquet"), beside):
            path.unlink(missing_ok=True)
        if not self.class_counts:
            return written
        if not self.is_file(out):
            written.append(beside.with_suffix(".parquet"))
            about = {"counts": json.dumps(self.class_counts, ensure_ascii=False)}
            tables.write(self.class_errors, written[-1], "class_errors", inputs=self.inputs, about=about)
        return [*written, write_csv(self.class_errors, beside)]

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if an input file would be overwritten; see `Result.check_out`."""
        sources = list(sources)
        super().check_out(out, sources)
        findings = cls._paths(out, "findings")[0]
        check_apart(sources, _counts_path(findings))
        beside = _class_errors_path(findings, is_file=cls.is_file(out))
        check_apart(sources, beside)
        check_apart(sources, beside.with_suffix(".parquet"))

    @classmethod
    def concat(cls, parts: Sequence[SortedErrors], inputs: Mapping[str, str]) -> SortedErrors:
        """Join the errors of several data sets, sorted by the same rules."""
        first = parts[0]
        skipped = first.skipped_rules if len(parts) == 1 else _joined_reasons(parts)
        named = [(f"{p.models[0].dataset}: " if len(parts) > 1 else "", p) for p in parts]
        superclasses = ", ".join(dict.fromkeys(p.superclasses for p in parts))
        metadata = {
            "superclasses": superclasses,
            "rules": json.dumps(first.rules),
            "skipped_rules": json.dumps(skipped, ensure_ascii=False),
            "event": first.event,
            "min_confidence": json.dumps(first.min_confidence),
            "models": json.dumps([m.to_json() for p in parts for m in p.models], ensure_ascii=False),
        }
        return cls(
            pa.concat_tables([p.table for p in parts]),
            tuple(m for p in parts for m in p.models),
            first.rules,
            skipped,
            first.event,
            first.min_confidence,
            superclasses,
            pa.concat_tables([p.class_errors for p in parts]),
            tuple(counts for p in parts for counts in p.class_counts),
            notes=tuple(f"{name}{note}" for name, p in named for note in p.notes),
            sources=tuple(source for p in parts for source in p.sources),
            metadata=metadata,
            inputs=inputs,
        )


def _severity_line(model: ModelErrors) -> str:
    n_without = model.n_sorted - model.n_severity
    errors = counted(n_without, "error")
    rest = f"; without {errors} of classes that are not in the hierarchy" if n_without else ""
    return (
        f"{model.model}: mean severity {model.severity:.2f} over {model.n_severity:,} errors (height of the "
        f"lowest common ancestor{rest})"
    )


def _percent(count: int, n: int) -> str:
    ends = _ends(count, n)
    return f"{count / n:.1%} ({100 * ends['lo']:.1f} to {100 * ends['hi']:.1f})" if n else "–"


def _ends(count: int, n: int) -> dict[str, float]:
    lo, hi = proportion_interval(count, n)
    return {"lo": float(lo), "hi": float(hi)}


def _counts_path(findings: Path) -> Path:
    return findings.with_name(f"{findings.stem}-counts.csv")


def _class_errors_path(findings: Path, *, is_file: bool) -> Path:
    return findings.with_name(f"{findings.stem}-class-errors.csv" if is_file else "class_errors.csv")


def _joined_reasons(parts: Sequence[SortedErrors]) -> dict[str, str]:
    """Return why rules were skipped, and on which data set where the reason differs."""
    joined: dict[str, str] = {}
    for rule in dict.fromkeys(rule for p in parts for rule in p.skipped_rules):
        reasons = {p.models[0].dataset: p.skipped_rules.get(rule) for p in parts}
        if len(set(reasons.values())) == 1:
            joined[rule] = str(reasons[parts[0].models[0].dataset])
        else:
            joined[rule] = "; ".join(f"{dataset}: {why}" for dataset, why in reasons.items() if why)
    return joined


def counts_table(result: SortedErrors) -> pa.Table:
    """Return the number and share of errors of each kind for each model; skipped rules have no row."""
    rows = [
        {
            "dataset": m.dataset,
            "model": m.model,
            "kind": kind,
            "errors": m.counts[kind],
            "share": m.shares[kind],
            **_ends(m.counts[kind], m.n_sorted),
            "n_sorted": m.n_sorted,
            "n_errors": m.n_errors,
            "n": m.n,
            "n_skipped": m.n_skipped,
        }
        for m in result.models
        for kind in result.kinds
        if kind in m.counts
    ]
    return pl.DataFrame(rows, infer_schema_length=None).to_arrow()
