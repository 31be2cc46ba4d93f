"""The same tables give the same bytes, and those are the ones that were looked at."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GOLD = Path(__file__).parent / "gold" / "small.html"

WRITE = """
import sys
from pathlib import Path
from report_pages import compared, small_tables, small_notes
from manyhot.evaluate.report import write_report
from manyhot.evaluate.report.report_tables import ReportTables
results, pairs = small_tables()
tables = ReportTables(results, {"pairs": pairs, **compared()})
write_report(Path(sys.argv[1]), tables, notes=small_notes(), highlight={"my/model", "vgg16"})
"""


def scrub(html):
    """Leave out what is not structure: styles, scripts, and pixels, which depend on the version of Pillow."""
    html = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "data:image/jpeg;base64,…", html)
    html = re.sub(r"<style>.*?</style>", "<style>…</style>", html, flags=re.DOTALL)
    html = re.sub(r"<script>.*?</script>", "<script>…</script>", html, flags=re.DOTALL)
    return re.sub(r"sha256-[\w+/=]+", "sha256-…", html)


def test_looks_as_it_did(small):
    real = GOLD.with_suffix(".actual.html")
    expected = GOLD.read_text(encoding="utf-8") if GOLD.exists() else ""
    if scrub(small) != expected:
        real.write_text(scrub(small), encoding="utf-8")
    assert scrub(small) == expected, f"the page changed; look at it, and accept it with: mv {real} {GOLD}"
    real.unlink(missing_ok=True)


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    """This one and another, which hashes texts otherwise."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / "other")], env=environment, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", str(tmp_path / "this")])
        exec(WRITE, {})
    written = [(tmp_path / name / "index.html").read_bytes() for name in ("this", "other")]
    assert written[0] == written[1]
    assert b"\r" not in written[0]
