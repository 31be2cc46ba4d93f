"""Monte Carlo dropout: the mean probabilities of passes through a network with dropout switched on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from manyhot.classes import ClassList
from manyhot.core.array_types import AnyFloats
from manyhot.core.uncertainty import member_probabilities
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.parameters import check_count
from manyhot.predict.adapters.deep_ensemble import average_network, check_member
from manyhot.predict.network import Bytes, Network, normalised
from manyhot.registry import register

PASSES = 20


@register("model", "dropout", form="dropout:MODEL", classes="of the model")
def dropout_network(
    name: str,
    *,
    classes: ClassList | None = None,
    passes: int = PASSES,
    seed: int = 0,
    multilabel: bool | None = None,
) -> Network:
    """Average the probabilities of a model over passes with dropout.

    Dropout layers drop units as in training. All other layers, such as batch norm and stochastic depth, work
    as in prediction. In each pass, all images have the same mask, so that predictions do not depend on the
    batches.

    Parameters
    ----------
    name : str
        The model. Its own options are in separate brackets: ``dropout:MODEL(size=96)(passes=50)``.
    classes : ClassList, optional
        As in `manyhot.predict.models.find_model`.
    passes : int
        Number of passes.
    seed : int
        Seed for the masks.
    multilabel : bool, optional
        As in `ensemble_network`.

    Raises
    ------
    InputError
        If the model has no dropout, returns neither logits nor probabilities or is an average itself, or if
        an option is out of range.
    ManyhotError
        As in `manyhot.predict.models.find_model`.

    References
    ----------
    Gal and Ghahramani 2016, arXiv 1506.02142; Kirsch, van Amersfoort and Gal 2019, arXiv 1906.08158, for
    masks that all images share.
    """
    from manyhot.predict.models import find_model

    check_count(passes, "This is not a number of passes.", got=f"passes={passes}", allowed="1 or more")
    check_count(seed, "This is not a seed.", least=0, got=f"seed={seed}", allowed="0 or more")
    required("torch", "Dropout")
    network = find_model(name, classes)
    check_member(network, "Passes with dropout")
    is_multilabel = network.multilabel if multilabel is None else multilabel
    members = _passes(network, passes, seed, is_multilabel)
    about = {"dropout": f"{passes} passes, seed {seed}"}
    return average_network(f"dropout/{network.name}", network, members, about, multilabel=is_multilabel)


def _passes(
    network: Network, passes: int, seed: int, multilabel: bool
) -> Callable[[Bytes], Iterator[AnyFloats]]:
    """Return a function that yields the probabilities of each pass for cropped images."""
    import torch

    from manyhot.predict.engines.torch import device

    if network.module is None or not switch_on(network.module):
        raise InputError(
            "This model has no dropout, so all passes would be equal.",
            where=network.name,
            got="no module of PyTorch" if network.module is None else "no layer of dropout above 0",
            allowed="a network with dropout layers, such as one trained with drop=0.2",
        )
    on = device()
    before, after = _parts(network, on)

    def members(images: Bytes) -> Iterator[AnyFloats]:
        batch = torch.from_numpy(images).to(on)
        with torch.inference_mode(), pass_masks(seed, 0):
            same = before(batch)
        for number in range(passes):
            with torch.inference_mode(), pass_masks(seed, number):
                scores = after(same).float().flatten(1).cpu().numpy()
            yield member_probabilities(scores, network.score_kind, multilabel=multilabel, name=network.name)

    return members


def _parts(network: Network, on: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return a function for what is equal in all passes, and the rest of the network.

    For a head with the only dropout of a network, this is the backbone; otherwise, the images themselves.
    """
    module: Any = network.module
    layer: Any = module.get_submodule(network.head) if network.backbone else None
    alone = layer is not None and switch_on(module) == switch_on(layer)
    whole = normalised(module, network.preprocessing, network.head if alone else "").to(on)
    switch_on(module)  # building it has switched dropout off
    if not alone:
        return lambda images: images, whole
    return lambda images: whole(images)[1], layer


def switch_on(module: Any) -> int:
    """Set training mode for the layers that drop units, and return their number.

    These are dropout layers with a rate above 0, and modules of timm and torchvision that apply dropout
    themselves at the rate ``drop_rate``.
    """
    import torch

    kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d)
    module.eval()
    dropping = [m for m in module.modules() if isinstance(m, kinds) and m.p > 0]
    calling = (m for m in module.modules() if isinstance(getattr(m, "drop_rate", None), float))
    dropping += [m for m in calling if m.drop_rate > 0]
    for layer in dropping:
        layer.training = True  # of this module alone: its children may be batch norms
    return len(dropping)


def pass_masks(seed: int, number: int) -> Any:
    """Return a context in which each call of dropout has one mask for all images of the pass."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    spatial = {functional.dropout1d: 1, functional.dropout2d: 2, functional.dropout3d: 3}

    class Masks(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function is not functional.dropout and function not in spatial:
                return function(*args, **kwargs)
            return self.dropped(spatial.get(function, 0), *args, **kwargs)

        def dropped(
            self, axes: int, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
        ) -> Any:
            if not training or not p:
                return input
            self.calls += 1
            state = np.random.SeedSequence([seed, number, self.calls]).generate_state(1, np.uint64)[0]
            dice = torch.Generator().manual_seed(int(state >> np.uint64(1)))
            shape = [1, *input.shape[1 : input.ndim - axes], *[1] * axes]
            kept = torch.rand(shape, generator=dice) >= p
            return input * (kept.to(input.device, input.dtype) / max(1 - p, 1e-12))

    return Masks()
