"""Images corrupted as ImageNet-C does, and what models lose on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.command import command, takes_fields
from manyhot.data.data_sets import Source
from manyhot.diagnose.corruption_losses import (
    CORRUPTION_DRAWS,
    CorruptionDraws,
    Corruptions,
    find_baseline,
    judge_corruptions,
)
from manyhot.diagnose.page import RunProgress
from manyhot.diagnose.pixels.corruptions import CLEAN, KINDS, SEVERITIES, Corruption, chosen, corruption
from manyhot.diagnose.robustness import judge_place, judged_alike
from manyhot.errors import MatchError
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.files import hashes_of
from manyhot.formats import (
    ClassNamesLike,
    detect,
    open_class_list,
    read_images,
    read_labels,
    read_predictions,
)
from manyhot.formats.writing import PathLike, images_file
from manyhot.parameters import Address, Between, Count, Repeated, Shown, Was
from manyhot.predict.engines import EngineChoice, EngineOptions
from manyhot.predict.model_names import check_names_differ, distinct_models
from manyhot.predict.models import find_model
from manyhot.predict.network import Network
from manyhot.predict.parts import read_skipped
from manyhot.predict.run import ModelRun, PredictSettings, predict_runs, prepare_run
from manyhot.predict.several import networks_together
from manyhot.predict.sources import DECODING, Decoding, open_source
from manyhot.predict.sources.label_ids import labels_of_source
from manyhot.predict.sources.source import ImageSource, alter_images
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import single_labels
from manyhot.tables.predictions import predictions_file_name


@takes_fields
@command(
    "diagnose corruptions",
    examples=(
        "manyhot diagnose corruptions photos --labels labels.parquet --model efficientnet-lite0 "
        "--corruption fog",
    ),
)
def diagnose_corruptions(
    source: Annotated[PathLike, Address(), Shown("IMAGES")],
    *,
    model: Annotated[str | Sequence[str], Repeated(), Shown("NAME")],
    out: Annotated[PathLike, Shown("FOLDER")] = "corruptions",
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    images: Annotated[PathLike | None, Shown("FILE")] = None,
    classes: ClassNamesLike | None = None,
    corruption: Annotated[Sequence[str], Shown("NAME"), Was("--kind")] = (),
    severity: Annotated[Sequence[int], Between(1, 5)] = (),
    limit: Count | None = None,
    baseline: Annotated[str, Shown("NAME")] = "",
    dense: bool = False,
    engine: str = "auto",
    workers: Count | None = None,
    batch: Count | None = None,
    draws: CorruptionDraws = CORRUPTION_DRAWS,
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> Corruptions:
    """Corrupt images as in ImageNet-C, and measure models' losses and the share due to missing labels.

    Images are corrupted in memory, just before prediction. The predictions for each corruption and severity
    are written to a separate folder, such as fog-3. A run that was stopped resumes when it is started again.

    Parameters
    ----------
    source
        Images, as for predict.
    model
        A model, as for predict.
    out
        Folder to write to. It is created if it does not exist.
    labels
        Label sets, or original labels as an images table or CSV; by default the labels of the source.
    images
        Images table with original labels, if the label sets have none.
    classes
        Class list of the data set, if it differs from the model's.
    corruption
        Name of a corruption, such as fog; by default all fifteen corruptions.
    severity
        Severity of the corruptions; by default all five severities.
    limit
        Maximum number of images to use, chosen by a hash of their ids; by default all.
    baseline
        Corruption errors are errors divided by those of this model. For ImageNet's classes, the default is
        alexnet, whose errors are published.
    dense
        Keep the scores of all classes, for average precision.
    engine
        As for predict.
    workers
        Number of threads; by default one per core.
    batch
        Number of images per batch; the default depends on the engine.

    Returns
    -------
    Corruptions

    Raises
    ------
    ManyhotError
        If an input is not valid.
    """
    out = Path(out)
    files = (labels, images, classes)
    Corruptions.check_out(out, files)
    copies = _copies(corruption, severity, draws.seed)
    class_list = open_class_list(classes)
    names = distinct_models([model] if isinstance(model, str) else dict.fromkeys(model))
    networks = [_seeing_all(find_model(name, class_list)) for name in names]
    check_names_differ([network.name for network in networks])
    over = class_list or networks[0].classes
    find_baseline(baseline, [network.name for network in networks], over.hash)
    sets = _sets_file(labels)
    # A CSV that is neither label sets nor images holds the label of each image, as manyhot predict reads it.
    opened = open_source(source, labels=labels if sets is None else None, decoding=decoding)
    judging, matched = _JudgingLabels.read(sets, images, over).matched(opened)
    taken, notes = judging.take(_listed(opened), limit, draws.seed)
    notes = (*opened.notes, *matched, *notes)
    copies = [replace(c, only=taken) for c in copies]
    top = None if dense else PredictSettings.top
    settings = PredictSettings(top, engine, EngineOptions(workers=workers, batch=batch), classes=class_list)
    groups = [*networks_together(networks)]
    progress = RunProgress(run, "corrupting and predicting", len(taken) * len(copies) * len(groups))
    for group in groups:
        _predict_copies(opened, group, copies, out, settings, judging, progress)
    judged, single = judging.labels_of(out / CLEAN, taken)
    found = judge_corruptions(
        judged,
        {(c.kind, c.severity): _read(out / c.folder, [n.name for n in networks]) for c in copies},
        baseline=baseline,
        draws=draws,
        dataset=judged.name if sets else Path(source).stem,
        single=single,
        run=run,
    )
    own = (note for network in networks for note in network.notes)
    found = replace(
        found,
        notes=(*own, *notes, *_skipped(out / CLEAN), *found.notes),
        metadata={"seed": str(draws.seed)},
        inputs=hashes_of(files),
    )
    return replace(found, written=tuple(found.write(out, run=run)))


def _copies(kinds: Sequence[str], severities: Sequence[int], seed: int) -> list[Corruption]:
    """Return the copies to make, the original images first."""
    pairs = itertools.product(dict.fromkeys(kinds or KINDS), sorted(set(severities or SEVERITIES)))
    return [corruption(CLEAN, 0, seed), *(corruption(kind, severity, seed) for kind, severity in pairs)]


def _seeing_all(network: Network) -> Network:
    """Return a network that sees the whole of a corrupted image, which is cropped already."""
    preprocessing = network.preprocessing
    return replace(network, preprocessing=replace(preprocessing, scale=preprocessing.size))


def _sets_file(labels: PathLike | None) -> Path | None:
    """Return the file of label sets or of the images table, which may be in a folder."""
    if labels is None:
        return None
    inside = Path(labels) / "labels.parquet"
    path = inside if inside.is_file() else images_file(labels)
    return path if path.suffix != ".csv" or detect(path, ("labels", "images")) is not None else None


def _listed(source: ImageSource) -> list[str]:
    return [item.image_id for part in source.parts for item, _ in part.items()]


@dataclass(frozen=True, eq=False)
class _JudgingLabels:
    """What models are judged on: label sets, original labels (`single`), or the labels of the source."""

    labels: Labels | None
    single: bool
    classes: ClassList

    @classmethod
    def read(cls, labels: Path | None, images: PathLike | None, classes: ClassList) -> _JudgingLabels:
        if labels is None:
            return cls(None, True, classes)
        if detect(labels, ("labels",)) is None:
            return cls(_single(labels, classes), True, classes)
        read = read_labels(labels, classes=classes)
        return cls(read.with_labels(read_images(images)) if images else read, read.are_original, classes)

    def matched(self, source: ImageSource) -> tuple[_JudgingLabels, tuple[str, ...]]:
        """Return the labels with image ids as in a source, and a note if their ids were different."""
        if self.labels is None:
            return self, ()
        labels, like = labels_of_source(self.labels, source)
        return replace(self, labels=labels), (like.text,) if like.n else ()

    def take(
        self, listed: Sequence[str], limit: int | None, seed: int
    ) -> tuple[frozenset[str], tuple[str, ...]]:
        """Return the images to corrupt, and notes about the images that are left out.

        Raises
        ------
        MatchError
            If none of the images has a label.
        """
        if self.labels is None:
            return chosen(listed, limit or len(listed), seed), ()
        alike, notes = (self.labels, ()) if self.single else judged_alike(self.labels)
        labelled = set(alike.image_id.to_pylist())
        listed_here = [name for name in listed if name in labelled]
        if not listed_here:
            raise MatchError(
                "The labels are for different images.",
                where=self.labels.name or None,
                got=f"labels of {next(iter(alike.image_id.to_pylist()), 'none')}",
                allowed=f"images such as {next(iter(listed), 'none')}",
            )
        if absent := len(labelled) - len(listed_here):
            notes = (*notes, f"{absent:,} of {len(labelled):,} labelled images are not in the source")
        return chosen(listed_here, limit or len(listed_here), seed), notes

    def labels_of(self, clean: Path, taken: frozenset[str]) -> tuple[Labels, bool]:
        """Return the labels of these images, and whether they are only original labels."""
        labels = _single(clean / "images.parquet", self.classes) if self.labels is None else self.labels
        taken_rows = pc.is_in(labels.image_id, pa.array(taken, pa.string()))
        return replace(labels, table=labels.table.filter(taken_rows)), self.single

    def check(self, clean: Path, model: str) -> None:
        """Evaluate the original images first, so that a mismatch raises an error before images are corrupted.

        Raises
        ------
        ManyhotError
            As in `manyhot.evaluate`.
        """
        labels = _single(clean / "images.parquet", self.classes) if self.labels is None else self.labels
        source = Source("clean", labels, models=partial(_read, clean, [model]))
        judge_place(source, JudgeOptions(resamples=0), single=self.single)


def _single(path: Path, classes: ClassList) -> Labels:
    return single_labels(read_images(path, classes=classes), len(classes), classes.hash)


def _predict_copies(
    source: ImageSource,
    networks: Sequence[Network],
    copies: Sequence[Corruption],
    out: Path,
    settings: PredictSettings,
    judging: _JudgingLabels,
    progress: RunProgress,
) -> None:
    """Predict all copies with several models; what an earlier run predicted is kept."""
    own = {network.name: settings for network in networks}
    choices: dict[str, EngineChoice | None] = {}

    def prepared(copy: Corruption) -> Iterator[ModelRun]:
        altered = alter_images(source, copy)
        for network in networks:
            name, tell = network.name, progress.progress_only
            job = prepare_run(altered, network, out / copy.folder, own[name], tell, choices.get(name))
            choices[name] = choices.get(name) or job.choice
            yield job

    for some in (copies[:1], copies[1:]):
        jobs = [[*prepared(copy)] for copy in some]
        left = [copy for copy, runs in zip(some, jobs, strict=True) if any(job.missing for job in runs)]
        progress.add(sum(len(copy.only or ()) for copy in some if copy not in left))
        for job in predict_runs([job for runs in jobs for job in runs], progress.progress_only):
            job.finish(progress.run.call)
        progress.add(sum(len(copy.only or ()) for copy in left))
        for name in own if some[0].kind == CLEAN else ():
            judging.check(out / CLEAN, name)
            # A resumed run uses the same engine: others differ in the last digits.
            own[name] = replace(settings, engine=_engine(out / CLEAN, name))


def _engine(folder: Path, model: str) -> str:
    about = tables.metadata(tables.read(folder / predictions_file_name(model), "predictions"))
    return about["engine"]


def _read(folder: Path, models: Sequence[str]) -> Iterator[Predictions]:
    return (read_predictions(folder / predictions_file_name(model)) for model in models)


def _skipped(folder: Path) -> Iterator[str]:
    """Yield how many images were skipped, and why the first was."""
    rows = {row["image_id"]: row["reason"] for row in read_skipped(folder)}
    for name, reason in itertools.islice(rows.items(), 1):
        listed = folder / "skipped.csv"
        yield f"skipped images: {len(rows):,}, such as {name} ({reason}); {listed} lists them"
