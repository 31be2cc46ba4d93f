"""A selection that a browser saved is read by the commands that ask raters, evaluate, and show it again."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot import build_gallery, evaluate, tables
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose

image = pytest.importorskip("PIL.Image")
IDS = ["007", "b, c.jpg", 'say "d".jpg', "e.jpg", "f.jpg", "g.jpg"]
LABEL = [0, 0, 0, 1, 1, 2]
CHOSEN = [IDS[0], IDS[1], IDS[2], IDS[4]]


@pytest.fixture
def predicted(tmp_path):
    folder = tmp_path / "pred"
    folder.mkdir()
    paths = [tmp_path / f"{i}.jpg" for i in range(6)]
    for i, path in enumerate(paths):
        image.new("RGB", (40, 30), (40 * i, 99, 0)).save(path)
    table = pa.table({"image_id": IDS, "uri": list(map(str, paths)), "label": pa.array(LABEL, pa.int32())})
    tables.write(table, folder / "images.parquet", "images")
    best = np.array([[0, 1], [1, 0], [2, 0], [1, 2], [0, 1], [2, 0]])
    scores = np.array([[0.6, 0.4]] * 6, np.float32)
    made = tables.Predictions(pa.array(IDS), "m", best, scores, None, "probability", 3)
    tables.write_predictions(made, folder / "m.parquet")
    return folder


@pytest.fixture
def selection(predicted, tmp_path, chromium):
    """Select four images in the grid, and save them."""
    build_gallery(predicted, out=tmp_path / "gallery")
    page = chromium.new_page()
    page.goto((tmp_path / "gallery" / "index.html").as_uri() + "#view=grid")
    for image_id in CHOSEN[::-1]:
        page.get_by_label(f"Select {image_id}", exact=True).check()
    page.locator("#picked").click()
    page.locator("#picks-name").fill("odd ones")
    with page.expect_download() as download:
        page.locator("#picks-save").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    page.close()
    return path


def test_annotate_asks_about_the_selection(predicted, selection, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\ncup\n")
    camp = tmp_path / "camp"
    init_campaign(camp, images=selection, predictions=[predicted], classes=tmp_path / "classes.txt")
    propose(camp, leave_out="nothing").write(camp / "proposals.parquet")
    with open_annotation(camp, alone=True) as annotation:
        places = annotation.store.places()
    images = tables.read(predicted / "images.parquet", "images")
    uris = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True))
    assert sorted(places) == sorted(uris[image_id] for image_id in CHOSEN)


def test_evaluate_slices_by_the_selection(predicted, selection, tmp_path):
    labels = tmp_path / "labels.csv"
    pl.DataFrame({"image_id": IDS, "class_id": LABEL, "state": "yes", "label": LABEL}).write_csv(labels)
    (tmp_path / "classes.txt").write_text("cat\ndog\ncup\n")
    found = evaluate(
        labels,
        predicted,
        metrics=["real1"],
        slices=["selection=odd ones"],
        resamples=0,
        reading=Reading(images=selection, classes=tmp_path / "classes.txt"),
    )
    rows = {row["slice"]: row for row in found.results.to_pylist() if row["metric"] == "real1"}
    # Of all six the first, fourth and sixth are right; of the four that are selected the first.
    assert (rows["all"]["value"], rows["all"]["n"]) == (0.5, 6)
    assert (rows["selection=odd ones"]["value"], rows["selection=odd ones"]["n"]) == (0.25, 4)


def test_a_gallery_of_the_selection(predicted, selection, tmp_path):
    made = build_gallery(predicted, out=tmp_path / "again", reading=Reading(images=selection)).gallery
    assert [shot.image_id for shot in made.shots] == CHOSEN
    assert [shot.label for shot in made.shots] == [0, 0, 0, 1]


def test_findings_of_any_table(predicted, tmp_path):
    groups = tmp_path / "groups.csv"
    pl.DataFrame({"image_id": [IDS[1], IDS[3], "elsewhere"], "group": [1, 2, 2]}).write_csv(groups)
    words = pa.table({"image_id": [IDS[1], IDS[1], IDS[0]], "finding": ["dark", "dark", None]})
    errors = pa.table({"kind": ["fine-grained"], "image_id": [IDS[1]], "model": ["m"]})
    path = tables.write(errors, tmp_path / "findings.parquet", "findings")
    made = build_gallery(predicted, findings=[groups, words, path], out=tmp_path / "out").gallery
    assert made.findings == ("dark", "group 1", "group 2")
    assert [shot.findings for shot in made.shots] == [(), (1, 0), (), (2,), (), ()]
    assert [shot.kinds for shot in made.shots][:2] == [("",), ("fine-grained",)]


@pytest.mark.parametrize("columns", [("image_id", "x"), ("name", "group")])
def test_a_table_without_findings_is_refused(predicted, tmp_path, columns):
    path = tmp_path / "other.csv"
    path.write_text(f"{','.join(columns)}\na,1\n")
    with pytest.raises(InputError) as error:
        build_gallery(predicted, findings=path, out=tmp_path / "out")
    assert str(error.value) == (
        f"The table has no findings on images.\n  where:   {path}\n  got:     columns {', '.join(columns)}\n"
        "  allowed: image_id, and finding or group; or findings.parquet or class_errors.parquet of manyhot "
        "diagnose errors"
    )


def test_the_folder_of_diagnose_errors_holds_both_tables(predicted, tmp_path):
    folder = tmp_path / "errors"
    folder.mkdir()
    kinds = pa.table({"kind": ["fine-grained"], "image_id": [IDS[1]], "model": ["m"]})
    tables.write(kinds, folder / "findings.parquet", "findings")
    pair = {"image_id": [IDS[2]], "model": ["m"], "class_id": [0], "error": ["miss"]}
    pairs = pa.table({**pair, "probability": [0.1], "threshold": [0.5], "name": ["cat"], "dataset": ["d"]})
    tables.write(
        pairs.select(tables.schema("class_errors").names).cast(tables.schema("class_errors")),
        folder / "class_errors.parquet",
        "class_errors",
    )
    made = build_gallery(predicted, findings=folder, out=tmp_path / "out").gallery
    assert [shot.kinds[0] for shot in made.shots[:3]] == ["", "", "miss"]  # a top class decides nothing
    assert [len(shot.pair_errors) for shot in made.shots[:3]] == [0, 0, 1]


@pytest.mark.parametrize(("given", "got"), [("", "None"), ("nan", "'nan'"), ("high", "'high'")])
def test_errors_need_a_probability(predicted, tmp_path, given, got):
    path = tmp_path / "class_errors.csv"
    rows = f'"{IDS[1]}",m,0,miss,{given},0.5\n'
    path.write_text(f"image_id,model,class_id,error,probability,threshold\n{rows}")
    with pytest.raises(InputError) as error:
        build_gallery(predicted, findings=path, out=tmp_path / "out")
    assert str(error.value) == (
        "An error of a model has no probability.\n"
        f"  where:   class_errors, image {IDS[1]}, m\n  got:     {got}\n"
        "  allowed: a number in the column probability\n"
        "  do:      remove this row, or fill in the probability"
    )


def test_the_page_filters_by_finding(predicted, tmp_path, chromium):
    words = pa.table({"image_id": [IDS[1], IDS[3]], "finding": ["a <b>dark</b> scene", "blurred"]})
    build_gallery(predicted, findings=words, out=tmp_path / "out")
    page = chromium.new_page()
    page.goto((tmp_path / "out" / "index.html").as_uri())
    page.locator("#finding").select_option("a <b>dark</b> scene")
    assert page.locator("#position").text_content() == "1 of 1"
    page.wait_for_function("id => document.getElementById('shot').dataset.image === id", arg=IDS[1])
    assert page.locator("#findings li").all_text_contents() == ["a <b>dark</b> scene"]
    page.locator("#clear").click()
    page.locator("#text").fill("BLURRED")
    page.wait_for_function("id => document.getElementById('shot').dataset.image === id", arg=IDS[3])
    page.close()
