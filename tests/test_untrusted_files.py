"""Reading a file of any kind runs nothing, starts nothing, connects to nothing and writes nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from manyhot import registry

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """What happened while a file of every kind was read, in a process of its own."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "helper.py").write_text("from pathlib import Path\ndef run():\n    Path('ran').touch()\n")
    helpers = REPO / "tests" / "helpers"
    path = os.pathsep.join([str(folder), str(helpers), os.environ.get("PYTHONPATH", "")])
    found = subprocess.run(
        [sys.executable, str(helpers / "auditing.py"), str(folder / "files")],
        capture_output=True,
        text=True,
        cwd=folder,
        # No bytecode, or else the migrations of a database would be read by marshal, without their names.
        env=os.environ
        | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(folder / "none")},
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout) | {"folder": folder}


DATABASE = (
    r"n\.sqlite: (.*n\.sqlite is opened to be written|exec .*/manyhot/reassess/app/store/migrations/.*)"
)
"""What opening a campaign's database does beside: the app writes to it, and runs migrations of its own."""


@pytest.mark.slow
def test_reading_a_file_does_nothing_else(audit):
    assert [event for event in audit["events"] if not re.fullmatch(DATABASE, event)] == []
    assert len(audit["outcomes"]) > 90
    assert {audit["outcomes"][name] for name in ("n.onnx", "n.xml", "n.sqlite")} == {"read"}


@pytest.mark.slow
def test_the_hook_sees_what_a_pickle_runs(audit):
    assert any(event.startswith("control: pickle.find_class") for event in audit["control"])
    assert "control: ran is opened to be written" in audit["control"]


CODE_IN_PICKLE = "The pickle was not read, because it contains a name that could run code."
REFUSED = {
    "m.npy": "The file was not read, because it contains Python objects (a pickle), which can run code.",
    "image_info.pkl": CODE_IN_PICKLE,
    "annotations_classify_task.pkl": CODE_IN_PICKLE,
    "n01440764/maps.pt": "The file cannot be read.",
    "evil.safetensors": "A head file may name only published weights as its backbone.",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_files_that_name_a_function_are_refused(audit, name):
    assert audit["outcomes"][name] == REFUSED[name]


def test_every_kind_of_file_is_on_the_page():
    text = (REPO / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    section = text.partition("## Files from other people")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\.\w+)`", section))
    suffixes = {s for entry in registry.entries("format") for s in entry.about["suffixes"] if s != "folder"}
    others = {
        ".tar",
        ".jpg",
        ".xml",
        ".arrow",
        ".safetensors",
        ".toml",
        ".onnx",
        ".pt",
        ".pth",
        ".py",
        ".sqlite",
    }
    assert listed >= suffixes | others
