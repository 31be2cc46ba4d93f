"""The gallery as a page of the report: made with it, linked both ways, and never by surprise."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from manyhot import Reading, cli, evaluate, tables
from manyhot.diagnose.page import report_folder
from manyhot.evaluate.gallery import build_gallery
from manyhot.run import Run

image = pytest.importorskip("PIL.Image")
IDS = [f"{i}.jpg" for i in range(6)]
LABEL = [0, 0, 0, 1, 1, 2]
SETS = [{0, 1}, {0}, {1}, {1, 2}, {1}, {2}]
# Valid though not the label: images 0 and 3 of the first model, 2 of the second.
COMMAND = ["evaluate", "sets.parquet", "--predictions", "pred", "--out", "results"]
SAID = {"first": [1, 0, 0, 2, 1, 2], "second": [2, 0, 1, 0, 1, 0]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder that predict wrote, and label sets beside it."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(IDS):
        image.new("RGB", (40, 30), (40 * i, 90, 90)).save(name)
    uris = [str(tmp_path / i) for i in IDS]
    shown = pa.table({"image_id": IDS, "uri": uris, "label": pa.array(LABEL, pa.int32())})
    tables.write(shown, "pred/images.parquet", "images")
    for name, best in SAID.items():
        classes = np.array([[c, (c + 1) % 3] for c in best])
        scores = np.array([[0.9, 0.1]] * 6, np.float32)
        made = tables.Predictions(pa.array(IDS), name, classes, scores, None, "probability", 3)
        tables.write_predictions(made, f"pred/{name}.parquet")
    asked = [{c: "yes" if c in valid else "no" for c in range(3)} for valid in SETS]
    sets = pa.table(
        {
            "image_id": IDS,
            "label": pa.array(LABEL, pa.int32()),
            "usable": [True] * 6,
            "rated": [True] * 6,
            "classes": pa.array([list(a) for a in asked], pa.list_(pa.int32())),
            "state": [list(a.values()) for a in asked],
        }
    )
    tables.write_labels(tables.Labels(sets, 3, asked_known=True, name="small"), "sets.parquet")
    return tmp_path


def evaluated(images=None, call="", **options):
    """Judge and write; return what the report lacks, and the paths."""
    judged = evaluate("sets.parquet", ["pred"], reading=Reading(images=images), **options)
    written = judged.write("results", run=Run(call))
    return "".join(line for line in judged.lines() if line.startswith("the report has no")), written


def page():
    return Path("results/report/index.html").read_text(encoding="utf-8")


def links(text):
    return [unescape(a) for a in re.findall(r'href="(gallery/[^"]*)"', text)]


def has_gallery():
    return Path("results/report/gallery/index.html").exists()


def test_predictions_with_photographs_give_the_report_a_gallery(home):
    lacking, written = evaluated()
    assert lacking == ""
    assert Path("results/report/gallery/index.html") in written
    assert all(p.is_file() for p in written)
    assert len(list(Path("results/report/gallery/photos").iterdir())) == 6
    found = links(page())
    assert found[:2] == ["gallery/index.html", "gallery/index.html#show=valid"], "navigation, finding"
    assert {f"gallery/index.html#image={IDS[2]}", "gallery/index.html#size=2"} <= set(found)


def test_counts_are_those_of_the_results(home):
    evaluated()
    cells = re.search(r'id="models-gallery".*?</table>', page(), re.S)[0]
    rows = re.findall(r"<tr>\s*<th scope=\"row\">(\w+)(.*?)</tr>", cells, re.S)
    told = {model: [int(re.sub(r"<.*?>", "", c)) for c in re.findall(r"<td.*?</td>", r)] for model, r in rows}
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', cells)
    assert heads == ["Model", "Right", "“Wrong” but valid", "Label, but not valid", "Wrong"]
    results = pq.read_table("results/results.parquet").to_pylist()
    share = {(r["model"], r["metric"]): r["value"] for r in results if r["slice"] == "all"}
    for model, (right, valid, refuted, wrong) in told.items():
        assert right + valid + refuted + wrong == 6
        assert (right + refuted) / 6 == pytest.approx(share[model, "top1"])
        assert (right + valid) / 6 == pytest.approx(share[model, "real1"])
    assert "gallery/index.html#show=wrong&model=second" in links(cells)


def test_confident_ones_are_counted_apart(home):
    table = pq.read_table("pred/first.parquet")
    sure = pa.array([[0.95, 0.05], [0.9, 0.1], [0.91, 0.09], [0.99, 0.01], [0.5, 0.4], [0.6, 0.4]])
    at = table.schema.get_field_index("scores")
    table = table.set_column(at, "scores", sure.cast(table.schema.field("scores").type))
    made = tables.predictions_from_table(table, model="first")
    tables.write_predictions(made, "pred/first.parquet")
    evaluated()
    cells = re.search(r'id="trust-gallery".*?</table>', page(), re.S)[0]
    assert "Top classes of models with a confidence above 90 %, on the images of the gallery" in cells
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', cells)
    assert heads == ["Model", "“Wrong” but valid", "Label, but not valid"]
    rows = re.findall(r"<tr>\s*<th scope=\"row\">(\w+)(.*?)</tr>", cells, re.S)
    told = {m: [int(re.sub(r"<.*?>", "", c)) for c in re.findall(r"<td.*?</td>", r)] for m, r in rows}
    assert told == {"first": [2, 1], "second": [0, 0]}
    assert "gallery/index.html#show=valid&above=0.9&model=first" in links(cells)


def test_an_images_table_tells_where_photographs_lie(home):
    table = pq.read_table("pred/images.parquet").slice(0, 4)
    tables.write(table, "images.parquet", "images")
    Path("pred/images.parquet").unlink()
    assert evaluated()[0] == ""
    assert not has_gallery()
    evaluated(images="images.parquet")
    assert len(list(Path("results/report/gallery/photos").iterdir())) == 4
    assert f"gallery/index.html#image={IDS[3]}" in links(page())


def test_a_folder_that_predict_wrote_is_an_images_table(home):
    _, written = evaluated(images="pred")
    assert has_gallery()
    assert "images.parquet" in json.loads(tables.metadata(pq.read_table(written[0]))["inputs"])


def test_more_photographs_than_asked_for_are_not_copied(home):
    done = CliRunner().invoke(cli.app, [*COMMAND, "--gallery", "5"])
    assert done.exit_code == 0, done.output
    assert (
        "the report has no gallery: there are 6 photographs, which is more than 5; to make a gallery, "
        "pass --gallery=6\n" in done.stdout
    )
    assert not has_gallery()
    assert links(page()) == []


def test_one_that_is_asked_for_needs_photographs(home):
    Path("pred/images.parquet").unlink()
    assert evaluated(gallery=5)[0] == (
        "the report has no gallery: no images table contains the locations of photographs; pass a table "
        "with the column uri as `images`"
    )


def test_a_benchmark_has_no_photographs(home):
    done = CliRunner().invoke(cli.app, ["evaluate", "imagenet", "--gallery", "5"])
    assert done.exit_code == 1
    assert str(done.exception) == (
        "A benchmark has its own labels, images and classes.\n"
        "  got:     imagenet\n"
        "  do:      leave out --images, --classes, --dataset, --where and --gallery"
    )


def test_none_is_made_that_is_not_wanted(home):
    assert evaluated(gallery=0)[0] == ""
    assert not has_gallery()


def test_photographs_that_were_moved_do_not_spoil_an_evaluation(home):
    for name in IDS:
        Path(name).unlink()
    assert evaluated()[0] == (
        "the report has no gallery: "
        f"None of the 6 photographs can be shown: {Path('0.jpg').resolve()}; the file does not exist; "
        "pass their current addresses as `images`, an images table with the columns image_id and uri"
    )
    assert "ReaL" in page()
    assert not Path("results/report/gallery").exists()


def test_another_table_of_that_name_beside_predictions_does_not_either(home):
    pq.write_table(pa.table({"uri": ["0.jpg"], "jpeg": [b""]}), "pred/images.parquet")
    assert evaluated()[0] == (
        "the report has no gallery: "
        "The file does not contain images: pred/images.parquet; no known format with suffix '.parquet', and "
        "the columns uri (text), jpeg; rename the column with the names of the images to image_id"
    )
    assert "ReaL" in page()


def test_pillow_is_missed_but_not_needed(home, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.ImageOps", None)
    reason = 'A report with pictures needs Pillow: pip install "manyhot[report]"'
    assert evaluated()[0] == f"the report has no gallery: {reason}"


def test_a_gallery_of_an_earlier_run_goes(home):
    evaluated()
    evaluated(gallery=0)
    assert not Path("results/report/gallery").exists()


def test_a_report_that_is_drawn_anew_keeps_its_gallery(home):
    evaluated()
    before = links(page())
    report_folder("results")
    assert links(page()) == before
    assert has_gallery()


def test_a_gallery_made_for_a_report_is_linked_both_ways(home):
    evaluated(gallery=0)
    made = {"models": ["first"], "reading": Reading(images="pred")}
    written = build_gallery("sets.parquet", ["pred"], out="results/report/gallery", **made).written
    assert '<a href="../index.html">Report</a>' in written[0].read_text(encoding="utf-8")
    report_folder("results")
    assert "gallery/index.html#show=valid&model=first" in links(page())
    elsewhere = build_gallery("pred").written
    assert "Report</a>" not in elsewhere[0].read_text(encoding="utf-8")


def test_a_broken_gallery_is_not_linked(home):
    evaluated()
    index = Path("results/report/gallery/data/index.js")
    index.write_text(index.read_text()[:99])
    report_folder("results")
    assert links(page()) == []


def test_the_same_input_gives_the_same_report(home):
    evaluated(call="manyhot evaluate")
    first = page()
    evaluated(call="manyhot evaluate")
    assert page() == first


def test_a_campaign_with_images_in_an_archive(home):
    import tarfile

    with tarfile.open("photos.tar", "w") as archive:
        for name in IDS:
            archive.add(name)
            Path(name).unlink()
    table = pq.read_table("pred/images.parquet")
    uris = pa.array([f"{home}/photos.tar/{i}" for i in IDS])
    tables.write(table.set_column(1, "uri", uris), "pred/images.parquet", "images")
    _, written = evaluated(images="pred")
    assert len([p for p in written if p.name == "pictures.json"]) == 1
    assert page().count("data:image/jpeg") == 6
    assert len(list(Path("results/report/gallery/photos").iterdir())) == 6


def test_from_report_to_gallery_and_back_in_a_browser(home, chromium):
    evaluated(images="pred")
    context = chromium.new_context()
    view, said = context.new_page(), []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.goto((home / "results/report/index.html").as_uri())
    view.get_by_role("navigation").get_by_role("link", name="Gallery").click()
    view.wait_for_function("document.getElementById('position')?.textContent === '1 of 6'")
    view.get_by_role("link", name="Report").click()
    view.get_by_role("link", name="See the images").click()
    view.wait_for_function("document.getElementById('position')?.textContent === '1 of 3'")
    assert view.locator("#show").input_value() == "valid"
    view.get_by_role("link", name="Report").click()
    view.locator("#pictures").get_by_role("link", name=IDS[4]).click()
    view.wait_for_function("document.getElementById('shot')?.dataset.image === '4.jpg'")
    assert (
        view.locator("#told").text_content()
        == "The label says ✓\u00a0class 1; both models say so, up to 90\u00a0%. "
    )
    assert said == []
    context.close()


def test_hostile_names_are_links_to_their_images(home, chromium):
    hostile = '"><script>owned=1</script>&image=0.jpg#%25+ é.jpg'
    for path, kind in (("pred/images.parquet", "images"), ("sets.parquet", "labels")):
        table = pq.read_table(path)
        ids = [*IDS[:2], hostile, *IDS[3:]]
        told = {k: v for k, v in tables.metadata(table).items() if k != "schema"}
        at = table.schema.get_field_index("image_id")
        tables.write(table.set_column(at, "image_id", pa.array(ids)), path, kind, about=told)
    for name in SAID:
        table = pq.read_table(f"pred/{name}.parquet")
        made = tables.predictions_from_table(table.set_column(0, "image_id", pa.array(ids)), model=name)
        tables.write_predictions(made, f"pred/{name}.parquet")
    evaluated(images="pred")
    view = chromium.new_page()
    view.goto((home / "results/report/index.html").as_uri())
    view.locator("#pictures").get_by_role("link", name=hostile).click()
    view.wait_for_function("document.getElementById('shot')?.dataset.image")
    assert view.locator("#shot").get_attribute("data-image") == hostile
    assert view.evaluate("window.owned") is None
    view.close()


def test_the_command_names_both_pages(home):
    done = CliRunner().invoke(cli.app, COMMAND)
    assert "gallery: results/report/gallery/index.html\n" in done.output
    assert "report: results/report/index.html\n" in done.output


@pytest.mark.parametrize(
    ("kind", "links"), [("probability", ()), ("logit", ()), ("logit", "net=sigmoid"), ("logit", "softmax")]
)
def test_the_gallery_shows_confidences_as_the_call_declares_the_scores(home, kind, links):
    # A CSV file does not say of what kind its scores are; without original labels, logits are of sigmoids.
    rng = np.random.default_rng(0)
    scores = rng.random((6, 3)) if kind == "probability" else rng.normal(size=(6, 3))
    rows = [",".join([name, *map(str, row)]) for name, row in zip(IDS, scores, strict=True)]
    Path("net.csv").write_text("\n".join(["image,a,b,c", *rows]))
    states = [",".join("01"[c in classes] for c in range(3)) for classes in SETS]
    lines = [f"{name},{state}" for name, state in zip(IDS, states, strict=True)]
    Path("labels.csv").write_text("\n".join(["image,a,b,c", *lines]))
    images = pa.table({"image_id": IDS, "uri": [str(home / i) for i in IDS]})
    reading = Reading(images=tables.Images(images), scores=kind, links=links)
    evaluate("labels.csv", ["net.csv"], reading=reading).write("results")
    text = Path("results/report/gallery/data/index.js").read_text()
    found = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    expected = scores
    if kind == "logit":
        odds = np.exp(scores)
        expected = odds / odds.sum(1, keepdims=True) if links == "softmax" else odds / (1 + odds)
    assert [sure / found["whole"] for (sure,) in found["sure"]] == pytest.approx(expected.max(1), abs=1e-4)
    assert not found["voted"]
