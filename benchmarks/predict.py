"""Predicting: manyhot beside a loop like timm's validate.py, many images, and Ray, in one run.

    python benchmarks/predict.py [--repeat 3] [--only loop|flat|ray]

Images: the 1,000 samples of ../shared/data/samples, unpacked, and links to them under other names. Each case
is a fresh process on all cores. "whole" is the seconds of the process from its start to its end, with
imports, building the network and choosing an engine; "images/s" is without them, from the first image to the
last file. MB is the peak of resident memory; of several processes, of the sum of their proportional shares.

1. EfficientNet-Lite0 on the 1,000 samples: the loop (timm's transform on PIL images, DataLoader with two
   workers, batches of 50, PyTorch as it is) and manyhot with each engine, in turn; medians of `--repeat`
   runs. "same" counts images with the best class that the loop found.
2. 1,000, 10,000 and 100,000 images with a small network of random weights (timm's test_resnet, on OpenVINO),
   so that reading and decoding is most of it; medians of `--repeat` runs, 100,000 once.
3. Ray: 10,000 images with EfficientNet-Lite0 on OpenVINO, plain and on a local cluster that the run starts
   and stops, in turn; medians of `--repeat` runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import REPO, quiet

SAMPLES = REPO.parent / "shared" / "data" / "samples"
MODEL = "efficientnet-lite0"
BAR_SPEED, BAR_MB, BAR_RAY, BAR_FLAT = 6, 800, 0.15, 0.9
ENGINES = ("torch", "onnx", "openvino", "auto")
LOOK_S = 5
"""Seconds between looks at the memory of several processes."""

SMALL = """
import timm, torch

def small():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=1000)
"""

Row = dict[str, Any]


def unpack(folder: Path) -> None:
    """Lay the samples out, and links to them: 1,000, 10,000 and 100,000 names."""
    (folder / "1000").mkdir()
    with tarfile.open(SAMPLES / "samples.tar") as archive:
        archive.extractall(folder / "1000", filter="data")
    files = sorted((folder / "1000").iterdir())
    for times in (10, 100):
        for i in range(times):
            below = folder / str(times * len(files)) / f"copy {i:02}"
            below.mkdir(parents=True)
            for file in files:
                (below / f"{i:02}-{file.name}").hardlink_to(file)
    (folder / "small.py").write_text(SMALL)


def loop(source: Path, out: Path) -> Row:
    """Predict as people do it by hand around validate.py."""
    import timm
    import torch
    from PIL import Image

    from manyhot.predict.models import find_model

    module = find_model(MODEL).module
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=module.pretrained_cfg)
    )
    paths = sorted(source.iterdir())

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, i):
            with Image.open(paths[i]) as image:
                return transform(image.convert("RGB"))

    begun, found = time.perf_counter(), []
    with torch.no_grad():
        for images in torch.utils.data.DataLoader(Files(), batch_size=50, num_workers=2):
            found.append(module(images).argmax(1))
    np.save(out / "best.npy", torch.cat(found).numpy())
    return {"images": len(paths), "seconds": time.perf_counter() - begun}


def manyhot(source: Path, out: Path, engine: str, model: str = MODEL) -> Row:
    """Predict with one command's worth of manyhot, and save the best class of each image."""
    from manyhot.predict.predict import predict
    from manyhot.run import Run

    times: Row = {}

    def on_event(kind: str, told: Row) -> None:
        if kind == "model":
            times.update(begun=time.perf_counter(), engine=told["engine"])

    (done,) = predict(source, model, out=out, engine=engine, run=Run(on_event=on_event)).models
    spent = time.perf_counter() - times["begun"]
    return {"images": done.n, "seconds": spent, "engine": times["engine"]}


def best(out: Path) -> np.ndarray:
    """Return the best class of each image, by name."""
    import pyarrow.parquet as pq

    if (out / "best.npy").exists():
        return np.load(out / "best.npy")
    table = pq.read_table(out / f"{MODEL}.parquet", columns=["image_id", "classes"]).sort_by("image_id")
    return np.array([row[0].as_py() for row in table["classes"]])


def child(case: str, source: Path, out: Path) -> Row:
    os.chdir(source.parent)
    out.mkdir()
    if case == "loop":
        row = loop(source, out)
    elif case == "small":
        row = manyhot(source, out, "openvino", "python:small:small")
    else:
        row = manyhot(source, out, case)
    return row | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def family(pid: int) -> list[int]:
    """Return a process and those below it."""
    found, new = [], [pid]
    while new:
        found += new
        below: list[int] = []
        for one in new:
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                try:
                    below += map(int, children.read_text().split())
                except OSError:
                    continue
        new = below
    return found


def shares_mb(pid: int) -> float:
    """Return the proportional shares of memory of a process and those below it."""
    total = 0
    for one in family(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(text.split("Pss:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def run(case: str, source: Path, folder: Path) -> Row:
    """Run a case in a fresh process, and watch its memory where it starts others."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "out"
    command = [sys.executable, __file__, "--child", case, str(source), str(out)]
    begun, peak, looked = time.perf_counter(), 0.0, 0.0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        # Adding up pages takes a tenth of a second and more, of the case that is watched too.
        if (case == "loop" or case.startswith("ray")) and time.perf_counter() > looked + LOOK_S:
            peak, looked = max(peak, shares_mb(process.pid)), time.perf_counter()
        time.sleep(0.05)
    whole = time.perf_counter() - begun
    assert process.stdout is not None
    said = process.stdout.read().splitlines()
    process.stdout.close()
    if process.returncode:
        raise SystemExit(f"{case} failed")
    row: Row = json.loads(said[-1]) | {"whole": whole, "out": out}
    return row | {"rate": row["images"] / row["seconds"], "mb": max(peak, row["mb"])}


def median(rows: list[Row]) -> Row:
    return rows[-1] | {k: statistics.median(r[k] for r in rows) for k in ("whole", "rate", "mb")}


def line(name: str, row: Row, more: str = "") -> None:
    print(f"{name:<28}{row['whole']:8.1f} s {row['rate']:8.1f} images/s{row['mb']:8.0f} MB{more}", flush=True)


def verdict(what: str, met: bool) -> None:
    print(f"  {what}: {'met' if met else 'MISSED'}", flush=True)


def against_loop(folder: Path, repeat: int) -> None:
    print(f"\n{MODEL}, 1,000 images")
    runs: dict[str, list[Row]] = {case: [] for case in ("loop", *ENGINES)}
    for _ in range(repeat):  # in turn, so that what else runs on the machine falls on all
        for case, of_case in runs.items():
            of_case.append(run(case, folder / "1000", folder))
    rows = {case: median(of_case) for case, of_case in runs.items()}
    peer = rows["loop"]
    wanted = best(peer["out"])
    for case, row in rows.items():
        same = int((best(row["out"]) == wanted).sum())
        named = f"{case}: {row['engine']}" if case == "auto" else case
        ratio = f"{row['rate'] / peer['rate']:7.2f}x; whole {peer['whole'] / row['whole']:5.2f}x"
        line(named, row, f"{ratio}{same:7,} same")
        row["same"] = same
    ours = max((rows[engine] for engine in ENGINES), key=lambda row: row["rate"])
    speed = ours["rate"] / peer["rate"]
    verdict(f"{speed:.2f} times the loop, bar {BAR_SPEED}", speed >= BAR_SPEED)
    verdict(f"{ours['same']:,} of 1,000 the same", ours["same"] == 1000)
    verdict(f"{ours['mb']:.0f} MB, bar {BAR_MB}", ours["mb"] < BAR_MB)


def flat(folder: Path, repeat: int) -> None:
    print("\na small network, more and more images")
    rows = []
    for n in (1_000, 10_000, 100_000):
        times = 1 if n == 100_000 else repeat
        rows.append(median([run("small", folder / str(n), folder) for _ in range(times)]))
        line(f"{n:,} images", rows[-1])
    kept, grown = rows[-1]["rate"] / rows[0]["rate"], rows[-1]["mb"] / rows[0]["mb"]
    verdict(f"{kept:.2f} of the speed at 1,000, bar {BAR_FLAT}", kept >= BAR_FLAT)
    print(f"  {grown:.2f} of the memory at 1,000: {rows[-1]['mb'] - rows[0]['mb']:+.0f} MB")


def on_ray(folder: Path, repeat: int) -> None:
    print(f"\nRay: {MODEL} on OpenVINO, 10,000 images")
    runs = [[run(c, folder / "10000", folder) for c in ("openvino", "ray:openvino")] for _ in range(repeat)]
    plain, ray = (median(list(of_case)) for of_case in zip(*runs, strict=True))
    line("plain", plain)
    line("--engine ray", ray)
    cost = ray["whole"] / plain["whole"] - 1
    verdict(f"{cost:+.1%} of the time, bar {BAR_RAY:.0%}", cost < BAR_RAY)
    same = (best(plain["out"]) == best(ray["out"])).all()
    verdict("the same best classes", bool(same))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        case, source, out = sys.argv[2:]
        print(json.dumps(child(case, Path(source), Path(out))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=("loop", "flat", "ray"))
    options = parser.parse_args()
    quiet(threads=os.cpu_count() or 1)
    if not (SAMPLES / "samples.tar").is_file():
        raise SystemExit(f"absent: {SAMPLES}, one image a class")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        unpack(folder)
        if options.only in (None, "loop"):
            against_loop(folder, options.repeat)
        if options.only in (None, "flat"):
            flat(folder, options.repeat)
        if options.only in (None, "ray"):
            on_ray(folder, options.repeat)


if __name__ == "__main__":
    main()
