"""Whether maps point at the objects on VOC and COCO, what the sanity checks say, and what it costs.

First the features, a minute, as for heads.py::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --embeddings \
        --out features/voc

Then ``python benchmarks/explain.py features out`` fits the heads of shortcuts.py on training images and
prints, for explanations.md:

- gradcam: both heads on the held-out images of VOC that have masks, with checks on 60 of them;
- riders: the same for horse and person, on the images that show both;
- methods: all four methods on the first 40 of these, some 17,000 predictions;
- coco: the sigmoids on the classes of COCO that VOC has, by polygons;
- picture: draws that of the page, of the photographs that `make demo` collects;
- time: CPU seconds of 200 images, predicted and explained, by turns.

``--only`` one of these prints that alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import common
import heads
import numpy as np
import polars as pl
import shortcuts
from PIL import Image

from manyhot import Explanations, explain
from manyhot.predict.in_memory import predict_in_memory

VOC, COCO = heads.DATA / "voc", heads.DATA / "coco"
CASES = ("gradcam", "riders", "methods", "coco", "picture", "time")
METHODS = ("gradcam", "saliency", "integrated-gradients", "occlusion")
POINTING = ("pointing", "pointing_other")
SAME = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""Classes of VOC that COCO calls otherwise."""

PICTURE = {
    "astronaut.png": ("space shuttle", "football helmet"),
    "camera.png": ("tripod", "dome"),
    "book-2020460_640.jpg": ("coffee mug", "pot (flowerpot)"),
}
"""Photographs of the demo, and classes whose maps explanations.md shows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", choices=CASES)
    given = parser.parse_args()
    shortcuts.fit(heads.voc(given.features / "voc"), given.out)
    images = held_out(given.out / "voc")
    for case in given.only or CASES:
        print(f"\n## {case}\n", flush=True)
        if case == "gradcam":
            for head in ("sigmoid", "softmax"):
                show(on_voc(given.out, images, head, f"voc-{head}", check=60, pictures=0))
        elif case == "riders":
            show(on_voc(given.out, images, "sigmoid", "riders", class_=("horse", "person"), check=60))
        elif case == "methods":
            show(on_voc(given.out, images, "sigmoid", "methods", method=METHODS, limit=40, pictures=12))
        elif case == "coco":
            show(on_coco(given.out))
        elif case == "picture":
            draw(on_demo(given.out / "demo-maps"))
        else:
            measure(given.out, images)


def held_out(folder: Path) -> Path:
    """Write the held-out images of VOC that have masks."""
    folder.mkdir(parents=True, exist_ok=True)
    found = pl.scan_parquet(VOC / "images.parquet").filter(
        (pl.col("split") == "test") & pl.col("mask_png").is_not_null()
    )
    found.select("image_id", "jpeg", "mask_png").collect().write_parquet(folder / "images.parquet")
    return folder / "images.parquet"


def on_voc(out: Path, images: Path, head: str, to: str, **more: object) -> Explanations:
    model = f"head:{out}/voc-{head}.safetensors"
    objects = VOC / "annotations.parquet"
    begun = time.perf_counter()
    found = explain(images, model=model, out=out / to, objects=objects, masks=images, **more)
    print(f"{to}: {len(found.maps):,} maps in {time.perf_counter() - begun:.0f} s")
    return found


def on_coco(out: Path) -> Explanations:
    objects = pl.read_parquet(COCO / "annotations.parquet").with_columns(pl.col("class").replace(SAME))
    known = objects.filter(pl.col("class").is_in(heads.VOC.split()))
    known.drop("class_id").write_parquet(out / "coco-objects.parquet")
    images = pl.read_parquet(COCO / "images.parquet").select("image_id", "jpeg")
    (out / "coco").mkdir(exist_ok=True)
    images.filter(pl.col("image_id").is_in(known["image_id"].implode())).write_parquet(
        out / "coco" / "images.parquet"
    )
    return explain(
        out / "coco" / "images.parquet",
        model=f"head:{out}/voc-sigmoid.safetensors",
        out=out / "coco-maps",
        objects=out / "coco-objects.parquet",
        pictures=0,
    )


def on_demo(out: Path) -> Path:
    demo = common.REPO / "demo"
    explain(
        demo / "photos",
        model="efficientnet-lite0",
        out=out,
        labels=demo / "labels.parquet",
        objects=common.REPO / "examples" / "demo" / "objects.csv",
        classes="imagenet1k",
        ids=list(PICTURE),
    )
    return out


def draw(folder: Path) -> None:
    """Write the picture of the page: photographs, and the maps of two labels of each beside them."""
    rows = pl.read_parquet(folder / "maps.parquet").rows(named=True)
    files = {(r["image_id"], r["class_name"]): (r["photo"], r["file"]) for r in rows}
    picture = Image.new(
        "RGB", (3 * 320 + 16, sum(_height(folder, files, i) + 8 for i in PICTURE) - 8), "white"
    )
    top = 0
    for image, (one, other) in PICTURE.items():
        shown = (files[image, one][0], files[image, one][1], files[image, other][1])
        for column, name in enumerate(shown):
            with Image.open(folder / name) as part:
                left = column * 328 + (320 - part.width) // 2
                picture.paste(part, (left, top))
        top += _height(folder, files, image) + 8
    picture.save(common.REPO / "docs" / "images" / "where.jpg", quality=85)


def _height(folder: Path, files: dict[tuple[str, str], tuple[str, str]], image: str) -> int:
    with Image.open(folder / files[image, PICTURE[image][0]][0]) as photo:
        return photo.height


def show(found: Explanations) -> None:
    """Print both tables, as Markdown; of classes with ten objects or more where the highest point lies."""
    print("\n| method | maps | measure | maps | centre | chance | maps minus centre |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for r in found.localisation.to_pylist():
        if r["slice"].startswith("class=") and (r["n"] < 10 or r["metric"] not in POINTING):
            continue
        n = f"{r['slice']}, {r['n']:,} of {r['n_images']:,} images"
        value = f"{r['value']:.3f} ({r['lo']:.3f} to {r['hi']:.3f})"
        more = f"{r['excess']:+.3f} ({r['excess_lo']:+.3f} to {r['excess_hi']:+.3f})"
        told = (r["method"], n, r["metric"], value, f"{r['centre']:.3f}", f"{r['by_chance']:.3f}", more)
        print("|", " | ".join(told), "|")
    for r in found.sanity.to_pylist():
        layers = f", last {r['layers']} of {r['of_layers']} layers" if r["layers"] else ""
        value = f"{r['value']:.2f} ({r['lo']:.2f} to {r['hi']:.2f})" if r["n"] else "–"
        print(f"{r['method']}, {r['against']}{layers}: {value}, {r['n']} pairs, {r['n_skipped']} skipped")
    why = found.maps.filter(found.maps["skipped"].is_valid())["skipped"].value_counts().to_pylist()
    print("\nnot measured:", "; ".join(f"{w['counts']} {w['values']}" for w in why) or "none")
    for note in found.notes:
        print(f"note: {note}")


def measure(out: Path, images: Path) -> None:
    """Print CPU seconds for 200 images, three times by turns."""
    few = pl.read_parquet(images).head(200)
    (out / "few").mkdir(exist_ok=True)
    few.write_parquet(out / "few" / "images.parquet")
    model, source = f"head:{out}/voc-sigmoid.safetensors", out / "few" / "images.parquet"
    spent: dict[str, list[float]] = {"predict": [], "explain": [], "explain and measure": []}
    for _ in range(3):
        for what, own in spent.items():
            begun = time.process_time()
            if what == "predict":
                predict_in_memory(source, model, engine="torch")
            elif what == "explain":
                explain(source, model=model, out=out / "timed", pictures=0)
            else:
                objects = VOC / "annotations.parquet"
                explain(source, model=model, out=out / "timed", pictures=0, objects=objects, masks=images)
            own.append(time.process_time() - begun)
    for what, own in spent.items():
        print(f"{what}: {np.median(own):.1f} s of CPU for 200 images")


if __name__ == "__main__":
    main()
