"""Prediction files that are skipped, with the reasons: unreadable, or not matching the data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa

from manyhot.errors import InputError, MatchError
from manyhot.tables import Predictions, count_shared
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import AUTO, Renamed, ids_like, missed_way
from manyhot.tables.label_arrays import positions

_Fitted = TypeVar("_Fitted")


@dataclass
class SkippedFiles:
    """Prediction files that cannot be read or do not match the data.

    If several files are passed, unusable ones are skipped, and the reason is recorded. If only one file is
    passed, its error is raised. If no file remains, the first error is raised.

    Attributes
    ----------
    n_files : int
        Number of all files; 1 if none may be skipped.
    errors : dict of str to InputError
        The reason for each skipped file, in order of occurrence.
    remarks : list of str
        What was assumed when the files were read.
    matched : dict of tuple of str to Renamed
        How ids were matched, by the name of the data set and of the table or model that writes them
        differently.
    """

    n_files: int = 1
    errors: dict[str, InputError] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    matched: dict[tuple[str, str], Renamed] = field(default_factory=dict)
    _noted: int = 0
    _noted_matched: int = 0

    @classmethod
    def among(cls, files: Sequence[Path], *, strict: bool) -> Self:
        """Return a record without skipped files; if `strict`, none may be skipped."""
        return cls(1 if strict else len(files))

    def skip(self, name: str, error: InputError) -> None:
        """Skip a file, or raise the error if it is the only one."""
        if self.n_files < 2:
            raise error
        self.errors.setdefault(name, error)

    def check_left(self, n: int) -> None:
        """Raise the first error if no file is left."""
        if not n and self.errors:
            raise next(iter(self.errors.values()))

    def reading(self, files: Iterable[Path], read: Callable[[Path], Predictions]) -> Iterator[Predictions]:
        """Yield the predictions of files, one at a time, without skipped ones.

        Raises
        ------
        InputError
            If no file can be read.
        """
        n = 0
        for file in files:
            if (known := self.errors.get(str(file))) is not None:
                self.skip(str(file), known)  # which raises it if the caller has decided to skip none
                continue
            try:
                predictions = read(file)
            except InputError as error:
                self.skip(str(file), error)
                continue
            n += 1
            yield predictions
        self.check_left(n)

    def matching(
        self, models: Iterable[Predictions], ids: pa.Array, name: str, match: str = AUTO
    ) -> Iterator[Predictions]:
        """Yield predictions with the ids that a data set, called `name`, uses for the same images.

        Raises
        ------
        InputError
            As in `manyhot.tables.image_ids.match_ids`, if there is only one file.
        """
        last: tuple[pa.Array, Renamed] | None = None
        for model in models:
            note = _note_on_nothing(model)
            self.remarks += [note] * (bool(note) and note not in self.remarks)
            if last is None or not last[0].equals(model.image_id):
                try:
                    if match == AUTO:
                        _check_named(model, ids, name)
                    like = ids_like(model.image_id, ids, name=model.model, other_name=name, match=match)
                except InputError as error:
                    self.skip(model.source or model.model, error)
                    continue
                is_open = match == AUTO and not like.n and not ids.equals(model.image_id)
                if is_open and (way := missed_way(ids, model.image_id)):
                    self.remarks.append(f"{model.model}: {way}")
                last = model.image_id, like
            self.add_matched(name, model.model, last[1])
            yield replace(model, image_id=last[1].ids) if last[1].n else model

    def new(self) -> list[tuple[str, str]]:
        """Return the files skipped since the last call, each with the text of its note."""
        since = list(self.errors.items())[self._noted :]
        self._noted += len(since)
        return [(name, f"skipped: {error.in_a_line(name)}") for name, error in since]

    def new_matched(self) -> list[tuple[str, int, str]]:
        """Return models with differing ids that are new since the last call: name, number of ids, note."""
        since = list(self.matched.items())[self._noted_matched :]
        self._noted_matched += len(since)
        return [(name, like.n, like.text) for (_, name), like in since]

    def add_matched(self, dataset: str, name: str, like: Renamed) -> None:
        """Add a note if a table or a model writes the ids of a data set differently."""
        if like.n:
            self.matched.setdefault((dataset, name), like)

    def notes(self, dataset: str = "") -> list[str]:
        """Return the new remarks, and the results of `new_matched` and `new`, as notes of a data set."""
        matched = ((name, text) for name, _, text in self.new_matched())
        new = [*(("", text) for text in self.new_remarks()), *matched, *self.new()]
        return [": ".join(filter(None, (dataset, name, text))) for name, text in new]

    def new_remarks(self) -> list[str]:
        """Return the remarks since the last call."""
        remarks, self.remarks = self.remarks, []
        return remarks


def _note_on_nothing(model: Predictions) -> str:
    """Return how many images a model lists no class for; empty if there are none."""
    n = 0 if model.classes is None else int(np.count_nonzero(model.classes[:, 0] < 0))
    if not n:
        return ""
    return (
        f"{model.model} lists no class for {n:,} of {len(model):,} images; metrics of the top class count "
        "an empty list as a wrong answer"
    )


def _check_named(model: Predictions, ids: pa.Array, name: str) -> None:
    """Raise an error for an array beside a table with ids: row 5 is not the image ``5.jpg``."""
    n = len(model)
    if model.source or not model.image_id.equals(positions(n)):
        return
    # Of the ids 000 to 199, half are equal to positions by chance.
    if count_shared(ids, model.image_id) < min(n, len(ids)):
        raise MatchError(
            "The labels have image ids, but the rows of an array have none.",
            where=f"{model.model}, compared with {name}",
            got=f"{n:,} rows",
            allowed=f"ids such as {examples(ids)}",
            do="pass the ids of the rows as `rows`, or a frame with these ids as its index, or labels as "
            "an array in the same order",
        )


def fitting_models(
    predictions: Iterable[Predictions],
    fit: Callable[[Predictions], _Fitted],
    misfits: SkippedFiles | None = None,
) -> Iterator[tuple[Predictions, _Fitted]]:
    """Yield each model with the result of `fit`, and skip models for which `fit` raises an error.

    Parameters
    ----------
    predictions : iterable of Predictions
    fit : callable
        Raises an `InputError` if a model does not match the data.
    misfits : SkippedFiles, optional
        Collects skipped models. Without it, the first error is raised.

    Raises
    ------
    InputError
        If no model matches.
    MatchError
        If two models have the same name, which is ambiguous.
    """
    misfits, names = misfits or SkippedFiles(), set[str]()
    for model in predictions:
        check_other_name(model, names)
        try:
            fitted = fit(model)
        except InputError as error:
            misfits.skip(model.source or model.model, error)
            continue
        names.add(model.model)
        yield model, fitted
        del model, fitted  # before the next one is read: dense scores are large
    misfits.check_left(len(names))


def check_other_name(predictions: Predictions, names: Collection[str]) -> None:
    """Check that the name of a model differs from the names of earlier ones.

    Raises
    ------
    MatchError
        If the name is among `names`.
    """
    if predictions.model in names:
        raise MatchError(
            "Two models have the same name.",
            where=predictions.source or None,
            got=predictions.model,
            do="rename the file; if the file itself names its model: manyhot convert FILE NEW.parquet "
            "--model NAME",
        )
