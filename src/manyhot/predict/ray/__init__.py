"""Predict models × parts of a source on Ray: workers score, and this process writes.

Only this process writes files, so that runs resume and merge as they do without Ray, and a cluster needs no
shared disk for its output. All machines must be able to read the images.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from manyhot.core.threads import cores
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.predict.models import find_model
from manyhot.predict.network import Network
from manyhot.predict.predicted_model import PredictedModel
from manyhot.predict.ray.workers import RemoteModel, WorkerPool, worker_share
from manyhot.predict.run import ModelRun, PredictSettings, prepare_run
from manyhot.predict.sources import ImageSource
from manyhot.run import OnEvent

ANSWER_S = 10.0
"""Seconds that a cluster may take to respond: Ray would try for more than five minutes."""

STORE = 256 << 20
"""Bytes of the object store of a local cluster: scored parts in transit."""


def engine_of(name: str) -> str | None:
    """Return the engine that ``ray`` or ``ray:ENGINE`` runs on its workers, or None for other engines."""
    head, _, inner = name.partition(":")
    return (inner or "auto") if head == "ray" else None


def run_on_ray(
    source: ImageSource,
    specs: Sequence[str],
    out: Path,
    settings: PredictSettings,
    call: str = "",
    notify: OnEvent | None = None,
) -> list[PredictedModel]:
    """Run each model on the images of a source, with all parts in parallel on a Ray cluster.

    The cluster is the one at ``RAY_ADDRESS`` or the one that runs on this machine. If there is neither, a
    local cluster is started for the duration of the run.

    Parameters
    ----------
    source, out, call, notify
        See `manyhot.predict.run.run`.
    specs : sequence of str
        See `find_model`.
    settings : PredictSettings
        Settings, in which `engine` is the engine of the Ray workers and `workers` is the total number of
        cores that they use.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    InputError, SourceLostError
        As without Ray, or if a part kills its workers or there is no cluster at the address.
    OutputError
        If the disk is full, or the folder cannot be written to.
    """
    ray = import_ray()
    for i, spec in enumerate(specs):  # before a cluster is started
        if spec in specs[:i]:
            raise _given_twice(spec)
    runs: list[ModelRun] = []
    models: list[RemoteModel] = []
    with connected(ray, settings.engine_options.workers) as connect, contextlib.ExitStack() as at_end:
        for spec in specs:
            network = find_model(spec, settings.classes, **settings.model_options)
            if any(run.network.name == network.name for run in runs):
                raise _given_twice(spec)
            if not runs:
                connect()
                pool = at_end.enter_context(_pool(ray, source, network, settings, len(specs)))
            run, model = _prepared(ray, spec, prepare_run(source, network, out, settings, notify), settings)
            runs.append(run)
            models.append(model)
        return _results(pool, runs, models, call, notify or (lambda *_: None)) if runs else []


def _given_twice(spec: str) -> InputError:
    return InputError("A model is passed twice.", got=spec, do="leave one out")


def _pool(
    ray: Any, source: ImageSource, network: Network, settings: PredictSettings, models: int
) -> contextlib.closing[WorkerPool]:
    """Return workers that start while the first engine is chosen: it takes as long."""
    machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
    share = worker_share(machines, network, settings.engine, settings.engine_options.workers)
    pool = WorkerPool(ray, source, share, models * len(source.parts))
    if settings.engine == "auto":
        pool.wait()  # they would be in the way of what is timed
    return contextlib.closing(pool)


def _prepared(ray: Any, spec: str, run: ModelRun, settings: PredictSettings) -> tuple[ModelRun, RemoteModel]:
    """Return a run without its network, of which there may be hundreds, and what workers build it from."""
    network = replace(run.network, module=None, forward=None)
    model = RemoteModel(spec, settings, network, run.keep)
    if run.choice is None:
        return replace(run, network=network), model
    engine = run.choice.engine
    export = getattr(engine, "export", None)
    exported = ray.put(export()) if export else None
    model = replace(model, engine=engine.name, batch=engine.batch, exported=exported)
    about: Any = SimpleNamespace(
        name=engine.name, device=engine.device, precision=engine.precision, workers=engine.workers
    )
    return replace(run, network=network, choice=replace(run.choice, engine=about)), model


def _results(
    pool: WorkerPool, runs: Sequence[ModelRun], models: Sequence[RemoteModel], call: str, tell: OnEvent
) -> list[PredictedModel]:
    """Give the parts of all models to Ray workers, and write the results."""
    left = [len(run.missing) for run in runs]
    results: dict[int, PredictedModel] = {}

    def finish(i: int) -> None:
        if not left[i]:
            results[i] = runs[i].finish(call)
            tell("done", {"model": runs[i].network.name, "done": results[i]})

    for i, run in enumerate(runs):
        run.start()
        finish(i)
    for i, scored, seconds in pool.scored(models, [run.missing for run in runs]):
        runs[i].write(scored)
        runs[i].seconds.add(seconds)
        tell("progress", runs[i].progress(runs[i].n))
        left[i] -= 1
        finish(i)
    return [results[i] for i in range(len(runs))]


def import_ray() -> Any:
    """Import Ray with its usage reports switched off.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # of parts that nobody waits for after the first error
    return required("ray", "The engine 'ray'", '"manyhot[ray]"')


@contextlib.contextmanager
def connected(ray: Any, workers: int | None, store: int = STORE) -> Iterator[Callable[[], None]]:
    """Yield a function that waits for the connection to a cluster, and stop a local cluster at the end.

    A local cluster has an object store of `store` bytes.
    """
    if ray.is_initialized():  # the caller's, who will close it
        yield lambda: None
        return
    logs = tempfile.TemporaryDirectory(prefix="mh-", dir=_base(), ignore_cleanup_errors=True)
    with logs, ThreadPoolExecutor(1) as beside:
        # It takes 3 s, as importing PyTorch does.
        connecting = beside.submit(_connect, ray, workers, store, logs.name)
        try:
            yield connecting.result
        finally:
            wait([connecting])
            ray.shutdown()


def _connect(ray: Any, workers: int | None, store: int, logs: str) -> None:
    """Connect to the cluster of ``RAY_ADDRESS``, to that of ``ray start``, or start one.

    Not to one that another program started for itself, which address="auto" would find.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if why_not := _silent(address):
        raise InputError(
            "The Ray cluster does not respond at its address.",
            where="RAY_ADDRESS",
            got=f"{address}: {why_not}",
            do="start the cluster there with ray start --head, or unset RAY_ADDRESS to start a cluster here",
        )
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address in ("", "local") and not _is_one_here():
        options |= {"address": "local", "num_cpus": workers or cores(), "object_store_memory": store}
        options |= {"include_dashboard": False, "_temp_dir": logs}
    try:
        ray.init(**options)
    except (RuntimeError, ConnectionError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(
            "The Ray cluster cannot be used from this machine.",
            where=address or "this machine",
            got="; ".join(line.strip() for line in str(error).splitlines() if line.strip()),
            do="install the same versions of Python and Ray on all machines; if the cluster requires a token,"
            " set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
        ) from error


def _silent(address: str) -> str:
    """Return the reason why an address does not respond; empty if it does, or is not an address."""
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


_LONGEST_BASE = 30


def _base() -> Path:
    """Return the folder below which Ray has its own.

    The path of a socket has at most 107 bytes, and Ray adds 75. So `TMPDIR` is used only if it is short.
    """
    default = os.environ.get("TMPDIR", "/tmp") if sys.platform == "linux" else "/tmp"  # noqa: S108  # as Ray
    default = default if len(os.fsencode(default)) <= _LONGEST_BASE else "/tmp"  # noqa: S108
    return Path(os.environ.get("RAY_TMPDIR", default))
