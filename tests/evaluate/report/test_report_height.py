"""How tall pages are, and that nothing is cut off: measured in a browser."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluated import evaluated
from manyhot import compare, evaluate
from manyhot.data.inputs import Reading
from manyhot.evaluate.report.overview import PROTOCOLS
from manyhot.evaluate.write import write_page
from page_sizes import cut, opener, size

pytest.importorskip("vl_convert")


@pytest.fixture
def opened(chromium):
    with opener(chromium) as opened:
        yield opened


def made(classes):
    """Write label sets, and the scores of two models; return the label sets as names."""
    rng, n = np.random.default_rng(0), len(classes)
    valid = rng.random((400, n)) < 0.3
    valid[np.arange(400), rng.integers(0, n, 400)] = True
    for name, noise in (("linear", 1.3), ("mlp", 0.9)):
        scores = valid + noise * rng.normal(size=valid.shape)
        np.save(f"{name}.npy", (1 / (1 + np.exp(-scores))).astype(np.float32))
    Path("classes.txt").write_text("\n".join(classes))
    Path("rows.txt").write_text("\n".join(f"i{i}" for i in range(400)))
    return [[c for c, there in zip(classes, row, strict=True) if there] for row in valid]


READING = Reading(rows="rows.txt", classes="classes.txt")


@pytest.fixture
def two_models(tmp_path, monkeypatch):
    """Write the report of two models on label sets of five classes, and return its page."""
    monkeypatch.chdir(tmp_path)
    sets = made(("cat", "dog", "cup", "car", "bus"))
    lines = [f"i{i},{names[0]},{' '.join(names)}" for i, names in enumerate(sets)]
    Path("labels.csv").write_text("\n".join(["image_id,label,classes", *lines]))
    evaluate("labels.csv", ["linear.npy", "mlp.npy"], reading=READING).write("out")
    return Path("out/report/index.html")


@pytest.fixture
def own_classes(tmp_path, monkeypatch):
    """Write the report of two models on six classes without original labels, and return its page."""
    monkeypatch.chdir(tmp_path)
    sets = made(("cat", "dog", "cup", "car", "bus", "boat"))
    lines = [f"i{i},{' '.join(names)}" for i, names in enumerate(sets)]
    Path("labels.csv").write_text("\n".join(["image_id,classes", *lines]))
    for i in range(400):
        Image.new("RGB", (40, 30), (i % 256, 90, 90)).save(f"{i}.jpg")
    uris = [f"i{i},{tmp_path / str(i)}.jpg" for i in range(400)]
    Path("images.csv").write_text("\n".join(["image_id,uri", *uris]))
    reading = replace(READING, images="images.csv")
    evaluate("labels.csv", ["linear.npy", "mlp.npy"], gallery=0, reading=reading).write("out")
    return Path("out/report/index.html")


def test_the_report_of_two_models_is_short_and_begins_with_the_answer(two_models, opened):
    page = opened(two_models, 1400)
    width, height = size(page)
    assert width == 1400
    assert height <= 3000
    answer = page.locator("main p").first.inner_text()
    assert re.match(
        r"mlp is better than linear by [\d.]+ points of \w+ "
        r"\(95\s% interval [\d.]+ to [\d.]+, p [<\d. ]+, n 400\)\.",
        answer,
    )
    assert page.locator("#saturation, #ranks").count() == 0
    assert "families" not in page.locator("main").inner_text()
    phone = opened(two_models, 390)
    assert size(phone)[0] == 390
    assert cut(phone) == []


@pytest.mark.slow
def test_the_report_of_two_models_on_own_classes_is_short(own_classes, opened):
    page = opened(own_classes, 1400)
    assert size(page)[1] <= 3000
    answer = page.locator("main p").first.inner_text()
    assert answer.startswith("mlp is better than linear by ")
    # The classes come next: which are predicted badly, and what is predicted instead.
    assert page.locator("main > section").evaluate_all("parts => parts.map(part => part.id)")[:2] == [
        "overview",
        "classes",
    ]
    figures = page.locator("#classes .fig:visible")
    boxes = [figures.nth(i).bounding_box() for i in range(figures.count())]
    assert len(boxes) == 2
    assert boxes[0]["y"] == boxes[1]["y"], "side by side"
    # Three classes, each with four photographs of two kinds, of which all are decoded.
    sizes = page.locator("#photographs img:visible").evaluate_all("all => all.map(img => img.naturalWidth)")
    assert sizes == [40] * 24
    # Groups have other classes, so that mAP (macro) is not compared.
    assert "mAP (images) of mlp" in page.locator("#groups > p").inner_text()
    assert not page.locator(".find").is_visible(), "two models are found by looking"
    phone = opened(own_classes, 390)
    assert size(phone)[0] == 390
    assert cut(phone) == []


@pytest.fixture(scope="module")
def imagenet(mirror):
    """Return the page of the report of the published models."""
    return evaluated("imagenet", mirror) / "report" / "index.html"


@pytest.mark.slow
def test_the_report_of_imagenet_is_short(imagenet, opened):
    page = opened(imagenet, 1400)
    assert size(page)[1] <= 9000
    assert page.locator("main").inner_text().count(PROTOCOLS) == 1
    shift = page.locator("#shift .fig-title").all_inner_texts()
    assert sum(title.startswith("Accuracy on ImageNetV2 against") for title in shift) == 1
    phone = opened(imagenet, 390)
    assert size(phone)[0] == 390
    assert cut(phone) == []


@pytest.mark.slow
def test_the_report_of_published_results_is_of_reasonable_height(mirror, monkeypatch, tmp_path, opened):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    compare("timm-results").write(tmp_path)
    path = write_page(tmp_path, beside=False)
    page = opened(path, 1400)
    assert size(page)[1] <= 6000
    # Nothing is lost: the details of the shifts are folded.
    titles = "figures => figures.map(f => [f.id, f.closest('details') !== null])"
    folded = dict(page.locator(".fig").evaluate_all(titles))
    kinds = ("shift", "drops", "robustness", "saturation", "parameters", "kinds", "rank")
    counts = {
        kind: [is_folded for name, is_folded in folded.items() if name.startswith(f"{kind}-")]
        for kind in kinds
    }
    assert counts == {
        "shift": [False] * 4,
        "drops": [True] * 4,
        "robustness": [True] * 4,
        "saturation": [False],
        "parameters": [False],
        "kinds": [True],
        "rank": [False, True],
    }
    phone = opened(path, 390)
    assert phone.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert cut(phone) == []


@pytest.mark.slow
def test_print_shows_folded_tables_and_names_of_points(imagenet, opened):
    page = opened(imagenet, 718, media="print")
    assert page.locator("#labels-card tbody").bounding_box()["height"] > 50
    named = page.locator("#label-errors-imagenet-val svg text", has_text="pnasnet_large_tf")
    assert named.count() == 1


@pytest.mark.slow
def test_the_report_of_two_groups_is_of_reasonable_height(mirror, monkeypatch, tmp_path, opened):
    """Nine shifts, of which the figure of both groups is open."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    compare("timm-results", "openclip-results", groups="results").write(tmp_path)
    page = opened(write_page(tmp_path, beside=False), 1400)
    assert size(page)[1] <= 7000
    shown = page.locator("#shift .fig:not(details .fig)").evaluate_all("figures => figures.map(f => f.id)")
    assert shown == ["equal-accuracy-imagenet-val"]
