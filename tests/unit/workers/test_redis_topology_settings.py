"""Settings of Redis that do not fit together are refused in one sentence that names one of them."""

from __future__ import annotations

import pytest

from workers.errors import SettingsError
from workers.settings import load_settings


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"TOPOLOGY": "cluster"}, "RSAFE_REDIS__URL: expected hosts with RSAFE_REDIS__TOPOLOGY=cluster"),
        (
            {"TOPOLOGY": "sentinel", "URL": "redis://a"},
            "RSAFE_REDIS__SENTINEL_SERVICE: expected a name with RSAFE_REDIS__TOPOLOGY=sentinel",
        ),
        (
            {"URL": "redis://a", "SENTINEL_SERVICE": "verdicts"},
            "RSAFE_REDIS__SENTINEL_SERVICE: expected nothing unless RSAFE_REDIS__TOPOLOGY=sentinel",
        ),
        (
            {"TOPOLOGY": "cluster", "URL": "redis://a", "SENTINEL_PASSWORD": "x"},
            "RSAFE_REDIS__SENTINEL_PASSWORD: expected nothing unless RSAFE_REDIS__TOPOLOGY=sentinel",
        ),
        ({"TOPOLOGY": "ring"}, "RSAFE_REDIS__TOPOLOGY: expected standalone or cluster or sentinel"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({f"RSAFE_REDIS__{name}": value for name, value in changes.items()})
    assert str(refused.value) == sentence


def test_what_fits_is_taken() -> None:
    settings = load_settings(
        {
            "RSAFE_REDIS__TOPOLOGY": "sentinel",
            "RSAFE_REDIS__URL": "redis://a,b",
            "RSAFE_REDIS__SENTINEL_SERVICE": "verdicts",
            "RSAFE_REDIS__SENTINEL_PASSWORD": "x",
        }
    )
    assert settings.redis.sentinel_service == "verdicts"
