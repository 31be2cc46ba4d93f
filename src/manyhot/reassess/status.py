"""Progress of a campaign, and its next step: `manyhot status`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.classes import class_list_of
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.errors import InputError
from manyhot.formats import detect, read_classes, read_golden
from manyhot.formats.reading import check_whole
from manyhot.formats.writing import PathLike
from manyhot.parameters import Shown
from manyhot.reassess.app.server import DATABASE, DatabaseAddress, database_option, web_extra
from manyhot.reassess.app.vote_count import count_at, count_further, count_votes
from manyhot.result import Result
from manyhot.tables import Campaign
from manyhot.tables.votes import count_app_answers

CampaignFolder = Annotated[PathLike, Shown("CAMPAIGN")]

STAGES = ("images", "predictions", "proposals", "votes", "golden", "labels")


@dataclass(frozen=True)
class Stage:
    """A table of a campaign and its number of rows (for predictions, of models); None without a table."""

    name: str
    count: int | None
    what: str

    @property
    def done(self) -> bool:
        """Whether the table exists and is not empty."""
        return bool(self.count)


@dataclass(frozen=True, eq=False)
class CampaignStatus(Result):
    """Progress of a campaign, and its next step.

    Attributes
    ----------
    campaign : Campaign
    stages : tuple of Stage
    next_step : str
        The next step, in words.
    command : str
        The commands of the next step, one per line.
    notes
        As in `Result`.
    """

    campaign: Campaign
    stages: tuple[Stage, ...]
    next_step: str
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return the tables of the campaign, the notes, and the next step."""
        stages = {s.name: {"done": s.done, "count": s.count, "what": s.what} for s in self.stages}
        about = {"campaign": str(self.campaign.folder), "stages": stages, "notes": self.notes}
        return about | {"next": self.next_step, "command": self.command}

    def lines(self) -> Iterator[str]:
        """Yield the finished steps, the next step, and its command."""
        rows = [
            (s.name, "done" if s.done else "–", f"{s.count:,} {s.what}" if s.count is not None else s.what)
            for s in self.stages
        ]
        yield from table_lines(("table", "", "what"), rows)
        yield f"next: {self.next_step}"
        yield from (f"  {line}" for line in self.command.splitlines())


@command("status", examples=("manyhot status campaign",))
def campaign_status(campaign: CampaignFolder, *, database: DatabaseAddress = None) -> CampaignStatus:
    """Show the finished steps of a campaign, with counts, and the next step.

    Parameters
    ----------
    campaign
        Folder of the campaign. For most files, only the footer, which contains the number of rows, is read.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.

    Returns
    -------
    CampaignStatus

    Raises
    ------
    InputError
        If the folder is not a campaign, or the address is invalid.
    MissingExtraError
        If a database is passed, but the extra ``web`` is not installed.
    OutputError
        If the database cannot be used.
    """
    home = Campaign.read(campaign)
    models, broken = campaign_models(home)
    names = [model for model, _ in models]
    wrong = [f"{path.name} in the folder predictions is not a complete Parquet file" for path in broken]
    stages = [
        Stage("predictions", len(names), "models") if name == "predictions" else _stage(home, name)
        for name in STAGES
    ]
    by_name = {stage.name: stage for stage in stages}
    shown = tuple(s for s in stages if s.count is not None or s.name != "golden")
    there, further = _in_the_app(home, database)
    new = _answers_to_export(home, by_name["votes"], there)
    notes = (*wrong, *_app_notes(home, new, further, database), *_notes(home, names))
    next_step, line = _next(home, by_name, new, can_ask=bool(there) and not further)
    if line.splitlines()[-1].startswith(("manyhot annotate ", "manyhot export ", "manyhot next ")):
        line += database_option(database)
    return CampaignStatus(home, shown, next_step, line, notes=notes)


def campaign_models(campaign: Campaign) -> tuple[list[tuple[str, Path]], dict[Path, InputError]]:
    """Return the model and the file of each predictions table of a campaign, and the files that are broken.

    Other tables, such as the images table written by ``manyhot predict``, are ignored.
    """
    models, broken = [], {}
    for path in sorted(campaign.path("predictions").glob("*.parquet")):
        try:
            check_whole(path)
        except InputError as error:
            broken[path] = error
            continue
        if detect(path, ("predictions",)) is not None:
            models.append((file_metadata(path).get("model") or path.stem.replace("--", "/"), path))
    return models, broken


_COUNTED = {
    "images": "images",
    "proposals": "questions",
    "votes": "answers",
    "golden": "answers of experts",
    "labels": "images",
}


def _stage(campaign: Campaign, name: str) -> Stage:
    path = campaign.path(name)
    if not path.is_file():
        return Stage(name, None, "none yet")
    if path.suffix == ".csv":
        golden = read_golden(path, classes=read_classes(campaign.path("classes")))
        return Stage(name, len(golden.to_table()), _COUNTED[name])
    try:
        return Stage(name, pq.read_metadata(path).num_rows, _COUNTED[name])
    except (pa.ArrowException, OSError):
        return Stage(name, None, "the file is not a complete Parquet file")


def _app_notes(campaign: Campaign, new: int, further: int, database: str | None) -> Iterator[str]:
    """Yield how many answers of the app are not exported yet, and how many are still to come."""
    if new:
        held = DATABASE if database is None else "the database"
        yield f"{held} contains {new:,} answers that are not in {campaign.path('votes').name} yet"
    if further:
        yield f"answers requested by `manyhot next --ask` that are still to come: {further:,}"


def _notes(campaign: Campaign, models: Sequence[str]) -> Iterator[str]:
    listed = file_metadata(campaign.path("proposals")).get("models")
    used = set(listed.split("\n")) if listed else set(models)
    if more := len(set(models) - used):
        yield f"the proposals were made without {more} of the models in the campaign"
    if gone := len(used - set(models)):
        yield f"{gone} of the models used for the proposals are no longer in the campaign"


def _next(campaign: Campaign, stages: dict[str, Stage], new: int, *, can_ask: bool) -> tuple[str, str]:
    folder = shlex.quote(str(campaign.folder))
    if not stages["predictions"].done and not stages["proposals"].done:
        is_own = class_list_of(campaign.class_hash) is None  # no published model is known to have its classes
        predict = (
            f"manyhot predict {_source(campaign)} --model {'NAME' if is_own else 'efficientnet-lite0'} "
            f"--classes {folder}/classes.parquet --out {folder}/predictions"
        )
        if is_own:
            ask = f"without one, ask raters about all {campaign.n_classes:,} classes"
            every = f"manyhot propose {folder} --rule all-classes"
            return f"run predict with a model of these classes; {ask}", f"{predict}\n{every}"
        return "run predict with several models", predict
    if not stages["proposals"].done:
        return "propose the classes to ask about", f"manyhot propose {folder}"
    if new:
        return "write the answers of the app as a table", f"manyhot export {folder}"
    if not stages["votes"].done:
        return f"ask raters the questions, or put answers into {folder}/votes.parquet", (
            f"manyhot annotate {folder}"
        )
    votes, labels = campaign.path("votes"), campaign.path("labels")
    if not stages["labels"].done or labels.stat().st_mtime < votes.stat().st_mtime:
        again = ", because the label sets are older" if stages["labels"].done else ""
        by_golden = f"manyhot aggregate {folder} --method golden-bayes"
        command = by_golden if stages["golden"].done else f"manyhot aggregate {folder}"
        return f"aggregate the answers{again}", command
    is_audit = campaign.path("audit_sample").is_file()
    report = campaign.folder / "results" / "report" / "index.html"
    is_judged = report.is_file() and report.stat().st_mtime >= labels.stat().st_mtime
    if is_audit and is_judged:
        return "look at the report, and see how many more images a question needs", (
            f"python -m webbrowser {folder}/results/report/index.html\nmanyhot plan {folder} --width 0.02"
        )
    if is_audit:  # label sets of a sample are not judged as if they were all
        return "estimate metrics over all images from people's label sets of the sample", (
            f"manyhot evaluate {_population(campaign)} --audited {folder} --out {folder}/results"
        )
    if is_judged:
        return "look at the report", f"python -m webbrowser {folder}/results/report/index.html"
    judge = f"manyhot evaluate {folder} --out {folder}/results"
    if can_ask:
        again = "or ask raters again where this is most likely to change the states"
        return f"evaluate models on the label sets, {again}", (
            f"{judge}\nmanyhot next {folder} --budget 1000 --ask"
        )
    return "evaluate models on the label sets", judge


_OF_A_DRAW = frozenset(
    ("size", "out", "design", "rule", "questions", "golden-images", "raters", "seconds", "seed")
)
"""Options of manyhot audit that manyhot evaluate does not have."""


def _population(campaign: Campaign) -> str:
    """Return the data set that an audit was drawn from, with its options, as on the command line."""
    words = shlex.split(campaign.call)
    if words[:2] != ["manyhot", "audit"]:
        return "DATASET"
    shared, rest = list[str](), iter(words[2:])
    for word in rest:
        name, has_value, _ = word.partition("=")
        option = name[2:] if name.startswith("--") else ""
        if option in _OF_A_DRAW:
            _ = None if has_value else next(rest, None)
        elif option != "json":
            shared.append(word)
    return shlex.join(shared)


def _in_the_app(campaign: Campaign, database: str | None) -> tuple[dict[str, int], int]:
    """Return the number of answers per page in the app, and of further answers still to come."""
    if database is not None:
        web_extra()
        return count_at(database)
    path = campaign.folder / DATABASE
    return (count_votes(path), count_further(path)) if path.is_file() else ({}, 0)


def _answers_to_export(campaign: Campaign, votes: Stage, there: dict[str, int]) -> int:
    """Return the number of answers in the app that are not in the votes table.

    The table may also hold votes of other tools and earlier apps, whose pages are not in the app.
    """
    exported = count_app_answers(campaign.path("votes")) if votes.done and there else {}
    return sum(max(n - exported.get(page, 0), 0) for page, n in there.items())


def _source(campaign: Campaign) -> str:
    """Return the folder of the images, or of their class folders; a placeholder if there are several."""
    try:
        images = tables.read(campaign.path("images"), "images")
    except InputError:
        return "IMAGES"
    if "uri" not in images.column_names:
        return "IMAGES"
    folders = pc.unique(pc.replace_substring_regex(images["uri"].drop_null(), r"[^/\\]+$", "")).to_pylist()
    found = {str(Path(folder)) for folder in folders}
    found = found if len(found) < 2 else {str(Path(folder).parent) for folder in found}
    return shlex.quote(found.pop()) if len(found) == 1 else "IMAGES"


def file_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file that manyhot wrote; empty if it is not a Parquet file."""
    try:
        return tables.metadata(pq.read_schema(path))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return {}
