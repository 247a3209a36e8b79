"""A small Qwen2-shaped model in plain torch over packed trees, and its export as Hugging Face files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from guard.training.packing import Batch, Layout
from guard.training.settings import ModelSettings, Precision

ROPE_THETA = 1e6
NORM_EPSILON = 1e-6


class Attention(nn.Module):
    """Attention of every token to its prefix and to what its branch may see."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = width // head_width, head_width
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Any, cos: Any, sin: Any, layout: Layout) -> Any:
        """`x`: [tokens, width], flat over all trees."""
        shape = (x.shape[0], self.heads, self.head_width)
        q, k, v = (proj(x).view(shape) for proj in (self.q_proj, self.k_proj, self.v_proj))
        # Attention stays float32, also where matrices are multiplied in bfloat16: its backward pass is slower
        # in that on CPUs.
        q, k, v = _rotate(q, cos, sin), _rotate(k, cos, sin), v.float()
        q, k, v = (_Spread.apply(z, layout.spread, layout.inverse) for z in (q, k, v))
        sizes = [layout.prefixes, *((block.rows, block.width) for block in layout.blocks)]
        lengths = [rows * width for rows, width in sizes]
        parts = [
            [self._rows(part, size) for part, size in zip(z.split(lengths), sizes, strict=True)]
            for z in (q, k, v)
        ]
        (prefix_q, *block_q), (prefix_k, *block_k), (prefix_v, *block_v) = parts
        outputs = [self._flat(_attend(prefix_q, prefix_k, prefix_v, is_causal=True))]
        for block, own_q, own_k, own_v in zip(layout.blocks, block_q, block_k, block_v, strict=True):
            rows, seen = block.prefix_row, block.prefix_length
            keys = torch.cat((prefix_k[:, :, :seen].index_select(0, rows), own_k), 2)
            values = torch.cat((prefix_v[:, :, :seen].index_select(0, rows), own_v), 2)
            outputs.append(self._flat(_attend(own_q, keys, values, attn_mask=block.mask)))
        return self.o_proj(_Collect.apply(torch.cat(outputs), layout.spread, layout.real, layout.inverse))

    def _rows(self, z: Any, size: tuple[int, int]) -> Any:
        """[rows, heads, width, head width]."""
        return z.view(*size, self.heads, self.head_width).transpose(1, 2)

    def _flat(self, z: Any) -> Any:
        return z.transpose(1, 2).reshape(-1, self.heads * self.head_width)


class _Spread(torch.autograd.Function):
    """Flat tokens → padded places. Padding is never looked at: its gradient is zero and need not be added."""

    @staticmethod
    def forward(context: Any, z: Any, spread: Any, inverse: Any) -> Any:
        context.save_for_backward(inverse)
        return z.index_select(0, spread)

    @staticmethod
    def backward(context: Any, gradient: Any) -> Any:
        return gradient.index_select(0, context.saved_tensors[0]), None, None


class _Collect(torch.autograd.Function):
    """Padded places → flat tokens."""

    @staticmethod
    def forward(context: Any, z: Any, spread: Any, real: Any, inverse: Any) -> Any:
        context.save_for_backward(spread, real)
        return z.index_select(0, inverse)

    @staticmethod
    def backward(context: Any, gradient: Any) -> Any:
        spread, real = context.saved_tensors
        return gradient.index_select(0, spread) * real, None, None, None


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Any) -> Any:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, NORM_EPSILON)


class Layer(nn.Module):
    """One decoder layer, names as in Qwen2."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.self_attn = Attention(settings.width, settings.head_width)
        self.mlp = FeedForward(settings.width, settings.hidden)
        self.input_layernorm, self.post_attention_layernorm = Norm(settings.width), Norm(settings.width)

    def forward(self, x: Any, cos: Any, sin: Any, layout: Layout) -> Any:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, layout)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(settings.vocabulary, settings.width)
        self.layers = nn.ModuleList(Layer(settings) for _ in range(settings.layers))
        self.norm = Norm(settings.width)


class TinyGuard(nn.Module):
    """The model. Its state dict is that of `Qwen2ForCausalLM` with tied embeddings."""

    def __init__(self, settings: ModelSettings, precision: Precision = "float32") -> None:
        super().__init__()
        self.settings, self.precision = settings, precision
        self.model = Body(settings)
        self._initialise()
        places = torch.arange(settings.max_positions).float()
        angles = torch.outer(places, _frequencies(settings.head_width))
        angles = torch.cat((angles, angles), -1)
        self._cos, self._sin = angles.cos(), angles.sin()

    def forward(self, batch: Batch) -> Any:
        """Hidden states [tokens, width] before the last norm."""
        x = self.model.embed_tokens(batch.ids)
        cos, sin = self._cos[batch.positions][:, None], self._sin[batch.positions][:, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            for layer in self.model.layers:
                x = layer(x, cos, sin, batch.layout)
        return x

    def logits(self, hidden: Any) -> Any:
        """Next-token logits of the given hidden states."""
        return self.model.norm(hidden) @ self.model.embed_tokens.weight.T

    def _initialise(self) -> None:
        """Two halves of a look-up are there from the start.

        Keys start equal to queries and outputs as half the transposed values: a token attends to tokens like
        itself and passes on what they are. The first three heads look one to three tokens back instead.
        """
        width = self.settings.width
        for name, weight in self.named_parameters():
            if "proj.weight" in name:
                nn.init.normal_(weight, std=0.5 * width**-0.5)
            elif "bias" in name:
                nn.init.zeros_(weight)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.06)
        for layer in self.model.layers:
            attention = layer.self_attn
            nn.init.normal_(attention.q_proj.weight, std=width**-0.5)
            attention.k_proj.weight.data.copy_(attention.q_proj.weight.data)
            nn.init.normal_(attention.v_proj.weight, std=width**-0.5)
            attention.o_proj.weight.data.copy_(0.5 * attention.v_proj.weight.data.T)
            nn.init.normal_(layer.mlp.down_proj.weight, std=0.1 * self.settings.hidden**-0.5)
        first = self.model.layers[0].self_attn
        for head in range(min(first.heads, 3)):
            _look_back(first, head, distance=head + 1)


@torch.no_grad()
def _look_back(attention: Attention, head: int, distance: int) -> None:
    """Let a head attend to the token `distance` places back, by its biases; what it passes on is random.

    The rotation turns equal biases into a peak at distance 0; the query's, turned back, move it.
    """
    width, half = attention.head_width, attention.head_width // 2
    own = slice(head * width, (head + 1) * width)
    known = torch.tensor([50.0, 20.0, 20.0, 20.0, 20.0])[:half].sqrt()
    strength = torch.zeros(half)
    strength[: len(known)] = known
    angles = -distance * _frequencies(width)
    attention.k_proj.bias[own] = torch.cat((strength, torch.zeros(half)))
    attention.q_proj.bias[own] = torch.cat((strength * angles.cos(), strength * angles.sin()))
    attention.q_proj.weight[own] *= 0.1
    attention.k_proj.weight[own] *= 0.1
    nn.init.normal_(attention.o_proj.weight[:, own], std=0.5 * attention.o_proj.weight.shape[0] ** -0.5)


def _frequencies(head_width: int) -> Any:
    """Radians a position, one a pair of dimensions."""
    return ROPE_THETA ** (-torch.arange(0, head_width, 2).float() / head_width)


def export_hugging_face(
    model: TinyGuard, folder: Path, *, eos_token_id: int, pad_token_id: int, dtype: str = "float32"
) -> None:
    """Write config.json, generation_config.json and model.safetensors."""
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    settings = model.settings
    heads = settings.width // settings.head_width
    config = Qwen2Config(
        vocab_size=settings.vocabulary,
        hidden_size=settings.width,
        intermediate_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        dtype=dtype,
        rms_norm_eps=NORM_EPSILON,
    )
    exported = Qwen2ForCausalLM(config)
    result = exported.load_state_dict(model.state_dict(), strict=False)
    if result.unexpected_keys or result.missing_keys not in ([], ["lm_head.weight"]):
        raise ValueError(f"the model does not fit Qwen2: {result}")
    exported.tie_weights()
    exported.generation_config = GenerationConfig(
        eos_token_id=eos_token_id, pad_token_id=pad_token_id, do_sample=False
    )
    exported.to(getattr(torch, dtype)).save_pretrained(folder)


def _attend(q: Any, k: Any, v: Any, **how: Any) -> Any:
    with torch.autocast("cpu", enabled=False):
        return functional.scaled_dot_product_attention(q, k, v, **how)


def _rotate(z: Any, cos: Any, sin: Any) -> Any:
    half = z.shape[-1] // 2
    return z * cos + torch.cat((-z[..., half:], z[..., :half]), -1) * sin
