"""Whatever is asked of manyhot without an extra, the answer is how to install it, and never a traceback."""

import inspect
import json
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer

import manyhot
from manyhot import Predictions, cli, write_predictions
from manyhot.extras import EXTRAS, missing_extra, modules_of, naming_extras

REPO = Path(__file__).resolve().parents[2]

BLOCK = """
    import sys
    from manyhot.extras import EXTRAS, modules_of

    ABSENT = {module for extra in EXTRAS for module in modules_of(extra)}

    class Without:
        # Importing one of these fails, and whether it is there is answered with no.

        def __init__(self, finder):
            self.finder = finder

        def __getattr__(self, name):
            return getattr(self.finder, name)

        def find_spec(self, name, path=None, target=None):
            absent = name.partition(".")[0] in ABSENT
            return None if absent else self.finder.find_spec(name, path, target)

    sys.meta_path[:] = map(Without, sys.meta_path)
"""

CAMPAIGN = "campaign"

COMMANDS = {
    "evaluate": ("l.csv --predictions p.parquet q.parquet --out o", None),
    "compare": ("o", None),
    "card": ("l.csv", None),
    "describe": ("l.csv", None),
    "leaderboard": ("o", None),
    "report": ("o", None),
    "benchmarks": ("--list", None),
    "gallery": ("l.csv --predictions p.parquet --images i.csv --out g", "report"),
    "predict": ("photos --model efficientnet-lite0", "models"),
    "detect": ("photos --model objectron-ssd", "models"),
    "models": ("resnet*", "models"),
    "doctor": ("", None),
    "similar": ("embedded --among any", None),
    "train": ("photos --labels l.csv", "train"),
    "label-maps": ("photos --model timm/resnet18", "train"),
    "transfer": ("photos --method knn --model timm/resnet18 --labels l.csv", "models"),
    "study": ("study.py", "train"),
    "mitigate": ("photos --objects b.csv --model timm/resnet18 --pair n01440764:n01443537", "models"),
    "explain": ("photos --model timm/resnet18", "models"),
    "patchml": ("photos --objects b.csv --objects-per-image 1-2", "diagnose"),
    "init": (f"{CAMPAIGN} --images i.csv --predictions p.parquet --classes imagenet1k", None),
    "status": (CAMPAIGN, None),
    "propose": (CAMPAIGN, None),
    "proposers": ("", None),
    "plan": ("--width 0.02", None),
    "audit": (f"{CAMPAIGN} --size 2 --out a", None),
    "annotate": (CAMPAIGN, "web"),
    "invite": (f"{CAMPAIGN} ann", "web"),
    "export": (CAMPAIGN, "web"),
    "backup": (f"{CAMPAIGN} b.zip", "web"),
    "restore": ("b.zip elsewhere", "web"),
    "aggregate": ("v.csv", None),
    "agreement": ("v.csv", None),
    "next": ("v.csv --budget 1", None),
    "calibrate": ("l.csv --predictions p.parquet", None),
    "kinds": ("l.csv --predictions p.parquet", None),
    "convert": ("l.csv l.parquet", None),
    "fetch": ("", None),
    "metrics": ("", None),
    "losses": ("", "train"),
    "diagnose errors": ("l.csv --predictions p.parquet", None),
    "diagnose labels": ("l.csv --predictions p.parquet", None),
    "diagnose calibration": ("l.csv --predictions p.parquet", None),
    "diagnose duplicates": ("photos", "models"),
    "diagnose shortcuts": ("photos --objects b.csv --model timm/resnet18", "models"),
    "diagnose robustness": ("l.csv m.csv --predictions p.parquet", None),
    "diagnose corruptions": ("photos --model timm/resnet18 --corruption fog", "diagnose"),
    "diagnose companions": ("l.csv --predictions p.parquet", None),
    "diagnose classes": ("l.csv --predictions p.parquet", None),
    "diagnose difficulty": ("l.csv --predictions p.parquet q.parquet", None),
    "diagnose protocols": ("l.csv l.csv --predictions p.parquet q.parquet", None),
    "diagnose sets": ("l.csv --predictions p.parquet", None),
    "diagnose groups": ("l.csv --predictions p.parquet --images i.csv", "report"),
    "diagnose ood": ("l.csv --predictions p.parquet --ood l.csv --ood-predictions p.parquet", None),
}
"""How each command is run, and the extra that it names; None where the minimal install will do."""


def names(command, before=()):
    """Yield the names of all commands."""
    if not hasattr(command, "commands"):
        yield " ".join(before)
        return
    for name, inner in command.commands.items():
        yield from names(inner, (*before, name))


def png():
    """Return a picture of one pixel; Pillow is not there."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0\0\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def blocked(code, cwd):
    """Run Python without any extra."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BLOCK) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_files(folder):
    (folder / "l.csv").write_text("image_id,label,classes\na.png,0,0 1\nb.png,1,1\n")
    (folder / "m.csv").write_text("image_id,label,classes\na.png,0,0\nb.png,1,0 1\n")
    for name, folder_of in (("p", folder), ("q", folder), ("p", folder / "embedded")):
        p = np.full((2, 1000), 1e-4, np.float32)
        p[0, :2], p[1, :2] = ((0.3, 0.6), (0.5, 0.4)) if name == "p" else ((0.6, 0.3), (0.4, 0.5))
        p /= p.sum(1, keepdims=True)
        model = Predictions(
            pa.array(["a.png", "b.png"]), name, scores=p, score_kind="probability", n_classes=1000
        )
        write_predictions(model, folder_of / f"{name}.parquet")
    (folder / "embedded" / "embeddings").mkdir()
    np.save(folder / "embedded" / "embeddings" / "p.npy", np.eye(2, 4, dtype=np.float16))
    (folder / "i.csv").write_text("image_id,label,uri\na.png,0,photos/a.png\nb.png,1,photos/b.png\n")
    (folder / "b.csv").write_text(
        "image_id,class,x1,y1,x2,y2\na.png,n01440764,0,0,0.5,0.5\na.png,n01443537,0.5,0.5,1,1\n"
    )
    (folder / "v.csv").write_text("image_id,class_id,rater_id,answer\na.png,0,ann,yes\nb.png,1,ann,no\n")
    (folder / "study.py").write_text(
        '"""Question: why?\n\nCommand: c\n\nTime: t\n\nResult: r\n"""\nimport torch\n'
    )
    (folder / "mine.py").write_text("def net():\n    import torch\n    return torch.nn.Flatten()\n")
    (folder / "photos").mkdir()
    for name in "ab":
        (folder / "photos" / f"{name}.png").write_bytes(png())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minimal")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(place):
    """Exit code and messages of each command, one after another in one process without extras."""
    words = {name: [*name.split(), *arguments.split()] for name, (arguments, _) in COMMANDS.items()}
    code = f"""
        import contextlib, io, json, os, traceback
        from manyhot import cli

        def leave(code):
            raise SystemExit(code)

        os._exit = leave
        outcomes = {{}}
        for name, words in {words!r}.items():
            sys.argv = ["manyhot", *words]
            out, messages, code = io.StringIO(), io.StringIO(), 0
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(messages):
                try:
                    cli.main()
                except SystemExit as error:
                    code = error.code or 0
                except BaseException:
                    code = 1
                    traceback.print_exc()
            outcomes[name] = (code, messages.getvalue())
        print(json.dumps(outcomes))
    """
    return blocked(code, place)


@pytest.mark.parametrize("name", list(names(typer.main.get_command(cli.app))))
def test_a_command_names_the_extra_that_it_needs(outcomes, name):
    assert name in COMMANDS, "say in COMMANDS how the new command is run, and which extra it needs"
    code, messages = outcomes[name]
    extra = COMMANDS[name][1]
    assert "Traceback" not in messages
    if extra is None:
        assert code == 0, messages
        return
    assert code == 4, messages
    assert re.fullmatch(
        rf'Error: .+\.\n(  got:     .+\n)?  do:      pip install "manyhot\[{extra}\]"\n', messages
    ), messages


CALLS = {
    "manyhot.predict_in_memory('photos', 'python:mine:net')": "models",
    "manyhot.predict('photos', 'python:study:net')": "models",
    "manyhot.attribute('efficientnet-lite0', 'photos', [0])": "models",
    "manyhot.predict('photos', 'python:mine:net', out='o')": "models",
    "manyhot.transfer('photos', 'timm/resnet18', out='o', method='knn', labels='l.csv')": "models",
    "manyhot.fit_softmax([[0.0], [1.0]], [0, 1], manyhot.class_list(), 'timm/resnet18')": "train",
    "manyhot.train('photos', 'l.csv', out='o')": "train",
    "manyhot.label_maps('photos', model='timm/resnet18', out='o.arrow')": "train",
    "manyhot.export_votes('campaign')": "web",
    "app.Store": "web",
    "registry.names('loss')": "train",
    "testing.check_loss('bce')": "train",
}
"""Python that needs an extra, and the one that it names."""


@pytest.fixture(scope="module")
def raised(place):
    """What each call raises, twice, without extras."""
    code = f"""
        import json, manyhot
        from manyhot import registry, testing
        from manyhot.reassess import app

        def raised(call):
            try:
                eval(call)
            except BaseException as error:
                return [type(error).__name__, str(error)]

        print(json.dumps({{call: [raised(call), raised(call)] for call in {list(CALLS)!r}}}))
    """
    return blocked(code, place)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_names_the_extra_that_it_needs(raised, call):
    once, again = raised[call]
    assert once == again
    name, message = once
    assert name == "MissingExtraError", message
    assert message.endswith(f'\n  do:      pip install "manyhot[{CALLS[call]}]"')


def test_the_whole_message(raised):
    assert raised["registry.names('loss')"][0][1] == (
        "This needs torch, which cannot be imported.\n  got:     No module named 'torch'\n"
        '  do:      pip install "manyhot[train]"'
    )


def test_what_no_extra_brings_stays_as_it_is():
    @naming_extras
    def act(error):
        raise error

    for error in (ModuleNotFoundError("x", name="elsewhere"), ImportError("y", name="torch"), KeyError("z")):
        with pytest.raises(type(error)) as same:
            act(error)
        assert same.value is error
        assert missing_extra(error) is None


def test_public_functions_go_to_other_processes():
    for name in manyhot.__all__:
        value = getattr(manyhot, name)
        if inspect.isfunction(value):
            assert pickle.loads(pickle.dumps(value)) is value is getattr(manyhot, name)
            own = inspect.signature(inspect.unwrap(value)).parameters
            shown = inspect.signature(value).parameters  # with plain types, and fields that are keywords
            assert [(n, shown[n].kind, shown[n].default) for n in own] == [
                (n, p.kind, p.default) for n, p in own.items()
            ]


MODULES = {
    "pillow": "PIL",
    "opencv-python": "cv2",
    "imagecorruptions-imaug": "imagecorruptions",
    "open_clip_torch": "open_clip",
    "vl-convert-python": "vl_convert",
    "argon2-cffi": "argon2",
    "psycopg[binary]": "psycopg",
}
"""What packages are imported as, where it is not their name."""


def test_each_package_of_an_extra_names_it():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == set(extras)
    for extra, packages in extras.items():
        names = [re.match(r"[\w.-]+(\[\w+\])?", package)[0] for package in packages]
        while inner := next((n for n in names if n.startswith("manyhot[")), None):
            names.remove(inner)
            names += [re.match(r"[\w.-]+", p)[0] for p in extras[inner[8:-1]]]
        modules = {MODULES.get(name, name.replace("-", "_")) for name in names}
        assert modules <= set(modules_of(extra))


def test_readme_installs_what_its_commands_need():
    """Each extra before the first command that names it; `train` brings `models`."""
    installed = set()
    for line in (REPO / "README.md").read_text().splitlines():
        for extras in re.findall(r'^pip install "\.\[([\w,]+)\]"', line):
            installed |= set(extras.split(","))
            installed |= {"models"} if "train" in installed else set()
        words = line.split("#")[0].split()
        if words[:1] == ["manyhot"] and len(words) > 2:
            name = " ".join(words[1:3]) if words[1] == "diagnose" else words[1]
            assert COMMANDS[name][1] in {None, *installed}, line
