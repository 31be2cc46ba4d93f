"""Label sets and the ranking of networks.

Question: Do single labels and label sets rank trained networks alike, and which of the two tells what
networks are worth elsewhere?

Command: manyhot study studies/benchmarking.py

Time: about two hours on two cores (Intel Xeon) for the grid and the measures of all four studies.

Result: top1 ranks networks otherwise than real1, more often than by chance. top1 ranks networks otherwise
than map_macro, more often than by chance. Undecided: share of pairs in the order of transfer by real1 against
share of pairs in the order of transfer by top1. Goes both ways: share of pairs in the order of transfer by
map_macro against share of pairs in the order of transfer by top1.
"""

from grid import GRID, LIMITS, NOT_RUN, RANKINGS, claim
from measuring.accuracy import ACCURACY
from measuring.orders import ORDERS
from measuring.transfer import TRANSFER

from manyhot.study import Claim, Study


def _ranks(metric: str, main: bool) -> Claim:
    return Claim(
        f"networks ranked by {metric}",
        f"swapped_{metric}",
        "all",
        0.05,
        f"top1 and {metric} rank networks more alike than two sets of images would.",
        f"top1 ranks networks otherwise than {metric}, more often than by chance.",
        f"top1 and {metric} rank networks as alike as two sets of images would.",
        than="by_chance",
        main=main,
        called=RANKINGS,
    )


def _tells(metric: str) -> Claim:
    return Claim(
        f"transfer told by {metric}",
        f"tells_{metric}",
        "all",
        0.05,
        f"{metric} tells better than top1 what networks are worth elsewhere.",
        f"{metric} tells less well than top1 what networks are worth elsewhere.",
        f"{metric} and top1 tell equally well what networks are worth elsewhere.",
        than="tells_top1",
    )


study = Study(
    "benchmarking",
    "Label sets and the ranking of networks",
    "Do single labels and label sets rank trained networks alike, and which of the two tells what networks "
    "are worth elsewhere?",
    GRID,
    (ACCURACY, TRANSFER, ORDERS),
    (
        _ranks("real1", True),
        _ranks("map_macro", True),
        _tells("real1"),
        _tells("map_macro"),
        _ranks("asma", False),
        _ranks("variable_topk", False),
        claim("sets", "top1", "labels of held-out images", main=False),
        claim("sets", "real1", "best classes of held-out images, by label set,", main=False),
    ),
    limits=(
        *LIMITS,
        "Networks that are ranked differ in what they learnt from, and not in their architecture: published "
        "rankings are of architectures.",
        "What networks are worth elsewhere is six numbers, each counted once.",
    ),
    table=("top1", "real1", "variable_topk", "asma", "map_macro"),
    not_run=NOT_RUN[:1],
)
