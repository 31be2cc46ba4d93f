"""Which predictions on VOC hang on what is beside the object; how long that takes, and whether it is resumed.

First the features, a minute, as for heads.py::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --embeddings \
        --out features/voc

Then ``python benchmarks/shortcuts.py features out`` fits two heads on those of training images, sigmoids on
label sets and a softmax on the class of the largest object. It takes each companion out of images in both
ways, with controls, for all pairs with at least 25 images, and prints

- sigmoid: the seconds of each phase, and the pairs, for shortcuts.md;
- killed: the same command killed when a third is predicted, and run again: are the tables the same?
- softmax: the pairs of the other head;
- held-out: the pairs of both heads on images that they were not fitted on.

``--only`` one of these prints that alone; killed compares with what sigmoid left.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import heads
import pyarrow as pa
import pyarrow.parquet as pq

import manyhot
from manyhot.predict.weights import write_head
from manyhot.run import Run
from manyhot.train.heads import fit_sigmoid, fit_softmax

VOC = heads.DATA / "voc"
CASES = ("sigmoid", "killed", "softmax", "held-out")
SHOWN = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", choices=CASES)
    given = parser.parse_args()
    data = heads.voc(given.features / "voc")
    fit(data, given.out)
    for case in given.only or CASES:
        print(f"\n## {case}\n", flush=True)
        if case == "killed":
            kill(given.out)
        elif case == "held-out":
            rows = [i for i, held in enumerate(data.held_out) if held]
            labels = manyhot.write_labels(data.labels(rows), given.out / "held-out.parquet")
            for head in ("sigmoid", "softmax"):
                show(timed(given.out, head, f"held-out-{head}", labels=labels))
        else:
            show(timed(given.out, case, case))


def fit(data: heads.DataSet, out: Path) -> None:
    """Write both heads."""
    out.mkdir(parents=True, exist_ok=True)
    train = ~data.held_out
    vectors = data.vectors[train]
    # Of core.sets, 0 stands for a class that was not asked about.
    sigmoid = fit_sigmoid(vectors, data.state[train] + 1, data.classes, heads.MODEL)
    softmax = fit_softmax(vectors, data.label[train], data.classes, heads.MODEL)
    for head in (sigmoid, softmax):
        write_head(head, out / f"voc-{head.loss}.safetensors")


def options(out: Path, head: str, to: str) -> list[str]:
    return [
        *(str(VOC / "images.parquet"), "--objects", str(VOC / "annotations.parquet")),
        *("--masks", str(VOC / "images.parquet"), "--model", f"head:{out}/voc-{head}.safetensors"),
        *("--fill", "grey", "--fill", "inpaint", "--out", str(out / to)),
    ]


def timed(out: Path, head: str, to: str, **more: object) -> manyhot.Shortcuts:
    """Test all pairs, and print how long each phase took."""
    begun, cpu = time.perf_counter(), time.process_time()
    marks = {"start": begun}
    n = pq.read_metadata(VOC / "images.parquet").num_rows
    images = 0

    def notify(kind: str, told: dict[str, object]) -> None:
        nonlocal images
        now = time.perf_counter()
        if kind == "model":
            marks["engine"] = now
        elif kind == "progress":
            images = int(told["images"])
            marks["originals" if images <= n else "altered"] = now

    found = manyhot.diagnose_shortcuts(
        VOC / "images.parquet",
        objects=VOC / "annotations.parquet",
        out=out / to,
        masks=VOC / "images.parquet",
        model=f"head:{out}/voc-{head}.safetensors",
        fill=("grey", "inpaint"),
        run=Run(on_event=notify),
        **more,
    )
    marks["tables, pictures, page"] = time.perf_counter()
    times = itertools.pairwise(marks.items())
    phases = ", ".join(f"{name} {at - before:.0f}" for (_, before), (name, at) in times)
    spent = f"{time.perf_counter() - begun:.0f} s, {time.process_time() - cpu:.0f} s of CPU"
    print(f"{to}: {images:,} images in {spent} ({phases}); {os.cpu_count()} cores")
    return found


def kill(out: Path) -> None:
    """Kill a run with a third of it done, run it again, and compare with the one that nobody killed."""
    command = [sys.executable, "-m", "manyhot", "diagnose", "shortcuts", *options(out, "sigmoid", "killed")]
    whole = out / "sigmoid" / "predictions"
    third = len(list(whole.iterdir())) // 3
    begun = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = out / "killed" / "predictions"
    while running.poll() is None and len([*folder.glob("*/*.parquet")]) < 2 * third:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    there = time.perf_counter()
    print(
        f"killed after {there - begun:.0f} s with {len([*folder.glob('*/images.parquet')])} of "
        f"{len(list(whole.iterdir()))} folders predicted"
    )
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"went on, and was done after {time.perf_counter() - there:.0f} s")
    for name in ("shortcuts", "shortcut_examples"):
        one, other = (pq.read_table(out / which / f"{name}.parquet") for which in ("sigmoid", "killed"))
        print(f"{name}: {'the same' if one.equals(other) else 'DIFFERS'}")


def show(found: manyhot.Shortcuts) -> None:
    """Print what all pairs come to, and the first of each fill as Markdown."""
    for one in found.summary:
        print(
            f"{one['fill']}: {one['pairs']} pairs, flips mean {one['mean']:.3f} median {one['median']:.3f}; "
            f"controls {one['mean_control']:.3f}; lost {one['mean_lost']:.3f}, in controls "
            f"{one['mean_control_lost']:.3f}; shortcuts {one['shortcuts']}, "
            f"not testable {one['not_testable']}"
        )
    for note in found.notes:
        print(f"- {note}")
    rows = found.shortcuts.filter(pa.compute.is_null(found.shortcuts["skipped"])).to_pylist()
    above = [r for r in rows if r["lo"] is not None and r["lo"] > 0]
    below = [r for r in rows if r["hi"] is not None and r["hi"] < 0]
    print(f"{len(rows)} rows: {len(above)} above the control, {len(below)} below it\n")
    head = (
        "class, without, by, images, flips, lost, control, more, recall gap, hallucination gap, AP, balanced"
    )
    columns = head.split(", ")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows[:SHOWN]:
        print(f"| {' | '.join(cells(row))} |")


def cells(row: dict) -> tuple[str, ...]:
    def ends(name: str, lo: str, hi: str, sign: str = "") -> str:
        value, low, high = (row[k] for k in (name, lo, hi))
        return (
            "–"
            if value is None
            else f"{100 * value:{sign}.0f} ({100 * low:{sign}.0f} to {100 * high:{sign}.0f})"
        )

    return (
        *(row["main_name"], row["companion_name"], row["fill"], str(row["n"])),
        f"{100 * row['flips']:.0f}",
        ends("lost", "lost_lo", "lost_hi"),
        ends("control_lost", "control_lost_lo", "control_lost_hi"),
        ends("excess", "lo", "hi", "+"),
        *(ends(gap, f"{gap}_lo", f"{gap}_hi", "+") for gap in ("recall_gap", "hallucination_gap")),
        *(ends(ap, f"{ap}_lo", f"{ap}_hi") for ap in ("ap", "ap_balanced")),
    )


if __name__ == "__main__":
    main()
