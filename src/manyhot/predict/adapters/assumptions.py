"""Preprocessing that neither a model nor its name specifies, and the values that are assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from manyhot.predict.network import CROP_PCT, PREPROCESSING_OPTIONS, Network, Preprocessing

_RESIZED = {
    "center": "resized to cover {} pixels",
    "squash": "resized to {} pixels",
    "border": "resized to fit into {} pixels, padded",
}


def with_assumptions(
    network: Network, call: str, options: Mapping[str, Any], *, source: str, fixed_size: bool = False
) -> Network:
    """Return a network with a note about assumed options of preprocessing, if there are any.

    Parameters
    ----------
    network : Network
        With the preprocessing that is used.
    call : str
        Its name, without options, such as ``onnx:net.onnx``.
    options : Mapping of str to Any
        Options of `PREPROCESSING_OPTIONS` that are set.
    source : str
        Source that could have set the others: ``file`` or ``function``.
    fixed_size : bool
        Whether the model itself determines the size of its input.
    """
    # A callable receives pixels, and normalises them itself.
    used = [o for o in PREPROCESSING_OPTIONS if network.forward is None or o not in ("mean", "std")]
    assumed = [o for o in used if o not in options and not (o == "size" and fixed_size)]
    if not assumed:
        return network
    values = _values(network.preprocessing, options)
    given = {o: values[o] for o in used if o in options or o in assumed}
    if network.score_kind != "logit":
        given["scores"] = network.score_kind
    exact = f"{call}({', '.join(f'{name}={value!r}' for name, value in given.items())})"
    *others, last = assumed
    listed = f"{', '.join(others)} and {last}" if others else last
    note = (
        f"{network.name}: preprocessing assumed, as its {source} does not give {listed}: images are "
        f"{_described(network)}. If the network was trained with other values, its predictions are wrong. "
        f"To give them, or to confirm these: {exact}"
    )
    about = {**network.about, "preprocessing_assumed": ", ".join(assumed)}
    return replace(network, notes=(*network.notes, note), about=about)


def _values(preprocessing: Preprocessing, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all `PREPROCESSING_OPTIONS` as they are given in a name."""
    p = preprocessing
    size = p.size[0] if p.size[0] == p.size[1] else p.size
    crop_pct = options.get("crop_pct", CROP_PCT)
    return {
        "size": size,
        "crop_pct": crop_pct,
        "mode": p.mode,
        "interpolation": p.interpolation,
        "mean": p.mean,
        "std": p.std,
    }


def _described(network: Network) -> str:
    """Return a description of the preprocessing."""
    p = network.preprocessing
    resized = _RESIZED[p.mode].format(_sides(p.scale))
    if network.forward is not None:
        values = "given as RGB values from 0 to 255"
    else:
        values = f"given as RGB values from 0 to 1, normalised with mean {p.mean} and std {p.std}"
    return f"{resized} ({p.interpolation}), cropped to the central {_sides(p.size)}, and {values}"


def _sides(sides: tuple[int, int]) -> str:
    return f"{sides[0]} × {sides[1]}"
