"""Label sets and predictive uncertainty.

Question: Are networks that learn from label sets better calibrated, and surer where they are right? And does
the ranking of networks and of uncertainty scores change when right is being in the label set?

Command: manyhot study studies/uncertainty.py

Time: about two hours on two cores (Intel Xeon) for the grid and the measures of all four studies.

Result: Calibration by label ranks networks otherwise than by label set, more often than by chance. Undecided:
share of pairs of uncertainty scores in another order by label set against share of pairs in another order on
other images, in single. Goes both ways: sets against single in calibration error by label set. True label
sets give better orders of confidence, by label sets, than single labels, perhaps by less than matters. True
label sets give better confidences for telling unknown classes than single labels.
"""

from grid import GRID, LIMITS, NOT_RUN, RANKINGS, claim
from measuring.accuracy import ACCURACY
from measuring.orders import ORDERS_OF_TRUST
from measuring.recalibration import RECALIBRATION
from measuring.uncertainty import UNCERTAINTY

from manyhot.study import Claim, Study

study = Study(
    "uncertainty",
    "Label sets and predictive uncertainty",
    "Are networks that learn from label sets better calibrated, and surer where they are right? And does "
    "the ranking of networks and of uncertainty scores change when right is being in the label set?",
    GRID,
    (ACCURACY, UNCERTAINTY, RECALIBRATION, ORDERS_OF_TRUST),
    (
        Claim(
            "networks ranked by calibration",
            "swapped_ece",
            "all",
            0.05,
            "Calibration by label and by label set rank networks more alike than two sets of images would.",
            "Calibration by label ranks networks otherwise than by label set, more often than by chance.",
            "Calibration by label and by label set rank networks as alike as two sets of images would.",
            than="by_chance_ece",
            called=RANKINGS,
        ),
        Claim(
            "uncertainty scores ranked",
            "swapped",
            "single",
            0.05,
            "Confidence, margin, entropy and energy are ranked alike by label and by label set.",
            "The ranking of confidence, margin, entropy and energy changes with label sets, more "
            "often than by chance.",
            "The ranking of confidence, margin, entropy and energy changes with label sets as often "
            "as by chance.",
            than="swapped_again",
            called=RANKINGS,
        ),
        claim("sets", "ece_set", "calibrated confidences, by label sets,"),
        claim("sets", "aurc_set", "orders of confidence, by label sets,"),
        claim("sets", "unknown_confidence", "confidences for telling unknown classes"),
        claim("sets", "ece", "calibrated confidences, by labels,", main=False),
        # Added after one seed of a pilot had shown it on test images.
        Claim(
            "uncertainty scores ranked, of sigmoids",
            "swapped",
            "sets",
            0.05,
            "Of networks that learnt label sets the four scores are ranked alike by label and by label set.",
            "Of networks that learnt label sets the ranking of the four scores changes more often "
            "than by chance.",
            "Of networks that learnt label sets the ranking of the four scores changes as often as "
            "by chance.",
            than="swapped_again",
            called=RANKINGS,
            main=False,
        ),
        claim("sets", "brier_set", "Brier scores, by label sets,", main=False),
        claim("sets", "error_auroc_set", "confidences for finding errors, by label sets,", main=False),
        claim("sets", "classwise_ece_set", "class probabilities", "single-bce", main=False),
        Claim(
            "recalibrated by label",
            "ece_set_to_label",
            "single",
            0.01,
            "Recalibrated by labels, networks that learnt single labels are better calibrated by label "
            "sets than they were.",
            "Recalibrated by labels, networks that learnt single labels are worse calibrated by label "
            "sets than they were.",
            "Recalibrated by labels, networks that learnt single labels are as well calibrated by label "
            "sets as they were, within a point.",
            than="ece_set",
            main=False,
        ),
        claim(
            "sets",
            "ece_set_to_set",
            "calibrated confidences, by label sets and once recalibrated to them,",
            main=False,
        ),
        claim("reassessed", "ece_set", "calibrated confidences, by label sets,", main=False),
        claim("soft", "ece_set", "calibrated confidences, by label sets,", main=False),
        Claim(
            "networks ranked by selective prediction",
            "swapped_aurc",
            "all",
            0.05,
            "Selective prediction by label and by label set rank networks more alike than two sets "
            "of images would.",
            "Selective prediction by label ranks networks otherwise than by label set, more often "
            "than by chance.",
            "Selective prediction by label and by label set rank networks as alike as two sets of "
            "images would.",
            than="by_chance_aurc",
            called=RANKINGS,
            main=False,
        ),
    ),
    limits=(
        *LIMITS,
        "Confidences are recalibrated on the 500 images that learning rates were chosen on.",
        "A sigmoid's confidence is that of its best class alone, a softmax's shares one unit between "
        "classes: what is between the two arms is loss as well as labels; the arm single-bce tells "
        "them apart.",
        "Unknown classes: frogs and trucks for compositions; birds, reptiles and the like of ImageNet and "
        "COCO's other classes for voc9, 233 photographs.",
    ),
    table=(
        "top1",
        "real1",
        "ece",
        "ece_set",
        "ece_set_to_label",
        "ece_set_to_set",
        "aurc",
        "aurc_set",
        "unknown_confidence",
    ),
    not_run=NOT_RUN,
)
