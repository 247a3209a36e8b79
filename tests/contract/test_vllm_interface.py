"""What the client of servers and `rsafe serve-guard` take for granted of the vLLM that is installed.

Its own classes read our requests and write the answers, without a model; `test_engine.py` asks real servers.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guard.serving.engine import MOST_LOGPROBS, EngineParameters
from guard.serving.remote_answer import MOST_IDS, most_bytes, read_completion, request_body
from guard.serving.serve_command import serve_arguments
from guard.serving.vllm_environment import variables, vllm_environment
from guard.serving.vllm_start import VllmOptions
from tests.conftest import require

# Importing vLLM takes some seconds.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
STOP = 9


@pytest.fixture(scope="module", autouse=True)
def imported() -> Iterator[None]:
    require(importlib.util.find_spec("vllm"), "vLLM is not installed (extra `cpu` or `gpu`)")
    with vllm_environment(variables(os.environ, 1, cpu=True)):
        yield


def parsed(wanted: tuple[int, ...]) -> Any:
    from vllm.entrypoints.scale_out.token_in_token_out.protocol import GenerateRequest

    parameters = EngineParameters(max_tokens=5, logprob_token_ids=wanted, stop_token_ids=(STOP,))
    return GenerateRequest.model_validate_json(request_body((1, 2, 3), parameters, "digest"))


def test_vllm_understands_the_request_as_it_is_meant() -> None:
    request = parsed((40, 50))
    assert (request.token_ids, request.model) == ([1, 2, 3], "digest")
    sampling = request.sampling_params
    assert (sampling.max_tokens, sampling.temperature, sampling.ignore_eos) == (5, 0.0, True)
    assert sampling.logprob_token_ids == [40, 50, 50]
    assert sampling.logprobs == 3
    assert sampling.stop_token_ids == [STOP]
    assert not sampling.detokenize


def test_the_most_ids_are_as_many_as_vllm_gives() -> None:
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    assert MAX_LOGPROB_TOKEN_IDS == MOST_LOGPROBS
    assert len(parsed(tuple(range(100, 100 + MOST_IDS))).sampling_params.logprob_token_ids) == MOST_LOGPROBS


@pytest.mark.parametrize("sampled", [40, 77])
@pytest.mark.parametrize("count", [1, 2, MOST_IDS])
def test_vllms_answer_holds_every_id_whether_it_was_sampled_or_not(sampled: int, count: int) -> None:
    from vllm.entrypoints.scale_out.token_in_token_out.protocol import (
        GenerateTokensChoice,
        GenerateTokensResponse,
    )
    from vllm.entrypoints.scale_out.token_in_token_out.serving import ServingTokens
    from vllm.entrypoints.serve.engine.protocol import PromptTokenUsageInfo, UsageInfo
    from vllm.logprobs import append_logprobs_for_next_position, create_sample_logprobs

    wanted = (40, *range(200, 199 + count))
    sampling = parsed(wanted).sampling_params
    # As the sampler gives them: the sampled token first, then those asked for, then what pads the batch.
    ids = [sampled, *sampling.logprob_token_ids, 0, 0]
    values = [-1.0 - token / 1000 for token in ids[:-2]] + [float("-inf")] * 2
    found = create_sample_logprobs(False)
    append_logprobs_for_next_position(found, ids, values, [None] * len(ids), 1, sampling.num_logprobs)
    logprobs = ServingTokens._create_tokens_logprobs(
        None,
        token_ids=[sampled],
        top_logprobs=found,
        num_output_top_logprobs=sampling.logprobs,
    )
    usage = UsageInfo(prompt_tokens=3, completion_tokens=1, total_tokens=4)
    usage.prompt_tokens_details = PromptTokenUsageInfo(cached_tokens=2)
    answer = GenerateTokensResponse(
        model="digest",
        usage=usage,
        choices=[
            GenerateTokensChoice(index=0, token_ids=[sampled], finish_reason="length", logprobs=logprobs)
        ],
    )
    data = json.dumps(answer.model_dump()).encode()
    parameters = EngineParameters(max_tokens=1, logprob_token_ids=wanted)
    assert len(data) < most_bytes(parameters)
    completion = read_completion(data, parameters, prompt_tokens=3, vocabulary_size=400, model="digest")
    assert completion.verdict_logprobs == (tuple(-1.0 - token / 1000 for token in wanted),)
    assert completion.cached_tokens == 2


@pytest.mark.parametrize("cpu", [True, False])
def test_vllm_knows_every_argument_of_the_server(tmp_path: Path, cpu: bool) -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    (tmp_path / "config.json").write_text(json.dumps({"dtype": "float32"}))
    options = VllmOptions(max_model_len=512, max_concurrency=8)
    arguments = serve_arguments(
        tmp_path, options, name="digest", host="127.0.0.1", port=8123, cpu=cpu, more=("--seed", "3")
    )
    found = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    assert (found.served_model_name, found.max_model_len, found.max_num_seqs) == (["digest"], 512, 8)
    assert (found.host, found.port, found.max_logprobs) == ("127.0.0.1", 8123, MOST_LOGPROBS)
    assert found.enable_scale_out
    assert found.skip_tokenizer_init
    assert found.enable_prompt_tokens_details
    assert found.enable_prefix_caching
    assert not found.enable_log_requests
    assert not found.trust_remote_code
    assert found.seed == 3
    if cpu:
        assert (found.block_size, found.kv_cache_memory_bytes) == (32, 1 << 30)
