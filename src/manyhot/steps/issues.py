"""Images, predictions, votes and similar images to doubtful labels, missing labels and classes to merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.ensembles import Ensemble
from manyhot.core.issues import Issues, Merges, find_issues, find_merges, uses_probabilities
from manyhot.core.sets import NO_LABEL
from manyhot.errors import InputError
from manyhot.steps.evidence import World
from manyhot.steps.misfits import Misfits
from manyhot.steps.propose import ensemble_of
from manyhot.steps.sets import label_sets, single_labels
from manyhot.tables import Images, Labels, Predictions

KINDS = ("doubtful-label", "missing-label", "merge-classes")
"""What is found."""

COLUMNS = (
    ("kind", pa.string()),
    ("image_id", pa.string()),
    ("class_a", pa.int32()),
    ("class_b", pa.int32()),
    ("dataset", pa.string()),
    ("rank", pa.int32()),
    ("score", pa.float64()),
    ("models", pa.float64()),
    ("neighbours", pa.float64()),
    ("people", pa.float64()),
    ("n_models", pa.int32()),
    ("confident_class", pa.int32()),
    ("together", pa.float64()),
    ("a_as_b", pa.float64()),
    ("b_as_a", pa.float64()),
    ("n_together", pa.int32()),
    ("n_a", pa.int32()),
    ("n_b", pa.int32()),
)
"""The columns of the findings, whose evidence is null where it says nothing."""


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Doubtful labels, missing labels and classes to merge, and what the reader must know about them.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``, worst first within each kind; see the page *Label issues*.
    models : tuple of str
    n, n_skipped : int
        Images with an original label that something is known about; those without.
    notes : tuple of str
    """

    table: pa.Table
    models: tuple[str, ...]
    n: int
    n_skipped: int
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        told = ", ".join(f"{self.count(kind):,} {kind}" for kind in KINDS)
        return f"LabelIssues({told}; {self.n:,} images)"

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can be found: `KINDS`."""
        return KINDS

    def count(self, kind: str) -> int:
        """Return how many findings are of a kind, one of `KINDS`.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        return len(self.of(kind))

    def of(self, kind: str) -> pa.Table:
        """Return the findings of a kind, one of `KINDS`, worst first.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        if kind not in KINDS:
            raise InputError("There is no such kind of issue.", got=kind, allowed=", ".join(KINDS))
        return self.table.filter(pc.equal(self.table["kind"], kind))

    def to_polars(self) -> Any:
        """Return the findings as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)

    @classmethod
    def concat(cls, parts: Sequence[LabelIssues]) -> LabelIssues:
        """Join what was found in several data sets."""
        if len(parts) == 1:
            return parts[0]
        named = [(p.table["dataset"][0].as_py() if len(p) else "", p) for p in parts]
        return cls(
            pa.concat_tables([p.table for p in parts]),
            tuple(dict.fromkeys(m for p in parts for m in p.models)),
            sum(p.n for p in parts),
            sum(p.n_skipped for p in parts),
            tuple(f"{name}: {note}" if name else note for name, p in named for note in p.notes),
        )


def find_label_issues(
    images: Images,
    predictions: Sequence[Predictions],
    *,
    votes: Labels | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    n_classes: int = 0,
    class_hash: str = "",
    doubtful: float = 0.5,
    missing: float = 0.2,
    together: float = 0.7,
    confused: float = 0.2,
    dataset: str = "",
    misfits: Misfits | None = None,
) -> LabelIssues:
    """Rank original labels that are doubtful, labels that are missing, and classes that may be one.

    Parameters
    ----------
    images : Images
        With original labels.
    predictions : sequence of Predictions
        One a model, each of all images. The models must not have been trained on these images: a model knows
        the labels that it learned, wrong ones too. Nothing here can check that.
    votes : Labels, optional
        Label sets that people made of some of the images. Where they were asked about a class they decide.
    similar : pyarrow.Table, optional
        The table ``similar`` of the images, of any class.
    neighbours : Images, optional
        The images that `similar` found, with their labels; `images` by default.
    n_classes, class_hash
        The class list; that of the predictions by default.
    doubtful, missing : float
        As in `manyhot.core.issues.find_issues`.
    together, confused : float
        As in `manyhot.core.issues.find_merges`.
    dataset : str
        The name in the findings.
    misfits : Misfits, optional
        As in `manyhot.steps.evaluate.evaluate`.

    Raises
    ------
    InputError
        If there are no predictions, no original labels, or as the functions above.
    MatchError
        If predictions are over another class list or lack images, or no label set is of these images.
    """
    if not predictions:
        raise InputError(
            "There are no predictions to find label issues with.", do="predict the images with a model"
        )
    n_classes = n_classes or max(p.n_classes for p in predictions)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="give the class list")
    class_hash = class_hash or next((p.class_hash for p in predictions if p.class_hash), "")
    misfits = misfits or Misfits()
    ensemble = _without_fillers(ensemble_of(images, predictions, n_classes, class_hash, votes, misfits))
    notes = [*misfits.notes(), *_notes(ensemble)]
    near, alone = None, None
    if similar is not None:
        near, alone, more = _near(images, similar, neighbours, n_classes)
        notes += more
    found = find_issues(
        ensemble,
        near,
        alone,
        doubtful=doubtful,
        missing=missing,
        name=lambda row: f"image {images.image_id[row]}",
    )
    merges = find_merges(ensemble, together=together, confused=confused)
    if found.n_skipped:
        notes.append(
            f"{found.n_skipped:,} of {len(ensemble):,} images have no original label, or scores that are no "
            "numbers: none of their labels is doubted"
        )
    parts = [
        _image_rows(KINDS[0], images, ensemble, found.doubtful),
        _image_rows(KINDS[1], images, ensemble, found.missing),
        _merge_rows(merges),
    ]
    table = pa.concat_tables([_filled(part, dataset) for part in parts]).combine_chunks()
    return LabelIssues(table, ensemble.names, found.n, found.n_skipped, tuple(notes))


def _notes(ensemble: Ensemble) -> list[str]:
    if uses_probabilities(ensemble):
        return []
    ranks = [m for m, known in zip(ensemble.names, ensemble.probabilities, strict=True) if known is None]
    more = f" and {len(ranks) - 3:,} more" if len(ranks) > 3 else ""
    who = f"{', '.join(ranks[:3])}{more} {'has' if len(ranks) == 1 else 'have'}"
    return [f"{who} no probabilities: the best class of each model counts, and confident learning rests"]


def _without_fillers(ensemble: Ensemble) -> Ensemble:
    """Give the unfilled places of short lists no probability, where the file fills them with -inf."""
    clean = tuple(
        None if p is None else np.where(top < 0, 0, p).astype(p.dtype)
        for top, p in zip(ensemble.top, ensemble.probabilities, strict=True)
    )
    return replace(ensemble, probabilities=clean)


def _near(
    images: Images, similar: pa.Table, searched: Images | None, n_classes: int
) -> tuple[npt.NDArray[np.integer] | None, npt.NDArray[np.bool_], list[str]]:
    """Return labels of similar images, of which images they say nothing, and notes."""
    labels = single_labels(images, n_classes)
    world = World(labels, label_sets(labels), None)
    found = world.neighbours(similar, searched)
    alone = _alone(images, searched or images)
    n = int(np.count_nonzero(alone))
    if found is None or not n:
        return None if found is None else found.classes, alone, world.notes
    said = f"{n:,} of {len(alone):,} images have a label that no other image searched has"
    return found.classes, alone, [*world.notes, f"{said}: neighbours say nothing of it"]


def _alone(images: Images, searched: Images) -> npt.NDArray[np.bool_]:
    """Return which images have a label that no other of the images searched has, shape (n,)."""
    label, there = pc.fill_null(images.label, NO_LABEL), pc.fill_null(searched.label, NO_LABEL)
    own = pc.fill_null(there.take(pc.index_in(images.image_id, searched.image_id)), NO_LABEL)
    known = [y.to_numpy(zero_copy_only=False) for y in (label, there, own)]
    count = np.bincount(known[1] + 1, minlength=int(known[0].max()) + 2)[known[0] + 1]
    alone: npt.NDArray[np.bool_] = (known[0] != NO_LABEL) & (count == (known[2] == known[0]))
    return alone


def _image_rows(kind: str, images: Images, ensemble: Ensemble, found: Issues) -> dict[str, pa.Array]:
    label = ensemble.label[found.image]
    return {
        "kind": pa.repeat(kind, len(found)),
        "image_id": images.image_id.take(pa.array(found.image)),
        "class_a": _classes(label),
        "class_b": _classes(found.class_id),
        "rank": pa.array(np.arange(1, len(found) + 1, dtype=np.int32)),
        "score": _numbers(found.score),
        "models": _numbers(found.models),
        "neighbours": _numbers(found.neighbours),
        "people": _numbers(found.people),
        "n_models": pa.array(found.n_models.astype(np.int32)),
        "confident_class": _classes(found.confident),
    }


def _merge_rows(found: Merges) -> dict[str, pa.Array]:
    return {
        "kind": pa.repeat(KINDS[2], len(found)),
        "class_a": _classes(found.a),
        "class_b": _classes(found.b),
        "rank": pa.array(np.arange(1, len(found) + 1, dtype=np.int32)),
        "score": _numbers(found.score),
        "together": _numbers(found.together),
        "a_as_b": _numbers(found.a_as_b),
        "b_as_a": _numbers(found.b_as_a),
        **{name: pa.array(getattr(found, name).astype(np.int32)) for name in ("n_together", "n_a", "n_b")},
    }


def _filled(columns: dict[str, pa.Array], dataset: str) -> pa.Table:
    n = len(columns["kind"])
    columns["dataset"] = pa.repeat(pa.scalar(dataset, pa.string()), n)
    arrays = [columns.get(name, pa.nulls(n, kind)).cast(kind) for name, kind in COLUMNS]
    return pa.table(arrays, names=[name for name, _ in COLUMNS])


def _classes(values: npt.NDArray[np.integer]) -> pa.Array:
    return pa.array(values.astype(np.int32), mask=values == NO_LABEL)


def _numbers(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))
