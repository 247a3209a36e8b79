import io

from rich.console import Console

from guard.training.run_log import RunLog


def shown(*, terminal: bool) -> str:
    stream = io.StringIO()
    with RunLog(Console(file=stream, force_terminal=terminal, width=60)) as log:
        log.say("dataset: started [not markup]")
        log.show("step=50 " + "x" * 80)
        log.say("dataset: done")
    return stream.getvalue()


def test_without_a_terminal_every_line_stands_as_it_is() -> None:
    lines = ["dataset: started [not markup]", "step=50 " + "x" * 80, "dataset: done"]
    assert shown(terminal=False).splitlines() == lines


def test_in_a_terminal_sentences_stay_and_the_rest_moves() -> None:
    text = shown(terminal=True)
    assert "dataset: started [not markup]" in text
    assert "dataset: done" in text
    assert "\x1b[" in text  # the moving line is drawn over
