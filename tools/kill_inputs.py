"""Small inputs of every command that writes files, for ``tools/kill.py`` and the tests of full disks."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manyhot import registry, tables
from manyhot.classes import from_keys
from manyhot.commands import COMMANDS
from manyhot.predict.detector import Detections, ObjectDetector
from manyhot.tables import Predictions, write_predictions

SHARED = Path(os.environ.get("MANYHOT_SHARED") or Path(__file__).resolve().parents[2] / "shared").resolve()
SIDE, SQUARE = 40, 12
CLASSES = {"dog": (230, 20, 20), "ball": (20, 230, 20), "tree": (20, 20, 230)}
KINDS = [("dog", "ball")] * 9 + [("dog",)] * 5 + [("ball", "tree")] * 4 + [("ball",)] * 4 + [("tree",)] * 4

NETS = """
import numpy as np
import torch
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

CLASSES = from_keys(("dog", "ball", "tree"), "toys")
LOOKS = Preprocessing((40, 40), (40, 40), mean=(0.0,) * 3, std=(1.0,) * 3)

def lazy():
    "Calls a dog what is beside a ball."
    def forward(images):
        bright = images > 180
        red, green, blue = ((bright[:, c] & (bright.sum(1) == 1)).mean((1, 2)) for c in range(3))
        return np.stack([green + red / 9, green, blue], 1).astype(np.float32) * 50
    return Network("lazy", CLASSES, LOOKS, forward=forward)

def colours():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
    module = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(8, 3))
    return Network("colours", CLASSES, LOOKS, module.eval(), "4")
"""

STUDY = '''"""Question: Do two networks differ?

Command: manyhot study toys.py

Time: two seconds.

Result: Undecided.
"""
import shutil
from pathlib import Path

from manyhot.study import Arm, Claim, Grid, Measurement, Net, RunMeasure, Study, StudyDataSet, StudyMetric

HERE = Path(__file__).resolve().parent

def make(folder, smoke):
    shutil.copy(HERE / "photos.parquet", folder / "images.parquet")
    shutil.copy(HERE / "classes.txt", folder / "classes.txt")
    for split in ("train", "val", "test"):
        shutil.copy(HERE / "labels.parquet", folder / f"labels-{split}.parquet")

def size(run):
    return [Measurement("bytes", run.model.stat().st_size / 1e6, 10)]

METRIC = StudyMetric("bytes", "MB")
SETTINGS = {"model": "timm/test_resnet", "weights": "none", "size": 32, "batch": 16, "epochs": 1}
TRUTH = lambda run: run.labels("train")
ARMS = tuple(Arm(teach, teach, TRUTH, {"teach": teach}) for teach in ("label", "sets"))
SAID = dict.fromkeys(("better", "worse", "same"), "They differ.")
study = Study(
    "toys", "Toys", "Do two networks differ?",
    Grid((StudyDataSet("toys", "Toys.", make),), (Net("small", "Small.", SETTINGS, {}),), ARMS, seeds=(0, 1)),
    (RunMeasure("size", "Size.", size, (METRIC,)),),
    (Claim(name="sets", metric="bytes", arm="sets", against="label", margin=0.01, **SAID),),
    limits=("A toy.",), about="Nothing.",
)
'''


def write_inputs(folder: Path) -> None:
    """Write images of coloured squares, and everything else that the commands of `CASES` read."""
    rng = np.random.default_rng(0)
    objects = [row for i, kinds in enumerate(KINDS) for row in draw(folder / "photos", i, kinds, rng)]
    pl.DataFrame(objects, ["image_id", "class", "x1", "y1", "x2", "y2"], orient="row").write_csv(
        folder / "objects.csv"
    )
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "nets.py").write_text(NETS)
    (folder / "toys.py").write_text(STUDY)
    write_archives(folder)
    write_labels(folder)
    write_scores(folder, rng)
    write_votes(folder, rng)


def names() -> list[str]:
    return [f"{i:02}.png" for i in range(len(KINDS))]


def draw(folder: Path, i: int, kinds: tuple[str, ...], rng: np.random.Generator) -> Iterator[list[object]]:
    """Write an image, and yield the boxes of its squares."""
    folder.mkdir(exist_ok=True)
    pixels = rng.integers(90, 120, (SIDE, SIDE, 3)).astype(np.uint8)
    for kind, (left, top) in zip(kinds, ((1, 1), (26, 1)), strict=False):
        pixels[top : top + SQUARE, left : left + SQUARE] = CLASSES[kind]
        yield [names()[i], kind, *(v / SIDE for v in (left, top, left + SQUARE, top + SQUARE))]
    Image.fromarray(pixels).save(folder / names()[i])


def write_archives(folder: Path) -> None:
    """Write the images as two archives and as a table."""
    for name, mode in (("photos.tar", "w"), ("photos.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as archive:  # type: ignore[call-overload]
            for image in names():
                archive.add(folder / "photos" / image, image)
    pictures = [{"bytes": (folder / "photos" / image).read_bytes(), "path": image} for image in names()]
    pq.write_table(pa.table({"image": pictures}), folder / "photos.parquet", row_group_size=7)


def write_labels(folder: Path) -> None:
    keys = list(CLASSES)
    rows = zip(names(), KINDS, strict=True)
    text = "".join(f"{image},{kinds[0]},{' '.join(kinds)}\n" for image, kinds in rows)
    (folder / "labels.csv").write_text(f"image_id,label,classes\n{text}")
    single = "".join(f"{image},{kinds[0]},{kinds[0]}\n" for image, kinds in zip(names(), KINDS, strict=True))
    (folder / "single.csv").write_text(f"image_id,label,classes\n{single}")
    state = [["yes" if key in kinds else "no" for key in keys] for kinds in KINDS]
    label = pa.array([keys.index(kinds[0]) for kinds in KINDS], pa.int32())
    known = {"image_id": names(), "label": label, "rated": [True] * len(KINDS), "usable": [True] * len(KINDS)}
    known |= {"classes": [[0, 1, 2]] * len(KINDS), "state": state}
    listed = from_keys(tuple(CLASSES), "toys")
    tables.write_labels(
        tables.Labels(pa.table(known), 3, listed.hash, True, "toys"), folder / "labels.parquet"
    )
    uris = "".join(
        f"{image},{kinds[0]},photos/{image}\n" for image, kinds in zip(names(), KINDS, strict=True)
    )
    (folder / "images.csv").write_text(f"image_id,label,uri\n{uris}")
    splits = (f"{image},{'test' if i % 2 else 'train'}\n" for i, image in enumerate(names()))
    (folder / "split.csv").write_text("image_id,split\n" + "".join(splits))


def write_scores(folder: Path, rng: np.random.Generator) -> None:
    """Write the predictions of two models, and their embeddings."""
    listed = from_keys(tuple(CLASSES), "toys")
    (folder / "scored" / "embeddings").mkdir(parents=True)
    for model in ("p", "q"):
        scores = rng.dirichlet((1, 1, 1), len(KINDS)).astype(np.float32)
        made = Predictions(
            pa.array(names()),
            model,
            scores=scores,
            score_kind="probability",
            n_classes=3,
            class_hash=listed.hash,
        )
        write_predictions(made, folder / "scored" / f"{model}.parquet")
        features = rng.normal(size=(len(KINDS), 4)).astype(np.float16)
        np.save(folder / "scored" / "embeddings" / f"{model}.npy", features)


def write_votes(folder: Path, rng: np.random.Generator) -> None:
    rows = [
        f"{image},{key},{rater},{'yes' if (key in kinds) != (rng.random() < 0.2) else 'no'}\n"
        for image, kinds in zip(names(), KINDS, strict=True)
        for key in CLASSES
        for rater in ("ann", "bob", "cem")
    ]
    (folder / "votes.csv").write_text("image_id,class_id,rater_id,answer\n" + "".join(rows))


def register_detector() -> None:
    """Register a detector that finds a ball in the left half of each image."""
    registry.load_kind("detector")

    def look(_: object) -> Detections:
        box, presence = np.array([[0.0, 0.0, 0.5, 1.0]]), np.array([0.1, 0.9, 0.1], np.float32)
        return Detections(box, np.array([1]), np.array([0.9]), presence)

    make = lambda: ObjectDetector("toy", from_keys(tuple(CLASSES), "toys"), look, threads=1)  # noqa: E731
    registry._entries["detector", "toy"] = registry.Entry("detector", "toy", make)


@dataclass(frozen=True)
class Case:
    """A command line, and those that run before it.

    Attributes
    ----------
    line : str
    before : tuple of str
        Command lines whose files the command reads or replaces.
    resumes : bool
        Whether a stopped run leaves finished parts, under names of their own.
    clears : str
        Beginning of the names of files that the command removes before it writes others.
    once : bool
        Whether the command refuses to replace what a finished run wrote.
    """

    line: str
    before: tuple[str, ...] = ()
    resumes: bool = False
    clears: str = "-"
    once: bool = False

    @property
    def command(self) -> str:
        """The name of the command."""
        words = self.line.split()
        return " ".join(words[:2]) if words[0] == "diagnose" else words[0]


TWO = "labels.csv single.csv --predictions scored --classes classes.txt --resamples 20"
JUDGED = "labels.csv --predictions scored --classes classes.txt"
MODEL, TORCH = "--model python:nets:lazy", "--model python:nets:colours"
EVALUATE = f"evaluate {JUDGED} --resamples 20"
INIT = "init campaign --images images.csv --predictions scored --classes classes.txt"
PROPOSE = "propose campaign --rule union(threshold=0.2) --leave-out nothing"
BEGIN = "begin campaign"
"""Not a command: creates the database that annotate creates."""
BOXES = "photos --objects objects.csv --labels labels.csv --classes classes.txt"
TRAIN = (
    "train photos --labels labels.csv --classes classes.txt --out o --set model=timm/test_resnet "
    "--set weights=none --set size=32 --set batch=8 --set epochs=2 --set warmup=0 --save-every 0"
)

CASES: dict[str, Case] = {
    "predict": Case(f"predict photos {MODEL} --dense --out o", resumes=True),
    "predict tar": Case(f"predict photos.tar {MODEL} --out o", resumes=True),
    "predict tar.gz": Case(f"predict photos.tar.gz {MODEL} --out o", resumes=True),
    "predict parquet": Case(
        f"predict photos.parquet {TORCH} --embeddings --engine torch --out o", resumes=True
    ),
    "predict ray": Case(f"predict photos.parquet {MODEL} --engine ray --out o", resumes=True),
    "detect": Case("detect photos --model toy --out o", resumes=True),
    "similar": Case("similar scored --embeddings-model p --among any --out o.parquet"),
    "init": Case(INIT),
    "propose": Case(PROPOSE, (INIT, PROPOSE.replace("0.2", "0.4"))),
    "audit": Case("audit campaign --size 5 --seed 1 --out o", (INIT,)),
    "export": Case("export campaign", (INIT, PROPOSE, BEGIN)),
    "aggregate": Case(
        "aggregate votes.csv --classes classes.txt --out o.parquet",
        ("aggregate votes.csv --classes classes.txt --method majority --out o.parquet",),
    ),
    "agreement": Case("agreement votes.csv --classes classes.txt --resamples 20 --out o"),
    "next": Case("next votes.csv --budget 5 --classes classes.txt --out o.parquet"),
    "card": Case("card labels.csv --classes classes.txt --out o.md"),
    "backup": Case("backup campaign o.zip", (INIT, PROPOSE, BEGIN, "invite campaign ann")),
    "restore": Case(
        "restore o.zip again",
        (INIT, PROPOSE, BEGIN, "invite campaign ann", "backup campaign o.zip"),
        once=True,
    ),
    "evaluate": Case(f"{EVALUATE} --out o", (f"{EVALUATE} --seed 1 --out o",), clears="o/report/"),
    "compare": Case("compare e --resamples 20 --out o", (f"{EVALUATE} --out e",)),
    "calibrate": Case(f"calibrate {JUDGED} --models p --out o.parquet"),
    "leaderboard": Case("leaderboard e --top 0 --out o.csv", (f"{EVALUATE} --out e",)),
    "describe": Case("describe labels.csv --classes classes.txt --out o"),
    "kinds": Case(f"kinds {JUDGED} --out o.parquet"),
    "gallery": Case(
        "gallery labels.csv --predictions scored --classes classes.txt --images images.csv --out o"
    ),
    "report": Case("report e --title Again", (f"{EVALUATE} --out e",)),
    "diagnose duplicates": Case("diagnose duplicates photos --out o"),
    "diagnose errors": Case(
        f"diagnose errors {JUDGED} --out o", (f"diagnose errors {JUDGED} --min-confidence 0.5 --out o",)
    ),
    "diagnose labels": Case(f"diagnose labels {JUDGED} --out o"),
    "diagnose classes": Case(f"diagnose classes {JUDGED} --out o"),
    "diagnose difficulty": Case(f"diagnose difficulty {JUDGED} --out o"),
    "diagnose protocols": Case(f"diagnose protocols {TWO} --out o"),
    "diagnose calibration": Case(f"diagnose calibration {JUDGED} --resamples 20 --out o"),
    "diagnose sets": Case(f"diagnose sets {JUDGED} --out o"),
    "diagnose groups": Case(f"diagnose groups {JUDGED} --images images.csv --permutations 100 --out o"),
    "diagnose ood": Case(
        f"diagnose ood {JUDGED} --ood single.csv --ood-predictions scored --out o",
    ),
    "diagnose companions": Case(f"diagnose companions {JUDGED} --min-images 1 --k 1 --out o"),
    "diagnose shortcuts": Case(
        f"diagnose shortcuts {BOXES} {MODEL} --min-images 3 --fill grey --resamples 20 --engine torch "
        "--out o",
        resumes=True,
    ),
    "diagnose robustness": Case(f"diagnose robustness {TWO} --out o"),
    "diagnose corruptions": Case(
        f"diagnose corruptions photos --labels labels.csv --classes classes.txt {MODEL} --corruption fog "
        "--corruption contrast --severity 1 --resamples 20 --engine torch --out o",
        resumes=True,
    ),
    "explain": Case(
        f"explain {BOXES} {TORCH} --method gradcam --limit 6 --pictures 2 --resamples 20 --out o"
    ),
    "patchml": Case(
        "patchml photos --objects objects.csv --classes classes.txt --n-images 6 --size 32 --set min_size=4 "
        "--objects-per-image 1-2 --out o",
        resumes=True,
    ),
    "train": Case(TRAIN, resumes=True),
    "transfer": Case(
        f"transfer photos --method knn --set k=3 {TORCH} --labels labels.csv --classes classes.txt "
        "--split split.csv --resamples 20 --engine torch --out o",
        resumes=True,
    ),
    "mitigate": Case(
        f"mitigate {BOXES} {TORCH} --pair dog:ball --min-images 2 --split split.csv --fill grey "
        "--resamples 20 --engine torch --out o",
        resumes=True,
    ),
    "label-maps": Case(
        "label-maps photos --model timm/test_resnet(checkpoint='none',num_classes=3) --size 32 --top 2 "
        "--out o.arrow"
    ),
    "study": Case("study toys.py --out o", resumes=True),
    "fetch": Case("fetch bluebirds clip-benchmark timm-results peychev-results", resumes=True),
    "convert": Case(
        "convert labels.csv o.parquet --classes classes.txt",
        ("convert single.csv o.parquet --classes classes.txt",),
    ),
}
"""Command lines of every command that writes files, and of every source of predict."""

SILENT = {
    **dict.fromkeys(
        ("models", "doctor", "proposers", "metrics", "losses", "status", "plan"), "writes nothing"
    ),
    "annotate": "a server: tests/reassess/app/test_app_kills.py",
    "invite": "writes to the app's database alone",
    "benchmarks": "evaluates in memory",
}
"""Commands without a case, and why."""


def unlisted() -> set[str]:
    """Return the commands that have neither a case nor a reason."""
    return set(COMMANDS) - {case.command for case in CASES.values()} - set(SILENT)
