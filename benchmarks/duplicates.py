"""How many planted copies `manyhot diagnose duplicates` finds among real images, and what else it reports.

    python benchmarks/duplicates.py [--copies 300] [--seed 2025] [--embeddings] [--choose] [--sheets FOLDER]
        [--work FOLDER]
    python benchmarks/duplicates.py --probe FOLDER

Data: 12,000 pictures of CIFAR-10 (32 × 32 pixels), and 6,479 photographs (VOC's 5,479 and ImageNet's 1,000
samples). Copies are of images that no threshold was chosen on: those were chosen on CIFAR-10's 2,000 test
pictures, VOC's 522 photographs of the split val, COCO's 236, and copies of them with another seed. --choose
copies these instead.

A copy is found if it is in the group of its original. With --embeddings, both sets are embedded by
EfficientNet-Lite0 (some minutes), and only images with similar embeddings are read.

A sample of 100 of all reported pairs is drawn by the seed. For CIFAR-10 with embeddings, duplicates.csv says
of each pair whether it was planted or, judged by eye, the same picture; pairs of other samples are counted
as not judged. --sheets writes contact sheets of the pairs that were not planted, and the sample as a table.

--probe measures the accuracy of a linear probe on CIFAR-10's test pictures without those that have a
duplicate among the training pictures; it takes the folder of ``manyhot predict cifar10_subset.parquet
--model efficientnet-lite0 --embeddings``. duplicates_scale.py measures time and memory among 100,000 images.
Seconds are CPU seconds of all threads, those of the clock in brackets.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import REPO
from PIL import Image, ImageDraw, ImageEnhance

DATA = REPO.parent / "shared" / "data"
MODEL = "efficientnet-lite0"
SAMPLE = 100
Made = Callable[[bytes, np.random.Generator], bytes]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def saved(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def saved_again(data, rng):
    kind, quality = str(rng.choice(["JPEG", "WEBP"])), int(rng.integers(40, 96))
    return saved(opened(data), kind, quality=quality)


def resized(data, rng):
    image, scale = opened(data), rng.uniform(0.5, 2)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    return saved(image.resize(size, int(rng.choice([Image.BILINEAR, Image.BICUBIC, Image.LANCZOS]))))


def cut(image: Image.Image, share: float, rng) -> Image.Image:
    """Cut off a share of the width and of the height, at a random place."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


def marked(data, rng):
    image = opened(data)
    ImageDraw.Draw(image).text((image.width // 20, image.height // 2), "© photo", fill="white")
    return saved(image)


FLIP = Image.Transpose.FLIP_LEFT_RIGHT
ASKED: dict[str, tuple[float, Made]] = {
    "equal file": (0.99, lambda data, rng: data),
    "equal pixels": (0.99, lambda data, rng: saved(opened(data), "PNG")),
    "saved again": (0.99, saved_again),
    "resized 0.5 to 2": (0.99, resized),
    "cropped 10 %": (0.9, lambda data, rng: saved(cut(opened(data), 0.1, rng))),
    "mirrored": (0.9, lambda data, rng: saved(opened(data).transpose(FLIP))),
}
FURTHER: dict[str, Made] = {
    "mirrored and cropped": lambda data, rng: saved(cut(opened(data).transpose(FLIP), 0.1, rng)),
    "cropped 20 %": lambda data, rng: saved(cut(opened(data), 0.2, rng)),
    "greyscale": lambda data, rng: saved(opened(data).convert("L")),
    "brighter by half": lambda data, rng: saved(ImageEnhance.Brightness(opened(data)).enhance(1.5)),
    "text across": marked,
    "rotated by 3°": lambda data, rng: saved(opened(data).rotate(3, Image.BICUBIC)),
    "turned by 90°": lambda data, rng: saved(opened(data).transpose(Image.Transpose.ROTATE_90)),
}


def pictures() -> tuple[dict[str, bytes], list[str]]:
    """Return CIFAR-10's pictures by id, and the ids of those that may be copied."""
    rows = pq.read_table(DATA / "cifar10" / "cifar10_subset.parquet").to_pylist()
    files = {r["image_id"]: r["jpeg"] for r in rows}
    return files, [r["image_id"] for r in rows if r["split"] == "train"]


def photographs() -> tuple[dict[str, bytes], list[str]]:
    """Return VOC's photographs and ImageNet's samples by id, and the ids of those that may be copied."""
    columns = ["image_id", "split", "jpeg"]
    rows = pq.read_table(DATA / "voc" / "images.parquet", columns=columns).to_pylist()
    files, fresh = (
        {r["image_id"]: r["jpeg"] for r in rows},
        [r["image_id"] for r in rows if r["split"] != "val"],
    )
    with tarfile.open(DATA / "samples" / "samples.tar") as tar:
        for member in tar:
            if member.name.lower().endswith((".jpg", ".jpeg")):
                name = Path(member.name).name
                files[name] = tar.extractfile(member).read()
                fresh.append(name)
    return files, fresh


def plant(files: dict[str, bytes], fresh: list[str], copies: int, seed: int) -> dict[str, tuple[str, str]]:
    """Add copies to the files; return kind and original of each copy."""
    rng, planted = np.random.default_rng(seed), {}
    makers = {**{kind: make for kind, (_, make) in ASKED.items()}, **FURTHER}
    order = rng.permutation(len(fresh))
    # No image is copied twice, unless there are too few.
    chosen = np.resize(order, copies * len(makers)).reshape(len(makers), copies)
    for (kind, make), rows in zip(makers.items(), chosen, strict=True):
        for row in rows:
            name = f"copy-{len(planted):05}"
            planted[name] = kind, fresh[row]
            files[name] = make(files[fresh[row]], rng)
    return planted


def run(name: str, load: Callable, options: argparse.Namespace, folder: Path) -> None:
    from manyhot import diagnose_duplicates

    files, fresh = load()
    if options.choose:
        fresh = sorted(files.keys() - set(fresh))
    planted = plant(files, fresh, options.copies, options.seed)
    source = folder / f"{name}.parquet"
    pq.write_table(pa.table({"image_id": list(files), "jpeg": list(files.values())}), source)
    print(f"\n{name}: {len(files):,} images, {len(planted):,} of them copies")
    embedded = [embeddings(source, folder / f"{name}-embedded")] if options.embeddings else []
    cpu, wall = time.process_time(), time.perf_counter()
    found = diagnose_duplicates(source, out=folder / name, embeddings=embedded, pictures=0)
    print(
        f"{time.process_time() - cpu:.0f} CPU seconds ({time.perf_counter() - wall:.0f})",
        *found.notes,
        sep="; ",
    )
    report(found, planted, files, options, name)


def embeddings(source: Path, out: Path) -> str:
    from manyhot import predict

    cpu = time.process_time()
    predict(source, MODEL, out=out, embeddings=True)
    print(f"embedded in {time.process_time() - cpu:.0f} CPU seconds")
    return str(out)


def report(found, planted, files, options, name) -> None:
    """Print recall by kind of copy, and what the other reported pairs are; write what is to be judged."""
    print_recall(found.duplicates, planted)
    pairs = found.duplicate_pairs.to_pylist()
    origin = {**{name: name for name in files}, **{copy: original for copy, (_, original) in planted.items()}}
    others = [p for p in pairs if origin[p["image_a"]] != origin[p["image_b"]]]
    natural = {tuple(sorted((origin[p["image_a"]], origin[p["image_b"]]))) for p in others}
    drawn = np.random.default_rng(options.seed).permutation(len(pairs))[:SAMPLE]
    sample = [pairs[i] for i in drawn]
    unplanted = [p for p in sample if origin[p["image_a"]] != origin[p["image_b"]]]
    print(
        f"  {len(pairs):,} pairs: {len(pairs) - len(others):,} planted; others of {len(natural):,} pairs of "
        "originals"
    )
    about = {"data": name, "candidates": "embeddings" if options.embeddings else "hashes"}
    judged = verdicts(about)
    rows = [about | {end: p[end] for end in ENDS} for p in sample]
    for row, pair in zip(rows, sample, strict=True):
        row["verdict"] = judged.get(tuple(row[end] for end in ENDS), "") if pair in unplanted else "planted"
    counts = Counter(row["verdict"] or "not judged" for row in rows)
    print(f"  of a sample of {len(sample)}:", ", ".join(f"{n} {v}" for v, n in counts.most_common()))
    if options.sheets:
        folder = Path(options.sheets)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{name}-{about['candidates']}-{options.seed}"
        first = {tuple(sorted((origin[p["image_a"]], origin[p["image_b"]]))): p for p in reversed(others)}
        sheet([first[pair] for pair in sorted(natural)], files, folder / f"{name}-others.png")
        sheet(unplanted, files, folder / f"{name}-sample.png")
        sheet(sample, files, folder / f"{name}-all.png")
        with (folder / f"{name}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


VERDICTS, ENDS = Path(__file__).with_suffix(".csv"), ("image_a", "image_b")


def verdicts(about: dict[str, str]) -> dict[tuple[str, ...], str]:
    """Return what the pairs of a sample are, by eye."""
    if not VERDICTS.is_file():
        return {}
    with VERDICTS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if about.items() <= row.items()]
    return {tuple(row[end] for end in ENDS): row["verdict"] for row in rows}


def print_recall(duplicates: pa.Table, planted: dict[str, tuple[str, str]]) -> None:
    """Print the share of the copies of each kind that are in the group of their original."""
    from manyhot.core.share_intervals import proportion_interval

    group = {r["image_id"]: r["group"] for r in duplicates.to_pylist()}
    for kind in (*ASKED, *FURTHER):
        of = [(copy, original) for copy, (k, original) in planted.items() if k == kind]
        hits = sum(group.get(copy, -1) == group.get(original, -2) for copy, original in of)
        lo, hi = (float(end) for end in proportion_interval(hits, len(of)))
        bar = ASKED[kind][0] if kind in ASKED else None
        verdict = "" if bar is None else f"  bar {bar}: {'met' if hits / len(of) >= bar else 'MISSED'}"
        print(
            f"  {kind:<22}{hits:>5,} of {len(of):,}  recall {hits / len(of):.4f} ({lo:.3f} to {hi:.3f})"
            f"{verdict}"
        )


def sheet(pairs, files, path: Path, columns: int = 6, side: int = 130) -> None:
    """Draw pairs side by side, with number, similarity and overlap."""
    rows = -(-len(pairs) // columns)
    canvas = Image.new("RGB", (columns * (2 * side + 16), max(1, rows) * (side + 20)), "white")
    for i, pair in enumerate(pairs):
        x, y = i % columns * (2 * side + 16), i // columns * (side + 20)
        turned = ", mirrored" if pair["mirrored"] else ""
        text = f"{i + 1}: {pair['similarity']:.2f}, {pair['overlap']:.2f}{turned}"
        ImageDraw.Draw(canvas).text((x, y), text, fill="black")
        for k, end in enumerate("ab"):
            canvas.paste(
                opened(files[pair[f"image_{end}"]]).resize((side, side)), (x + k * (side + 3), y + 14)
            )
    canvas.save(path)
    print(f"  {path}: {len(pairs)} pairs")


def probe(embedded: str, folder: Path) -> None:
    """Print what `manyhot diagnose duplicates` says of a ridge regression on the embeddings of CIFAR-10."""
    import manyhot
    from manyhot import tables

    table = pq.read_table(DATA / "cifar10" / "cifar10_subset.parquet")
    ids = pq.read_table(Path(embedded) / f"{MODEL}.parquet", columns=["image_id"])["image_id"].to_pylist()
    row = {image_id: i for i, image_id in enumerate(ids)}
    vectors = np.load(Path(embedded) / "embeddings" / f"{MODEL}.npy").astype(np.float64)
    vectors = vectors[[row[image_id] for image_id in table["image_id"].to_pylist()]]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    test = np.array(table["split"].to_pylist()) == "test"
    x, y = vectors[~test], np.eye(10)[table["label"].to_numpy()[~test]]
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    names = sorted(set(zip(table["label"].to_pylist(), table["class"].to_pylist(), strict=True)))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for _, name in names))
    for split, rows in (("train", ~test), ("test", test)):
        of = table.filter(pa.array(rows)).select(["image_id", "label", "jpeg"])
        pq.write_table(of, folder / f"{split}.parquet")
    own = table.filter(pa.array(test))
    tables.write(own.select(["image_id", "label"]), folder / "labels.parquet", "images")
    predictions = manyhot.Predictions(
        pa.array(own["image_id"].to_pylist()),
        "linear probe",
        scores=(vectors[test] @ weights).astype(np.float32),
        score_kind="none",
        n_classes=10,
    )
    found = manyhot.diagnose_duplicates(
        folder / "test.parquet",
        others=[str(folder / "train.parquet")],
        out=folder / "found",
        labels=folder / "labels.parquet",
        predictions=[predictions],
        classes=folder / "classes.txt",
        pictures=0,
    )
    print(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--sheets")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--probe")
    parser.add_argument("--only", choices=["cifar10", "photographs"])
    parser.add_argument("--work", help="folder that keeps images, signatures and embeddings for another run")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there")
    sets = {"cifar10": pictures, "photographs": photographs}
    with tempfile.TemporaryDirectory() as name:
        if options.probe:
            probe(options.probe, Path(name))
            return
        for one, load in sets.items():
            if options.only in (None, one):
                run(one, load, options, Path(options.work or name))


if __name__ == "__main__":
    main()
