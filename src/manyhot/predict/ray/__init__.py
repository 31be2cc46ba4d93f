"""Models × parts of a source on Ray: workers score, this process writes.

Only this process writes files, so that runs are resumed and merged as they are without Ray, and a cluster
needs no disk that all of its machines see; what it reads must be in reach of all of them.

The cluster: reached or started, and kept quiet.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.predict.engines import Choice, Engine, Precision
from manyhot.predict.engines.base import cores
from manyhot.predict.find import find_model
from manyhot.predict.network import Network
from manyhot.predict.ray.workers import Pool, Recipe, share_of
from manyhot.predict.run import Done, Job, Notify, Settings, prepare
from manyhot.predict.sources import Source

NAME = "ray"


def engine_of(name: str) -> str | None:
    """Return which engine ``ray`` or ``ray:ENGINE`` runs on its workers; None for an engine without Ray."""
    head, _, inner = name.partition(":")
    return (inner or "auto") if head == NAME else None


def run_on_ray(
    source: Source,
    specs: Sequence[str],
    out: Path,
    settings: Settings,
    call: str = "",
    notify: Notify | None = None,
) -> list[Done]:
    """Predict the images of a source with each model, all parts of all models at once, on a cluster.

    The cluster is the one that ``RAY_ADDRESS`` names, or that runs on this machine; else one is started here,
    for as long as the run takes.

    Parameters
    ----------
    source : Source
    specs : sequence of str
        See `find_model`.
    out : Path
    settings : Settings
        Its engine is that of the workers; its workers are the cores that they take together.
    call : str
    notify : callable, optional

    Returns
    -------
    list of Done
        In the order of `specs`.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    InputError, SourceLostError
        As without Ray; or a part kills its workers, or there is no cluster at the address.
    OutputError
        The disk is full, or the folder cannot be written to.
    """
    ray = load()
    for i, spec in enumerate(specs):  # before a cluster is started
        if spec in specs[:i]:
            raise _given_twice(spec)
    with connected(ray, settings.workers) as connect:
        run = _Run(ray, connect, source, out, settings, notify or (lambda *_: None))
        try:
            return run.done(specs, call)
        finally:
            run.close()


@dataclass
class _Run:
    """A source on a cluster."""

    ray: Any
    connect: Callable[[], None]
    source: Source
    out: Path
    settings: Settings
    tell: Notify
    pool: Pool | None = None

    def done(self, specs: Sequence[str], call: str) -> list[Done]:
        """Prepare all models, give their parts to workers, and write what comes."""
        jobs, recipes = self._prepared(specs)
        left = [len(job.missing) for job in jobs]
        done: dict[int, Done] = {}

        def finish(i: int) -> None:
            done[i] = jobs[i].finish(call)
            self.tell("done", {"model": jobs[i].network.name, "done": done[i]})

        for i, job in enumerate(jobs):
            job.start()
            if not left[i]:
                finish(i)
        missing = [[part.name for part in job.missing] for job in jobs]
        for i, scored, seconds in self.pool.scored(recipes, missing) if self.pool else ():
            jobs[i].write(scored)
            jobs[i].seconds.add(seconds)
            self.tell("progress", jobs[i].progress(jobs[i].n))
            left[i] -= 1
            if not left[i]:
                finish(i)
        return [done[i] for i in range(len(jobs))]

    def close(self) -> None:
        """Let the workers go."""
        if self.pool is not None:
            self.pool.close()

    def _prepared(self, specs: Sequence[str]) -> tuple[list[Job], list[Recipe]]:
        """Return what is left of each model, without the network: there may be hundreds."""
        jobs: list[Job] = []
        recipes: list[Recipe] = []
        for spec in specs:
            network = find_model(spec, self.settings.classes)
            if any(job.network.name == network.name for job in jobs):
                raise _given_twice(spec)
            self._call_workers(network, len(specs))
            job = prepare(self.source, network, self.out, self.settings, self.tell)
            light = replace(network, module=None, forward=None)
            recipe = Recipe(spec, self.settings.classes, light, job.keep)
            if job.choice is not None:
                recipe = replace(recipe, **_sent(self.ray, job.choice, self.settings))
                job = replace(job, choice=replace(job.choice, engine=_Elsewhere.of(job.choice.engine)))
            recipes.append(recipe)
            jobs.append(replace(job, network=light))
        return jobs, recipes

    def _call_workers(self, network: Network, models: int) -> None:
        """Have workers come while the first engine is chosen: it takes as long, and tells how wide."""
        if self.pool is not None:
            return
        self.connect()
        machines = [machine["Resources"] for machine in self.ray.nodes() if machine["Alive"]]
        share = share_of(machines, network, self.settings.engine, self.settings.workers)
        self.pool = Pool(self.ray, self.source, share, models * len(self.source.parts))
        if self.settings.engine == "auto":
            self.pool.wait()  # they would be in the way of what is timed


def _given_twice(spec: str) -> InputError:
    return InputError("A model is given twice.", got=spec, do="leave one out")


def _sent(ray: Any, choice: Choice, settings: Settings) -> dict[str, Any]:
    export = getattr(choice.engine, "export", None)
    return {
        "engine": choice.engine.name,
        "precision": settings.precision,
        "features": settings.embeddings,
        "batch": choice.engine.batch,
        "exported": ray.put(export()) if export else None,
    }


@dataclass(frozen=True)
class _Elsewhere:
    """What is told of an engine that runs on workers."""

    name: str
    device: str
    precision: Precision
    workers: int
    batch: int

    @classmethod
    def of(cls, engine: Engine) -> _Elsewhere:
        """Return what is told of an engine."""
        return cls(engine.name, engine.device, engine.precision, engine.workers, engine.batch)

    def __call__(self, images: Any) -> Any:
        """Refuse: it is elsewhere."""
        raise NotImplementedError


STORE = 256 << 20
"""Bytes of the object store of a local cluster: scored parts that are on their way."""


ANSWER_S = 10.0
"""Seconds that a cluster may take to answer."""


_SHELLS: list[subprocess.Popen[bytes]] = []


def load() -> Any:
    """Import Ray so that it reports to nobody.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    return required("ray", "The engine 'ray'", '"manyhot[ray]"')


@contextlib.contextmanager
def connected(ray: Any, workers: int | None) -> Iterator[Callable[[], None]]:
    """Yield what waits for the connection to a cluster; one that is started here ends with it."""
    if ray.is_initialized():  # the caller's, who will close it
        yield lambda: None
        return
    stderr = os.dup(2)
    beside = ThreadPoolExecutor(1)  # 3 s, as importing PyTorch takes
    connecting = beside.submit(_connect, ray, workers)
    try:
        yield connecting.result
    except KeyboardInterrupt:
        # Starting and ending a cluster takes 5 s. What is not done after one ends when this process does.
        beside.shutdown(wait=False)
        if sys.stderr is sys.__stderr__:  # of which Ray may have taken hold, see `_hushed`
            sys.stderr = os.fdopen(stderr, "w", buffering=1)
        closing = threading.Thread(target=_close, args=(ray, connecting), daemon=True)
        closing.start()
        closing.join(1)
        raise
    except BaseException:
        _close(ray, connecting, stderr)
        raise
    _close(ray, connecting, stderr)


def _close(ray: Any, connecting: Future[None], *descriptors: int) -> None:
    wait([connecting])
    ray.shutdown()
    for descriptor in descriptors:
        os.close(descriptor)


def _folder_until_the_end() -> str:
    """Return a folder for the logs of a cluster, some 40 files, that is removed when this process ends.

    However it ends, kill -9 included: a shell waits for it, and gives Ray's processes time to end too.
    """
    # A short name: the paths of sockets in it have 107 characters at most.
    folder = tempfile.mkdtemp(prefix="mh-", dir=_base())
    waiting = ["sh", "-c", 'cat; sleep 3; rm -rf "$0"', folder]
    quiet = subprocess.DEVNULL
    _SHELLS.append(  # kept, with the pipe that it waits at
        subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)  # noqa: S603
    )
    return folder


def _connect(ray: Any, workers: int | None) -> None:
    """Connect to the cluster of ``RAY_ADDRESS``, to that of ``ray start``, or start one.

    Not to one that another program started for itself, which address="auto" would find.
    """
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS", "")
    if why_not := _silent(address):
        raise InputError(
            "Nobody answers at the address of the Ray cluster.",
            where="RAY_ADDRESS",
            got=f"{address}: {why_not}",
            do="start it there with ray start --head, or unset RAY_ADDRESS to start one here",
        )
    own: dict[str, Any] = {"num_cpus": workers or cores(), "object_store_memory": STORE}
    with _hushed():
        try:
            if address not in ("", "local") or _is_one_here():
                ray.init(**quiet)
            else:
                own |= {"include_dashboard": False, "_temp_dir": _folder_until_the_end()}
                ray.init(address="local", **own, **quiet)
        except (RuntimeError, ConnectionError, ValueError, ray.exceptions.RayError) as error:
            raise InputError(
                "The Ray cluster cannot be used from here.",
                where=address or "this machine",
                got="; ".join(line.strip() for line in str(error).splitlines() if line.strip()),
                do="give all machines the same Python and the same Ray; where the cluster asks for a token,"
                " set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
            ) from error


def _silent(address: str) -> str:
    """Return why nobody answers at an address; empty where somebody does, or it is none.

    Ray would try for more than five minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():  # not auto or local
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _is_one_here() -> bool:
    """Return whether ``ray start`` left a cluster on this machine, and it is still there."""
    try:
        address = (_base() / "ray" / "ray_current_cluster").read_text().strip()
    except OSError:
        return False
    return bool(address) and not _silent(address)


def _base() -> Path:
    """Return the folder below which Ray has its own."""
    default = os.environ.get("TMPDIR", "/tmp") if sys.platform == "linux" else "/tmp"  # noqa: S108  # as Ray
    return Path(os.environ.get("RAY_TMPDIR", default))


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep Ray's C++ from printing to standard error, now and later.

    It reads its level here, of which it tells at once; and it prints an error about each pool of workers that
    is none. Neither goes through Python.
    """
    name = "RAY_BACKEND_LOG_LEVEL"
    if name in os.environ:  # somebody wants to see it
        yield
        return
    os.environ[name] = "fatal"
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        del os.environ[name]
