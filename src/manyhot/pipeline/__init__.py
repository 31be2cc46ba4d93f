"""Files in, files out: what each command does, callable from Python.

This is the one place that puts readers, stages, the catalogue and the report together. Its names are
imported on first use: predicting needs nothing of comparing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.lazy import lazily

if TYPE_CHECKING:
    from manyhot.formats.writing import Saved
    from manyhot.models import Done, Trial, families
    from manyhot.models.doctor import Finding, examine
    from manyhot.models.listing import Listed, list_models
    from manyhot.pipeline.aggregate import PUBLISHED, aggregate_files, agreement_files
    from manyhot.pipeline.annotate import Annotation, export_votes, open_annotation
    from manyhot.pipeline.asking import next_files
    from manyhot.pipeline.backup import Backup, backup_campaign, restore_campaign
    from manyhot.pipeline.benchmark import evaluate_benchmark
    from manyhot.pipeline.benchmarks import BENCHMARKS, Benchmark, DataSet
    from manyhot.pipeline.calibration import diagnose_calibration_files
    from manyhot.pipeline.campaign import Stage, Status, campaign_status, init_campaign
    from manyhot.pipeline.card import CardFacts
    from manyhot.pipeline.common import Options, Outcome, Progress, check_apart
    from manyhot.pipeline.companions import diagnose_companions_files
    from manyhot.pipeline.compare import Compared, compare_files, leaderboard, leaderboard_text
    from manyhot.pipeline.conversion import convert
    from manyhot.pipeline.corruptions import diagnose_corruptions_files
    from manyhot.pipeline.describe import describe_files
    from manyhot.pipeline.diagnose import diagnose_errors_files
    from manyhot.pipeline.evaluate import evaluate_files
    from manyhot.pipeline.explaining import explain_files
    from manyhot.pipeline.gallery import gallery_files
    from manyhot.pipeline.issues import find_label_issues_files
    from manyhot.pipeline.kinds import kinds_files
    from manyhot.pipeline.label_maps import label_map_files
    from manyhot.pipeline.mitigation import mitigate_files
    from manyhot.pipeline.outputs import report_folder, undrawn
    from manyhot.pipeline.patch_settings import PatchSettings, pair_of, real_range, whole_range
    from manyhot.pipeline.patchml import PatchML, patchml_files
    from manyhot.pipeline.predict import Notify, predict_files
    from manyhot.pipeline.propose import propose_files
    from manyhot.pipeline.robustness import diagnose_robustness_files
    from manyhot.pipeline.serving import serve
    from manyhot.pipeline.shortcuts import diagnose_shortcuts_files
    from manyhot.pipeline.similar import similar_files
    from manyhot.pipeline.training import train_files
    from manyhot.pipeline.transferring import transfer_files
    from manyhot.steps.aggregate import Aggregated
    from manyhot.steps.agreement import RULES, Agreement
    from manyhot.steps.asking import Next
    from manyhot.steps.companions import Companions
    from manyhot.steps.describe import Description
    from manyhot.steps.findings import SortedErrors
    from manyhot.steps.issues import LabelIssues
    from manyhot.steps.kinds import Kinds
    from manyhot.steps.leaderboard import image_groups, narrow
    from manyhot.steps.localising import Explanations
    from manyhot.steps.mitigation import Mitigation
    from manyhot.steps.propose import Expected, Proposals
    from manyhot.steps.recalibration import MEASURES, Calibration
    from manyhot.steps.results import Evaluation
    from manyhot.steps.robustness import Robustness
    from manyhot.steps.sensitivity import WARNING
    from manyhot.steps.shortcuts import Shortcuts
    from manyhot.steps.similar import Similar

_HOME = {
    "Aggregated": "manyhot.steps.aggregate",
    "Agreement": "manyhot.steps.agreement",
    "Annotation": "manyhot.pipeline.annotate",
    "BENCHMARKS": "manyhot.pipeline.benchmarks",
    "Backup": "manyhot.pipeline.backup",
    "Benchmark": "manyhot.pipeline.benchmarks",
    "backup_campaign": "manyhot.pipeline.backup",
    "restore_campaign": "manyhot.pipeline.backup",
    "Calibration": "manyhot.steps.recalibration",
    "CardFacts": "manyhot.pipeline.card",
    "Companions": "manyhot.steps.companions",
    "Compared": "manyhot.pipeline.compare",
    "DataSet": "manyhot.pipeline.benchmarks",
    "Description": "manyhot.steps.describe",
    "Done": "manyhot.models",
    "Explanations": "manyhot.steps.localising",
    "Evaluation": "manyhot.steps.results",
    "Expected": "manyhot.steps.propose",
    "Finding": "manyhot.models.doctor",
    "Kinds": "manyhot.steps.kinds",
    "Listed": "manyhot.models.listing",
    "Mitigation": "manyhot.steps.mitigation",
    "Next": "manyhot.steps.asking",
    "Notify": "manyhot.pipeline.predict",
    "Options": "manyhot.pipeline.common",
    "Outcome": "manyhot.pipeline.common",
    "PUBLISHED": "manyhot.pipeline.aggregate",
    "PatchML": "manyhot.pipeline.patchml",
    "PatchSettings": "manyhot.pipeline.patch_settings",
    "pair_of": "manyhot.pipeline.patch_settings",
    "patchml_files": "manyhot.pipeline.patchml",
    "real_range": "manyhot.pipeline.patch_settings",
    "whole_range": "manyhot.pipeline.patch_settings",
    "Progress": "manyhot.pipeline.common",
    "Proposals": "manyhot.steps.propose",
    "Saved": "manyhot.formats.writing",
    "Robustness": "manyhot.steps.robustness",
    "RULES": "manyhot.steps.agreement",
    "Shortcuts": "manyhot.steps.shortcuts",
    "Similar": "manyhot.steps.similar",
    "LabelIssues": "manyhot.steps.issues",
    "MEASURES": "manyhot.steps.recalibration",
    "SortedErrors": "manyhot.steps.findings",
    "Stage": "manyhot.pipeline.campaign",
    "Status": "manyhot.pipeline.campaign",
    "Trial": "manyhot.models",
    "WARNING": "manyhot.steps.sensitivity",
    "aggregate_files": "manyhot.pipeline.aggregate",
    "agreement_files": "manyhot.pipeline.aggregate",
    "campaign_status": "manyhot.pipeline.campaign",
    "check_apart": "manyhot.pipeline.common",
    "compare_files": "manyhot.pipeline.compare",
    "convert": "manyhot.pipeline.conversion",
    "describe_files": "manyhot.pipeline.describe",
    "diagnose_calibration_files": "manyhot.pipeline.calibration",
    "diagnose_corruptions_files": "manyhot.pipeline.corruptions",
    "diagnose_robustness_files": "manyhot.pipeline.robustness",
    "diagnose_companions_files": "manyhot.pipeline.companions",
    "diagnose_errors_files": "manyhot.pipeline.diagnose",
    "diagnose_shortcuts_files": "manyhot.pipeline.shortcuts",
    "evaluate_benchmark": "manyhot.pipeline.benchmark",
    "evaluate_files": "manyhot.pipeline.evaluate",
    "examine": "manyhot.models.doctor",
    "find_label_issues_files": "manyhot.pipeline.issues",
    "explain_files": "manyhot.pipeline.explaining",
    "export_votes": "manyhot.pipeline.annotate",
    "families": "manyhot.models",
    "gallery_files": "manyhot.pipeline.gallery",
    "image_groups": "manyhot.steps.leaderboard",
    "init_campaign": "manyhot.pipeline.campaign",
    "kinds_files": "manyhot.pipeline.kinds",
    "label_map_files": "manyhot.pipeline.label_maps",
    "leaderboard": "manyhot.pipeline.compare",
    "leaderboard_text": "manyhot.pipeline.compare",
    "list_models": "manyhot.models.listing",
    "mitigate_files": "manyhot.pipeline.mitigation",
    "narrow": "manyhot.steps.leaderboard",
    "next_files": "manyhot.pipeline.asking",
    "predict_files": "manyhot.pipeline.predict",
    "open_annotation": "manyhot.pipeline.annotate",
    "propose_files": "manyhot.pipeline.propose",
    "report_folder": "manyhot.pipeline.outputs",
    "serve": "manyhot.pipeline.serving",
    "similar_files": "manyhot.pipeline.similar",
    "train_files": "manyhot.pipeline.training",
    "transfer_files": "manyhot.pipeline.transferring",
    "undrawn": "manyhot.pipeline.outputs",
}

__all__ = [
    "BENCHMARKS",
    "MEASURES",
    "PUBLISHED",
    "RULES",
    "WARNING",
    "Aggregated",
    "Agreement",
    "Annotation",
    "Backup",
    "Benchmark",
    "Calibration",
    "CardFacts",
    "Companions",
    "Compared",
    "DataSet",
    "Description",
    "Done",
    "Evaluation",
    "Expected",
    "Explanations",
    "Finding",
    "Kinds",
    "LabelIssues",
    "Listed",
    "Mitigation",
    "Next",
    "Notify",
    "Options",
    "Outcome",
    "PatchML",
    "PatchSettings",
    "Progress",
    "Proposals",
    "Robustness",
    "Saved",
    "Shortcuts",
    "Similar",
    "SortedErrors",
    "Stage",
    "Status",
    "Trial",
    "aggregate_files",
    "agreement_files",
    "backup_campaign",
    "campaign_status",
    "check_apart",
    "compare_files",
    "convert",
    "describe_files",
    "diagnose_calibration_files",
    "diagnose_companions_files",
    "diagnose_corruptions_files",
    "diagnose_errors_files",
    "diagnose_robustness_files",
    "diagnose_shortcuts_files",
    "evaluate_benchmark",
    "evaluate_files",
    "examine",
    "explain_files",
    "export_votes",
    "families",
    "find_label_issues_files",
    "gallery_files",
    "image_groups",
    "init_campaign",
    "kinds_files",
    "label_map_files",
    "leaderboard",
    "leaderboard_text",
    "list_models",
    "mitigate_files",
    "narrow",
    "next_files",
    "open_annotation",
    "pair_of",
    "patchml_files",
    "predict_files",
    "propose_files",
    "real_range",
    "report_folder",
    "restore_campaign",
    "serve",
    "similar_files",
    "train_files",
    "transfer_files",
    "undrawn",
    "whole_range",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
