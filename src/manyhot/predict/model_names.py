"""Names by which the models of one call differ, in tables and in the names of files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from manyhot import registry
from manyhot.errors import InputError
from manyhot.predict.models import family_of_model, split_model
from manyhot.tables.predictions import distinct_names


def distinct_models(specs: Iterable[str]) -> list[str]:
    """Return models with distinct names: if files have the same name, their folders are included.

    Networks that were trained in ``label/seed-0`` and ``sets/seed-0``, for example, are both called
    ``trained/seed-0``; an architecture with two checkpoints has the name of the architecture twice. Models
    that have the option ``name`` keep it.
    """
    listed = list(specs)
    places = [_place(spec) for spec in listed]
    for family in {family for family, _ in places if family}:
        rows = [i for i, (own, _) in enumerate(places) if own == family]
        own = [places[i][1].name for i in rows]
        names = distinct_names(zip(own, (str(places[i][1]) for i in rows), strict=True))
        for i, name, plain in zip(rows, names, own, strict=True):
            listed[i] = listed[i] if name == plain else _with_name(listed[i], f"{family}/{name}")
    return listed


def check_names_differ(names: Sequence[str]) -> None:
    """Raise an error if two models have the same name.

    Raises
    ------
    InputError
        If they have.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError("Two models have the same name.", got=twice, do=NAME_ONE)


NAME_ONE = "leave one out, or give it another name, as in trained:FILE(name='mine')"


def _place(spec: str) -> tuple[str, Path]:
    """Return the family of a model in a file, and the path whose last part is its name; else empty.

    An architecture with the weights of a file, its checkpoint, is in a folder of that name.
    """
    name, options = split_model(spec)
    family, rest = family_of_model(name)
    if not family or "name" in options:
        return "", Path()
    if place := registry.get("model", family).about.get("place"):
        return family, place(rest)
    if "/" in rest:  # already has a folder
        return "", Path()
    checkpoint = str(options.get("checkpoint") or "")
    return family, Path(checkpoint and Path(checkpoint).with_suffix(""), rest)


def _with_name(spec: str, name: str) -> str:
    plain, options = split_model(spec)
    more = f"name={name!r}"
    return f"{spec.strip()[:-1]}, {more})" if options else f"{plain}({more})"
