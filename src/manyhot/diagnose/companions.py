"""Which classes are valid together, and whose recall hangs on a companion.

Published data, campaigns or files in; which classes hang on which companions, out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.classes import ClassList, class_list_of
from manyhot.core.cooccurrence import Beside, ClassPairs, difference_of_means, permutation_p
from manyhot.core.resampling import holm
from manyhot.diagnose.page import write_diagnosis
from manyhot.errors import InputError
from manyhot.evaluate.inputs import Asked, sources
from manyhot.evaluate.judge import check_order
from manyhot.evaluate.slices import case_of
from manyhot.files import sha256
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.registry import register
from manyhot.report.chapter import Chapter, Row, Tables, in_points, listing, percent, rows_of
from manyhot.report.listings import Head
from manyhot.report.words import called, counted
from manyhot.tables import Images, Labels, Predictions, align, check_same_classes, schema
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

Columns = Mapping[str, Any]


Floats = npt.NDArray[np.float64]


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Companions:
    """Pairs of classes that are valid together, and what the one does to the recall of the other.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``companions``; see `manyhot.tables.TABLES`.
    notes : tuple of str
        What the reader must know.
    least : int
        Images with both from which on a pair is tested.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()
    least: int = 25

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The ordered pairs (main, companion) with images enough to test."""
        of = self.table.select(["main", "companion", "both"]).to_pydict()
        found = zip(*of.values(), strict=True)
        return list(dict.fromkeys((a, b) for a, b, both in found if both >= self.least))

    @classmethod
    def concat(cls, parts: Sequence[Companions]) -> Companions:
        """Join those of several data sets."""
        notes = tuple(dict.fromkeys(note for p in parts for note in p.notes))
        return cls(pa.concat_tables([p.table for p in parts]), notes, parts[0].least)


def diagnose_companions(
    labels: Labels,
    predictions: Predictions | Iterable[Predictions],
    *,
    k: int = 5,
    probability: float | None = None,
    least: int = 25,
    labelled: bool = False,
    unasked: bool = False,
    images: Images | None = None,
    classes: ClassList | None = None,
    dataset: str = "",
    trust_order: bool = False,
    misfits: SkippedFiles | None = None,
    progress: Progress | None = None,
) -> Companions:
    """Measure the recall of each class with and without each companion.

    Parameters
    ----------
    labels : Labels
    predictions : Predictions or iterable of Predictions
    k : int
        A class is found if it is among the best k. The same k everywhere: with as many as the label set holds
        a class would be found more easily beside companions, with one it would have to be before them.
    probability : float, optional
        A class is found if it has at least this probability instead, as for sigmoids; models without
        probabilities of all classes are left out with a note.
    least : int
        Pairs are tested, and told for each model, if both are valid on so many images.
    labelled : bool
        Look for a class only in images whose original label it is.
    unasked : bool
        Count an image as one without a companion that nobody was asked about.
    images : Images, optional
        Original labels where `labels` has none.
    classes : ClassList, optional
        Gives names; by default the list that the labels name, and else class ids stand for names.
    dataset, trust_order
        As in `manyhot.evaluate`.
    misfits : Misfits, optional
        As in `manyhot.evaluate.judge.evaluate`.
    progress : callable, optional
        Called with the model, how many are judged, and 0.

    Raises
    ------
    InputError
        If no model is left, k or another option is out of range, or original labels are wanted and missing.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    labels = labels if images is None else labels.with_labels(images)
    known = classes or class_list_of(labels.class_hash)
    judge = _Judge(
        labels,
        list(known.names) if known else [str(i) for i in range(labels.n_classes)],
        dataset or labels.name or "labels",
        k,
        probability,
        least,
        labelled,
        unasked,
        trust_order,
    )
    misfits = misfits or SkippedFiles()
    models = [predictions] if isinstance(predictions, Predictions) else predictions
    for model, seen in fitting_models(models, judge.look, misfits):
        judge.add(model, *seen)
        if progress:
            progress(model.model, len(judge.models), 0)
    done = judge.finish()
    return replace(done, notes=(*done.notes, *misfits.notes(judge.dataset)))


@dataclass
class _Judge:
    """Adds up what each model finds. The parameters are those of `diagnose_companions`."""

    labels: Labels
    names: Sequence[str]
    dataset: str
    k: int
    probability: float | None
    least: int
    labelled: bool
    unasked: bool
    trust_order: bool
    models: list[str] = field(default_factory=list)
    _without: list[str] = field(default_factory=list)
    _parts: list[Columns] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check(self.k, self.labels.n_classes, self.probability, self.least)
        self.sets = label_sets(self.labels)
        if self.labelled and not self.sets.labelled.any():
            raise InputError(
                "The images have no original labels to look for.",
                where=self.labels.name or None,
                do="give them: --images FILE, with the column 'label'; or leave --labelled out",
            )
        self.together = ClassPairs.of(self.sets)
        self.pairs = _ordered(self.together, self.names)
        main, companion = self.pairs["main"], self.pairs["companion"]
        self.tested = self.pairs["both"] >= self.least
        self.beside = Beside.of(self.sets, main, companion, labelled=self.labelled, rest=self.unasked)
        self.few = replace(self.beside, main=main[self.tested], companion=companion[self.tested])
        # Of all models: how many found each class of each image, and whether all were asked.
        self._found = np.zeros(len(self.beside.rows))
        self._known = np.ones(len(self.beside.rows), bool)

    def add(self, model: Predictions, found: Floats | None, known: npt.NDArray[np.bool_]) -> None:
        if found is None:
            self._without.append(model.model)
            return
        self.models.append(model.model)
        self._found += found
        self._known &= known
        told = {name: values[self.tested] for name, values in self.pairs.items()}
        measured = _measured(self.few, found, known, self.tested[self.tested])
        self._parts.append({**told, **measured, "model": model.model, "n_models": 1})

    def finish(self) -> Companions:
        if not self.models:
            raise InputError(
                "No model tells what it finds.",
                got=", ".join(self._without[:5]) or "no predictions",
                allowed="probabilities, or logits, of all classes",
                do="leave the probability out: the best k classes are looked at then",
            )
        mean = _measured(self.beside, self._found / len(self.models), self._known, self.tested)
        about = {"model": None, "n_models": len(self.models)}
        table = pa.concat_tables(
            [_table(p, self.dataset) for p in ({**self.pairs, **mean, **about}, *self._parts)]
        )
        return Companions(table, tuple(self._notes()), self.least)

    def _notes(self) -> Iterator[str]:
        if not self.sets.asked_known:
            yield (
                f"{self.dataset}: only valid classes are recorded: where a companion is not among them, "
                "nobody may have been asked about it"
            )
        if self.k == 1 and self.probability is None:
            yield "with k = 1 a class must be before its companion: recall is lower beside it by itself"
        if self._without:
            yield f"{self.dataset}: without probabilities of all classes, and left out: {_few(self._without)}"
        if unknown := int(np.count_nonzero(~self._known)):
            yield (
                f"{self.dataset}: {unknown:,} of {len(self._known):,} valid classes are in no mean: a "
                f"model has no prediction of the image, or fewer than {self.k:,} classes"
            )
        if not self.tested.any():
            most = int(self.pairs["both"].max(initial=0))
            yield f"{self.dataset}: no two classes are valid on {self.least:,} images; the most are {most:,}"

    def look(self, model: Predictions) -> tuple[Floats | None, npt.NDArray[np.bool_]]:
        """Return what is found of what is looked for, and whether the model tells; None if it never does."""
        check_same_classes(self.labels, model)
        name = self.labels.name or "the labels"
        alignment = align(self.labels.image_id, model.image_id, left_name=name, right_name=model.model)
        sets = self.sets if not alignment.left_only else self.sets.take(alignment.left)
        case = case_of(sets, model, alignment, self.k)
        if not self.trust_order:
            check_order(case, model, alignment)
        place = np.full(len(self.sets), -1)
        place[alignment.left] = np.arange(len(alignment.left))
        row = place[self.beside.rows]
        known = row >= 0
        if self.probability is None:
            top = case.top[:, : self.k]
            known &= case.reaching(self.k, np.ones(len(top), bool))[row]
            hit = (top[row] == self.beside.classes[:, None]).any(axis=1)
        elif case.has_probabilities:
            hit = case.probability_of(row, self.beside.classes) >= self.probability
        else:
            return None, known
        return (hit & known).astype(float), known


def _check(k: int, n_classes: int, probability: float | None, least: int) -> None:
    if not 1 <= k < n_classes:
        raise InputError("This k finds every class, or none.", got=k, allowed=f"1 to {n_classes - 1:,}")
    if probability is not None and not 0 < probability <= 1:
        raise InputError("This is no probability to reach.", got=probability, allowed="above 0, up to 1")
    if least < 1:
        raise InputError("Pairs are tested on images.", got=f"at least {least}", allowed="1 and up")


def _ordered(pairs: ClassPairs, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return columns of all pairs in both orders, by class and companion."""
    main, companion = np.concatenate([pairs.a, pairs.b]), np.concatenate([pairs.b, pairs.a])
    order, of = np.lexsort((companion, main)), np.tile(np.arange(len(pairs.a)), 2)
    text = np.asarray(names, object)
    columns = {"main": main, "companion": companion}
    columns |= {"main_name": text[main], "companion_name": text[companion]}
    columns["both"] = pairs.both[of]
    for name, bounds in (("lift", pairs.lift()), ("odds_ratio", pairs.odds_ratio())):
        columns |= {f"{name}{end}": v[of] for end, v in zip(("", "_lo", "_hi"), bounds, strict=True)}
    return {name: values[order] for name, values in columns.items()}


def _measured(
    beside: Beside, values: Floats, known: npt.NDArray[np.bool_], tested: npt.NDArray[np.bool_]
) -> Columns:
    """Return columns of recall with and without, and of their difference."""
    values = np.where(known, values, 0)
    n, sums, squares, cubes = (beside.sums(v) for v in (known.astype(float), values, values**2, values**3))
    value, lo, hi = difference_of_means(n, sums, squares)
    p = permutation_p(n, sums, np.stack([squares.sum(axis=0), cubes.sum(axis=0)]))
    with np.errstate(invalid="ignore"):
        recall = sums / n
    adjusted = holm(np.where(tested, p, np.nan))
    columns = {
        "recall_with": recall[0],
        "recall_without": recall[1],
        "diff": value,
        "lo": lo,
        "hi": hi,
        "p": p,
    }
    columns |= {"n_with": n[0].astype(np.int64), "n_without": n[1].astype(np.int64)}
    return columns | {"p_adjusted": pa.array(adjusted, mask=np.isnan(adjusted))}


def _table(columns: Columns, dataset: str) -> pa.Table:
    n, given = len(columns["both"]), {**columns, "dataset": dataset}

    def column(value: Any, kind: pa.DataType) -> pa.Array:
        alone = value is None or isinstance(value, str | int)
        return pa.repeat(pa.scalar(value, kind), n) if alone else pa.array(value).cast(kind)

    of = schema("companions")
    return pa.table([column(given[f.name], f.type) for f in of], schema=of)


def _few(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def diagnose_companions_files(
    source: PathLike,
    out: PathLike = "companions",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    k: int = 5,
    probability: float | None = None,
    least: int = 25,
    labelled: bool = False,
    unasked: bool = False,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Companions, list[Path]]:
    """Measure recall with and without each companion, and write it as the table ``companions``.

    Parameters
    ----------
    source, predictions, models, rows, images, classes
        As in `manyhot.diagnose_errors_files`.
    out : path-like
        The folder that the table is written into, as Parquet and CSV, and a page of all diagnoses there.
    k, probability, least, labelled, unasked, trust_order
        As in `manyhot.diagnose_companions`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    files = (rows, images, classes)
    check_apart([source, *predictions, *files], out, ("companions",))
    check_place(out / "companions.parquet", "companions")
    asked = Asked(predictions, models, rows, images, classes, progress)
    found: list[Companions] = []
    inputs = {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    for part in sources(source, asked):
        judged = diagnose_companions(
            part.sets(),
            part.models(),
            k=k,
            probability=probability,
            least=least,
            labelled=labelled,
            unasked=unasked,
            images=part.images,
            classes=part.classes,
            dataset=part.name,
            trust_order=trust_order,
            misfits=part.misfits,
            progress=progress,
        )
        found.append(judged)
        inputs |= part.inputs
    done = Companions.concat(found)
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "least": str(least)}
    about["found"] = f"among the best {k}" if probability is None else f"probability >= {probability:g}"
    about |= {"labelled": json.dumps(labelled), "unasked": json.dumps(unasked)}
    path = out / "companions.parquet"
    written = [tables.write(done.table, path, "companions", call=call, inputs=inputs, about=about)]
    written.append(write_csv(done.table, path.with_suffix(".csv")))
    return done, [*written, write_diagnosis(out)]


@register("chapter", "companions")
def _companions(found: Tables, folder: Path, draw: bool) -> Chapter | None:
    rows = rows_of(found, "companions")
    if not rows:
        return None
    tested = [r for r in rows if r["model"] is None and r["p_adjusted"] is not None]
    means = sorted(tested, key=lambda r: (r["p_adjusted"], -abs(r["diff"])))
    heads = (
        Head("Class", number=False),
        Head("Companion", number=False),
        Head("Data set", number=False),
        Head("Images with both"),
        Head("Lift", title="How many times as often together as by chance"),
        Head("Recall with"),
        Head("Recall without"),
        Head("Difference, points"),
        Head("p adjusted"),
    )
    lead = (
        "How often a class is found where another is valid beside it, and where not. A difference does not "
        "prove that a model looks at the companion: pictures with it differ in other ways, too. It says what "
        "to test.",
        *_without_comparison(found["companions"], len(tested)),
    )
    table = listing("recall-by-companion", "Recall by companion", heads, means, _companion)
    return Chapter("companions", "Companions", "Whose recall hangs on what", lead, (), (table,))


def _without_comparison(table: pa.Table, n_tested: int) -> tuple[str, ...]:
    """Return how many pairs on enough images could not be tested."""
    least = int(tables.metadata(table).get("least", 0))
    rows = (r for r in table.to_pylist() if r["model"] is None and r["n_models"])
    n = sum(r["both"] >= least for r in rows) - n_tested if least else 0
    if not n:
        return ()
    return (f"{counted(n, 'pair')} not testable, for want of images with the companion, or without it.",)


def _companion(r: Row) -> tuple[str, ...]:
    p = r["p_adjusted"]
    return (
        r["main_name"],
        r["companion_name"],
        called(r["dataset"]),
        f"{r['both']:,}",
        f"{r['lift']:,.1f}",
        percent(r["recall_with"]),
        percent(r["recall_without"]),
        in_points(r["diff"], r["lo"], r["hi"]),
        "" if p is None or p != p else ("<0.001" if p < 0.001 else f"{p:.3f}"),
    )
