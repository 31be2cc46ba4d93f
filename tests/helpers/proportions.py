"""The interval of a share: SciPy's Wilson, with the modification of Brown, Cai and DasGupta 2001."""

from scipy.stats import binomtest, chi2


def proportion_ends(k, n):
    """Return the ends of the 95 % interval of k of n cases."""
    ends = binomtest(int(k), int(n)).proportion_ci(0.95, method="wilson")

    def limit(rare):
        return chi2.ppf(0.05, 2 * rare) / 2 / n if 1 <= rare <= min(3, n / 2) else 1.0

    return min(ends.low, limit(k)), max(ends.high, 1 - limit(n - k))
