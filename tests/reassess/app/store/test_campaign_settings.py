"""Settings within and beyond their ranges."""

import pytest

from manyhot.errors import InputError
from manyhot.reassess.app.store.campaign_settings import CampaignSettings


@pytest.mark.parametrize(
    ("name", "least", "most", "allowed"),
    [("raters", 1, 1000, "1 to 1000"), ("per_page", 1, 8, "1 to 8"), ("max_pages", 0, 10**7, "0 to 1e+07")],
)
def test_the_ends_of_a_range_are_allowed_and_nothing_beyond(name, least, most, allowed):
    for value in (least, most):
        assert getattr(CampaignSettings(**{name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(InputError) as error:
            CampaignSettings(**{name: value})
        assert str(error.value) == (
            f"The setting {name!r} of a campaign is out of range.\n  got:     {value:g}\n  allowed: {allowed}"
        )
