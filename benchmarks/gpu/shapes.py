"""Models of a known shape with random weights: as fast as trained ones, and nothing has to be downloaded.

Prompts are made of the shipped checkpoint's tokenizer, which is smaller than the model's vocabulary: what the
model says means nothing, and is not decoded to anything that is read.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guard.checkpoint import SHIPPED

_TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2 model. Widths in numbers of a vector; `heads` ask, `key_heads` are asked."""

    name: str
    layers: int
    width: int
    hidden: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    max_positions: int

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of all layers, by which every token is multiplied."""
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + 3 * self.width * self.hidden)

    @property
    def head_weights(self) -> int:
        """Weights of the last matrix, by which only positions are multiplied whose next token is wanted."""
        return self.vocabulary * self.width


# As config.json of Qwen/Qwen2.5-7B-Instruct has it, but for the length, of which 4,096 are used here.
QWEN_7B: Final = Shape("qwen2.5-7b", 28, 3584, 18944, 28, 4, 128, 152_064, 4096)
TINY: Final = Shape("tiny", 2, 128, 256, 4, 2, 32, 4096, 2048)
SHAPES: Final = {shape.name: shape for shape in (QWEN_7B, TINY)}


def write_model(shape: Shape, folder: Path) -> Path:
    """A folder in the Hugging Face layout without weights, for vLLM's load format `dummy`."""
    folder.mkdir(parents=True)
    for name in _TOKENIZER:
        shutil.copy(SHIPPED / "tiny" / name, folder / name)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_width,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        **_end_tokens(),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(_end_tokens()), encoding="utf-8")
    return folder


def _end_tokens() -> dict[str, int]:
    config = json.loads((SHIPPED / "tiny" / "config.json").read_text(encoding="utf-8"))
    return {name: config[name] for name in ("eos_token_id", "pad_token_id")}
