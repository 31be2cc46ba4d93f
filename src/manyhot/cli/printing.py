"""What commands print: tables, progress, notes and what was written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manyhot.console import fact_lines, table_lines, written_lines
from manyhot.console import say as say
from manyhot.console import show_progress as show_progress

if TYPE_CHECKING:
    from manyhot.evaluate.describe import Description
    from manyhot.evaluate.label_kinds import Kinds
    from manyhot.formats.writing import Saved
    from manyhot.predict.doctor import MachineCheck
    from manyhot.predict.find import Listed
    from manyhot.predict.similar import Similar
    from manyhot.registry import Entry


def print_written(written: list[Path], as_json: bool) -> None:
    """Print the files that were written."""
    if as_json:
        typer.echo(json.dumps({"written": [str(p) for p in written]}))
        return
    for line in written_lines(written):
        say(line)


def print_saved(saved: Saved, target: Path, as_json: bool) -> None:
    """Print the files that were written, and what they do not hold."""
    files = [str(path) for path in saved.files]
    if as_json:
        typer.echo(json.dumps({"written": files, "left_out": saved.left_out}))
        return
    print_written([*saved.files], as_json)
    if saved.left_out:
        say(f"Note: {target.name} does not hold {', '.join(saved.left_out)}: left out.", err=True)


def print_catalog(as_json: bool) -> None:
    """Print what can be fetched."""
    from manyhot.data import catalog

    entries = [catalog.catalog_entry(name) for name in catalog.catalog_names()]
    if as_json:
        keys = ("name", "title", "home", "licence", "citation", "notes", "size")
        typer.echo(
            json.dumps(
                [{k: getattr(e, k) for k in keys} | {"files": [f.path for f in e.files]} for e in entries]
            )
        )
        return
    rows = [
        (e.name, f"{e.size / 1e6:.1f} MB", e.licence, "yes" if catalog.is_cached(e.name) else "no", e.title)
        for e in entries
    ]
    print_table(("name", "size", "licence", "cached", "what"), rows)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table, numbers to the right; away from a terminal nothing of it is cut."""
    for line in table_lines(head, rows):
        typer.echo(line)


def counts(numbers: Iterable[int]) -> str:
    """Return the number of images that several numbers are over: one where it is the same, else each."""
    of = list(numbers)
    return " / ".join(f"{n:,}" for n in (of[:1] if len(set(of)) == 1 else of))


def print_facts(facts: Sequence[tuple[str, str, str]]) -> None:
    """Print what is what: a name, its number, and what more there is to say about it."""
    for line in fact_lines(facts):
        say(line)


def options_text(entry: Entry) -> str:
    """Return the options of a registered function in a line."""
    from manyhot import registry

    needed = registry.missing_options(entry)
    return ", ".join(f"{name} (needed)" if name in needed else name for name in registry.options_of(entry))


def print_description(description: Description, written: list[Path], as_json: bool, most: int = 10) -> None:
    """Print sizes of label sets, the most frequent pairs and the rejected labels."""
    if as_json:
        found = {name: t.to_pylist() for name, t in description.tables.items() if name != "rejected"}
        typer.echo(json.dumps(found | {"written": [str(p) for p in written]}))
        return
    for card in description.datasets.to_pylist():
        name = card["dataset"]
        _print_card(card)
        sizes = [r for r in description.set_sizes.to_pylist() if r["dataset"] == name]
        print_table(
            ("labels", "images", "share"),
            [(str(r["size"]), f"{r['images']:,}", f"{r['share']:.2%}") for r in sizes],
        )
        pairs = [r for r in description.class_pairs.to_pylist() if r["dataset"] == name][:most]
        if pairs:
            typer.echo()
            print_table(
                ("most frequent pairs", "images"),
                [(f"{r['name_a']} + {r['name_b']}", f"{r['images']:,}") for r in pairs],
            )
        typer.echo()
    print_written(written, False)
    if len(written) > 1 and not any(p.suffix == ".svg" for p in written):
        say('Note: figures need Altair: pip install "manyhot[report]".', err=True)


def _print_card(card: dict[str, Any]) -> None:
    sets = card["images"] - card["unusable"] - card["empty"]
    say(f"{card['dataset']}: {card['images']:,} images, {card['labels']:,} labels")
    share = card["multi"] / max(sets, 1)
    facts = [("two or more labels", f"{card['multi']:,}", f"of {sets:,} images with any ({share:.1%})")]
    facts.append(("no valid class", f"{card['empty']:,}", ""))
    if card["labelled"]:
        share = card["rejected"] / card["labelled"]
        of = f"of {card['labelled']:,} ({share:.1%})"
        facts.append(("original label not valid", f"{card['rejected']:,}", of))
    if card["rated"] is not None:
        facts.append(("looked at by people", f"{card['rated']:,}", ""))
    print_facts(facts)
    typer.echo()


def print_kinds(found: Kinds, written: list[Path], as_json: bool, most: int = 10) -> None:
    """Print how many images are of each kind, near-synonyms, and how well labels tell what raters counted."""
    if as_json:
        numbers = {"kinds": found.counts, "annotated": found.annotated, "several": found.several_counted}
        told = numbers | {"check": found.check.tolist(), "near_synonyms": found.synonyms}
        told |= {"written": [str(p) for p in written]}
        typer.echo(json.dumps(told))
        return
    total = max(sum(found.counts.values()), 1)
    rows = [(kind, f"{n:,}", f"{n / total:.2%}") for kind, n in found.counts.items()]
    print_table(("kind", "images", "share"), rows)
    if found.synonyms:
        pairs = [(f"{a} + {b}", f"{both:,}", f"{either:,}") for a, b, both, either in found.synonyms[:most]]
        typer.echo()
        print_table((f"near-synonyms ({len(found.synonyms)} pairs)", "both", "either"), pairs)
        typer.echo()
    if found.annotated and found.check.sum():
        several, of = found.several_counted, found.annotated
        (one, more), (missed, told) = found.check.tolist()
        n = one + more + missed + told
        print_facts(
            [
                (
                    "counted by raters",
                    f"{of:,}",
                    f"images, {several:,} ({several / of:.1%}) with several objects",
                ),
                ("of these with several labels", f"{n:,}", ""),
                ("  told right by labels alone", f"{one + told:,}", f"({(one + told) / n:.1%})"),
                ("    several objects", f"{told:,}", f"of {missed + told:,}"),
                ("    one object", f"{one:,}", f"of {one + more:,}"),
            ]
        )
    print_written(written, as_json)


def print_similar(found: Similar, written: list[Path], as_json: bool) -> None:
    """Print how many rows there are, what was left out and what was written."""
    numbers = {"images": found.n_images, "rows": len(found.table), "empty": found.n_empty}
    if as_json:
        typer.echo(json.dumps(numbers | {"notes": found.notes, "written": [str(p) for p in written]}))
        return
    say(f"{found.n_images:,} images, {len(found.table):,} rows, {found.n_empty:,} without neighbours")
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def print_models(listed: Sequence[Listed], pattern: str, as_json: bool) -> None:
    """Print models by name, and by what names others go."""
    from manyhot.predict.find import families

    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(m) for m in listed]))
        return
    if listed:
        rows = [(m.name, str(m.size or ""), m.classes, m.source) for m in listed]
        print_table(("name", "size", "classes", "from"), rows)
    count = f"{len(listed):,} model{' fits' if len(listed) == 1 else 's fit'} {pattern!r}"
    say(f"{count}. What predict takes besides: {', '.join(families().values())}")


def print_doctor(findings: Sequence[MachineCheck], as_json: bool) -> None:
    """Print what there is, and how to get the rest."""
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(f) for f in findings]))
        return
    rows = [(f.kind, f.name, "yes" if f.there else "no", f.state) for f in findings]
    print_table(("kind", "name", "there", "what"), rows)
    for finding in findings:
        if finding.do:
            say(f"for {finding.name}: {finding.do}")
