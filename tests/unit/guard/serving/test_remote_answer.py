from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.serving.engine import Completion, EngineParameters
from guard.serving.remote_answer import (
    MOST_IDS,
    BadAnswer,
    merged,
    most_bytes,
    read_completion,
    request_body,
)
from tests.unit.guard.serving.token_server import MODEL, STOP, VOCABULARY, TokenServer

PARAMETERS = EngineParameters(max_tokens=3, logprob_token_ids=(5, 300), stop_token_ids=(STOP,))
PROMPT = (1, 2, 30)


def answer(**changes: Any) -> dict[str, Any]:
    return TokenServer().completion(json.loads(request_body(PROMPT, PARAMETERS, MODEL)), **changes)


def read(content: bytes | dict[str, Any], parameters: EngineParameters = PARAMETERS) -> Completion:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_completion(data, parameters, prompt_tokens=3, vocabulary_size=VOCABULARY, model=MODEL)


def test_the_log_probabilities_are_those_of_the_ids_asked_for_in_their_order() -> None:
    found = read(answer())
    assert found.token_ids == (33, 34, 35)
    for values in found.verdict_logprobs:
        assert values == pytest.approx((-math.log(7), -math.log(302)))
    assert len(found.verdict_logprobs) == 3
    assert (found.finish_reason, found.cached_tokens) == ("length", 3)


def test_one_entry_more_is_asked_for_since_the_sampled_token_takes_one() -> None:
    sampling = json.loads(request_body(PROMPT, PARAMETERS, MODEL))["sampling_params"]
    assert sampling["logprob_token_ids"] == [5, 300, 300]
    assert sampling["logprobs"] == 3
    assert sampling["stop_token_ids"] == [STOP]
    assert sampling["ignore_eos"] is True
    assert sampling["temperature"] == 0.0


def test_an_id_that_the_server_left_out_is_not_made_up() -> None:
    content = answer()
    content["choices"][0]["logprobs"]["content"][1]["top_logprobs"].pop()
    assert read(content).verdict_logprobs[1] is None
    assert read(content).verdict_logprobs[0] is not None


def test_what_stands_for_no_number_is_not_taken_for_one() -> None:
    content = answer()
    content["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["logprob"] = -9999.0
    assert read(content).verdict_logprobs[0] is None


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    content = answer()
    place: Any = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return content


CHOICE = ["choices", 0]
POSITION = [*CHOICE, "logprobs", "content", 0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b'{"choices": [{"token_ids": [1], "logprobs": {"content": [{"token_id": 1, "top_logprobs": '
        b'[{"token_id": 5, "logprob": NaN}]}]}}], "model": "digest-of-weights"}',
        changed(["model"], "another"),
        changed(["model"], None),
        changed(["choices"], []),
        changed([*CHOICE, "token_ids"], []),
        changed([*CHOICE, "token_ids"], None),
        changed([*CHOICE, "token_ids"], [33, 34, 35, 36]),
        changed([*CHOICE, "token_ids"], [33, 34, VOCABULARY]),
        changed([*CHOICE, "token_ids"], [33, -1, 35]),
        changed([*CHOICE, "token_ids"], [33, 34, 10**30]),
        changed([*CHOICE, "token_ids"], [33, 34, True]),
        changed([*CHOICE, "finish_reason"], "abort"),
        changed([*CHOICE, "finish_reason"], "error"),
        changed([*CHOICE, "finish_reason"], "stop"),
        changed([*CHOICE, "logprobs"], None),
        changed([*CHOICE, "logprobs", "content"], []),
        changed([*POSITION, "token_id"], 99),
        changed([*POSITION, "top_logprobs", 1, "logprob"], 0.5),
        changed([*POSITION, "top_logprobs", 1, "logprob"], None),
        changed([*POSITION, "top_logprobs", 1, "logprob"], "-1"),
    ],
)
def test_an_answer_that_cannot_be_one_is_refused_without_repeating_it(
    content: bytes | dict[str, Any],
) -> None:
    with pytest.raises(BadAnswer) as caught:
        read(content)
    assert "html" not in str(caught.value)


@given(st.binary(max_size=200))
def test_bytes_are_an_answer_or_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(data)


@given(st.integers(1, 40), st.integers(1, MOST_IDS))
def test_the_longest_real_answer_is_within_its_bound(tokens: int, ids: int) -> None:
    parameters = EngineParameters(max_tokens=tokens, logprob_token_ids=tuple(range(200, 200 + ids)))
    server = TokenServer()
    content = server.completion(json.loads(request_body((1,), parameters, MODEL)))
    assert len(json.dumps(content)) < most_bytes(parameters)
    found = read(content, parameters)
    assert all(values is not None and len(values) == ids for values in found.verdict_logprobs)


def test_cached_tokens_are_never_more_than_the_prompt() -> None:
    details = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 10**9}}
    assert read(answer(usage=details)).cached_tokens == 3
    assert read(answer(usage=None)).cached_tokens == 0


def test_two_answers_are_one_as_far_as_they_go_the_same_way() -> None:
    one = Completion(
        token_ids=(1, 2, 3), verdict_logprobs=((-1.0,), (-2.0,), (-3.0,)), finish_reason="length"
    )
    other = msgspec.structs.replace(one, token_ids=(1, 9, 3), verdict_logprobs=((-4.0,), None, (-6.0,)))
    assert merged(one, other).verdict_logprobs == ((-1.0, -4.0), None, None)
    assert merged(one, one).verdict_logprobs[2] == (-3.0, -3.0)
    assert merged(one, other).token_ids == one.token_ids
