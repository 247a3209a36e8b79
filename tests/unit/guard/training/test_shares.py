import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, template_of
from guard.training.model import TinyGuard
from guard.training.packing import Tree
from guard.training.settings import BatchSettings, ModelSettings
from guard.training.shares import Progress, Workers, dealt, shares_of
from guard.training.warm_start import BatchSource

FOLDER = SHIPPED / "tiny"
BY_MARK = torch.tensor([0.0, 1.0, 4.0, 4.0, 4.0, 4.0, 2.0])
BATCH = BatchSettings(task="full", policies=3, exchanges=4)
DRILL = BatchSettings(task="lookups", policies=3, exchanges=4)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 5))
def test_all_trees_are_dealt_once_in_hands_of_like_size(sizes: list[int], hands: int) -> None:
    trees = [Tree(ids=[number] * size) for number, size in enumerate(sizes)]
    shares = dealt(trees, hands)
    assert sorted(tree.ids[0] for share in shares for tree in share) == list(range(len(sizes)))
    assert len(shares) == min(hands, len(trees))
    tokens = [sum(len(tree.ids) for tree in share) for share in shares]
    assert min(tokens) > 0
    # The last tree of the largest hand was laid on what was the smallest one then.
    assert max(tokens) - min(tokens) <= max(sizes)


@pytest.fixture(scope="module")
def source() -> BatchSource:
    return BatchSource(PromptRenderer(FOLDER, template_of(FOLDER), b"x"))


def gradients(source: BatchSource, threads: int) -> tuple[list[torch.Tensor], dict[str, float]]:
    torch.manual_seed(0)
    model = TinyGuard(ModelSettings(vocabulary=2304, width=32, layers=1, head_width=16, hidden=32))
    progress = Progress()
    shares = shares_of(source.draw(1, 1, BATCH, threads), BY_MARK, 1.0, "")
    shares += shares_of(source.draw(1, 1, DRILL, threads), BY_MARK, 0.3, "drill_")
    with Workers(model, threads) as workers:
        workers.backward(shares, progress)
    return [weight.grad for weight in model.parameters() if weight.grad is not None], progress.take()


def test_gradients_and_figures_do_not_depend_on_the_number_of_threads(source: BatchSource) -> None:
    (one, said), (two, said_by_two) = gradients(source, 1), gradients(source, 2)
    assert said == pytest.approx(said_by_two, rel=1e-5)
    assert {"loss", "drill_loss", "fast", "drill_custom"} <= said.keys()
    for ours, theirs in zip(one, two, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_same_threads_give_the_same_gradients_to_the_last_bit(source: BatchSource) -> None:
    (first, _), (again, _) = gradients(source, 2), gradients(source, 2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))


def test_a_batch_counts_by_its_scale(source: BatchSource) -> None:
    torch.manual_seed(0)
    model = TinyGuard(ModelSettings(vocabulary=2304, width=32, layers=1, head_width=16, hidden=32))
    found = []
    for scale in (1.0, 0.5):
        with Workers(model, 1) as workers:
            workers.backward(shares_of(source.draw(1, 1, DRILL), BY_MARK, scale, ""), Progress())
        found.append(model.model.embed_tokens.weight.grad)
    torch.testing.assert_close(found[0] * 0.5, found[1])


def test_threads_within_a_multiplication_are_as_before_afterwards(source: BatchSource) -> None:
    before = torch.get_num_threads()
    with Workers(TinyGuard(ModelSettings(vocabulary=2304, width=32, layers=1, head_width=16, hidden=32)), 2):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
