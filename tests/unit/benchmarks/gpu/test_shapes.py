from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.gpu.shapes import QWEN_7B, TINY, Shape, write_model
from guard.checkpoint import open_checkpoint


@pytest.mark.parametrize("shape", [TINY, QWEN_7B], ids=lambda shape: shape.name)
def test_transformers_makes_as_many_weights_as_are_counted(shape: Shape, tmp_path: Path) -> None:
    import torch

    config = AutoConfig.from_pretrained(write_model(shape, tmp_path / "model"))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    matrices = sum(one.numel() for name, one in model.named_parameters() if "proj.weight" in name)
    assert matrices == shape.layer_weights
    assert model.lm_head.weight.numel() == shape.head_weights


def test_the_folder_is_a_checkpoint_for_random_weights(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_model(TINY, tmp_path / "model")), weights=False)
    assert checkpoint.max_model_len == TINY.max_positions
    assert not checkpoint.verified
