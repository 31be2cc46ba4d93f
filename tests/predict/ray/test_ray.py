"""Models × parts on a local cluster: the same files as from one process, whatever dies on the way."""

import importlib
import os
import platform
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import small_models
from forking import predictions
from manyhot._version import __version__
from manyhot.errors import InputError, MissingExtraError
from manyhot.files import sha256
from manyhot.predict import ray as on_ray
from manyhot.predict.engines import EngineOptions
from manyhot.predict.models import find_model
from manyhot.predict.ray import run_on_ray, workers
from manyhot.predict.ray.workers import RemoteModel
from manyhot.predict.run import PredictSettings, run
from manyhot.predict.scoring import Keep
from manyhot.predict.sources import Files, ImageSource, SourceLostError, open_source
from small_models import COLOURS

MINE = """
import os, signal, sys, threading, time
from pathlib import Path
from manyhot.predict.network import Network
sys.path.insert(0, {tests!r})
from small_models import COLOURS, SMALL, mean_colour

on_worker = "default_worker" in sys.argv[0]

def of(name, before=lambda images: None):
    def forward(images):
        if on_worker:
            before(images)
        return mean_colour(images)
    return Network(name, COLOURS, SMALL, forward=forward)

def die(images):
    os.kill(os.getpid(), signal.SIGKILL)

def die_once(images):
    try:
        Path("died").touch(exist_ok=False)
    except FileExistsError:
        return
    die(images)

def fail(images):
    raise RuntimeError("out of something")

class LockedError(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()

def fail_unsent(images):
    raise LockedError("out of something else")

def tint(): return of("tint")
def twin(): return of("tint")
def other(): return of("other")
def fragile(): return of("fragile", die_once)
def deadly(): return of("deadly", die)
def failing(): return of("failing", fail)
def unsent(): return of("unsent", fail_unsent)
def slow(): return of("slow", lambda images: time.sleep(0.02 * len(images)))
"""


pytestmark = pytest.mark.usefixtures("quick_trials")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 150 images in three parts, two of them damaged, and the models in a module."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "mine.py").write_text(MINE.format(tests=str(Path(small_models.__file__).parent)))
    (folder / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (150, 16, 20, 3), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "in" / f"{i:05}.jpg")
    (folder / "in" / "00003.jpg").write_bytes(b"")
    (folder / "in" / "00104.jpg").write_text("no image")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)
    sys.modules.pop("mine", None)


@pytest.fixture(scope="module")
def cluster(place, require):
    """A cluster with two workers, for all tests of this file."""
    require(importlib.util.find_spec("ray"), "ray")
    ray = on_ray.import_ray()
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def source(place):
    """Fifty images a part."""
    paths = tuple(f"{i:05}.jpg" for i in range(150))
    return ImageSource("in", tuple(Files(f"{i:05}", "in", paths[50 * i :][:50]) for i in range(3)))


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def plain(source, names, out):
    for name in names:
        run(source, find_model(f"python:mine:{name}"), out, PredictSettings(), "a call")
    return contents(out)


def spread(source, names, out, notify=None, **settings):
    return run_on_ray(
        source, [f"python:mine:{n}" for n in names], out, PredictSettings(**settings), "a call", notify
    )


@pytest.mark.slow
def test_two_models_and_a_worker_that_is_killed(cluster, source, place, tmp_path):
    """By SIGKILL, with a second part waiting at it: all files are byte for byte those of one process."""
    told = []
    done = spread(source, ["tint", "fragile"], tmp_path / "ray", lambda *event: told.append(event))
    assert (place / "died").exists()
    assert contents(tmp_path / "ray") == plain(source, ["tint", "fragile"], tmp_path / "plain")
    assert [(d.model, d.n, d.merged.n, d.merged.n_skipped, d.missing) for d in done] == [
        ("tint", 150, 148, 2, 0),
        ("fragile", 150, 148, 2, 0),
    ]
    progress = [(t["model"], t["images"], t["of"]) for kind, t in told if kind == "progress"]
    assert sorted(progress) == [(m, n, 150) for m in ("fragile", "tint") for n in (50, 100, 150)]
    assert all(d.seconds.decode > 0 and d.seconds.write > 0 and d.rate > 0 for d in done)
    assert spread(source, ["tint"], tmp_path / "ray")[0].merged is None  # complete


@pytest.mark.slow
def test_a_part_that_kills_its_workers(cluster, source, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ATTEMPTS", 1)
    with pytest.raises(InputError) as error:
        spread(
            ImageSource("in", source.parts[:1]),
            ["deadly"],
            tmp_path / "ray",
            engine_options=EngineOptions(workers=1),
        )
    assert str(error.value) == (
        "Each worker that processes one part of the source dies.\n"
        "  where:   part 00000 of in, from in/00000.jpg on\n"
        "  got:     1 workers died while running deadly on own\n"
        "  do:      reduce `workers`, so that each has more memory; to see the failure without Ray, "
        "run the part with `shard`=0/1"
    )


@pytest.mark.slow
def test_a_storage_that_is_lost(cluster, source, tmp_path, place):
    """The error of the worker, not one of Ray's; parts that were written stay."""
    tint = find_model("python:mine:tint")
    run(source, tint, tmp_path / "ray", PredictSettings(shard=(0, 3)))

    def lose(kind, told):  # when the driver has read what it needs
        if kind == "model":
            (place / "in").rename(place / "away")

    try:
        with pytest.raises(SourceLostError) as error:
            spread(source, ["tint"], tmp_path / "ray", lose, engine_options=EngineOptions(workers=1))
    finally:
        (place / "away").rename(place / "in")
    assert str(error.value) == (
        "The storage of the images no longer exists.\n"
        "  where:   in\n"
        "  got:     No such file or directory\n"
        "  do:      make it available again, and run the same command again to resume"
    )
    assert [p.name for p in (tmp_path / "ray" / ".parts" / "tint").iterdir()] == ["00000.parquet"]
    done = run(source, tint, tmp_path / "ray", PredictSettings())  # goes on without Ray just as well
    assert (done.n, done.merged.n) == (100, 148)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_an_error_that_nobody_foresaw(source, tmp_path):
    """As an error of the model, with its line, also if the error itself cannot be sent."""
    one = ImageSource("in", source.parts[:1])
    for name, got in (
        ("failing", "RuntimeError: out of something ("),
        ("unsent", "LockedError: out of something else ("),
    ):
        with pytest.raises(InputError, match="The model fails") as error:
            spread(one, [name], tmp_path, engine_options=EngineOptions(workers=1))
        assert error.value.details["got"].startswith(got)
        assert "mine.py, line " in error.value.details["got"]


def test_another_model_on_a_worker(place):
    model = RemoteModel(
        "python:mine:other", PredictSettings(), find_model("python:mine:tint"), Keep(), "own", batch=8
    )
    do = "install the same packages, weights and files on all machines"
    code = f"mine.py {sha256('mine.py')[:16]}"
    with pytest.raises(InputError) as error:
        model.build()
    assert str(error.value) == (
        "A Ray worker has a different model.\n"
        f"  where:   python:mine:other on {platform.node()}\n"
        f"  got:     other, 4 classes {COLOURS.hash}, code {code}\n"
        f"  allowed: tint, 4 classes {COLOURS.hash}, code {code}\n"
        f"  do:      {do}"
    )
    with pytest.raises(InputError) as error:
        replace(model, version="0.0.1").build()
    assert str(error.value) == (
        "A Ray worker has a different version of manyhot.\n"
        f"  where:   python:mine:other on {platform.node()}\n"
        f"  got:     {__version__}\n"
        "  allowed: 0.0.1\n"
        f"  do:      {do}"
    )
    with pytest.raises(InputError) as error:
        replace(model, spec="python:mine:absent").build()
    assert str(error.value).startswith(
        "A Ray worker cannot build the model.\n"
        f"  where:   python:mine:absent on {platform.node()}\n"
        "  got:     "
    )
    assert str(error.value).endswith(f"\n  do:      {do}")


def _children(pid):
    """Return the processes below one, from /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def _is_at_work(pid):
    """Return whether a process is there: not Ray's agents, which try to report for a minute, and then end."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return bool(command) and "Agent" not in command and "agent" not in command


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="absent: /proc, which tells of processes")
def test_a_driver_that_is_killed(place, source, tmp_path, require):
    """With a cluster of its own: no process stays behind, and the run goes on where it was."""
    require(importlib.util.find_spec("ray"), "ray")
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from manyhot.predict.engines import EngineOptions\n"
        "from manyhot.predict.run import PredictSettings\n"
        "from manyhot.predict.ray import run_on_ray\n"
        "from manyhot.predict.sources import Files, ImageSource\n"
        "paths = tuple(f'{i:05}.jpg' for i in range(150))\n"
        "parts = tuple(Files(f'{i:05}', 'in', paths[50 * i :][:50]) for i in range(3))\n"
        f"run_on_ray(ImageSource('in', parts), ['python:mine:slow'], Path({str(tmp_path / 'ray')!r}),"
        " PredictSettings(engine_options=EngineOptions(workers=1)), 'a call')\n"
    )
    driver = predictions.start(folder=tmp_path, script=code)
    until = time.monotonic() + 60
    while not list((tmp_path / "ray").rglob("0*.parquet")):
        assert driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    started = _children(driver.pid)
    assert len(started) > 3
    driver.kill()
    driver.wait()
    until = time.monotonic() + 15
    while alive := [pid for pid in started if _is_at_work(pid)]:
        assert time.monotonic() < until, alive
        time.sleep(0.1)
    assert not (tmp_path / "ray" / "slow.parquet").exists()
    run(source, find_model("python:mine:slow"), tmp_path / "ray", PredictSettings(), "a call")
    assert contents(tmp_path / "ray") == plain(source, ["slow"], tmp_path / "plain")


def test_a_network_in_memory(tint, folder, tmp_path):
    for engine in ("ray", "ray:openvino"):
        with pytest.raises(InputError) as error:
            run(open_source(folder), tint, tmp_path, PredictSettings(engine=engine))
        assert str(error.value) == (
            "Ray needs the name of a model, not a network in memory.\n"
            "  where:   tint\n"
            f"  got:     engine {engine!r}\n"
            "  allowed: manyhot predict --engine ray --model NAME\n"
            "  do:      pass the network by name, such as python:MODULE:FUNCTION for a network "
            "that a function returns"
        )


TWICE = "A model is passed twice.\n  got:     python:mine:{}\n  do:      leave one out"


def test_a_model_twice(source, tmp_path, monkeypatch):
    """Said before a cluster is started or reached, which takes seconds."""
    monkeypatch.setattr(on_ray, "connected", pytest.fail)
    with pytest.raises(InputError) as error:
        spread(source, ["tint", "other", "tint"], tmp_path)
    assert str(error.value) == TWICE.format("tint")


@pytest.mark.slow
def test_two_models_of_one_name(cluster, source, tmp_path):
    """Only known when the second is built."""
    with pytest.raises(InputError) as error:
        spread(source, ["tint", "twin"], tmp_path, engine="own")  # no engine is timed when workers are there
    assert str(error.value) == TWICE.format("twin")


def test_without_ray(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as error:
        spread(source, ["tint"], tmp_path)
    assert str(error.value) == (
        "The engine 'ray' needs ray, which cannot be imported.\n"
        "  got:     import of ray halted; None in sys.modules\n"
        '  do:      pip install "manyhot[ray]"'
    )


class Refusing:
    """Ray that does not connect."""

    exceptions = SimpleNamespace(RayError=PermissionError)

    def __init__(self, error):
        self.error = error

    def is_initialized(self):
        return False

    def init(self, **_):
        raise self.error

    def shutdown(self):
        pass


@pytest.mark.parametrize(
    ("error", "got"),
    [
        (RuntimeError("Version mismatch, of:\n    Ray: 2.9\n"), "Version mismatch, of:; Ray: 2.9"),
        (PermissionError("No token."), "No token."),
        (ConnectionError("Failed to connect.\nAnd more."), "Failed to connect.; And more."),
    ],
)
def test_a_cluster_that_cannot_be_used(monkeypatch, error, got):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError) as raised, on_ray.connected(Refusing(error), None) as connect:
            connect()
    assert str(raised.value) == (
        "The Ray cluster cannot be used from this machine.\n"
        f"  where:   {address}\n"
        f"  got:     {got}\n"
        "  do:      install the same versions of Python and Ray on all machines; if the cluster "
        "requires a token,"
        " set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


def test_nobody_at_the_address(monkeypatch):
    """Said at once: Ray would try for more than five minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError) as error, on_ray.connected(Refusing(None), None) as connect:
        connect()
    assert str(error.value) == (
        "The Ray cluster does not respond at its address.\n"
        "  where:   RAY_ADDRESS\n"
        f"  got:     {address}: Connection refused\n"
        "  do:      start the cluster there with ray start --head, or unset RAY_ADDRESS to start a cluster "
        "here"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, Ray does not read TMPDIR")
def test_paths_of_sockets_are_not_too_long(monkeypatch):
    """Ray fails where its folder, a session's name of 40 characters and a socket's have over 107 bytes."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert on_ray._base() == Path("/var/tmp")
    monkeypatch.setenv("TMPDIR", f"/scratch/{'job' * 20}")
    assert on_ray._base() == Path("/tmp")


def test_a_cluster_that_ray_start_left_here(monkeypatch, tmp_path):
    """Ray's own file tells where; one that was killed left the file, too."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert not on_ray._is_one_here()
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert on_ray._is_one_here()
    assert not on_ray._is_one_here()


def test_what_ray_trips_over():
    error = workers.cannot_go_on(
        RuntimeError("The worker died.\n  ModuleNotFoundError: No module named 'manyhot'\n")
    )
    assert str(error) == (
        "Ray cannot continue.\n"
        "  got:     ModuleNotFoundError: No module named 'manyhot'\n"
        "  do:      install the same packages and files on all machines, check Ray's logs, "
        "and run the same command again to resume"
    )


def test_engines_by_name():
    assert [on_ray.engine_of(n) for n in ("ray", "ray:openvino", "openvino", "auto")] == [
        "auto",
        "openvino",
        None,
        None,
    ]


def test_what_a_worker_gets(monkeypatch):
    def share(machines, limit=None, engine="auto", **more):
        return workers.worker_share(
            machines, SimpleNamespace(**{"forward": None, "file": ""} | more), engine, limit
        )

    Share, two = workers.WorkerShare, [{"CPU": 64.0, "GPU": 8.0}, {"CPU": 4.0}]
    monkeypatch.setattr(workers, "cores", lambda: 16)
    monkeypatch.setattr(workers.torch, "device", lambda: "cpu")
    assert share([{"CPU": 2.0}]) == Share(2, 0, 1)
    assert share(two) == Share(4, 0, 17)
    assert share([{"CPU": 64.0}, {"CPU": 0.0}]) == Share(8, 0, 8)
    assert share([{"CPU": 64.0}], limit=20) == Share(8, 0, 2)
    assert share([{"CPU": 64.0}], limit=2) == Share(2, 0, 1)
    assert share(two, forward=len) == Share(1, 0, 68)
    assert share(two, forward=len, limit=3) == Share(1, 0, 3)
    monkeypatch.setattr(workers.torch, "device", lambda: "cuda")
    assert share(two) == Share(8, 1, 8)
    assert share(two, engine="openvino") == Share(4, 0, 17)
    assert share(two, file="a.onnx") == Share(4, 0, 17)
    assert share([{"CPU": 4.0}]) == Share(4, 0, 1)
