"""Read a study from its Python file, and check that its parts are consistent."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, MissingExtraError
from manyhot.extras import missing_extra
from manyhot.study.plan import ALL, Across, Claim, Study, StudyMetric
from manyhot.train.recipe import recipe_of

OPENING = ("Question", "Command", "Time", "Result")
"""Paragraphs that the docstring of a study's file must have, each starting like ``Question: …``."""

_PART = re.compile(rf"^({'|'.join(OPENING)}): ", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Opening:
    """The opening paragraphs of the file of a study."""

    question: str
    command: str
    time: str
    result: str


def read_study(path: Path) -> tuple[Study, Opening]:
    """Import a study from its file. The file can import modules from its own folder.

    Raises
    ------
    InputError
        If the file does not exist, cannot be imported or defines no study, if its docstring lacks a part, or
        if parts of the study are inconsistent.
    MissingExtraError
        If the file imports a package that is not installed.
    """
    opening = read_opening(path)
    study = getattr(_imported(path), "study", None)
    if not isinstance(study, Study):
        got = "no object of this name" if study is None else f"a {type(study).__name__}"
        raise InputError(
            "The file defines no study.",
            where=path,
            got=got,
            do="end the file with study = manyhot.study.Study(...)",
        )
    check_study(study, path)
    return study, opening


def read_opening(path: Path) -> Opening:
    """Return the opening paragraphs of a file, without running it.

    Raises
    ------
    InputError
        If the file does not exist, if it is not a Python file, or if its docstring lacks a part.
    """
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, UnicodeDecodeError) as error:
        at = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError("The file is not a Python file.", where=f"{path}{at}", got=error) from error
    parts = _parts(text)
    absent = [name for name in OPENING if not parts.get(name)]
    if absent:
        raise InputError(
            "The docstring of the file lacks some paragraphs.",
            where=path,
            got=f"no {', no '.join(absent)}",
            allowed=", ".join(f"{name}: …" for name in OPENING),
            do="start a paragraph with each of these",
        )
    return Opening(*(parts[name] for name in OPENING))


def _parts(text: str) -> dict[str, str]:
    """Return the paragraphs that begin with a name of `OPENING`, each up to the next."""
    found = list(_PART.finditer(text))
    starts = [match.start() for match in found] + [len(text)]
    return {m[1]: " ".join(text[m.end() : end].split()) for m, end in zip(found, starts[1:], strict=True)}


def _imported(path: Path) -> Any:
    folder = str(path.resolve().parent)
    # First, as for a script; it stays, as functions of the study may import later.
    sys.path[:] = [folder, *(p for p in sys.path if p != folder)]
    spec = importlib.util.spec_from_file_location(f"manyhot_study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError("The file is not a Python file.", where=path, do="give it a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except MissingExtraError:
        raise
    except Exception as error:
        if (extra := missing_extra(error)) is not None:
            raise extra from error
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            "The file cannot be imported.",
            where=f"{at.filename}, line {at.lineno}",
            got=f"{type(error).__name__}: {error}",
        ) from error
    return module


def check_study(study: Study, where: object = None) -> None:
    """Raise an error if the parts of a study are inconsistent.

    Raises
    ------
    InputError
        If a name is unknown, used twice or not a valid file name, if there are too few seeds, if a claim does
        not have exactly one comparison, or if a setting does not exist.
    """
    for what, got, allowed in _problems(study):
        raise InputError(what, where=where, got=got, allowed=allowed)
    _check_settings(study, where)


Problem = tuple[str, object, object]


def study_metrics(study: Study) -> dict[str, StudyMetric]:
    """Return the metrics of all measures keyed by name, in the order of the measures."""
    return {metric.name: metric for measure in study.measures for metric in measure.metrics}


def _problems(study: Study) -> Iterator[Problem]:
    """Yield each problem: the message, the value and the allowed values."""
    grid = study.grid
    yield from _names_twice(study)
    if len(set(grid.seeds)) < max(2, len(grid.seeds)):
        yield (
            "A study needs at least two seeds, each listed once, because its intervals are computed over "
            "seeds.",
            ", ".join(map(str, grid.seeds)) or "none",
            None,
        )
    arms = [arm.name for arm in grid.arms]
    for arm in grid.arms:
        yield from _unknown(f"The arm {arm.name!r} depends on an arm that does not exist.", arm.wants, arms)
    yield from _circle(study)
    known = [d.name for d in grid.data_sets] + [n.name for n in grid.networks]
    left_out = (name for pair in grid.without for name in pair)
    yield from _unknown("The grid excludes a name that it does not contain.", left_out, known)
    measured = list(study_metrics(study))
    yield from _unknown("The study's table contains a metric that is not measured.", study.table, measured)
    for claim in study.claims:
        yield from _claim_problems(claim, study)


def _names_twice(study: Study) -> Iterator[Problem]:
    grid = study.grid
    kinds: dict[str, Iterable[str]] = {
        "study": [study.name],
        "data set": (d.name for d in grid.data_sets),
        "network": (n.name for n in grid.networks),
        "arm": (a.name for a in grid.arms),
        "measure": (m.name for m in study.measures),
        "claim": (c.name for c in study.claims),
        "metric": (metric.name for m in study.measures for metric in m.metrics),
    }
    for kind, names in kinds.items():
        seen: set[str] = set()
        for name in names:
            if name in seen or (name == ALL and kind in ("network", "arm")):
                yield f"A name of a {kind} is taken.", name, "each name once, and not 'all'"
            if kind not in ("claim", "metric") and not _NAME.fullmatch(name):
                yield (
                    f"The name of a {kind} is not a valid file name.",
                    repr(name),
                    "letters, digits, '.', '_' and '-'",
                )
            seen.add(name)
        if not seen and kind not in ("claim",):
            yield f"The study has no {kind}.", "none", "one or more"


def _unknown(what: str, names: Iterable[str], allowed: list[str]) -> Iterator[Problem]:
    for name in names:
        if name not in allowed:
            yield what, repr(name), ", ".join(allowed)


def _circle(study: Study) -> Iterator[Problem]:
    left = {arm.name: set(arm.wants) for arm in study.grid.arms}
    while left:
        free = {name for name, wants in left.items() if not wants & set(left)}
        if not free:
            yield "Arms depend on each other.", ", ".join(left), "an arm without wants, to begin with"
            return
        left = {name: wants for name, wants in left.items() if name not in free}


def _claim_problems(claim: Claim, study: Study) -> Iterator[Problem]:
    grid, metrics = study.grid, study_metrics(study)
    of = f"The claim {claim.name!r}"
    arms = [*(arm.name for arm in grid.arms), ALL]
    yield from _unknown(f"{of} names an arm that does not exist.", [claim.arm], arms)
    yield from _unknown(f"{of} names a metric that is not measured.", [claim.metric], list(metrics))
    yield from _unknown(
        f"{of} names a data set that does not exist.", claim.data_sets, [d.name for d in grid.data_sets]
    )
    yield from _unknown(
        f"{of} names a network that does not exist.", claim.networks, [n.name for n in grid.networks]
    )
    if bool(claim.against) == (claim.than is not None):
        got = "both" if claim.against else "neither"
        yield (
            f"{of} must compare with an arm (`against`), or with a metric or number (`than`).",
            got,
            "one",
        )
    if claim.against:
        yield from _unknown(f"{of} names an arm that does not exist.", [claim.against], arms[:-1])
    if isinstance(claim.than, str):
        yield from _unknown(f"{of} names a metric that is not measured.", [claim.than], list(metrics))
    yield from _planted_and_natural(claim, study)
    if not claim.margin > 0:
        yield f"{of} needs a margin above 0.", claim.margin, None
    if (claim.arm == ALL) != (claim.metric in _across(study)):
        yield f"{of} must use the arm 'all' if its metric is measured across runs.", claim.arm, None


def _planted_and_natural(claim: Claim, study: Study) -> Iterator[Problem]:
    """Yield a problem if a claim averages what was planted in some data sets and is natural in others."""
    own = [d for d in study.grid.data_sets if not claim.data_sets or d.name in claim.data_sets]
    planted = [d.name for d in own if {claim.metric, claim.than} & set(d.planted)]
    natural = [d.name for d in own if d.name not in planted]
    if planted and natural:
        yield (
            f"The claim {claim.name!r} averages planted and natural data.",
            f"planted in {', '.join(planted)}, natural in {', '.join(natural)}",
            "one claim for each, with `data_sets`",
        )


def _across(study: Study) -> set[str]:
    across = (measure for measure in study.measures if isinstance(measure, Across))
    return {metric.name for measure in across for metric in measure.metrics}


def _check_settings(study: Study, where: object) -> None:
    for network in study.grid.networks:
        for settings in (network.settings, network.smoke):
            recipe_of(settings, f"{where}, network {network.name!r}")
    for part, named in (("arm", study.grid.arms), ("data set", study.grid.data_sets)):
        for one in named:
            recipe_of(one.settings, f"{where}, {part} {one.name!r}")
    of_all: list[Any] = [*study.grid.networks, *study.grid.arms, *study.grid.data_sets]
    for one in of_all:
        if "seed" in one.settings:
            raise InputError(
                "The seed is set by the grid.",
                where=where,
                got=f"settings of {one.name!r}",
                do="remove it from the settings",
            )
