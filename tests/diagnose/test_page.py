"""The page of diagnoses: what lies in a folder is on it, nothing else is, and it needs nothing else."""

import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from manyhot import tables
from manyhot.diagnose.page import report_folder, write_diagnosis
from manyhot.errors import OutputError
from manyhot.report.chapter import chapter_tables, has_diagnosis

NAMES = {"main": 0, "companion": 1, "main_name": "horse <i>", "companion_name": "person", "model": "m/1"}
FLIPS = NAMES | {
    **{"fill": "grey", "skipped": None, "decision": "p >= 0.5", "shortcut": True},
    **{
        "both": 40,
        "main_only": 60,
        "companion_only": 80,
        "neither": 90,
        "n": 30,
        "n_control": 28,
        "score_drop": 0.1,
    },
    **{
        "flips": 0.5,
        "flips_lo": 0.4,
        "flips_hi": 0.6,
        "lost": 0.4,
        "lost_lo": 0.3,
        "lost_hi": 0.5,
        "control_lost": 0.0625,
    },
    **{"control": 0.1, "control_lo": 0.05, "control_hi": 0.2, "excess": 0.4, "lo": 0.3, "hi": 0.5},
    **{f"found_{s}": 0.25 for s in ("both", "main_only", "companion_only", "neither")},
    **{
        f"{m}{e}": 0.125
        for m in ("recall_gap", "hallucination_gap", "ap", "ap_balanced")
        for e in ("", "_lo", "_hi")
    },
}
SKIPPED = {k: None if k not in NAMES else v for k, v in FLIPS.items()} | {
    **{"fill": "grey", "decision": "p >= 0.5", "skipped": "7 images with both, 25 are needed", "both": 7},
    **{"main_only": 1, "companion_only": 2, "neither": 3, "companion_name": "sofa", "companion": 2},
}
EXAMPLE = {k: v for k, v in NAMES.items() if k != "model"} | {
    **{"fill": "grey", "image_id": "a & b.jpg", "flipped": True, "flipped_control": None},
    **{"score_before": 0.9, "score_after": 0.1, "score_control": None},
    **{"before": "examples/a.jpg", "after": "examples/b.png", "control": "../secret.jpg"},
}


def write(folder, name, rows, **about):
    tables.write(
        pa.Table.from_pylist(rows, tables.schema(name)),
        folder / f"{name}.parquet",
        name,
        about=about,
        call=f"manyhot diagnose {name} x",
    )


@pytest.fixture
def found(tmp_path):
    folder = tmp_path / "out"
    (folder / "examples").mkdir(parents=True)
    for place in (folder / "examples" / "a.jpg", folder / "examples" / "b.png", tmp_path / "secret.jpg"):
        Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(place)
    write(folder, "shortcuts", [FLIPS, SKIPPED], threshold="0.35", notes='["3 images: <b>why</b>"]')
    write(folder, "shortcut_examples", [EXAMPLE])
    return folder


def page(folder):
    return write_diagnosis(folder).read_text(encoding="utf-8")


def words(html):
    html = re.sub(r"(?s)<(script|style).*?</\1>", " ", html)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_what_flips(found):
    html = page(found)
    said = words(html)
    assert (
        "Marked as shortcuts: 1 of 1 pair. horse &lt;i&gt; and person: without person, horse &lt;i&gt; is "
        "no longer predicted on 40 % of 30 images (grey; 6 % in the control); recall is 12 points (12 to 12) "
        "higher with person; false positives are 12 points (12 to 12) more frequent with person. Not tested: "
        "1 pair, 7 images with both, 25 are needed. Next: fit a head that does not depend on person to "
        "predict horse &lt;i&gt;. manyhot mitigate x --objects FILE --model NAME "
        "--pair &#39;horse &lt;i&gt;:person&#39;" in said
    )
    assert said.split(" Method # ")[-1].startswith(
        "A pair is marked if, without the second class, the first is no longer predicted on at least 35 % of "
        "the images, and on more of them than in the control (95 % interval of the difference above 0)."
    )
    assert "The prediction flips on 1 of 1 image shown." in said
    assert "horse &lt;i&gt; person m/1 grey box 30 50 % 40 % (30 to 50) 6 % of 28 40 (30 to 50)" in said
    assert "horse &lt;i&gt; sofa 7 7 images with both, 25 are needed" in said
    assert "The dashed line is the threshold, 35 %." in said
    assert "3 images: &lt;b&gt;why&lt;/b&gt;" in said
    assert "manyhot diagnose shortcuts x" in said


@pytest.mark.parametrize("shortcut", [None, False], ids=["now", "as earlier versions wrote it"])
def test_pairs_without_controls_are_not_called_clean(tmp_path, shortcut):
    controls = {k: None for k in FLIPS if k.startswith("control")} | {"excess": None, "lo": None, "hi": None}
    bare = FLIPS | controls | {"n_control": 0, "shortcut": shortcut, "companion_name": "sky", "companion": 3}
    small = dict.fromkeys(("recall_gap_lo", "hallucination_gap_lo"), 0.05)
    less = bare | small | {"companion_name": "sea", "companion": 4, "lost": 0.25}
    write(tmp_path, "shortcuts", [FLIPS, bare])
    said = words(page(tmp_path))
    assert "Marked as shortcuts: 2 of 2 pairs." in said
    assert (
        "on 40 % of 30 images (grey; no control possible); recall is 12 points (12 to 12) higher with sky"
        in said
    )
    mark = "12.5 % 12.5 % lost, no control possible"
    assert f"sky 30 50 % 40 % (30 to 50) 12 (12 to 12) 12 (12 to 12) {mark}" in said
    assert "Pairs without a hollow dot have no control, because there was no room for one." in said
    write(tmp_path, "shortcuts", [bare, less])
    said = words(page(tmp_path))
    assert (
        "Marked as shortcuts: 1 of 1 pair. horse &lt;i&gt; and sky: without sky, horse &lt;i&gt; is" in said
    )
    assert "1 other pair cannot be tested: no control is possible." in said
    tested = said.split("Pairs that were tested")[-1].split("Pairs without a possible control")[0]
    bare = said.split("Pairs without a possible control")[-1]
    assert " sky " in tested
    assert " sea " not in tested
    assert (
        " sea m/1 grey box 30 50 % 25 % (30 to 50) 12 (5 to 12) 12 (5 to 12) 12.5 % 12.5 % no control" in bare
    )


def test_each_pair_is_in_one_list(tmp_path):
    """A frame leaves no room for controls, and needs none: it is tested, and no row says otherwise."""
    controls = {k: None for k in FLIPS if k.startswith("control")} | {"excess": None, "lo": None, "hi": None}
    frame = FLIPS | controls | {"n_control": 0, "shortcut": None, "companion_name": "frame", "companion": 5}
    frame |= {"lost": 0.02, "lost_lo": 0.01, "lost_hi": 0.08}
    frame |= dict.fromkeys(("recall_gap_lo", "hallucination_gap_lo"), 0.05)
    gaps = {"recall_gap": 0.9, "recall_gap_lo": 0.5, "recall_gap_hi": 0.95}
    tint = SKIPPED | {"skipped": "the companion has no objects", "companion_name": "tint", "companion": 6}
    rows = [frame, SKIPPED, tint | gaps]
    rows = [r | {"fill": fill} for r in rows for fill in ("grey", "inpaint")]
    write(tmp_path, "shortcuts", rows)
    said = words(page(tmp_path))
    assert (
        "Marked as shortcuts: 1 of 2 pairs. horse &lt;i&gt; and tint: recall is 90 points (50 to 95) higher "
        "with tint. 1 unmarked pair has a gap whose 95 % interval excludes 0, but extends below 10 points: "
        "horse &lt;i&gt; and frame: recall is 12 points (5 to 12) higher with frame; false positives are 12 "
        "points (5 to 12) more frequent with frame. Not tested: 1 pair, 7 images with both, 25 are needed. "
        "Next: fit a head that does not "
        "depend on tint to predict" in said
    )
    tested = said.split("Pairs that were tested")[-1].split("Pairs that were not tested")[0]
    untested = said.split("Pairs that were not tested")[-1]
    assert tested.count("no control needed") == 2
    assert tested.count(" tint ") == 1
    assert untested.count(" sofa ") == 1
    assert " tint " not in untested
    write(tmp_path, "shortcuts", rows[:4])
    said = words(page(tmp_path))
    assert "Marked as shortcuts: 0 of 1 pair. The clearest loss: without frame, horse" not in said
    assert "Marked as shortcuts: 0 of 1 pair." in said
    assert (
        "Next: look for shortcuts that have no boxes. manyhot diagnose groups DATASET --predictions FOLDER"
        in said
    )
    assert "Pairs without a possible control" not in said


def test_companions_that_are_never_apart_are_counted(tmp_path):
    names = {"dataset": "mine", "main": 0, "companion": 1, "main_name": "keys", "companion_name": "keyboard"}
    ratios = {f"{m}{e}": 1.0 for m in ("lift", "odds_ratio") for e in ("", "_lo", "_hi")}
    measured = dict.fromkeys(
        ("recall_with", "recall_without", "difference", "lo", "hi", "p", "p_adjusted"), 0.5
    )
    tested = (
        names | ratios | measured | {"both": 30, "model": None, "n_models": 1, "n_with": 30, "n_without": 9}
    )
    never = tested | {
        "main": 1,
        "companion": 0,
        "n_without": 0,
        "p_adjusted": None,
        "difference": float("nan"),
    }
    few = never | {"companion": 2, "both": 3}
    write(tmp_path, "companions", [tested, never, few], least="25")
    said = words(page(tmp_path))
    assert (
        "1 pair could not be tested, because there are no images with the companion or none without it."
        in said
    )
    write(tmp_path, "companions", [tested, few], least="25")
    assert "not testable" not in words(page(tmp_path))


def test_pictures_are_part_of_the_page_and_others_stay_out(found):
    html = page(found)
    assert html.count('src="data:image/jpeg;base64,') == 1
    assert html.count('src="data:image/png;base64,') == 1
    assert html.count("No picture.") == 1  # the control lies outside of the folder
    assert 'alt="a &amp; b.jpg, as it is"' in html
    said = words(html)
    assert "without person horse &lt;i&gt; 0.10 flipped" in said


def test_a_page_needs_nothing_else_and_runs_no_scripts_but_its_own(found):
    html = page(found)
    markup = re.sub(r"(?s)<script.*?</script>", "", html)
    assert not re.search(r'(src|href)="(?!data:|#)', markup)
    assert "script-src &#39;sha256-" in html
    assert page(found) == html


@pytest.mark.parametrize("name", chapter_tables())
def test_each_table_alone_makes_a_page(tmp_path, name):
    tables.write(tables.schema(name).empty_table(), tmp_path / f"{name}.parquet", name)
    assert has_diagnosis(tmp_path)
    assert "Method" in words(page(tmp_path))


def test_report_draws_it_anew(found):
    html = page(found)
    (found / "report" / "index.html").unlink()
    assert list(report_folder(found).written) == [found / "report" / "index.html"]
    assert page(found) == html


def test_a_file_in_the_way(found):
    (found / "report").write_text("")
    with pytest.raises(
        OutputError, match="The report's folder cannot be created, because a file has the same name"
    ):
        write_diagnosis(found)
