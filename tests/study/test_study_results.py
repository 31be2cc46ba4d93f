"""The page of study results: every sentence of its summary follows from the committed tables."""

import re
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[2]
ANSWERS = ROOT / "studies" / "answers"
PAGE = ROOT / "docs" / "explanation" / "study-results.md"
LITTLE = ", perhaps by less than matters"
PAIRS = [("voc9", "small"), ("voc9", "lite0"), ("cifar-sets", "small"), ("cifar-sets", "lite0")]

EXPLANATIONS = (
    "Label sets teach that the class and the companion occur together, whereas single labels do not.",
    "In one arm, an ensemble proposed the label sets, simulated raters of ReaL's quality answered, and "
    "manyhot "
    "aggregated the answers.",
    "No claim compares these two kinds of networks.",
)
"""Sentences that no table can contradict: they have no verdict and no number."""


class Claim:
    """A claim of a study with the verdict that its sentence needs; its differences are in points."""

    def __init__(self, study, name, verdict, single=None):
        rows = [r for r in pl.read_csv(ANSWERS / study / "effects.csv").to_dicts() if r["claim"] == name]
        self.row, self.cells = rows[0], rows[1:]
        assert self.row["verdict"] == verdict
        self.each = [r["verdict"].removesuffix(LITTLE) for r in self.cells]
        if single is not None:
            assert self.each == single.split()
        lower = "lower" in {r["better"] for r in _means(study) if r["metric"] == self.row["metric"]}
        self.sign = -1 if lower else 1

    def side(self, column):
        return f"{100 * self.row[column]:.0f}"

    def change(self, i=None):
        """Return how much larger the value of the arm is, with its sign."""
        row = self.row if i is None else self.cells[i]
        return _signed(100 * self.sign * row["effect"])

    def size(self, i=None):
        """Return the difference without its sign."""
        return self.change(i).lstrip("+−")

    def better(self):
        return [row["effect"] > 1e-12 for row in self.cells]


def _means(study):
    return pl.read_csv(ANSWERS / study / "means.csv").to_dicts()


def _signed(points):
    text = f"{points:+.1f}".replace("-", "−")
    return "0.0" if float(text.replace("−", "-")) == 0 else text


def _gap(arm, place):
    (row,) = (
        r for r in _means("robustness")
        if (r["dataset"], r["network"], r["arm"], r["metric"]) == (*place, arm, "recall_gap")
    )  # fmt: skip
    return f"{100 * row['value']:.0f}"


def _map(arm):
    found = {(r["dataset"], r["network"]): r["value"] for r in _means("transfer")
             if (r["arm"], r["metric"], r["slice"]) == (arm, "map_macro", "all")}  # fmt: skip
    return [found[place] for place in PAIRS]


def _learning():
    sets = Claim("transfer", "map_macro: sets against single", "better", "better better better better")
    yield (
        "Networks trained on label sets predict label sets better in all four pairs of data set and network: "
        "mean "
        f"average precision rises from {sets.side('value_against')} to {sets.side('value')} %."
    )
    top1 = Claim("benchmarking", "top1: sets against single", "worse", "undecided worse worse worse")
    changes = [top1.change(i) for i in range(4)]
    yield (
        f"Their accuracy by label is lower ({', '.join(changes[:3])} and {changes[3]} points; clear "
        "in three of "
        "four pairs), because they now predict several classes, and the label is only one of them."
    )
    real1 = Claim(
        "benchmarking", "real1: sets against single", "goes both ways", "undecided undecided better undecided"
    )
    yield (
        "For their accuracy by label set, the verdict is *goes both ways*: it is higher in one of four pairs "
        f"({real1.change(2)} points), and undecided in the others ({real1.change(0)}, {real1.change(1)} and "
        f"{real1.change(3)})."
    )


def _transfer():
    for metric in ("segmentation_miou", "detection_ap50"):
        assert Claim("transfer", f"{metric}: sets against single", "same").row["margin"] == 0.01
    yield (
        "Features learnt from label sets and from single labels are equally good, within one point, for "
        "segmentation "
        "and for detection."
    )
    for name in (
        "probe_map: sets against single",
        "few_shot_top1: sets against single",
        "probe_map: sets against single-bce",
    ):
        row = Claim("transfer", name, "undecided").row
        assert row["lo"] < 0 < row["hi"]
        assert max(-row["lo"], row["hi"]) >= 0.01
    yield (
        "For the label sets of other images, and for learning from ten labelled images per class, the "
        "verdict is "
        "*undecided*: the intervals contain both 0 and differences of one point or more."
    )
    yield (
        "For the label sets of other images, the verdict is also *undecided* in comparison with networks "
        "trained with "
        "the same loss on single labels."
    )


def _confidence():
    unknown = Claim(
        "uncertainty",
        "unknown_confidence: sets against single",
        "better",
        "undecided better undecided better",
    )
    assert all(unknown.better())
    yield (
        "The confidence of networks trained on label sets is better at detecting images of unknown "
        "classes: its "
        f"AUROC rises from {unknown.side('value_against')} to {unknown.side('value')} % (higher in all "
        "four pairs, "
        "clear in two)."
    )
    aurc = Claim(
        "uncertainty", "aurc_set: sets against single", "better" + LITTLE, "undecided same better undecided"
    )
    yield (
        "Selective prediction by label sets is *better, perhaps by less than matters*: the area under the "
        f"risk-coverage curve improves by {aurc.size()} points, but this mean is mainly due to one of "
        "four pairs "
        f"({aurc.size(2)} points; the others {aurc.size(0)}, {aurc.size(1)} and {aurc.size(3)})."
    )
    assert all(aurc.better())
    auroc = Claim(
        "uncertainty",
        "error_auroc_set: sets against single",
        "undecided",
        "undecided undecided better undecided",
    )
    yield (
        "Whether confidence is better at detecting errors is *undecided*: it is better in one of four pairs "
        f"({auroc.change(2)} points of AUROC; the others {auroc.change(0)}, {auroc.change(1)} and "
        f"{auroc.change(3)})."
    )
    ece = Claim(
        "uncertainty", "ece_set: sets against single", "goes both ways", "worse undecided undecided undecided"
    )
    yield (
        "For calibration by label sets, the verdict is *goes both ways*: it is worse in one of four "
        "pairs, on VOC "
        f"(by {ece.size(0)} points), and undecided in the others (errors changed by {ece.change(1)}, "
        f"{ece.change(2)} and {ece.change(3)} points)."
    )
    brier = Claim(
        "uncertainty", "brier_set: sets against single", "goes both ways", "undecided same better better"
    )
    assert brier.better() == [False, True, True, True]
    yield (
        "The same is true of the Brier score by label sets: it is better on the compositions (by "
        f"{brier.size(2)} and {brier.size(3)} points), and undecided or the same on VOC (worse by "
        f"{brier.size(0)}, "
        f"better by {brier.size(1)})."
    )
    label = Claim("uncertainty", "ece: sets against single", "worse", "worse worse worse worse")
    sizes = sorted((label.size(i) for i in range(4)), key=float)
    yield (
        "Evaluated by labels, the calibration of the same networks is worse in all four pairs (by "
        f"{sizes[0]} to {sizes[-1]} points), because they are confident in classes that are present "
        "but are not "
        "the label."
    )
    again = Claim("uncertainty", "recalibrated by label", "goes both ways", "worse worse undecided undecided")
    assert again.better() == [False, False, False, True]
    yield (
        "If networks trained on single labels are recalibrated to labels, as is usual, their "
        "calibration by label "
        f"sets becomes worse on VOC (by {again.size(0)} and {again.size(1)} points); on the "
        "compositions, the "
        f"difference is undecided (worse by {again.size(2)} points and better by {again.size(3)})."
    )


def _rankings():
    both = [
        Claim("benchmarking", "networks ranked by map_macro", "worse", "worse worse"),
        Claim("uncertainty", "networks ranked by calibration", "worse", "worse worse"),
        Claim("uncertainty", "networks ranked by selective prediction", "worse", "worse worse"),
    ]
    assert len(both) == 3
    yield (
        "On both data sets, accuracy by label and mean average precision rank networks more differently than "
        "expected by chance."
    )
    yield (
        "The same is true of calibration by label and by label set, and of selective prediction by "
        "label and by "
        "label set."
    )
    real1 = Claim("benchmarking", "networks ranked by real1", "worse", "undecided worse")
    changes = [_signed(100 * r["effect"]) for r in real1.cells]
    yield (
        "Averaged over both data sets, accuracy by label and accuracy by label set also rank networks "
        f"differently, but this is clear only on the compositions ({changes[1]} points; on VOC, "
        f"{changes[0]})."
    )
    tells = Claim("benchmarking", "transfer told by real1", "undecided")
    maps = Claim("benchmarking", "transfer told by map_macro", "goes both ways", "undecided undecided")
    yield (
        "It is *undecided* whether accuracy by label set is better than accuracy by label at predicting "
        "which of two networks "
        f"transfers better (right for {tells.side('value')} % of pairs of networks, compared with "
        f"{tells.side('value_against')} %)."
    )
    yield (
        f"For mean average precision, the verdict is *goes both ways* ({maps.change(0)} points on VOC, "
        f"{maps.change(1)} on the compositions)."
    )
    Claim("uncertainty", "uncertainty scores ranked", "undecided")
    Claim("uncertainty", "uncertainty scores ranked, of sigmoids", "worse", "worse worse worse worse")
    yield (
        "For a softmax, it is undecided whether confidence, margin, entropy and energy are ranked the same "
        "by label and by "
        "label set; for sigmoids trained on label sets, the ranking of the four scores changes in all four "
        "pairs."
    )


def _robustness():
    for metric in ("corrupted_real1", "lost_real1", "lost_top1"):
        Claim("robustness", f"{metric}: sets against single", "undecided")
    yield (
        "It is undecided which networks lose more accuracy under corruptions, both by label set and by label."
    )
    lost = Claim(
        "robustness", "lost_map_macro: sets against single", "worse", "undecided undecided worse worse"
    )
    yield (
        f"Networks trained on label sets lose {lost.size()} points more mean average precision, "
        "starting from a "
        "higher level; this is clear only on the compositions."
    )
    gap = Claim("robustness", "recall_gap: sets against single, voc9", "better" + LITTLE, "undecided better")
    yield (
        "On VOC, the recall of a class depends less on its usual companion (perhaps by less than "
        "matters, and "
        f"clear with one of two networks): the gap is {gap.side('value')} points, compared with "
        f"{gap.side('value_against')} points for networks trained on single labels."
    )
    Claim("robustness", "recall_gap: sets against single, cifar-sets", "worse", "worse worse")
    gaps = {arm: [_gap(arm, place) for place in PAIRS[2:]] for arm in ("sets", "single")}
    yield (
        "On the compositions, the recall depends far more on a companion that was planted in nine of ten "
        "training images "
        f"(gaps of {' and '.join(gaps['sets'])} points, compared with {' and '.join(gaps['single'])})."
    )
    for name, single in (("voc9", "undecided better"), ("cifar-sets", "better undecided")):
        Claim("robustness", f"ap_balanced: sets against single, {name}", "better", single)
    yield (
        "If the companion is made uninformative, average precision is better with label sets on both "
        "data sets; on "
        "each, this is clear with one of two networks."
    )


def _imperfect():
    real, true = (100 * sum(_map(arm)) / 4 for arm in ("reassessed", "sets"))
    yield (
        f"The mean average precision of networks trained on these label sets is {real:.0f} %, compared with "
        f"{true:.0f} % for networks trained on the true label sets."
    )
    Claim("uncertainty", "ece_set: soft against single", "worse", "undecided worse worse worse")
    Claim("transfer", "probe_map: soft against single", "undecided")
    yield (
        "Networks trained on the ensemble's soft labels, without raters, are worse calibrated by label "
        "sets than "
        "networks trained on single labels (clear in three of four pairs); whether their features "
        "transfer worse "
        "is undecided."
    )
    single = _map("single-bce")
    assert all(a < b for arm in ("role", "em-apl") for a, b in zip(_map(arm), single, strict=True))
    yield (
        "The mean average precision of networks trained with either of two losses for single positives is "
        "lower than that "
        "of networks trained with binary cross-entropy on the same single labels, in all four pairs of data "
        "set and "
        "network; no claim tests this."
    )


def wanted():
    """Return all sentences that the tables support."""
    parts = (_learning, _transfer, _confidence, _rankings, _robustness, _imperfect)
    return [sentence for part in parts for sentence in part()]


def summary():
    """Return the sentences of the section *In short*, without the bold heads of its paragraphs."""
    text = PAGE.read_text(encoding="utf-8").partition("## In short\n")[2].partition("\n## ")[0]
    text = " ".join(re.sub(r"\*\*[^*]+\*\*", "", text).split())
    return re.findall(r"\S.*?\.(?= [A-Z]|$)", text)


def test_every_sentence_of_the_summary_is_what_the_tables_show():
    assert [s for s in summary() if s not in EXPLANATIONS] == wanted()


def test_explanations_have_no_number_and_are_there():
    assert [s for s in summary() if s in EXPLANATIONS] == list(EXPLANATIONS)
    assert not re.search(r"\d", "".join(EXPLANATIONS))


def test_the_heads_of_paragraphs_claim_no_verdict():
    """They name what a paragraph is about; only sentences made of tables say what was decided."""
    text = PAGE.read_text(encoding="utf-8").partition("## In short\n")[2].partition("\n## ")[0]
    heads = re.findall(r"\*\*([^*]+)\*\*", text)
    assert heads == [
        "Label sets.",
        "Transfer.",
        "Confidence.",
        "Rankings.",
        "Robustness and shortcuts.",
        "Other labels.",
    ]


def test_the_counts_of_the_page_are_those_of_the_tables():
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    verdicts = [
        r["verdict"].removesuffix(LITTLE)
        for study in ("transfer", "uncertainty", "benchmarking", "robustness")
        for r in pl.read_csv(ANSWERS / study / "effects.csv").to_dicts()
        if r["sentence"]
    ]
    n = {name: verdicts.count(name) for name in set(verdicts)}
    assert sum(n.values()) == len(verdicts) == 48
    assert (
        f"The verdict is *undecided* for {n['undecided']} of the {len(verdicts)} claims, *goes both ways* "
        f"for {n['goes both ways']}, *better* for {n['better']}, *worse* for {n['worse']} and *the same "
        f"within the margin* for {n['same']}." in text
    )
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    Claim("transfer", "map_macro: sets against single", "better", "better better better better")
    assert (
        "on two small data sets, networks trained on label sets predict label sets better than those trained "
        f"on single labels; of [{len(verdicts)} claims](docs/explanation/study-results.md), {n['undecided']} "
        f"are undecided and {n['goes both ways']} have mixed results." in readme
    )
