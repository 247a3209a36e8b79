"""Tells a story on real parts, scene by scene, and says what went otherwise than told."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from schemas.decision import Decision
from workers.demo.story import (
    STORIES,
    Overturn,
    Publish,
    Scene,
    beginning,
    policy_file,
    story_events,
    story_policy,
)
from workers.demo.story_board import StoryBoard
from workers.demo.story_check import decided_otherwise, escalated_otherwise, expected_escalations
from workers.demo.story_site import Site
from workers.demo.story_topics import StoryTopics
from workers.demo.surroundings import Progress, signals_interrupt, stack_of
from workers.settings import load_settings

# Between two messages of the demo, in seconds: time to read.
PACE_S: Final = 1.0
_MODERATOR: Final = "moderator-1"


@dataclass(frozen=True, slots=True)
class StoryOptions:
    """`name`: of a story; `engine`: of the guard; `folder`: where logs go."""

    name: str
    engine: str
    folder: Path


def run_story(options: StoryOptions, console: Console) -> bool:
    """Tell it on a stack of its own, or on one that is given; whether it went as told.

    Raises a `WorkerError` that says what went wrong; nothing is left running then.
    """
    progress = Progress(console)
    scenes = STORIES[options.name]
    with signals_interrupt(), progress, stack_of(load_settings(), progress.say) as addresses:
        site = Site(addresses, options.engine, options.folder)
        otherwise = tell(scenes, site, console, progress, pace_s=PACE_S)
    console.print()
    if options.engine == "scripted":
        console.print("The scripted engine is a stand-in without a model: its verdicts mean nothing.")
    if otherwise:
        console.print(f"The story went otherwise in {len(otherwise)} points.", markup=False)
    else:
        console.print("The story went as told.")
    return not otherwise


def tell(
    scenes: Sequence[Scene], site: Site, console: Console, progress: Progress, *, pace_s: float = 0.0
) -> list[str]:
    """Tell the story to its end, or to the first scene that went otherwise; what did, a sentence each.

    `site` is opened here, and no process of it is left. `pace_s`: between two messages. Raises `StartError`
    and `StreamStopped`.
    """
    with site:
        progress.say("creating the topics")
        site.create_topics()
        first = scenes[0].version
        progress.say(f"publishing version {first} of the policy")
        site.command(*_publishing(Publish(first, "the rules of the square")))
        progress.say(
            f"starting worker and conduct (logs: {site.folder}); loading the guard takes a minute or two"
        )
        site.start(progress.wait)
        progress.stop()
        with StoryTopics(site) as topics:
            teller = _Teller(scenes, site, topics, console, pace_s)
            for number, scene in enumerate(scenes, start=1):
                if otherwise := teller.tell(number, scene):
                    return otherwise
        ended = site.stop()
    return [f"{name} ended with exit code {code}" for name, code in ended.items() if code != 0]


class _Teller:
    """Tells scene after scene, each of them to its end."""

    def __init__(
        self, scenes: Sequence[Scene], site: Site, topics: StoryTopics, console: Console, pace_s: float
    ) -> None:
        self._site, self._topics, self._pace_s = site, topics, pace_s
        self._began = beginning(datetime.now(UTC))
        self._events = story_events(scenes, self._began)
        self._policies = {version: story_policy(version) for version in {one.version for one in scenes}}
        self._decisions: dict[str, Decision] = {}
        self._board = StoryBoard(console, {name: one.message.text for name, one in self._events.items()})

    def tell(self, number: int, scene: Scene) -> list[str]:
        """Tell it; what went otherwise."""
        self._board.scene(number, scene)
        decided, escalated = len(self._topics.decisions), len(self._topics.escalations)
        if scene.change is not None:
            self._change(scene.change)
        for line in scene.lines:
            self._site.say(self._events[line.name])
            said = time.monotonic()
            while time.monotonic() - said < self._pace_s:  # for the one who watches; nothing depends on it
                self._board.show(self._topics.look())
        for new in self._topics.follow([line.name for line in scene.lines]):
            self._board.show(new)
        otherwise = list(self._otherwise(scene, decided, escalated))
        self._board.otherwise(otherwise)
        return otherwise

    def _change(self, change: Publish | Overturn) -> None:
        if isinstance(change, Publish):
            words = _publishing(change)
            self._board.done(f"rsafe {shlex.join(words)}", self._site.command(*words))
            seconds = self._site.await_policy(self._policies[change.version])
            self._board.note(f"the worker has it {seconds:.1f} s after that, without a restart")
        else:
            words = _reviewing(change, self._decisions[change.line])
            self._board.done(f"rsafe {shlex.join(words)}", self._site.command(*words))

    def _otherwise(self, scene: Scene, decided: int, escalated: int) -> Iterator[str]:
        """What is otherwise about all that came since the scene began."""
        came = [one.event_id for one in self._topics.decisions[decided:]]
        if sorted(came) != sorted(line.name for line in scene.lines):
            yield f"decisions about {', '.join(came) or 'nothing'}; expected each line of the scene once"
            return
        self._decisions |= {one.event_id: one for one in self._topics.decisions[decided:]}
        policy = self._policies[scene.version]
        yield from decided_otherwise(scene, self._events, self._decisions, policy)
        expected = expected_escalations(scene, self._decisions, self._policies, self._began)
        yield from escalated_otherwise(expected, self._topics.escalations[escalated:])


def _publishing(change: Publish) -> tuple[str, ...]:
    file = str(policy_file(change.version))
    return ("policy", "publish", file, "--by", _MODERATOR, "--why", change.why)


def _reviewing(change: Overturn, decision: Decision) -> tuple[str, ...]:
    words = ("--label", "safe", "--reviewer", _MODERATOR, "--note", change.note)
    return ("review", decision.decision_id, *words)
