"""The tables of diagnose calibration."""

from __future__ import annotations

from manyhot.core.conformal import COVERS, DRAWN
from manyhot.evaluate.confidence import FITTED_TO, RECALIBRATIONS
from manyhot.evaluate.reliability import EVENTS
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval

EACH_CLASS = "class"
"""The event of a bin that contains all classes, each against its label."""

declare_table(
    "calibration",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT(
            "method",
            "the recalibration method; none if the predictions are the original ones",
            values=("none", *RECALIBRATIONS),
        ),
        TEXT.nullable(
            "fitted_to",
            "whether the method was fitted to original labels or to label sets; null if there is no method",
            values=FITTED_TO,
        ),
        REAL.nullable(
            "temperature", "the number by which logits are divided; null for methods without a temperature"
        ),
        COUNT("n_fitted", "number of images fitted on"),
        TEXT("metric", "a registered name"),
        REAL("value", "value on the held-out images; NaN if undefined"),
        *bounds("lo", "hi", "its 95 % interval over these images; null if there is none"),
        COUNT("n", "held-out images that the metric counts"),
        COUNT("n_skipped", "held-out images that the metric does not count"),
        COUNT("n_unmatched", "images with labels for which the model has no prediction"),
    ),
)

declare_table(
    "prediction_sets",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT(
            "cover",
            "what a prediction set must contain: the original label, one class of the label set, or all "
            "classes of the label set; or, if labels have probabilities, a drawn class, or all classes of a "
            "drawn label set",
            values=(*COVERS, *DRAWN),
        ),
        REAL("alpha", "permitted share of sets without the required classes; coverage should be 1 - alpha"),
        REAL(
            "threshold",
            "lowest probability that a class in a set may have; at 0, each set contains all classes",
        ),
        COUNT("n_fitted", "number of images on which the threshold was chosen"),
        COUNT("n", "number of held-out images, on which the following columns are measured"),
        COUNT("n_skipped", "number of held-out images without labels to cover"),
        REAL("coverage", "share of held-out images whose set contains the required classes"),
        *bounds("lo", "hi", f"{ITS} (Wilson; jackknife for drawn labels)", column=REAL),
        *interval(
            "mean_size",
            "mean number of classes in a set",
            f"{ITS} (Student's t); NaN if all sets are equally large",
            value=REAL,
        ),
        *interval("share_empty", "share of sets without any class", f"{ITS} (Wilson)", value=REAL),
    ),
)


declare_table(
    "calibration_bins",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "as in calibration", values=("none", *RECALIBRATIONS)),
        TEXT.nullable("fitted_to", "as in calibration", values=FITTED_TO),
        TEXT(
            "event",
            "as in reliability; class for each class against its label, all classes together",
            values=(*EVENTS, EACH_CLASS),
        ),
        REAL("from", "lower end of the bin"),
        REAL("to", "upper end of the bin; only the last bin includes its upper end"),
        REAL("confidence", "mean probability of the top class, or of each class"),
        REAL("right", "share of images with a correct top class, or of valid classes"),
        *bounds("lo", "hi", f"{ITS} (Wilson; images with several classes in a bin are one cluster)"),
        COUNT(
            "n",
            "number of held-out images in the bin with a result for every event; for the event class, number "
            "of (image, class) pairs of all images",
        ),
    ),
)

_AGAINST_CHANCE = "labels that are drawn from the probabilities of the class"

declare_table(
    "class_calibration",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        INT("class_id", "the class"),
        TEXT("key", "key of the class"),
        TEXT("name", "name of the class"),
        REAL("predicted", "mean probability of the class; NaN if it was asked on no image"),
        *interval("prevalence", "share of images with the class", f"{ITS} (Wilson)", value=REAL),
        *interval(
            "excess",
            "predicted minus prevalence",
            f"{ITS} (Newcombe, from those of both, with their correlation)",
            value=REAL,
        ),
        REAL("ece", "calibration error of the class in bins of equal width, as in the metric ece"),
        REAL("ece_chance", f"mean calibration error on {_AGAINST_CHANCE}: what chance adds to an error of 0"),
        REAL("ece_chance_hi", f"95 % quantile of the calibration error on {_AGAINST_CHANCE}"),
        *interval(
            "brier",
            "mean squared difference between probability and label",
            f"{ITS} (jackknife); null with fewer than 10 images with or without the class",
            value=REAL,
        ),
        COUNT(
            "n",
            "number of usable images on which the class was answered yes or no, with and without valid "
            "classes; if the label sets do not record which classes were answered no, all usable images",
        ),
        COUNT("n_positives", "number of these images with the class"),
        COUNT("n_unclear", "number of usable images on which the class is unclear, which do not count"),
        COUNT("n_unasked", "number of usable images on which nobody was asked, which do not count"),
    ),
)
