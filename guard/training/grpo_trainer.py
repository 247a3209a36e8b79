"""The door to TRL's GRPO trainer: prompts are token ids, rewards come from the serving parser.

TRL takes a prompt as text and would encode it with the added vocabulary. Here the column `prompt` holds the
number of a row, and the one method that turns prompts into ids looks the row up; vLLM and Hugging Face
`generate` are both given those ids. So no text enters TRL, and none can leave it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from datasets import Dataset

from guard.training.grpo_settings import GrpoSettings
from guard.training.rewards import Parts
from guard.training.rollouts import DRAWN, GroupCounts, RewardFunction, count_groups
from guard.training.row_encoding import Asked
from guard.training.trainer_parts import KeptStates

with warnings.catch_warnings():
    # TRL 1.16 names vLLM 0.22 to 0.31; what is installed is said when rollouts go through it.
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM versions")
    # Importing TRL imports compilers of torch that warn of each other.
    warnings.simplefilter("ignore", DeprecationWarning)
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head, use_adapter

VLLM_VERSIONS: Final = "0.22.0 to 0.31.0"
"""Of vLLM, those that TRL 1.16.0 was made for."""


class GuardGrpoTrainer(KeptStates, GRPOTrainer):
    """GRPO over rows of a guard. `start` are the weights at the beginning, where the divergence is logged."""

    def __init__(
        self,
        *,
        run_folder: Path,
        asked: Sequence[Asked],
        settings: GrpoSettings,
        start: Any,
        **arguments: Any,
    ) -> None:
        self.run_folder = run_folder
        self._asked = asked
        self._settings = settings
        super().__init__(**arguments)
        self._start = start
        if start is not None:
            add_fused_lm_head(start, temperature=self.temperature)
            self._start = self.accelerator.prepare_model(start, evaluation_mode=True)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._asked[int(prompt)].prompt.tolist() for prompt in prompts], None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        counts = self._count()
        if self._settings.flat_groups == "leave_out" and 0 < counts.flat < counts.groups:
            # The mean over groups that differ, since flat ones add nothing to the sum.
            output["advantages"] = output["advantages"] * (counts.groups / (counts.groups - counts.flat))
        if self._settings.measure_kl and self._settings.kl_weight == 0.0:
            self._metrics["train"]["kl"].append(self._divergence(output))
        return output

    def _count(self) -> GroupCounts:
        # Gathered over all processes by TRL, since a group may lie in two of them.
        rewards = list(self._logs["rewards"][self.reward_func_names[0]])
        right = list(self._logs["extra"][DRAWN])
        counts = count_groups(rewards, right, self.num_generations)
        for name, value in counts.figures().items():
            self._metrics["train"][name].append(float(value))
        return counts

    @torch.no_grad()
    def _divergence(self, output: dict[str, Any]) -> float:
        """KL from the weights at the start, in nats a token, over the drawn answers; never negative.

        The estimator exp(d) - d - 1 of d = log p_start - log p (Schulman, Approximating KL Divergence).
        """
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], 1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], 1)
        now = self._log_probabilities(self.model, ids, mask, output)
        if self._start is not None:
            before = self._log_probabilities(self._start, ids, mask, output)
        else:
            with use_adapter(self.accelerator.unwrap_model(self.model), adapter_name=None):
                before = self._log_probabilities(self.model, ids, mask, output)
        difference = before - now
        divergence = (difference.exp() - difference - 1) * output["completion_mask"]
        sums = torch.stack([divergence.sum(), output["completion_mask"].sum().float()])
        total, tokens = self.accelerator.reduce(sums, reduction="sum").tolist()
        return float(total / max(tokens, 1.0))

    def _log_probabilities(self, model: Any, ids: Any, mask: Any, output: dict[str, Any]) -> Any:
        kept = output["completion_ids"].size(1)
        return self._get_per_token_logps_and_entropies(
            model, ids, mask, kept, batch_size=self.args.per_device_train_batch_size
        )[0]


def make_trainer(
    model: Any,
    tokenizer: Any,
    arguments: dict[str, Any],
    *,
    settings: GrpoSettings,
    asked: Sequence[Asked],
    order: Sequence[int],
    judge: Callable[[Asked, Sequence[int]], Parts],
    use_vllm: bool,
    run_folder: Path,
    start: Any,
    callback: Any,
) -> GuardGrpoTrainer:
    """The trainer; `order` are indices of `asked`, generation after generation."""
    accumulation = arguments["gradient_accumulation_steps"]
    config = GRPOConfig(
        **arguments,
        steps_per_generation=accumulation * settings.updates_per_generation,
        num_generations=settings.group,
        max_completion_length=settings.max_completion_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        beta=settings.kl_weight,
        epsilon=settings.clip,
        loss_type=settings.loss,
        scale_rewards="none" if settings.loss == "dr_grpo" else "group",
        shuffle_dataset=False,  # the order stands already
        log_completions=False,
        use_vllm=use_vllm,
        vllm_mode="colocate",
        vllm_gpu_memory_utilization=settings.vllm_memory,
        vllm_max_model_length=settings.max_prompt_tokens + settings.max_completion_tokens,
    )
    return GuardGrpoTrainer(
        run_folder=run_folder,
        asked=asked,
        settings=settings,
        start=start,
        model=model,
        reward_funcs=RewardFunction(asked, judge, settings.rewards),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": [str(index) for index in order]}),
        callbacks=[callback],
    )
