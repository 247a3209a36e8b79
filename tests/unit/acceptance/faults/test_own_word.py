from __future__ import annotations

from tests.acceptance.faults.own_word import read_samples

TEXT = """# TYPE rsafe_cache_failures counter
rsafe_cache_failures_total{operation="recall"} 3.0
rsafe_cache_failures_total{operation="keep"} 2.0
# TYPE rsafe_oldest_uncommitted_seconds gauge
rsafe_oldest_uncommitted_seconds{partition="0",waiting_for="hold"} 7.5
rsafe_oldest_uncommitted_seconds{partition="1",waiting_for="commit"} 0.1
"""


def test_samples_are_those_of_the_name_that_have_all_the_labels() -> None:
    assert sorted(read_samples(TEXT, "rsafe_cache_failures_total")) == [2.0, 3.0]
    assert read_samples(TEXT, "rsafe_oldest_uncommitted_seconds", waiting_for="hold") == [7.5]
    assert read_samples(TEXT, "rsafe_oldest_uncommitted_seconds", waiting_for="hold", partition="1") == []
    assert read_samples(TEXT, "rsafe_guard_up") == []
