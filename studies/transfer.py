"""Label sets and what networks are worth elsewhere.

Question: At equal compute, are features learnt from label sets better for classifying, detecting and
segmenting other images than features learnt from single labels?

Command: manyhot study studies/transfer.py

Time: about two hours on two cores (Intel Xeon) for the grid and the measures of all four studies.

Result: Undecided: sets against single in linear-probe mean average precision on another data set. Undecided:
sets against single in ten-shot accuracy on another data set. True label sets and single labels give features
for segmentation that are equally good, within a point. True label sets and single labels give features for
detection that are equally good, within a point.
"""

from grid import GRID, LIMITS, NOT_RUN, claim
from measuring.accuracy import ACCURACY
from measuring.transfer import TRANSFER

from manyhot.study import Study

study = Study(
    "transfer",
    "Label sets and what networks are worth elsewhere",
    "At equal compute, are features learnt from label sets better for classifying, detecting and segmenting "
    "other images than features learnt from single labels?",
    GRID,
    (ACCURACY, TRANSFER),
    (
        claim("sets", "probe_map", "features for the label sets of other images"),
        claim("sets", "few_shot_top1", "features for ten labelled images a class"),
        claim("sets", "segmentation_miou", "features for segmentation"),
        claim("sets", "detection_ap50", "features for detection"),
        claim("sets", "map_macro", "label sets of held-out images", main=False),
        claim("sets", "probe_map", "features for the label sets of other images", "single-bce", main=False),
        claim("reassessed", "probe_map", "features for the label sets of other images", main=False),
        claim("soft", "probe_map", "features for the label sets of other images", main=False),
        claim("role", "probe_map", "features for the label sets of other images", "single-bce", main=False),
        claim("em-apl", "probe_map", "features for the label sets of other images", "single-bce", main=False),
    ),
    limits=(
        *LIMITS,
        "Photographs of one data set and compositions of the other are far apart, and VOC's boxes and masks "
        "are of images of which some were trained on as voc9.",
    ),
    table=(
        "map_macro",
        "knn_top1",
        "probe_top1",
        "few_shot_top1",
        "probe_map",
        "segmentation_miou",
        "detection_ap50",
    ),
    about="Networks stay as they are; heads are fitted on their features and maps.",
    not_run=NOT_RUN[:1],
)
