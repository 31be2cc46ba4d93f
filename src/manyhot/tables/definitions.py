"""What the tables are: their names, columns and the values that these may hold."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from manyhot.core.answers import ANSWERS

STATES = ("no", "unclear", "yes")
FLAGS = ("spammer", "copier", "too fast")
MEASURES = (
    "pairwise",
    "fleiss_kappa",
    "alpha_nominal",
    "alpha_ordinal",
    "alpha_jaccard",
    "alpha_masi",
    "golden_accuracy",
    "golden_sensitivity",
    "golden_specificity",
    "always_no",
)
EXPLAINED_BY = ("gradcam", "integrated-gradients", "occlusion", "saliency")
MAP_MEASURES = ("pointing", "pointing_near", "pointing_other", "energy", "overlap", "auroc")
COMPARED_WITH = ("weights", "class", "image")
SCALES = ("plain", "logit", "probit")
EVENTS = ("label", "set")
COVERS = ("label", "one", "all")
RECALIBRATIONS = ("temperature", "vector", "isotonic")
TREATMENTS = ("none", "augmentation", "label sets", "label sets and augmentation")
WORTH = ("lost", "flips", "recall_gap", "hallucination_gap", "ap", "ap_balanced", "top1", "real1", "map")
FITTED_TO = ("labels", "sets")
FILLS = ("grey", "inpaint")
CONTROLS = 2
"""Images with a control that a row of shortcuts is testable from: of one no interval is above 0."""
VERDICTS = ("better", "worse", "same", "undecided", "not run")
ANALYSES = (
    "as published",
    "not empty",
    "sizes of y",
    "sizes of x",
    "rated at x",
    "rated, sizes of y",
    "threshold at x",
)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name, doc : str
    type : pyarrow.DataType
    required : bool
        Without it the table is not usable.
    nullable : bool
        Whether values may be null.
    values : tuple of str
        The only values allowed; empty for any.
    """

    name: str
    type: pa.DataType
    doc: str
    required: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()


_text, _int, _real, _flag = pa.string(), pa.int32(), pa.float64(), pa.bool_()


def _optional(name: str, kind: pa.DataType, doc: str, values: tuple[str, ...] = ()) -> Column:
    return Column(name, kind, doc, required=False, nullable=True, values=values)


def _measured(name: str, kind: pa.DataType, doc: str) -> Column:
    """Return a column that is null where nothing was measured."""
    return Column(name, kind, doc, nullable=True)


def _of_maps(name: str, doc: str) -> tuple[Column, ...]:
    """Return the columns of a measure of maps, and what it would be without looking at the image."""
    return (
        _measured(name, _real, doc),
        _measured(f"{name}_by_chance", _real, "the same of a map without sense"),
        _measured(f"{name}_centre", _real, "the same of a Gaussian in the middle of the image"),
    )


_ENDS = (
    Column("dataset_x", _text, "the data set of x"),
    Column("metric_x", _text, "the metric of x"),
    Column("slice_x", _text, "the images of x"),
    Column("dataset_y", _text, "the data set of y"),
    Column("metric_y", _text, "the metric of y"),
    Column("slice_y", _text, "the images of y"),
)
"""What a comparison is between: one number a model at x, and one at y."""

_COPY = (
    Column(
        "kind", _text, "the kind of corruption, clean for none; null of a data set and of all", nullable=True
    ),
    Column("severity", _int, "1 to 5, 0 for none; null of a data set and of all", nullable=True),
)

_OF_STUDY = (
    Column("dataset", _text, "the data set"),
    Column("network", _text, "the network; all where it was measured across them"),
    Column("arm", _text, "what it learnt from; all where it was measured across arms"),
)
"""Which runs of a study a number is of."""

TABLES: dict[str, tuple[Column, ...]] = {
    "classes": (
        Column("class_id", _int, "position in the class list, from 0"),
        Column("key", _text, "WordNet id or folder name"),
        Column("name", _text, "readable and unique"),
        _optional("synonyms", pa.list_(_text), "other names"),
        _optional("definition", _text, "what the class is"),
        _optional("hypernyms", pa.list_(_text), "path to the root of the hierarchy, nearest first"),
    ),
    "images": (
        Column("image_id", _text, "base name with extension"),
        _optional("uri", _text, "where the image lies"),
        _optional("label", _int, "the original single label, null if there is none"),
        _optional("width", _int, "pixels"),
        _optional("height", _int, "pixels"),
        _optional("split", _text, "such as train or val"),
    ),
    "predictions": (
        Column("image_id", _text, "as in images"),
        _optional("classes", pa.list_(_int), "predicted classes, best first; absent when scores are dense"),
        _optional(
            "scores",
            pa.list_(pa.float32()),
            "of `classes`, or of all classes in class order; float16 or float32",
        ),
        _optional(
            "logsumexp",
            pa.float32(),
            "over the logits of all classes, so that a top-k file gives probabilities",
        ),
    ),
    "proposals": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("score", _real, "of the rule that proposed it"),
        Column("n_models", _int, "models that proposed it"),
        Column("source", _text, "the rule"),
    ),
    "votes": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("rater_id", _text, "who answered"),
        Column("answer", _text, "the answer", values=ANSWERS),
        _optional("main", _flag, "whether it is the main object"),
        _optional("page_id", _text, "the page that was shown"),
        _optional("shown_at", pa.timestamp("us", "UTC"), "when it was shown"),
        _optional("answered_at", pa.timestamp("us", "UTC"), "when it was answered"),
        _optional("round", _int, "0 first, 1 refinement, …"),
    ),
    "golden": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("expert_id", _text, "who answered"),
        Column("answer", _text, "the answer", values=ANSWERS),
    ),
    "raters": (
        Column("rater_id", _text, "who answered"),
        Column("votes", pa.int64(), "answers"),
        Column("no", _real, "share of no among them"),
        Column("maybe", _real, "share of maybe"),
        Column("yes", _real, "share of yes"),
        Column(
            "agreement",
            _real,
            "share of the other raters' answers to the same questions that are the same",
            nullable=True,
        ),
        Column("others", pa.int64(), "these answers of others"),
        Column(
            "sensitivity",
            _real,
            "probability of a yes where the truth is yes, as the method has it; null where it has none",
            nullable=True,
        ),
        Column(
            "specificity",
            _real,
            "probability of no yes where the truth is no, as the method has it; null where it has none",
            nullable=True,
        ),
        Column("golden", pa.int64(), "golden questions answered"),
        Column("golden_yes", pa.int64(), "of these, those whose truth is yes"),
        Column(
            "golden_accuracy",
            _real,
            "share of right answers to golden questions; a maybe counts as no, here and in what follows",
            nullable=True,
        ),
        Column("golden_sensitivity", _real, "share of yes where the truth is yes", nullable=True),
        Column("golden_specificity", _real, "share of no yes where the truth is no", nullable=True),
        Column(
            "informedness",
            _real,
            "how far answers tell the truths apart: 2 AUC - 1, without maybes sensitivity + specificity "
            "- 1; on golden questions where there are both kinds, else against the majority of the others",
            nullable=True,
        ),
        Column("informedness_lo", _real, "lower end of its 95 % interval", nullable=True),
        Column("informedness_hi", _real, "upper end of its 95 % interval", nullable=True),
        Column("seconds", _real, "median time for an answer; null where no times are known", nullable=True),
        Column("pages", pa.int64(), "pages that the time is known of"),
        Column("flags", pa.list_(_text), "what is suspicious", values=FLAGS),
    ),
    "rater_pairs": (
        Column("rater_a", _text, "one rater"),
        Column("rater_b", _text, "another"),
        Column("n", pa.int64(), "questions that both answered"),
        Column("agreement", _real, "share of these with the same answer"),
        Column("kappa", _real, "Cohen's kappa of the two", nullable=True),
        Column(
            "wrong",
            pa.int64(),
            "questions on which at least one of the two is against the majority of two or more others",
        ),
        Column("same_wrong", pa.int64(), "of these, those on which both are, with the same answer"),
        Column("copies", _flag, "whether the two make the same errors"),
    ),
    "confusion": (
        Column("rater_id", _text, "who answered; null for all together", nullable=True),
        Column("truth", _text, "the truth of golden questions", values=("no", "yes")),
        Column("answer", _text, "the answer", values=ANSWERS),
        Column("n", pa.int64(), "answers"),
        Column("share", _real, "of the answers under this truth", nullable=True),
    ),
    "agreement": (
        Column("measure", _text, "what is measured", values=MEASURES),
        Column("value", _real, "the value; NaN where it is undefined"),
        Column("lo", _real, "lower end of the 95 % interval, null without one", nullable=True),
        Column("hi", _real, "upper end of the 95 % interval, null without one", nullable=True),
        Column("n", pa.int64(), "questions, sheets or raters counted"),
        Column(
            "n_skipped", pa.int64(), "those left out, for one rater alone answered, or no golden question"
        ),
    ),
    "curve": (
        Column("threshold", _real, "a class counts if its probability is no lower"),
        Column("precision", _real, "share of the golden questions kept whose truth is yes", nullable=True),
        Column("precision_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("precision_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column(
            "recall", _real, "share of the golden questions with the truth yes that are kept", nullable=True
        ),
        Column("recall_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("recall_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("kept", pa.int64(), "golden questions at or above the threshold"),
        Column("right", pa.int64(), "of these, those whose truth is yes"),
        Column("n_yes", pa.int64(), "golden questions whose truth is yes"),
        Column("n_questions", pa.int64(), "golden questions among the votes"),
        Column("n_images", pa.int64(), "images that these are on, which are what is resampled"),
    ),
    "remarks": (
        Column("image_id", _text, "as in images"),
        Column("rater_id", _text, "who wrote"),
        _optional("text", _text, "the comment"),
        _optional("missing_class_id", _int, "a class that is missing"),
        _optional("at", pa.timestamp("us", "UTC"), "when"),
    ),
    "labels": (
        Column("image_id", _text, "as in images"),
        _optional("label", _int, "the original single label, null if unknown"),
        _optional("rated", _flag, "whether people looked at the image; null where the source cannot tell"),
        Column("usable", _flag, "false: leave the image out"),
        Column(
            "classes", pa.list_(_int), "every class asked about; one that is not listed was not asked about"
        ),
        Column(
            "state",
            pa.list_(_text),
            "of each class; the label set is the classes with state yes",
            values=STATES,
        ),
        _optional("p", pa.list_(pa.float32()), "probability that each class is valid"),
        _optional("n_votes", pa.list_(_int), "answers that each state rests on"),
        _optional("method", _text, "how the states were reached"),
    ),
    "results": (
        Column("dataset", _text, "the data set judged on"),
        Column("model", _text, "the model judged"),
        Column("metric", _text, "a registered name, with its options; of transfer METHOD/NAME"),
        Column("slice", _text, "which images"),
        Column("value", _real, "the value; NaN where it is undefined"),
        Column("lo", _real, "lower end of the 95 % interval, null without one", nullable=True),
        Column("hi", _real, "upper end of the 95 % interval, null without one", nullable=True),
        Column("n", pa.int64(), "images counted"),
        Column("n_skipped", pa.int64(), "images of the slice left out; n + n_skipped are the aligned images"),
    ),
    "pairs": (
        Column("dataset", _text, "the data set judged on"),
        Column("metric", _text, "a registered name, with its options"),
        Column("slice", _text, "which images"),
        Column("model_a", _text, "one model"),
        Column("model_b", _text, "the other"),
        Column("diff", _real, "value of model_a less that of model_b"),
        Column("lo", _real, "lower end of the 95 % interval of diff", nullable=True),
        Column("hi", _real, "upper end of the 95 % interval of diff", nullable=True),
        Column("p", _real, "two-sided, that diff is 0", nullable=True),
        Column("p_adjusted", _real, "Holm over all pairs of the data set, metric and slice", nullable=True),
        Column("n", pa.int64(), "images that count for both models"),
    ),
    "models": (
        Column("model", _text, "as in results"),
        _optional("family", _text, "the line of architectures it belongs to, such as resnet"),
        _optional("pretraining", _text, "the data it saw before ImageNet-1k; in-1k where none"),
        _optional("params", _real, "parameters, in millions"),
        _optional("img_size", _int, "side of the images it sees, in pixels"),
    ),
    "samples": (
        Column("dataset", _text, "the data set judged on"),
        Column("model", _text, "the model judged"),
        Column("metric", _text, "a registered name, with its options"),
        Column("slice", _text, "which images"),
        Column(
            "values",
            pa.list_(pa.float32()),
            "the value in each resample; the resamples are the same for all rows of a data set",
        ),
    ),
    "drops": (
        *_ENDS,
        Column("model", _text, "the model; null for the mean over models", nullable=True),
        Column("value_x", _real, "value at x"),
        Column("value_y", _real, "value at y"),
        Column("drop", _real, "value_x less value_y"),
        Column("lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column(
            "lo_models", _real, "lower end of the mean's 95 % interval over families of models", nullable=True
        ),
        Column(
            "hi_models", _real, "upper end of the mean's 95 % interval over families of models", nullable=True
        ),
        Column(
            "above_fit", _real, "effective robustness: value_y less what the logit fit gives", nullable=True
        ),
        Column("n_x", pa.int64(), "images counted at x; the smallest over the models for the mean"),
        Column("n_y", pa.int64(), "images counted at y; the smallest over the models for the mean"),
        Column("n_models", pa.int64(), "models averaged, 1 for one"),
    ),
    "fits": (
        *_ENDS,
        Column("models", _text, "which models: all, or those from a value at x on, such as x>=0.85"),
        Column("scale", _text, "of both axes", values=SCALES),
        Column("slope", _real, "slope of the least-squares line"),
        Column("slope_lo", _real, "lower end of its 95 % interval over families of models", nullable=True),
        Column("slope_hi", _real, "upper end of its 95 % interval over families of models", nullable=True),
        Column("intercept", _real, "intercept"),
        Column(
            "intercept_lo", _real, "lower end of its 95 % interval over families of models", nullable=True
        ),
        Column(
            "intercept_hi", _real, "upper end of its 95 % interval over families of models", nullable=True
        ),
        Column("r2", _real, "share of variance explained", nullable=True),
        Column("n", pa.int64(), "models"),
        Column("n_families", pa.int64(), "families of models, which are what is resampled"),
    ),
    "ranks": (
        *_ENDS,
        Column("tau", _real, "Kendall's tau-b between the two orders of the models", nullable=True),
        Column("lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("lo_models", _real, "lower end of its 95 % interval over families of models", nullable=True),
        Column("hi_models", _real, "upper end of its 95 % interval over families of models", nullable=True),
        Column("n_models", pa.int64(), "models ranked"),
        Column("n_pairs", pa.int64(), "pairs of models"),
        Column("n_swapped", pa.int64(), "pairs in another order at y than at x"),
        Column(
            "n_beyond_noise",
            pa.int64(),
            "of these, pairs that differ beyond noise both at x and at y; null where no pairs were tested",
            nullable=True,
        ),
    ),
    "swaps": (
        *_ENDS,
        Column("model_a", _text, "the better model at x"),
        Column("model_b", _text, "the better model at y"),
        Column("diff_x", _real, "value of model_a less that of model_b at x"),
        Column("diff_y", _real, "the same at y"),
        Column("p_x", _real, "p_adjusted of the pair at x", nullable=True),
        Column("p_y", _real, "p_adjusted of the pair at y", nullable=True),
        Column("beyond_noise", _flag, "whether both differences are beyond noise", nullable=True),
    ),
    "sensitivity": (
        Column("dataset_x", _text, "the data set on the x axis"),
        Column("dataset_y", _text, "the data set on the y axis"),
        Column("metric", _text, "a registered name, with its options"),
        Column("analysis", _text, "what was changed", values=ANALYSES),
        Column(
            "threshold",
            _real,
            "of the labels' probability at x; null where it is the published one",
            nullable=True,
        ),
        Column("value_x", _real, "mean over models at x"),
        Column("value_y", _real, "mean over models at y"),
        Column("drop", _real, "value_x less value_y"),
        Column("lo_models", _real, "lower end of its 95 % interval over families of models", nullable=True),
        Column("hi_models", _real, "upper end of its 95 % interval over families of models", nullable=True),
        Column("multi_x", _real, "share of the sets at x with two or more labels"),
        Column("multi_y", _real, "share of the sets at y with two or more labels"),
        Column("n_x", pa.int64(), "images counted at x, the smallest over the models"),
        Column("n_y", pa.int64(), "images counted at y, the smallest over the models"),
        Column("n_models", pa.int64(), "models averaged"),
    ),
    "datasets": (
        Column("dataset", _text, "the data set judged on"),
        Column("images", pa.int64(), "images of the labels table"),
        Column("unusable", pa.int64(), "images left out"),
        Column(
            "rated",
            pa.int64(),
            "images that people looked at; null where the source cannot tell",
            nullable=True,
        ),
        Column(
            "asked",
            pa.int64(),
            "(image, class) pairs asked about; null where no noes are recorded",
            nullable=True,
        ),
        Column(
            "confirmed",
            pa.int64(),
            "of the pairs asked about, those found valid; null where no noes are recorded",
            nullable=True,
        ),
        _optional(
            "unclear",
            pa.int64(),
            "of the pairs asked about, those of which raters could not tell; null where no noes are recorded",
        ),
        Column(
            "labels", pa.int64(), "valid (image, class) pairs, those of images that nobody looked at included"
        ),
        Column("empty", pa.int64(), "usable images without a valid class"),
        Column("multi", pa.int64(), "usable images with two or more"),
        Column("labelled", pa.int64(), "usable images with an original label"),
        Column(
            "rejected",
            pa.int64(),
            "of these, images on which it is not valid, those without any valid class included",
        ),
        Column("method", _text, "how the label sets were reached", nullable=True),
        _optional("licence", _text, "of the labels, from the catalogue"),
        _optional("citation", _text, "whom to cite, from the catalogue"),
        _optional("home", _text, "where the labels are from"),
    ),
    "set_sizes": (
        Column("dataset", _text, "the data set"),
        Column("size", _int, "valid classes of an image"),
        Column("images", pa.int64(), "usable images with so many"),
        Column("share", _real, "of all usable images"),
    ),
    "class_pairs": (
        Column("dataset", _text, "the data set"),
        Column("class_a", _int, "a class"),
        Column("class_b", _int, "another, that is valid on the same images"),
        Column("name_a", _text, "name of class_a"),
        Column("name_b", _text, "name of class_b"),
        Column("images", pa.int64(), "images on which both are valid"),
        Column("images_a", pa.int64(), "images on which class_a is valid"),
        Column("images_b", pa.int64(), "images on which class_b is valid"),
    ),
    "rejected": (
        Column("dataset", _text, "the data set"),
        Column("image_id", _text, "an image whose original label is not in its label set"),
        Column("label", _int, "the original label"),
        Column("label_name", _text, "its name"),
        Column("classes", pa.list_(_int), "the label set; empty where nothing is valid"),
        Column("names", pa.list_(_text), "their names"),
    ),
    "reliability": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column(
            "event",
            _text,
            "when the best class is right: if it is the original label, or in the label set",
            values=EVENTS,
        ),
        Column("from", _real, "least confidence of the bin; 0 to 1 is all images together"),
        Column("to", _real, "confidence up to which the bin goes, in the last bin with 1"),
        Column("confidence", _real, "mean probability of the best class"),
        Column("right", _real, "share of images whose best class is right"),
        Column("lo", _real, "lower end of its 95 % interval (Wilson)"),
        Column("hi", _real, "upper end of its 95 % interval (Wilson)"),
        Column("n", pa.int64(), "images in the bin; of those that have an original label and a label set"),
    ),
    "risk_coverage": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column("event", _text, "as in reliability", values=EVENTS),
        Column("confidence", _real, "the least confidence of the images that are kept"),
        Column("coverage", _real, "share of images that are kept"),
        Column("risk", _real, "share of errors among these"),
        Column("n", pa.int64(), "images that are kept"),
    ),
    "calibration": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column("method", _text, "how it was recalibrated; none: as it was", values=("none", *RECALIBRATIONS)),
        Column(
            "fitted_to",
            _text,
            "to original labels or to label sets; null for none",
            nullable=True,
            values=FITTED_TO,
        ),
        Column("temperature", _real, "what logits are divided by; null of other methods", nullable=True),
        Column("n_fitted", pa.int64(), "images fitted on"),
        Column("metric", _text, "a registered name"),
        Column("value", _real, "on the images that were held out; NaN where it is undefined"),
        Column("lo", _real, "lower end of its 95 % interval over these, null without one", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval over these, null without one", nullable=True),
        Column("n", pa.int64(), "images held out that count"),
        Column("n_skipped", pa.int64(), "images held out that do not"),
    ),
    "prediction_sets": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column(
            "cover",
            _text,
            "what a set must hold: the original label, one class of the label set, or all of them",
            values=COVERS,
        ),
        Column("alpha", _real, "share of images that may be missed; 1 - alpha is the target of coverage"),
        Column("threshold", _real, "probability from which a class is in the set; 0: all classes are"),
        Column("n_fitted", pa.int64(), "images that the threshold was chosen on"),
        Column("n", pa.int64(), "images held out, on which the rest is measured"),
        Column("coverage", _real, "share of these whose set holds what it must"),
        Column("lo", _real, "lower end of its 95 % interval (Wilson)"),
        Column("hi", _real, "upper end of its 95 % interval (Wilson)"),
        Column("mean_size", _real, "mean number of classes in a set"),
        Column("share_empty", _real, "share of sets without any class"),
    ),
    "objects": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("x1", pa.float32(), "left end of the box, as a fraction of the width"),
        Column("y1", pa.float32(), "upper end, as a fraction of the height"),
        Column("x2", pa.float32(), "right end; the box is half-open"),
        Column("y2", pa.float32(), "lower end"),
        Column("ignore", _flag, "too difficult to be asked for, or a crowd: neither right nor wrong"),
        _optional("class", _text, "key of the class"),
        _optional(
            "polygons",
            pa.list_(pa.list_(pa.float32())),
            "outlines, each x, y, x, y, … as fractions of width and height",
        ),
        _optional("mask", pa.binary(), "PNG as large as the image: not 0 where the object is"),
    ),
    "companions": (
        Column("dataset", _text, "the data set"),
        Column("main", _int, "the class that is looked for"),
        Column("companion", _int, "another that is valid on some of the same images"),
        Column("main_name", _text, "name of main"),
        Column("companion_name", _text, "name of companion"),
        Column("both", pa.int64(), "images on which both are valid"),
        Column("lift", _real, "both over what chance would give"),
        Column("lift_lo", _real, "lower end of its 95 % interval"),
        Column("lift_hi", _real, "upper end of its 95 % interval"),
        Column("odds_ratio", _real, "odds of one class where the other is, over those where it is not"),
        Column("odds_ratio_lo", _real, "lower end of its 95 % interval"),
        Column("odds_ratio_hi", _real, "upper end of its 95 % interval"),
        Column("model", _text, "the model; null for the mean over models", nullable=True),
        Column("n_models", pa.int64(), "models averaged, 1 for one"),
        Column("recall_with", _real, "share of images of the class with the companion in which it is found"),
        Column("recall_without", _real, "the same without the companion"),
        Column("diff", _real, "recall_with less recall_without; NaN where either has no image"),
        Column("lo", _real, "lower end of its 95 % interval over images"),
        Column("hi", _real, "upper end of its 95 % interval over images"),
        Column("p", _real, "of a difference as great if the companion did not matter"),
        Column(
            "p_adjusted",
            _real,
            "the same, adjusted for all pairs tested of the model (Holm); null where the pair is not",
            nullable=True,
        ),
        Column("n_with", pa.int64(), "images of the class with the companion"),
        Column("n_without", pa.int64(), "images of the class without it"),
    ),
    "similar": (
        Column("image_id", _text, "as in images"),
        Column(
            "class_id", _int, "the class that the neighbours are of; null where any will do", nullable=True
        ),
        Column(
            "neighbours",
            pa.list_(_text),
            "image_id of the nearest images, nearest first; empty where there are none",
        ),
        Column("similarity", pa.list_(pa.float32()), "of each neighbour, the cosine of the two embeddings"),
    ),
    "questions": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("score", _real, "of the ranking; the highest is asked first"),
        Column("p", _real, "probability that the class is in the image, given the answers so far"),
        Column("state", _text, "by that probability and the threshold", values=STATES),
        Column("n_votes", _int, "answers so far"),
    ),
    "robustness": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        *_COPY,
        Column("metric", _text, "a registered name"),
        Column("value", _real, "its value; of several copies their mean"),
        Column("lo", _real, "lower end of its 95 % interval, null without one", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval, null without one", nullable=True),
        Column("n", pa.int64(), "images that count; of several copies the least"),
        Column("n_skipped", pa.int64(), "images that do not; of several copies the most"),
    ),
    "losses": (
        Column("base", _text, "the data set that is lost from; of corruptions the pictures as they are"),
        Column("dataset", _text, "the data set, or the one that is corrupted"),
        Column("model", _text, "the model; null for the mean over models", nullable=True),
        *_COPY,
        Column("metric", _text, "top1 holds against original labels, the others against label sets"),
        Column("loss", _real, "value on the base less value here"),
        Column("lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column(
            "share",
            _real,
            "of the loss of top1, what is missing labels: 1 - loss / loss of top1; null where that is not "
            "clearly above 0, and of metrics that ask another thing",
            nullable=True,
        ),
        Column("share_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("share_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("n_base", pa.int64(), "images counted on the base; the least over the models for the mean"),
        Column("n", pa.int64(), "images counted here; the least over the models for the mean"),
        Column("n_models", pa.int64(), "models averaged, 1 for one"),
    ),
    "corruption_errors": (
        Column("dataset", _text, "the data set that is corrupted"),
        Column("model", _text, "the model"),
        Column("metric", _text, "whose errors: 1 - top1, or 1 - real1"),
        Column("kind", _text, "the kind of corruption; null for the mean over kinds", nullable=True),
        Column("error", _real, "mean error over severities, and for the mean over kinds"),
        Column("error_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("error_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("baseline", _text, "whose errors it is divided by; null without one", nullable=True),
        Column("ce", _real, "corruption error; its mean over kinds is mCE", nullable=True),
        Column("ce_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("ce_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("relative", _real, "relative corruption error: of what errors grow by", nullable=True),
        Column("relative_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("relative_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("n_kinds", pa.int64(), "kinds averaged, 1 for one"),
        Column("n_severities", pa.int64(), "severities averaged"),
        Column("n", pa.int64(), "images that count; the least over the copies"),
    ),
    "measured": (
        Column("metric", _text, "what was measured"),
        Column("slice", _text, "which images"),
        Column("value", _real, "the value; NaN where it is undefined"),
        Column("n", pa.int64(), "images counted"),
        Column(
            "replicates",
            pa.list_(_real),
            "the value on resamples of images, the same for all runs of a data set; null without any",
            nullable=True,
        ),
    ),
    "runs": (
        *_OF_STUDY,
        Column("seed", _int, "the seed"),
        Column("measure", _text, "what measured it"),
        Column("metric", _text, "what was measured"),
        Column("slice", _text, "which images"),
        Column("value", _real, "the value; NaN where it is undefined"),
        Column("error", _real, "its standard error over images, null without resamples", nullable=True),
        Column("n", pa.int64(), "images counted"),
    ),
    "means": (
        *_OF_STUDY,
        Column("metric", _text, "what was measured"),
        Column("slice", _text, "which images"),
        Column("better", _text, "which values are better", values=("higher", "lower")),
        Column("value", _real, "mean over seeds"),
        Column("lo", _real, "lower end of its 95 % interval over seeds and images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval", nullable=True),
        Column("n_seeds", pa.int64(), "seeds with a value"),
        Column("n", pa.int64(), "images counted, the least over seeds"),
    ),
    "effects": (
        Column("claim", _text, "the claim"),
        Column("dataset", _text, "the data set; null for the mean over all pairs", nullable=True),
        Column("network", _text, "the network; null for the mean over all pairs", nullable=True),
        Column("metric", _text, "what was measured"),
        Column("slice", _text, "which images"),
        Column("arm", _text, "the arm"),
        Column("against", _text, "the other arm, metric or number"),
        Column("value", _real, "mean over the seeds of both, and over pairs", nullable=True),
        Column("value_against", _real, "the same of the other", nullable=True),
        Column(
            "effect",
            _real,
            "difference of the two, above 0 where the arm is better; null if not run",
            nullable=True,
        ),
        Column("lo", _real, "lower end of its 95 % interval over seeds and images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval", nullable=True),
        Column("p", _real, "two-sided, that there is no effect", nullable=True),
        Column("p_adjusted", _real, "Holm over the claims of the study; null of single pairs", nullable=True),
        Column(
            "d", _real, "effect in standard deviations over seeds, with Hedges' correction", nullable=True
        ),
        Column("wins", _real, "share of seeds at which the arm is better, a tie as one half", nullable=True),
        Column("error_seeds", _real, "standard error over seeds", nullable=True),
        Column("error_images", _real, "standard error over images, 0 without resamples", nullable=True),
        Column("df", _real, "degrees of freedom of the interval", nullable=True),
        Column("n_seeds", pa.int64(), "differences at equal seeds"),
        Column("n_pairs", pa.int64(), "pairs of data set and network that are averaged"),
        Column("margin", _real, "the smallest difference that matters, fixed beforehand"),
        Column("verdict", _text, "by the rule", values=VERDICTS),
        Column("sentence", _text, "the verdict in words; null of single pairs", nullable=True),
    ),
    "findings": (
        Column("kind", _text, "what was found"),
        _optional("image_id", _text, "the image, null for a finding on classes"),
        _optional(
            "class_a", _int, "one class of a pair; of an error the one that decided on its kind, if any"
        ),
        _optional("class_b", _int, "the other; of an error the predicted class"),
        _optional("label", _int, "of an error: the original label"),
        _optional("state", _text, "of an error: what people said about the predicted class", STATES),
        _optional(
            "n_labels", _int, "of an error: classes in the label set; 0: held against the original label"
        ),
        _optional("dataset", _text, "of an error: the data set"),
        _optional("model", _text, "of an error: whose it is"),
        _optional("confidence", pa.float32(), "of an error: probability of the predicted class"),
    ),
    "shortcuts": (
        Column("model", _text, "the model"),
        Column("main", _int, "the class that is predicted"),
        Column("companion", _int, "the class that is taken out of images beside it"),
        Column("main_name", _text, "its name"),
        Column("companion_name", _text, "its name"),
        Column("fill", _text, "what is put in its place: a grey box, or inpainting", values=FILLS),
        Column("skipped", _text, "why the pair was not tested; null where it was", nullable=True),
        Column("decision", _text, "when a class counts as predicted"),
        Column("both", pa.int64(), "images with main and companion"),
        Column("main_only", pa.int64(), "images with the main class alone"),
        Column("companion_only", pa.int64(), "images with the companion alone"),
        Column("neither", pa.int64(), "images with neither; where one is not known an image is in no split"),
        _measured("n", pa.int64(), "images with both that the companion could be taken out of"),
        _measured("flips", _real, "share of these whose prediction of main is another without it"),
        _measured("flips_lo", _real, "lower end of its 95 % interval (Wilson)"),
        _measured("flips_hi", _real, "upper end of its 95 % interval (Wilson)"),
        _measured(
            "lost", _real, "share that is predicted with it, and not without; the other flips are gained"
        ),
        _measured("lost_lo", _real, "lower end of its 95 % interval (Wilson)"),
        _measured("lost_hi", _real, "upper end of its 95 % interval (Wilson)"),
        _measured("fall", _real, "mean fall of the score of main"),
        _measured("n_control", pa.int64(), "of the n those that had room for a control"),
        _measured(
            "control", _real, "share of these that flip where a region of its shape is filled elsewhere"
        ),
        _measured("control_lo", _real, "lower end of its 95 % interval (Wilson)"),
        _measured("control_hi", _real, "upper end of its 95 % interval (Wilson)"),
        _measured("control_lost", _real, "share of these that is predicted before, and not so"),
        _measured("control_lost_lo", _real, "lower end of its 95 % interval (Wilson)"),
        _measured("control_lost_hi", _real, "upper end of its 95 % interval (Wilson)"),
        _measured("more", _real, "share that is lost less control_lost, on the images with a control"),
        _measured(
            "lo",
            _real,
            "lower end of its 95 % interval (Newcombe, paired); pairs are ordered by it, those that are not "
            "testable by lost_lo",
        ),
        _measured("hi", _real, "upper end of its 95 % interval (Newcombe, paired)"),
        _measured(
            "shortcut",
            _flag,
            "lost is at least the threshold, and lo is above 0; null where n_control is below "
            f"{CONTROLS}: not testable",
        ),
        _measured("found_both", _real, "share predicted as main where both are: recall"),
        _measured("found_main_only", _real, "share predicted as main where it is alone: recall"),
        _measured("found_companion_only", _real, "share predicted as main where only the companion is"),
        _measured("found_neither", _real, "share predicted as main where neither is"),
        _measured("recall_gap", _real, "found_both less found_main_only"),
        _measured("recall_gap_lo", _real, "lower end of its 95 % interval (Newcombe)"),
        _measured("recall_gap_hi", _real, "upper end of its 95 % interval (Newcombe)"),
        _measured("hallucination_gap", _real, "found_companion_only less found_neither"),
        _measured("hallucination_gap_lo", _real, "lower end of its 95 % interval (Newcombe)"),
        _measured("hallucination_gap_hi", _real, "upper end of its 95 % interval (Newcombe)"),
        _measured("ap", _real, "average precision of main, on images in one of the four splits"),
        _measured("ap_lo", _real, "lower end of its 95 % interval (bootstrap)"),
        _measured("ap_hi", _real, "upper end of its 95 % interval (bootstrap)"),
        _measured("ap_balanced", _real, "the same where the companion is as frequent with main as without"),
        _measured("ap_balanced_lo", _real, "lower end of its 95 % interval (bootstrap)"),
        _measured("ap_balanced_hi", _real, "upper end of its 95 % interval (bootstrap)"),
    ),
    "shortcut_examples": (
        Column("main", _int, "as in shortcuts"),
        Column("companion", _int, "as in shortcuts"),
        Column("main_name", _text, "its name"),
        Column("companion_name", _text, "its name"),
        Column("fill", _text, "as in shortcuts", values=FILLS),
        Column("image_id", _text, "an image with both"),
        Column("flipped", _flag, "whether the prediction of main is another without the companion"),
        Column(
            "flipped_control", _flag, "the same of the control; null where there was no room", nullable=True
        ),
        Column("score_before", _real, "score of main as the image is"),
        Column("score_after", _real, "without the companion"),
        Column("score_control", _real, "of the control; null without one", nullable=True),
        _optional("before", _text, "picture of the image, from the folder of the table on"),
        _optional("after", _text, "picture without the companion"),
        _optional("control", _text, "picture of the control"),
    ),
    "mitigation": (
        Column("dataset", _text, "the data set judged on"),
        Column("model", _text, "the backbone, and whether its head is a softmax or sigmoids"),
        Column("treatment", _text, "what was done while the head was fitted", values=TREATMENTS),
        Column("main", _int, "the class of the pair that was treated"),
        Column("companion", _int, "what is beside it"),
        Column("main_name", _text, "name of main"),
        Column("companion_name", _text, "name of companion"),
        Column("metric", _text, "what is measured", values=WORTH),
        Column("value", _real, "on images held out"),
        Column("lo", _real, "lower end of its 95 % interval, null without one", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval, null without one", nullable=True),
        _optional("change", _real, "value less that of the same model without treatment"),
        _optional("change_lo", _real, "lower end of its 95 % interval over images"),
        _optional("change_hi", _real, "upper end of its 95 % interval over images"),
        Column("n", pa.int64(), "images held out that count"),
        Column("n_skipped", pa.int64(), "images held out that do not"),
        Column("head", _text, "file of the head, as seen from the table"),
    ),
    "maps": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column("method", _text, "how the map was made", values=EXPLAINED_BY),
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "the class asked about, in the model's class list"),
        Column("class_name", _text, "its name"),
        Column("score", _real, "its probability; the score itself where a model gives no probabilities"),
        Column("rank", _int, "1 for the model's best class"),
        Column("state", _text, "in the label set; null where nobody was asked", nullable=True, values=STATES),
        Column("skipped", _text, "why the map was not measured; null where it was", nullable=True),
        _measured("x", _real, "highest point of the map, from the left, as a share of the width"),
        _measured("y", _real, "the same from the top"),
        _measured("area", _real, "share of what the model saw that is object of this class"),
        _measured("difficult", _flag, "the object has less than a quarter of the image, and is not alone"),
        *_of_maps("pointing", "whether the highest point lies on the object"),
        *_of_maps("pointing_near", "the same, or within 3 % of the long side of it"),
        *_of_maps(
            "pointing_other", "whether it lies on an object of another class; null where there is none"
        ),
        *_of_maps("energy", "share of what is positive that lies on the object"),
        *_of_maps("overlap", "of the highest pixels, as many as the object has, the share on the object"),
        *_of_maps("auroc", "probability that a pixel of the object is higher than another"),
        _optional("file", _text, "picture of the map over the image, from the folder of the table on"),
        _optional("photo", _text, "picture of the image"),
    ),
    "localisation": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column("method", _text, "as in maps", values=EXPLAINED_BY),
        Column("slice", _text, "which maps: all, those of difficult objects, or class=NAME"),
        Column("metric", _text, "a measure of maps", values=MAP_MEASURES),
        Column("value", _real, "mean over maps; NaN where there are none"),
        Column("lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("by_chance", _real, "the same of a map without sense"),
        Column("centre", _real, "the same of a Gaussian in the middle of each image"),
        Column("more", _real, "value less centre"),
        Column("more_lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("more_hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("n", pa.int64(), "maps counted, of a class in the label set each"),
        Column("n_images", pa.int64(), "images that these are of"),
        Column("n_skipped", pa.int64(), "maps of such classes that were not measured at all"),
    ),
    "sanity": (
        Column("dataset", _text, "the data set"),
        Column("model", _text, "the model"),
        Column("method", _text, "as in maps", values=EXPLAINED_BY),
        Column(
            "against",
            _text,
            "what a map is compared with: that of the network with weights shuffled, of another class in the "
            "label set of the image, or of another image",
            values=COMPARED_WITH,
        ),
        Column("layers", _int, "last layers whose weights are shuffled; null of others", nullable=True),
        Column("of_layers", _int, "layers that have weights; null of others", nullable=True),
        Column("value", _real, "mean rank correlation (Spearman) of both maps"),
        Column("lo", _real, "lower end of its 95 % interval over images", nullable=True),
        Column("hi", _real, "upper end of its 95 % interval over images", nullable=True),
        Column("n", pa.int64(), "pairs of maps"),
        Column("n_skipped", pa.int64(), "pairs of which one is the same everywhere"),
    ),
}
"""The columns of every table."""

OPEN_ENDED = {"images", "findings"}
"""Tables whose extra columns mean something: slices of images, evidence of findings."""
