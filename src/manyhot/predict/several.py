"""Predict with several models, which decode each image once together, and each of which may fail alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from manyhot.errors import ManyhotError, OutputError, UnknownNameError
from manyhot.formats.reading import reading
from manyhot.predict.models import find_model, list_models
from manyhot.predict.network import Network
from manyhot.predict.predicted_model import PredictedModel
from manyhot.predict.run import ModelRun, PredictSettings, predict_runs, prepare_run
from manyhot.predict.sources import ImageSource, SourceLostError
from manyhot.run import OnEvent

WEIGHTS_AT_ONCE = 1 << 30
"""Bytes of the weights of models that predict together, unless one has more by itself."""

_FATAL = (OutputError, SourceLostError)
"""Errors that every other model would meet."""


@dataclass(frozen=True)
class FailedModel:
    """A model that failed, and the error."""

    model: str
    error: ManyhotError


Outcome = PredictedModel | FailedModel


def names_of(models: Sequence[str]) -> list[str]:
    """Return the names of models, with patterns and text files (one name per line) expanded.

    Raises
    ------
    UnknownNameError
        If no model matches a pattern.
    InputError
        If a file cannot be read.
    """
    names: list[str] = []
    for model in models:
        plain = not any(c in model for c in ":(")  # a path, or options
        if plain and model.endswith(".txt"):
            with reading(Path(model)):
                lines = Path(model).read_text(encoding="utf-8-sig").splitlines()
            names += names_of([line.strip() for line in lines if line.strip()])
        elif plain and any(c in model for c in "*?["):
            found = [listed.name for listed in list_models(model).models]
            if not found:
                do = "look for the name with 'manyhot models'"
                raise UnknownNameError("No model matches the pattern.", got=model, do=do)
            names += found
        else:
            names.append(model)
    return list(dict.fromkeys(names))


def predict_models(
    source: ImageSource,
    names: Sequence[str],
    out: Path,
    settings: PredictSettings,
    call: str = "",
    notify: OnEvent | None = None,
) -> Iterator[Outcome]:
    """Run each of several models on the images of a source, and yield the outcomes.

    Models with up to `WEIGHTS_AT_ONCE` bytes of weights in total run at the same time, so that each image is
    decoded only once for all of them. If a model fails, the other models continue.

    Raises
    ------
    ManyhotError
        See `manyhot.predict.run.run`. The error of a model is raised only if no model could predict.
    """
    tell = notify or (lambda *_: None)
    first: ManyhotError | None = None
    failed = 0
    for group in _groups(source, names, out, settings, tell):
        for outcome in group if isinstance(group, tuple) else _predicted(group, out, settings, call, tell):
            if isinstance(outcome, FailedModel):
                first, failed = first or outcome.error, failed + 1
                if failed == len(names):
                    raise first
            yield outcome


def networks_together(networks: Sequence[Network]) -> Iterator[list[Network]]:
    """Yield groups of networks, in order, with up to `WEIGHTS_AT_ONCE` bytes of weights per group."""
    group: list[Network] = []
    for network in networks:
        if group and sum(map(_weights, [*group, network])) > WEIGHTS_AT_ONCE:
            yield group
            group = []
        group.append(network)
    yield group


def _groups(
    source: ImageSource, names: Sequence[str], out: Path, settings: PredictSettings, tell: OnEvent
) -> Iterator[list[ModelRun] | tuple[FailedModel]]:
    """Yield models that predict at the same time, and those that cannot begin."""
    group: list[ModelRun] = []
    taken = 0
    for name in names:
        try:
            network = find_model(name, settings.classes, **settings.model_options)
            more = _weights(network)
            own = settings
            if settings.engine_options.features and not network.has_features and len(names) > 1:
                own = _with_features(settings, False)
                note = f"{network.name}: no embeddings, because its penultimate features are unknown"
                network = replace(network, notes=(*network.notes, note))
            # Of two models of one name, the second must find the predictions of the first, to be refused.
            again = network.name in {job.network.name for job in group}
            if group and (again or taken + more > WEIGHTS_AT_ONCE):
                yield group
                group, taken = [], 0
            group.append(prepare_run(source, network, out, own, tell))
            taken += more
        except _FATAL:
            raise
        except ManyhotError as error:
            yield (FailedModel(name, error),)
    yield group


def _with_features(settings: PredictSettings, features: bool) -> PredictSettings:
    return replace(settings, engine_options=replace(settings.engine_options, features=features))


def _weights(network: Network) -> int:
    """Return the bytes of a network's weights, as far as they are known."""
    if network.module is not None:
        return sum(p.nbytes for p in network.module.parameters())
    return Path(network.file).stat().st_size if network.file else 0


def _predicted(
    group: Sequence[ModelRun], out: Path, settings: PredictSettings, call: str, tell: OnEvent
) -> Iterator[Outcome]:
    """Predict with models at the same time, or if one fails, with one after the other."""
    try:
        list(predict_runs(group, tell))
    except _FATAL:
        raise
    except ManyhotError as error:
        if len(group) == 1:
            yield FailedModel(group[0].network.name, error)
            return
        for job in group:  # the parts that were written stay
            try:
                own = _with_features(settings, job.identity.embeddings)
                again = prepare_run(job.source, job.network, out, own, None, job.choice)
            except _FATAL:
                raise
            except ManyhotError as its_own:
                yield FailedModel(job.network.name, its_own)
                continue
            yield from _predicted([again], out, settings, call, tell)
        return
    for job in group:
        yield _finished(job, call)


def _finished(job: ModelRun, call: str) -> Outcome:
    """Merge the parts of a model; if they do not match, those of the others may."""
    try:
        return job.finish(call)
    except _FATAL:
        raise
    except ManyhotError as error:
        return FailedModel(job.network.name, error)
