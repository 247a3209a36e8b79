"""`rsafe plan`: how many workers, GPUs and partitions a traffic needs, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from guard.profiles.rendering import make_renderer
from schemas.topics import load_topics
from workers.capacity.demand import Demand
from workers.capacity.figures import NAMES, load_figures
from workers.capacity.formulas import make_plan
from workers.capacity.words import as_json, chart_values, lines
from workers.errors import UsageError
from workers.judging import stored_checkpoint
from workers.policies import find_policies
from workers.settings import Settings, load_settings

_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Demand)}
_MODES: Final = ("fast", "think", "adaptive")


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _option(name: str, text: str, **more: Any) -> Decorator:
    """A number of the demand; its bounds are the demand's own."""
    default = _DEFAULTS[name.removeprefix("--").replace("-", "_")]
    shown: dict[str, Any] = {} if default is None else {"show_default": True, "default": default}
    return click.option(name, help=text, **shown, **more)


@click.command()
@click.option("--messages-per-second", type=float, required=True, help="On average over a day.")
@_option("--peak-factor", "The busiest minutes, as a multiple of the average.", type=float)
@_option("--hit-rate", "Share whose verdict is remembered, 0 to 1.", type=float)
@click.option("--mode", type=click.Choice(_MODES), help="Default: the policy's, else `fast`.")
@click.option("--policy", "policy_path", help="File or folder: the longest policy is measured.")
@click.option("--policy-tokens", type=int, help="Tokens of task and policy, instead. Default: `150`.")
@_option("--message-tokens", "Tokens of a message.", type=int)
@_option("--context-tokens", "Tokens of the turns before it.", type=int)
@click.option(
    "--engine",
    type=click.Choice(("vllm", "remote")),
    default="vllm",
    show_default=True,
    help="Where vLLM runs.",
)
@_option("--gpus-per-guard", "GPUs of one vLLM engine.", type=int)
@_option("--decisions-per-second-per-gpu", "As you measured it, in the mode of the plan.", type=float)
@_option("--fast-per-second-per-gpu", "The same in `fast`, for `adaptive` as well.", type=float)
@_option("--think-per-second-per-gpu", "The same in `think`, for `adaptive` as well.", type=float)
@_option("--utilisation", "Share of what is there that the peak may take.", type=float)
@_option("--spare", "Workers, and guards, that may be away at the peak.", type=int)
@_option("--growth", "For how many times as many workers the partitions shall do.", type=float)
@_option("--copies", "Replication factor of the topics.", type=int)
@click.option("--ttl-s", type=int, help="Lifetime of a verdict. Default: RSAFE_CACHE__TTL_S.")
@_option("--price-per-gpu-hour", "In your currency.", type=float)
@click.option(
    "--figure",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"In place of a measured one: {', '.join(NAMES)}.",
)
@click.option("--json", "json_", is_flag=True, help="One JSON object.")
@click.option("--helm", is_flag=True, help="Values for the chart, and nothing else.")
def plan(
    policy_path: str | None,
    mode: str | None,
    policy_tokens: int | None,
    engine: str,
    ttl_s: int | None,
    given: tuple[str, ...],
    json_: bool,
    helm: bool,
    **numbers: Any,
) -> None:
    """Work out workers, GPUs, partitions, Redis memory, Kafka retention and cost from a traffic.

    Counts with what was measured on two CPU cores with the shipped checkpoint, and says so; a plan for GPUs
    needs your own figure of decisions a second. Asks no broker and starts nothing.
    """
    if json_ and helm:
        raise click.UsageError("expected --json or --helm, not both")
    if policy_path is not None and policy_tokens is not None:
        raise click.UsageError("expected --policy or --policy-tokens, not both")
    settings = load_settings()
    if policy_path is not None:
        policy_tokens, found = _measured(policy_path, settings)
        mode = mode or found
    retention = _retention_s()
    given_of_these = {**numbers, "policy_tokens": policy_tokens, "mode": mode}
    wanted: dict[str, Any] = {name: value for name, value in given_of_these.items() if value is not None}
    demand = Demand(
        **wanted,
        ttl_s=settings.cache.ttl_s if ttl_s is None else ttl_s,
        in_process=engine == "vllm",
        events_retention_s=retention["kafka.events_topic"],
        decisions_retention_s=retention["kafka.decisions_topic"],
    )
    figures = load_figures().given(_given(given))
    result = make_plan(demand, figures)
    if json_:
        click.echo(json.dumps(as_json(result, demand, figures), indent=2))
    elif helm:
        click.echo(chart_values(result, demand), nl=False)
    else:
        for line in lines(result, demand, figures):
            click.echo(line)


def _measured(path: str, settings: Settings) -> tuple[int, str]:
    """Tokens and mode of the longest policy, by the tokenizer of the settings' checkpoint."""
    checkpoint = stored_checkpoint(settings.guard)
    renderer = make_renderer(checkpoint.path, checkpoint.template, b"", checkpoint.profile)
    lengths = [
        (
            sum(len(renderer.system_of(question)) for question in renderer.questions(entry.policy)),
            entry.policy,
        )
        for entry in find_policies(path, "--policy")
    ]
    tokens, longest = max(lengths, key=lambda pair: pair[0])
    return tokens, longest.mode


def _given(words: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word in words:
        name, sign, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            sign = ""
        if not sign:
            raise UsageError(f"--figure {word}: expected NAME=VALUE with a number, such as event_bytes=900")
    return found


def _retention_s() -> dict[str | None, float]:
    """By the setting that names a topic, as `topics.yaml` has it."""
    return {
        topic.setting: int(topic.config["retention.ms"]) / 1000
        for topic in load_topics()
        if "retention.ms" in topic.config
    }
