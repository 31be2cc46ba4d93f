"""Error consistency: whether models fail on the same images, and what a vote of three gains if not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import family_of
from manyhot.console import table_lines
from manyhot.core.error_consistency import ErrorConsistency, MajorityVote, best_votes, map_of_models
from manyhot.data.data_sets import Source
from manyhot.evaluate.model_answers import ModelAnswers
from manyhot.report.text import is_defined
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, ITS, REAL, TEXT, declare_table, interval
from manyhot.tables.frames import concat_by_name, null_if_nan

Naming = Callable[[str], str]

SHOWN_PAIRS = 5
"""Number of the most similar pairs, and of the least similar pairs, on the terminal."""

_WHOSE = (TEXT("dataset", "the data set"), TEXT("metric", "top1 (original label) or real1 (label set)"))

declare_table(
    "error_consistency",
    (
        *_WHOSE,
        TEXT("model_a", "the first model"),
        TEXT("model_b", "the second model"),
        *interval(
            "kappa",
            "error consistency: Cohen's kappa between the correctness of the two models; NaN if both models "
            "are right on all images, "
            "or both are wrong on all",
            f"{ITS} by the bootstrap over images; null if there is none",
            value=REAL,
        ),
        COUNT("both_right", "images on which both models are right"),
        COUNT("only_a", "images on which only the first model is right"),
        COUNT("only_b", "images on which only the second model is right"),
        COUNT("both_wrong", "images on which both models are wrong"),
        COUNT("n", "number of images"),
    ),
)

declare_table(
    "consistency_means",
    (
        *_WHOSE,
        COUNT("models", "number of models"),
        COUNT("pairs", "pairs of models with a kappa"),
        *interval(
            "kappa", "mean of kappa over these pairs", f"{ITS} over images; null if there is none", value=REAL
        ),
        *interval(
            "difference",
            "the mean by real1 minus the mean by top1; null if there is only one metric",
            f"{ITS} over images; null if there is none",
            value=REAL.nullable,
        ),
        COUNT("all_right", "images on which all models are right"),
        COUNT("none_right", "images on which no model is right"),
        COUNT("n", "number of images"),
    ),
)

declare_table(
    "model_map",
    (
        *_WHOSE,
        TEXT("model", "the model"),
        TEXT("family", "its family of architectures"),
        REAL("x", "first coordinate on a map that places models with similar errors close together"),
        REAL("y", "second coordinate on the map"),
        REAL("value", "the model's value of the metric on these images"),
        COUNT("n", "number of images"),
    ),
)

declare_table(
    "majority_votes",
    (
        *_WHOSE,
        TEXT("model", "the best model, whose class is the vote if all three models disagree"),
        TEXT("model_a", "the second model"),
        TEXT("model_b", "the third model"),
        REAL("kappa", "mean error consistency of the three models, on the images used to choose them"),
        REAL(
            "chosen_gain",
            "gain on the images used to choose the models, which overestimates the gain on other images",
        ),
        *interval(
            "gain",
            "value of the vote minus value of the best model, on the other images",
            f"{ITS}; null if there is none",
            value=REAL,
        ),
        COUNT("n", "number of these other images"),
    ),
)


@dataclass(frozen=True, eq=False)
class ConsistencyTables:
    """How consistent the errors of models are, for each data set.

    Attributes
    ----------
    error_consistency, consistency_means, model_map, majority_votes : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    """

    error_consistency: pa.Table
    consistency_means: pa.Table
    model_map: pa.Table
    majority_votes: pa.Table

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {name: getattr(self, name) for name in CONSISTENCY_TABLES}

    def lines(self) -> Iterator[str]:
        """Yield the means, the most and least similar pairs, and the gain of a majority vote."""
        for number, dataset in enumerate(self.consistency_means["dataset"].unique().to_pylist()):
            if number:
                yield ""
            rows = {
                name: table.filter(pc.equal(table["dataset"], dataset)).to_pylist()
                for name, table in self.tables.items()
            }
            yield from mean_sentences(dataset, rows["consistency_means"])
            yield from _pair_lines(rows["error_consistency"])
            yield from vote_sentences(rows["majority_votes"])

    @classmethod
    def concat(cls, parts: Sequence[ConsistencyTables]) -> ConsistencyTables:
        """Return the tables of several data sets as one."""
        return cls(**concat_by_name(part.tables for part in parts))


CONSISTENCY_TABLES = ("error_consistency", "consistency_means", "model_map", "majority_votes")


def judge_consistency(
    source: Source, *, resamples: int, seed: int, families: Mapping[str, str], trust_order: bool = False
) -> ConsistencyTables:
    """Return how consistent the errors of models are.

    If there are both original labels and label sets, only images with both are used, so that the results by
    original labels and by label sets can be compared.

    Parameters
    ----------
    source : Source
        A data set whose models predict the same images.
    resamples, seed : int
        Options of the bootstrap over images. The seed also determines how the images are divided into one
        part for choosing majority votes and one for evaluating them.
    families : Mapping of str to str
        Families of the models whose names do not imply the family.
    trust_order : bool
        As in `manyhot.evaluate`.

    Raises
    ------
    InputError
        If no image has a label or a label set.
    """
    answers = ModelAnswers.of(source, trust_order=trust_order)
    found = {metric: ErrorConsistency(right) for metric, right in answers.right.items()}
    tables = [list[Row]() for _ in CONSISTENCY_TABLES]
    for metric, consistency in found.items():
        whose = {"dataset": source.name, "metric": metric}
        kappas = _pair_rows(answers.models, consistency, resamples, seed)
        first = found["top1"] if metric == "real1" and "top1" in found else None
        places = _places(answers.models, consistency, families)
        votes = best_votes(answers.top, consistency.right, seed)
        made = (kappas, [_mean_row(consistency, first)], places, _vote_rows(answers.models, votes))
        for rows, new in zip(tables, made, strict=True):
            rows += [{**whose, **row} for row in new]
    return ConsistencyTables(
        *(
            pa.Table.from_pylist(rows, schema(name))
            for name, rows in zip(CONSISTENCY_TABLES, tables, strict=True)
        )
    )


def _pair_rows(
    models: Sequence[str], consistency: ErrorConsistency, resamples: int, seed: int
) -> Iterator[Row]:
    """Yield the consistency of each pair."""
    lo, hi = consistency.intervals(resamples, seed)
    for a, b, kappa, low, high, counts in zip(
        *consistency.pairs, consistency.kappa, lo, hi, consistency.counts.tolist(), strict=True
    ):
        yield {
            "model_a": models[a],
            "model_b": models[b],
            "kappa": kappa,
            "kappa_lo": null_if_nan(low),
            "kappa_hi": null_if_nan(high),
            **dict(zip(("both_right", "only_a", "only_b", "both_wrong"), counts, strict=True)),
            "n": consistency.n,
        }


def _mean_row(consistency: ErrorConsistency, first: ErrorConsistency | None) -> Row:
    """Return the mean over pairs, and its difference to that by another metric on the same images."""
    n_right = consistency.right.sum(axis=1)
    row = {
        "models": consistency.right.shape[1],
        "pairs": int(consistency.defined.sum()),
        "all_right": int((n_right == consistency.right.shape[1]).sum()),
        "none_right": int((n_right == 0).sum()),
        "n": consistency.n,
    }
    compared = {"kappa": (consistency.mean, *consistency.mean_interval)}
    if first is not None:
        compared["difference"] = consistency.difference_from(first)
    for name, (value, lo, hi) in compared.items():
        row |= {name: value, f"{name}_lo": null_if_nan(lo), f"{name}_hi": null_if_nan(hi)}
    return row


def _places(
    models: Sequence[str], consistency: ErrorConsistency, families: Mapping[str, str]
) -> Iterator[Row]:
    """Yield the place of each model on the map."""
    places = map_of_models(consistency.kappa, len(models))
    values = consistency.right.mean(axis=0)
    for model, (x, y), value in zip(models, places.tolist(), values.tolist(), strict=True):
        family = families.get(model) or family_of(model)
        yield {"model": model, "family": family, "x": x, "y": y, "value": value, "n": consistency.n}


def _vote_rows(models: Sequence[str], votes: Sequence[MajorityVote]) -> Iterator[Row]:
    for vote in votes:
        best, a, b = (models[i] for i in vote.models)
        yield {
            "model": best,
            "model_a": a,
            "model_b": b,
            "kappa": vote.kappa,
            "chosen_gain": vote.chosen_gain,
            "gain": vote.gain,
            "gain_lo": null_if_nan(vote.interval[0]),
            "gain_hi": null_if_nan(vote.interval[1]),
            "n": vote.n,
        }


def mean_sentences(dataset: str, rows: Sequence[Row], label: Naming = str) -> Iterator[str]:
    """Yield the mean consistency by each metric, and how the means differ; `label` names the metrics."""
    for row in rows:
        start = f"Error consistency on {dataset} by {label(row['metric'])}"
        if math.isnan(row["kappa"]):
            yield f"{start} is not defined: no two models differ."
            continue
        apart = (
            f", {_text(row, 'difference', '+.3f')} compared with {label('top1')}"
            if is_defined(row["difference"])
            else ""
        )
        yield (
            f"{start}: {_text(row, 'kappa')} on average over {row['pairs']:,} pairs of {row['models']:,} "
            f"models{apart} (n {row['n']:,}); all models are right on {row['all_right']:,} images, and none "
            f"is right on {row['none_right']:,}."
        )


def shown_pairs(rows: Sequence[Row], most: int) -> list[Row]:
    """Return the most and least similar pairs by the last metric, most similar first; all if few."""
    defined = [r for r in rows if r["metric"] == rows[-1]["metric"] and not math.isnan(r["kappa"])]
    ordered = sorted(defined, key=lambda r: -r["kappa"])
    return ordered if len(ordered) <= 2 * most else [*ordered[:most], *ordered[-most:]]


def _pair_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the most and least similar pairs."""
    shown = shown_pairs(rows, SHOWN_PAIRS)
    if not shown:
        return
    label = shown[0]["metric"]
    which = "pairs" if len(shown) < 2 * SHOWN_PAIRS else "the most and the least consistent pairs"
    yield f"{which} by {label}:"
    yield from table_lines(
        ("model", "model", "kappa", "95 %", "both wrong", "one wrong", "n"), [pair_cells(r) for r in shown]
    )


def pair_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a pair."""
    ends = "–" if row["kappa_lo"] is None else f"{row['kappa_lo']:.3f} to {row['kappa_hi']:.3f}"
    counts = (row["both_wrong"], row["only_a"] + row["only_b"], row["n"])
    return (row["model_a"], row["model_b"], f"{row['kappa']:.3f}", ends, *(f"{c:,}" for c in counts))


def vote_sentences(rows: Sequence[Row], label: Naming = str) -> Iterator[str]:
    """Yield, for each metric, the gain of the majority vote that was best on the images used to choose it."""
    for metric in dict.fromkeys(row["metric"] for row in rows):
        row = next(r for r in rows if r["metric"] == metric)
        trio = (
            f"{row['model']}, the best model by {label(metric)}, with {row['model_a']} and {row['model_b']}"
        )
        yield (
            f"The majority vote of {trio} gains {gain_text(row)} points over the best model on the "
            f"{row['n']:,} images that were not used to choose the vote."
        )


def gain_text(row: Row) -> str:
    """Return the gain of a majority vote in points, with its interval if there is one."""
    return _text(row, "gain", "+.2f", 100)


def _text(row: Row, name: str, form: str = ".3f", scale: int = 1) -> str:
    """Return a value with its interval, if it has one."""
    value, lo, hi = (
        None if row[c] is None else f"{scale * row[c]:{form}}" for c in (name, f"{name}_lo", f"{name}_hi")
    )
    return f"{value} ({lo} to {hi})" if lo else f"{value}"
