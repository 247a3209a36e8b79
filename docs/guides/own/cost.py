"""What a training run at 7B takes, by formula: nothing of this was measured on a GPU.

`python docs/guides/own/cost.py --price 2.50` takes the settings of the shipped recipes `rsafe-7b` and
`lora-1gpu`. Every assumption is an option with a default; `train-your-own.md` says where they are from.
"""  # noqa: INP001 (a script beside a page, not a package)

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.grpo_settings import GrpoSettings, LoraSettings
from guard.training.recipe import read_recipe, section
from guard.training.settings import Recipe

# Shape of Qwen2.5-7B-Instruct, as its config.json has it.
LAYERS, WIDTH, HIDDEN, VOCABULARY, KEYS = 28, 3584, 18944, 152_064, 512
LINEAR = {
    "q_proj": (WIDTH, WIDTH),
    "k_proj": (WIDTH, KEYS),
    "v_proj": (WIDTH, KEYS),
    "o_proj": (WIDTH, WIDTH),
    "gate_proj": (WIDTH, HIDDEN),
    "up_proj": (WIDTH, HIDDEN),
    "down_proj": (HIDDEN, WIDTH),
}
"""Linear layers of a block: inputs and outputs."""
PARAMETERS = LAYERS * sum(a * b for a, b in LINEAR.values()) + 2 * VOCABULARY * WIDTH
"""Without biases and norms, which are some hundred thousand."""
# Attacks that an evaluation asks about in each mode beside the labelled rows and the generator's sets, each
# in `evaluation_rows` draws. The calibration is fitted on labelled rows, which are asked about anyway.
ATTACKS = 19
GB = 1e9


@dataclass(frozen=True)
class Assumed:
    """What is put in."""

    rows: int
    dev_rows: int
    prompt_tokens: float
    completion_tokens: float
    peak: float
    utilisation: float
    tokens_per_s: float
    other_s: float
    memory_gb: float
    price: float


def lora_parameters(lora: LoraSettings) -> int:
    """Weights of the adapters."""
    return LAYERS * sum(lora.rank * sum(LINEAR[name]) for name in lora.modules)


def step_seconds(settings: GrpoSettings, put: Assumed) -> dict[str, float]:
    """Parts of an optimiser step."""
    answers = settings.rows_per_step * settings.group
    tokens = answers * (put.prompt_tokens + put.completion_tokens)
    speed = settings.processes * put.peak * put.utilisation
    # Forward 2N, backward 4N: half for activations, half for weights, which a base under adapters lacks.
    passes = 2 + (2 if settings.lora is not None else 4) + (2 if settings.gradient_checkpointing else 0)
    read = answers * put.prompt_tokens
    return {
        "read prompts": 2 * PARAMETERS * read / speed,
        "write answers": answers * put.completion_tokens / (settings.processes * put.tokens_per_s),
        "score answers": 2
        * PARAMETERS
        * tokens
        / speed,  # TRL does so beside vLLM, whose numbers differ a little
        "train": passes * PARAMETERS * tokens / speed,
        "other": put.other_s,
    }


def memory(settings: GrpoSettings, put: Assumed) -> dict[str, float]:
    """GB on each GPU."""
    length = settings.max_prompt_tokens + settings.max_completion_tokens
    kept = LAYERS * settings.device_rows * length * WIDTH * 2 / GB
    if settings.lora is None:
        weights, trained = 4 * PARAMETERS / settings.processes, PARAMETERS / settings.processes
    else:
        trained = lora_parameters(settings.lora)
        weights = 2 * PARAMETERS + 4 * trained
    return {
        "weights": weights / GB,
        "gradients": 4 * trained / GB,
        "Adam": 8 * trained / GB,
        "kept activations": kept,
        "vLLM": settings.vllm_memory * put.memory_gb,
    }


def evaluation_seconds(recipe: Recipe, put: Assumed) -> float:
    """On one GPU, in both modes: prompts are read twice, rationales written once."""
    sets = evaluation_sets(recipe.evaluation_rows, recipe.evaluation_seed).values()
    judged = sum(map(len, sets)) + ATTACKS * recipe.evaluation_rows + put.dev_rows
    reading = 2 * 2 * PARAMETERS * judged * put.prompt_tokens / (put.peak * put.utilisation)
    return reading + judged * (put.completion_tokens + 1) / put.tokens_per_s


def account(name: str, put: Assumed) -> str:
    """The lines of a recipe."""
    recipe = read_recipe(name)
    settings: GrpoSettings = section(recipe, "grpo")
    steps = settings.epochs * (put.rows // settings.rows_per_step)
    parts, held = step_seconds(settings, put), memory(settings, put)
    step, measured = sum(parts.values()), evaluation_seconds(recipe, put)
    hours = steps * step / 3600
    paid = hours * settings.processes + measured / 3600
    return "\n".join(
        [
            f"{name}: {settings.processes} GPU, {steps} steps of {settings.rows_per_step} rows"
            f" x {settings.group}",
            "  step    " + ", ".join(f"{part} {value:.1f} s" for part, value in parts.items()),
            f"  time    {step:.0f} s a step, {hours:.1f} h in all; evaluation {measured / 3600:.1f} h on one",
            "  memory  "
            + ", ".join(f"{part} {value:.1f} GB" for part, value in held.items())
            + f": {sum(held.values()):.0f} of {put.memory_gb:.0f} GB",
            f"  paid    {paid:.1f} GPU hours x {put.price:.2f} = {paid * put.price:.2f}",
        ]
    )


def main() -> None:
    """Print the accounts of both recipes."""
    parser = argparse.ArgumentParser(description="Time, memory and cost at 7B, computed and not measured.")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of train, twins included")
    parser.add_argument("--dev-rows", type=int, default=2_000, help="labelled rows of dev")
    parser.add_argument("--prompt-tokens", type=float, default=1_000, help="of a row, with its padding")
    parser.add_argument("--completion-tokens", type=float, default=250, help="of an answer, with its padding")
    parser.add_argument("--peak", type=float, default=989e12, help="operations a second of a GPU, as sold")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of it that is reached")
    parser.add_argument("--tokens-per-s", type=float, default=2_000, help="that vLLM writes on one GPU")
    parser.add_argument("--other-s", type=float, default=5.0, help="of a step: weights to vLLM, optimiser")
    parser.add_argument("--memory-gb", type=float, default=80.0, help="of a GPU")
    parser.add_argument("--price", type=float, default=1.0, help="of a GPU hour")
    put = Assumed(**vars(parser.parse_args()))
    for name in ("rsafe-7b", "lora-1gpu"):
        sys.stdout.write(account(name, put) + "\n")


if __name__ == "__main__":
    main()
