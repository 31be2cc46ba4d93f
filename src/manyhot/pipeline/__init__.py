"""Files in, files out: what each command does, callable from Python.

This is the one place that puts readers, stages, the catalogue and the report together.
"""

from manyhot.models import Done, Trial, families
from manyhot.models.doctor import Finding, examine
from manyhot.models.listing import Listed, list_models
from manyhot.pipeline.benchmarks import BENCHMARKS, Benchmark, DataSet, evaluate_benchmark
from manyhot.pipeline.common import Options, Outcome, Progress, check_apart
from manyhot.pipeline.compare import Compared, compare_files, leaderboard, leaderboard_text
from manyhot.pipeline.conversion import convert
from manyhot.pipeline.describe import describe_files
from manyhot.pipeline.evaluate import evaluate_files
from manyhot.pipeline.outputs import report_folder, undrawn
from manyhot.pipeline.predict import Notify, predict_files
from manyhot.pipeline.similar import similar_files
from manyhot.steps.describe import Description
from manyhot.steps.leaderboard import narrow
from manyhot.steps.sensitivity import WARNING
from manyhot.steps.similar import Similar

__all__ = [
    "BENCHMARKS",
    "WARNING",
    "Benchmark",
    "Compared",
    "DataSet",
    "Description",
    "Done",
    "Finding",
    "Listed",
    "Notify",
    "Options",
    "Outcome",
    "Progress",
    "Similar",
    "Trial",
    "check_apart",
    "compare_files",
    "convert",
    "describe_files",
    "evaluate_benchmark",
    "evaluate_files",
    "examine",
    "families",
    "leaderboard",
    "leaderboard_text",
    "list_models",
    "narrow",
    "predict_files",
    "report_folder",
    "similar_files",
    "undrawn",
]
