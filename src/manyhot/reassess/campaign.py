"""Making a campaign, and saying how far it is.

Finding the images of a campaign again, on another machine or in another folder.
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.classes import BUILT_IN, ClassList, class_list, class_list_of
from manyhot.data.benchmarks import Fetched, data_set
from manyhot.errors import InputError, MatchError, MissingExtraError, OutputError
from manyhot.files import refused, sha256
from manyhot.formats import detect, prediction_files, read_classes, read_images, read_predictions
from manyhot.formats.reading import check_whole
from manyhot.formats.writing import PathLike
from manyhot.reassess.app.vote_count import count_votes, count_votes_at
from manyhot.tables import Campaign, Images, Predictions
from manyhot.tables.align import check_range

APP = "annotation.sqlite"
"""The database of the annotation app, where it is a file."""


_PART = ".part"
"""What the name of a folder that is not complete ends with; one may be left of a run that was killed."""


_FEW = 2
"""Raters that cannot be told from each other."""


STAGES = ("images", "predictions", "proposals", "votes", "golden", "labels")


def init_campaign(
    folder: PathLike,
    *,
    images: PathLike,
    classes: PathLike | None = None,
    predictions: Sequence[PathLike] = (),
    rows: PathLike | None = None,
    call: str = "",
) -> tuple[Campaign, bool]:
    """Make a campaign: one folder with the images, the class list and the predictions as our tables.

    All or nothing: the folder appears when it is complete. The same call again changes nothing.

    Parameters
    ----------
    folder : path-like
        New, empty, or the campaign of the same files.
    images : path-like
        An images table in any format, a folder that ``manyhot predict`` wrote, or a data set of a benchmark,
        such as ``imagenet-val``.
    classes : path-like, optional
        A class list: a file, or the name of one that is built in; by default the built-in one that the images
        or the predictions name.
    predictions : sequence of path-like
        Files, folders that are searched for files, or a data set of a benchmark.
    rows : path-like, optional
        The image of each row, for files that hold arrays alone.
    call : str
        The command, for the metadata.

    Returns
    -------
    Campaign
    bool
        Whether it was made now.

    Raises
    ------
    InputError
        If the folder holds something else, or as the readers.
    MatchError
        If images, classes and predictions do not belong together.
    OutputError
        If the folder cannot be written.
    """
    folder, known = Path(folder), _class_list(classes, images, predictions)
    found = _Inputs.of(images, predictions, rows, known)
    inputs = found.inputs | (
        {f"classes/{Path(classes).name}": sha256(classes)} if classes and Path(classes).is_file() else {}
    )
    campaign = Campaign(folder, known.name, known.hash, len(known), len(found.images), call, inputs)
    if (standing := _standing(campaign)) is not None:
        return standing, False
    _check_images(found.images, known)
    try:
        home = folder if folder.is_dir() else folder.parent
        home.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_PART, dir=home))
        try:
            _fill(replace(campaign, folder=part), found, known)
            _settle(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise refused(folder, error) from error
    return campaign, True


def campaign_status(folder: PathLike, *, database: str | None = None) -> Status:
    """Say what of a campaign is done, and what comes next.

    Of most files only the ends are read, which tell their columns and numbers of rows.

    Parameters
    ----------
    folder : path-like
    database : str, optional
        The address of the app's database, where it is not the file in the folder.

    Raises
    ------
    InputError
        If the folder is no campaign, or the address is none.
    MissingExtraError
        A database is given, and the extra ``web`` is not installed.
    OutputError
        It cannot be used.
    """
    campaign = Campaign.read(folder)
    there, broken = campaign_models(campaign)
    models = [model for model, _ in there]
    wrong = [f"{path.name} among the predictions is not a complete Parquet file" for path in broken]
    stages = [
        Stage("predictions", len(models), "models") if name == "predictions" else _stage(campaign, name)
        for name in STAGES
    ]
    by_name = {stage.name: stage for stage in stages}
    stages = [s for s in stages if s.count is not None or s.name != "golden"]
    new = _answers_to_export(campaign, by_name["votes"], database)
    notes = (*wrong, *_new_answers(campaign, new, database), *_notes(campaign, models))
    return Status(campaign, tuple(stages), notes, *_next(campaign, by_name, new))


@dataclass(frozen=True)
class Stage:
    """A table of a campaign: how much there is of what, None where there is nothing."""

    name: str
    count: int | None
    what: str

    @property
    def done(self) -> bool:
        """Whether there is anything."""
        return bool(self.count)


@dataclass(frozen=True)
class Status:
    """How far a campaign is, and what comes next: in words, and as commands, one a line."""

    campaign: Campaign
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]
    next: str
    command: str


def campaign_models(campaign: Campaign) -> tuple[list[tuple[str, Path]], dict[Path, InputError]]:
    """Return the model and the file of each predictions table of a campaign, and the files that are broken.

    Other tables are passed over: ``manyhot predict`` leaves its images table there, too.
    """
    models, broken = [], {}
    for path in sorted(campaign.path("predictions").glob("*.parquet")):
        try:
            check_whole(path)
        except InputError as error:
            broken[path] = error
            continue
        if detect(path, ("predictions",)) is not None:
            models.append((_about(path).get("model") or path.stem.replace("--", "/"), path))
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
    try:
        return Stage(name, pq.read_metadata(path).num_rows, _COUNTED[name])
    except (pa.ArrowException, OSError):
        return Stage(name, None, "the file is not a complete Parquet file")


def _new_answers(campaign: Campaign, new: int, database: str | None) -> Iterator[str]:
    if new:
        held = APP if database is None else "the database"
        yield f"{held} holds {new:,} answers that are not in {campaign.path('votes').name} yet"


def _notes(campaign: Campaign, models: Sequence[str]) -> Iterator[str]:
    told = _about(campaign.path("proposals")).get("models")
    used = set(told.split("\n")) if told else set(models)
    if more := len(set(models) - used):
        yield f"the proposals were made without {more} of the models that are here now"
    if gone := len(used - set(models)):
        yield f"{gone} of the models that the proposals were made with are not here any more"


def _next(campaign: Campaign, stages: dict[str, Stage], new: int) -> tuple[str, str]:
    folder = shlex.quote(str(campaign.folder))
    if not stages["predictions"].done:
        return "predict the images with several models", (
            f"manyhot predict {_source(campaign)} --model efficientnet-lite0 "
            f"--classes {folder}/classes.parquet --out {folder}/predictions"
        )
    if not stages["proposals"].done:
        return "propose the classes to ask about", f"manyhot propose {folder}"
    if new:
        return "write the answers of the app as a table", f"manyhot export {folder}"
    if not stages["votes"].done:
        return f"ask raters the questions, or put answers into {folder}/votes.parquet", (
            f"manyhot annotate {folder}"
        )
    if not stages["labels"].done:
        method = "golden-bayes" if stages["golden"].done else _method(campaign)
        return "aggregate the answers", (
            f"manyhot aggregate {folder} --method {method} --out {folder}/labels.parquet"
        )
    report, labels = campaign.folder / "results" / "report" / "index.html", campaign.path("labels")
    if report.is_file() and report.stat().st_mtime >= labels.stat().st_mtime:
        return "look at the report", f"python -m webbrowser {folder}/results/report/index.html"
    return "judge models on the label sets", (
        f"manyhot evaluate --labels {folder}/labels.parquet --predictions {folder}/predictions "
        f"--images {folder}/images.parquet --out {folder}/results"
    )


def _method(campaign: Campaign) -> str:
    """Return how to aggregate votes: what models of raters learn takes three, to tell who errs."""
    with pq.ParquetFile(campaign.path("votes")) as file:
        votes = file.read([n for n in file.schema_arrow.names if n in ("rater_id", "round")])
    if "round" in votes.column_names:  # nothing is learnt of who decides
        votes = votes.filter(pc.equal(pc.fill_null(votes["round"], 0), 0))
    raters = pc.unique(votes["rater_id"]) if "rater_id" in votes.column_names else []
    return "dawid-skene" if len(raters) > _FEW else "majority"


def _answers_to_export(campaign: Campaign, votes: Stage, database: str | None) -> int:
    """Return how many answers the app has that are not in the votes table."""
    if database is not None:
        web_extra()
        there = count_votes_at(database)
    else:
        path = campaign.folder / APP
        there = count_votes(path) if path.is_file() else None
    return max((there or 0) - (votes.count or 0), 0)


def _source(campaign: Campaign) -> str:
    """Return the folder of the images where they lie in one, for a command; else a word in its place."""
    try:
        images = tables.read(campaign.path("images"), "images")
    except InputError:
        return "IMAGES"
    if "uri" not in images.column_names:
        return "IMAGES"
    parents = {str(Path(uri).parent) for uri in images["uri"].drop_null()[:1000].to_pylist()}
    return shlex.quote(parents.pop()) if len(parents) == 1 else "IMAGES"


def _about(path: Path) -> dict[str, str]:
    try:
        return tables.metadata(pq.read_schema(path))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return {}


@dataclass(frozen=True)
class _Inputs:
    """What a campaign is made from, with the sha256 of each file."""

    images: Images
    predictions: tuple[tuple[Predictions, Path | None], ...]
    inputs: dict[str, str]

    @classmethod
    def of(
        cls, images: PathLike, predictions: Sequence[PathLike], rows: PathLike | None, classes: ClassList
    ) -> _Inputs:
        own: list[tuple[Predictions, Path | None]] = []
        table, inputs = _read_images(images, classes)
        order = None if rows is None else read_images(rows, classes=classes)
        for given in predictions:
            if (fetched := fetched_set(given)) is not None:
                own += [(p, None) for p in fetched.published]
                inputs |= fetched.inputs
                continue
            for path in prediction_files([given]):
                own.append((read_predictions(path, rows=order, classes=classes), path))
                inputs[f"predictions/{path.name}"] = sha256(path)
        return cls(table, tuple(own), inputs)


def _class_list(given: PathLike | None, images: PathLike, predictions: Sequence[PathLike]) -> ClassList:
    """Return the given class list, or the built-in one that the first file which names any names."""
    if given is not None:
        return read_classes(given)
    for source in (images, *predictions):
        if data_set(source) is not None:
            return class_list()
        folder = Path(source)
        for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]:
            if (found := class_list_of(_about(path).get("classes", ""))) is not None:
                return found
    if not Path(images).exists():
        read_images(images)  # which says so
    raise InputError(
        "The class list is not known.",
        where=str(images),
        got="no file that names a built-in class list",
        allowed=f"a file with one key a line, or {', '.join(BUILT_IN)}",
        do="give it: --classes",
    )


def fetched_set(name: PathLike) -> Fetched | None:
    """Return a data set of a benchmark by name, fetched, or None where the name is none or is a file."""
    found = data_set(name)
    return None if found is None else found.fetch()


def _read_images(given: PathLike, classes: ClassList) -> tuple[Images, dict[str, str]]:
    if (fetched := fetched_set(given)) is not None:
        return fetched.rows, dict(fetched.inputs)
    path = Path(given)
    if path.is_dir():
        if not (path / "images.parquet").is_file():
            raise InputError(
                "The folder holds no images table.",
                where=path,
                got="no images.parquet in it",
                allowed="a folder that manyhot predict wrote, or a table with image_id and label",
                do=f"predict its images first: manyhot predict {shlex.quote(str(path))} --out predictions",
            )
        path = path / "images.parquet"
    return read_images(path, classes=classes), {f"images/{path.name}": sha256(path)}


def _standing(campaign: Campaign) -> Campaign | None:
    """Return the campaign that is there already, made of the same files; refuse anything else."""
    folder = campaign.folder
    if folder.is_dir() and all(path.name.endswith(_PART) for path in folder.iterdir()):
        return None
    if not folder.exists():
        return None
    if not folder.is_dir() or not (folder / tables.DESCRIPTION).is_file():
        raise InputError(
            "The folder holds something else." if folder.is_dir() else "This is a file, not a folder.",
            where=folder,
            allowed="a folder that is new or empty",
            do="choose another one",
        )
    standing = Campaign.read(folder)
    if not standing.same_as(campaign):
        raise InputError(
            "The folder holds another campaign.",
            where=folder,
            got=f"made by: {standing.call or 'unknown'}" + _changed(standing, campaign),
            allowed="the same images, classes and predictions, or a new folder",
            do="choose another folder; predictions of more models go into its folder predictions",
        )
    return standing


def _changed(standing: Campaign, campaign: Campaign) -> str:
    """Return which files of one name are not the same any more."""
    changed = [n for n, h in campaign.inputs.items() if standing.inputs.get(n, h) != h]
    return f"; changed since: {', '.join(sorted(changed))}" if changed else ""


def _check_images(images: Images, classes: ClassList) -> None:
    theirs = tables.metadata(images.table).get("classes", "")
    if images.label is not None and theirs and theirs != classes.hash:
        raise MatchError(
            "The images' labels are of another class list.",
            where=images.name,
            got=f"class list {theirs}",
            allowed=f"class list {classes.hash} ({classes.name})",
            do="give the class list that the images were labelled with",
        )
    if images.label is not None:
        label = images.label.drop_null().to_numpy()
        rows = images.label.is_valid().to_numpy(zero_copy_only=False).nonzero()[0]
        check_range(label, rows, images.image_id, len(classes), images.name)


def _fill(campaign: Campaign, found: _Inputs, classes: ClassList) -> None:
    call, inputs = campaign.call, campaign.inputs
    about = {"classes": classes.hash, "n_classes": str(len(classes))}
    tables.write(_class_table(classes), campaign.path("classes"), "classes", call=call, inputs=inputs)
    tables.write(found.images.table, campaign.path("images"), "images", call=call, inputs=inputs, about=about)
    campaign.path("predictions").mkdir()
    written: dict[str, str] = {}
    for predictions, source in found.predictions:
        _check_predictions(predictions, found.images, classes, written)
        target = campaign.path("predictions") / tables.predictions_file_name(predictions.model)
        if source is not None and _about(source).get("classes") == classes.hash:
            shutil.copyfile(source, target)  # with all that its metadata tells
            continue
        whole = replace(predictions, n_classes=len(classes), class_hash=classes.hash)
        inputs = {source.name: sha256(source)} if source is not None else {}
        tables.write_predictions(replace(whole, inputs=inputs), target, call=call)
    campaign.write()


def _check_predictions(
    predictions: Predictions, images: Images, classes: ClassList, written: dict[str, str]
) -> None:
    model, source = predictions.model, predictions.source
    tables.check_class_list(predictions, len(classes), classes.hash, "the campaign")
    tables.align(images.image_id, predictions.image_id, left_name="the campaign", right_name=source or model)
    if model in written:
        raise InputError(
            f"There are two predictions of {model}.",
            where=" and ".join(filter(None, (written[model], source))) or None,
            do="leave one of them out",
        )
    written[model] = source


def _class_table(classes: ClassList) -> pa.Table:
    kind = pa.list_(pa.string())
    return pa.table(
        {
            "class_id": pa.array(range(len(classes)), pa.int32()),
            "key": pa.array(classes.keys, pa.string()),
            "name": pa.array(classes.names, pa.string()),
            "synonyms": pa.array(list(map(list, classes.synonyms)), kind),
            "definition": pa.array(classes.definitions, pa.string()),
            "hypernyms": pa.array(list(map(list, classes.hypernyms)), kind),
        }
    )


def _settle(part: Path, folder: Path) -> None:
    """Give a complete folder its final name; what it holds is moved into an empty folder that is there."""
    for path in (part, *(p for p in part.rglob("*") if p.is_dir())):
        path.chmod(0o777 & ~_umask())
    if not folder.exists():
        part.rename(folder)
        return
    # It may be where the caller stands, or a volume of its own, which nothing can take the place of. The
    # description comes last: without it the folder is no campaign.
    for path in sorted(part.iterdir(), key=lambda p: p.name == tables.DESCRIPTION):
        path.rename(folder / path.name)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def web_extra() -> Any:
    """Return `manyhot.reassess.app`, whose packages are there.

    Raises
    ------
    MissingExtraError
        They are not.
    """
    try:
        from manyhot.reassess import app

        importlib.import_module("manyhot.reassess.app.app")
    except ImportError as error:
        raise MissingExtraError(
            "The annotation app needs packages that are not installed.",
            got=error,
            do='pip install "manyhot[web]"',
        ) from error
    return app


def find_images(uris: Iterable[str], root: Path) -> dict[str, str]:
    """Return where images lie now, by where they lay.

    Of an old place, the longest end that exists under the new root is taken: of ``/old/val/n01440764/a.jpg``
    first ``val/n01440764/a.jpg``, then ``n01440764/a.jpg``, then ``a.jpg``.

    Parameters
    ----------
    uris : iterable of str
    root : Path
        A folder, or a tar archive.

    Raises
    ------
    InputError
        The root is not there, or an image is not under it.
    """
    is_there = _looker(root)
    found: dict[str, str] = {}
    missing: list[str] = []
    cut = 0  # most images lie as deep as the one before
    for uri in uris:
        parts = PurePosixPath(uri.replace("\\", "/").partition("://")[2] or uri.replace("\\", "/")).parts
        parts = tuple(part for part in parts if part not in ("/", ".", ".."))
        for start in (cut, *range(len(parts))):
            if parts[start:] and is_there("/".join(parts[start:])):
                found[uri], cut = str(root.resolve().joinpath(*parts[start:])), start
                break
        else:
            missing.append(uri)
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(found) + len(missing):,} images are not under the new place.",
            where=root,
            got=f"no {PurePosixPath(missing[0]).name}, which lay at {missing[0]}",
            do="give the folder or archive that holds them all",
        )
    return found


def _looker(root: Path) -> Callable[[str], bool]:
    if root.is_dir():
        return lambda name: (root / name).is_file()
    try:
        with tarfile.open(root, "r:") as tar:
            members = {member.name.removeprefix("./") for member in tar if member.isfile()}
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            "This is no place for images.",
            where=root,
            got="no such file or folder" if not root.exists() else "neither a folder nor a tar archive",
            allowed="a folder, or an uncompressed tar archive",
        ) from error
    return members.__contains__
