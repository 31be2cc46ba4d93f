"""The networks of the studies, with settings chosen on the images of ``val``; see `pilot.py`."""

from __future__ import annotations

from typing import Any

from manyhot.study import Net, StudyRun

_TINY = {"epochs": 1, "batch": 16, "size": 32, "warmup": 0.0, "precision": "32-true"}

SMALL = Net(
    "small",
    "A small residual network (timm's test_resnet, 0.4 million weights) from random weights, on "
    "crops of 64 pixels.",
    {
        "model": "timm/test_resnet",
        "weights": "none",
        "size": 64,
        "epochs": 32,
        "batch": 64,
        "lr": 1e-2,
        "least_area": 0.35,
        "precision": "bf16-mixed",
    },
    _TINY,
)

LITE0 = Net(
    "lite0",
    "EfficientNet-Lite0 with its published weights, fitted to ImageNet's single labels; its last stage and "
    "a new head are trained on features of 128-pixel images that are computed once.",
    {
        "model": "efficientnet-lite0",
        "weights": "published",
        "trained_from": "blocks.6",
        "size": 128,
        "augment": "none",
        "epochs": 8,
        "batch": 64,
        "lr": 3e-4,
    },
    {**_TINY, "model": "timm/test_efficientnet", "weights": "none", "trained_from": "blocks.4"},
)

NETWORKS = (SMALL, LITE0)


def engine_of(run: StudyRun) -> str:
    """Return what predicts fastest: a small network is through before OpenVINO has read it."""
    return "openvino" if run.network == LITE0.name and not run.smoke else "torch"


def settings_of(run: StudyRun) -> dict[str, Any]:
    """Return the settings of a run's network, whatever its arm."""
    (net,) = (n for n in NETWORKS if n.name == run.network)
    return {**net.settings, **(net.smoke if run.smoke else {})}
