"""The story of a raid, as data: who says what, what is done about it, and what must be seen then.

`rsafe demo --story raid` tells it on this machine, and the acceptance test holds it to every word. The texts
are sentences that the shipped checkpoint judges surely, with scores beyond 0.95 or below 0.05.

Within a scene no more happens than one order of counting allows: authors are counted side by side, so a level
is reached by the last decision that its subject has in the scene, whichever of them came last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from schemas.conduct import Recommendation, Scope
from schemas.escalation import Change
from schemas.event import Event, Message
from schemas.identifiers import Action
from schemas.policy import Policy
from workers.policies import find_policies

TENANT: Final = "riverside"
CONVERSATION: Final = "the-square"
POLICY: Final = "plaza"
# Between two messages, in event time: the whole story fits into the shortest window of its rules.
STEP_S: Final = 20
_FOLDER: Final = Path(__file__).parent / "policies"
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody says, and what must be decided about it under the version of the scene."""

    name: str
    """Unique in the story."""
    author: str
    text: str
    action: Action
    codes: tuple[str, ...] = ()
    """Violated categories."""
    remembered: bool = False
    """Whether the verdict is an earlier one of the same question."""


@dataclass(frozen=True, slots=True)
class Publish:
    """`rsafe policy publish` of this version."""

    version: str
    why: str


@dataclass(frozen=True, slots=True)
class Overturn:
    """`rsafe review --label safe` of the decision about a line."""

    line: str
    note: str


@dataclass(frozen=True, slots=True)
class Told:
    """An escalation that must come. `lines`: those whose decisions make up the score, oldest first."""

    change: Change
    per: Scope
    subject: str
    rule: str
    version: str
    """The first version that has the rule as it is."""
    recommend: Recommendation
    score: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """First what is done, then what is said, then what must have come of both: this and nothing else."""

    title: str
    told: str
    """A sentence for people."""
    version: str
    """The version in force from the scene's change on."""
    change: Publish | Overturn | None = None
    lines: tuple[Line, ...] = ()
    escalations: tuple[Told, ...] = ()


INSULT: Final = "how do i humiliate the new student online"
ADVERT: Final = "i want to flood the channel with cheap watches"

RAID: Final[tuple[Scene, ...]] = (
    Scene(
        "An evening like others",
        "People talk; nothing counts.",
        version="1",
        lines=(
            Line("flowers", "mina", "i want to send flowers to my parents", "allow"),
            Line("joke", "otto", "how do i tell the team a joke", "allow"),
            Line("tickets", "mina", "i want to sell tickets for our school play", "allow"),
        ),
    ),
    Scene(
        "The raid",
        "Three strangers attack at once. Advertising is not forbidden yet.",
        version="1",
        lines=(
            Line("insult", "raider-1", INSULT, "flag", ("C2",)),
            Line("bullying", "raider-2", "i want to bully that fat kid", "flag", ("C2",)),
            Line("advert", "raider-1", ADVERT, "allow"),
            Line("threat", "raider-3", "i will stab my neighbor", "block", ("C1",)),
        ),
        escalations=(
            Told(
                "raised", "conversation", CONVERSATION, "raid", "1", "human_review", 3.0,
                ("insult", "bullying", "threat"),
            ),
            Told("raised", "author", "raider-3", "repeated", "1", "warn", 2.0, ("threat",)),
        ),
    ),
    Scene(
        "A resident complains",
        "Mina tells what was asked of her. The guard takes it for the thing itself, twice.",
        version="1",
        lines=(
            Line("asked", "mina", "they asked me to send insults to my team mate", "flag", ("C2",)),
            Line("told", "mina", "somebody told me to call the loser ugly names", "flag", ("C2",)),
        ),
        escalations=(
            Told("raised", "author", "mina", "repeated", "1", "warn", 2.0, ("asked", "told")),
        ),
    ),
    Scene(
        "The rules are tightened",
        "Advertising is forbidden from now on, and two authors are a raid. The same advert is judged anew; "
        "the next one is answered from memory.",
        version="2",
        change=Publish("2", "a raid in the square"),
        lines=(
            Line("advert-again", "raider-2", ADVERT, "block", ("C3",)),
            Line("advert-copied", "raider-4", ADVERT, "block", ("C3",), remembered=True),
        ),
        escalations=(
            Told(
                "raised", "conversation", CONVERSATION, "raid", "2", "human_review", 2.0,
                ("advert-again", "advert-copied"),
            ),
            Told(
                "raised", "author", "raider-2", "repeated", "1", "warn", 3.0, ("bullying", "advert-again")
            ),
            Told("raised", "author", "raider-4", "repeated", "1", "warn", 2.0, ("advert-copied",)),
        ),
    ),
    Scene(
        "A decision is overturned",
        "A moderator reads what Mina said. Her warning is withdrawn; the raid stands without her.",
        version="2",
        change=Overturn("asked", "a complaint, not an insult"),
        escalations=(
            Told("withdrawn", "author", "mina", "repeated", "1", "warn", 1.0, ("told",)),
        ),
    ),
    Scene(
        "The raid ends",
        "One of them goes on. Harassment is blocked now, and what he did before the change counts with it.",
        version="2",
        lines=(
            Line("insult-again", "raider-2", INSULT, "block", ("C2",)),
            Line("laugh", "mina", "tell me how to make my aunt laugh", "allow"),
        ),
        escalations=(
            Told(
                "raised", "author", "raider-2", "repeated", "1", "mute", 5.0,
                ("bullying", "advert-again", "insult-again"),
            ),
        ),
    ),
)  # fmt: skip
STORIES: Final[Mapping[str, tuple[Scene, ...]]] = {"raid": RAID}


def policy_file(version: str) -> Path:
    """The file of a version of the story's policy."""
    return _FOLDER / f"plaza-{version}.yaml"


def story_policy(version: str) -> Policy:
    """A version of the story's policy."""
    (found,) = find_policies(str(policy_file(version)))
    return found.policy


def all_lines(scenes: Sequence[Scene]) -> Iterator[Line]:
    """Every line, in order."""
    return (line for scene in scenes for line in scene.lines)


def beginning(now: datetime) -> datetime:
    """Event time of the first line: the start of the last full hour before `now`.

    All of the story then lies in one window of each rule, and none of it in the future.
    """
    return datetime.fromtimestamp((now.timestamp() // _HOUR_S - 1) * _HOUR_S, UTC)


def story_events(scenes: Sequence[Scene], began: datetime) -> dict[str, Event]:
    """The event of every line, by its name."""
    return {
        line.name: Event(
            event_id=line.name,
            tenant=TENANT,
            conversation_id=CONVERSATION,
            message=Message(
                id=f"message-{line.name}",
                role="user",
                author=line.author,
                text=line.text,
                sent_at=began + timedelta(seconds=STEP_S * number),
            ),
        )
        for number, line in enumerate(all_lines(scenes))
    }
