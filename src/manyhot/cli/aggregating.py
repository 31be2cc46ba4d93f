"""The commands about votes: aggregate, agreement."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.options import ClassesOption, JsonOption, call
from manyhot.cli.printing import print_facts, print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.reassess.aggregate import Aggregated
    from manyhot.reassess.agreement import Agreement

VotesArgument = Annotated[
    str,
    typer.Argument(
        help="Votes: Parquet, CSV, raters.npz, a campaign folder, or imagenet-real, which is fetched."
    ),
]
GoldenOption = Annotated[
    Path | None, typer.Option("--golden", help="Experts' answers; those of the campaign by default.")
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Format of the votes, or a call string: \"crowd-kit(separator='|')\"."),
]
ResamplesOption = Annotated[
    int, typer.Option("--resamples", help="Bootstrap resamples; 0 for no intervals.", min=0)
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")]


def aggregate(
    votes: VotesArgument,
    method: Annotated[
        str, typer.Option("--method", help="An aggregator or call string: \"majority(maybe='half')\".")
    ] = "dawid-skene",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Labels to write, a Parquet file; by default labels.parquet, of a campaign in its folder.",
            dir_okay=False,
        ),
    ] = None,
    golden: GoldenOption = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="All images, with original labels, which those without votes keep."),
    ] = None,
    classes: ClassesOption = None,
    format_: FormatOption = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Probability from which a class counts; 0.8, or 0.5 for shares."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option("--precision", help="Or: the threshold with this precision on golden questions."),
    ] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", help="Or: the threshold with this recall on golden questions.")
    ] = None,
    unclear_from: Annotated[
        float | None,
        typer.Option(
            "--unclear-from", help="Probability from which a class is unclear, below the threshold."
        ),
    ] = None,
    original_classes: Annotated[
        str | None,
        typer.Option(
            "--original-classes",
            help="Classes for which the original label counts as a rater in golden-bayes: 0-397.",
        ),
    ] = None,
    refined: Annotated[
        str,
        typer.Option("--refined", help="Decisions where raters disagreed: decides, counts, ignored."),
    ] = "decides",
    resamples: ResamplesOption = 1000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Make label sets of raters' answers.

    Methods: majority, yes-share, dawid-skene, one-coin, golden-bayes.
    Example: manyhot aggregate imagenet-real --method golden-bayes --out labels.parquet
    """
    from manyhot.reassess.aggregate import aggregate_files

    with show_progress() as progress:
        done, written = aggregate_files(
            votes,
            out,
            golden=golden,
            images=images,
            classes=classes,
            format=format_,
            method=method,
            threshold=threshold,
            unclear_from=unclear_from,
            precision=precision,
            recall=recall,
            original_classes=original_classes,
            refined=refined,
            resamples=resamples,
            seed=seed,
            call=call(),
            progress=progress,
        )
    _print_aggregated(done, written, as_json)


def agreement(
    votes: VotesArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables; without it, print.", file_okay=False)
    ] = None,
    golden: GoldenOption = None,
    classes: ClassesOption = None,
    format_: FormatOption = None,
    resamples: ResamplesOption = 1000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Say how far raters agree, how good they are on golden questions, and whose answers are suspicious.

    Example: manyhot agreement imagenet-real
    """
    from manyhot.reassess.agreement import agreement_files

    with show_progress() as progress:
        found, written = agreement_files(
            votes,
            out,
            golden=golden,
            classes=classes,
            format=format_,
            resamples=resamples,
            seed=seed,
            call=call(),
            progress=progress,
        )
    _print_agreement(found, written, as_json)


def _print_aggregated(done: Aggregated, written: Sequence[Path], as_json: bool) -> None:
    row = _row_at(done)
    sizes = _sizes(done)
    if as_json:
        told = {key: _parsed(value) for key, value in done.about().items()}
        row = None if row is None else {k: None if v != v else v for k, v in row.items()}
        numbers = {**sizes, **told, "at_threshold": row, "notes": done.notes}
        typer.echo(json.dumps(numbers | {"written": [str(p) for p in written]}))
        return
    with_any = sizes["images"] - sizes["empty"]
    asked = (
        f"of {sizes['raters']:,} raters on {sizes['questions']:,} questions about {sizes['rated']:,} images"
    )
    held = f"on {with_any:,} of {sizes['images']:,} images, {sizes['multi']:,} with two or more"
    facts = [
        ("votes", f"{sizes['votes']:,}", asked),
        ("labels", f"{sizes['labels']:,}", held),
        ("threshold", f"{done.threshold:g}", f"{done.method}, {_course(done)}"),
    ]
    if row is not None:
        golden = f"{row['n_questions']:,} golden questions of {row['n_images']:,} images"
        for name in ("precision", "recall"):
            span = _interval(row[f"{name}_lo"], row[f"{name}_hi"])
            more = f"on {golden}" if span == "–" else f"{span}, on {golden}"
            facts.append((name, _number(row[name]), more))
    if unrated := sizes["unrated"]:
        facts.insert(2, ("not rated", f"{unrated:,}", "images, which have their original label"))
    print_facts(facts)
    _print_flags(done.raters.to_pylist())
    _print_notes(done.notes)
    print_written(list(written), False)


def _sizes(done: Aggregated) -> dict[str, int]:
    states = done.labels.table["state"].to_pylist()
    kept = [row.count("yes") for row in states]
    return {
        "votes": len(done.votes),
        "raters": done.votes.n_raters,
        "questions": done.votes.n_questions,
        "rated": len(done.votes.images),
        "unrated": done.labels.table["rated"].to_pylist().count(False),
        "images": len(done.labels),
        "labels": sum(kept),
        "empty": kept.count(0),
        "multi": sum(k > 1 for k in kept),
    }


def _row_at(done: Aggregated) -> dict[str, Any] | None:
    """Return the row of the curve that holds at the threshold: the lowest probability that counts."""
    rows: list[dict[str, Any]] = done.curve.to_pylist()
    return next((row for row in rows if row["threshold"] >= done.threshold), None)


def _course(done: Aggregated) -> str:
    result = done.result
    if not result.iterations:
        return "in closed form"
    how = "converged" if result.converged else "not converged"
    return f"{how} after {result.iterations:,} iterations, log-likelihood {result.log_likelihood:,.1f}"


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _print_agreement(found: Agreement, written: Sequence[Path], as_json: bool) -> None:
    raters = found.raters.to_pylist()
    if as_json:
        told: dict[str, Any] = {name: found.tables[name].to_pylist() for name in ("agreement", "raters")}
        told["agreement"] = [{k: None if v != v else v for k, v in r.items()} for r in told["agreement"]]
        typer.echo(json.dumps({**told, "notes": found.notes, "written": [str(p) for p in written]}))
        return
    rows = [
        (r["measure"], _number(r["value"]), _interval(r["lo"], r["hi"]), f"{r['n']:,}", f"{r['n_skipped']:,}")
        for r in found.agreement.to_pylist()
    ]
    print_table(("measure", "value", "95 % interval", "n", "left out"), rows)
    _print_confusion(found)
    _print_raters(raters)
    _print_flags(raters)
    _print_notes(found.notes)
    print_written(list(written), False)


def _print_confusion(found: Agreement) -> None:
    together = [r for r in found.confusion.to_pylist() if r["rater_id"] is None]
    if not together:
        return
    typer.echo()
    rows = [
        (f"truth {truth}", *(f"{r['n']:,} ({_percent(r['share'])})" for r in together if r["truth"] == truth))
        for truth in ("no", "yes")
    ]
    print_table(("all raters on golden questions", "no", "maybe", "yes"), rows)


def _print_raters(raters: list[dict[str, Any]], most: int = 5) -> None:
    """Print the raters whose answers tell least and most; who has golden answers is judged by these alone."""
    golden = [r for r in raters if r["golden_yes"] and r["golden"] > r["golden_yes"]] or raters
    known = sorted((r for r in golden if r["informedness"] is not None), key=lambda r: r["informedness"])
    shown = known if len(known) <= 2 * most else [*known[:most], None, *known[-most:]]
    typer.echo()
    names = ("golden_accuracy", "golden_sensitivity", "golden_specificity")
    rows = [
        ("…",) * 9
        if r is None
        else (
            r["rater_id"],
            f"{r['votes']:,}",
            _percent(r["agreement"]) + (f" of {r['others']:,}" if r["agreement"] is not None else ""),
            f"{r['golden']:,} ({r['golden_yes']:,})" if r["golden"] else "–",
            *(_percent(r[name]) for name in names),
            _with_interval(r["informedness"], r["informedness_lo"], r["informedness_hi"]),
            ", ".join(r["flags"]),
        )
        for r in shown
    ]
    shares = ("like others", "golden (yes)", "accuracy", "sensitivity", "specificity")
    head = ("rater", "votes", *shares, "informedness", "flags")
    # Without golden answers some columns are empty, and mostly nobody is flagged.
    kept = [i for i in range(len(head)) if any(row[i] not in ("", "–", "…") for row in rows)]
    print_table(tuple(head[i] for i in kept), [tuple(row[i] for i in kept) for row in rows])


def _print_flags(raters: list[dict[str, Any]]) -> None:
    from manyhot.reassess.agreement import RULES

    for flag, rule in RULES.items():
        flagged = [r["rater_id"] for r in raters if flag in r["flags"]]
        if flagged:
            shown = ", ".join(flagged[:10]) + (", …" if len(flagged) > 10 else "")
            for line in textwrap.wrap(f"{flag}: {shown} ({rule})", 88, subsequent_indent="  "):
                say(line)


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"Note: {note}.", err=True)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.1%}"


def _interval(lo: float | None, hi: float | None) -> str:
    return "–" if lo is None or hi is None or lo != lo else f"{lo:.4f} to {hi:.4f}"


def _with_interval(value: float | None, lo: float | None, hi: float | None) -> str:
    known = _interval(lo, hi)
    return _number(value) if known == "–" else f"{_number(value)} ({known})"
