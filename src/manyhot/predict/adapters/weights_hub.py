"""What adapters share: weights of the Hugging Face hub or its cache, and errors of libraries in one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from manyhot.errors import FetchError, ManyhotError
from manyhot.extras import required

WAIT_S = 5.0
"""Seconds to wait for the hub to answer at all."""


@contextlib.contextmanager
def hub_or_cache(model: str) -> Iterator[None]:
    """Load published weights; where the hub does not answer, from the cache alone.

    The hub's client asks six times for each file, for 23 s and in eleven lines of text, before it looks into
    its cache.

    Raises
    ------
    FetchError
        The weights cannot be had.
    """
    constants, utils = (
        required(f"huggingface_hub.{part}", f"The model {model!r}") for part in ("constants", "utils")
    )
    offline, why = constants.HF_HUB_OFFLINE, ""
    if not offline:
        try:
            utils.get_session().head(constants.ENDPOINT, timeout=WAIT_S)
        except Exception as error:  # of whichever HTTP library it uses
            why = f"{constants.ENDPOINT}: {error_line(error)}"
            constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)  # what is logged is raised as well
    try:
        yield
    except ManyhotError:
        raise
    except Exception as error:
        if not why and isinstance(error, TypeError | RuntimeError):
            raise  # what a network says of its options and its weights
        # The client has a zoo of errors for what is one to a user.
        raise FetchError(
            "The weights cannot be fetched.",
            where=model,
            got=why or error_line(error),
            do="check the network and the name; HF_HOME is the cache; local weights can be named instead",
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        constants.HF_HUB_OFFLINE = offline


_PLACES = ("Check '", "Exception from ")
"""How OpenVINO begins to tell where in its own code something was raised."""


_LONGEST = 200
"""Characters; PyTorch names every missing key of a network."""


def error_line(error: BaseException) -> str:
    """Return the line of a message that tells most: no heading, and no place in a library's own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(_PLACES)]
    line = (telling or lines or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
