"""What is told of the servers of the engine `remote`."""

from __future__ import annotations

from guard.serving.fleet_view import Looked
from workers.doctor.servers import server_findings

GOOD = Looked("http://a", version="0.32.0", answers=True)
AWAY = Looked("http://b", why="no connection")


def test_a_server_that_is_away_matters_only_when_it_is_the_last() -> None:
    assert [one.status for one in server_findings([GOOD, AWAY])] == ["ok", "warning"]
    assert [one.status for one in server_findings([AWAY])] == ["problem"]


def test_a_server_that_is_not_what_was_expected_is_always_a_problem() -> None:
    other = Looked("http://c", why="it serves 'x'", answers=True)
    assert [one.status for one in server_findings([GOOD, other])] == ["ok", "problem"]
