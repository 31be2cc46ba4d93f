"""The data card of a re-assessed data set, as Markdown: raters, times, protocol, agreement, counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.command import command
from manyhot.data.data_sets import Source
from manyhot.data.inputs import LabelsLike, Reading, open_labels
from manyhot.errors import InputError
from manyhot.evaluate.describe import Description, describe_source
from manyhot.files import sha256, write_text
from manyhot.formats import ClassNamesLike
from manyhot.formats.reading import reading as reading_file
from manyhot.formats.writing import PathLike, check_apart
from manyhot.parameters import Shown
from manyhot.reassess.agreement import agreement as measure_agreement
from manyhot.reassess.answers import VotesLike, VotesReading, open_votes
from manyhot.reassess.card_markdown import cell_text, ends_text, markdown_table, number_text, writable
from manyhot.reassess.class_changes import recorded_changes
from manyhot.reassess.merged_card import merged_sections
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Votes, check, metadata, read
from manyhot.tables.schemas import metadata_json
from manyhot.tables.votes import COUNTED_CLASS

MOST_RATERS = 100
"""Maximum number of raters listed, those with the most answers first."""


_SIZES = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"))
_UNKNOWN = "not recorded"
_WITHOUT_VOTES = (
    "the labels were made from votes, which are not in votes.parquet next to them, so the card does not "
    "describe the raters and their agreement: pass the votes as `votes`"
)


@dataclass(frozen=True, eq=False)
class DataCard(Result):
    """The data card of one data set.

    Attributes
    ----------
    text : str
        Markdown with the front matter for the Hugging Face Hub.
    dataset : str
        The name of the data set.
    notes, metadata, inputs
        As in `Result`.
    """

    TARGET: ClassVar[tuple[str, str]] = (
        "FILE",
        "Markdown file of the card, or a folder in which to write README.md.",
    )

    text: str
    dataset: str

    def lines(self) -> Iterator[str]:
        """Yield the card itself."""
        yield from self.text.splitlines()

    def to_json(self) -> dict[str, Any]:
        """Return the name of the data set and the card."""
        return {"dataset": self.dataset, "card": self.text}

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the card completely or not at all, and return its path.

        Parameters
        ----------
        out : path-like
            A file, or a folder in which to write ``README.md``.
        run : Run
            Not used, because the card depends only on its inputs.
        """
        path = self._file(out)
        write_text(path, self.text)
        return [path]

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if the card would overwrite an input."""
        check_apart(sources, cls._file(out))

    @staticmethod
    def _file(out: PathLike) -> Path:
        return Path(out) / "README.md" if Path(out).is_dir() else Path(out)


@command(
    "card",
    examples=(
        "manyhot card campaign --licence cc-by-4.0 --out README.md",
        "manyhot card labels.parquet --votes votes.parquet --out README.md",
    ),
)
def data_card(
    labels: LabelsLike,
    *,
    votes: VotesLike | None = None,
    agreement: Annotated[PathLike | pa.Table | None, Shown("FILE")] = None,
    licence: str | None = None,
    named: bool = False,
    images: Annotated[PathLike | Images | None, Shown("FILE")] = None,
    classes: ClassNamesLike | None = None,
    dataset: str = "",
    run: Run = QUIET,
) -> DataCard:
    """Write the data card of a data set: raters, times, protocol, agreement and counts.

    The card begins with the front matter for the Hugging Face Hub, where the file is called README.md.

    Parameters
    ----------
    labels
        Label sets in any format, the folder of a campaign, or the name of a data set such as imagenet-val.
    votes
        Votes from which the labels were made: a file, the folder of a campaign, or a published set. By
        default, votes.parquet next to the labels, if their metadata names it.
    agreement
        Table written by manyhot agreement; by default, agreement is measured on the votes.
    licence
        Identifier of the licence of the labels on the Hugging Face Hub, such as cc-by-4.0.
    named
        Show the ids of raters, which may be names, instead of numbers.
    images
        Images table with original labels, for label sets without original labels.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r.
    dataset
        Name of the data set on the card, in place of its own name.

    Returns
    -------
    DataCard

    Raises
    ------
    InputError
        If the labels come from several data sets, a file is broken, or `agreement` is not an agreement table.
    """
    reading = Reading(images=images, classes=classes, dataset=dataset)
    sources = list(open_labels(labels, reading=reading, run=run))
    if len(sources) != 1:
        raise _several(source.name for source in sources)
    (source,) = sources
    file = _labels_file(labels, source)
    votes = votes if votes is not None else _made_of(file)
    read_votes, measured = _answers(votes, classes, agreement is None, run)
    if isinstance(agreement, str | os.PathLike):
        agreement = read(agreement, "agreement")
    about = _about(file)
    sections = merged_sections(about, licence)
    text = card_text(
        describe_source(source),
        votes=read_votes,
        agreement=measured if agreement is None else agreement,
        protocol={key: value for key, value in about.items() if key in _PROTOCOL and value}
        | _rating_protocol(votes)
        | _wording(votes),
        licence=licence,
        named=named,
        sections=sections,
    )
    lacks_votes = read_votes is None and about.get("method") and not sections
    notes = (_WITHOUT_VOTES,) if lacks_votes else ()
    return DataCard(text, source.name, notes=notes, inputs=source.inputs)


def _several(names: Iterable[str]) -> InputError:
    return InputError(
        "A data card describes one data set.", got=", ".join(names), do="make one card for each data set"
    )


def card_text(
    description: Description,
    *,
    votes: Votes | None = None,
    agreement: pa.Table | None = None,
    protocol: Mapping[str, str] | None = None,
    licence: str | None = None,
    named: bool = False,
    sections: Mapping[str, str] | None = None,
) -> str:
    """Return the data card of one data set.

    The card begins with the front matter for the Hugging Face Hub, where the file is called ``README.md``.

    Parameters
    ----------
    description : Description
        Counts of one data set.
    votes : Votes, optional
        Votes from which the labels were made.
    agreement : pyarrow.Table, optional
        The table ``agreement`` for the votes. It is not computed here.
    protocol : Mapping of str to str, optional
        How the labels were made, such as ``{"proposer": …, "method": …, "threshold": …}``.
    licence : str, optional
        Identifier of the licence on the Hugging Face Hub, such as ``cc-by-4.0``; by default, that of the
        description.
    named : bool
        Whether to show the ids of raters. By default, raters get numbers, since an id may be a name.
    sections : Mapping of str to str, optional
        Sections about merged label sets, by title. They replace the sections about raters and all sections
        with the same titles.

    Returns
    -------
    str
        The card. It does not contain today's date, so equal inputs give equal text.

    Raises
    ------
    InputError
        If the description contains several data sets, or the agreement table is invalid.

    References
    ----------
    The front matter is described at https://huggingface.co/docs/hub/datasets-cards.
    The questions come from T. Gebru et al., Datasheets for datasets, CACM 64(12), 2021.
    Questions that the tables cannot answer are left out.
    """
    if len(description.datasets) != 1:
        raise _several(description.datasets["dataset"].to_pylist())
    (card,) = description.datasets.to_pylist()
    about_raters = {} if sections else {"Who": _who(votes, named), "When": _when(votes)}
    whole = {
        **about_raters,
        "Protocol": _protocol(card, votes, protocol or {}),
        "Agreement": _agreement(agreement),
        "Counts": _counts(card, description.set_sizes),
        "Licence and citation": _rights(card, licence),
    }
    if sections:  # in their order, with the counts behind the agreement
        order = [*sections]
        order.insert(order.index("Agreement") + 1, "Counts")
        whole = {title: {**whole, **sections}[title] for title in order}
    name = cell_text(card["dataset"])
    head = f"# {name}: label sets\n\n{_opening(card, votes)}"
    parts = [head, *(f"## {title}\n\n{text}" for title, text in whole.items())]
    return _front_matter(card, licence) + "\n\n".join(parts) + "\n"


def _front_matter(card: Mapping[str, Any], licence: str | None) -> str:
    lines = ["---", f"pretty_name: {_quoted(card['dataset'])}"]
    if licence:
        lines.append(f"license: {_quoted(licence)}")
    lines += ["task_categories:", "- image-classification", "task_ids:", "- multi-label-image-classification"]
    lines += ["size_categories:", f"- {_quoted(_size(card['images']))}", "tags:", "- multi-label", "---"]
    return "\n".join(lines) + "\n\n"


def _quoted(text: str) -> str:
    """Return a text that YAML reads as this text, whatever it holds.

    JSON's escapes are not YAML's: JSON writes an emoji as two halves, which YAML takes for two characters.
    """
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}
    written = (escapes.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in writable(text))
    return f'"{"".join(written)}"'


def _size(n: int) -> str:
    """Return the class of sizes that the hub sorts data sets into."""
    below = ""
    for most, name in _SIZES:
        if n < most:
            return f"{below}<n<{name}" if below else f"n<{name}"
        below = name
    return f"n>{below}"


def _opening(card: Mapping[str, Any], votes: Votes | None) -> str:
    usable = card["images"] - card["unusable"]
    sets = "The label sets contain all classes in each image, not only one."
    if card["asked"] is None:
        sets = "The label sets list classes of each image. Whether it also shows others is not recorded."
    if votes is not None and votes.kind:
        sets = "The label sets are based on votes, each for one class of an image."
    return (
        f"{sets} There are {card['labels']:,} labels "
        f"on {usable - card['empty']:,} of {card['images']:,} images."
    )


def _who(votes: Votes | None, named: bool) -> str:
    if votes is None or not len(votes):
        return f"Raters: {_UNKNOWN}."
    what = "votes" if votes.kind else "answers"
    if votes.kind == COUNTED_CLASS:
        return f"Unknown raters gave {len(votes.cast):,} votes."
    counts = np.bincount(votes.rater[votes.cast], minlength=votes.n_raters)
    ids = votes.rater_id.to_pylist()
    order = sorted(range(len(ids)), key=lambda r: (-counts[r], ids[r]))
    names = {r: cell_text(ids[r]) if named else str(place) for place, r in enumerate(order, 1)}
    text = f"{len(ids):,} raters gave {len(votes.cast):,} {what}: {_spread(counts)} each.\n\n"
    text += markdown_table(("rater", what), [(names[r], f"{counts[r]:,}") for r in order[:MOST_RATERS]])
    more = len(ids) - MOST_RATERS
    text += f"\n\nAnd {more:,} more, with fewer {what}." if more > 0 else ""
    by_number = f"Raters are identified by numbers instead of names; those with the most {what} come first."
    return text if named else f"{text}\n\n{by_number}"


def _when(votes: Votes | None) -> str:
    if votes is None or votes.more is None or "answered_at" not in votes.more.column_names:
        return f"Times of answers: {_UNKNOWN}."
    times = votes.more["answered_at"].take(pa.array(votes.cast))
    if times.null_count == len(times):
        return f"Times of answers: {_UNKNOWN}."
    ends = pc.min_max(times.cast(pa.int64()))
    # Python's dates end with the year 9999, the times of a table do not.
    times_at = (np.datetime64(ends[end].as_py(), "us").astype("datetime64[m]") for end in ("min", "max"))
    first, last = (f"{at} UTC".replace("T", " ", 1) for at in times_at)
    partly = f" The times of {times.null_count:,} answers are {_UNKNOWN}." if times.null_count else ""
    return f"First answer {first}, last answer {last}.{partly}"


def _protocol(card: Mapping[str, Any], votes: Votes | None, protocol: Mapping[str, str]) -> str:
    facts = {"proposer": _UNKNOWN, "questions per image": _UNKNOWN, "answers per question": _UNKNOWN}
    if votes is not None and votes.kind:
        per_image = np.bincount(votes.image[votes.question[votes.cast]])
        facts = {"classes to choose from": f"{votes.n_classes:,}", "votes per image": _spread(per_image)}
    elif votes is not None and len(votes):
        questions = np.bincount(votes.question)
        asked = np.bincount(votes.image[questions > 0])
        facts["questions per image"] = _spread(asked[asked > 0])
        facts["answers per question"] = _spread(questions[questions > 0])
    facts |= {"method": card["method"] or _UNKNOWN, "threshold": _UNKNOWN} | dict(protocol)
    return markdown_table(("what", "how"), [(cell_text(k), cell_text(v)) for k, v in facts.items()])


def _agreement(agreement: pa.Table | None) -> str:
    if agreement is None:
        return "Not measured."
    rows = [
        (cell_text(r["measure"]), number_text(r["value"]), ends_text(r["lo"], r["hi"]), f"{r['n']:,}")
        for r in check(agreement, "agreement").to_pylist()
    ]
    return markdown_table(("measure", "value", "95 % interval", "n"), rows)


_UNKNOWN_EMPTY = "images with no class found valid, but without answers about all classes"


def _counts(card: Mapping[str, Any], sizes: pa.Table) -> str:
    facts = {
        "images": card["images"],
        "not usable, left out": card["unusable"],
        **({"undecided among these": card["undecided"]} if card["undecided"] else {}),
        "seen by raters": card["rated"],
        "(image, class) pairs asked about": card["asked"],
        "pairs asked about that are valid": card["confirmed"],
        "pairs asked about that are unclear": card["unclear"],
        "labels in total": card["labels"],
        "images without a valid class": card["empty"] - card["empty_unasked"],
        **({_UNKNOWN_EMPTY: card["empty_unasked"]} if card["empty_unasked"] else {}),
        "images with two or more valid classes": card["multi"],
        "images with an original label": card["labelled"],
        "images with an original label that is not in the label set": card["rejected"],
    }
    if card["label_unasked"]:
        facts["images that raters have seen but that have no answer about the original label"] = card[
            "label_unasked"
        ]
    rows = [(k, _UNKNOWN if v is None else f"{v:,}") for k, v in facts.items()]
    shares = [(str(r["size"]), f"{r['images']:,}", f"{r['share']:.2%}") for r in sizes.to_pylist()]
    sizes_table = markdown_table(("labels per image", "images", "share"), shares)
    return f"{markdown_table(('what', 'n'), rows)}\n\n{sizes_table}"


def _rights(card: Mapping[str, Any], licence: str | None) -> str:
    facts = {
        "licence of the labels": licence or card["licence"],
        "citation": card["citation"],
        "home": card["home"],
    }
    return markdown_table(("what", ""), [(k, cell_text(v) if v else "not stated") for k, v in facts.items()])


def _spread(counts: Sequence[int] | npt.NDArray[np.integer]) -> str:
    values = np.asarray(counts)
    low, high = int(values.min()), int(values.max())
    if low == high:
        return f"{low:,}"
    return f"{low:,} to {high:,}, median {float(np.median(values)):,.6g}"


_PROTOCOL = ("proposer", "method", "threshold")
"""Metadata of a labels file that say how the labels were made."""


def _labels_file(labels: LabelsLike, source: Source) -> Path | None:
    """Return the file of the labels, if they are in one of one's own."""
    if source.campaign is not None:
        return source.campaign.path("labels")
    has_file = isinstance(labels, str | os.PathLike) and source.published is None
    return Path(labels) if has_file else None


def _answers(
    votes: VotesLike | None, classes: ClassNamesLike | None, is_measured: bool, run: Run
) -> tuple[Votes | None, pa.Table | None]:
    """Return the votes, and their agreement if it is to be measured."""
    answers, golden = votes, None
    if isinstance(answers, str | os.PathLike):
        source = open_votes(answers, reading=VotesReading(classes), on_progress=run.on_progress)
        answers, golden = source.votes, source.golden
    measured = measure_agreement(answers, golden).agreement if answers is not None and is_measured else None
    return answers, measured


def _rating_protocol(votes: VotesLike | None) -> dict[str, str]:
    """Return the settings of the campaign in which a file of votes came about, if it says so."""
    path = Path(votes) if isinstance(votes, str | os.PathLike) else None
    path = path / "votes.parquet" if path is not None and path.is_dir() else path
    found = metadata_json(_about(path), "protocol")
    return {str(text): str(value) for text, value in found.items()} if isinstance(found, dict) else {}


def _wording(votes: VotesLike | None) -> dict[str, str]:
    """Return how the wording of classes changed while raters answered, if it did."""
    path = Path(votes) if isinstance(votes, str | os.PathLike) else None
    text = "" if path is None else recorded_changes(path if path.is_dir() else path.parent)
    return {"changed wording of classes": text} if text else {}


def _made_of(labels: Path | None) -> Path | None:
    """Return the folder of the campaign if the labels were made from its current votes."""
    votes = None if labels is None else labels.parent / "votes.parquet"
    if votes is None or not votes.is_file():
        return None
    inputs = metadata_json(_about(labels), "inputs")
    made = isinstance(inputs, dict) and inputs.get(votes.name) == sha256(votes)
    return votes.parent if made else None


def _about(labels: Path | None) -> dict[str, str]:
    """Return the metadata of a labels file."""
    if labels is None or labels.suffix.lower() != ".parquet" or not labels.is_file():
        return {}
    with reading_file(labels):
        return metadata(pq.read_schema(labels))
