from pathlib import Path

import msgspec
import pytest

from guard.checkpoint import open_checkpoint
from guard.training.grpo_settings import SupervisedSettings
from guard.training.row_encoding import RowEncoder, training_renderer
from guard.training.scratch import ScratchSettings, make_scratch_model
from guard.training.supervised import encode_answers
from guard.training.weights import template_for
from tests.unit.guard.training.labelled_rows import row, twins

SMALL = ScratchSettings(vocabulary=600, width=32, layers=1, head_width=32, hidden=64, max_positions=2048)
ROWS = [*twins(10), row(1, text="Ünlü Wörter, 漢字 and <think> in a text", rationale="a reason.")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scratch_model(SMALL, ROWS, tmp_path_factory.mktemp("scratch") / "base")


def test_the_same_rows_give_the_same_files(made: Path, tmp_path: Path) -> None:
    again = make_scratch_model(SMALL, ROWS, tmp_path / "again")
    digests = [open_checkpoint(str(folder)).weights_digest for folder in (made, again)]
    assert digests[0] == digests[1]
    other = make_scratch_model(msgspec.structs.replace(SMALL, seed=1), ROWS, tmp_path / "other")
    assert open_checkpoint(str(other)).weights_digest != digests[0]


def test_every_row_can_be_asked_and_answered(made: Path) -> None:
    renderer = training_renderer(made, template_for(made, ""), 0)
    assert renderer.template_version == "rsafe-instruct-1"
    encoder = RowEncoder(renderer, 2048, 512)
    settings = SupervisedSettings(without_rationale="name_category")
    _, _, taught = encode_answers(settings, ROWS, encoder)
    assert taught == {"think": len(ROWS), "fast": len(ROWS)}
    assert not encoder.left_out


def test_a_width_that_heads_do_not_fill_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="width: found 100; expected a multiple of head_width"):
        msgspec.convert({"width": 100}, ScratchSettings)
