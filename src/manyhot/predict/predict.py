"""Write predictions of images: the function of ``manyhot predict``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from manyhot.classes import ClassList, class_list_of
from manyhot.command import command
from manyhot.errors import ManyhotError, UsageError
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike
from manyhot.parameters import Count, OptionName, Repeated, Shown
from manyhot.predict.adapters.open_clip import read_templates
from manyhot.predict.engines.engine import EngineOptions, precision_of
from manyhot.predict.model_names import distinct_models
from manyhot.predict.one_image import Answer, answer_for
from manyhot.predict.parts import IMAGES
from manyhot.predict.predicted_model import PredictedModel
from manyhot.predict.ray import engine_of, run_on_ray
from manyhot.predict.run import TOP_CLASSES, PredictSettings
from manyhot.predict.several import FailedModel, names_of, predict_models
from manyhot.predict.sources import DECODING, Decoding, ImagesLike, ImageSource, is_one_image, open_source
from manyhot.predict.sources.image_labels import Labelled
from manyhot.predict.sources.label_ids import label_sets_note
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import metadata
from manyhot.tables.labels import class_list_from_metadata
from manyhot.tables.own_classes import are_numbers

DEFAULT_FOLDER = "predictions"
"""Where predictions are written by default."""


@dataclass(frozen=True, eq=False)
class PredictResult(Result):
    """Predictions of several models, in a folder.

    Attributes
    ----------
    models : tuple of PredictedModel
        The outcome of each model, in the order of prediction.
    failed : Mapping of str to ManyhotError
        The error of each model that failed, if there are several models.
    answers : tuple of Answer
        The top classes of each model, if the source is one image and nothing was written.
    notes, metadata, inputs, written
        As in `Result`.
    """

    models: tuple[PredictedModel, ...]
    failed: Mapping[str, ManyhotError] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The exit code of the first error if a model failed, and 0 otherwise."""
        return next((error.exit_code for error in self.failed.values()), 0)

    def lines(self) -> Iterator[str]:
        """Yield the number of images, the speed and the missing parts of each model."""
        for model in self.models:
            yield from model.lines()
        for shown in self.answers:
            yield from shown.lines()

    def to_json(self) -> dict[str, Any]:
        """Return the counts and times of each model, as in the event ``result``, and the notes."""
        models = [model.to_json() for model in self.models]
        answers = [one.to_json() for one in self.answers]
        failed = {model: error.in_a_line() for model, error in self.failed.items()}
        return {"models": models, "answers": answers, "failed": failed, "notes": self.notes}


@command(
    "predict",
    streams=True,
    examples=(
        "manyhot predict photos --model efficientnet-lite0 --out predictions",
        "manyhot predict dog.jpg --model efficientnet-lite0",
        "manyhot predict 's3://bucket/val-{000..099}.tar' --model timm/resnet50.a1_in1k --shard 3/16",
    ),
)
def predict(
    images: ImagesLike,
    model: Annotated[str | Sequence[str], OptionName("--model"), Repeated(), Shown("NAME")],
    *,
    out: Annotated[PathLike | None, Shown("FOLDER")] = None,
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    classes: ClassNamesLike | None = None,
    top: Count | None = None,
    dense: bool = False,
    embeddings: bool = False,
    templates: Annotated[PathLike | Sequence[str] | None, Shown("FILE")] = None,
    engine: str = "auto",
    precision: str = "f32",
    shard: Annotated[str, Shown("I/N")] = "0/1",
    workers: Count | None = None,
    batch: Count | None = None,
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> PredictResult:
    """Run image classifiers on images. A stopped run resumes when it is started again.

    The predictions of each model are written to a table, next to `images.parquet` and `skipped.csv`.

    Parameters
    ----------
    images
        Images to predict: a folder, a list (.txt or .csv), tar shards, Parquet files, a Hugging Face data set
        (hf:NAME), or one image. Paths can be local, or addresses such as s3://bucket/folder.
    model
        Name of a model, such as timm/resnet50.a1_in1k; a pattern, such as 'timm/resnet50*'; or a text file
        (.txt) with one name or pattern per line. 'manyhot models' lists the names.
    out
        Folder to write to, by default predictions. It is created if it does not exist. For one image, the top
        classes are printed; they are written only if a folder is given.
    labels
        CSV file with one original label for each image. If none of them is a class of the model, they are not
        written, and a note reports this. Pass label sets, such as those of COCO, to evaluate instead.
    classes
        Class list of the data set, if it differs from the class list of the model. It can be a COCO JSON
        file, whose categories are then the classes.
    top
        Number of top classes to keep: 20 by default, or 5 if the classes of one image are printed.
    dense
        Keep the scores of all classes instead of the top classes.
    embeddings
        Also store the penultimate features, which 'manyhot similar' needs.
    templates
        For open_clip models, sentences with {} in place of the class name: a text file with one sentence per
        line, openai for OpenAI's 80 sentences (the default), or simple for 7 of them. In Python, it can also
        be a list of sentences.
    engine
        auto uses a fast engine with the same predictions. Other choices are torch, openvino and onnx,
        and ray or ray:ENGINE for a cluster.
    precision
        f32, bf16 or f16. bf16 and f16 are faster on some processors but change predictions.
    shard
        Predict only shard I of N, counted from 0. The last shard to finish merges the results of all shards.
    workers
        Number of threads, by default one per core.
    batch
        Number of images per batch, by default chosen for the engine.

    Returns
    -------
    PredictResult

    Raises
    ------
    InputError
        If the source does not exist, if it contains no image, two images with the same id or no image that
        can be decoded, or if an option is out of range.
    MatchError
        If the folder contains predictions from another run, or if a model lacks some of the classes.
    UnknownNameError
        If the model or the engine does not exist.
    MissingExtraError
        If a package that the model, the source or the engine needs is not installed.
    SourceLostError
        If the storage stops responding.
    OutputError
        If the disk is full, or the folder cannot be written to.
    """
    if dense and top is not None:
        raise UsageError("`top` and `dense` cannot be combined.", got=f"top={top} and dense")
    names = distinct_models(names_of([model] if isinstance(model, str) else model))
    class_list = open_class_list(classes)
    on_ray = engine_of(engine)
    settings = PredictSettings(
        top=None if dense else top or TOP_CLASSES,
        engine=on_ray or engine,
        engine_options=EngineOptions(precision_of(precision), embeddings, workers, batch),
        shard=_shard(shard),
        classes=class_list,
        model_options=_sentences(names, templates),
    )
    plain = not (dense or embeddings or labels or on_ray)
    if out is None and plain and is_one_image(images):
        return _shown(open_source(images, decoding=decoding), names, settings, top, run)
    out = DEFAULT_FOLDER if out is None else out
    source = open_source(images, labels=labels, decoding=decoding)
    for note in source.notes:
        run.event("note", {"model": "", "text": note})
    done: list[PredictedModel] = []
    failed: dict[str, ManyhotError] = {}
    if on_ray:
        done = run_on_ray(source, names, Path(out), settings, run.call, run.on_event)
    else:
        for outcome in predict_models(source, names, Path(out), settings, run.call, run.on_event):
            if isinstance(outcome, FailedModel):
                failed[outcome.model] = outcome.error
                run.event("failures", {"model": outcome.model, "text": _failure(outcome)})
                continue
            done.append(outcome)
            for note in _label_notes(source, done, class_list) if len(done) == 1 else ():
                run.event("note", {"model": outcome.model, "text": note})
            run.event("done", {"model": outcome.model, "done": outcome})
    written = dict.fromkeys(path for one in done for path in one.files)
    # The tables that the models share come last.
    shared = [path for path in written if path in done[0].shared]
    notes = dict.fromkeys(
        (
            *source.notes,
            *(note for one in done for note in one.notes),
            *_label_notes(source, done, class_list),
        )
    )
    notes |= dict.fromkeys(_failure(FailedModel(*one)) for one in failed.items())
    written_last = (*(p for p in written if p not in shared), *shared)
    return PredictResult(tuple(done), failed, notes=tuple(notes), written=written_last)


def _shown(
    source: ImageSource, names: Sequence[str], settings: PredictSettings, top: int | None, run: Run
) -> PredictResult:
    """Return the answers to one image, which are shown as they come."""
    for note in source.notes:
        run.event("note", {"model": "", "text": note})
    answers = []
    for name in names:
        answers.append(answer_for(source, name, settings, top))
        run.event("answer", {"answer": answers[-1]})
    notes = dict.fromkeys((*source.notes, *(answer.note for answer in answers if answer.note)))
    return PredictResult((), answers=tuple(answers), notes=tuple(notes))


def _failure(failed: FailedModel) -> str:
    return f"{failed.model} failed: {failed.error.in_a_line()}"


def _sentences(names: Sequence[str], templates: PathLike | Sequence[str] | None) -> dict[str, Any]:
    """Return the templates as an option of models, read once for all models and machines."""
    if templates is None:
        return {}
    if not any(name.strip().startswith("open_clip/") for name in names):
        raise UsageError(
            "None of the models compares images with text.",
            got=", ".join(names),
            allowed="`templates` for models named open_clip/ARCH/PRETRAINED",
        )
    return {"templates": read_templates(templates)}


def _label_notes(
    source: ImageSource, done: Sequence[PredictedModel], classes: ClassList | None
) -> Iterator[str]:
    """Yield a note if the images table that was written has no labels, or may have those of other classes."""
    import pyarrow.parquet as pq

    images = next((path for one in done for path in one.files if path.name == IMAGES), None)
    if images is None:
        return
    is_labelled = "label" in pq.read_schema(images).names
    small = list(_small_numbers(images)) if is_labelled and classes is None else []
    if is_labelled and not small:
        return
    first = next(_labels_of_first_part(source), None)
    if is_labelled:
        yield from small if str(first).isdigit() else ()
    elif first in (None, Path(source.uri).name):  # a folder without folders of classes
        no_labels = "the images have no labels; manyhot audit draws a sample of them for people to label"
        yield label_sets_note(source) or no_labels
    else:
        tables = [path for path in done[0].files if path.suffix == ".parquet"]
        own = (class_list_from_metadata(metadata(pq.read_schema(p)), p.name) for p in tables)
        unnamed = any(known is not None and are_numbers(known.keys) for known in own)
        do = (
            "if the model predicts these classes, name them with `classes`, in the order of its outputs"
            if unnamed
            else "manyhot transfer --method probe fits a model of these classes"
        )
        yield (
            f"the images have labels, such as {first}, but these are not "
            f"{'names' if unnamed else 'classes'} of the model and are not written; {do}"
        )


def _labels_of_first_part(source: ImageSource) -> Iterator[str | int | None]:
    """Yield the label of the first image, or the labels of a table, in which this image may be missing."""
    for part in source.parts[:1]:
        yield from part.labels.values() if isinstance(part, Labelled) else (i.label for i, _ in part.items())


def _small_numbers(images: Path) -> Iterator[str]:
    """Yield a note if labels that are numbers reach less than half of the model's classes."""
    import pyarrow.parquet as pq
    from pyarrow import compute as pc

    table = pq.read_table(images, columns=["label"])
    ends = pc.min_max(table["label"])
    low, high = ends["min"].as_py(), ends["max"].as_py()
    known = class_list_of(metadata(table).get("classes", ""))
    if known is not None and high is not None and 2 * (high + 1) <= len(known):
        yield (
            f"the labels are numbers from {low} to {high}, which are read as numbers of the {len(known):,} "
            f"classes of {known.name}, such as {low} for {known.names[low]}; if they number other classes, "
            "pass the list of these as `classes`"
        )


def _shard(text: str) -> tuple[int, int]:
    """Return the index of a shard and the number of shards."""
    index, _, total = text.partition("/")
    if not (index.isdigit() and total.isdigit() and int(index) < int(total)):
        allowed = "I/N with I from 0 to N-1, such as 0/4"
        raise UsageError("The shard does not exist.", got=text, allowed=allowed)
    return int(index), int(total)
