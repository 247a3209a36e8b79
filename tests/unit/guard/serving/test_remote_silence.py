from __future__ import annotations

from guard.serving.remote_silence import counted

METRICS = b"""# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 120.0
vllm:generation_tokens_total{engine="1",model_name="m"} 30.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1e+03
vllm:num_requests_running{engine="0",model_name="m"} 5.0
"""


def test_tokens_of_all_engines_are_counted_together() -> None:
    assert counted(METRICS) == 1150.0


def test_a_server_that_counts_nothing_tells_nothing() -> None:
    assert counted(b"") is None
    assert counted(b"vllm:generation_tokens_total many\n") is None
