"""The lines that describe a run on the terminal."""

from pathlib import Path

from manyhot.predict.engines import Trial
from manyhot.predict.predicted_model import PredictedModel


def test_the_rate_is_while_predicting_and_the_difference_is_that_of_the_engine():
    """The total time includes the choice of the engine, and pixels may differ from those of a pipeline."""
    trials = (Trial("torch", 20.0, 0.0, 0.0, 0.1), Trial("openvino", 42.0, 1.8e-5, 0.0, 3.0))
    done = PredictedModel("lite0", Path("out"), None, trials, wall=59.3, n=900, missing=1, rate=42.0)
    assert next(iter(done.lines())) == (
        "lite0: 900 images in 59.3 s, 42/s while predicting; on equal pixels, logits differ from "
        "PyTorch's by at most 1.8e-05"
    )


def test_the_shards_of_missing_parts_are_named_as_an_array_of_jobs():
    def missing(shards):
        done = PredictedModel("lite0", Path("out"), None, missing=3, missing_shards=shards)
        return [*done.lines()][-1]

    merges = "; the last shard to finish merges all parts"
    assert missing((0, 5, 6, 7, 9, 10)) == f"  3 parts are missing, of shards 0, 5-7, 9-10{merges}"
    assert missing(tuple(range(0, 50, 2))).endswith(f"34, 36, 38 and 5 more{merges}")
    assert missing(()) == f"  3 parts are missing{merges}"
