"""Low-rank adapters: put on for training, merged before anything is served. The door to peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guard.errors import TrainingError
from guard.training.grpo_settings import LoraSettings


def adapted(model: Any, settings: LoraSettings) -> Any:
    """The model with an adapter on every layer that `modules` names; only the adapters are trained.

    Raises `TrainingError` where the model has none of these layers.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.modules),
        bias="none",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise TrainingError(f"lora.modules: the model does not have these layers: {error}") from error


def merged(base: Any, adapter: Path) -> Any:
    """The base with a trained adapter added into its weights: a model without any trace of adapters."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, str(adapter), is_trainable=False).merge_and_unload()
