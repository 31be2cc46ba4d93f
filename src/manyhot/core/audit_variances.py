"""Variances of accuracy and of differences on ReaL's label sets, from which plans without a pilot start.

Made by ``python benchmarks/audit_plans.py variances`` from 67 published models and people's answers about
ImageNet's 50,000 validation images (Beyer et al. 2020, arXiv 2006.07159), of which each fifth was used. All
are medians over models, pairs of models and random sets of models.
"""

ACCURACY = 0.832
"""Accuracy on label sets (``real1``)."""

PLAIN_ACCURACY = 1.067
"""Variance of a plain sample of one image, divided by a (1 - a) with the accuracy a.

It is above 1 because 6 % of the images have no valid class and do not count."""

DIFFERING = 0.223
"""Share of images on which the top classes of two models differ."""

PLAIN_DIFFERENCE = 0.580
"""Variance of the difference of a pair in a plain sample of one image, divided by `DIFFERING`."""

QUESTIONS = {2: 7.2, 3: 8.5, 10: 16.04, 67: 37.38}
"""Questions about an image, by the number of models: their top five classes and the original label. With top
classes alone, they are 1.4, 1.5, 2.2 and 5.1."""

EFFECTIVE = {"accuracy": 0.167, "difference": 0.118}
"""Share of the audited images that make up the variance, by question."""

EFFECTS = (
    0.0047, 0.015, 0.0262, 0.0359, 0.0463, 0.0561, 0.0656, 0.0783, 0.0893, 0.101,
    0.113, 0.13, 0.145, 0.162, 0.183, 0.209, 0.266, 0.399, 0.735, 0.991,
)  # fmt: skip
"""Differences of pairs of models, divided by the deviation of one image: quantiles from 2.5 to 97.5 %."""

VARIANCES = (
    (2, "accuracy", "models", "uniform", 0.749, 0.749),
    (2, "accuracy", "models", "active", 0.749, 0.749),
    (2, "difference", "models", "uniform", 1.0, 1.0),
    (2, "difference", "models", "pair", 0.202, 0.958),
    (2, "accuracy", "labels", "uniform", 0.615, 0.615),
    (2, "accuracy", "labels", "active", 0.615, 0.615),
    (2, "difference", "labels", "uniform", 0.62, 0.62),
    (2, "difference", "labels", "pair", 0.132, 0.618),
    (3, "accuracy", "models", "uniform", 0.744, 0.744),
    (3, "accuracy", "models", "active", 0.725, 0.744),
    (3, "difference", "models", "uniform", 0.889, 0.889),
    (3, "difference", "models", "pair", 0.192, 0.852),
    (3, "difference", "models", "differences", 0.405, 0.889),
    (3, "accuracy", "labels", "uniform", 0.611, 0.611),
    (3, "accuracy", "labels", "active", 0.6, 0.611),
    (3, "difference", "labels", "uniform", 0.61, 0.61),
    (3, "difference", "labels", "pair", 0.138, 0.595),
    (3, "difference", "labels", "differences", 0.281, 0.611),
    (10, "accuracy", "models", "uniform", 0.718, 0.718),
    (10, "accuracy", "models", "active", 0.643, 0.719),
    (10, "difference", "models", "uniform", 0.796, 0.796),
    (10, "difference", "models", "pair", 0.162, 0.766),
    (10, "difference", "models", "differences", 0.472, 0.8),
    (10, "accuracy", "labels", "uniform", 0.622, 0.622),
    (10, "accuracy", "labels", "active", 0.57, 0.622),
    (10, "difference", "labels", "uniform", 0.638, 0.638),
    (10, "difference", "labels", "pair", 0.133, 0.63),
    (10, "difference", "labels", "differences", 0.376, 0.639),
    (67, "accuracy", "models", "uniform", 0.697, 0.697),
    (67, "accuracy", "models", "active", 0.594, 0.698),
    (67, "difference", "models", "uniform", 0.74, 0.74),
    (67, "difference", "models", "pair", 0.163, 0.695),
    (67, "difference", "models", "differences", 0.503, 0.744),
    (67, "accuracy", "labels", "uniform", 0.621, 0.621),
    (67, "accuracy", "labels", "active", 0.537, 0.621),
    (67, "difference", "labels", "uniform", 0.601, 0.601),
    (67, "difference", "labels", "pair", 0.138, 0.594),
    (67, "difference", "labels", "differences", 0.413, 0.602),
)
"""Number of models, question, what proposes label sets, design, and ``spread`` and ``whole`` of
`manyhot.core.audit_plans.DesignVariance`, divided by the variance of a plain sample of one image.

``pair`` is the design for one pair of models, and ``differences`` that for all pairs."""
