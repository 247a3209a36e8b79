"""A format over a tokenizer: prompts in the words of a guard's maker, as token ids.

The layout is written with stand-ins for texts and cut at them (`skeleton`). Structure is encoded with the
added vocabulary, and texts without it, so no text can write a control token. Words on a text's own line and
white space after it are encoded together with the text, as the maker's tokenizer would see them; the text is
stripped of white space, as makers do it.

The words that fence the turns are plain text in most of these formats, and everybody knows them. A text may
say `<END CONVERSATION>`; it is then ordinary pieces, and what the model makes of it is up to the model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from guard.answer import Answer, Unparseable
from guard.chat_template import chat_of
from guard.errors import TemplateError
from guard.profiles.format import Format
from guard.profiles.profile import Profile
from guard.profiles.skeleton import Place, Skeleton, Skeletons
from guard.prompt import PromptParts, Turn, VerdictTokens
from guard.prompt_encoding import TextEncoder, common_prefix, end_tokens
from schemas.identifiers import Label
from schemas.policy import Category, Policy, canonical_categories

# Policies and their parts in turn; beyond, they are encoded anew in a millisecond.
_KEPT: Final = 512
_PROBE: Final = Policy(
    id="probe", version="1", categories=(Category(code="C1", title="title", definition="definition"),)
)


class FormatRenderer:
    """Renders for one tokenizer and one format. Thread-safe: what is kept has a lock."""

    opening_ids: tuple[int, ...] = ()
    mark_tokens = 0

    def __init__(self, folder: Path, profile: Profile, of: Format) -> None:
        self.profile, self._format = profile, of
        self.encoder = TextEncoder(folder)
        self.eos_token_ids = end_tokens(folder)
        chat = chat_of(folder) if of.own_template else None
        if of.own_template and chat is None:
            raise TemplateError(
                f"{folder}: no chat template; the profile takes its prompt from the checkpoint's own "
                "(chat_template.jinja, or chat_template in tokenizer_config.json)"
            )
        self._skeletons = Skeletons(of, profile.modes, self.encoder, chat)
        self._lock = Lock()
        self._policy_ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._questions: dict[int, tuple[Policy, tuple[Policy, ...], dict[str, str]]] = {}
        probe = self._skeletons.of(("user",))
        named = {place.name for place in probe.places if not place.name.isdigit()}
        lacking = of.fill(_PROBE, profile.codes_of(_PROBE)).keys() - named
        if lacking:
            raise TemplateError(
                f"the chat template in {folder} does not show the policy's {min(lacking)}; the profile "
                f"{profile.name!r} needs a template that does"
            )
        self.answers_in_full = of.in_full
        self.think_close_ids = self.encoder.structure(of.think_close)
        lead, self.verdict_tokens = self._verdicts(of.fast_lead)
        self.fast_suffix = probe.tails[0] + lead
        self.forced_close, again = self._verdicts(of.think_close)
        if again != self.verdict_tokens:
            raise TemplateError("the tokenizer spells a verdict otherwise after a reasoning")
        self.think_suffix = probe.tails[1] + self.encoder.structure(of.think_open)

    @property
    def template_version(self) -> str:
        return self._format.version

    @property
    def frame_tokens(self) -> int:
        found = self._skeletons.of(("user",))
        return sum(len(place.before) for place in found.places) + len(found.ending) + len(self.fast_suffix)

    def render(self, policy: Policy, turns: Sequence[Turn]) -> tuple[int, ...]:
        """The prompt's ids. The last turn is the one to judge; the oldest may have no place in the format."""
        prompt = self.render_within(policy, turns, None)
        assert prompt is not None
        return prompt

    def render_within(
        self, policy: Policy, turns: Sequence[Turn], room: int | None
    ) -> tuple[int, ...] | None:
        """As `render`, or None when the prompt has more than `room` ids."""
        if not turns:
            raise ValueError("a conversation has at least one turn")
        skeleton = self._skeletons.of(tuple(turn.role for turn in turns))
        if room is not None:
            texts = [text for place, text in self._filled(skeleton, policy, turns) if place.name.isdigit()]
            if self.encoder.surely_longer(texts, room):
                return None
        prompt = tuple(i for piece in self._pieces(skeleton, policy, turns) for i in piece) + skeleton.ending
        return prompt if room is None or len(prompt) <= room else None

    def parts(self, policy: Policy, turns: Sequence[Turn]) -> PromptParts:
        """What `render` gives, in its parts: no mark, and all that follows the last turn is its ending."""
        skeleton = self._skeletons.of(tuple(turn.role for turn in turns))
        pieces = self._pieces(skeleton, policy, turns)
        of_turns = [number for number, place in enumerate(skeleton.places) if place.name.isdigit()]
        first, last = of_turns[0], of_turns[-1]
        joined = {number: pieces[2 * number] + pieces[2 * number + 1] for number in range(len(pieces) // 2)}
        system = tuple(i for number in range(first) for i in joined[number]) + pieces[2 * first]
        shown = [pieces[2 * first + 1], *(joined[number] for number in of_turns[1:])]
        after = tuple(i for number in range(last + 1, len(joined)) for i in joined[number])
        if skeleton.first < 0:  # the blank turn stands for none of the conversation's
            system, shown = system + shown[0], shown[1:]
        return PromptParts(
            mark="", system=system, turns=tuple(shown), ending=after + skeleton.ending, opening=()
        )

    def system_of(self, policy: Policy) -> tuple[int, ...]:
        """The ids with which prompts under the policy begin, where a user's message is judged alone."""
        return self.parts(policy, (Turn(role="user", text=""),)).system

    def turns_read(self, turns: Sequence[Turn]) -> int:
        return len(turns) - max(0, self._skeletons.of(tuple(turn.role for turn in turns)).first)

    def questions(self, policy: Policy) -> tuple[Policy, ...]:
        """The policies of the calls: itself, or for a guard of one category a call, one of each."""
        return self._asked(policy)[1]

    def decode(self, ids: Sequence[int]) -> str:
        end = len(ids)
        while end and ids[end - 1] in self.eos_token_ids:
            end -= 1
        return self.encoder.decode(ids[:end])

    def closes(self, ids: Sequence[int]) -> bool:
        close = self._format.think_close.strip()
        return bool(close) and close in self.decode(ids)

    def read(self, ids: Sequence[int], policy: Policy) -> Answer | Unparseable:
        return self.profile.answer(self.decode(ids), policy)

    def answer_ids(self, label: Label) -> tuple[int, ...]:
        lead = self._format.think_close or self._format.fast_lead
        return self.encoder.structure(lead + (self._format.safe if label == "safe" else self._format.unsafe))

    def _asked(self, policy: Policy) -> tuple[Policy, tuple[Policy, ...], dict[str, str]]:
        """The policy, those of its calls, and the slots of the longest of them."""
        known = self._questions.get(id(policy))
        if known is not None and known[0] is policy:
            return known
        each: tuple[Policy, ...] = (policy,)
        if self.profile.one_category and len(policy.categories) > 1:
            each = tuple(
                msgspec.structs.replace(policy, categories=(category,), examples=())
                for category in canonical_categories(policy)
            )
        slots = [self._format.fill(one, self.profile.codes_of(one)) for one in each]
        longest = max(slots, key=lambda texts: sum(map(len, self.encoder.plain(list(texts.values())))))
        if len(self._questions) >= _KEPT:
            self._questions.clear()
        found = self._questions[id(policy)] = (policy, each, longest)
        return found

    def _filled(self, skeleton: Skeleton, policy: Policy, turns: Sequence[Turn]) -> list[tuple[Place, str]]:
        slots = self._asked(policy)[2]
        texts = [turn.text.strip() for turn in turns]
        if skeleton.first < 0:
            texts = ["", texts[-1]]
        number = max(0, skeleton.first)
        return [
            (
                place,
                place.lead
                + (texts[number + int(place.name)] if place.name.isdigit() else slots[place.name])
                + place.trail,
            )
            for place in skeleton.places
        ]

    def _pieces(self, skeleton: Skeleton, policy: Policy, turns: Sequence[Turn]) -> list[tuple[int, ...]]:
        """Structure and texts in turn; two for each place."""
        filled = self._filled(skeleton, policy, turns)
        plain = iter(self.encoder.plain([text for place, text in filled if place.name.isdigit()]))
        pieces: list[tuple[int, ...]] = []
        for place, text in filled:
            pieces += [place.before, next(plain) if place.name.isdigit() else self._of_policy(text)]
        return pieces

    def _of_policy(self, text: str) -> tuple[int, ...]:
        with self._lock:
            found = self._policy_ids.get(text)
            if found is None:
                (found,) = self.encoder.plain([text])
                self._policy_ids[text] = found
                if len(self._policy_ids) > _KEPT:
                    self._policy_ids.popitem(last=False)
            return found

    def _verdicts(self, lead: str) -> tuple[tuple[int, ...], VerdictTokens]:
        """The ids up to where the answers part behind a lead, and what parts them there."""
        of = self._format
        answers = (of.safe, of.unsafe, *of.also_safe, *of.also_unsafe)
        spelt = [self.encoder.structure(lead + answer) for answer in answers]
        common, before = common_prefix(spelt), self.encoder.structure(lead)
        at = len(common)
        if at >= min(map(len, spelt)) or len({ids[at] for ids in spelt}) != len(spelt):
            raise TemplateError("the tokenizer does not tell the verdicts apart at their first difference")
        if common[: len(before)] != before:
            raise TemplateError("the tokenizer merges what stands before a verdict with the verdict")
        safe, unsafe, *others = [ids[at] for ids in spelt]
        return common, VerdictTokens(
            prefix=common[len(before) :],
            safe=safe,
            unsafe=unsafe,
            also_safe=tuple(others[: len(of.also_safe)]),
            also_unsafe=tuple(others[len(of.also_safe) :]),
        )
