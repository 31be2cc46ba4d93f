"""A small gallery with hostile names, whose every filter has a known answer."""

import io

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.report.gallery import make_gallery
from manyhot.tables import Images, Labels, Predictions

HOSTILE = "<script>window.owned=1</script>"
NAMES = ("cat", "dog", HOSTILE, '"><img src=x onerror="window.owned=1">', "cup & saucer", "tub", "bath tub")
IDS = [
    "plain.jpg",
    "valid.jpg",
    "</script><script>window.owned=1</script>.jpg",
    "a b#c%25&image=plain.jpg.jpg",
    "unclear.jpg",
    "refuted.jpg",
    "empty.jpg",
    "nobody.jpg",
    "three.jpg",
    "broken.jpg",
    "left out\u2028\u00e9.jpg",
    "last.jpg",
]
LABEL = [0, 0, 1, 1, 2, 2, 3, 4, 4, 0, 1, 6]
SETS = [
    {0: "yes"},
    {0: "yes", 1: "yes"},
    {1: "yes", 0: "no"},
    {1: "yes"},
    {2: "yes", 3: "unclear"},
    {2: "no", 4: "yes"},
    {3: "no"},
    None,
    {4: "yes", 5: "yes", 6: "yes"},
    {0: "yes"},
    {1: "yes"},
    {6: "yes", 5: "yes"},
]
FIRST = [
    (0, 0.99),
    (1, 0.98),
    (0, 0.97),
    (1, 0.6),
    (3, 0.7),
    (2, 0.9),
    (3, 0.5),
    (4, 0.9),
    (5, 0.55),
    (0, 1.0),
    (2, 0.4),
    (6, 0.8),
]
SECOND = [
    (0, 0.5),
    (0, 0.5),
    (1, 0.5),
    (1, 0.5),
    (2, 0.5),
    (2, 0.5),
    (3, 0.5),
    (4, 0.5),
    (4, 0.5),
    (0, 0.5),
    None,
    (5, 0.96),
]
VERDICTS = [
    "right",
    "valid",
    "wrong",
    "right",
    "unclear",
    "refuted",
    "refuted",
    "right",
    "valid",
    "right",
    "unasked",
    "right",
]


def photographs(folder, image):
    """Write a photograph for each image but the broken one, and return their places."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.jpg" for i in range(len(IDS))]
    for i, path in enumerate(paths):
        size = (400, 300) if i % 2 else (300, 420)
        noise = np.random.default_rng(i).integers(0, 255, (6, 8, 3), np.uint8)
        image.fromarray(noise).resize(size, image.Resampling.BICUBIC).save(path, quality=90)
    paths[IDS.index("broken.jpg")].write_bytes(b"\xff\xd8\xff nothing more")
    return [str(p) for p in paths]


def images_table(uris):
    return Images(pa.table({"image_id": IDS, "uri": uris, "label": pa.array(LABEL, pa.int32())}))


def labels_table():
    given = [s or {} for s in SETS]
    table = pa.table(
        {
            "image_id": IDS,
            "label": pa.array(LABEL, pa.int32()),
            "usable": [True] * len(IDS),
            "rated": [s is not None for s in SETS],
            "classes": pa.array([list(s) for s in given], pa.list_(pa.int32())),
            "state": pa.array([list(s.values()) for s in given], pa.list_(pa.string())),
        }
    )
    return Labels(table, len(NAMES), asked_known=True, name="small")


def model(name, best):
    """Return a model that says one class, then the next two with what is left."""
    there = [(i, b) for i, b in zip(IDS, best, strict=True) if b is not None]
    classes = np.array([[c, (c + 1) % 7, (c + 2) % 7] for _, (c, _) in there])
    scores = np.array([[p, (1 - p) * 0.6, (1 - p) * 0.4] for _, (_, p) in there], np.float32)
    scores = np.sort(scores, axis=1)[:, ::-1]
    return Predictions(pa.array([i for i, _ in there]), name, classes, scores, None, "probability", 7)


def class_names():
    keys = tuple(f"c{i}" for i in range(len(NAMES)))
    blank = ((),) * len(NAMES)
    return ClassList("seven", keys, NAMES, blank, ("",) * len(NAMES), blank)


def findings():
    return pa.table(
        {
            "kind": ["fine-grained", "valid-label"],
            "image_id": [IDS[2], IDS[1]],
            "model": ["first/<b>model", "first/<b>model"],
        }
    )


def small_gallery(folder, image, **options):
    given = {"title": f"Small & {HOSTILE}", "findings": [findings()], **options}
    models = [model("first/<b>model", FIRST), model("second", SECOND)]
    return make_gallery(
        images_table(photographs(folder, image)), labels_table(), models, class_names(), **given
    )


def images_table_of(ids):
    """Return images that are all of class 0, without photographs."""
    return Images(pa.table({"image_id": ids, "uri": ids, "label": pa.array([0] * len(ids), pa.int32())}))


def one_class(ids):
    """Return a model that says class 0 of everything, without scores."""
    return Predictions(pa.array(ids), "m", np.zeros((len(ids), 1), np.int32))


def dots(image, n):
    """Return photographs of one size, without files."""
    made = io.BytesIO()
    image.new("RGB", (8, 8), "teal").save(made, "JPEG")
    return [(i, made.getvalue) for i in range(n)]
