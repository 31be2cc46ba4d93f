"""Values under the resamples of a `Bootstrap`, by the statistics that evaluate fills."""

import numpy as np

from manyhot.core.resampled_statistics import MeansOf, MeansOverStrata, Ratios


def means_over_few_strata(bootstrap, num, den, den_of, stratum):
    means_of = MeansOf(np.arange(len(den_of)), den_of, stratum)
    statistic = Ratios.of(bootstrap.cells, bootstrap.resamples, num, den, [means_of])
    bootstrap.resample(statistic)
    return statistic.means[0].samples


def means_over_strata(bootstrap, *arguments):
    statistic = MeansOverStrata.of(bootstrap.masks, bootstrap.resamples, *arguments)
    bootstrap.resample(statistic)
    return statistic.samples
