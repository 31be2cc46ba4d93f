"""The index of commands: what help shows without importing a room.

Made by ``python tools/index_commands.py`` from the functions themselves; a test holds it to them.
"""

from typing import NamedTuple


class Command(NamedTuple):
    """Where a command is found."""

    group: str
    summary: str
    address: str


COMMANDS: dict[str, Command] = {
    "predict": Command(
        "Predict",
        "Run image classifiers on images. A stopped run resumes when it is started again.",
        "manyhot.predict.predict:predict",
    ),
    "detect": Command(
        "Predict",
        "Find objects in images with a detector. A stopped run resumes when it is started again.",
        "manyhot.predict.detect:find_objects",
    ),
    "models": Command(
        "Predict", "List the models accepted by predict.", "manyhot.predict.models:list_models"
    ),
    "doctor": Command(
        "Predict",
        "Show the engines, extras, models and plug-ins on this machine, and how to install others.",
        "manyhot.predict.doctor:doctor",
    ),
    "similar": Command(
        "Predict",
        "For each class that an image may show, find that class's images with the most similar embeddings.",
        "manyhot.predict.similar:similar",
    ),
    "init": Command(
        "Re-assess",
        "Create a campaign: a folder with the images, classes and predictions that all further steps use.",
        "manyhot.reassess.init:init_campaign",
    ),
    "propose": Command(
        "Re-assess",
        "Propose the classes to ask raters about, and estimate cost and recall.",
        "manyhot.reassess.propose:propose",
    ),
    "plan": Command(
        "Re-assess",
        "Compute how many images people must label to decide a question, and how many hours this takes.",
        "manyhot.reassess.plan_audit:plan_audit",
    ),
    "audit": Command(
        "Re-assess",
        "Draw a random sample of images, with recorded probabilities, as a campaign for people to label.",
        "manyhot.reassess.audit:audit",
    ),
    "annotate": Command(
        "Re-assess",
        "Let raters answer the questions of a campaign in the browser.",
        "manyhot.reassess.annotate:annotate",
    ),
    "invite": Command(
        "Re-assess", "Print an invitation link for each new rater.", "manyhot.reassess.invite:invite_raters"
    ),
    "status": Command(
        "Re-assess",
        "Show the finished steps of a campaign, with counts, and the next step.",
        "manyhot.reassess.status:campaign_status",
    ),
    "export": Command(
        "Re-assess",
        "Write the votes and remarks from the annotation app as tables in the campaign.",
        "manyhot.reassess.export_votes:export_votes",
    ),
    "aggregate": Command(
        "Re-assess",
        "Combine raters' answers, or the label sets of several sources, into label sets.",
        "manyhot.reassess.aggregate:aggregate",
    ),
    "agreement": Command(
        "Re-assess",
        "Measure agreement between raters and their quality on golden questions, and flag suspicious raters.",
        "manyhot.reassess.agreement:agreement",
    ),
    "next": Command(
        "Re-assess",
        "Rank the questions that most need another answer, and count the settled questions.",
        "manyhot.reassess.next_questions:next_questions",
    ),
    "card": Command(
        "Re-assess",
        "Write the data card of a data set: raters, times, protocol, agreement and counts.",
        "manyhot.reassess.card:data_card",
    ),
    "proposers": Command(
        "Re-assess",
        "List the rules for proposing labels, with their descriptions and options.",
        "manyhot.data.registered:list_proposers",
    ),
    "backup": Command(
        "Re-assess",
        "Write a campaign with all its answers to one file; the app can keep running.",
        "manyhot.reassess.backup:backup_campaign",
    ),
    "restore": Command(
        "Re-assess",
        "Restore a campaign from a backup; sessions and invitations stay valid.",
        "manyhot.reassess.backup:restore_campaign",
    ),
    "evaluate": Command(
        "Evaluate",
        "Evaluate models on label sets and compare pairs of models, with a report.",
        "manyhot.evaluate.evaluate:evaluate",
    ),
    "compare": Command(
        "Evaluate",
        "Compare models on the same images, or results between data sets and metrics.",
        "manyhot.evaluate.compare:compare",
    ),
    "calibrate": Command(
        "Evaluate",
        "Recalibrate a model: fit on labelled images, and apply the fit to the model's other predictions.",
        "manyhot.evaluate.calibrate:calibrate",
    ),
    "leaderboard": Command(
        "Evaluate",
        "Rank models by a metric, with intervals, numbers of parameters and pretraining.",
        "manyhot.evaluate.leaderboard:leaderboard",
    ),
    "describe": Command(
        "Evaluate",
        "Describe label sets: their sizes, frequent pairs of classes, and rejected original labels.",
        "manyhot.evaluate.describe:describe",
    ),
    "kinds": Command(
        "Evaluate",
        "Find out why images have several labels: several objects, one ambiguous object, or near-synonyms.",
        "manyhot.evaluate.label_kinds:find_label_kinds",
    ),
    "gallery": Command(
        "Evaluate",
        "Write a gallery for the browser: images with their label sets, predictions and similar images.",
        "manyhot.evaluate.gallery:build_gallery",
    ),
    "report": Command(
        "Evaluate",
        "Draw the report of a folder again, as an HTML page with separate files for its figures and tables.",
        "manyhot.diagnose.page:report_folder",
    ),
    "benchmarks": Command(
        "Evaluate",
        "Recompute published numbers, and compare the results with the published values.",
        "manyhot.diagnose.benchmarks.run_benchmarks:run_benchmarks",
    ),
    "metrics": Command(
        "Evaluate",
        "List the metrics with their descriptions and options.",
        "manyhot.data.registered:list_metrics",
    ),
    "diagnose duplicates": Command(
        "Diagnose",
        "Find images that occur more than once, within and between data sets and splits.",
        "manyhot.diagnose.duplicates:diagnose_duplicates",
    ),
    "diagnose errors": Command(
        "Diagnose",
        "Sort errors into kinds by the first rule that matches.",
        "manyhot.diagnose.errors:diagnose_errors",
    ),
    "diagnose labels": Command(
        "Diagnose",
        "Rank doubtful labels, missing labels, and pairs of classes that may be the same class.",
        "manyhot.diagnose.find_label_issues:find_label_issues",
    ),
    "diagnose classes": Command(
        "Diagnose",
        "Evaluate each class: its average precision, the best threshold, and the classes it is confused with.",
        "manyhot.diagnose.classes:diagnose_classes",
    ),
    "diagnose difficulty": Command(
        "Diagnose",
        "Find the images that no model, all models, or only some models get right.",
        "manyhot.diagnose.difficulty:diagnose_difficulty",
    ),
    "diagnose protocols": Command(
        "Diagnose",
        "Compare label sets of the same images, and measure how accuracy and ranks depend on the protocol.",
        "manyhot.diagnose.protocols:diagnose_protocols",
    ),
    "diagnose calibration": Command(
        "Diagnose",
        "Measure how well confidence matches accuracy, before and after recalibration.",
        "manyhot.diagnose.calibration:diagnose_calibration",
    ),
    "diagnose sets": Command(
        "Diagnose",
        "Choose prediction sets with a guaranteed precision, and evaluate them on other images.",
        "manyhot.diagnose.sets:diagnose_sets",
    ),
    "diagnose groups": Command(
        "Diagnose",
        "Find groups of images on which a model is worse, and image properties that are associated with labels.",
        "manyhot.diagnose.groups:diagnose_groups",
    ),
    "diagnose ood": Command(
        "Diagnose",
        "Measure how well confidence separates out-of-distribution images from images of the model's classes.",
        "manyhot.diagnose.ood:diagnose_ood",
    ),
    "diagnose companions": Command(
        "Diagnose",
        "Measure which classes are valid together, and how the recall of one depends on the other.",
        "manyhot.diagnose.companions:diagnose_companions",
    ),
    "diagnose shortcuts": Command(
        "Diagnose",
        "Remove objects from images, and count how many predictions of other classes change.",
        "manyhot.diagnose.shortcuts:diagnose_shortcuts",
    ),
    "diagnose robustness": Command(
        "Diagnose",
        "Measure how much models lose between data sets, and what share of the loss is due to missing labels.",
        "manyhot.diagnose.robustness:diagnose_robustness",
    ),
    "diagnose corruptions": Command(
        "Diagnose",
        "Corrupt images as in ImageNet-C, and measure models' losses and the share due to missing labels.",
        "manyhot.diagnose.corruptions:diagnose_corruptions",
    ),
    "explain": Command(
        "Diagnose",
        "Map the regions that support each label of an image, and measure whether they lie on the object.",
        "manyhot.diagnose.explain:explain",
    ),
    "patchml": Command(
        "Diagnose",
        "Compose images from objects cut out of photographs, without context and with exact label sets.",
        "manyhot.diagnose.patchml.patchml:patchml",
    ),
    "train": Command(
        "Train",
        "Train a network on label sets. A stopped run resumes when it is started again.",
        "manyhot.train.train:train",
    ),
    "transfer": Command(
        "Train",
        "Evaluate the transfer of backbones to another data set.",
        "manyhot.train.transfer.transfer:transfer",
    ),
    "mitigate": Command(
        "Train",
        "Fit the last layer with and without treatment of a shortcut, and evaluate both on held-out images.",
        "manyhot.train.mitigate.mitigate:mitigate",
    ),
    "label-maps": Command(
        "Train",
        "Write a network's predictions at each location in each image, as targets for training on crops.",
        "manyhot.train.write_label_maps:label_maps",
    ),
    "losses": Command(
        "Train",
        "List the training losses with their output functions, descriptions and options.",
        "manyhot.data.registered:list_losses",
    ),
    "study": Command(
        "Train",
        "Run studies: train all combinations of arm, network, data set and seed, measure and compare them.",
        "manyhot.study.study:run_studies",
    ),
    "fetch": Command(
        "Data",
        "Download published data into the cache folder and verify them; without names, list what is available.",
        "manyhot.data.fetch:fetch_published",
    ),
    "convert": Command(
        "Data",
        "Convert a file in any supported format to Parquet, CSV or the format of another tool.",
        "manyhot.data.convert:convert",
    ),
}
