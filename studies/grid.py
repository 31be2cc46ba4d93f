"""The grid of runs that all four studies share, and what limits all of them."""

from __future__ import annotations

from typing import Any

from arms import ARMS
from data_sets import CIFAR_SETS, VOC9
from networks import NETWORKS

from manyhot.study import Claim, Grid

GRID = Grid((VOC9, CIFAR_SETS), NETWORKS, ARMS, seeds=(0, 1, 2))

LIMITS = (
    "Two data sets of nine and eight classes, a few thousand images of 64 to 128 pixels, and small "
    "networks: nothing here is known to hold for ImageNet.",
    "Three seeds. Intervals are over seeds and test images, not over data sets.",
    "EfficientNet-Lite0 starts from weights fitted to ImageNet's single labels, in all arms, and only its "
    "last stage learns anything else.",
    "Simulated raters err as ReaL's did on ImageNet's classes, which are harder to tell apart, and "
    "independently of the image and of one another.",
    "How probable a class must be to be proposed was chosen by the true label sets of voc9's training "
    "images; a campaign would choose it by golden questions.",
    "Numbers on test images of a few networks of one or two seeds were seen while measures were made. Rates "
    "and epochs were chosen on other images.",
    "The label is the class of the largest object. ImageNet's were not chosen so.",
    "Margins and sentences were fixed beforehand, but the rule for verdicts was made stricter after the "
    "runs: before, an interval that excluded 0 decided alone, pairs that contradicted each other were "
    "averaged, and so were natural and planted companions, whose claims were divided afterwards.",
)

NOT_RUN = (
    "ResNet-50 and ViT-S on ImageNet: no GPU was at hand.",
    "MC dropout and ensembles as uncertainty methods: the networks have no dropout, and an ensemble is "
    "another amount of compute.",
)


RANKINGS = ("More alike", "Different")
"""What the verdicts of two rankings are called, held against what two sets of images would change."""

_NAMES = {
    "single": "single labels",
    "single-bce": "single labels under the same loss",
    "sets": "True label sets",
    "reassessed": "Label sets of simulated raters",
    "soft": "Soft labels of an ensemble",
    "role": "ROLE",
    "em-apl": "Entropy maximisation with pseudo-labels",
}


def claim(arm: str, metric: str, words: str, against: str = "single", **more: Any) -> Claim:
    """Return the claim that networks of one arm are better than those of another.

    Parameters
    ----------
    arm, metric, against : str
    words : str
        What is better or worse, in the plural: ``features for segmentation``.
    more
        Other fields of `Claim`; the margin is a point by default.
    """
    one, other = _NAMES[arm], _NAMES[against]
    give = "gives" if arm in ("role", "em-apl") else "give"
    margin = more.pop("margin", 0.01)
    within = "a point" if margin == 0.01 else f"{100 * margin:g} points"
    where = "".join(f", {name}" for name in more.get("data_sets", ()))
    return Claim(
        f"{metric}: {arm} against {against}{where}",
        metric,
        arm,
        margin,
        f"{one} {give} better {words} than {other}.",
        f"{one} {give} worse {words} than {other}.",
        f"{one} and {other} give {words} that are equally good, within {within}.",
        against,
        **more,
    )
