import random
from pathlib import Path

import pytest
import torch

from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, template_of
from guard.training.drills import LookupDrill, WordDrill
from guard.training.encoding import TreeEncoder
from guard.training.generator.conversations import draw_group
from guard.training.generator.words import wrong_nonce
from guard.training.model import TinyGuard, export_hugging_face
from guard.training.packing import Tree, collate
from guard.training.recipe import read_recipe

TINY = SHIPPED / "tiny"


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    return PromptRenderer(TINY, template_of(TINY), b"x")


@pytest.fixture(scope="module")
def model() -> TinyGuard:
    torch.manual_seed(0)
    return TinyGuard(read_recipe("tiny").model)


def paths(tree: Tree) -> list[list[int]]:
    """Token places of every root-to-leaf sequence."""
    found = []
    prefix = [i for i, e in enumerate(tree.exchange) if e == 0]
    for exchange in sorted(set(tree.exchange) - {0}):
        own = [i for i, e in enumerate(tree.exchange) if e == exchange]
        trunk = [i for i in own if tree.branch[i] == 0]
        branches = sorted({tree.branch[i] for i in own} - {0})
        found += [prefix + trunk + [i for i in own if tree.branch[i] == b] for b in branches]
    return found


def trees(renderer: PromptRenderer) -> list[Tree]:
    encoder = TreeEncoder(renderer)
    return [encoder.encode(*draw_group(seed, 4), random.Random(seed)) for seed in range(4)]


def test_packed_trees_equal_ordinary_sequences(
    renderer: PromptRenderer, model: TinyGuard, tmp_path: Path
) -> None:
    from transformers import Qwen2ForCausalLM

    drawn = trees(renderer)
    batch = collate(drawn)
    with torch.no_grad():
        packed = model.logits(model(batch))
    export_hugging_face(model, tmp_path, eos_token_id=2, pad_token_id=0)
    reference = Qwen2ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    offset = 0
    for tree in drawn:
        for places in paths(tree):
            ids = torch.tensor([[tree.ids[i] for i in places]])
            positions = [tree.positions[i] for i in places]
            assert positions == list(range(len(places)))
            with torch.no_grad():
                ordinary = reference(input_ids=ids).logits[0]
            torch.testing.assert_close(packed[[offset + i for i in places]], ordinary, atol=1e-5, rtol=1e-4)
        offset += len(tree.ids)


def test_merged_drills_equal_separate_ones(renderer: PromptRenderer, model: TinyGuard) -> None:
    drawn = [LookupDrill(renderer).draw(seed, 6, longest=4, in_text=True) for seed in range(3)]
    drawn += [WordDrill(renderer).draw(seed, 6, small=True) for seed in range(3)]
    with torch.no_grad():
        merged = model(collate(drawn, prefix_groups=1, blocks=1, merge=True))
        separate = model(collate(drawn, prefix_groups=2, blocks=2))
    torch.testing.assert_close(merged, separate, atol=1e-5, rtol=1e-4)


def test_gradients_pass_the_padding(renderer: PromptRenderer, model: TinyGuard) -> None:
    drawn = trees(renderer)[:2]

    def gradients(*batches: object) -> list[torch.Tensor]:
        model.zero_grad()
        for batch in batches:
            model(batch).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    together = gradients(collate(drawn))
    apart = gradients(collate(drawn[:1], 1, 1), collate(drawn[1:], 1, 4))
    assert together
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-3)


def test_training_sees_what_serving_renders(renderer: PromptRenderer) -> None:
    policy, exchanges = draw_group(11, 3)
    rng, marks = random.Random(5), random.Random(5)
    tree = TreeEncoder(renderer).encode(policy, exchanges, rng)
    for places, (exchange, mode) in zip(
        paths(tree), [(e, m) for e in exchanges for m in ("think", "fast")], strict=True
    ):
        if mode == "think":
            nonce = wrong_nonce(marks, renderer.template.nonce_length)
        prompt = (
            renderer.system_ids(policy)
            + renderer.conversation_ids(nonce, exchange.turns)
            + renderer.opening_ids
        )
        ids = tuple(tree.ids[i] for i in places)
        assert ids[: len(prompt)] == prompt
        completion = renderer.decode(ids[len(prompt) :])
        if mode == "fast":
            assert ids[len(prompt) :][: len(renderer.fast_suffix)] == renderer.fast_suffix
        assert completion.endswith(f"\\boxed{{{exchange.label}}}" + f" {exchange.code.lower()}".rstrip())
