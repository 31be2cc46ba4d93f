"""What tests of figures share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _drawn_when_looked_at() -> Iterator[None]:
    """Draw what a test looks at: begun while others are composed, a third of the CPU time is for nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manyhot.evaluate.report.figures._started", iter)
        yield
