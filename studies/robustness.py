"""Label sets, corruptions and shortcuts.

Question: Do networks that learn from label sets lose less on corrupted images, and do their predictions of a
class hang less on what is beside it?

Command: manyhot study studies/robustness.py

Time: about two hours on two cores (Intel Xeon) for the grid and the measures of all four studies.

Result: Undecided: sets against single in accuracy on corrupted images by label set. Undecided: sets against
single in accuracy lost to corruptions by label set. True label sets give better recalls without the usual
companion, against those with it, than single labels, perhaps by less than matters. True label sets give worse
recalls without the planted companion, against those with it, than single labels. True label sets give better
average precisions where the usual companion tells nothing than single labels. True label sets give better
average precisions where the planted companion tells nothing than single labels.
"""

from typing import Any

from grid import GRID, LIMITS, NOT_RUN, claim
from measuring.accuracy import ACCURACY
from measuring.robustness import ROBUSTNESS

from manyhot.study import Claim, Study


def beside(metric: str, words: str, **more: Any) -> tuple[Claim, Claim]:
    """Return the claims about companions that occur together in photographs, and about a planted one."""
    kinds = {"voc9": "the usual companion", "cifar-sets": "the planted companion"}
    natural, planted = (
        claim("sets", metric, words.format(companion), data_sets=(name,), **more)
        for name, companion in kinds.items()
    )
    return natural, planted


study = Study(
    "robustness",
    "Label sets, corruptions and shortcuts",
    "Do networks that learn from label sets lose less on corrupted images, and do their predictions of a "
    "class hang less on what is beside it?",
    GRID,
    (ACCURACY, ROBUSTNESS),
    (
        claim("sets", "corrupted_real1", "predictions of corrupted images, by label set,"),
        claim("sets", "lost_real1", "robustness to corruptions, in points lost by label set,"),
        *beside("recall_gap", "recalls without {}, against those with it,", margin=0.03),
        *beside("ap_balanced", "average precisions where {} tells nothing"),
        *beside("hallucination_gap", "calls of a class beside {} alone", margin=0.03, main=False),
        claim("sets", "lost_top1", "robustness to corruptions, in points lost by label,", main=False),
        claim(
            "sets", "lost_map_macro", "robustness to corruptions, in mean average precision lost,", main=False
        ),
        claim("sets", "lost_real1", "robustness to corruptions, by label set,", "single-bce", main=False),
        *beside("recall_gap", "recalls without {}", against="single-bce", margin=0.03, main=False),
        claim(
            "reassessed", "lost_real1", "robustness to corruptions, in points lost by label set,", main=False
        ),
        claim("soft", "lost_real1", "robustness to corruptions, in points lost by label set,", main=False),
    ),
    limits=(
        *LIMITS,
        "Four of ImageNet-C's fifteen corruptions at three severities, on 300 images, which are enlarged to "
        "224 pixels, corrupted, and reduced again: noise is weaker than in photographs of that size.",
        "One planted pair of classes, and five pairs of VOC with few images of both.",
    ),
    table=(
        "real1",
        "corrupted_top1",
        "corrupted_real1",
        "lost_top1",
        "lost_real1",
        "recall_gap",
        "hallucination_gap",
    ),
    not_run=NOT_RUN[:1],
)
