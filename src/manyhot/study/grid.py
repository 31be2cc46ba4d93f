"""The grid of runs: which there are, in which order, and where they lie."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from manyhot.errors import InputError, MatchError
from manyhot.files import alone, write_text
from manyhot.study.plan import Arm, Grid, Run, Study

MARK = "grid.json"
"""The file that tells a folder of studies from others."""


def with_seeds(study: Study, n: int | None, smoke: bool) -> Study:
    """Return a study with its first n seeds, more by counting on; two in a smoke run.

    Raises
    ------
    InputError
        Fewer than two are wanted.
    """
    n = n or (2 if smoke else len(study.grid.seeds))
    if n < 2:
        raise InputError("A study needs two seeds or more, for intervals.", got=n)
    more = (seed for seed in itertools.count() if seed not in study.grid.seeds)
    seeds = tuple(itertools.islice(itertools.chain(study.grid.seeds, more), n))
    return replace(study, grid=replace(study.grid, seeds=seeds))


def open_folder(out: Path, smoke: bool) -> None:
    """Mark a folder as one of studies, whoever else begins there at the same moment.

    Raises
    ------
    MatchError
        It holds something else, or smoke runs where others are wanted and the other way round.
    """
    with alone(out, patience=60):
        _mark(out, smoke)


def _mark(out: Path, smoke: bool) -> None:
    mark = out / MARK
    if mark.is_file():
        if json.loads(mark.read_text(encoding="utf-8"))["smoke"] != smoke:
            kind = "full size" if smoke else "smoke runs"
            raise MatchError(
                f"The folder holds studies in {kind}.", where=out, do="choose another folder: --out"
            )
        return
    if any(path.name != ".lock" for path in out.iterdir()):
        raise MatchError("The folder holds something else.", where=out, do="choose another folder: --out")
    write_text(mark, json.dumps({"smoke": smoke}) + "\n")


def runs_of(grid: Grid, out: Path, smoke: bool = False) -> list[Run]:
    """Return the runs of a grid, each after those that its arm wants."""
    return [
        Run(
            out / "data" / data_set.name,
            data_set.name,
            network.name,
            arm.name,
            seed,
            out / "runs" / data_set.name / network.name / arm.name / f"seed-{seed}",
            smoke,
        )
        for data_set in grid.data_sets
        for network in grid.networks
        if (data_set.name, network.name) not in grid.without
        for arm in in_order(grid.arms)
        for seed in grid.seeds
    ]


def in_order(arms: Sequence[Arm]) -> Iterator[Arm]:
    """Yield arms, each after those that it wants."""
    left, done = list(arms), set[str]()
    while left:
        arm = next(arm for arm in left if done.issuperset(arm.wants))
        left.remove(arm)
        done.add(arm.name)
        yield arm


def chosen(runs: Sequence[Run], grid: Grid, only: Iterable[str]) -> list[Run]:
    """Return the runs of some data sets, networks or arms, and those that they want.

    Raises
    ------
    InputError
        A name is none of the grid's.
    """
    names = set(only)
    kinds = [{of(run) for run in runs} for of in _KINDS]
    for name in sorted(names - set().union(*kinds)):
        raise InputError(
            "The grid has no data set, network or arm of this name.",
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
