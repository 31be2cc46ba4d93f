"""The options of `manyhot.evaluate`: each is declared and documented here, and read from one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Self

from manyhot.command import check_fields
from manyhot.core.array_types import Bools
from manyhot.core.resampling import Bootstrap
from manyhot.errors import UsageError
from manyhot.evaluate.class_thresholds import ThresholdsLike
from manyhot.evaluate.clusters import ClustersLike, clusters_of
from manyhot.evaluate.compared_pairs import CompareWith
from manyhot.parameters import RESAMPLES, AtLeast, Between, OptionName, Resamples, Seed, Shown
from manyhot.tables import Images, Labels

MAX_MAP_RESAMPLES = 200
"""Bound on `map_resamples`: each sorts all scores again."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `manyhot.evaluate`, which are the same for all data sets.

    Attributes
    ----------
    metrics
        Name of a metric, or a call string such as 'jaccard(threshold=0.5)'. By default, rank metrics, and
        score metrics for models with scores of all classes; if there are no original labels, these models get
        only mAP and F1.
    thresholds
        Thresholds of the classes for metrics that need one, such as f1_macro: the file that manyhot diagnose
        classes wrote for other images, such as a validation split, or a table with the columns class,
        threshold and optionally model, on the scale of the scores. In Python, also the result of
        diagnose_classes, a data frame, or a mapping of classes to thresholds, or of models to such mappings.
        By default, the threshold is a probability of 0.5.
    slices
        Additional subsets of images to evaluate: by original label (class=KEY, or class for all classes), or
        by a column of the images table (COLUMN for all its values, COLUMN=VALUE, 'COLUMN>=VALUE', COLUMN=*
        for images with a value, or COLUMN= for those without one). Commas cross them: camera,shift=night.
    resamples
        Number of bootstrap resamples; 0 for no intervals and no pairs, even for metrics that need no
        resamples.
    seed
        Seed for the bootstrap.
    map_resamples
        Number of bootstrap resamples, at most 200, for metrics that are recomputed on each resample, such as
        mAP, AUROC and AURC. Their intervals then come from the bootstrap instead of the jackknife. 0 for
        none.
    clusters
        A column of the images table that says which images depend on each other, such as patient_id, or
        several columns, such as plate,well, if wells of different plates have the same name. Intervals and
        p-values then treat its values, not the images, as the independent cases. In Python,
        also the values themselves, as a series or mapping by image id.
    posterior
        Number of draws of label sets from the probabilities of the labels, such as 200, for intervals over
        both raters and images. With `audited`, number of draws of people's label sets, such as 20. 0 for
        none.
    compare_with
        Name of the model that all others are compared with; all to compare all pairs of models, or none. By
        default, all pairs of up to 300 models are compared, and none of more models.
    gallery
        Maximum number of images in the gallery of the report, which needs photographs; 0 for no gallery. The
        default is 1000.
    """

    metrics: Annotated[Sequence[str] | None, Shown("METRIC"), OptionName("--metric")] = None
    thresholds: ThresholdsLike | None = None
    slices: Annotated[Sequence[str], Shown("SLICE"), OptionName("--slice")] = ()
    resamples: Resamples = RESAMPLES
    seed: Seed = 0
    map_resamples: Annotated[int, Between(0, MAX_MAP_RESAMPLES)] = 0
    clusters: ClustersLike | None = None
    posterior: Annotated[int, AtLeast(0)] = 0
    compare_with: CompareWith = None
    gallery: Annotated[int, AtLeast(0)] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        slices = (self.slices,) if isinstance(self.slices, str) else tuple(self.slices)
        object.__setattr__(self, "slices", slices)
        if self.clusters is not None and self.posterior:
            raise UsageError(
                "Intervals over raters and images do not allow for clusters of images.",
                got="`clusters` with `posterior`",
                do="leave out `posterior` or `clusters`",
            )

    @classmethod
    def of(cls, options: EvaluateOptions) -> Self:
        """Return only these options, without the data of a call; further options have their defaults."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(EvaluateOptions)})

    def bootstrap(self, masks: Bools, labels: Labels, images: Images | None) -> Bootstrap:
        """Return the bootstrap of the labelled images, or of clusters of them, in slices, shape (S, n)."""
        return Bootstrap(masks, self.resamples, self.seed, clusters_of(self.clusters, labels, images))


DEFAULT = EvaluateOptions()
