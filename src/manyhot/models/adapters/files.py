"""Networks in files: ONNX and OpenVINO. What they want of an image stands nowhere in them: options say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError
from manyhot.models.extras import required
from manyhot.models.network import Network
from manyhot.models.preprocessing import Preprocessing
from manyhot.registry import register


@register("model", "onnx", form="onnx:FILE", classes="--classes, or ImageNet-1k for 1,000")
def onnx_network(
    path: str,
    *,
    classes: ClassList | None = None,
    size: Any = None,
    crop_pct: float | None = None,
    mode: str | None = None,
    interpolation: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> Network:
    """A network in an ONNX file that takes normalised RGB images, float32 of shape (n, 3, height, width).

    Parameters
    ----------
    path : str
    classes : ClassList, optional
        Of its output; ImageNet-1k where it has 1,000.
    size, crop_pct, mode, interpolation, mean, std
        Preprocessing. By default the size of its input, and timm's: 0.875, bicubic, mean and std of ImageNet.

    Raises
    ------
    InputError
        The file does not exist or is no such network.
    """
    ort: Any = required("onnxruntime", "An ONNX file", '"manyhot[onnx]"')
    _check_file(path, ".onnx")
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(
            "The file is no ONNX network.", where=path, got=str(error).partition("\n")[0]
        ) from error
    given, out = session.get_inputs()[0].shape, session.get_outputs()[0].shape
    options = {"size": size, "crop_pct": crop_pct, "mode": mode} | {
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }
    return _network("onnx", path, given, out, classes, options)


@register("model", "openvino", form="openvino:FILE", classes="--classes, or ImageNet-1k for 1,000")
def openvino_network(
    path: str,
    *,
    classes: ClassList | None = None,
    size: Any = None,
    crop_pct: float | None = None,
    mode: str | None = None,
    interpolation: str | None = None,
    mean: Any = None,
    std: Any = None,
) -> Network:
    """A network in OpenVINO's format (.xml beside .bin) that takes normalised RGB images.

    Parameters
    ----------
    path : str
    classes, size, crop_pct, mode, interpolation, mean, std
        As for ONNX.

    Raises
    ------
    InputError
        The file does not exist or is no such network.
    """
    from manyhot.models.engines.openvino_engine import load

    required("openvino", "An OpenVINO file")
    _check_file(path, ".xml")
    try:
        graph = load().Core().read_model(path)
        given, out = (
            [int(d.get_length()) if d.is_static else -1 for d in s.partial_shape]
            for s in (graph.input(), graph.output(0))
        )
    except Exception as error:
        raise InputError(
            "The file is no OpenVINO network.", where=path, got=str(error).strip().partition("\n")[0]
        ) from error
    options = {"size": size, "crop_pct": crop_pct, "mode": mode} | {
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
    }
    return _network("openvino", path, given, out, classes, options)


def _check_file(path: str, suffix: str) -> None:
    if not Path(path).is_file():
        raise InputError("The file does not exist.", where=path)
    if Path(path).suffix != suffix:
        raise InputError("The file is of another kind.", where=path, allowed=f"a file ending in {suffix}")


def _network(
    kind: str, path: str, given: Any, out: Any, classes: ClassList | None, options: dict[str, Any]
) -> Network:
    sides = [d for d in list(given)[2:] if isinstance(d, int) and d > 0]
    if len(given) != 4 or given[1] not in (3, -1, "channels"):
        raise InputError(
            "The network does not take images.",
            where=path,
            got=f"input of shape {list(given)}",
            allowed="(n, 3, height, width)",
        )
    if options["size"] is None and len(sides) == 2:
        options["size"] = (sides[0], sides[1])
    wanted = {name: value for name, value in options.items() if value is not None}
    preprocessing = Preprocessing().with_options({"crop_pct": 0.875} | wanted)
    n = out[-1] if isinstance(out[-1], int) else 0
    known = classes if classes is not None and len(classes) == n else None
    if known is None and n == len(class_list()):
        known = class_list()
    if known is None:
        known = from_keys([str(i) for i in range(n)], f"{n} classes of {Path(path).name}")
    return Network(
        f"{kind}/{Path(path).stem}", known, preprocessing, file=path, about={"weights": Path(path).name}
    )
