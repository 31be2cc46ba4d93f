"""Networks in files: ONNX and OpenVINO. The files do not record preprocessing, which is set by options.

Missing options are assumed, with a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, of_outputs
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.predict.network import CROP_PCT, PREPROCESSING_OPTIONS, Network, Preprocessing
from manyhot.predict.score_kinds import assumed_scores, checked_scores
from manyhot.predict.weights import error_line, file_without_suffix
from manyhot.registry import register

_RESIZED = {
    "center": "resized to cover {} pixels",
    "squash": "resized to {} pixels",
    "border": "resized to fit into {} pixels, padded",
}


def with_assumptions(
    network: Network, options: Mapping[str, Any], *, crop_pct: float = CROP_PCT, fixed_size: bool = False
) -> Network:
    """Return a network that lists its assumed preprocessing options.

    Parameters
    ----------
    network : Network
        With the preprocessing that is used.
    options : Mapping of str to Any
        The `PREPROCESSING_OPTIONS` that the caller has set.
    crop_pct : float
        The value that is assumed.
    fixed_size : bool
        Whether the model fixes the size of its input.
    """
    p = network.preprocessing
    values = {
        "size": p.size[0] if p.size[0] == p.size[1] else p.size,
        "crop_pct": crop_pct,
        "mode": p.mode,
        "interpolation": p.interpolation,
        "mean": p.mean,
        "std": p.std,
    }
    # A callable receives pixels, and normalises them itself.
    skipped = {*options, *(["size"] if fixed_size else []), *(["mean", "std"] if network.forward else [])}
    assumed = {option: values[option] for option in PREPROCESSING_OPTIONS if option not in skipped}
    return replace(network, assumed=assumed)


def with_note(network: Network, name: str, options: Mapping[str, Any]) -> Network:
    """Return a network with a note on the assumed preprocessing options, if there are any.

    Parameters
    ----------
    network : Network
    name : str
        The name of the model as the user wrote it, such as ``onnx:net.onnx``.
    options : Mapping of str to Any
        All options in the brackets after the name.
    """
    if not network.assumed:
        return network
    exact = f"{name}({', '.join(f'{o}={value!r}' for o, value in {**options, **network.assumed}.items())})"
    *others, last = network.assumed
    listed = f"{', '.join(others)} and {last}" if others else last
    note = (
        f"{network.name}: the preprocessing is assumed, because the model does not specify {listed}. "
        f"Images are {_described(network)}. If the network was trained with other values, its predictions "
        f"are wrong. To set other values, or to confirm the assumed ones, use {exact}"
    )
    about = {**network.about, "preprocessing_assumed": ", ".join(network.assumed)}
    return replace(network, notes=(*network.notes, note), about=about, assumed={})


def _described(network: Network) -> str:
    """Return a description of the preprocessing."""
    p = network.preprocessing
    resized = _RESIZED[p.mode].format(_width_by_height(p.scale))
    if network.forward is not None:
        values = "given as RGB values from 0 to 255"
    else:
        values = f"given as RGB values from 0 to 1, normalised with mean {p.mean} and std {p.std}"
    return f"{resized} ({p.interpolation}), cropped to the central {_width_by_height(p.size)}, and {values}"


def _width_by_height(sides: tuple[int, int]) -> str:
    return f"{sides[0]} × {sides[1]}"


_FLOATS = ("tensor(float)", "tensor(float16)", "f32", "f16")


@register(
    "model",
    "onnx",
    form="onnx:FILE",
    classes="the class list that is passed, or ImageNet-1k for 1,000 outputs",
    place=file_without_suffix,
)
def onnx_network(
    path: str, *, classes: ClassList | None = None, scores: str = "", preprocessing: Mapping[str, Any]
) -> Network:
    """Load an ONNX file. The network must take normalised RGB images, floats of shape (n, 3, height, width).

    Parameters
    ----------
    path : str
    classes : ClassList, optional
        Class list of the output. The default is ImageNet-1k if there are 1,000 outputs.
    scores : str
        Kind of the scores: ``logit``, or ``probability`` if the network ends in a softmax or in sigmoids. By
        default, logits are assumed.
    preprocessing : mapping
        Preprocessing options. The defaults are the input size of the network and timm's values: crop_pct
        0.875, bicubic interpolation, and ImageNet's mean and std. A note lists the assumed values.

    Raises
    ------
    InputError
        If the file does not exist, or does not contain a network with one input of shape (n, 3, height,
        width).
    """
    ort: Any = required("onnxruntime", "An ONNX file", '"manyhot[onnx]"')
    _check_file(path, ".onnx")
    try:
        # Otherwise a broken file is tried twice, and the first error printed.
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        raise InputError("The file is not an ONNX network.", where=path, got=error_line(error)) from error
    inputs = [(port.type, list(port.shape)) for port in session.get_inputs()]
    out = list(session.get_outputs()[0].shape)
    return _network("onnx", path, inputs, out, classes, scores, preprocessing)


@register(
    "model",
    "openvino",
    form="openvino:FILE",
    classes="the class list that is passed, or ImageNet-1k for 1,000 outputs",
    place=file_without_suffix,
)
def openvino_network(
    path: str, *, classes: ClassList | None = None, scores: str = "", preprocessing: Mapping[str, Any]
) -> Network:
    """Load an OpenVINO network (.xml and .bin file). It must take normalised RGB images.

    Parameters
    ----------
    path : str
    classes, scores, preprocessing
        As for ONNX.

    Raises
    ------
    InputError
        If the file does not exist, or does not contain a network with one input of shape (n, 3, height,
        width).
    """
    required("openvino", "An OpenVINO file")
    _check_file(path, ".xml")
    from manyhot.predict.engines.openvino import import_openvino

    try:
        graph = import_openvino().Core().read_model(path)
    except Exception as error:
        raise InputError("The file is not an OpenVINO network.", where=path, got=error_line(error)) from error
    inputs = [(port.get_element_type().get_type_name(), _sides(port)) for port in graph.inputs]
    return _network("openvino", path, inputs, _sides(graph.outputs[0]), classes, scores, preprocessing)


def name_of_file(path: str) -> str:
    """Return how to name the model in a file; empty if there is no such file."""
    if not Path(path).is_file():
        return ""
    family = {".onnx": "onnx", ".xml": "openvino"}.get(Path(path).suffix)
    loaded = "a function that loads it, as python:MODULE:FUNCTION, or for a timm checkpoint, "
    return f"use {family}:{path}" if family else f"pass {loaded}timm/NAME(checkpoint={path!r})"


def _sides(port: Any) -> list[Any]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [int(d.get_length()) if d.is_static else "?" for d in shape]


def _check_file(path: str, suffix: str) -> None:
    if not Path(path).is_file():
        raise InputError("The file does not exist.", where=path)
    if Path(path).suffix != suffix:
        raise InputError(
            "The file has the wrong extension.", where=path, allowed=f"a file ending in {suffix}"
        )


def _network(
    kind: str,
    path: str,
    inputs: Sequence[tuple[str, list[Any]]],
    out: list[Any],
    classes: ClassList | None,
    scores: str,
    options: Mapping[str, Any],
) -> Network:
    _check_shapes(path, inputs, out)
    sides = tuple(d for d in inputs[0][1][2:] if isinstance(d, int) and d > 0)
    defaults: dict[str, Any] = {"crop_pct": CROP_PCT} | ({"size": sides} if len(sides) == 2 else {})
    wanted = Preprocessing().with_options(defaults | dict(options))
    if len(sides) == 2 and wanted.size != sides:
        raise InputError(
            "The network takes images of a different size.", where=path, got=wanted.size, allowed=sides
        )
    network = Network(
        f"{kind}/{file_without_suffix(path).name}",
        _classes(path, out[1], classes),
        wanted,
        file=path,
        score_kind=checked_scores(scores),
        about={"weights": Path(path).name, **assumed_scores(scores)},
    )
    return with_assumptions(network, options, fixed_size=len(sides) == 2)


def _check_shapes(path: str, inputs: Sequence[tuple[str, list[Any]]], out: list[Any]) -> None:
    told = " and ".join(f"{kind} {_shape(shape)}" for kind, shape in inputs)
    kind, shape = inputs[0] if len(inputs) == 1 else ("", [])
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] not in (3, -1)) or kind not in _FLOATS:
        raise InputError(
            "The network does not take normalised images.",
            where=path,
            got=f"input {told}",
            allowed="one input of floats of shape (n, 3, height, width)",
        )
    if len(out) != 2:
        raise InputError(
            "The network does not return scores.",
            where=path,
            got=f"output of shape {_shape(out)}",
            allowed="shape (n, C)",
        )


def _shape(sides: Sequence[Any]) -> str:
    return f"({', '.join(map(str, sides))})"


def _classes(path: str, n: Any, classes: ClassList | None) -> ClassList:
    counted = isinstance(n, int) and n > 0
    if classes is not None and (not counted or len(classes) == n):
        return classes
    if not counted:
        raise InputError(
            "The file does not record the number of classes.",
            where=path,
            do="pass the class list as `classes`",
        )
    return of_outputs(n, Path(path).name)
