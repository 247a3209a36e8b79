import pytest

from benchmarks.gpu.shapes import QWEN_7B, TINY
from benchmarks.gpu.work import operations


def test_a_model_of_seven_billion_has_them() -> None:
    # 7.61 billion parameters, of which the two vocabulary matrices are 1.09: the model card of Qwen2.5-7B.
    assert QWEN_7B.layer_weights + 2 * QWEN_7B.head_weights == pytest.approx(7.61e9, rel=0.002)


def test_a_call_in_two_costs_what_it_costs_in_one() -> None:
    whole = operations(TINY, prompt=100, cached=0, completion=1)
    first = operations(TINY, prompt=60, cached=0, completion=1)
    rest = operations(TINY, prompt=100, cached=60, completion=1)
    assert first + rest - 2 * TINY.head_weights == whole  # the first call asked for a token more


def test_every_further_token_costs_as_if_it_had_stood_in_the_prompt() -> None:
    drawn = operations(TINY, prompt=50, cached=0, completion=11)
    read = operations(TINY, prompt=60, cached=0, completion=1)
    assert drawn - 10 * 2 * TINY.head_weights == read
