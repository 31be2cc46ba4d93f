"""Values of made-up images and made-up audits of models, and how often intervals contain the values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot import evaluate
from manyhot.core.audited import LinearisedValues, check_rows
from manyhot.tables import Labels, Predictions
from manyhot.tables.audit_samples import draw_sample


def images(n_images, seed=0, models=3):
    """Return values under people's and under proposed label sets, shape (N, M)."""
    rng = np.random.default_rng(seed)
    proposed = rng.beta(2, 0.7, (n_images, models))
    return (rng.random((n_images, models)) < 0.1 + 0.8 * proposed).astype(float), proposed


def linearised_means(audited, proposed, sample):
    """Return the contributions to means over all images, of audited images (n, M) and of all (N, M)."""
    check_rows(len(audited), len(proposed), sample)
    mean = proposed.mean(axis=0, dtype=np.float64)
    return LinearisedValues(audited, proposed[sample.images], mean, np.zeros(len(mean)), mean)


def coverage(design, interval, truth, draws=1500):
    """Return how often intervals contain the true values, and the mean ratio of error and deviation."""
    rng = np.random.default_rng(11)
    found = [interval(design.draw(rng)) for _ in range(draws)]
    ends = np.array([e.interval() for e in found])
    deviation = np.array([e.value for e in found]) - truth
    errors = np.sqrt(np.mean([e.error**2 for e in found], axis=0) / np.square(deviation).mean(0))
    return ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean(0), errors, deviation.mean(0)


IDS = pa.array([f"{i:04}.jpg" for i in range(400)], pa.string())
N_CLASSES = 6


def table_of(sets, label=None, ids=IDS, **about):
    """Return lists of classes as a labels table."""
    columns = {
        "image_id": ids,
        "usable": [True] * len(ids),
        "classes": pa.array(sets, pa.list_(pa.int32())),
        "state": [["yes"] * len(s) for s in sets],
    }
    if label is not None:
        columns["label"] = pa.array(label, pa.int32())
    metadata = {f"manyhot.{k}": v for k, v in about.items()}
    return pa.table(columns).replace_schema_metadata(metadata)


class World:
    """400 images with single labels, people's label sets of all of them, and two models' rankings."""

    def __init__(self, empty=0.0, seed=0):
        rng = np.random.default_rng(seed)
        n = len(IDS)
        self.label = rng.integers(0, N_CLASSES, n)
        more = rng.random((n, N_CLASSES)) < 0.25
        more[np.arange(n), self.label] = rng.random(n) < 0.85
        none = ~more.any(axis=1)
        more[none, self.label[none]] = True
        more[rng.random(n) < empty] = False
        self.sets = [np.flatnonzero(row).tolist() for row in more]
        self.models = {}
        for name, noise in (("good", 0.6), ("bad", 1.5)):
            scores = (
                more
                + noise * rng.normal(size=more.shape)
                + 0.5 * (np.arange(N_CLASSES) == self.label[:, None])
            )
            self.models[name] = Predictions(IDS, name, np.argsort(-scores, axis=1).astype(np.int32))

    @property
    def people(self):
        return Labels(table_of(self.sets, self.label), N_CLASSES, name="people")

    @property
    def proposed(self):
        return Labels(table_of([[c] for c in self.label], self.label), N_CLASSES, name="proposed")

    def audited(self, ids, **about):
        """Return people's label sets of some images, in another order than these."""
        rows = pc.index_in(ids, IDS).to_pylist()[::-1]
        found = table_of([self.sets[i] for i in rows], ids=IDS.take(pa.array(rows)), **about)
        return Labels(found, N_CLASSES, name="people")

    def evaluate(self, n=120, probability=None, design="uniform", strata=None, labels=None, **options):
        """Evaluate the models on an audit of n images, of which those that are in `labels` are answered."""
        p = np.full(len(IDS), n / len(IDS)) if probability is None else probability
        drawn = draw_sample(IDS, p, design, 3, strata)
        labels = self.audited(drawn.drawn) if labels is None else labels
        models = list(self.models.values())
        return drawn, evaluate(self.proposed, models, audited=labels, sample=drawn, **options)
