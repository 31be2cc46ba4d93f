"""Files in, files out: what each command does, callable from Python.

This is the one place that puts readers, stages, the catalogue and the report together. Its names are
imported on first use: predicting needs nothing of comparing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.lazy import lazily

if TYPE_CHECKING:
    from manyhot.models import Done, Trial, families
    from manyhot.models.doctor import Finding, examine
    from manyhot.models.listing import Listed, list_models
    from manyhot.pipeline.benchmarks import BENCHMARKS, Benchmark, DataSet, evaluate_benchmark
    from manyhot.pipeline.campaign import Stage, Status, campaign_status, init_campaign
    from manyhot.pipeline.common import Options, Outcome, Progress, check_apart
    from manyhot.pipeline.compare import Compared, compare_files, leaderboard, leaderboard_text
    from manyhot.pipeline.conversion import convert
    from manyhot.pipeline.describe import describe_files
    from manyhot.pipeline.evaluate import evaluate_files
    from manyhot.pipeline.outputs import report_folder, undrawn
    from manyhot.pipeline.predict import Notify, predict_files
    from manyhot.pipeline.propose import propose_files
    from manyhot.pipeline.similar import similar_files
    from manyhot.steps.describe import Description
    from manyhot.steps.leaderboard import narrow
    from manyhot.steps.propose import Expected, Proposals
    from manyhot.steps.sensitivity import WARNING
    from manyhot.steps.similar import Similar

_HOME = {
    "BENCHMARKS": "manyhot.pipeline.benchmarks",
    "Benchmark": "manyhot.pipeline.benchmarks",
    "Compared": "manyhot.pipeline.compare",
    "DataSet": "manyhot.pipeline.benchmarks",
    "Description": "manyhot.steps.describe",
    "Done": "manyhot.models",
    "Expected": "manyhot.steps.propose",
    "Finding": "manyhot.models.doctor",
    "Listed": "manyhot.models.listing",
    "Notify": "manyhot.pipeline.predict",
    "Options": "manyhot.pipeline.common",
    "Outcome": "manyhot.pipeline.common",
    "Progress": "manyhot.pipeline.common",
    "Proposals": "manyhot.steps.propose",
    "Similar": "manyhot.steps.similar",
    "Stage": "manyhot.pipeline.campaign",
    "Status": "manyhot.pipeline.campaign",
    "Trial": "manyhot.models",
    "WARNING": "manyhot.steps.sensitivity",
    "campaign_status": "manyhot.pipeline.campaign",
    "check_apart": "manyhot.pipeline.common",
    "compare_files": "manyhot.pipeline.compare",
    "convert": "manyhot.pipeline.conversion",
    "describe_files": "manyhot.pipeline.describe",
    "evaluate_benchmark": "manyhot.pipeline.benchmarks",
    "evaluate_files": "manyhot.pipeline.evaluate",
    "examine": "manyhot.models.doctor",
    "families": "manyhot.models",
    "init_campaign": "manyhot.pipeline.campaign",
    "leaderboard": "manyhot.pipeline.compare",
    "leaderboard_text": "manyhot.pipeline.compare",
    "list_models": "manyhot.models.listing",
    "narrow": "manyhot.steps.leaderboard",
    "predict_files": "manyhot.pipeline.predict",
    "propose_files": "manyhot.pipeline.propose",
    "report_folder": "manyhot.pipeline.outputs",
    "similar_files": "manyhot.pipeline.similar",
    "undrawn": "manyhot.pipeline.outputs",
}

__all__ = [
    "BENCHMARKS",
    "WARNING",
    "Benchmark",
    "Compared",
    "DataSet",
    "Description",
    "Done",
    "Expected",
    "Finding",
    "Listed",
    "Notify",
    "Options",
    "Outcome",
    "Progress",
    "Proposals",
    "Similar",
    "Stage",
    "Status",
    "Trial",
    "campaign_status",
    "check_apart",
    "compare_files",
    "convert",
    "describe_files",
    "evaluate_benchmark",
    "evaluate_files",
    "examine",
    "families",
    "init_campaign",
    "leaderboard",
    "leaderboard_text",
    "list_models",
    "narrow",
    "predict_files",
    "propose_files",
    "report_folder",
    "similar_files",
    "undrawn",
]

__getattr__, __dir__ = lazily(__name__, _HOME)
