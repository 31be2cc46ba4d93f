"""The API against its schema: whatever is sent, the answer is one that the schema knows."""

import re

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhot.reassess.app import AppCallbacks, create_app
from raters_page import CLASSES, make

bounded = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    campaign = make(tmp_path_factory.mktemp("campaign"), pages=3, classes=(0, 1))
    yield campaign
    campaign.store.close()


@pytest.fixture(scope="module")
def app(campaign):
    return create_app(
        campaign.store,
        CLASSES,
        campaign.folder / "cache",
        title="A campaign",
        callbacks=AppCallbacks(alone=True),
    )


@pytest.fixture(scope="module", params=["rater", "owner"])
def headers(request, app, campaign):
    """Return what somebody's browser sends along."""
    client = TestClient(app)
    client.post(f"/join/{campaign.store.invite(request.param, role=request.param)}")
    csrf = re.search(r'name="csrf" content="(\w+)"', client.get("/").text)[1]
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    return {"cookie": cookies, "x-csrf": csrf}


def operations(app):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    return {one.ok().label: one.ok() for one in schema.get_all_operations()}


ROUTES = ("POST /api/queue", "GET /api/back", "POST /api/answers", "GET /api/classes")


def test_all_routes_of_the_api_are_tested(app):
    assert set(operations(app)) == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_answers_are_those_of_the_schema(app, headers, route):
    operation = operations(app)[route]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    seen = set()

    @bounded
    @given(st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes)))
    def check(case):
        seen.add(case.call_and_validate(headers=headers).status_code)

    check()
    assert seen - {401, 403, 421, 429}, "no request came through"
