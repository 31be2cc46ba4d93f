"""What the tables are: their names, columns and the values that these may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from manyhot.core.answers import ANSWERS
from manyhot.errors import InputError
from manyhot.registry import load_kind
from manyhot.tables.columns import (
    BYTES,
    COUNT,
    FLAG,
    FLOAT32,
    FLOATS32,
    INT,
    INTS,
    ITS,
    OUTLINES,
    REAL,
    REALS,
    TEXT,
    TEXTS,
    TIME,
    Column,
    bounds,
    interval,
)

STATES = ("no", "unclear", "yes")
FLAGS = ("spammer", "copier", "too fast")
AGREEMENT_MEASURES = (
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
FILLS = ("grey", "inpaint")
CONTROLS = 2
"""Images with a control from which on a row of shortcuts is testable: with one, no interval is above 0."""
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

_IMAGES = f"{ITS} over images"
_FAMILIES = f"{ITS} over families of models"
_WILSON = f"{ITS} (Wilson)"
_NEWCOMBE = f"{ITS} (Newcombe)"
_BOOTSTRAP = f"{ITS} (bootstrap)"
_NULL_WITHOUT = "95 % interval, null without one"


def _of_maps(name: str, doc: str) -> tuple[Column, ...]:
    """Return the columns of a measure of maps, and what it would be without looking at the image."""
    return (
        REAL.nullable(name, doc),
        REAL.nullable(f"{name}_by_chance", "the same for a random map"),
        REAL.nullable(f"{name}_centre", "the same for a Gaussian in the middle of the image"),
    )


_ENDS = (
    TEXT("dataset_x", "the data set of x"),
    TEXT("metric_x", "the metric of x"),
    TEXT("slice_x", "the images of x"),
    TEXT("dataset_y", "the data set of y"),
    TEXT("metric_y", "the metric of y"),
    TEXT("slice_y", "the images of y"),
)
"""What is compared: one number for each model at x, and one at y."""

_OF_STUDY = (
    TEXT("dataset", "the data set"),
    TEXT("network", "the network; all where it was measured across them"),
    TEXT("arm", "what it learnt from; all where it was measured across arms"),
)
"""The runs of a study that a number belongs to."""

_declared: dict[str, tuple[Column, ...]] = {
    "classes": (
        INT("class_id", "position in the class list, from 0"),
        TEXT("key", "WordNet id or folder name"),
        TEXT("name", "readable, unique"),
        TEXTS.optional("synonyms", "other names"),
        TEXT.optional("definition", "what the class is"),
        TEXTS.optional("hypernyms", "path to the root of the hierarchy, nearest first"),
    ),
    "images": (
        TEXT("image_id", "base name with extension"),
        TEXT.optional("uri", "where the image lies"),
        INT.optional("label", "the original single label, null if there is none"),
        INT.optional("width", "pixels"),
        INT.optional("height", "pixels"),
        TEXT.optional("split", "such as train or val"),
    ),
    "predictions": (
        TEXT("image_id", "as in images"),
        INTS.optional("classes", "predicted classes, best first; absent when scores are dense"),
        FLOATS32.optional("scores", "of `classes`, or of all classes in class order; float16 or float32"),
        FLOAT32.optional(
            "logsumexp", "over the logits of all classes, so that a top-k file gives probabilities"
        ),
    ),
    "proposals": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        REAL("score", "of the rule that proposed it"),
        INT("n_models", "models that proposed it"),
        TEXT("source", "the rule"),
    ),
    "votes": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        TEXT("rater_id", "who answered"),
        TEXT("answer", "the answer", values=ANSWERS),
        FLAG.optional("main", "whether it is the main object"),
        TEXT.optional("page_id", "the page that was shown"),
        TIME.optional("shown_at", "when it was shown"),
        TIME.optional("answered_at", "when it was answered"),
        INT.optional("round", "0 first, 1 refinement, …"),
    ),
    "golden": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        TEXT("expert_id", "who answered"),
        TEXT("answer", "the answer", values=ANSWERS),
    ),
    "raters": (
        TEXT("rater_id", "who answered"),
        COUNT("votes", "answers"),
        REAL("no", "share of no among them"),
        REAL("maybe", "share of maybe"),
        REAL("yes", "share of yes"),
        REAL.nullable(
            "agreement", "share of the other raters' answers to the same questions that are the same"
        ),
        COUNT("others", "these answers of others"),
        REAL.nullable(
            "sensitivity",
            "probability of a yes where the truth is yes, as the method has it; null where it has none",
        ),
        REAL.nullable(
            "specificity",
            "probability of no yes where the truth is no, as the method has it; null where it has none",
        ),
        COUNT("golden", "golden questions answered"),
        COUNT("golden_yes", "of these, those whose truth is yes"),
        REAL.nullable(
            "golden_accuracy",
            "share of right answers to golden questions; a maybe counts as no, here and in what follows",
        ),
        REAL.nullable("golden_sensitivity", "share of yes where the truth is yes"),
        REAL.nullable("golden_specificity", "share of no yes where the truth is no"),
        *interval(
            "informedness",
            "how far answers tell the truths apart: 2 AUC - 1, without maybes sensitivity + "
            "specificity - 1; on golden questions where there are both kinds, else against the "
            "majority of the others",
        ),
        REAL.nullable("seconds", "median time for an answer; null where no times are known"),
        COUNT("pages", "pages that the time is known of"),
        TEXTS("flags", "what is suspicious", values=FLAGS),
    ),
    "rater_pairs": (
        TEXT("rater_a", "one rater"),
        TEXT("rater_b", "another"),
        COUNT("n", "questions that both answered"),
        REAL("agreement", "share of these with the same answer"),
        REAL.nullable("kappa", "Cohen's kappa of the two"),
        COUNT(
            "wrong",
            "questions on which at least one of the two is against the majority of two or more others",
        ),
        COUNT("same_wrong", "of these, those on which both are, with the same answer"),
        FLAG("copies", "whether the two make the same errors"),
    ),
    "confusion": (
        TEXT.nullable("rater_id", "who answered; null for all together"),
        TEXT("truth", "the truth of golden questions", values=("no", "yes")),
        TEXT("answer", "the answer", values=ANSWERS),
        COUNT("n", "answers"),
        REAL.nullable("share", "of the answers under this truth"),
    ),
    "agreement": (
        TEXT("measure", "what is measured", values=AGREEMENT_MEASURES),
        REAL("value", "the value; NaN where it is undefined"),
        *bounds("lo", "hi", f"the {_NULL_WITHOUT}"),
        COUNT("n", "questions, sheets or raters counted"),
        COUNT("n_skipped", "those left out, for one rater alone answered, or no golden question"),
    ),
    "curve": (
        REAL("threshold", "a class counts if its probability is no lower"),
        *interval("precision", "share of the golden questions kept whose truth is yes", _IMAGES),
        *interval("recall", "share of the golden questions with the truth yes that are kept", _IMAGES),
        COUNT("kept", "golden questions at or above the threshold"),
        COUNT("right", "of these, those whose truth is yes"),
        COUNT("n_yes", "golden questions whose truth is yes"),
        COUNT("n_questions", "golden questions among the votes"),
        COUNT("n_images", "images that these are on, which are what is resampled"),
    ),
    "remarks": (
        TEXT("image_id", "as in images"),
        TEXT("rater_id", "who wrote"),
        TEXT.optional("text", "the comment"),
        INT.optional("missing_class_id", "a class that is missing"),
        TIME.optional("at", "when"),
    ),
    "labels": (
        TEXT("image_id", "as in images"),
        INT.optional("label", "the original single label, null if unknown"),
        FLAG.optional("rated", "whether raters saw the image; null where the source does not say"),
        FLAG("usable", "false: leave the image out"),
        INTS("classes", "every class asked about; a class that is not listed was not asked about"),
        TEXTS("state", "of each class; the label set is the classes with state yes", values=STATES),
        FLOATS32.optional("p", "probability that each class is valid"),
        INTS.optional("n_votes", "answers from which each state was derived"),
        TEXT.optional("method", "how the states were derived"),
    ),
    "results": (
        TEXT("dataset", "the data set judged on"),
        TEXT("model", "the model judged"),
        TEXT("metric", "a registered name, with its options; of transfer METHOD/NAME"),
        TEXT("slice", "which images"),
        REAL("value", "the value; NaN where it is undefined"),
        *bounds("lo", "hi", f"the {_NULL_WITHOUT}"),
        COUNT("n", "images counted"),
        COUNT("n_skipped", "images of the slice left out; n + n_skipped are the aligned images"),
    ),
    "pairs": (
        TEXT("dataset", "the data set judged on"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("slice", "which images"),
        TEXT("model_a", "one model"),
        TEXT("model_b", "the other"),
        REAL("diff", "value of model_a minus that of model_b"),
        *bounds("lo", "hi", "the 95 % interval of diff"),
        REAL.nullable("p", "two-sided, that diff is 0"),
        REAL.nullable("p_adjusted", "Holm over all pairs of the data set, metric and slice"),
        COUNT("n", "images that count for both models"),
    ),
    "models": (
        TEXT("model", "as in results"),
        TEXT.optional("family", "its family of architectures, such as resnet"),
        TEXT.optional("pretraining", "the data it was pre-trained on before ImageNet-1k; in-1k where none"),
        REAL.optional("params", "parameters, in millions"),
        INT.optional("img_size", "side of its input images, in pixels"),
    ),
    "samples": (
        TEXT("dataset", "the data set judged on"),
        TEXT("model", "the model judged"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("slice", "which images"),
        FLOATS32(
            "values", "the value in each resample; the resamples are the same for all rows of a data set"
        ),
    ),
    "drops": (
        *_ENDS,
        TEXT.nullable("model", "the model; null for the mean over models"),
        REAL("value_x", "value at x"),
        REAL("value_y", "value at y"),
        REAL("drop", "value_x less value_y"),
        *bounds("lo", "hi", _IMAGES),
        *bounds("lo_models", "hi_models", "the mean's 95 % interval over families of models"),
        REAL.nullable("above_fit", "effective robustness: value_y less what the logit fit gives"),
        COUNT("n_x", "images counted at x; the smallest over the models for the mean"),
        COUNT("n_y", "images counted at y; the smallest over the models for the mean"),
        COUNT("n_models", "models averaged, 1 for one"),
    ),
    "fits": (
        *_ENDS,
        TEXT("models", "which models: all, or those from a value at x on, such as x>=0.85"),
        TEXT("scale", "of both axes", values=SCALES),
        *interval("slope", "slope of the least-squares line", _FAMILIES, value=REAL),
        *interval("intercept", "intercept", _FAMILIES, value=REAL),
        REAL.nullable("r2", "share of variance explained"),
        COUNT("n", "models"),
        COUNT("n_families", "families of models, which are what is resampled"),
    ),
    "ranks": (
        *_ENDS,
        REAL.nullable("tau", "Kendall's tau-b between the two orders of the models"),
        *bounds("lo", "hi", _IMAGES),
        *bounds("lo_models", "hi_models", _FAMILIES),
        COUNT("n_models", "models ranked"),
        COUNT("n_pairs", "pairs of models"),
        COUNT("n_swapped", "pairs in another order at y than at x"),
        COUNT.nullable(
            "n_beyond_noise",
            "of these, pairs that differ beyond noise both at x and at y; null where no pairs were tested",
        ),
    ),
    "swaps": (
        *_ENDS,
        TEXT("model_a", "the better model at x"),
        TEXT("model_b", "the better model at y"),
        REAL("diff_x", "value of model_a minus that of model_b at x"),
        REAL("diff_y", "the same at y"),
        REAL.nullable("p_x", "p_adjusted of the pair at x"),
        REAL.nullable("p_y", "p_adjusted of the pair at y"),
        FLAG.nullable("beyond_noise", "whether both differences are beyond noise"),
    ),
    "sensitivity": (
        TEXT("dataset_x", "the data set on the x axis"),
        TEXT("dataset_y", "the data set on the y axis"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("analysis", "what was changed", values=ANALYSES),
        REAL.nullable("threshold", "of the labels' probability at x; null where it is the published one"),
        REAL("value_x", "mean over models at x"),
        REAL("value_y", "mean over models at y"),
        REAL("drop", "value_x less value_y"),
        *bounds("lo_models", "hi_models", _FAMILIES),
        REAL("multi_x", "share of the sets at x with two or more labels"),
        REAL("multi_y", "share of the sets at y with two or more labels"),
        COUNT("n_x", "images counted at x, the smallest over the models"),
        COUNT("n_y", "images counted at y, the smallest over the models"),
        COUNT("n_models", "models averaged"),
    ),
    "objects": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        FLOAT32("x1", "left end of the box, as a fraction of the width"),
        FLOAT32("y1", "upper end, as a fraction of the height"),
        FLOAT32("x2", "right end; the box is half-open"),
        FLOAT32("y2", "lower end"),
        FLAG("ignore", "too difficult, or a crowd: neither right nor wrong"),
        TEXT.optional("class", "key of the class"),
        OUTLINES.optional("polygons", "outlines, each x, y, x, y, … as fractions of width and height"),
        BYTES.optional("mask", "PNG as large as the image: not 0 where the object is"),
    ),
    "questions": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        REAL("score", "of the ranking; the highest is asked first"),
        REAL("p", "probability that the class is in the image, given the answers so far"),
        TEXT("state", "by that probability and the threshold", values=STATES),
        INT("n_votes", "answers so far"),
    ),
    "measured": (
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        REAL("value", "the value; NaN where it is undefined"),
        COUNT("n", "images counted"),
        REALS.nullable(
            "replicates",
            "the value on resamples of images, the same for all runs of a data set; null without any",
        ),
    ),
    "runs": (
        *_OF_STUDY,
        INT("seed", "the seed"),
        TEXT("measure", "what measured it"),
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        REAL("value", "the value; NaN where it is undefined"),
        REAL.nullable("error", "its standard error over images, null without resamples"),
        COUNT("n", "images counted"),
    ),
    "means": (
        *_OF_STUDY,
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        TEXT("better", "which values are better", values=("higher", "lower")),
        REAL("value", "mean over seeds"),
        REAL.nullable("lo", "lower end of its 95 % interval over seeds and images"),
        REAL.nullable("hi", "upper end of its 95 % interval"),
        COUNT("n_seeds", "seeds with a value"),
        COUNT("n", "images counted, the least over seeds"),
    ),
    "effects": (
        TEXT("claim", "the claim"),
        TEXT.nullable("dataset", "the data set; null for the mean over all pairs"),
        TEXT.nullable("network", "the network; null for the mean over all pairs"),
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        TEXT("arm", "the arm"),
        TEXT("against", "the other arm, metric or number"),
        REAL.nullable("value", "mean over the seeds of both, and over pairs"),
        REAL.nullable("value_against", "the same of the other"),
        REAL.nullable("effect", "difference of the two, above 0 where the arm is better; null if not run"),
        REAL.nullable("lo", "lower end of its 95 % interval over seeds and images"),
        REAL.nullable("hi", "upper end of its 95 % interval"),
        REAL.nullable("p", "two-sided, that there is no effect"),
        REAL.nullable("p_adjusted", "Holm over the claims of the study; null of single pairs"),
        REAL.nullable("d", "effect in standard deviations over seeds, with Hedges' correction"),
        REAL.nullable("wins", "share of seeds at which the arm is better, a tie as one half"),
        REAL.nullable("error_seeds", "standard error over seeds"),
        REAL.nullable("error_images", "standard error over images, 0 without resamples"),
        REAL.nullable("df", "degrees of freedom of the interval"),
        COUNT("n_seeds", "differences at equal seeds"),
        COUNT("n_pairs", "pairs of data set and network that are averaged"),
        REAL("margin", "the smallest difference that matters, fixed beforehand"),
        TEXT("verdict", "by the rule", values=VERDICTS),
        TEXT.nullable("sentence", "the verdict in words; null of single pairs"),
    ),
    "findings": (
        TEXT("kind", "what was found"),
        TEXT.optional("image_id", "the image, null for a finding on classes"),
        INT.optional("class_a", "one class of a pair; of an error the one that decided on its kind, if any"),
        INT.optional("class_b", "the other; of an error the predicted class"),
        INT.optional("label", "of an error: the original label"),
        TEXT.optional("state", "of an error: what people said about the predicted class", values=STATES),
        INT.optional("n_labels", "of an error: classes in the label set; 0: held against the original label"),
        TEXT.optional("dataset", "of an error: the data set"),
        TEXT.optional("model", "of an error: whose it is"),
        FLOAT32.optional("confidence", "of an error: probability of the predicted class"),
    ),
    "shortcuts": (
        TEXT("model", "the model"),
        INT("main", "the class that is predicted"),
        INT("companion", "the class that is taken out of images beside it"),
        TEXT("main_name", "its name"),
        TEXT("companion_name", "its name"),
        TEXT("fill", "what is put in its place: a grey box, or inpainting", values=FILLS),
        TEXT.nullable("skipped", "why the pair was not tested; null where it was"),
        TEXT("decision", "when a class counts as predicted"),
        COUNT("both", "images with main and companion"),
        COUNT("main_only", "images with the main class alone"),
        COUNT("companion_only", "images with the companion alone"),
        COUNT("neither", "images with neither; where one is not known an image is in no split"),
        COUNT.nullable("n", "images with both that the companion could be taken out of"),
        *interval("flips", "share of these whose prediction of main is another without it", _WILSON),
        *interval(
            "lost", "share that is predicted with it, and not without; the other flips are gained", _WILSON
        ),
        REAL.nullable("fall", "mean fall of the score of main"),
        COUNT.nullable("n_control", "of the n those that had room for a control"),
        *interval(
            "control", "share of these that flip where a region of its shape is filled elsewhere", _WILSON
        ),
        *interval("control_lost", "share of these that is predicted before, and not so", _WILSON),
        REAL.nullable("more", "share that is lost less control_lost, on the images with a control"),
        REAL.nullable(
            "lo",
            "lower end of its 95 % interval (Newcombe, paired); pairs are ordered by it, those that "
            "are not testable by lost_lo",
        ),
        REAL.nullable("hi", "upper end of its 95 % interval (Newcombe, paired)"),
        FLAG.nullable(
            "shortcut",
            "lost is at least the threshold, and lo is above 0; null where n_control is below "
            f"{CONTROLS}: not testable",
        ),
        REAL.nullable("found_both", "share predicted as main where both are: recall"),
        REAL.nullable("found_main_only", "share predicted as main where it is alone: recall"),
        REAL.nullable("found_companion_only", "share predicted as main where only the companion is"),
        REAL.nullable("found_neither", "share predicted as main where neither is"),
        *interval("recall_gap", "found_both less found_main_only", _NEWCOMBE),
        *interval("hallucination_gap", "found_companion_only less found_neither", _NEWCOMBE),
        *interval("ap", "average precision of main, on images in one of the four splits", _BOOTSTRAP),
        *interval(
            "ap_balanced", "the same where the companion is as frequent with main as without", _BOOTSTRAP
        ),
    ),
    "shortcut_examples": (
        INT("main", "as in shortcuts"),
        INT("companion", "as in shortcuts"),
        TEXT("main_name", "its name"),
        TEXT("companion_name", "its name"),
        TEXT("fill", "as in shortcuts", values=FILLS),
        TEXT("image_id", "an image with both"),
        FLAG("flipped", "whether the prediction of main is another without the companion"),
        FLAG.nullable("flipped_control", "the same of the control; null where there was no room"),
        REAL("score_before", "score of main as the image is"),
        REAL("score_after", "without the companion"),
        REAL.nullable("score_control", "of the control; null without one"),
        TEXT.optional("before", "picture of the image, from the folder of the table on"),
        TEXT.optional("after", "picture without the companion"),
        TEXT.optional("control", "picture of the control"),
    ),
    "maps": (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "how the map was made", values=EXPLAINED_BY),
        TEXT("image_id", "as in images"),
        INT("class_id", "the class asked about, in the model's class list"),
        TEXT("class_name", "its name"),
        REAL("score", "its probability; the score itself where a model gives no probabilities"),
        INT("rank", "1 for the model's best class"),
        TEXT.nullable("state", "in the label set; null where nobody was asked", values=STATES),
        TEXT.nullable("skipped", "why the map was not measured; null where it was"),
        REAL.nullable("x", "highest point of the map, from the left, as a share of the width"),
        REAL.nullable("y", "the same from the top"),
        REAL.nullable("area", "share of what the model saw that is object of this class"),
        FLAG.nullable("difficult", "the object has less than a quarter of the image, and is not alone"),
        *_of_maps("pointing", "whether the highest point lies on the object"),
        *_of_maps("pointing_near", "the same, or within 3 % of the long side of it"),
        *_of_maps(
            "pointing_other", "whether it lies on an object of another class; null where there is none"
        ),
        *_of_maps("energy", "share of what is positive that lies on the object"),
        *_of_maps("overlap", "of the highest pixels, as many as the object has, the share on the object"),
        *_of_maps("auroc", "probability that a pixel of the object is higher than another"),
        TEXT.optional("file", "picture of the map over the image, from the folder of the table on"),
        TEXT.optional("photo", "picture of the image"),
    ),
    "localisation": (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "as in maps", values=EXPLAINED_BY),
        TEXT("slice", "which maps: all, those of difficult objects, or class=NAME"),
        TEXT("metric", "a measure of maps", values=MAP_MEASURES),
        REAL("value", "mean over maps; NaN where there are none"),
        *bounds("lo", "hi", _IMAGES),
        REAL("by_chance", "the same for a random map"),
        REAL("centre", "the same of a Gaussian in the middle of each image"),
        *interval("more", "value less centre", _IMAGES, value=REAL),
        COUNT("n", "maps counted, of a class in the label set each"),
        COUNT("n_images", "images that these are of"),
        COUNT("n_skipped", "maps of such classes that were not measured at all"),
    ),
    "sanity": (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "as in maps", values=EXPLAINED_BY),
        TEXT(
            "against",
            "what a map is compared with: that of the network with weights shuffled, of another "
            "class in the label set of the image, or of another image",
            values=COMPARED_WITH,
        ),
        INT.nullable("layers", "last layers whose weights are shuffled; null of others"),
        INT.nullable("of_layers", "layers that have weights; null of others"),
        REAL("value", "mean rank correlation (Spearman) of both maps"),
        *bounds("lo", "hi", _IMAGES),
        COUNT("n", "pairs of maps"),
        COUNT("n_skipped", "pairs of which one is the same everywhere"),
    ),
}

OPEN_ENDED = {"images", "findings"}
"""Tables whose extra columns mean something: slices of images, evidence of findings."""


def declare_table(name: str, columns: Sequence[Column]) -> None:
    """Declare the table of a feature, beside the feature.

    Raises
    ------
    InputError
        If another table has the name.
    """
    if _declared.setdefault(name, tuple(columns)) != tuple(columns):
        raise InputError(f"The table {name!r} is declared twice.", do="choose another name for one of them")


class _Tables(Mapping[str, tuple[Column, ...]]):
    """Interchange tables, and those of features, whose modules are imported when one of them is looked up."""

    def __getitem__(self, name: str) -> tuple[Column, ...]:
        if name not in _declared:
            load_kind("table")
        return _declared[name]

    def __iter__(self) -> Iterator[str]:
        load_kind("table")
        return iter(_declared)

    def __len__(self) -> int:
        load_kind("table")
        return len(_declared)


TABLES: Mapping[str, tuple[Column, ...]] = _Tables()
"""The columns of every table, by its name."""
