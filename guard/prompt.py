"""The only place that renders a prompt; serving and training both use it.

A prompt is: the system part (task and policy, byte-identical per `judgement_hash`, so that engines share it
by prefix caching), the conversation, and the assistant turn up to our own `<think>`. It is a sequence of
token ids.

The fence around the conversation is like a MIME boundary: every turn begins with a mark, and the mark ends
the conversation. The mark is an HMAC of the question itself: nobody without the secret can write it into a
message, and the same question always gives the same prompt.

>>> template = load_template("rsafe-compact-1")
>>> template.conversation_text("a1b2c3", [Turn(role="user", text="hello")])
['a1b2c3 user: hello\\n', 'a1b2c3']

Over 300 lines: the words of a prompt and how they become ids are read together.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal, Protocol

import msgspec

from guard.answer import Answer, Unparseable
from guard.errors import TemplateError
from guard.normalise import normalise
from guard.policy_text import with_codes, with_codes_in_list
from guard.profiles.boxed import RSAFE
from guard.profiles.profile import Profile
from guard.prompt_encoding import TextEncoder, common_prefix, end_tokens, read_skeleton
from guard.scores import p_unsafe
from schemas.identifiers import Label
from schemas.policy import Policy, canonical_categories, judgement_hash

_TEMPLATES = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# One entry is a few kilobytes of ids; more policies than this in turn are rendered anew, 1 ms each.
_CACHED_SYSTEM_PARTS = 1024


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


def as_read(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns as a guard reads them, normalised: for whoever asks a guard without an event."""
    return tuple(Turn(role=turn.role, text=normalise(turn.text)) for turn in turns)


class CategoryText(Protocol):
    """What a prompt shows of a category."""

    @property
    def code(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def definition(self) -> str: ...
    @property
    def exceptions(self) -> tuple[str, ...]: ...


class PromptTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The words around policy and conversation. A checkpoint knows the words that it was trained on."""

    version: str
    system: str
    """Text with `{categories}`; `{example_code}` is the first code of the policy."""
    category: str
    """One line: `{code}`, `{title}`, `{definition}`, `{exceptions}`."""
    definition_style: Literal["plain", "coded", "coded_prose"] = "plain"
    """`coded`: split at `;`, the code after every phrase; `coded_prose`: in prose, too (`policy_text`)."""
    exceptions: str = ""
    """`{items}`; empty when a category has none."""
    exception_separator: str = "; "
    turn: str = "{nonce} {role}: {text}\n"
    ending: str = "{nonce}"
    nonce_length: Annotated[int, msgspec.Meta(ge=4, le=64)] = 16
    think_open: str = "<think>"
    think_close: str = "</think>"
    answer_lead: str = "\n"
    """What stands between the end of the reasoning and the verdict."""

    def system_text(self, categories: Sequence[CategoryText]) -> str:
        """Task and policy; the categories in the given order, each on one line."""
        lines = [self._category_line(category) for category in categories]
        example = categories[0].code if categories else "C1"
        return _fill(self.system, categories="\n".join(lines), example_code=example)

    def conversation_text(self, nonce: str, turns: Sequence[Turn]) -> list[str]:
        """The fenced conversation in pieces, one a turn and one for the ending."""
        pieces = [_fill(self.turn, nonce=nonce, role=turn.role, text=turn.text) for turn in turns]
        return [*pieces, _fill(self.ending, nonce=nonce)]

    def answer_text(self, label: Literal["safe", "unsafe"]) -> str:
        """The end of the reasoning and a verdict."""
        return f"{self.think_close}{self.answer_lead}\\boxed{{{label}}}"

    def _category_line(self, category: CategoryText) -> str:
        definition = _one_line(category.definition)
        if self.definition_style == "coded":
            definition = with_codes_in_list(definition, category.code)
        elif self.definition_style == "coded_prose":
            definition = with_codes(definition, category.code)
        exceptions = ""
        if category.exceptions:
            items = self.exception_separator.join(_one_line(e) for e in category.exceptions)
            exceptions = _fill(self.exceptions, items=items)
        return _fill(
            self.category,
            code=category.code,
            title=_one_line(category.title),
            definition=definition,
            exceptions=exceptions,
        )


class VerdictTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Where the two verdicts part: after `prefix`, the next id is `safe` or `unsafe`."""

    prefix: tuple[int, ...]
    safe: int
    unsafe: int
    also_safe: tuple[int, ...] = ()
    """Ids of further verdicts that count as one of the two by a profile's rule."""
    also_unsafe: tuple[int, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Those whose log-probabilities are asked for; `p_unsafe` takes them in this order."""
        return (self.safe, self.unsafe, *self.also_safe, *self.also_unsafe)

    def label(self, token: int) -> Label | None:
        """Which verdict an id begins; None for any other id."""
        if token == self.safe or token in self.also_safe:
            return "safe"
        return "unsafe" if token == self.unsafe or token in self.also_unsafe else None

    def p_unsafe(self, logprobs: tuple[float, ...] | None) -> float | None:
        """p(unsafe) among the verdicts, from the log-probabilities of `ids`; None where undefined."""
        if logprobs is None or len(logprobs) == 2:
            return p_unsafe(logprobs)
        safe, unsafe, *others = logprobs
        at = len(self.also_safe)
        return p_unsafe((_sum([safe, *others[:at]]), _sum([unsafe, *others[at:]])))


class PromptParts(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt taken apart; all its ids in order are those of `PromptRenderer.render`."""

    mark: str
    """The boundary mark of this question."""
    system: tuple[int, ...]
    """Task and policy, with the chat structure around them."""
    turns: tuple[tuple[int, ...], ...]
    """For each turn its mark, role and text."""
    ending: tuple[int, ...]
    """The mark that ends the conversation."""
    opening: tuple[int, ...]
    """The assistant's turn up to our own `<think>`."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole prompt."""
        return self.system + _joined(self.turns) + self.ending + self.opening


def load_template(name_or_path: str | Path, *, fixed: bool = False) -> PromptTemplate:
    """A shipped template by name, or one from a JSON file. Raises TemplateError.

    `fixed`: for a guard with categories of its own, whose template names those and has no `{categories}`.
    """
    path = Path(name_or_path)
    if path.suffix != ".json":
        path = _TEMPLATES / f"{name_or_path}.json"
    try:
        template = msgspec.json.decode(path.read_bytes(), type=PromptTemplate)
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in _TEMPLATES.glob("*.json")))
        raise TemplateError(f"no prompt template {str(name_or_path)!r}; shipped are {known}") from None
    except msgspec.DecodeError as error:
        raise TemplateError(f"prompt template {path}: {error}") from error
    if fixed and "{categories}" in template.system:
        raise TemplateError(f"prompt template {path}: system has {{categories}}; the profile's are its own")
    policy = () if fixed else (("system", "categories"),)
    for field, needed in (*policy, ("turn", "nonce"), ("turn", "text"), ("ending", "nonce")):
        if f"{{{needed}}}" not in getattr(template, field):
            raise TemplateError(f"prompt template {path}: {field} lacks {{{needed}}}")
    return template


def template_of(folder: Path, default: str = "rsafe-instruct-1") -> PromptTemplate:
    """The template that a checkpoint carries (`prompt_template.json`), else the default."""
    own = folder / "prompt_template.json"
    return load_template(own if own.is_file() else default)


class PromptRenderer:
    """Renders for one tokenizer and one template. Thread-safe: what is kept has a lock."""

    think_suffix: tuple[int, ...] = ()
    """The prompt itself ends where the reasoning begins."""
    answers_in_full = False

    def __init__(
        self, tokenizer_folder: Path, template: PromptTemplate, secret: bytes, profile: Profile = RSAFE
    ) -> None:
        self.template, self.profile = template, profile
        self._secret = secret
        self.encoder = TextEncoder(tokenizer_folder)
        skeleton = profile.skeleton or read_skeleton(tokenizer_folder)
        # Templates of thinking models open the reasoning themselves; ours follows, once.
        after = skeleton.after.rstrip()
        ends_open = after.endswith(template.think_open)
        after = after.removesuffix(template.think_open) if ends_open else skeleton.after
        self._before = self.encoder.structure(skeleton.before)
        self.structure_between = self.encoder.structure(skeleton.between)
        self.opening_ids = self.encoder.structure(after + template.think_open)
        self.think_close_ids = self.encoder.structure(template.think_close)
        self.eos_token_ids = end_tokens(tokenizer_folder)
        self.fast_suffix, self.verdict_tokens = self._verdicts()
        self.forced_close = self.fast_suffix
        self._digests: dict[int, tuple[Policy, str]] = {}
        self._systems: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._systems_lock = Lock()

    @property
    def template_version(self) -> str:
        return self.template.version

    @property
    def frame_tokens(self) -> int:
        """Tokens of a prompt without policy and turns."""
        return len(self.system_ids(())) + len(self.opening_ids)

    @property
    def mark_tokens(self) -> int:
        """Tokens by which a prompt may be longer for another text of the same length: the marks'."""
        return self.template.nonce_length

    def turns_read(self, turns: Sequence[Turn]) -> int:
        """All turns have a place."""
        return len(turns)

    def questions(self, policy: Policy) -> tuple[Policy, ...]:
        """One call is about the whole policy."""
        return (policy,)

    def closes(self, ids: Sequence[int]) -> bool:
        """Whether the reasoning ends somewhere in these ids."""
        return self.template.think_close in self.decode(ids)

    def read(self, ids: Sequence[int], policy: Policy) -> Answer | Unparseable:
        """What a completion says under the policy."""
        return self.profile.answer(self.decode(ids), policy)

    def answer_ids(self, label: Label) -> tuple[int, ...]:
        """The end of the reasoning and a verdict."""
        return self.encoder.structure(self.template.answer_text(label))

    def render(self, policy: Policy, turns: Sequence[Turn]) -> tuple[int, ...]:
        """The prompt's ids, ending in `<think>`. The last turn is the one to judge."""
        prompt = self.render_within(policy, turns, None)
        assert prompt is not None
        return prompt

    def render_within(
        self, policy: Policy, turns: Sequence[Turn], room: int | None
    ) -> tuple[int, ...] | None:
        """As `render`, or None when the prompt has more than `room` ids.

        A conversation far over the room is not encoded to find that out.
        """
        if not turns:
            raise ValueError("a conversation has at least one turn")
        digest = self._digest(policy)
        system = self._system(digest, policy)
        if room is not None:
            left = room - len(system) - len(self.opening_ids)
            # Without the mark, which is looked for in the texts only when they may fit.
            if left < 0 or self.encoder.surely_longer(self.template.conversation_text("", turns), left):
                return None
        _, pieces = self._conversation(digest, turns)
        prompt = system + _joined(pieces) + self.opening_ids
        return prompt if room is None or len(prompt) <= room else None

    def parts(self, policy: Policy, turns: Sequence[Turn]) -> PromptParts:
        """What `render` gives, in its parts. `turns` are 1 or more."""
        digest = self._digest(policy)
        mark, pieces = self._conversation(digest, turns)
        return PromptParts(
            mark=mark,
            system=self._system(digest, policy),
            turns=tuple(pieces[:-1]),
            ending=pieces[-1],
            opening=self.opening_ids,
        )

    def system_of(self, policy: Policy) -> tuple[int, ...]:
        """The ids with which every prompt under the policy begins."""
        return self._system(self._digest(policy), policy)

    def system_ids(self, categories: Sequence[CategoryText]) -> tuple[int, ...]:
        """Ids of everything before the conversation; for `render` in canonical order."""
        (text,) = self.encoder.plain([self.template.system_text(categories)])
        return self._before + text + self.structure_between

    def conversation_ids(self, nonce: str, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Ids of the fenced conversation."""
        return _joined(self.encoder.plain(self.template.conversation_text(nonce, turns)))

    def nonce(self, digest: str, turns: Sequence[Turn]) -> str:
        """The boundary mark of this question: lower-case hex that stands in none of its texts.

        Nor does it stand there in capitals or in digits of other forms, which a tokenizer may write plainly.
        """
        message = b"".join(
            _prefixed(part) for part in (digest, *(p for t in turns for p in (t.role, t.text)))
        )
        folded = [_folded(turn.text) for turn in turns]
        for attempt in range(1000):
            mac = hmac.new(self._secret, message + _prefixed(str(attempt)), hashlib.sha256)
            nonce = mac.hexdigest()[: self.template.nonce_length]
            if not any(nonce in text for text in folded):
                return nonce
        raise TemplateError("no boundary mark is free; the template's nonce_length is too small")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion, without the end tokens after it."""
        end = len(ids)
        while end and ids[end - 1] in self.eos_token_ids:
            end -= 1
        return self.encoder.decode(ids[:end])

    def _conversation(self, digest: str, turns: Sequence[Turn]) -> tuple[str, list[tuple[int, ...]]]:
        """The boundary mark, and the ids of the fenced turns and of the ending."""
        mark = self.nonce(digest, turns)
        return mark, self.encoder.plain(self.template.conversation_text(mark, turns))

    def _digest(self, policy: Policy) -> str:
        """The policy's judgement hash, which takes a third of the time of a prompt, so it is kept."""
        known = self._digests.get(id(policy))
        if known is None or known[0] is not policy:
            if len(self._digests) >= _CACHED_SYSTEM_PARTS:
                self._digests.clear()
            known = self._digests[id(policy)] = policy, judgement_hash(policy)
        return known[1]

    def _system(self, digest: str, policy: Policy) -> tuple[int, ...]:
        with self._systems_lock:
            system = self._systems.get(digest)
            if system is None:
                system = self.system_ids(canonical_categories(policy))
                self._systems[digest] = system
                if len(self._systems) > _CACHED_SYSTEM_PARTS:
                    self._systems.popitem(last=False)
            else:
                self._systems.move_to_end(digest)
            return system

    def _verdicts(self) -> tuple[tuple[int, ...], VerdictTokens]:
        # The token after `}` is not known yet, so the brace is left to the model; `safe` and `unsafe` must
        # part before it, or the log-probability of the verdict could not be read from one position.
        safe = self.encoder.structure(self.template.answer_text("safe"))
        unsafe = self.encoder.structure(self.template.answer_text("unsafe"))
        suffix = common_prefix([safe, unsafe])
        at = len(suffix)
        if at >= min(len(safe), len(unsafe)) or at <= len(self.think_close_ids):
            raise TemplateError("the tokenizer does not tell \\boxed{safe} from \\boxed{unsafe}")
        if suffix[: len(self.think_close_ids)] != self.think_close_ids:
            raise TemplateError("the tokenizer merges the end of the reasoning with the verdict")
        tokens = VerdictTokens(prefix=suffix[len(self.think_close_ids) :], safe=safe[at], unsafe=unsafe[at])
        return suffix, tokens


def _fill(pattern: str, **values: str) -> str:
    """Replace `{name}` in one pass, so that values are never read as patterns; other braces stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), pattern)


def _sum(logprobs: Sequence[float]) -> float:
    """The log of the sum of probabilities."""
    most = max(logprobs)
    if most == -math.inf or math.isnan(sum(logprobs)):
        return most
    return most + math.log(sum(math.exp(one - most) for one in logprobs))


def _joined(pieces: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(i for piece in pieces for i in piece)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _folded(text: str) -> str:
    if not text.isascii():
        text = text.translate({ord(c): unicodedata.normalize("NFKC", c) for c in set(text)})
    return text.casefold()


def _prefixed(part: str) -> bytes:
    data = part.encode("utf-8", errors="surrogatepass")
    return len(data).to_bytes(8, "big") + data
