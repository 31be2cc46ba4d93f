"""How well do the features serve something else? The backbone stays as it is, and heads are fitted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from networks import engine_of

from manyhot.study import Measurement, RunMeasure, StudyMetric, StudyRun
from manyhot.train.transfer.transfer import transfer

METRICS = (
    StudyMetric("knn_top1", "k-NN accuracy on another data set", percent=True),
    StudyMetric("probe_top1", "linear-probe accuracy on another data set", percent=True),
    StudyMetric("few_shot_top1", "ten-shot accuracy on another data set", percent=True),
    StudyMetric("probe_map", "linear-probe mean average precision on another data set", percent=True),
    StudyMetric("segmentation_miou", "mean IoU of segmenting VOC", percent=True),
    StudyMetric("detection_ap50", "AP50 of detection on VOC", percent=True),
)

_FEATURES = {
    "knn": ("knn/top1", "knn_top1", {}),
    "probe": ("probe/top1", "probe_top1", {"penalty": 0.03}),
    "few-shot": ("few-shot/top1(shots=10)", "few_shot_top1", {"shots": (10,), "draws": 3}),
    "multilabel": ("multilabel/map_macro(masked=True)", "probe_map", {"penalty": 0.03}),
}

_MAPS = {
    "segmentation": ("segmentation/miou", "segmentation_miou", {"size": 128, "epochs": 4}),
    "detection": ("detection/ap50", "detection_ap50", {"size": 128, "epochs": 4}),
}

RESAMPLES = 100


def take(run: StudyRun) -> Iterator[Measurement]:
    """Fit heads on the other data set, and on VOC with boxes and masks."""
    other, dense = run.data / "transfer", run.data / "dense"
    for method, (metric, name, settings) in _FEATURES.items():
        yield _taken(
            run,
            method,
            metric,
            name,
            settings,
            source=other / "images-all.parquet",
            labels=other / "labels-all.parquet",
            classes=other / "classes.txt",
            split=other / "split.parquet",
        )
    for method, (metric, name, settings) in _MAPS.items():
        yield _taken(
            run,
            method,
            metric,
            name,
            {**settings, **({"size": 64, "epochs": 1} if run.smoke else {})},
            source=dense / "images.parquet",
            objects=dense / "objects.parquet",
            masks=dense / "images.parquet" if method == "segmentation" else None,
            classes=dense / "classes.txt",
            split=dense / "images.parquet",
        )


def _taken(
    run: StudyRun, method: str, metric: str, name: str, settings: dict, source: object, **given: object
) -> Measurement:
    found = transfer(
        source,
        {run.arm: f"trained:{run.model}"},
        out=run.folder / "predictions" / ("features" if method in _FEATURES else method),
        method=method,
        settings=settings,
        resamples=RESAMPLES,
        engine=engine_of(run),
        **given,
    )
    (row,) = (r for r in found.results.to_pylist() if r["metric"] == metric and r["slice"] == "all")
    drawn = [r["values"] for r in found.samples.to_pylist() if r["metric"] == metric and r["slice"] == "all"]
    return Measurement(name, row["value"], row["n"], replicates=np.array(drawn[0]) if drawn else None)


TRANSFER = RunMeasure(
    "transfer",
    "Heads on the network as it is: for images of the other data set, and for boxes and masks of VOC.",
    take,
    METRICS,
)
