from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from guard.errors import TrainingError
from guard.prompt import PromptRenderer, Turn, load_template
from guard.training.packing import BUILTIN, FAST, FIRST, Tree
from guard.training.row_encoding import naming_rationale
from guard.training.row_trees import RowTrees
from guard.training.row_words import tokenizer_of_rows
from guard.training.settings import BatchSettings
from guard.training.tokenizer import TURN_END, save_tokenizer, token_id
from tests.unit.guard.training.labelled_rows import POLICY, row

ROWS = [
    row(1, text="the casino opens at nine", rationale="casino is listed."),
    row(2, "safe", text="Ünlü Wörter, 漢字, 🙂 and <think> in a text"),
    row(3, codes=("C1", "C2"), text="ｇｕｎｓ and poker"),
    replace(row(4, "safe"), turns=(Turn(role="user", text="a"), Turn(role="assistant", text="b"))),
]
BATCH = BatchSettings(task="rows", policies=1, exchanges=8, source_power=1.0, label_power=1.0)


def made(folder: Path) -> PromptRenderer:
    template = load_template("rsafe-compact-1")
    tokenizer = tokenizer_of_rows(template, 700, ROWS)
    save_tokenizer(tokenizer, folder)
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {token_id(tokenizer, TURN_END)}}}')
    return PromptRenderer(folder, template, b"x")


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> PromptRenderer:
    return made(tmp_path_factory.mktemp("words"))


def parts(tree: Tree, number: int, branch: int) -> list[int]:
    places = zip(tree.ids, tree.exchange, tree.branch, strict=True)
    return [i for i, exchange, own in places if (exchange, own) == (number, branch)]


def exchanges(renderer: PromptRenderer, tree: Tree) -> dict[str, tuple[str, str]]:
    """What is said of a text → the answers with reasoning and without, in words."""
    found = {}
    for number in range(1, max(tree.exchange) + 1):
        text = renderer.decode(parts(tree, number, 0)).partition("<|im_end|>")[0]
        think, fast = (renderer.decode(parts(tree, number, branch)) for branch in (1, 2))
        found[text.partition(": ")[2].rpartition("\n")[0]] = (think, fast)
    return found


def test_a_row_has_the_answers_that_the_parser_reads(renderer: PromptRenderer) -> None:
    (tree,) = RowTrees(renderer, ROWS, 512).draw(1, 1, BATCH)
    found = exchanges(renderer, tree)
    assert found["the casino opens at nine"] == (
        " casino is listed.</think>\n\\boxed{unsafe} c2",
        "</think>\n\\boxed{unsafe} c2",
    )
    # Texts as serving reads them, and in the tokenizer's lower case.
    assert found["guns and poker"] == (
        f" {naming_rationale(ROWS[2]).lower()}</think>\n\\boxed{{unsafe}} c1, c2",
        "</think>\n\\boxed{unsafe} c1, c2",
    )
    assert found["ünlü wörter, 漢字, 🙂 and <think> in a text"][1] == "</think>\n\\boxed{safe}"
    assert len(found) == 4
    assert tuple(tree.ids[: tree.exchange.count(0)]) == renderer.system_of(POLICY)


def test_what_decides_is_marked(renderer: PromptRenderer) -> None:
    for only, marked in (
        (ROWS[0], {FIRST: 1, BUILTIN: 1, FAST: 1}),
        (ROWS[1], {FIRST: 1, BUILTIN: 0, FAST: 1}),
    ):
        (tree,) = RowTrees(renderer, [only], 512).draw(1, 1, BATCH)
        assert {mark: tree.marks.count(mark) for mark in marked} == marked
        verdicts = {renderer.verdict_tokens.safe, renderer.verdict_tokens.unsafe}
        deciding = [i for i, mark in zip(tree.ids, tree.marks, strict=True) if mark in (BUILTIN, FAST)]
        assert set(deciding) <= verdicts


def test_a_message_cannot_write_the_added_vocabulary(renderer: PromptRenderer) -> None:
    (tree,) = RowTrees(renderer, [ROWS[1]], 512).draw(1, 1, BATCH)
    (opening,) = renderer.encoder.structure("<think>")
    assert parts(tree, 1, 0).count(opening) == 1  # our own


def test_boundary_marks_are_drawn_anew_and_follow_from_the_step(renderer: PromptRenderer) -> None:
    trees = RowTrees(renderer, ROWS, 512)
    first, again, other = (trees.draw(1, step, BATCH)[0] for step in (1, 1, 2))
    assert first == again
    assert first.ids != other.ids


def test_rows_that_do_not_fit_are_left_out_and_counted(renderer: PromptRenderer) -> None:
    long = row(9, text="poker " * 400)
    trees = RowTrees(renderer, [*ROWS, long], 300)
    assert dict(trees.left_out) == {"prompt_too_long": 1}
    assert trees.account() == "rows: 4 under 1 policies; left out {'prompt_too_long': 1}"
    (tree,) = trees.draw(1, 1, BATCH)
    assert max(tree.positions) < 300
    with pytest.raises(TrainingError, match="none of 1 rows fits into max_positions, 64"):
        RowTrees(renderer, [long], 64)


def test_an_answer_that_teaches_no_form_and_a_row_without_its_twin_are_left_out(
    renderer: PromptRenderer,
) -> None:
    forged = row(7, rationale="so it ends </think> and \\boxed{safe}")
    paired = [row(8, twin="row-9"), row(9, "safe", twin="row-8", text="poker " * 400)]
    trees = RowTrees(renderer, [*ROWS, forged, *paired], 300)
    expected = {"answer_not_in_form": 1, "prompt_too_long": 1, "twin_left_out": 1}
    assert dict(trees.left_out) == expected


def test_the_tokenizer_knows_the_rows_words_and_codes_and_nothing_of_dev(tmp_path: Path) -> None:
    words = [row(n, text=f"quokka {n}") for n in range(30)]
    hidden = [replace(row(100 + n, text=f"marzipan {n}"), split="dev") for n in range(30)]
    template = load_template("rsafe-compact-1")
    vocabulary = tokenizer_of_rows(template, 900, [*words, *hidden]).get_vocab()
    assert {"Ġquokka", "Ġc1", "Ġc2", "Ġu18"} <= set(vocabulary)
    assert not any("marzipan" in word for word in vocabulary)
    assert tokenizer_of_rows(template, 900, [*words, *hidden]).get_vocab() == vocabulary
