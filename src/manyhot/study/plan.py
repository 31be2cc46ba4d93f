"""Parts of a study: data sets, arms, networks, measures and claims; and the runs of its grid."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from manyhot.errors import InputError, MatchError
from manyhot.files import alone, write_text

if TYPE_CHECKING:
    from manyhot.core.array_types import Floats

ALL = "all"


@dataclass(frozen=True)
class StudyRun:
    """A network that was or will be trained: one arm on one data set, with one seed.

    Attributes
    ----------
    data : Path
        The folder of the data set.
    data_set, network, arm : str
    seed : int
    folder : Path
        The files of the run: ``OUT/runs/<data set>/<network>/<arm>/seed-<seed>``.
    smoke : bool
        Whether this is a smoke run, in which everything is as small as possible.
    """

    data: Path
    data_set: str
    network: str
    arm: str
    seed: int
    folder: Path
    smoke: bool = False

    @property
    def model(self) -> Path:
        """The trained network; ``trained:PATH`` is a model."""
        return self.folder / "model.safetensors"

    @property
    def classes(self) -> Path:
        """The class list of the data set."""
        return self.data / "classes.txt"

    def labels(self, split: str) -> Path:
        """Return the true label sets of a split: ``train``, ``val`` or ``test``."""
        return self.data / f"labels-{split}.parquet"

    def images(self, split: str) -> Path:
        """Return the images of a split: ``images-SPLIT.parquet``, or ``images.parquet`` for all splits."""
        own = self.data / f"images-{split}.parquet"
        return own if own.exists() else self.data / "images.parquet"

    def of(self, arm: str, seed: int | None = None) -> StudyRun:
        """Return the run of another arm or seed, on the same data set and network."""
        seed = self.seed if seed is None else seed
        folder = self.folder.parent.parent / arm / f"seed-{seed}"
        return replace(self, arm=arm, seed=seed, folder=folder)


@dataclass(frozen=True)
class StudyDataSet:
    """Images with their true label sets.

    Attributes
    ----------
    name, about : str
        The name of the folder, and a sentence for the page.
    make : callable
        ``make(folder, smoke)`` writes these files to an empty folder: ``images.parquet`` (or one file per
        split: ``images-train.parquet``, …), ``labels-train.parquet``, ``labels-val.parquet``,
        ``labels-test.parquet``, ``classes.txt``, and any other files that measures need.
    settings : Mapping
        Settings of the recipe for this data set.
    version : int
        Version of `make`. If it changes, the data set and its results are regenerated.
    planted : tuple of str
        Metrics of an effect that was planted in the images of this data set, such as a companion. Claims do
        not average them with the same metrics of a data set without a planted effect.
    """

    name: str
    about: str
    make: Callable[[Path, bool], None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    planted: tuple[str, ...] = ()


def _own_labels(run: StudyRun) -> Path:
    return run.labels("train")


@dataclass(frozen=True)
class Arm:
    """A training condition: the labels of the training images, and the loss.

    Attributes
    ----------
    name, about : str
    labels : callable
        ``labels(run)`` returns the file with the label sets of the training images. This is a file of the
        data set, or a file that the function writes to ``run.folder``. By default, ``run.labels("train")``.
    settings : Mapping
        Settings of the recipe: ``teach``, ``loss``, …
    wants : tuple of str
        Arms on which this arm depends. They are trained first, with all seeds on the same data set and
        network. ``run.of(arm, seed)`` returns their runs.
    version : int
        Version of `labels`. If it changes, the labels are regenerated.
    """

    name: str
    about: str
    labels: Callable[[StudyRun], Path] = _own_labels
    settings: Mapping[str, Any] = field(default_factory=dict)
    wants: tuple[str, ...] = ()
    version: int = 1


@dataclass(frozen=True)
class Net:
    """A network and its training schedule.

    Attributes
    ----------
    name, about : str
    settings : Mapping
        Settings of the recipe: ``model``, ``epochs``, ``size``, … Settings of arms and data sets override
        them.
    smoke : Mapping
        Settings that override all others in a smoke run.
    """

    name: str
    about: str
    settings: Mapping[str, Any]
    smoke: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyMetric:
    """A metric of a measure.

    Attributes
    ----------
    name : str
        Its name in tables.
    label : str
        Its name on the page.
    better : str
        ``higher`` or ``lower``.
    percent : bool
        Whether the page shows percent.
    """

    name: str
    label: str
    better: Literal["higher", "lower"] = "higher"
    percent: bool = False


@dataclass(frozen=True, eq=False)
class Measurement:
    """A value that was measured on a run.

    Attributes
    ----------
    metric : str
    value : float
        NaN if undefined.
    n : int
        Number of images, or of other counted objects.
    slice : str
    replicates : numpy.ndarray of float, shape (R,), optional
        The value on R resamples of the images. The resamples must be the same for all runs of a data set, and
        for all metrics that are compared. This requires a generator with a fixed seed and a fixed order of
        the images.
    """

    metric: str
    value: float
    n: int
    slice: str = ALL
    replicates: Floats | None = None


@dataclass(frozen=True)
class RunMeasure:
    """A measure of each run.

    Attributes
    ----------
    name, about : str
    take : callable
        ``take(run)`` returns the values of the metrics in `metrics`.
    metrics : tuple of StudyMetric
    version : int
        Version of `take`. If it changes, each run is measured again.
    """

    name: str
    about: str
    take: Callable[[StudyRun], Iterable[Measurement]]
    metrics: tuple[StudyMetric, ...]
    version: int = 1


@dataclass(frozen=True)
class RunMeasurement:
    """A value and its run, as passed to measures across runs."""

    data_set: str
    network: str
    arm: str
    seed: int
    measurement: Measurement


@dataclass(frozen=True)
class Across:
    """A measure across the runs of one data set and one seed, such as the agreement of two rankings.

    Its values have the arm ``all`` and the network ``all``.

    Attributes
    ----------
    name, about : str
    take : callable
        ``take(rows)`` returns the values. `rows` contains all values that the study's measures returned for
        this data set and seed.
    metrics : tuple of StudyMetric
    """

    name: str
    about: str
    take: Callable[[Sequence[RunMeasurement]], Iterable[Measurement]]
    metrics: tuple[StudyMetric, ...]


BETTER_WORSE = ("Better", "Worse")


@dataclass(frozen=True)
class Claim:
    """A comparison, with margin and sentences fixed beforehand.

    A claim compares `metric` between the arms `arm` and `against` at equal seeds, or compares `metric` with
    `than` in one run. Differences are signed so that values above 0 are better. They are averaged over seeds,
    then over pairs of data set and network. The verdict depends on the differences of the pairs, the interval
    of their mean, the margin and the adjusted p-value (`manyhot.core.effects.verdict_of`).

    Attributes
    ----------
    name : str
    metric : str
    arm : str
        Name of the arm; ``all`` for a metric of a measure across runs.
    margin : float
        The smallest difference that matters, in the metric's unit.
    better, worse, same : str
        A sentence for each verdict, to which the values are appended. The sentences for ``undecided`` and
        ``goes both ways`` are generated.
    against : str
        Another arm.
    than : str or float, optional
        Another metric of the same run, or a number, in place of another arm.
    data_sets, networks : tuple of str
        By default all.
    slice : str
    main : bool
        Whether the claim's verdict belongs to the short answer. The p-value of a main claim is adjusted over
        the main claims, and the p-value of another claim over all claims.
    called : (str, str)
        Names of the verdicts *better* and *worse* on the page. Rankings, for example, are not better or
        worse, but more or less similar.
    """

    name: str
    metric: str
    arm: str
    margin: float
    better: str
    worse: str
    same: str
    against: str = ""
    than: str | float | None = None
    data_sets: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    slice: str = ALL
    main: bool = True
    called: tuple[str, str] = BETTER_WORSE


@dataclass(frozen=True)
class Grid:
    """The runs of a study: each data set × network × arm × seed.

    Attributes
    ----------
    data_sets : tuple of StudyDataSet
    networks : tuple of Net
    arms : tuple of Arm
    seeds : tuple of int
        At least two, for intervals.
    without : tuple of (str, str)
        Pairs of data set and network that are not run.
    """

    data_sets: tuple[StudyDataSet, ...]
    networks: tuple[Net, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    without: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Study:
    """A question, the runs and measures that answer it, and the claims that are tested.

    Attributes
    ----------
    name : str
        A valid file name.
    title : str
    question : str
    grid : Grid
    measures : tuple of RunMeasure or Across
        Those across runs come last.
    claims : tuple of Claim
    limits : tuple of str
        Sentences about the limits of the answer.
    table : tuple of str
        Metrics in the table on the page. By default, the metrics of the claims.
    about : str
        Description of the method for the page, in a few sentences.
    not_run : tuple of str
        Parts that were not run, with the reason.
    """

    name: str
    title: str
    question: str
    grid: Grid
    measures: tuple[RunMeasure | Across, ...]
    claims: tuple[Claim, ...]
    limits: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    about: str = ""
    not_run: tuple[str, ...] = ()


MARK = "grid.json"
"""The file that marks a folder of studies."""


def with_seeds(study: Study, n: int | None, smoke: bool) -> Study:
    """Return the study with n seeds. The default is the study's own number, or two in a smoke run.

    Raises
    ------
    InputError
        If there are fewer than two seeds.
    """
    n = n or (2 if smoke else len(study.grid.seeds))
    if n < 2:
        raise InputError(
            "A study needs at least two seeds, because its intervals are computed over seeds.", got=n
        )
    more = (seed for seed in itertools.count() if seed not in study.grid.seeds)
    seeds = tuple(itertools.islice(itertools.chain(study.grid.seeds, more), n))
    return replace(study, grid=replace(study.grid, seeds=seeds))


def open_study_folder(out: Path, smoke: bool) -> None:
    """Mark a folder as a folder of studies; several commands may do so at the same time.

    Raises
    ------
    MatchError
        If the folder contains other files, or if smoke runs and full runs would be mixed.
    """
    mark, do = out / MARK, "choose another folder with `out`"
    with alone(out, patience=60):
        if not mark.is_file():
            if any(path.name != ".lock" for path in out.iterdir()):
                raise MatchError("The folder contains files, but no studies.", where=out, do=do)
            write_text(mark, json.dumps({"smoke": smoke}) + "\n")
        elif json.loads(mark.read_text(encoding="utf-8"))["smoke"] != smoke:
            kind = "full size" if smoke else "smoke runs"
            raise MatchError(f"The folder contains studies in {kind}.", where=out, do=do)


def runs_of(grid: Grid, out: Path, smoke: bool = False) -> list[StudyRun]:
    """Return the runs of a grid, each after the runs on which its arm depends."""
    return [
        StudyRun(
            data=out / "data" / data_set.name,
            data_set=data_set.name,
            network=network.name,
            arm=arm.name,
            seed=seed,
            folder=out / "runs" / data_set.name / network.name / arm.name / f"seed-{seed}",
            smoke=smoke,
        )
        for data_set in grid.data_sets
        for network in grid.networks
        if (data_set.name, network.name) not in grid.without
        for arm in in_order(grid.arms)
        for seed in grid.seeds
    ]


def in_order(arms: Sequence[Arm]) -> Iterator[Arm]:
    """Yield arms, each after the arms on which it depends."""
    left, done = list(arms), set[str]()
    while left:
        arm = next(arm for arm in left if done.issuperset(arm.wants))
        left.remove(arm)
        done.add(arm.name)
        yield arm


def chosen_runs(runs: Sequence[StudyRun], grid: Grid, only: Iterable[str]) -> list[StudyRun]:
    """Return the runs of some data sets, networks or arms, and the runs on which they depend.

    Raises
    ------
    InputError
        If a name is not in the grid.
    """
    names = set(only)
    kinds = [{of(run) for run in runs} for of in _KINDS]
    for name in sorted(names - set().union(*kinds)):
        raise InputError(
            "The grid has no data set, network or arm with this name.",
            got=repr(name),
            allowed=", ".join(itertools.chain(*map(sorted, kinds))),
        )
    data_sets, networks, arms = (names & kind or kind for kind in kinds)
    arms = _with_wanted(arms, grid)
    return [r for r in runs if r.data_set in data_sets and r.network in networks and r.arm in arms]


_KINDS = (attrgetter("data_set"), attrgetter("network"), attrgetter("arm"))


def _with_wanted(arms: set[str], grid: Grid) -> set[str]:
    wants = {arm.name: set(arm.wants) for arm in grid.arms}
    more = set().union(*(wants[name] for name in arms))
    return arms if more <= arms else _with_wanted(arms | more, grid)
