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
}


def specs():
    for name in names("metric"):
        options = options_of(get("metric", name))
        needed = [OPTIONS[o] for o in options if o in OPTIONS]
        yield f"{name}({', '.join(needed)})" if needed else name
        yield from (f"{name}({', '.join([*needed, f'{o}=True'])})" for o in options if o not in OPTIONS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", list(specs()))
def test_metric(spec, seed):
    check_metric(spec, seed=seed)
