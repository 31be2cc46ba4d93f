"""The commands around campaigns: init, status, propose."""

from __future__ import annotations

import dataclasses
import json
import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.annotating import DatabaseOption, database_again
from manyhot.cli.options import JsonOption, RowsOption, call
from manyhot.cli.printing import print_facts, print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.reassess.campaign import Status
    from manyhot.reassess.propose import Expected, Proposals

CampaignArgument = Annotated[Path, typer.Argument(help="Folder of the campaign.", metavar="DIR")]


class LeaveOut(StrEnum):
    """Images that are not asked about."""

    proposals = "proposals"
    models = "models"
    nothing = "nothing"


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the campaign; new or empty.", metavar="DIR")],
    images: Annotated[
        str,
        typer.Option(
            "--images",
            help="Images with original labels: a table in any format, a folder that predict wrote, or a data "
            "set of a benchmark, such as imagenet-val.",
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Class list: a file, or imagenet1k, imagenet-a, imagenet-r; by default the one of these "
            "that images or predictions name.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions",
            help="Files and folders of predictions, or such a data set; takes several values.",
        ),
    ] = None,
    rows: RowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a campaign: one folder with images, classes and predictions, for all that follows.

    The same command again changes nothing; another campaign is never written over.

    Examples: manyhot init campaign --images photos.csv --classes classes.txt --predictions predictions ·
    manyhot init real --images imagenet-val --predictions imagenet-val
    """
    from manyhot.reassess.campaign import campaign_status, init_campaign

    campaign, made = init_campaign(
        folder, images=images, classes=classes, predictions=predictions or (), rows=rows, call=call()
    )
    if as_json:
        print_written([campaign.folder] if made else [], True)
        return
    what = "made the campaign" if made else "nothing to do, this is the campaign"
    over = f"{campaign.n_classes:,} classes of {campaign.classes}"
    say(f"{what} {campaign.folder}, over the {over}")
    print_status(campaign_status(folder))


def status(folder: CampaignArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Say what of a campaign is done, with counts, and what comes next.

    Example: manyhot status campaign
    """
    from manyhot.reassess.campaign import campaign_status

    found = campaign_status(folder, database=database)
    if found.command.startswith(("manyhot annotate ", "manyhot export ")):
        found = dataclasses.replace(found, command=found.command + database_again(database))
    if not as_json:
        print_status(found)
        return
    stages = {s.name: {"done": s.done, "count": s.count, "what": s.what} for s in found.stages}
    told = {"campaign": str(found.campaign.folder), "stages": stages, "notes": found.notes}
    typer.echo(json.dumps(told | {"next": found.next, "command": found.command}))


def propose(
    folder: CampaignArgument,
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            help="A rule or call string, such as 'union(threshold=0.1)'; 'manyhot proposers' lists them.",
        ),
    ] = "union",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Only models whose names fit, such as 'timm/*'; repeat for more."),
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(
            "--known",
            help="Known label sets of some images, or golden answers, for recall and precision and for rules "
            "that learn; golden.parquet of the campaign by default.",
        ),
    ] = None,
    leave_out: Annotated[
        LeaveOut,
        typer.Option(
            "--leave-out",
            help="Images not to ask about: those whose only proposal is the original label, those where it "
            "is every model's best class, or none.",
        ),
    ] = LeaveOut.proposals,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Seconds a question, for the hours. The default is assumed.")
    ] = 5.0,
    raters: Annotated[int, typer.Option("--raters", help="Answers to each question, for the hours.")] = 5,
    resamples: Annotated[
        int,
        typer.Option("--resamples", help="Bootstrap resamples of known images; 0 for no intervals.", min=0),
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Another file than DIR/proposals.parquet.", dir_okay=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Propose the classes that people are to be asked about, and say what that costs and finds.

    Examples: manyhot propose campaign --rule 'union(threshold=0.1)' ·
    manyhot propose campaign --rule real-search --known labels.parquet
    """
    from manyhot.reassess.propose import propose_files

    with show_progress() as progress:
        found, written = propose_files(
            folder,
            rule=rule,
            models=model or (),
            known=known,
            leave_out=leave_out.value,
            seconds=seconds,
            raters=raters,
            resamples=resamples,
            seed=seed,
            out=out,
            call=call(),
            progress=progress,
        )
    print_proposals(found, written, as_json)


def print_status(found: Status) -> None:
    """Print what is done, what comes next, and the command for it."""
    rows = [
        (s.name, "done" if s.done else "–", f"{s.count:,} {s.what}" if s.count is not None else s.what)
        for s in found.stages
    ]
    print_table(("table", "", "what"), rows)
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    say(f"next: {found.next}")
    for command in found.command.splitlines():
        say(f"  {command}")


def print_proposals(found: Proposals, written: Path, as_json: bool) -> None:
    """Print what is asked, what it costs, and what it finds."""
    per_image = len(found) / found.n_asked if found.n_asked else math.nan
    if as_json:
        numbers: dict[str, Any] = {
            "rule": found.rule,
            "images": found.n_images,
            "left_out": found.n_left_out,
            "questions": len(found),
            "per_image": per_image,
            "seconds": found.seconds,
            "raters": found.raters,
            "hours": found.hours,
            "expected": None if found.expected is None else dataclasses.asdict(found.expected),
            "about": found.about,
            "notes": found.notes,
            "written": [str(written)],
        }
        typer.echo(json.dumps(_without_nan(numbers)))
        return
    say(f"{found.rule}, {len(found.models)} models")
    each = "" if math.isnan(per_image) else f", {per_image:.2f} an image"
    cost = f"{found.raters} answers each, {found.seconds:g} seconds an answer"
    facts = [
        ("questions", f"{len(found):,}", f"about {found.n_asked:,} images" + each),
        ("left out", f"{found.n_left_out:,}", f"of {found.n_images:,} images, which need no question"),
        ("hours", f"{found.hours:,.1f}", cost),
    ]
    print_facts([*facts, *_expected_facts(found.expected)])
    fitted = {k.removeprefix("searched_"): v for k, v in found.about.items() if k.startswith("searched_")}
    for key, value in found.about.items():
        if not key.startswith("searched_"):
            say(f"{key}: {_told(value)}")
    if fitted:
        say(f"on the images that it was chosen on: {', '.join(f'{k} {v:.1%}' for k, v in fitted.items())}")
    if not len(found):
        say("Note: no image is asked about; all are with --leave-out nothing.", err=True)
    if found.expected is None:
        say("Note: recall and precision need label sets that are known: --known.", err=True)
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written([written], False)


def _expected_facts(expected: Expected | None) -> list[tuple[str, str, str]]:
    if expected is None:
        return []
    facts = []
    for name, n, of in (
        ("recall", expected.n_labels, "known labels"),
        ("precision", expected.n_questions, "questions"),
    ):
        share = getattr(expected, name)
        span = "" if math.isnan(share.lo) else f"{share.lo:.1%} to {share.hi:.1%}, "
        value = "–" if math.isnan(share.value) else f"{share.value:.1%}"
        facts.append((name, value, f"{span}of {n:,} {of} of {expected.n_images:,} images"))
    if expected.held_out:
        facts.append(("", "", "each image judged under a rule chosen without it"))
    if expected.n_unasked:
        facts.append(("unanswered", f"{expected.n_unasked:,}", "of these questions by the known sets: no"))
    return facts


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_told(v)}" for k, v in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
