"""Models × parts of a source on Ray Data: workers score, this process writes.

Only this process writes files, so that runs are resumed and merged as they are without Ray, and a cluster
needs no disk that all of its machines see; what it reads must be in reach of all of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import traceback
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList
from manyhot.errors import InputError, ManyhotError
from manyhot.models.engines import Choice, Engine, Precision, build
from manyhot.models.engines.base import cores
from manyhot.models.engines.openvino_engine import restore
from manyhot.models.extras import required
from manyhot.models.find import find_model
from manyhot.models.job import Done, Job, Notify, Settings, prepare
from manyhot.models.network import Network
from manyhot.models.scored import Keep, Scored, Seconds, score_parts
from manyhot.models.sources import Part, Source

NAME = "ray"

ATTEMPTS = 3
"""How often a part is begun when its workers die. Ray itself would go on for ever."""

BUILT = 2
"""Networks that a worker keeps: one model ends where the next begins."""

BLOCKS = 10_000
"""Of the dataset. A block for each part is best, but Ray grows slow with hundreds of thousands of them."""

STORE = 256 << 20
"""Bytes of the object store of a local cluster: scored parts that are on their way."""


def engine_of(name: str) -> str | None:
    """Return which engine ``ray`` or ``ray:ENGINE`` runs on its workers; None for an engine without Ray."""
    head, _, inner = name.partition(":")
    return (inner or "auto") if head == NAME else None


@dataclass(frozen=True)
class Recipe:
    """How a worker comes to its network and engine.

    Attributes
    ----------
    spec : str
        As for `find_model`.
    classes : ClassList, optional
    network : Network
        Without what computes it.
    keep : Keep
    engine : str
    precision : Precision
    features : bool
    batch, workers : int
    exported : ray.ObjectRef, optional
        Of the engine, where it can be sent: the worker builds and converts nothing then.
    """

    spec: str
    classes: ClassList | None
    network: Network
    keep: Keep
    engine: str = ""
    precision: Precision = Precision.f32
    features: bool = False
    batch: int = 0
    workers: int = 1
    exported: Any = None

    def build(self) -> tuple[Network, Engine]:
        """Build the network, and the engine that runs it.

        Raises
        ------
        InputError
            It is another model here.
        """
        torch = required("torch", "A worker of Ray")
        torch.set_num_threads(1)  # as threads without Ray have it; sums of another order round otherwise
        if self.exported is not None:
            import ray

            exported = ray.get(self.exported)
            engine = restore(exported, self.precision, self.features, self.workers, self.batch)
            return self.network, engine
        network = find_model(self.spec, self.classes)
        if (network.name, network.classes.hash) != (self.network.name, self.network.classes.hash):
            raise InputError(
                "The model is another one on a worker of Ray.",
                where=self.spec,
                got=f"{network.name}, {len(network.classes):,} classes",
                allowed=f"{self.network.name}, {len(self.network.classes):,} classes",
                do="give all machines the same files and the same versions of their packages",
            )
        engine = build(
            self.engine,
            network,
            precision=self.precision,
            features=self.features,
            workers=self.workers,
            batch=self.batch,
        )
        return network, engine


class Ledger:
    """Counts how often a part was begun, outside of the workers that die with their counts."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[int, int]] = Counter()

    def begin(self, model: int, part: int) -> int:
        """Return how often this part was begun, with this time."""
        self._begun[model, part] += 1
        return self._begun[model, part]

    def end(self, model: int, part: int) -> None:
        """Forget a part that is done: Ray may do it again when another part of its block kills the worker."""
        del self._begun[model, part]


class Worker:
    """Scores parts in a process of its own, with one network after the other.

    Parameters
    ----------
    recipes : sequence of Recipe
    parts : sequence of ray.ObjectRef
        Of the source; small references, for all parts of ImageNet are 100 MB of paths.
    ledger : actor handle of Ledger
    uri, folder : str
        The source, for messages, and the current folder, for relative paths.
    """

    def __init__(
        self, recipes: Sequence[Recipe], parts: Sequence[Any], ledger: Any, uri: str, folder: str
    ) -> None:
        self._recipes, self._parts, self._ledger, self._uri = recipes, parts, ledger, uri
        self._built: OrderedDict[int, tuple[Network, Engine]] = OrderedDict()
        with contextlib.suppress(OSError):  # another machine need not have it
            os.chdir(folder)

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return what came of a part, or the error that it ended with, as bytes."""
        model, part = int(rows["model"][0]), int(rows["part"][0])
        try:
            result: Any = self._score(model, part)
        except Exception as error:
            # As a value: Ray would wrap it, and print it.
            result = _picklable(error)
        return {"model": [model], "result": [pickle.dumps(result)]}

    def _score(self, model: int, part: int) -> tuple[Scored, Seconds]:
        import ray

        attempt = ray.get(self._ledger.begin.remote(model, part))
        images: Part = ray.get(self._parts[part])
        if attempt > ATTEMPTS:
            raise _deadly(self._uri, self._recipes[model], images, part, len(self._parts))
        network, engine = self._network(model)
        seconds = Seconds()
        (scored,) = score_parts([images], network, engine, self._recipes[model].keep, seconds=seconds)
        self._ledger.end.remote(model, part)
        return scored, seconds

    def _network(self, model: int) -> tuple[Network, Engine]:
        if model not in self._built:
            while len(self._built) >= BUILT:
                self._built.popitem(last=False)
            self._built[model] = self._recipes[model].build()
        self._built.move_to_end(model)
        return self._built[model]


def _picklable(error: Exception) -> Exception:
    """Return an error that survives the way back; one that nobody foresaw with where it came from."""
    if not isinstance(error, ManyhotError):
        error.add_note(f"On a worker of Ray:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:
        return RuntimeError(f"{type(error).__name__} on a worker of Ray: {error}\n{traceback.format_exc()}")
    return error


def _deadly(uri: str, recipe: Recipe, part: Part, number: int, of: int) -> InputError:
    first = next((item.uri for item, _ in part.items()), "no images")
    return InputError(
        "A part of the source kills each worker that predicts it.",
        where=f"part {part.name} of {uri}, from {first} on",
        got=f"{ATTEMPTS} workers died, with {recipe.network.name} on {recipe.engine}",
        do="give workers more memory by fewer --workers; to see it die by itself, run it without Ray,"
        f" with --shard {number}/{of}",
    )


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
        Its engine is that of the workers; its workers are the processes, by default one a core.
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
    tell = notify or (lambda *_: None)
    with _cluster(ray, settings.workers) as connect:
        jobs, recipes = _prepared(ray, connect, source, specs, out, settings, tell)
        return _run(ray, source, jobs, recipes, settings.workers, call, tell)


def _run(
    ray: Any,
    source: Source,
    jobs: Sequence[Job],
    recipes: Sequence[Recipe],
    workers: int | None,
    call: str,
    tell: Notify,
) -> list[Done]:
    left = [len(job.missing) for job in jobs]
    done = {i: job.finish(call) for i, job in enumerate(jobs) if not left[i]}
    for job in jobs:
        job.start()
    for i, scored, seconds in _scored(ray, source, jobs, recipes, workers) if any(left) else ():
        jobs[i].write(scored)
        jobs[i].seconds.add(seconds)
        tell("progress", jobs[i].progress(jobs[i].n))
        left[i] -= 1
        if not left[i]:
            done[i] = jobs[i].finish(call)
            tell("done", {"model": jobs[i].network.name})
    return [done[i] for i in range(len(jobs))]


def load() -> Any:
    """Import Ray so that it reports to nobody.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = required("ray", "The engine 'ray'", '"manyhot[ray]"')
    required("ray.data", "The engine 'ray'", '"manyhot[ray]"')
    return ray


def _prepared(
    ray: Any,
    connect: Callable[[], None],
    source: Source,
    specs: Sequence[str],
    out: Path,
    settings: Settings,
    tell: Notify,
) -> tuple[list[Job], list[Recipe]]:
    """Return what is left of each model, without the network: there may be hundreds."""
    jobs: list[Job] = []
    recipes: list[Recipe] = []
    for spec in specs:
        network = find_model(spec, settings.classes)
        if any(job.network.name == network.name for job in jobs):
            raise InputError("A model is given twice.", got=spec, do="leave one out")
        connect()  # before engines are timed
        job = prepare(source, network, out, settings, tell)
        light = replace(network, module=None, forward=None)
        if job.choice is not None:
            recipe = Recipe(spec, settings.classes, light, job.keep, **_sent(ray, job.choice, settings))
            job = replace(job, choice=replace(job.choice, engine=_Elsewhere.of(job.choice.engine)))
        else:
            recipe = Recipe(spec, settings.classes, light, job.keep)
        recipes.append(recipe)
        jobs.append(replace(job, network=light))
    return jobs, recipes


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


@contextlib.contextmanager
def _cluster(ray: Any, workers: int | None) -> Iterator[Callable[[], None]]:
    """Yield what waits for the connection to a cluster; one that is started here ends with it."""
    if ray.is_initialized():  # the caller's, who will close it
        yield lambda: None
        return
    with ThreadPoolExecutor(1) as beside:  # 3 s, as importing PyTorch takes
        connecting = beside.submit(_connect, ray, workers)
        try:
            yield connecting.result
        finally:
            wait([connecting])
            ray.shutdown()


def _connect(ray: Any, workers: int | None) -> None:
    """Connect to the cluster of ``RAY_ADDRESS``, to that of ``ray start``, or start one.

    Not to one that another program started for itself, which address="auto" would find.
    """
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    own = {"num_cpus": workers or cores(), "object_store_memory": STORE, "include_dashboard": False}
    address = os.environ.get("RAY_ADDRESS")
    with _hushed():
        try:
            try:
                ray.init(**own, **quiet)
            except ValueError:  # so it says of a cluster that is there already, and has its own numbers
                ray.init(**quiet)
        except (ConnectionError, ValueError) as error:
            if address:
                raise _unreachable(address, error) from error
            ray.init(address="local", **own, **quiet)  # what ray start left is not there any more


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


def _unreachable(address: str, error: Exception) -> InputError:
    return InputError(
        "There is no Ray cluster at this address.",
        where="RAY_ADDRESS",
        got=address,
        allowed=str(error).partition("\n")[0] or None,
        do="start it there with ray start --head, or unset RAY_ADDRESS to start one here",
    )


def _scored(
    ray: Any, source: Source, jobs: Sequence[Job], recipes: Sequence[Recipe], workers: int | None
) -> Iterator[tuple[int, Scored, Seconds]]:
    """Yield the number of a model and what came of a part, as they come."""
    numbers = {part.name: i for i, part in enumerate(source.parts)}
    rows = [{"model": i, "part": numbers[p.name]} for i, job in enumerate(jobs) for p in job.missing]
    share = _share(ray.cluster_resources(), any(j.choice and j.choice.engine.device == "cuda" for j in jobs))
    blocks = min(len(rows), BLOCKS)
    size = max(1, min(blocks, workers or share.count))
    ledger = ray.remote(num_cpus=0)(Ledger).remote()
    given = (
        [replace(recipe, workers=share.cpus) for recipe in recipes],
        [ray.put(part) for part in source.parts],
        ledger,
        source.uri,
        str(Path.cwd()),
    )
    with _settings(ray):
        results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_args=given,
            batch_size=1,
            # One at a time: parts take seconds, and one that waits at a worker waits for nothing at the end.
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
        )
        for row in _until_it_fails(ray, results.iter_rows()):
            result = pickle.loads(row["result"])  # noqa: S301  # of our own workers
            if isinstance(result, Exception):
                raise result
            yield row["model"], *result


def _until_it_fails(ray: Any, rows: Iterator[Any]) -> Iterator[Any]:
    """Yield rows; what Ray itself trips over, such as a machine without manyhot, becomes an error of ours."""
    try:
        yield from rows
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ManyhotError(
            "Ray cannot go on.",
            got=lines[-1] if lines else type(error).__name__,
            do="each machine needs the same manyhot and what the models need; look into Ray's logs for more,"
            " and run the same command again: it goes on here",
        ) from error


@dataclass(frozen=True)
class _Share:
    """Of a cluster for each worker, and how many workers there can be."""

    cpus: int
    gpus: int
    count: int


def _share(resources: Mapping[str, float], gpu: bool) -> _Share:
    """Return a core for each worker; where the engine runs on GPUs, one of these and its part of cores."""
    cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if not gpu or not gpus:
        return _Share(1, 0, cpus)
    return _Share(max(1, cpus // gpus), 1, gpus)


@contextlib.contextmanager
def _settings(ray: Any) -> Iterator[None]:
    """Ray Data without a word, sending each part as soon as it is there; in the end as it was before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it sets what it calls deprecated itself
        context = ray.data.DataContext.get_current()
    wanted = {"enable_progress_bars": False, "print_on_execution_start": False, "target_max_block_size": 1}
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    said = {
        h: h.level for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)
    }
    for name in before:
        setattr(context, name, wanted[name])
    for handler in said:
        handler.setLevel(logging.CRITICAL)  # what matters comes back as an error
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for handler, level in said.items():
            handler.setLevel(level)
