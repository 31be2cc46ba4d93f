"""Time what corrupts pictures, and measure what corrupted pictures cost models.

``python benchmarks/corruptions.py`` times the fifteen kinds at five severities on twelve photographs of
``../shared/data/samples``: by the library alone with NumPy's global state, and as ``manyhot diagnose
corruptions`` does, from one thread and from two. It takes two minutes.

``python benchmarks/corruptions.py FEATURES OUT`` prints the tables of corruptions.md on VOC: heads on
features of EfficientNet-Lite0, a softmax over the class of the largest object and a sigmoid for each class,
on 1,000 held-out photographs, corrupted. It takes half an hour and goes on where it was stopped. First the
features::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --embeddings \
        --out FEATURES/voc
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common

common.quiet()

import imagecorruptions  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from manyhot import tables  # noqa: E402
from manyhot.classes import ClassList, from_keys  # noqa: E402
from manyhot.core.sets import NO, UNCLEAR, YES  # noqa: E402
from manyhot.diagnose.pixels.corruptions import KINDS, SEVERITIES, corruption, crop  # noqa: E402

DATA = common.REPO.parent / "shared" / "data"
PICTURES = 12
MODEL = "efficientnet-lite0"
HEADS = ("softmax", "sigmoid")
Clock = Callable[[], float]


def photographs() -> list[np.ndarray]:
    """Return the first pictures."""
    with tarfile.open(DATA / "samples" / "samples.tar") as tar:
        members = [m for m in tar if m.isfile()][:PICTURES]
        files = [tar.extractfile(m).read() for m in members]
    return [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]


def alone(kind: str, severity: int, image_id: str, pixels: np.ndarray) -> np.ndarray:
    """Cut a picture and corrupt it by the library as it is."""
    seed = int(image_id)
    np.random.seed(seed)  # noqa: NPY002 (the library draws from it)
    options = {"seed": seed} if kind in ("impulse_noise", "glass_blur") else {}
    return imagecorruptions.corrupt(crop(pixels), corruption_name=kind, severity=severity, **options)


def ours(kind: str, severity: int, image_id: str, pixels: np.ndarray) -> np.ndarray:
    """Cut a picture and corrupt it as the command does."""
    return corruption(kind, severity)(image_id, pixels)


def milliseconds(corrupt: Callable[..., np.ndarray], kind: str, threads: int, clock: Clock) -> float:
    """Return the median time of a picture, over runs of all pictures at all severities."""
    jobs = [(kind, s, str(i), pixels) for s in SEVERITIES for i, pixels in enumerate(photographs())]
    corrupt(*jobs[0])
    spent = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(common.RUNS):
            begun = clock()
            list(pool.map(lambda job: corrupt(*job), jobs))
            spent.append((clock() - begun) / len(jobs))
    return 1e3 * float(np.median(spent))


WAYS = {
    "library": (alone, 1, time.process_time),
    "manyhot": (ours, 1, time.process_time),
    "wall, 2 threads": (ours, 2, time.perf_counter),
}


def speed() -> None:
    """Print CPU milliseconds a picture, and by the clock on the wall from two threads."""
    print(f"{PICTURES} photographs at five severities, ms a picture, medians of {common.RUNS}")
    print(f"{'':<20}" + "".join(f"{name:>17}" for name in WAYS))
    rows = []
    for kind in KINDS:
        rows.append([milliseconds(corrupt, kind, *how) for corrupt, *how in WAYS.values()])
        print(f"{kind:<20}" + "".join(f"{value:>17.1f}" for value in rows[-1]), flush=True)
    print(f"{'mean':<20}" + "".join(f"{value:>17.1f}" for value in np.mean(rows, axis=0)))


def voc(features: Path, out: Path) -> None:
    """Fit both heads, and print what corruptions do to them on held-out images."""
    out.mkdir(parents=True, exist_ok=True)
    classes = write_heads(features, out)
    words = ["diagnose", "corruptions", str(DATA / "voc" / "images.parquet"), "--limit", "1000", "--dense"]
    words += ["--labels", str(out / "labels.parquet"), "--classes", str(classes), "--out", str(out)]
    for head in HEADS:
        words += ["--model", f"head:{out / head}.safetensors"]
    words += ["--baseline", "head/softmax"]
    subprocess.run([sys.executable, "-m", "manyhot", *words], check=True)


def write_heads(features: Path, out: Path) -> Path:
    """Write the heads, fitted on all but the held-out images, label sets of these, and the class list."""
    from manyhot.predict.weights import write_head
    from manyhot.train.heads import fit_sigmoid, fit_softmax

    columns = ["image_id", "split", "labels", "difficult_labels", "label_largest"]
    images = pq.read_table(DATA / "voc" / "images.parquet", columns=columns).to_pylist()
    named = sorted({name for row in images for name in row["labels"]})
    classes = from_keys(named, "voc")
    at = {name: i for i, name in enumerate(named)}
    ids = pq.read_table(features / "voc" / f"{MODEL}.parquet", columns=["image_id"])["image_id"].to_pylist()
    x = np.load(features / "voc" / "embeddings" / f"{MODEL}.npy").astype(np.float32)
    row_of = {row["image_id"]: row for row in images}
    rows = [row_of[name] for name in ids]
    state = np.full((len(rows), len(named)), NO)
    for i, row in enumerate(rows):
        state[i, [at[n] for n in row["difficult_labels"]]] = UNCLEAR
        state[i, [at[n] for n in row["labels"]]] = YES
    label = np.array([at[row["label_largest"]] for row in rows])
    held_out = np.array([row["split"] == "test" for row in rows])
    fit = np.flatnonzero(~held_out)
    write_head(fit_softmax(x[fit], label[fit], classes, MODEL), out / "softmax.safetensors")
    write_head(fit_sigmoid(x[fit], state[fit], classes, MODEL), out / "sigmoid.safetensors")
    write_labels(np.array(ids)[held_out], label[held_out], state[held_out], classes, out / "labels.parquet")
    (out / "classes.txt").write_text("\n".join(named) + "\n", encoding="utf-8")
    return out / "classes.txt"


def write_labels(
    ids: np.ndarray, label: np.ndarray, state: np.ndarray, classes: ClassList, path: Path
) -> None:
    """Write label sets of images that were asked about every class."""
    words = {NO: "no", UNCLEAR: "unclear", YES: "yes"}
    columns = {
        "image_id": pa.array(ids.tolist()),
        "label": pa.array(label, pa.int32()),
        "rated": [True] * len(ids),
        "usable": [True] * len(ids),
        "classes": pa.array([list(range(len(classes)))] * len(ids), pa.list_(pa.int32())),
        "state": [[words[int(s)] for s in row] for row in state],
    }
    labels = tables.Labels(pa.table(columns), len(classes), classes.hash, asked_known=True, name="voc")
    tables.write_labels(labels, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("features", type=Path, nargs="?", help="folder with features of VOC in voc")
    parser.add_argument("out", type=Path, nargs="?", help="folder to write to")
    given = parser.parse_args()
    if given.features is None:
        speed()
    elif given.out is None:
        parser.error("give OUT, too")
    else:
        voc(given.features, given.out)
