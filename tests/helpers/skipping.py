"""Skip loudly."""

import os

import pytest


def missing(what: str) -> None:
    """Skip, saying what is absent; fail where everything must be there."""
    message = f"absent: {what}"
    if os.environ.get("MANYHOT_REQUIRE_ALL"):
        pytest.fail(message)
    pytest.skip(message)
