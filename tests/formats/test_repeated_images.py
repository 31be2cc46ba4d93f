"""Images that the sampler of distributed training repeats: the same in each form of predictions."""

import numpy as np
import polars as pl
import pytest

from manyhot.errors import MatchError
from manyhot.formats import read_predictions, read_rows

IDS = ["a.jpg", "b.jpg", "c.jpg", "a.jpg"]
SCORES = np.array([[0.5, 0.25], [0.125, 1], [2, 0], [0.5, 0.25]])


def written(folder, form, scores):
    """Write predictions with a repeated image in a form, and return the file."""
    path = folder / form
    lists = {"image_id": IDS, "logits": scores.tolist()}
    if form == "net.npz":
        np.savez(path, ids=np.array(IDS), logits=scores)
    elif form == "lists.parquet":
        pl.DataFrame(lists).write_parquet(path)
    elif form == "objects.parquet":
        objects = [[{"label": f"c{c}", "score": s} for c, s in enumerate(row)] for row in scores.tolist()]
        pl.DataFrame({"image_id": IDS, "predictions": objects}).write_parquet(path)
    elif form == "wide.csv":
        pl.DataFrame({"image_id": IDS, "c0": scores[:, 0], "c1": scores[:, 1]}).write_csv(path)
    else:
        top = {"image_id": IDS, "pred": ["c0", "c1", "c0", "c0"], "score": scores.max(1)}
        pl.DataFrame(top).write_csv(path)
    return path


FORMS = ("net.npz", "lists.parquet", "objects.parquet", "wide.csv", "top.csv")


@pytest.mark.parametrize("form", FORMS)
def test_repeated_rows_with_the_same_scores_are_left_out(tmp_path, form):
    found = read_predictions(written(tmp_path, form, SCORES), classes=["c0", "c1"], scores="logit")
    assert found.image_id.to_pylist() == IDS[:3]
    assert found.notes == (
        "1 of 4 rows repeat an image with the same values, as in padded data, and were left out",
    )


@pytest.mark.parametrize("form", FORMS[:-1])
def test_repeated_rows_with_other_scores_are_refused(tmp_path, form):
    path = written(tmp_path, form, SCORES + np.arange(4)[:, None] / 8)
    with pytest.raises(MatchError) as error:
        read_predictions(path, classes=["c0", "c1"], scores="logit")
    assert str(error.value) == (
        f"An image is listed more than once.\n  where:   {path}\n  got:     1 id, such as a.jpg\n"
        "  allowed: each image_id once\n"
        "  do:      retain one row per image: repeated rows are left out only if their values are the same"
    )


def test_a_file_of_rows_with_a_repeated_image(tmp_path):
    (tmp_path / "rows.txt").write_text("\n".join(IDS))
    with pytest.raises(MatchError) as error:
        read_rows(tmp_path / "rows.txt")
    assert str(error.value) == (
        f"An image is listed more than once.\n  where:   {tmp_path / 'rows.txt'}\n"
        "  got:     1 id, such as a.jpg\n  allowed: each image_id once\n"
        "  do:      retain one row per image, also in the array; if a DistributedSampler repeated images, "
        "save the ids with the array, and repeated rows are left out: "
        "numpy.savez('NEW.npz', ids=IDS, scores=SCORES)"
    )
