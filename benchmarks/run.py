"""All benchmarks, one after another: python benchmarks/run.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "accuracy",
    "bootstrap",
    "imagenet",
    "compare",
    "dense",
    "similar",
    "predict",
    "propose",
    "aggregate",
    "asking",
    "errors",
    "sorting",
    "uncertainty",
    "corruptions",
    "issues",
    "annotate",
)

if __name__ == "__main__":
    for name in NAMES:
        print(f"\n== {name}: python benchmarks/{name}.py", flush=True)
        subprocess.run([sys.executable, HERE / f"{name}.py"], check=True)
