"""What a story shows: a heading per scene, a line per decision and escalation, and what was otherwise.

The same lines in a terminal, where they are coloured, and elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from schemas.decision import Decision
from schemas.escalation import Escalation
from workers.demo.story import Scene
from workers.terminal import ACTION_STYLES, harmless

_ID_DIGITS: Final = 8


class StoryBoard:
    """Prints to the console. `texts`: of each event, by its id; decisions do not hold them."""

    def __init__(self, console: Console, texts: Mapping[str, str]) -> None:
        self._console = console
        self._texts = texts

    def scene(self, number: int, scene: Scene) -> None:
        """A new scene."""
        self._print("")
        self._print(f"{number}  {scene.title} (version {scene.version})", "bold")
        self._print(f"   {scene.told}", "dim")

    def done(self, command: str, output: str) -> None:
        """A command was run, and said this."""
        self._print(f"   $ {command}", "cyan")
        for line in output.splitlines():
            self._print(f"     {line}", "cyan")

    def note(self, sentence: str) -> None:
        """Something that is to be known."""
        self._print(f"   {sentence}", "dim")

    def show(self, came: Iterable[Decision | Escalation]) -> None:
        """Decisions and escalations as they came."""
        for one in came:
            if isinstance(one, Decision):
                self._print(
                    f"   {decision_line(one, self._texts[one.event_id])}", ACTION_STYLES.get(one.action, "")
                )
            else:
                style = "bold magenta" if one.change == "raised" else "bold blue"
                self._print(f"   {escalation_line(one)}", style)

    def otherwise(self, sentences: Sequence[str]) -> None:
        """What did not come as told; nothing: the scene went as told."""
        if not sentences:
            self._print("   as told", "green")
        for sentence in sentences:
            self._print(f"   otherwise: {sentence}", "bold red")

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(Text(harmless(line), style=style), soft_wrap=True)


def decision_line(one: Decision, text: str) -> str:
    """Who said what, and what was decided by which version."""
    codes = ", ".join(category.code for category in one.categories if category.violated) or "–"
    score = "–" if one.score is None else f"{one.score:.2f}"
    source = "remembered" if one.cache.hit else one.status
    return (
        f"{one.decision_id[:_ID_DIGITS]}  {one.author:<9} {text:<50} {one.label or '–':>6} → {one.action:<6} "
        f"{codes:<3} {score:>5}  {one.policy.id} {one.policy.version}  {source}"
    )


def escalation_line(one: Escalation) -> str:
    """What is recommended for whom, by which rule, and on the ground of which decisions."""
    mark = "▲" if one.change == "raised" else "▽"
    ground = ", ".join(name[:_ID_DIGITS] for name in one.decisions)
    length = "" if one.for_s is None else f" for {one.for_s} s"
    taken = "" if one.replaces is None else f", takes back {one.replaces[:_ID_DIGITS]}"
    return (
        f"{one.escalation_id[:_ID_DIGITS]}  {mark} {one.change}: {one.recommend}{length}, "
        f"{one.per} {one.subject}, rule {one.rule.rule} of {one.rule.policy} {one.rule.version}, "
        f"score {one.score:g} of {one.level:g} ({ground}){taken}"
    )
