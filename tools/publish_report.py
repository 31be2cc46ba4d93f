"""Publish the report of ``manyhot evaluate imagenet`` beside the documentation.

    python tools/publish_report.py docs/_build

Writes ``reports/imagenet/index.html`` into the folder of the built site. The published predictions are read
from the cache, from ``MANYHOT_MIRROR`` or from ``../shared/mirror.zip``. If they are not there, the page says
that this build has no report, and so does the terminal; with ``MANYHOT_REQUIRE_ALL=1`` the build fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS

COMMAND = (sys.executable, "-m", "manyhot", "evaluate", "imagenet", "--out", "imagenet")
"""As a user calls it: the report shows its command."""

MIRROR = Path(__file__).resolve().parents[2] / "shared" / "mirror.zip"

WITHOUT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>No report</title>
<p>This build of the documentation has no report, because the published predictions were not there.
To write it: <code>manyhot evaluate imagenet --out imagenet</code>
</html>
"""


def is_there() -> bool:
    """Return whether the published files of the benchmark can be read without a network."""
    if not os.environ.get("MANYHOT_MIRROR") and MIRROR.is_file():
        os.environ["MANYHOT_MIRROR"] = str(MIRROR)
    if os.environ.get("MANYHOT_MIRROR"):
        return True
    entries = {name for d in BENCHMARKS["imagenet"].datasets for name in (d.labels[0], d.predictions)}
    return all(map(catalog.is_cached, entries))


def publish(site: Path) -> bool:
    """Write the report into a built site, or a page that says why not; return whether it was written."""
    target = site / "reports" / "imagenet"
    shutil.rmtree(target, ignore_errors=True)
    if is_there():
        with tempfile.TemporaryDirectory() as folder:
            # More threads wait for each other on a busy machine: three times the CPU time.
            one = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(COMMAND, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=one)
            shutil.copytree(Path(folder) / "imagenet" / "report", target)
        return True
    target.mkdir(parents=True)
    (target / "index.html").write_text(WITHOUT, encoding="utf-8")
    return False


def main() -> int:
    """Publish the report; return 1 if it is required and could not be written."""
    site = Path(sys.argv[1])
    if publish(site):
        print(f"report: {site / 'reports' / 'imagenet' / 'index.html'}")
        return 0
    print("WARNING: no report of manyhot evaluate imagenet, because the published predictions are not there.")
    print("         Set MANYHOT_MIRROR, or download them: manyhot evaluate imagenet --out imagenet")
    return int(os.environ.get("MANYHOT_REQUIRE_ALL") == "1")


if __name__ == "__main__":
    sys.exit(main())
