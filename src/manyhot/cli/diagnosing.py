"""The commands that say what is wrong: diagnose errors, diagnose labels."""

from __future__ import annotations

import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.options import ClassesOption, JsonOption, RowsOption, call
from manyhot.cli.printing import print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.diagnose.errors import SortedErrors
    from manyhot.diagnose.labels import LabelIssues

diagnose = typer.Typer(
    name="diagnose", help="Find out what is wrong, with models and with labels.", no_args_is_help=True
)


class Event(StrEnum):
    """What counts as an error."""

    label = "label"
    set = "set"


DataSetArgument = Annotated[
    str,
    typer.Argument(
        help="A benchmark such as imagenet, or one of its data sets; a campaign; a folder that predict "
        "wrote; label sets or images."
    ),
]

PredictionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions",
        help="File or folder of predictions, in place of the published ones or those of the campaign; "
        "repeat for more.",
    ),
]

ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--models", help="Models whose names fit, such as 'resnet*'; repeat for more."),
]

EventOption = Annotated[
    Event,
    typer.Option(
        "--event", help="An error: the best class is not the original label, or is not in the label set."
    ),
]

AboveOption = Annotated[
    float | None,
    typer.Option("--above", help="Only errors of a greater confidence, such as 0.9.", metavar="P"),
]

RuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help="A rule or call string, such as 'fine-grained(largest=0.02)'; repeat for more, in the order "
        "in which they are asked. By default all.",
    ),
]

SuperclassesOption = Annotated[
    Path | None,
    typer.Option(
        "--superclasses",
        help="JSON that lists the classes of each superclass, in place of the hierarchy; or tsipras.",
    ),
]

TogetherOption = Annotated[
    Path | None,
    typer.Option(
        "--together",
        help="Label sets in which to count which classes are valid together; by default those given.",
    ),
]

NonPrototypicalOption = Annotated[
    Path | None,
    typer.Option(
        "--non-prototypical", help="Findings or images that people called unusual views of their class."
    ),
]

EmbeddingsOption = Annotated[
    Path | None,
    typer.Option("--embeddings", help="Folder that predict --embeddings wrote of the images."),
]

IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index",
        help="Such a folder of labelled images to look for similar ones in; by default the same.",
    ),
]

EmbeddingsOfOption = Annotated[
    str, typer.Option("--embeddings-of", help="The model, where the folder has several models'.")
]

ImagesOption = Annotated[Path | None, typer.Option("--images", help="Images table with original labels.")]

TrustOrderOption = Annotated[
    bool,
    typer.Option("--trust-order", help="Take rows and classes as they lie, whatever they look like."),
]

FindingsOption = Annotated[Path, typer.Option("--out", help="Findings to write, Parquet.", dir_okay=False)]


@diagnose.callback()
def _root() -> None:
    pass


@diagnose.command()
def errors(
    dataset: DataSetArgument,
    predictions: PredictionsOption = None,
    models: ModelsOption = None,
    event: EventOption = Event.label,
    above: AboveOption = None,
    rule: RuleOption = None,
    superclasses: SuperclassesOption = None,
    together: TogetherOption = None,
    non_prototypical: NonPrototypicalOption = None,
    embeddings: EmbeddingsOption = None,
    index: IndexOption = None,
    embeddings_of: EmbeddingsOfOption = "",
    rows: RowsOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    trust_order: TrustOrderOption = False,
    out: FindingsOption = Path("findings.parquet"),
    as_json: JsonOption = False,
) -> None:
    """Sort errors by what they are; the first rule that fits decides.

    A missing label, two classes that are one, another breed of dog, something outside of the classes, what is
    beside the object, an unusual view, or a failure of the model.

    Examples: manyhot diagnose errors imagenet-val --models 'resnet*' ·
    manyhot diagnose errors campaign --above 0.9 --out campaign/findings.parquet
    """
    from manyhot.diagnose.errors import diagnose_errors_files

    with show_progress() as progress:
        found, written = diagnose_errors_files(
            dataset,
            out,
            predictions=predictions or (),
            models=models or (),
            event=event.value,
            above=above,
            rules=rule,
            rows=rows,
            images=images,
            classes=classes,
            superclasses=superclasses,
            together=together,
            non_prototypical=non_prototypical,
            embeddings=embeddings,
            index=index,
            embeddings_of=embeddings_of,
            trust_order=trust_order,
            call=call(),
            progress=progress,
        )
    print_sorted(found, written, as_json)


VotesOption = Annotated[
    Path | None,
    typer.Option("--votes", help="Label sets that people made, in place of those of the data set."),
]

NoVotesOption = Annotated[bool, typer.Option("--no-votes", help="Pass over what people said.")]

DoubtfulOption = Annotated[
    float, typer.Option("--doubtful", help="The least score of a doubtful label.", min=0, max=1)
]

MissingOption = Annotated[
    float, typer.Option("--missing", help="The least score of a missing label.", min=0, max=1)
]

TogetherShareOption = Annotated[
    float,
    typer.Option(
        "--together", help="Merge classes: the least share of images of either with both.", min=0, max=1
    ),
]

ConfusedOption = Annotated[
    float,
    typer.Option(
        "--confused", help="Merge classes: the least share of either called the other.", min=0, max=1
    ),
]


@diagnose.command()
def labels(
    dataset: DataSetArgument,
    predictions: PredictionsOption = None,
    models: ModelsOption = None,
    votes: VotesOption = None,
    no_votes: NoVotesOption = False,
    embeddings: EmbeddingsOption = None,
    index: IndexOption = None,
    embeddings_of: EmbeddingsOfOption = "",
    rows: RowsOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    doubtful: DoubtfulOption = 0.5,
    missing: MissingOption = 0.2,
    together: TogetherShareOption = 0.7,
    confused: ConfusedOption = 0.2,
    out: FindingsOption = Path("label-issues.parquet"),
    as_json: JsonOption = False,
) -> None:
    """Rank labels that are doubtful, labels that are missing, and classes that may be one.

    By what models, similar images and people say. The models must not have been trained on these images.

    Examples: manyhot diagnose labels imagenet-val --models 'resnet*' ·
    manyhot diagnose labels predictions --embeddings predictions
    """
    from manyhot.diagnose.labels import find_label_issues_files

    with show_progress() as progress:
        found, written = find_label_issues_files(
            dataset,
            out,
            predictions=predictions or (),
            models=models or (),
            votes=votes,
            no_votes=no_votes,
            embeddings=embeddings,
            index=index,
            embeddings_of=embeddings_of,
            rows=rows,
            images=images,
            classes=classes,
            doubtful=doubtful,
            missing=missing,
            together=together,
            confused=confused,
            call=call(),
            progress=progress,
        )
    print_issues(found, written, as_json)


MEANING = {
    "doubtful-label": "the original label may be wrong",
    "missing-label": "another class may be there, too",
    "merge-classes": "two classes may be one",
}
"""What the kinds of label issues say, in words."""


def print_issues(found: LabelIssues, written: list[Path], as_json: bool) -> None:
    """Print how many issues there are of each kind, and what was written."""
    counts = Counter(found.table["kind"].to_pylist())
    if as_json:
        told: dict[str, Any] = {
            "counts": {kind: counts[kind] for kind in found.kinds},
            "models": found.models,
        }
        told |= {"n": found.n, "n_skipped": found.n_skipped, "notes": found.notes}
        typer.echo(json.dumps(told | {"written": [str(p) for p in written]}))
        return
    models = f"{len(found.models):,} model{'' if len(found.models) == 1 else 's'}"
    say(f"{found.n:,} labelled images, {models}")
    rows = [(kind, f"{counts[kind]:,}", MEANING[kind]) for kind in found.kinds]
    print_table(("issue", "found", ""), rows)
    typer.echo()
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def print_sorted(found: SortedErrors, written: list[Path], as_json: bool) -> None:
    """Print how many errors of each model are of which kind, which rules rest, and what was written."""
    if as_json:
        keys = ("dataset", "model", "n", "n_skipped", "n_errors", "n_sorted", "counts")
        told: dict[str, Any] = {"event": found.event, "above": found.above, "rules": found.rules}
        told["models"] = [{key: getattr(m, key) for key in keys} for m in found.models]
        told |= {"resting": found.resting, "notes": found.notes, "written": [str(p) for p in written]}
        typer.echo(json.dumps(told))
        return
    kinds = list(dict.fromkeys(kind for m in found.models for kind in m.counts))
    for dataset in dict.fromkeys(m.dataset for m in found.models):
        rows = [
            (
                m.model,
                f"{m.n:,}",
                f"{m.n_errors:,}",
                *([] if found.above is None else [f"{m.n_sorted:,}"]),
                *(_share(m.shares[kind]) if kind in m.counts else "–" for kind in kinds),
            )
            for m in found.models
            if m.dataset == dataset
        ]
        against = "the original label" if found.event == "label" else "the label set"
        say(f"{dataset}: errors against {against}, and shares of each kind")
        more = () if found.above is None else (f"above {found.above:g}",)
        print_table(("model", "images", "errors", *more, *kinds), rows)
        typer.echo()
    for rule, why in found.resting.items():
        say(f"Note: the rule {rule} rests: {why}.", err=True)
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def _share(value: float) -> str:
    return "–" if value != value else f"{value:.1%}"
