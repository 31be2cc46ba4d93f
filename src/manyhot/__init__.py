"""Treat single-label image data sets as what they are: multi-label.

The public names are resolved on first use: importing manyhot imports neither torch nor NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot._version import __version__
from manyhot.lazy import lazily

if TYPE_CHECKING:
    from manyhot.api import (
        Evaluator,
        as_labels,
        compare,
        describe,
        diagnose_errors,
        evaluate,
        find_label_issues,
    )
    from manyhot.catalog import fetch
    from manyhot.classes import ClassList, class_list
    from manyhot.errors import ManyhotError
    from manyhot.formats import (
        read_findings,
        read_golden,
        read_images,
        read_labels,
        read_objects,
        read_predictions,
        read_results,
        read_votes,
    )
    from manyhot.models.explain import explain
    from manyhot.models.predict import predict
    from manyhot.pipeline import (
        aggregate_files,
        agreement_files,
        campaign_status,
        compare_files,
        convert,
        describe_files,
        diagnose_calibration_files,
        diagnose_errors_files,
        diagnose_shortcuts_files,
        evaluate_benchmark,
        evaluate_files,
        explain_files,
        find_label_issues_files,
        init_campaign,
        kinds_files,
        leaderboard,
        next_files,
        predict_files,
        propose_files,
        report_folder,
        similar_files,
    )
    from manyhot.reassess import aggregate, agreement
    from manyhot.registry import register
    from manyhot.steps.aggregate import Aggregated
    from manyhot.steps.agreement import Agreement
    from manyhot.steps.compare import Comparison
    from manyhot.steps.describe import Description
    from manyhot.steps.findings import SortedErrors
    from manyhot.steps.issues import LabelIssues
    from manyhot.steps.localising import Explanations
    from manyhot.steps.propose import Proposals, propose
    from manyhot.steps.recalibration import Calibration, diagnose_calibration
    from manyhot.steps.results import Evaluation
    from manyhot.steps.shortcuts import Shortcuts
    from manyhot.steps.trust import Conformal, calibrate, conformal
    from manyhot.tables import (
        Campaign,
        Golden,
        Images,
        Labels,
        Predictions,
        Results,
        Votes,
        write_golden,
        write_labels,
        write_objects,
        write_predictions,
        write_votes,
    )

_HOME = {
    "Aggregated": "manyhot.steps.aggregate",
    "Agreement": "manyhot.steps.agreement",
    "Calibration": "manyhot.steps.recalibration",
    "Campaign": "manyhot.tables",
    "ClassList": "manyhot.classes",
    "Comparison": "manyhot.steps.compare",
    "Conformal": "manyhot.steps.trust",
    "Description": "manyhot.steps.describe",
    "Evaluation": "manyhot.steps.results",
    "Evaluator": "manyhot.api",
    "Explanations": "manyhot.steps.localising",
    "Golden": "manyhot.tables",
    "Images": "manyhot.tables",
    "LabelIssues": "manyhot.steps.issues",
    "Labels": "manyhot.tables",
    "ManyhotError": "manyhot.errors",
    "Predictions": "manyhot.tables",
    "Proposals": "manyhot.steps.propose",
    "Results": "manyhot.tables",
    "Shortcuts": "manyhot.steps.shortcuts",
    "SortedErrors": "manyhot.steps.findings",
    "Votes": "manyhot.tables",
    "aggregate": "manyhot.reassess",
    "aggregate_files": "manyhot.pipeline",
    "agreement": "manyhot.reassess",
    "agreement_files": "manyhot.pipeline",
    "as_labels": "manyhot.api",
    "calibrate": "manyhot.steps.trust",
    "campaign_status": "manyhot.pipeline",
    "class_list": "manyhot.classes",
    "compare": "manyhot.api",
    "compare_files": "manyhot.pipeline",
    "conformal": "manyhot.steps.trust",
    "convert": "manyhot.pipeline",
    "describe": "manyhot.api",
    "describe_files": "manyhot.pipeline",
    "diagnose_calibration": "manyhot.steps.recalibration",
    "diagnose_calibration_files": "manyhot.pipeline",
    "diagnose_errors": "manyhot.api",
    "diagnose_errors_files": "manyhot.pipeline",
    "diagnose_shortcuts_files": "manyhot.pipeline",
    "evaluate": "manyhot.api",
    "evaluate_benchmark": "manyhot.pipeline",
    "evaluate_files": "manyhot.pipeline",
    "explain": "manyhot.models.explain",
    "explain_files": "manyhot.pipeline",
    "fetch": "manyhot.catalog",
    "find_label_issues": "manyhot.api",
    "find_label_issues_files": "manyhot.pipeline",
    "init_campaign": "manyhot.pipeline",
    "kinds_files": "manyhot.pipeline",
    "leaderboard": "manyhot.pipeline",
    "next_files": "manyhot.pipeline",
    "predict": "manyhot.models.predict",
    "predict_files": "manyhot.pipeline",
    "propose": "manyhot.steps.propose",
    "propose_files": "manyhot.pipeline",
    "read_findings": "manyhot.formats",
    "read_golden": "manyhot.formats",
    "read_images": "manyhot.formats",
    "read_labels": "manyhot.formats",
    "read_objects": "manyhot.formats",
    "read_predictions": "manyhot.formats",
    "read_results": "manyhot.formats",
    "read_votes": "manyhot.formats",
    "register": "manyhot.registry",
    "report_folder": "manyhot.pipeline",
    "similar_files": "manyhot.pipeline",
    "write_golden": "manyhot.tables",
    "write_labels": "manyhot.tables",
    "write_objects": "manyhot.tables",
    "write_predictions": "manyhot.tables",
    "write_votes": "manyhot.tables",
}

__all__ = [
    "Aggregated",
    "Agreement",
    "Calibration",
    "Campaign",
    "ClassList",
    "Comparison",
    "Conformal",
    "Description",
    "Evaluation",
    "Evaluator",
    "Explanations",
    "Golden",
    "Images",
    "LabelIssues",
    "Labels",
    "ManyhotError",
    "Predictions",
    "Proposals",
    "Results",
    "Shortcuts",
    "SortedErrors",
    "Votes",
    "__version__",
    "aggregate",
    "aggregate_files",
    "agreement",
    "agreement_files",
    "as_labels",
    "calibrate",
    "campaign_status",
    "class_list",
    "compare",
    "compare_files",
    "conformal",
    "convert",
    "describe",
    "describe_files",
    "diagnose_calibration",
    "diagnose_calibration_files",
    "diagnose_errors",
    "diagnose_errors_files",
    "diagnose_shortcuts_files",
    "evaluate",
    "evaluate_benchmark",
    "evaluate_files",
    "explain",
    "explain_files",
    "fetch",
    "find_label_issues",
    "find_label_issues_files",
    "init_campaign",
    "kinds_files",
    "leaderboard",
    "next_files",
    "predict",
    "predict_files",
    "propose",
    "propose_files",
    "read_findings",
    "read_golden",
    "read_images",
    "read_labels",
    "read_objects",
    "read_predictions",
    "read_results",
    "read_votes",
    "register",
    "report_folder",
    "similar_files",
    "write_golden",
    "write_labels",
    "write_objects",
    "write_predictions",
    "write_votes",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
