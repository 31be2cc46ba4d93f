"""The page about errors says first how many there are, and of which kinds."""

import re
from dataclasses import replace

import pyarrow as pa
import pytest

from manyhot.diagnose.sorted_errors import ModelErrors, SortedErrors
from manyhot.run import Run

COLUMNS = {
    **{"kind": pa.string(), "image_id": pa.string(), "class_a": pa.int32(), "class_b": pa.int32()},
    **{"label": pa.int32(), "dataset": pa.string(), "model": pa.string(), "confidence": pa.float32()},
    **{"label_name": pa.string(), "name_a": pa.string(), "name_b": pa.string()},
}


def found(kinds, *models, min_confidence=None, event="label"):
    rows = [
        {"kind": kind, "image_id": f"{i}.jpg", "class_b": 1, "label": 0, "dataset": "pets", "model": "net"}
        | {"confidence": 0.5 + i / 100, "label_name": f"cat {i}", "name_b": "dog <b>" if i % 2 else "cow"}
        for i, kind in enumerate(kinds)
    ]
    table = pa.Table.from_pylist(rows, pa.schema(COLUMNS))
    part = SortedErrors(table, models, ("a",), {"fine-grained": "no hierarchy"}, event, min_confidence)
    return SortedErrors.concat([part], {})


def words(path):
    html = re.sub(r"(?s)<(script|style).*?</\1>", " ", path.read_text(encoding="utf-8"))
    return " ".join(re.sub(r"<[^>]+>", " ", html[html.index("<main") :]).split())


@pytest.fixture
def page(tmp_path):
    kinds = ["valid-label"] * 5 + ["model-failure"] * 3 + ["unclear"] * 2
    counts = {"valid-label": 5, "unclear": 2, "co-occurrence": 0, "model-failure": 3}
    result = found(kinds, ModelErrors("pets", "net", 40, 0, 10, counts))
    call = "manyhot diagnose errors labels.csv --predictions net.parquet"
    *_, path = result.write(tmp_path, run=Run(call))
    assert path == tmp_path / "report" / "index.html"
    return words(path)


def test_the_answer_and_the_next_step_come_first(page):
    assert page.startswith(
        "What the errors are net makes 10 errors on 40 images of pets (25 %), by the original label: these "
        "are 50 % valid-label, 30 % model-failure and 20 % unclear. The kind of an error is the "
        "first rule that matches, in the order of the table. Skipped rules: fine-grained: no hierarchy. "
        "Next: list the labels that may be wrong or missing. "
        "manyhot diagnose labels labels.csv --predictions net.parquet Kinds of errors"
    )


def test_kinds_have_counts_intervals_and_meanings(page):
    # Wilson's interval of 5 of 10 is 23.7 to 76.3 %.
    assert (
        "valid-label 5 of 10 50.0 % (23.7 to 76.3) The predicted class is in the label set: the model is "
        "right, and the original label is incomplete." in page
    )
    assert "co-occurrence 0 of 10 0.0 % (0.0 to 27.8)" in page


def test_the_most_confident_errors_come_first(page):
    first = page.split("Errors of the highest confidence")[-1]
    assert "9.jpg cat 9 dog &lt;b&gt; unclear 0.59" in first
    assert first.index("9.jpg") < first.index("0.jpg")


def test_several_models_and_a_minimum_confidence(tmp_path):
    models = [ModelErrors("pets", f"net{i}", 40, 0, 10, {"model-failure": i}) for i in range(1, 6)]
    models.insert(0, ModelErrors("pets", "worst", 40, 0, 11, {"model-failure": 11}))  # named last
    said = words(found(["model-failure"], *models, min_confidence=0.9, event="set").write(tmp_path)[-1])
    assert said.startswith(
        "What the errors are net1 makes 10 errors on 40 images of pets (25 %), by the label set: the 1 with "
        "a confidence above 0.9 are 100 % model-failure. 6 models were compared. The figure shows the 3 "
        "models with the fewest errors; the table shows all models."
    )
    assert (
        "Next: find groups of images on which the model fails. manyhot diagnose groups DATASET "
        "--predictions FOLDER" in said
    )


def test_errors_on_single_labels_may_be_wrong_labels(tmp_path):
    """The kinds cannot show it: without answers of raters, such an error is a failure of the model."""
    result = found(["model-failure"] * 4, ModelErrors("pets", "net", 40, 0, 9, {"model-failure": 4}))
    about = {**result.metadata, "min_confidence": "0.9", "skipped_rules": '{"valid-label": "nobody asked"}'}
    call = "manyhot diagnose errors labels.csv --predictions net.parquet --min-confidence 0.9"
    said = words(replace(result, metadata=about).write(tmp_path, run=Run(call))[-1])
    assert (
        "100 % model-failure. An error with a confidence above 0.9 may be due to a wrong or missing label, "
        "whatever its kind: the kinds cannot show this, because only the original labels are known. The "
        "kind" in said
    )
    assert "Next: list the labels that may be wrong or missing. manyhot diagnose labels labels.csv" in said


def test_a_model_without_errors(tmp_path):
    said = words(found([], ModelErrors("pets", "net", 40, 0, 0, {"model-failure": 0})).write(tmp_path)[-1])
    assert said.startswith(
        "What the errors are net makes 0 errors on 40 images of pets (0 %), by the original label. The kind"
    )


def test_the_report_of_evaluate_is_not_replaced(tmp_path):
    (tmp_path / "results.parquet").touch()
    result = found(["unclear"], ModelErrors("pets", "net", 40, 0, 1, {"unclear": 1}))
    written = [path.name for path in result.write(tmp_path)]
    assert written == ["findings.parquet", "findings.csv", "findings-counts.csv"]
    assert not (tmp_path / "report").exists()
