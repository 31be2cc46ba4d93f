"""How many answers decide a question: `manyhot plan`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.audit_designs import PAIR
from manyhot.core.audit_plans import (
    decided,
    detectable,
    error_for_difference,
    images_for_share,
    power_of,
)
from manyhot.core.resampling import QUANTILE
from manyhot.data.inputs import READING, Reading
from manyhot.errors import MissingExtraError, UsageError
from manyhot.formats.writing import PathLike
from manyhot.parameters import AtLeast, Between, Count, Positional, Positive, Probability, Shown, check_one_of
from manyhot.reassess.pilots import Pilot, PlannedDesign, UnansweredImages, read_pilot
from manyhot.reassess.plan_notes import AS_GOOD, PlanGoal, plan_notes
from manyhot.reassess.propose import RATERS, SECONDS
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import DESCRIPTION, Row, schema
from manyhot.tables.definitions import COUNT, REAL, TEXT, declare_table

ProposedBy = Literal["models", "labels"]

POWER = 0.8

USUAL = 0.8
"""Share of the audits between whose widths a planned one is."""

MOST_LINES = 12
"""Points of a curve."""

_DESIGN = (
    TEXT("question", "accuracy, or difference of two models"),
    TEXT("design", "as for manyhot audit"),
    TEXT("estimator", "ppi++, or sample for the audited images alone, without proposed label sets"),
    COUNT("images", "number of images that people label in each data set"),
)
_PRECISION = (
    REAL("half_width", "half-width of the 95 % interval, for the model or pair with the widest interval"),
    REAL.nullable("share", "for ranks: expected share of the pairs of models with a clear difference"),
    REAL.nullable("power", "for a difference: probability that its interval does not contain 0"),
)

declare_table(
    "plan",
    (
        *_DESIGN,
        COUNT("n_images", "images of the data set"),
        REAL("questions", "questions about these images"),
        REAL("answers", "answers of all raters"),
        REAL("hours", "hours of all raters"),
        *_PRECISION,
        REAL.nullable(
            "half_width_low", "after a pilot: lower end of the range of the half-width in 80 % of such audits"
        ),
        REAL.nullable(
            "half_width_high",
            "after a pilot: upper end of the range of the half-width in 80 % of such audits",
        ),
        REAL.nullable("detectable", "smallest difference that is detected with the requested power"),
    ),
)
declare_table("plan_curve", (*_DESIGN, *_PRECISION))


@dataclass(frozen=True, eq=False)
class AuditPlan(Result):
    """The number of images that people must label with each design.

    Attributes
    ----------
    plan, curve : pyarrow.Table
        The table ``plan`` has a row for each design, the design with the fewest images first. The table
        ``plan_curve`` has the precision for different numbers of images.
    goal : str
        The goal of the plan, as a sentence.
    source : str
        Where the variances come from.
    command : str
        The command that draws the images of the first row.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("plan", "plan_curve")
    DRAWS: ClassVar[bool] = True

    plan: pa.Table
    curve: pa.Table
    goal: str
    source: str
    command: str

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {"plan": self.plan, "plan_curve": self.curve}

    def to_json(self) -> dict[str, Any]:
        """Return the tables, the goal, the source of the variances, the command and the notes."""
        about = {"goal": self.goal, "source": self.source, "command": self.command}
        return {**super().to_json(), **about}

    def lines(self) -> Iterator[str]:
        """Yield the goal, the numbers of images by design, and the command."""
        yield f"{self.goal}; variances: {self.source}"
        rows = self.plan.to_pylist()
        width = "95 %" if rows[0]["half_width_low"] is None else "95 % (8 of 10 audits)"
        head = ["design", "estimator", "images", "questions", "answers", "hours", width]
        cells = [_cells(row) for row in rows]
        for name, column in (("share", "clear pairs"), ("detectable", "detects")):
            if any(row[name] is not None for row in rows):
                head.append(column)
                cells = [(*c, _percent(row[name])) for c, row in zip(cells, rows, strict=True)]
        yield from table_lines(tuple(head), cells)
        yield f"next: {self.command}"

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the tables, and draw the curves if the extra ``report`` is installed."""
        from manyhot.reassess.plan_figure import plan_figure
        from manyhot.report.export import save_figures

        written = super().write(out, run=run)
        try:
            return [*written, *save_figures([plan_figure(self.curve, self.goal)], Path(out) / "figures")]
        except MissingExtraError:
            return written


@command(
    "plan",
    examples=(
        "manyhot plan --width 0.02",
        "manyhot plan --difference 0.03 --power 0.9 --raters 3",
        "manyhot plan --hours 16 --raters 1 --seconds 4",
        "manyhot plan predictions --hours 8",
        "manyhot plan audit --difference 0.02 --models resnet50 --models vit",
    ),
)
def plan_audit(
    pilot: Annotated[PathLike | None, Positional(), Shown("FOLDER")] = None,
    *,
    width: Annotated[float | None, Between(0, 0.5, "()")] = None,
    difference: Annotated[float | None, Between(0, 1, "()")] = None,
    drop: Annotated[float | None, Between(0, 1, "()")] = None,
    ranks: Annotated[float | None, Between(0, 1, "()")] = None,
    hours: Positive | None = None,
    power: Annotated[float, Between(0.5, 1, "()")] = POWER,
    n_images: Annotated[int | None, AtLeast(100)] = None,
    n_models: Annotated[int | None, AtLeast(2)] = None,
    accuracy: Annotated[float | None, Between(0, 1, "()")] = None,
    differing: Probability | None = None,
    proposed_by: ProposedBy = "models",
    questions: Positive | None = None,
    raters: Count = RATERS,
    seconds: Positive = SECONDS,
    reading: Reading = READING,
    run: Run = QUIET,
) -> AuditPlan:
    """Compute how many images people must label to decide a question, and how many hours this takes.

    Ask exactly one question, by passing a width, a difference, a drop, ranks, or the available hours. Shares
    are from 0 to 1: 0.02 is 2 points.

    Parameters
    ----------
    pilot
        Folder of an audit whose answers were aggregated (labels.parquet); variances are estimated from these
        answers. Any other data set, such as a folder of photographs or one that manyhot predict wrote,
        provides only the number of images and the disagreement between models. The variances are then those
        of 67 published models and ReaL's answers.
    width
        Half-width of the interval for the accuracy of a model on label sets (real1).
    difference
        True difference between the accuracies of two models (or of each pair of models in the pilot) that the
        audit must detect with the requested power.
    drop
        True difference between the accuracies of one model on two data sets that the audits must detect, one
        audit per data set.
    ranks
        To rank many models: expected share of pairs of models with a clear difference.
    hours
        Total working hours of all raters, to compute what can be detected in this time.
    power
        Probability that the difference is detected, that is, that its 95 % interval excludes 0.
    n_images
        Number of images of the data set; by default that of the pilot or the folder, or 50,000.
    n_models
        Without a pilot: number of models that propose label sets (the nearest of 2, 3, 10 and 67 is used); by
        default, the number of models in the folder or, if there are none, 10 for ranks and 3 for other
        questions.
    accuracy
        Without a pilot: expected accuracy of the model; 0.83 by default.
    differing
        Without a pilot: share of the images on which the top classes of the two models differ. It is known
        before raters answer. By default, the largest such share among the models in the folder, or 0.22.
    proposed_by
        Where the proposed label sets come from: labels (original labels), or models (for each model, the
        classes that most of the other models predict).
    questions
        Number of questions per image. By default, it is computed from the pilot or from the models in the
        folder or, without these, from the same number of models on ReaL's images.
    raters
        Number of answers per question.
    seconds
        Seconds per question; the default is an assumption.
    reading
        Options for reading the files of the pilot.

    Returns
    -------
    AuditPlan

    Raises
    ------
    UsageError
        If there is no question, or more than one.
    InputError
        If the pilot is not an audit, or has too few answers.
    """
    goal, value = _goal(width=width, difference=difference, drop=drop, ranks=ranks, hours=hours)
    check_one_of(
        proposed_by, get_args(ProposedBy), "Nothing else proposes label sets.", where="`proposed_by`"
    )
    if pilot is None or _is_unanswered(pilot):
        images = UnansweredImages() if pilot is None else UnansweredImages.read(pilot, reading, run)
        n_models = n_models or len(images.models) or (10 if goal == "ranks" else 3)
        basis = images.pilot(n_models, accuracy, differing, proposed_by)
    else:
        _check_pilot_alone(n_models=n_models, accuracy=accuracy, differing=differing)
        basis = read_pilot(pilot, proposed_by, reading, run)
    basis = replace(basis, n_images=n_images or basis.n_images, questions=questions or basis.questions)
    cost = _Cost(basis.questions, raters, seconds)
    asked = _Asked(goal, value, power)
    arms = _arms(asked, basis)
    rows = sorted((_row(asked, arm, basis, cost) for arm in arms), key=_order)
    curve = [row for arm in arms for row in _curve(asked, arm, basis)]
    return AuditPlan(
        pa.Table.from_pylist(rows, schema=schema("plan")),
        pa.Table.from_pylist(curve, schema=schema("plan_curve")),
        asked.sentence(basis),
        basis.source,
        _next(asked, _simplest(rows), basis, pilot, raters),
        notes=tuple(plan_notes(goal, arms, rows, basis)),
        metadata={"goal": goal, "value": repr(value), "power": repr(power), "source": basis.source},
        inputs=basis.inputs,
    )


def _is_unanswered(place: PathLike) -> bool:
    """Return whether this is a data set and not the campaign of an audit."""
    return not (Path(place) / DESCRIPTION).is_file()


@dataclass(frozen=True)
class _Cost:
    """What an image costs."""

    questions: float
    raters: int
    seconds: float

    @property
    def hours(self) -> float:
        return self.questions * self.raters * self.seconds / 3600

    def of(self, n: int) -> dict[str, float]:
        """Return the numbers of questions, answers and hours for n images."""
        asked = n * self.questions
        return {"questions": asked, "answers": asked * self.raters, "hours": n * self.hours}


@dataclass(frozen=True)
class _Asked:
    """The question of a plan."""

    goal: PlanGoal
    value: float
    power: float

    def sentence(self, basis: Pilot) -> str:
        """Return the question in words."""
        points, on = f"{100 * self.value:.3g} points", f"on {basis.n_images:,} images"
        sure = f"detected with a power of {self.power:.0%}"
        return {
            "width": f"accuracy of a model {on}, ± {points}",
            "difference": f"a difference of {points} between two models {on}, {sure}",
            "drop": f"a drop of {points} between two data sets of {basis.n_images:,} images each, {sure}",
            "ranks": f"{self.value:.0%} of the pairs of {basis.n_models} models with a clear difference {on}",
            "hours": f"what {self.value:g} hours can show {on}",
        }[self.goal]

    def images(self, arm: PlannedDesign, basis: Pilot, cost: _Cost) -> int:
        """Return how many images a design needs."""
        n_images, variance = basis.n_images, arm.variance
        if self.goal == "hours":
            return min(max(math.floor(self.value / cost.hours), 1), n_images)
        if self.goal == "ranks":
            assert arm.differences is not None
            return images_for_share(arm.differences, variance, self.value, n_images)[0]
        if self.goal == "width":
            return int(variance.images(self.value, n_images).max())
        error = error_for_difference(self.value, self.power) / self.n_audits**0.5
        return int(variance.images(QUANTILE * error, n_images).max())

    @property
    def n_audits(self) -> int:
        """The number of data sets that are audited."""
        return 2 if self.goal == "drop" else 1


def _goal(**goals: float | None) -> tuple[PlanGoal, float]:
    chosen = {name: value for name, value in goals.items() if value is not None}
    if len(chosen) != 1:
        raise UsageError(
            "A plan answers one question.",
            got=" and ".join(f"`{name}`" for name in chosen) or "none",
            allowed=", ".join(f"`{name}`" for name in goals),
            do="pass one of them",
        )
    ((name, value),) = chosen.items()
    return name, value  # type: ignore[return-value]


def _check_pilot_alone(**assumed: object) -> None:
    if named := [f"`{name}`" for name, value in assumed.items() if value is not None]:
        raise UsageError(
            "A pilot already determines this value.",
            got=", ".join(named),
            do="leave it out, or plan without a pilot",
        )


def _arms(asked: _Asked, basis: Pilot) -> Sequence[PlannedDesign]:
    """Return the designs that are compared."""
    if asked.goal == "hours":
        return (*basis.of_values, *basis.of_pairs)
    if asked.goal == "ranks" and len(basis.ranked) == 0:
        raise UsageError(
            "Ranks require at least three models.",
            got=f"{basis.n_models}",
            do="pass more models, or ask for a `difference`",
        )
    if asked.goal == "ranks":
        return basis.ranked
    if asked.goal == "difference" and not basis.of_pairs:
        raise UsageError(
            "A difference requires two models.",
            got=f"{basis.models[0]} alone",
            do="pass another model, or ask for a `width`",
        )
    return basis.of_pairs if asked.goal == "difference" else basis.of_values


def _precision(asked: _Asked, arm: PlannedDesign, n: int, basis: Pilot) -> dict[str, float | None]:
    errors = arm.variance.half_width(n, basis.n_images) / QUANTILE
    widest = float(errors.max())
    of_drop = widest * asked.n_audits**0.5
    tested = asked.goal in ("difference", "drop")
    share = None
    if asked.goal == "ranks" and arm.differences is not None:
        share = decided(arm.differences, errors)
    return {
        "half_width": QUANTILE * widest,
        "share": share,
        "power": float(power_of(asked.value, of_drop)) if tested else None,
    }


def _row(asked: _Asked, arm: PlannedDesign, basis: Pilot, cost: _Cost) -> dict[str, Any]:
    n = asked.images(arm, basis, cost)
    precision = _precision(asked, arm, n, basis)
    widest = float(precision["half_width"] or 0) / QUANTILE
    of_pairs = arm.question == "difference" and asked.goal in ("difference", "hours")
    found = (
        detectable(widest * asked.n_audits**0.5, asked.power) if of_pairs or asked.goal == "drop" else None
    )
    about = {"question": arm.question, "design": arm.design, "estimator": arm.estimator, "images": n}
    total = {k: v * asked.n_audits for k, v in cost.of(n).items()}
    usual = _usual(arm, n, basis)
    return about | {"n_images": basis.n_images} | total | precision | usual | {"detectable": found}


def _usual(arm: PlannedDesign, n: int, basis: Pilot) -> dict[str, float | None]:
    """Return between which half-widths four of five such audits have an interval, after a pilot."""
    tails = (1 - USUAL) / 2
    bounds = {"half_width_low": tails, "half_width_high": 1 - tails}
    if not basis.n_answered:
        return dict.fromkeys(bounds)
    at = int(arm.variance.half_width(n, basis.n_images).argmax())
    widths = {name: arm.variance.half_width(n, basis.n_images, share) for name, share in bounds.items()}
    return {name: float(width[at]) for name, width in widths.items()}


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sort by question, then by the number of images, plain samples first where they are as good."""
    return row["question"], row["images"], row["half_width"], row["design"] != "uniform"


def _curve(asked: _Asked, arm: PlannedDesign, basis: Pilot) -> Iterator[dict[str, Any]]:
    """Yield the precision of a design by the number of images, from 50 to 5,000."""
    sizes = np.geomspace(50, min(5000, basis.n_images), MOST_LINES).round().astype(int)
    for n in np.unique(sizes).tolist():
        about = {"question": arm.question, "design": arm.design, "estimator": arm.estimator, "images": n}
        yield about | _precision(asked, arm, n, basis)


def _simplest(rows: Sequence[Row]) -> Row:
    """Return the row of the uniform design if it is as good as the best, and otherwise the best."""
    alike = (r for r in rows if r["design"] == "uniform" and r["question"] == rows[0]["question"])
    uniform = next((r for r in alike if r["images"] <= AS_GOOD * rows[0]["images"]), rows[0])
    return uniform if uniform["half_width"] <= AS_GOOD * rows[0]["half_width"] else rows[0]


def _next(asked: _Asked, row: Row, basis: Pilot, pilot: PathLike | None, raters: int) -> str:
    """Return the command that draws the images."""
    n, design = row["images"], row["design"]
    out = "audit-2" if pilot is not None and not _is_unanswered(pilot) else "audit"
    place = (
        shlex.quote(str(pilot)) if pilot is not None and out == "audit" and basis.models else "predictions"
    )
    if asked.goal == "difference" and design == "differences" and len(basis.models) in (0, PAIR):
        a, b = map(shlex.quote, basis.models or ("A", "B"))
        return (
            f"manyhot audit {place} --size {n} --design {design} --models {a} --models {b} "
            f"--raters {raters} --out {out}"
        )
    return f"manyhot audit {place} --size {n} --design {design} --raters {raters} --out {out}"


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row["half_width_low"], row["half_width_high"]
    return (
        f"{row['question']}: {row['design']}",
        row["estimator"],
        f"{row['images']:,}",
        f"{row['questions']:,.0f}",
        f"{row['answers']:,.0f}",
        f"{row['hours']:,.1f}",
        f"± {100 * row['half_width']:.2f}"
        + ("" if low is None else f" ({100 * low:.2f} to {100 * high:.2f})"),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
