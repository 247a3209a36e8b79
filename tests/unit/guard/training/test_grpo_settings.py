from typing import Any

import msgspec
import pytest

from guard.training.grpo_settings import GrpoSettings, SupervisedSettings


def test_the_defaults_of_alignment_are_those_of_the_paper() -> None:
    settings = GrpoSettings()
    assert (settings.group, settings.temperature, settings.top_p) == (4, 0.7, 0.8)
    assert (settings.learning_rate, settings.kl_weight) == (1e-7, 0.0)
    assert (settings.max_prompt_tokens, settings.max_completion_tokens) == (2048, 512)
    assert (settings.rewards.accuracy, settings.rewards.format) == (0.9, 0.1)
    assert (settings.rewards.category, settings.rewards.brevity, settings.rewards.evidence) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"group": 1}, r"\$\.group"),
        ({"top_p": 1.5}, r"\$\.top_p"),
        ({"rewards": {"format": -1.0}}, r"\$\.rewards\.format"),
        ({"rewards": {"accuracy": 0.0}}, r"accuracy: found 0\.0; expected more than 0 - at `\$\.rewards`"),
        ({"lora": {"modules": ["lm_head"]}}, r"modules: lm_head cannot have an adapter"),
        ({"rows_per_step": 3, "group": 3, "device_rows": 4}, r"rows_per_step: found 9 sequences a step"),
        ({"save_every": 3, "updates_per_generation": 2}, r"save_every: found 3; expected a multiple of"),
        ({"measure_kl": True, "processes": 4}, r"measure_kl: one process, or lora"),
        ({"learning_rat": 1e-6}, r"learning_rat"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=sentence):
        msgspec.convert(content, GrpoSettings)


def test_ways_stand_once_and_steps_are_whole() -> None:
    with pytest.raises(msgspec.ValidationError, match="ways: found fast, fast; expected each once"):
        msgspec.convert({"ways": ["fast", "fast"]}, SupervisedSettings)
    with pytest.raises(msgspec.ValidationError, match="batch_rows: found 30 sequences a step"):
        msgspec.convert({"batch_rows": 30, "device_rows": 4}, SupervisedSettings)
