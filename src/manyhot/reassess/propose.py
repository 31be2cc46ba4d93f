"""Predictions to proposals: which classes people are to be asked about, and what that costs and finds.

A campaign's predictions to its proposals.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.checks import check_draws, is_number, is_whole
from manyhot.classes import ClassList
from manyhot.core.ensembles import Ensemble
from manyhot.core.proposals import Coverage, Proposed, apply_rule, count_coverage, held_out
from manyhot.core.resampling import Bootstrap, percentile_interval
from manyhot.core.sets import NO_LABEL, LabelSets, top_k
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import detect, read_classes, read_golden, read_images, read_labels, read_predictions
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place
from manyhot.reassess.campaign import campaign_models, fetched_set
from manyhot.registry import Entry, get
from manyhot.tables import Campaign, Images, Labels, Predictions, align, check_class_list, one_chunk
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

SECONDS = 5.0
"""Seconds that a rater takes for one question: an assumption, since neither ReaL nor Multilabelfy publishes a
time. Votes with `shown_at` and `answered_at` tell one's own."""


RATERS = 5
"""Answers to each question, as ReaL has them."""


DEPTH = 20
"""Best classes that are taken of scores over all classes."""


ORIGINAL = "label"
"""The source of an original label that no rule proposed."""


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval; NaN where nothing is known."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Expected:
    """What proposals find of known label sets.

    Attributes
    ----------
    recall, precision : Share
        Of known labels that are proposed or stand unasked; of questions that are answered with yes.
    n_images, n_labels, n_questions : int
        Known images, their labels, and the questions about them.
    n_unasked : int
        Questions that the known sets do not answer; they count as answered with no.
    held_out : bool
        Whether each image was judged under a rule that had not seen its label set.
    """

    recall: Share
    precision: Share
    n_images: int
    n_labels: int
    n_questions: int
    n_unasked: int
    held_out: bool


@dataclass(frozen=True, eq=False)
class Proposals:
    """Proposals with what they cost and find.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``proposals``.
    rule : str
    n_images, n_left_out : int
        Images, and those without questions, whose original label stands.
    models : tuple of str
    hours : float
        Of all raters together.
    seconds, raters : float, int
        What the hours were computed with.
    expected : Expected or None
        None where no label set is known.
    about : Mapping
        What the rule found on its way.
    n_classes, class_hash
        The class list.
    notes : tuple of str
        Files of predictions that were skipped, and why.
    """

    table: pa.Table
    rule: str
    n_images: int
    n_left_out: int
    models: tuple[str, ...]
    seconds: float
    raters: int
    expected: Expected | None
    about: dict[str, Any] = field(default_factory=dict)
    n_classes: int = 0
    class_hash: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Proposals({self.rule!r}, {len(self):,} questions about {self.n_asked:,} images)"

    @property
    def n_asked(self) -> int:
        """Images with questions."""
        return self.n_images - self.n_left_out

    @property
    def hours(self) -> float:
        """Hours of all raters together."""
        return len(self) * self.raters * self.seconds / 3600

    def to_polars(self) -> Any:
        """Return the table as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)


def propose(
    images: Images,
    predictions: Sequence[Predictions],
    rule: str | Entry = "union",
    *,
    known: Labels | None = None,
    n_classes: int = 0,
    class_hash: str = "",
    leave_out: str = "proposals",
    seconds: float = SECONDS,
    raters: int = RATERS,
    resamples: int = 1000,
    seed: int = 0,
    misfits: SkippedFiles | None = None,
) -> Proposals:
    """Propose the classes that people are to be asked about.

    Parameters
    ----------
    images : Images
        With their original labels, which are always among the proposals.
    predictions : sequence of Predictions
        One a model. Each predicts all images.
    rule : str or Entry
        A registered proposer or call string, such as ``union(threshold=0.1)``.
    known : Labels, optional
        Label sets of some of the images: for rules that learn from them, and for recall and precision.
        Images that nobody rated are passed over.
    n_classes, class_hash
        The class list of the images; that of the predictions by default.
    leave_out : str
        Images without questions: those whose only proposal is the original label (``proposals``), those
        where it is every model's best class (``models``), or none (``nothing``).
    seconds, raters
        Seconds a question and answers a question, for the hours.
    resamples, seed
        Of the bootstrap over the known images.
    misfits : Misfits, optional
        As in `manyhot.evaluate`.

    Raises
    ------
    UnknownNameError
        If there is no such rule.
    InputError
        If images have no original labels, there are no predictions, or as the rule.
    MatchError
        If predictions are over another class list or lack images, or no label set is of these images.
    """
    entry = get("proposer", rule) if isinstance(rule, str) else rule
    _check_rate(seconds, raters)
    check_draws(resamples, seed)
    n_classes, class_hash = _class_list(predictions, n_classes, class_hash)
    misfits = misfits or SkippedFiles()
    ensemble = ensemble_of(images, predictions, n_classes, class_hash, known, misfits)
    proposed = apply_rule(ensemble, entry, leave_out=leave_out)
    learns = bool(entry.about.get("learns"))
    expected = None
    if known is not None:
        counted = (
            held_out(ensemble, entry, leave_out=leave_out) if learns else count_coverage(ensemble, proposed)
        )
        expected = _expected(counted, learns, resamples, seed)
    return Proposals(
        _table(images, proposed, entry.name),
        entry.name,
        len(ensemble),
        int(np.count_nonzero(proposed.left_out)),
        ensemble.names,
        seconds,
        raters,
        expected,
        dict(proposed.pairs.about),
        n_classes,
        class_hash,
        tuple(misfits.notes()),
    )


def ensemble_of(
    images: Images,
    predictions: Sequence[Predictions],
    n_classes: int,
    class_hash: str,
    known: Labels | None = None,
    misfits: SkippedFiles | None = None,
) -> Ensemble:
    """Return the predictions of all models on the images, row for row, but for those that are skipped.

    Raises
    ------
    InputError, MatchError
        As `propose`.
    """
    _check_names(predictions)
    label = _original_labels(images, n_classes)
    arrays = {
        p.model: found
        for p, found in fitting_models(
            predictions, lambda p: _arrays(images, p, n_classes, class_hash), misfits
        )
    }
    top, scores, probabilities = (tuple(column) for column in zip(*arrays.values(), strict=True))
    sets = None if known is None else _known_sets(images, known, n_classes, class_hash)
    return Ensemble(n_classes, tuple(arrays), top, scores, probabilities, label, sets)


def golden_labels(golden: pa.Table, n_classes: int, class_hash: str, name: str) -> Labels:
    """Return label sets from experts' answers: the classes to which more than half of them said yes.

    Parameters
    ----------
    golden : pyarrow.Table
        The table ``golden``.
    """
    import polars as pl

    frame = pl.from_arrow(golden)
    assert isinstance(frame, pl.DataFrame)
    yes = (pl.col("answer") == "yes").mean() > 0.5
    asked = frame.group_by("image_id", "class_id", maintain_order=True).agg(yes=yes)
    state = pl.when("yes").then(pl.lit("yes")).otherwise(pl.lit("no"))
    rows = asked.group_by("image_id", maintain_order=True).agg(classes=pl.col("class_id"), state=state)
    table = rows.with_columns(usable=pl.lit(True), rated=pl.lit(True)).to_arrow()
    return Labels(table, n_classes, class_hash, asked_known=True, name=name)


def _table(images: Images, proposed: Proposed, rule: str) -> pa.Table:
    pairs = proposed.pairs
    given = pa.array(proposed.label_only.astype(np.int8))
    source = pa.DictionaryArray.from_arrays(given, pa.array([rule, ORIGINAL]))
    return pa.table(
        {
            "image_id": images.image_id.take(pa.array(pairs.image)),
            "class_id": pa.array(pairs.class_id),
            "score": pa.array(pairs.score),
            "n_models": pa.array(pairs.n_models),
            "source": source.cast(pa.string()),
        }
    )


def _expected(c: Coverage, learns: bool, resamples: int, seed: int) -> Expected:
    num = np.stack([c.proposed, c.valid], axis=1).astype(np.float32)
    den = np.stack([c.labels, c.questions], axis=1).astype(np.float32)
    low = high = np.full(2, np.nan)
    if resamples:
        everything = np.ones((1, len(num)), bool)
        samples = Bootstrap(everything, resamples, seed).ratios(num, den, np.arange(2))
        low, high = percentile_interval(samples[0].T)
    with np.errstate(invalid="ignore"):
        values = num.sum(0, dtype=np.float64) / den.sum(0, dtype=np.float64)
    recall, precision = (Share(*map(float, row)) for row in zip(values, low, high, strict=True))
    labels, questions, unasked = (int(v.sum()) for v in (c.labels, c.questions, c.unasked))
    return Expected(recall, precision, len(num), labels, questions, unasked, held_out=learns)


def _check_rate(seconds: float, raters: int) -> None:
    if not is_number(seconds) or seconds <= 0:
        raise InputError("A question takes some time.", got=f"{seconds} seconds", allowed="over 0")
    if not is_whole(raters) or raters < 1:
        raise InputError("A question needs an answer.", got=f"{raters} raters", allowed="1 and up")


def _class_list(predictions: Sequence[Predictions], n_classes: int, class_hash: str) -> tuple[int, str]:
    if not predictions:
        raise InputError(
            "There are no predictions to propose labels from.",
            do="predict the images with at least one model",
        )
    n_classes = n_classes or max(p.n_classes for p in predictions)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="give the class list")
    return n_classes, class_hash or next((p.class_hash for p in predictions if p.class_hash), "")


def _check_names(predictions: Sequence[Predictions]) -> None:
    seen: dict[str, str] = {}
    for p in predictions:
        if p.model in seen:
            raise InputError(
                f"There are two predictions of {p.model}.",
                where=" and ".join(filter(None, (seen[p.model], p.source))) or None,
                do="leave one of them out",
            )
        seen[p.model] = p.source


def _original_labels(images: Images, n_classes: int) -> npt.NDArray[np.int32]:
    label = images.label
    if label is None or label.null_count == len(label):
        raise InputError(
            "The images have no original labels.",
            where=images.name or None,
            allowed="an images table with the column 'label': a question about it is always asked",
            do="add the column, or predict with --labels",
        )
    filled = pc.fill_null(label, NO_LABEL).to_numpy(zero_copy_only=False).astype(np.int32)
    if filled.max() >= n_classes or filled.min() < NO_LABEL:
        row = int(np.argmax((filled >= n_classes) | (filled < NO_LABEL)))
        raise InputError(
            "An original label is out of range.",
            where=f"{images.name or 'images'}, image {images.image_id[row]}",
            got=int(filled[row]),
            allowed=f"0 to {n_classes - 1}",
            do="check which class list the images are of",
        )
    return np.asarray(filled)


def _arrays(
    images: Images, p: Predictions, n_classes: int, class_hash: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
    """Return a model's best classes, scores and probabilities, in the order of the images."""
    check_class_list(p, n_classes, class_hash, images.name or "the images")
    p = p if p.n_classes else replace(p, n_classes=n_classes)  # which checks that its classes exist
    rows = align(
        images.image_id, p.image_id, left_name=images.name or "the images", right_name=p.source or p.model
    )
    if rows.left_only:
        absent = np.setdiff1d(np.arange(len(images)), rows.left)
        example = images.image_id[int(absent[0])]
        raise MatchError(
            f"{p.model} does not predict all images.",
            where=p.source or None,
            got=f"no prediction of {len(absent):,} of {len(images):,}, such as {example}",
            allowed="predictions of every image by every model",
            do="predict the others, or leave the model or the images out",
        )
    top, scores, probabilities = p.classes, p.scores, p.confidence()
    if top is None:
        assert scores is not None
        top = top_k(scores, min(DEPTH, n_classes))
        scores = np.take_along_axis(scores, top, axis=1)
        probabilities = None if probabilities is None else np.take_along_axis(probabilities, top, axis=1)
    if np.array_equal(rows.right, np.arange(len(top))):
        return top, scores, probabilities
    return (
        np.asfortranarray(top[rows.right]),
        None if scores is None else scores[rows.right],
        None if probabilities is None else probabilities[rows.right],
    )


def _known_sets(images: Images, known: Labels, n_classes: int, class_hash: str) -> LabelSets:
    """Return the known label sets of all images; where there is none, the image is not usable."""
    name = known.name or "the known label sets"
    if known.n_classes != n_classes or (known.class_hash and class_hash and known.class_hash != class_hash):
        raise MatchError(
            "The known label sets are over another class list.",
            where=name,
            got=f"{known.n_classes:,} classes, class list {known.class_hash or 'unknown'}",
            allowed=f"{n_classes:,} classes, class list {class_hash or 'unknown'}",
        )
    rows = align(images.image_id, known.image_id, left_name=images.name or "the images", right_name=name)
    sets = label_sets(known)
    usable = sets.usable
    if "rated" in known.table.column_names:
        rated = pc.fill_null(one_chunk(known.table["rated"]), True)
        usable = usable & rated.to_numpy(zero_copy_only=False)
    if not usable[rows.right].any():
        raise MatchError(
            "None of the images with a known label set was looked at.",
            where=name,
            got=f"{len(rows.right):,} images, none usable and rated",
            allowed="label sets that people confirmed",
        )
    return _spread(replace(sets, usable=usable), rows.left, rows.right, len(images))


def _spread(sets: LabelSets, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], n: int) -> LabelSets:
    """Put label sets at their rows of n images."""
    part = sets.take(right)
    lengths = np.zeros(n, np.int64)
    lengths[left] = np.diff(part.indptr)
    label, usable = np.full(n, NO_LABEL, np.int32), np.zeros(n, bool)
    label[left], usable[left] = part.label, part.usable
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return replace(part, indptr=indptr, label=label, usable=usable)


def propose_files(
    campaign: PathLike,
    *,
    rule: str = "union",
    models: Sequence[str] = (),
    known: PathLike | None = None,
    leave_out: str = "proposals",
    seconds: float = SECONDS,
    raters: int = RATERS,
    resamples: int = 1000,
    seed: int = 0,
    out: PathLike | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Proposals, Path]:
    """Propose labels for the images of a campaign, and write its table ``proposals``.

    Parameters
    ----------
    campaign : path-like
        A folder that `init_campaign` made.
    rule : str
        A registered proposer or call string.
    models : sequence of str
        Patterns of the models to take, such as ``timm/*``; all by default.
    known : path-like, optional
        Label sets of some of the images, golden answers, both in any format, or a data set of a benchmark. By
        default the campaign's golden answers, if it has any.
    leave_out, seconds, raters, resamples, seed
        As in `manyhot.reassess.propose.propose`.
    out : path-like, optional
        Another file than the campaign's ``proposals.parquet``.

    Raises
    ------
    ManyhotError
        As in `manyhot.reassess.propose.propose`; also if people answer the campaign's proposals already.
    """
    home = Campaign.read(campaign)
    target = home.path("proposals") if out is None else Path(out)
    _check_target(home, target)
    classes = read_classes(home.path("classes"))
    images = read_images(home.path("images"), classes=classes)
    _check_described(home, images, classes)
    chosen, misfits = _chosen(home, models)
    check_apart([*chosen, known], target)
    predictions = _read(chosen, classes, misfits, progress)
    sets, source = _known(home, known, classes)
    found = propose(
        Images(images.table, "the campaign"),
        predictions,
        rule,
        known=sets,
        n_classes=len(classes),
        class_hash=classes.hash,
        leave_out=leave_out,
        seconds=seconds,
        raters=raters,
        resamples=resamples,
        seed=seed,
        misfits=misfits,
    )
    used = misfits.left(chosen)
    files = [home.path("images"), home.path("classes"), *used, *([source] if source else [])]
    inputs = {path.name: sha256(path) for path in files}
    return found, tables.write(found.table, target, "proposals", call=call, inputs=inputs, about=_told(found))


def _told(found: Proposals) -> dict[str, str]:
    """Return what the metadata of proposals tell beside the table."""
    numbers = {
        "images": found.n_images,
        "left_out": found.n_left_out,
        "seconds": found.seconds,
        "raters": found.raters,
        "hours": found.hours,
    }
    return {
        "n_classes": str(found.n_classes),
        "classes": found.class_hash,
        "models": "\n".join(found.models),
        "rule": json.dumps({"rule": found.rule, **found.about}),
        "cost": json.dumps(numbers),
        "expected": json.dumps(None if found.expected is None else asdict(found.expected)),
        "notes": json.dumps(found.notes, ensure_ascii=False),
    }


def _check_target(home: Campaign, target: Path) -> None:
    if target.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=target, allowed=".parquet")
    check_place(target, "proposals")
    if target == home.path("proposals") and target.exists() and home.path("votes").exists():
        raise InputError(
            "People answer these proposals already.",
            where=target,
            got=f"{home.path('votes').name} beside it",
            do="write others to another file, with --out",
        )


def _check_described(home: Campaign, images: Images, classes: ClassList) -> None:
    """Refuse a campaign whose description is not of its own images and classes."""
    told = (home.class_hash, home.n_classes, home.n_images)
    found = (classes.hash, len(classes), len(images))
    if told != found:
        raise MatchError(
            "The description of the campaign is not of the classes and images beside it.",
            where=home.folder / tables.DESCRIPTION,
            got=f"class list {told[0]} of {told[1]:,} classes, {told[2]:,} images",
            allowed=f"class list {found[0]} of {found[1]:,} classes, {found[2]:,} images",
            do="put back what was changed, or make the campaign anew in another folder",
        )


def _chosen(home: Campaign, patterns: Sequence[str]) -> tuple[list[Path], SkippedFiles]:
    """Return the predictions of the models that are asked for, and what is skipped of a campaign's."""
    models, broken = campaign_models(home)
    found: dict[str, Path] = {}
    for model, path in models:
        if model in found:
            raise InputError(
                f"There are two predictions of {model}.",
                where=f"{found[model]} and {path}",
                do="leave one of them out",
            )
        found[model] = path
    if not found and not broken:
        raise InputError(
            "The campaign holds no predictions.",
            where=home.path("predictions"),
            allowed="a table of predictions a model, as manyhot predict writes them",
            do=f"predict its images: manyhot predict IMAGES --model NAME --out {home.path('predictions')}",
        )
    for pattern in patterns:
        if found and not fnmatch.filter(found, pattern):
            raise InputError(
                f"No model of the campaign fits {pattern!r}.",
                where=home.path("predictions"),
                allowed=", ".join(found),
            )
    chosen = [f for m, f in found.items() if not patterns or any(fnmatch.fnmatchcase(m, p) for p in patterns)]
    misfits = SkippedFiles(len(chosen) + len(broken))
    for path, error in broken.items():
        misfits.skip(str(path), error)
    misfits.check_left(len(chosen))
    return chosen, misfits


def _read(
    files: Sequence[Path], classes: ClassList, misfits: SkippedFiles, progress: Progress | None
) -> list[Predictions]:
    predictions = []
    for done, found in enumerate(misfits.reading(files, partial(read_predictions, classes=classes)), 1):
        predictions.append(found)
        if progress is not None:
            progress("reading predictions", done, len(files))
    return predictions


def _known(home: Campaign, given: PathLike | None, classes: ClassList) -> tuple[Labels | None, Path | None]:
    """Return known label sets, and the file they are from."""
    if given is None:
        golden = home.path("golden")
        return (_golden(golden, classes), golden) if golden.exists() else (None, None)
    if (fetched := fetched_set(given)) is not None:
        return fetched.labels, None
    path = Path(given)
    entry = detect(path, ("labels", "golden")) if path.exists() else None
    if entry is not None and entry.about["holds"] == "golden":
        return _golden(path, classes), path if path.is_file() else path / "golden.parquet"
    return read_labels(path, classes=classes), path if path.is_file() else None


def _golden(path: Path, classes: ClassList) -> Labels:
    golden = read_golden(path, classes=classes)
    return golden_labels(golden.to_table(), len(classes), classes.hash, path.name)
