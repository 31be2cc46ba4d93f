"""Label files in, their sizes of label sets, pairs of classes and rejected labels out."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from manyhot import catalog
from manyhot.classes import class_list
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_images, read_labels
from manyhot.pipeline.benchmarks import BENCHMARKS, Fetched
from manyhot.pipeline.common import PathLike, Progress
from manyhot.pipeline.outputs import save_label_figures, write_tables
from manyhot.steps.describe import Description, describe

if TYPE_CHECKING:
    from manyhot.pipeline.card import CardFacts


def describe_files(
    labels: Sequence[PathLike] | PathLike,
    out: PathLike | None = None,
    *,
    rows: PathLike | None = None,
    classes: PathLike | None = None,
    card: PathLike | None = None,
    facts: CardFacts | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Description, list[Path]]:
    """Describe label sets: how many labels images have, which classes go together, which labels fell.

    Parameters
    ----------
    labels : sequence of path-like
        Label files and folders in any format, and names of benchmarks such as ``imagenet``; a folder called
        like one is meant by ``./imagenet``.
    out : path-like, optional
        Folder for the tables ``datasets``, ``set_sizes``, ``class_pairs`` and ``rejected``, and for their
        figures, where the extra ``report`` is installed.
    rows : path-like, optional
        Original labels, where a file has none.
    classes : path-like, optional
        The class list; see `manyhot.formats.read_classes`.
    card : path-like, optional
        Markdown file for the data card of the one data set.
    facts : CardFacts, optional
        What the card tells beside the labels.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    from manyhot.pipeline.card import CardFacts, check_facts, write_card

    check_facts(card, facts)
    known = read_classes(classes) if classes else None
    images = read_images(rows, classes=known) if rows else None
    parts: list[Description] = []
    inputs: dict[str, str] = {}
    for source in [labels] if isinstance(labels, str | os.PathLike) else labels:
        # A benchmark's name wins over a folder called like it, which `evaluate` leaves behind.
        if str(source) in BENCHMARKS:
            parts += _published(str(source), progress)
            continue
        _check_exists(source)
        read = read_labels(source, classes=known)
        read = read.with_labels(images) if images is not None else read
        parts.append(describe(read, classes=known, dataset=_name(read.name, source)))
        inputs |= {Path(source).name: sha256(source)} if Path(source).is_file() else {}
    _check_names(parts)
    description = Description.concat(parts)
    written: list[Path] = []
    if card is not None:
        first = labels if isinstance(labels, str | os.PathLike) else labels[0]
        written.append(write_card(description, card, facts or CardFacts(), labels=first, classes=classes))
    if out is None:
        return description, written
    written += write_tables(description.tables, out, call=call, inputs=inputs)
    return description, [*written, *save_label_figures(description.tables, out, call)]


def _check_exists(source: PathLike) -> None:
    if not Path(source).exists():
        near = difflib.get_close_matches(str(source), BENCHMARKS, n=1, cutoff=0.5)
        raise InputError(
            "The file does not exist.",
            where=source,
            allowed=f"label sets as a file or folder, or {' or '.join(BENCHMARKS)}",
            do=f"did you mean {near[0]!r}?" if near else None,
        )


def _check_names(parts: Sequence[Description]) -> None:
    seen: set[str] = set()
    for part in parts:
        name = part.datasets["dataset"][0].as_py()
        if name in seen:
            raise MatchError(
                "Two label files have the same name.",
                got=name,
                do="describe them one at a time, or rename one",
            )
        seen.add(name)


def _name(name: str, source: PathLike) -> str:
    return name or Path(source).stem


def _published(name: str, progress: Progress | None) -> list[Description]:
    return [describe_fetched(d.fetch(progress)) for d in BENCHMARKS[name].datasets]


def describe_fetched(fetched: Fetched) -> Description:
    """Describe the labels of a published data set, with licence and citation from the catalogue."""
    entry = catalog.entry(fetched.about.labels[0])
    about = {"licence": entry.licence, "citation": entry.citation, "home": entry.home}
    return describe(fetched.labels, classes=class_list(), dataset=fetched.name, **about)
