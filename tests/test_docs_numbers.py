"""The pages of numbers: three findings with n on the first screen, every published number, seven figures."""

import csv
import importlib.util
import re
from pathlib import Path

import pytest

from manyhot.diagnose.benchmarks.run_benchmarks import published_entries

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generated = load(DOCS / "generated.py")


def rows(name):
    with (DOCS / "numbers" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def findings():
    """The findings on the page, which begins with them."""
    text = (DOCS / "explanation" / "imagenet.md").read_text(encoding="utf-8")
    lead = text.partition("<!-- generated: findings -->")[0]
    assert len(lead.split()) < 60
    return re.split(r"^\d\. ", generated.findings(), flags=re.MULTILINE)[1:]


def test_a_reader_finds_three_findings_with_n_interval_command_and_the_nearest_published(findings):
    assert len(findings) == 3
    for text in findings:
        headline = re.match(r"\*\*[^*]+\.\*\*", text)
        assert headline, text
        assert re.search(r"n = [\d,]+\d", text), text
        assert re.search(r"95 % interval −?[+\d.]+ to −?[+\d.]+", text), text
        assert re.search(r"```console\n +manyhot \w+ ", text), text
        assert re.search(r"Nearest published: .*\(\[\w+ et al\. \d{4}\]\(https://", text, re.DOTALL), text
    assert sum(len(text.split()) for text in findings) < 330  # a screen


def test_the_numbers_of_the_findings_are_those_of_the_table(findings):
    at = {row["name"]: row for row in rows("findings")}
    right = at["right by set"]
    share, lo, hi = (f"{100 * float(right[c]):.1f}" for c in ("value", "lo", "hi"))
    said = f"{share} % (95 % interval {lo} to {hi}, n = {int(right['n']):,})"
    assert said in " ".join(findings[0].split())
    never = at["never right by set"]
    said = f"no model is right on {int(never['value']):,} of the {int(never['n']):,} images."
    assert said in " ".join(findings[0].split())
    for metric in ("top1", "real1"):
        loss = at[f"{metric} loss over images"]
        value, lo, hi = (f"{100 * float(loss[c]):.1f}" for c in ("value", "lo", "hi"))
        assert f"{value} points (95 % interval {lo} to {hi} over images" in " ".join(findings[1].split())
        both = f"n = {int(at[f'{metric} images']['n']):,} and {int(loss['n']):,})"
        assert both in " ".join(findings[1].split())
    fall = at["subcategory error_ratio_difference"]
    assert float(fall["hi"]) < 0
    assert f"n = {fall['n']}" in findings[2]
    # The ratios that Idrissi et al. print for ResNet50 are 2.10548 and 1.97389.
    assert "*subcategory* 2.11, *multiple objects* 1.97" in " ".join(findings[2].split())


def test_every_published_number_is_in_the_committed_table():
    declared = [
        (entry.name, "" if subject == "-" else subject, value)
        for entry in published_entries()
        for subject, value in entry.values.items()
    ]
    assert [(r["name"], r["subject"], r["published"]) for r in rows("benchmarks")] == declared


def test_the_page_counts_the_numbers_that_need_other_files():
    text = " ".join((DOCS / "explanation" / "imagenet.md").read_text(encoding="utf-8").split())
    for name, said in (
        ("peychev-2023", "the {} numbers `peychev-2023*`"),
        ("idrissi-2023", "the {} numbers `idrissi-2023*`"),
        ("peterson-2019", "the number `peterson-2019`"),
    ):
        count = sum(len(e.values) for e in published_entries() if e.name.startswith(name))
        assert said.format(count) in text


def test_counts_of_publications_add_up():
    text = generated.published_numbers()
    (both, total) = map(
        int, re.search(r"(\d+) of the (\d+) publications have numbers in both", text).groups()
    )
    parts = [int(n) for n in re.findall(r"numbers of (\d+) publications are equal", text)]
    assert sum(parts) - both == total
    assert f"of {total} publications again" in generated.published_counts()


def test_the_number_that_is_farthest_off_is_marked_once_for_each_entry():
    own = {}
    for row in rows("benchmarks"):
        own.setdefault(row["name"], []).append(row)
    for entry in own.values():
        (farthest,) = (row for row in entry if row["farthest"])
        assert farthest["verdict"] != "equal" or {row["verdict"] for row in entry} == {"equal"}
    text = generated.published_numbers()
    assert "nasnet_large_tf: 82.693 % → 82.7060" in text
    assert "not computed | No file of the catalogue lists the images of ImageNet-M. |" in text


def test_verdicts_of_the_committed_table():
    verdicts = [row["verdict"] for row in rows("benchmarks")]
    assert "different" not in verdicts
    sentence = generated.published_counts()
    assert f"computes {len(verdicts)} numbers of" in sentence
    assert f"{verdicts.count('equal')} are equal" in sentence
    assert "none are different, and 1 could not be computed" in sentence


def test_every_entry_has_a_row_on_the_page():
    text = generated.published_numbers()
    for entry in published_entries():
        (line,) = (line for line in text.splitlines() if f"`{entry.name}` |" in line)
        assert entry.address in line
        assert entry.reason in line


def test_seven_figures_each_with_its_command():
    parts = re.split(r"^### \d\. ", generated.seven_figures(), flags=re.MULTILINE)[1:]
    assert len(parts) == 7
    gallery = (DOCS / "guides" / "evaluate" / "figures.md").read_text(encoding="utf-8")
    for part in parts:
        (picture,) = re.findall(r"\]\(\.\./(images/[^)]+)\)", part)
        assert (DOCS / picture).is_file()
        assert re.search(r"```console\nmanyhot \w+ \S+ --out \w+\n```", part)
        assert f"## {part.partition(chr(10))[0]}\n" in gallery


def test_a_build_without_the_published_files_says_so(tmp_path, monkeypatch, capsys):
    tool = load(REPO / "tools" / "publish_report.py")
    monkeypatch.setattr(tool, "MIRROR", tmp_path / "none.zip")
    monkeypatch.delenv("MANYHOT_MIRROR", raising=False)
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["publish_report.py", str(tmp_path / "site")])
    monkeypatch.setenv("MANYHOT_REQUIRE_ALL", "1")
    assert tool.main() == 1
    monkeypatch.delenv("MANYHOT_REQUIRE_ALL")
    assert tool.main() == 0
    assert capsys.readouterr().out.startswith("WARNING: no report of manyhot evaluate imagenet")
    page = (tmp_path / "site" / "reports" / "imagenet" / "index.html").read_text(encoding="utf-8")
    assert "This build of the documentation has no report" in page


@pytest.mark.slow
def test_a_build_publishes_the_report(tmp_path, mirror, monkeypatch):
    tool = load(REPO / "tools" / "publish_report.py")
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    assert tool.COMMAND[1:] == ("-m", "manyhot", "evaluate", "imagenet", "--out", "imagenet")
    # One model will do: make docs writes the whole report.
    monkeypatch.setattr(tool, "COMMAND", (*tool.COMMAND, "--models", "resnet50", "--resamples", "0"))
    assert tool.publish(tmp_path)
    page = (tmp_path / "reports" / "imagenet" / "index.html").read_text(encoding="utf-8")
    assert "manyhot evaluate imagenet --out imagenet" in page
