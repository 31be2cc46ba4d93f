"""Shared by adapters: weights of the Hugging Face hub or its cache, and one-line errors of libraries."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from manyhot.errors import FetchError, ManyhotError
from manyhot.extras import required

WAIT_S = 5.0
"""Seconds to wait for a response of the hub."""


@contextlib.contextmanager
def hub_or_cache(model: str) -> Iterator[None]:
    """Load published weights; if the hub does not respond, from the cache only.

    The hub's client tries each file six times, for 23 s and with eleven lines of text, before it uses its
    cache.

    Raises
    ------
    FetchError
        The weights cannot be fetched.
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
            raise  # errors about the options and the weights
        # The client has many errors for what is one to a user.
        raise FetchError(
            "The weights cannot be fetched.",
            where=model,
            got=why or error_line(error),
            do="check the network and the name; HF_HOME is the cache; or use local weights",
        ) from error
    finally:
        logging.disable(logging.NOTSET)
        constants.HF_HUB_OFFLINE = offline


_PLACES = ("Check '", "Exception from ")
"""The start of OpenVINO's lines about places in its own code."""


_LONGEST = 200
"""Characters; PyTorch names every missing key of a network."""


def error_line(error: BaseException) -> str:
    """Return the most informative line of a message: neither a heading nor a location in a library's code."""
    # errors, threads, etc
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":") and not line.startswith(_PLACES)]
    line = (telling or lines or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
