"""Predictions that cannot be judged: among several files they are skipped, and named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from manyhot.errors import InputError, MatchError
from manyhot.tables import Predictions

_Fitted = TypeVar("_Fitted")


@dataclass
class SkippedFiles:
    """Files of predictions that cannot be read, or do not fit what they are judged on.

    Among several files, each of these is skipped with its reason. If it is the only file, or none is left,
    its error is raised.

    Attributes
    ----------
    n_files : int
        The number of files.
    errors : dict of str to InputError
        Why a file is skipped, in the order of discovery.
    """

    n_files: int = 1
    errors: dict[str, InputError] = field(default_factory=dict)
    _noted: int = 0

    def skip(self, name: str, error: InputError) -> None:
        """Leave out a file, or raise the error where it is the only one."""
        if self.n_files < 2:
            raise error
        self.errors.setdefault(name, error)

    def check_left(self, n: int) -> None:
        """Raise the first error where no file is left."""
        if not n and self.errors:
            raise next(iter(self.errors.values()))

    def reading(self, files: Iterable[Path], read: Callable[[Path], Predictions]) -> Iterator[Predictions]:
        """Yield the predictions of files, one after another, except those that are skipped.

        Raises
        ------
        InputError
            None can be read.
        """
        n = 0
        for file in files:
            if str(file) in self.errors:
                continue
            try:
                predictions = read(file)
            except InputError as error:
                self.skip(str(file), error)
                continue
            n += 1
            yield predictions
        self.check_left(n)

    def left(self, files: Iterable[Path]) -> list[Path]:
        """Return the files that are not skipped."""
        return [file for file in files if str(file) not in self.errors]

    def new(self) -> list[tuple[str, str]]:
        """Return each file that was skipped since the last call, and why, as the text of a note."""
        since = list(self.errors.items())[self._noted :]
        self._noted += len(since)
        return [(name, f"skipped: {error.in_a_line(name)}") for name, error in since]

    def notes(self, dataset: str = "") -> list[str]:
        """Return what `new` does as notes of a data set."""
        return [": ".join(filter(None, (dataset, name, text))) for name, text in self.new()]


def fitting_models(
    predictions: Iterable[Predictions],
    fit: Callable[[Predictions], _Fitted],
    misfits: SkippedFiles | None = None,
) -> Iterator[tuple[Predictions, _Fitted]]:
    """Yield models with what `fit` returns for each, except those that it refuses.

    Parameters
    ----------
    predictions : iterable of Predictions
    fit : callable
        Raises an `InputError` where a model does not fit.
    misfits : Misfits, optional
        Collects what is skipped; without it, the first error is raised.

    Raises
    ------
    InputError
        None fits.
    MatchError
        Two models have the same name.
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
    misfits.check_left(len(names))


def check_other_name(predictions: Predictions, names: Collection[str]) -> None:
    """Refuse a second model of the same name.

    Raises
    ------
    MatchError
    """
    if predictions.model in names:
        raise MatchError(
            "Two models have the same name.",
            where=predictions.source or None,
            got=predictions.model,
            do="rename the file, or the model in its metadata",
        )
