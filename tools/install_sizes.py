"""Print how much each extra installs: ``python tools/install_sizes.py [EXTRAS …]``, such as ``models,web``.

Each row is a new virtual environment in a temporary folder, with pip itself. Without arguments, the core and
every extra alone are measured, which downloads several gigabytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def sizes_of(folder: Path) -> dict[Path, int]:
    """Return the bytes of each file, those of several names once."""
    files: dict[tuple[int, int], tuple[Path, int]] = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            stat = path.lstat()
            files[stat.st_dev, stat.st_ino] = path, stat.st_size
    return dict(files.values())


def install(extra: str, folder: Path) -> Path:
    """Make an environment with the package and an extra; return it."""
    venv.create(folder, with_pip=True)
    what = f"{REPO}[{extra}]" if extra else str(REPO)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", what], check=True)
    return folder


def largest(sizes: dict[Path, int], count: int = 6) -> Iterator[str]:
    """Yield the largest packages of an environment."""
    packages: Counter[str] = Counter()
    for path, size in sizes.items():
        parts = path.parts
        if "site-packages" in parts:
            packages[parts[parts.index("site-packages") + 1].removesuffix(".libs")] += size
    yield from (f"{name} {size / 1e6:,.0f}" for name, size in packages.most_common(count))


def main() -> None:
    """Print a row for each environment."""
    extras = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in sys.argv[1:] or ["", *extras["optional-dependencies"]]:
        with tempfile.TemporaryDirectory(prefix="manyhot-size-") as folder:
            sizes = sizes_of(install(extra, Path(folder, "venv")))
            total = f"{sum(sizes.values()) / 1e6:,.0f} MB"
            print(f"{extra or '(core)':<28} {total:>9}  {', '.join(largest(sizes))}", flush=True)


if __name__ == "__main__":
    main()
