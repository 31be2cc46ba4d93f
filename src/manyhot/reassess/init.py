"""Make a campaign from images, classes and predictions: `manyhot init`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from manyhot import tables
from manyhot.classes import BUILT_IN_CLASSES, ClassList, class_list, class_list_of
from manyhot.command import command
from manyhot.data.benchmarks import Fetched, data_set
from manyhot.data.data_sets import open_images
from manyhot.data.reading_options import ImagesTableLike, Reading
from manyhot.errors import InputError, MatchError, OutputError
from manyhot.files import hashes_of, sha256, write_refused
from manyhot.formats import (
    ClassNamesLike,
    holds_photographs,
    open_class_list,
    read_images,
    read_predictions,
)
from manyhot.formats.prediction_folders import prediction_files, unread_notes
from manyhot.formats.writing import PathLike
from manyhot.parameters import Shown
from manyhot.predict.sources.image_files import list_files, other_files_note
from manyhot.reassess.additions import add_to_campaign, class_table
from manyhot.reassess.ensemble import check_distinct_models
from manyhot.reassess.shown_images import unshown_notes
from manyhot.reassess.status import CampaignStatus, campaign_status, file_metadata
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Campaign, Images, Predictions, ScoreKind
from manyhot.tables.frames import check_range
from manyhot.tables.image_ids import AUTO, check_match, ids_like
from manyhot.tables.own_classes import note_on_left_out

_PART = ".part"
"""What the name of a folder that is not complete ends with; a killed run may leave one."""


@dataclass(frozen=True, eq=False)
class InitialCampaign(Result):
    """A campaign that was made or already existed.

    Attributes
    ----------
    campaign : Campaign
    is_new : bool
        Whether this call created the campaign. False if it had already been created from the same files.
    status : CampaignStatus
    written
        The folder, if it is new.
    """

    campaign: Campaign
    is_new: bool
    status: CampaignStatus

    def to_json(self) -> dict[str, Any]:
        """Return the status, and notes if there are any."""
        return self.status.to_json() | ({"notes": self.notes} if self.notes else {})

    def lines(self) -> Iterator[str]:
        """Yield a line on whether the campaign was created, and its status."""
        same = "this is the campaign" if self.notes else "nothing to do, this is the campaign"
        what = "made the campaign" if self.is_new else same
        over = f"{self.campaign.n_classes:,} classes of {self.campaign.classes}"
        yield f"{what} {self.campaign.folder}, over the {over}"
        yield from self.status.lines()


@command(
    "init",
    examples=(
        "manyhot init campaign --images photos.csv --classes classes.txt --predictions predictions",
        "manyhot init real --images imagenet-val --predictions imagenet-val",
    ),
)
def init_campaign(
    folder: Annotated[PathLike, Shown("DIR")],
    *,
    images: ImagesTableLike,
    classes: ClassNamesLike | None = None,
    predictions: Annotated[Sequence[PathLike], Shown("FILE")] = (),
    rows: Annotated[PathLike | None, Shown("FILE")] = None,
    scores: ScoreKind | None = None,
    match: str = AUTO,
    add: bool = False,
    run: Run = QUIET,
) -> InitialCampaign:
    """Create a campaign: a folder with the images, classes and predictions that all further steps use.

    The folder appears only when it is complete. Repeating the same call changes nothing, and another campaign
    is never overwritten. Images and classes can be added while raters answer.

    Parameters
    ----------
    folder
        Folder of the campaign: a new or empty folder, or a campaign that was created from the same files.
    images
        Images, with original labels if there are any: a table in any format, a folder of photographs, a
        folder written by manyhot predict, or a benchmark data set, such as imagenet-val. In Python, also a
        data frame.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r. By default, the built-in list that is named in the metadata of the images or
        predictions, or the classes of predictions with scores for all classes.
    predictions
        Files or folders of predictions, or a benchmark data set.
    rows
        Image ids of the rows of array files: a data-set JSON, CSV or Parquet file, or a list of ids.
    scores
        Kind of the scores, if the files do not declare it: logit, probability, cosine, or none (the scores
        only rank classes).
    match
        How ids of images and predictions are matched if they differ: auto, exact, path (one is the end of the
        other), name (without folders), stem (without extension), case (ignoring case), number (without
        leading zeros and .0), several joined by +, or a leading folder to remove, such as val/.
    add
        Add the images to an existing campaign, and any new classes to the end of its list.

    Returns
    -------
    InitialCampaign

    Raises
    ------
    InputError
        If the folder contains other files, or a file cannot be read.
    MatchError
        If images, classes and predictions do not match.
    OutputError
        If the folder cannot be written.
    """
    check_match(match)
    target, listed = Path(folder), _class_list(classes, images, predictions)
    sources = _Inputs.of(images, predictions, rows, listed, scores)
    inputs = sources.inputs | {f"classes/{name}": digest for name, digest in hashes_of((classes,)).items()}
    campaign = Campaign(target, listed.name, listed.hash, len(listed), len(sources.images), run.call, inputs)
    _check_images(sources.images, listed)
    if add:
        changed, notes = add_to_campaign(Campaign.read(target), campaign, sources.images, listed)
        notes = (*notes, *unshown_notes(sources.images.table))
        return InitialCampaign(changed, False, campaign_status(target), notes=notes)
    if (standing := standing_campaign(campaign)) is not None:
        return InitialCampaign(standing, False, campaign_status(target))
    notes = create_campaign(campaign, lambda part: _fill(part, sources, listed, match))
    notes += tuple(unshown_notes(sources.images.table))
    files = [path for _, path in sources.predictions if path is not None]
    if isinstance(images, str | os.PathLike) and Path(images).is_dir() and holds_photographs(images):
        notes += tuple(filter(None, (other_files_note(list_files(os.fspath(images))),)))
    notes += tuple(unread_notes((place for place in predictions if data_set(place) is None), files))
    return InitialCampaign(campaign, True, campaign_status(target), notes=notes, written=(target,))


def create_campaign(campaign: Campaign, fill: Callable[[Campaign], tuple[str, ...]]) -> tuple[str, ...]:
    """Create the folder of a campaign; it appears only when it is complete.

    Parameters
    ----------
    campaign : Campaign
    fill : callable
        Writes the files of the campaign to the folder that it is passed, and returns notes.
    """
    target = campaign.folder
    try:
        home = target if target.is_dir() else target.parent
        home.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PART, dir=home))
        try:
            notes = fill(replace(campaign, folder=part))
            replace(campaign, folder=part).write()
            _settle(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_refused(target, error) from error
    return notes


@dataclass(frozen=True)
class _Inputs:
    """What a campaign is made from, with the sha256 of each file."""

    images: Images
    predictions: tuple[tuple[Predictions, Path | None], ...]
    inputs: dict[str, str]
    reading: Reading

    @classmethod
    def of(
        cls,
        images: ImagesTableLike,
        predictions: Sequence[PathLike],
        rows: PathLike | None,
        classes: ClassList,
        scores: ScoreKind | None,
    ) -> _Inputs:
        own: list[tuple[Predictions, Path | None]] = []
        table, inputs = _read_images(images, classes)
        order = None if rows is None else read_images(rows, classes=classes)
        for place in predictions:
            if (fetched := _fetched(place)) is not None:
                own += [(p, None) for p in fetched.published]
                inputs |= fetched.inputs
                continue
            for path in prediction_files([place]):
                read = read_predictions(path, rows=order, classes=classes, scores=scores)
                own.append((read, path))
                inputs[f"predictions/{path.name}"] = sha256(path)
        return cls(table, tuple(own), inputs, Reading(scores=scores))


def _class_list(
    classes: ClassNamesLike | None, images: ImagesTableLike, predictions: Sequence[PathLike]
) -> ClassList:
    """Return the class list, by default the built-in one that a file names, or that of predictions."""
    if (given := open_class_list(classes)) is not None:
        return given
    file: PathLike | None = images if isinstance(images, str | os.PathLike) else None
    for source in (*([] if file is None else [file]), *predictions):
        if data_set(source) is not None:
            return class_list()
        folder = Path(source)
        for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]:
            if (named := class_list_of(file_metadata(path).get("classes", ""))) is not None:
                return named
    if file is not None and not Path(file).exists():
        read_images(file)  # which says so
    for path in prediction_files(predictions):
        with contextlib.suppress(InputError):  # raised when the campaign reads the file
            own = read_predictions(path).class_list
            if own is not None and own.is_complete:
                return own
    raise InputError(
        "The class list is unknown.",
        where="`images`" if file is None else str(file),
        got="no file that names a built-in class list",
        allowed=f"a file with one key per line, or {', '.join(BUILT_IN_CLASSES)}",
        do="pass it as `classes`",
    )


def _fetched(name: PathLike) -> Fetched | None:
    """Fetch and return a data set of a benchmark by name; None for files and unknown names."""
    published = data_set(name)
    return None if published is None else published.fetch()


def _read_images(place: ImagesTableLike, classes: ClassList) -> tuple[Images, dict[str, str]]:
    if not isinstance(place, str | os.PathLike):
        images = open_images(place, classes)
        assert images is not None
        return images, _listed(images)
    if (fetched := _fetched(place)) is not None:
        return fetched.rows, dict(fetched.inputs)
    path = Path(place)
    if path.is_dir():
        if not (path / "images.parquet").is_file() and holds_photographs(path):
            images = read_images(path, classes=classes)
            return images, _listed(images)
        if not (path / "images.parquet").is_file():
            raise InputError(
                "The folder contains no images table.",
                where=path,
                got="no images.parquet in it",
                allowed="a folder written by manyhot predict, or a table with the columns image_id and label",
                do=f"run this first: manyhot predict {shlex.quote(str(path))} --out predictions",
            )
        path = path / "images.parquet"
    return read_images(path, classes=classes), {f"images/{path.name}": sha256(path)}


def _listed(images: Images) -> dict[str, str]:
    """Return a hash of the ids and labels of images that are in no file, as the hash of a file."""
    label = [] if images.label is None else [images.label.to_pylist()]
    rows = zip(images.image_id.to_pylist(), *label, strict=True)
    listed = "\n".join(" ".join(map(str, row)) for row in rows)
    return {f"images/{images.name}": hashlib.sha256(listed.encode()).hexdigest()}


_ANOTHER = (
    "choose another folder; to add images or classes, pass `add`; to add models, put their predictions into "
    "the folder predictions of the campaign"
)


def standing_campaign(campaign: Campaign, do: str = _ANOTHER) -> Campaign | None:
    """Return the existing campaign if it was made from the same files; otherwise raise an error."""
    folder = campaign.folder
    if not folder.exists() or (folder.is_dir() and _is_empty(folder)):
        return None
    if not folder.is_dir() or not (folder / tables.DESCRIPTION).is_file():
        raise InputError(
            "The folder contains other files." if folder.is_dir() else "This is a file, not a folder.",
            where=folder,
            allowed="a new or empty folder",
            do="choose another folder",
        )
    standing = Campaign.read(folder)
    if (standing.class_hash, dict(standing.inputs)) != (campaign.class_hash, dict(campaign.inputs)):
        raise InputError(
            "The folder contains another campaign.",
            where=folder,
            got=f"made by: {standing.call or 'unknown'}" + _changed(standing, campaign),
            allowed="the same images, classes and predictions, or a new folder",
            do=do,
        )
    return standing


def _changed(standing: Campaign, campaign: Campaign) -> str:
    """Return the names of the files that have changed."""
    changed = [n for n, h in campaign.inputs.items() if standing.inputs.get(n, h) != h]
    return f"; changed since: {', '.join(sorted(changed))}" if changed else ""


def _check_images(images: Images, classes: ClassList) -> None:
    theirs = tables.metadata(images.table).get("classes", "")
    if images.label is not None and theirs and theirs != classes.hash:
        raise MatchError(
            "The labels of the images have a different class list.",
            where=images.name,
            got=f"class list {theirs}",
            allowed=f"class list {classes.hash} ({classes.name})",
            do="pass the class list of the image labels",
        )
    if images.label is not None:
        label = images.label.drop_null().to_numpy()
        rows = images.label.is_valid().to_numpy(zero_copy_only=False).nonzero()[0]
        check_range(label, rows, images.image_id, len(classes), images.name)


def _fill(campaign: Campaign, sources: _Inputs, classes: ClassList, match: str) -> tuple[str, ...]:
    """Write the files of a campaign, and return notes on predictions whose ids are written differently."""
    call, inputs = campaign.call, campaign.inputs
    about = {"classes": classes.hash, "n_classes": str(len(classes))}
    tables.write(class_table(classes), campaign.path("classes"), "classes", call=call, inputs=inputs)
    tables.write(
        sources.images.table, campaign.path("images"), "images", call=call, inputs=inputs, about=about
    )
    campaign.path("predictions").mkdir()
    check_distinct_models(read for read, _ in sources.predictions)
    notes = list[str]()
    for read, source in sources.predictions:
        tables.check_class_list(read, len(classes), classes.hash, "the campaign")
        predictions, note = _of_campaign(read, sources.images, match)
        notes += filter(None, (note, note_on_left_out(read, read.unlisted)))
        notes += sources.reading.overruled(read)
        target = campaign.path("predictions") / tables.predictions_file_name(predictions.model)
        is_same = predictions is read and source is not None
        if is_same and source and file_metadata(source).get("classes") == classes.hash:
            shutil.copyfile(source, target)  # with all its metadata
            continue
        whole = replace(predictions, n_classes=len(classes), class_hash=classes.hash)
        inputs = {source.name: sha256(source)} if source is not None else {}
        tables.write_predictions(replace(whole, inputs=inputs), target, call=call)
    return tuple(notes)


def _of_campaign(predictions: Predictions, images: Images, match: str) -> tuple[Predictions, str]:
    """Return predictions with the ids of a campaign, and a note if they were written differently."""
    name, other = predictions.source or predictions.model, "the campaign"
    like = ids_like(predictions.image_id, images.image_id, name=name, other_name=other, match=match)
    tables.align(images.image_id, like.ids, left_name=other, right_name=name)
    if not like.n:
        return predictions, ""
    return replace(predictions, image_id=like.ids), f"{predictions.model}: {like.text}"


def _settle(part: Path, folder: Path) -> None:
    """Give a complete folder its final name; if an empty folder exists, move the contents into it."""
    for path in (part, *(p for p in part.rglob("*") if p.is_dir())):
        path.chmod(0o777 & ~_umask())
    if part.parent != folder:
        try:
            part.rename(folder)
        except OSError as error:
            if folder.exists():
                raise _made_meanwhile(folder) from error
            raise
        return
    # It may be where the caller stands, or a volume of its own, which nothing can take the place of. The
    # description comes last: without it the folder is no campaign.
    if not _is_empty(folder):
        raise _made_meanwhile(folder)
    for path in sorted(part.iterdir(), key=lambda p: p.name == tables.DESCRIPTION):
        path.rename(folder / path.name)


def _is_empty(folder: Path) -> bool:
    return all(path.name.endswith(_PART) for path in folder.iterdir())


def _made_meanwhile(folder: Path) -> OutputError:
    return OutputError(
        "Another run has written to the folder in the meantime.",
        where=folder,
        do="choose another folder; what the other run wrote is unchanged",
    )


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def find_images(uris: Iterable[str], root: Path, *, all_there: bool = True) -> dict[str, str]:
    """Return a mapping from the old to the new location of each image.

    The longest trailing part of the old path that exists under the new root is used. For
    ``/old/val/n01440764/a.jpg``, ``val/n01440764/a.jpg`` is tried first, then ``n01440764/a.jpg``, then
    ``a.jpg``.

    Parameters
    ----------
    uris : iterable of str
    root : Path
        A folder, or a tar archive.
    all_there : bool
        Whether to raise an error if an image is not under the root; otherwise, it is left out.

    Raises
    ------
    InputError
        If the root does not exist, or an image is not under it.
    """
    is_there = _looker(root)
    found: dict[str, str] = {}
    missing: list[str] = []
    cut = 0  # most images are as deep as the one before
    for uri in uris:
        parts = PurePosixPath(uri.replace("\\", "/").partition("://")[2] or uri.replace("\\", "/")).parts
        parts = tuple(part for part in parts if part not in ("/", ".", ".."))
        for start in (cut, *range(len(parts))):
            if parts[start:] and is_there("/".join(parts[start:])):
                found[uri], cut = str(root.resolve().joinpath(*parts[start:])), start
                break
        else:
            missing.append(uri)
    if missing and all_there:
        raise InputError(
            f"{len(missing):,} of {len(found) + len(missing):,} images are not at the new location.",
            where=root,
            got=f"no {PurePosixPath(missing[0]).name}, formerly at {missing[0]}",
            do="pass the folder or archive that contains all of them",
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
            "Images cannot be read from this location.",
            where=root,
            got="no such file or folder" if not root.exists() else "neither a folder nor a tar archive",
            allowed="a folder, or an uncompressed tar archive",
        ) from error
    return members.__contains__
