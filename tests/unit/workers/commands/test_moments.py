"""Times on the command line."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.commands.moments import Moment

MOMENT = Moment(lambda: 1_000_000.0)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 999_910_000.0),
        ("30m", 998_200_000.0),
        ("2h", 992_800_000.0),
        ("1d", 913_600_000.0),
        ("1970-01-01T00:00:01Z", 1000.0),
        ("1970-01-01T01:00:00.5+01:00", 500.0),
    ],
)
def test_times_from_the_calendar_and_from_how_long_ago(text: str, milliseconds: float) -> None:
    assert MOMENT.convert(text, None, None) == milliseconds


@given(st.text() | st.from_regex(r"[0-9٣]{1,30}[smhdx]", fullmatch=True))
def test_anything_else_is_refused_in_words(text: str) -> None:
    try:
        found = MOMENT.convert(text, None, None)
    except click.BadParameter as caught:
        error = caught
    else:
        assert isinstance(found, float)
        return
    assert "expected a time as in RFC 3339" in str(error)
