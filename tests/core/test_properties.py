"""What must hold for every registered metric; one that is not here does not exist."""

import pytest

from manyhot.registry import get, names, options_of
from manyhot.testing import check_metric

OPTIONS = {
    "threshold": "threshold=0.2",
    "link": "link='sigmoid'",
    "k": "k=3",
    "bins": "bins=7",
    "coverage": "coverage=0.6",
    "fpr": "fpr=0.3",
}
OTHER = {"zero_division": "0", "beta": "2"}
"""Values of options with a number as the default, which are tested beside it; flags are True."""


def specs():
    for name in names("metric"):
        options = options_of(get("metric", name))
        needed = [OPTIONS[o] for o in options if o in OPTIONS]
        yield f"{name}({', '.join(needed)})" if needed else name
        more = (f"{o}={OTHER.get(o, True)}" for o in options if o not in OPTIONS)
        yield from (f"{name}({', '.join([*needed, option])})" for option in more)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", list(specs()))
def test_metric(spec, seed):
    check_metric(spec, seed=seed)
