"""Look-up drills: many questions under one policy, so that look-up is learnt in minutes.

`LookupDrill` works on random token ids, so that only copying helps; `WordDrill` on real policy lines in the
form of the trace. A drill on whole conversations from the start learnt to copy (.97) but not to decide
(chance).
"""

from __future__ import annotations

import random

from guard.errors import TrainingError
from guard.prompt import PromptRenderer
from guard.training.generator.conversations import draw_act, listed_trace, unlisted_trace
from guard.training.generator.lexicon import CODE_LETTERS, CONCEPTS, HIGHEST_CODE
from guard.training.generator.policies import LISTS, PolicyLine, Wordings, draw_policy, draw_term
from guard.training.generator.words import near_miss
from guard.training.packing import BUILTIN, COPY, CUSTOM, FAST, Tree

Ids = tuple[int, ...]
_REPEATED, _PIECE = 48, 6

_BYTES_AND_SPECIAL = 262
"""Ids below are special tokens and single bytes; drills draw from the rest."""
_NEAR = 0.8
"""Of unlisted terms, the share that differ from a listed one in one id. With 0.4 the model looked at the last
id alone, which is right five times in six: of terms that differed before it none was told apart after 400
steps; with 0.8 two of three are."""
_FARTHEST = 100
"""A question stands 3 to this many positions behind the policy: look-up must not depend on the distance."""


class RepeatDrill:
    """A sequence of random ids, then pieces of it: each next id can only be copied.

    Every token is a question here, so copying is learnt at once: nothing for 100 steps, then .86 within 50.
    Look-up with codes, which rests on it, went to .98 in the next 50; without it, 500 steps gave nothing.
    """

    def __init__(self, renderer: PromptRenderer) -> None:
        self._words = _word_ids(renderer)

    def draw(self, seed: int, pieces: int) -> Tree:
        """One sequence of 48 ids and pieces of six."""
        rng = random.Random(seed)
        ids = [rng.choice(self._words) for _ in range(_REPEATED)]
        tree = Tree()
        tree.add(ids, 0, 0, 0)
        for number in range(1, pieces + 1):
            at = rng.randrange(_REPEATED - _PIECE)
            piece = ids[at : at + _PIECE]
            start = _REPEATED + rng.randrange(3, _FARTHEST)
            tree.add(piece, start, number, 1, [0] + [COPY] * (_PIECE - 1))
        return tree


class LookupDrill:
    """Is this sequence of ids listed? Its code if so, ` not` if not."""

    def __init__(self, renderer: PromptRenderer) -> None:
        self._head = renderer.system_ids(())[:-1]
        self._user = _ids(renderer, " user:")
        self._between = renderer.structure_between[:2]
        self._dash, self._end_line = _ids(renderer, "-"), _ids(renderer, "\n")
        self._unlisted = _ids(renderer, " not")[0]
        self._turn_end = renderer.opening_ids[:1]
        self._think = renderer.opening_ids[-1]
        self._brace = renderer.verdict_tokens.prefix[-1]
        self._verdicts = (renderer.verdict_tokens.safe, renderer.verdict_tokens.unsafe)
        self._codes = _code_ids(renderer)
        self._words = _word_ids(renderer)

    def draw(self, seed: int, questions: int, *, longest: int, in_text: bool) -> Tree:
        """One policy of random ids and questions about it; terms have up to `longest` ids."""
        rng = random.Random(seed)
        head = list(self._head) if rng.random() < 0.5 else list(self._head[:3])
        where: dict[Ids, int] = {}
        terms: list[Ids] = []
        for code in rng.sample(self._codes, rng.choice([1, 2, 3])):
            head += [*self._dash, *self._term(rng, longest), code]
            for _ in range(rng.choice([1, 2, 3, 4])):
                listed = self._term(rng, longest)
                if listed not in where:
                    terms.append(listed)
                    where[listed] = code
                    head += [*listed, code]
            head += self._end_line
        head = head[: -len(self._end_line)] + list(self._between)
        tree = Tree()
        tree.add(head, 0, 0, 0)
        for number in range(1, questions + 1):
            asked = self._question(rng, terms, longest)
            ids, marks = self._form(rng, asked, where.get(asked), in_text)
            tree.add(ids, len(head) + rng.randrange(3, _FARTHEST), number, 1, marks)
        return tree

    def _term(self, rng: random.Random, longest: int) -> Ids:
        lengths = [1, 2, 3, 3, 4] if longest >= 4 else [1, 2, 3][:longest]
        return tuple(rng.choice(self._words) for _ in range(rng.choice(lengths)))

    def _question(self, rng: random.Random, terms: list[Ids], longest: int) -> Ids:
        """A listed term half of the time, else another one, mostly one id away from a listed term."""
        if rng.random() < 0.5:
            return rng.choice(terms)
        asked = self._term(rng, longest)
        if rng.random() < _NEAR and longest > 1:
            close = list(rng.choice(terms))
            close[rng.randrange(len(close))] = rng.choice(self._words)
            asked = tuple(close)
        return asked

    def _form(
        self, rng: random.Random, asked: Ids, code: int | None, in_text: bool
    ) -> tuple[list[int], list[int]]:
        """Ids and marks: the bare look-up, the look-up after a text with the term, or the fast verdict."""
        decision = self._unlisted if code is None else code
        kind = rng.random() if in_text else 0.0
        if kind < 0.4:
            return [self._think, *asked, decision], [0] * (1 + len(asked)) + [CUSTOM]
        around = [[rng.choice(self._words) for _ in range(rng.randrange(5))] for _ in range(2)]
        text = [*self._user, *around[0], *asked, *around[1], *self._turn_end]
        if kind >= 0.7:
            return [*text, self._brace, self._verdicts[code is not None]], [0] * (len(text) + 1) + [FAST]
        marks = [0] * (len(text) + 2) + [COPY] * (len(asked) - 1) + [CUSTOM]
        return [*text, self._think, *asked, decision], marks


class WordDrill:
    """Real policy lines and words in trace form, without a conversation, and fast verdicts on bare texts."""

    def __init__(self, renderer: PromptRenderer) -> None:
        self._renderer = renderer
        self._user = _ids(renderer, " user:")
        self._turn_end = renderer.opening_ids[:1]
        self._think = renderer.opening_ids[-1]
        self._brace = renderer.verdict_tokens.prefix[-1]
        self._verdicts = (renderer.verdict_tokens.safe, renderer.verdict_tokens.unsafe)

    def draw(self, seed: int, questions: int, *, small: bool, wordings: Wordings = LISTS) -> Tree:
        """One policy (`small`: of few lines) and questions about concepts and terms."""
        rng = random.Random(seed)
        builtin = lists = None
        if small:
            builtin, lists = rng.choice([0, 1, 1, 2, 2, 3, 4]), rng.choice([0, 0, 1, 1, 2])
        policy = draw_policy(rng, builtin=builtin, custom=lists, wordings=wordings)
        concepts = {line.concept: line for line in policy if line.concept}
        custom = [line for line in policy if line.concept is None]
        absent = [name for name in CONCEPTS if name not in concepts]
        asked: list[tuple[str, str, int, bool]] = []
        for _ in range(questions):
            if rng.random() < 0.5 or not custom:
                name = rng.choice(
                    list(concepts) if (rng.random() < 0.5 and concepts) or not absent else absent
                )
                line, mark, subject = concepts.get(name), BUILTIN, name
                text = f" {draw_act(rng, 'train', name)}"
            else:
                line = rng.choice(custom)
                subject, mark = rng.choice(line.terms), CUSTOM
                if rng.random() >= 0.5:
                    subject = near_miss(rng, subject) if rng.random() < 0.3 else draw_term(rng, "train")
                    line = next((known for known in custom if subject in known.terms), None)
                text = f"{rng.choice([' i like', ' we saw', '', ' do you want'])} {subject}"
            trace = listed_trace(subject, line) if line else unlisted_trace(subject)
            fast = rng.random() < 0.3
            asked.append(
                (text if fast else f" {trace}", f" {subject}", FAST if fast else mark, line is not None)
            )
        return self._tree(rng, policy, asked)

    def _tree(
        self, rng: random.Random, policy: tuple[PolicyLine, ...], asked: list[tuple[str, str, int, bool]]
    ) -> Tree:
        encoder = self._renderer.encoder
        tree = Tree()
        head = self._renderer.system_ids(policy)
        tree.add(head, 0, 0, 0)
        texts = encoder.plain([text for text, *_ in asked])
        subjects = encoder.plain([subject for _, subject, *_ in asked])
        for number, ((_, _, mark, listed), text, subject) in enumerate(
            zip(asked, texts, subjects, strict=True), 1
        ):
            if mark == FAST:
                ids = [*self._user, *text, *self._turn_end, self._brace, self._verdicts[listed]]
                marks = [0] * (len(ids) - 1) + [FAST]
            else:
                ids = [self._think, *text]
                marks = [0] * (1 + len(subject)) + [mark] + [COPY] * (len(text) - len(subject) - 1)
            tree.add(ids, len(head) + rng.randrange(3, _FARTHEST), number, 1, marks)
        return tree


def _ids(renderer: PromptRenderer, text: str) -> tuple[int, ...]:
    return renderer.encoder.plain([text])[0]


def _code_ids(renderer: PromptRenderer) -> list[int]:
    codes = renderer.encoder.plain([f" {c}{n}" for c in CODE_LETTERS for n in range(1, HIGHEST_CODE + 1)])
    split = sum(len(code) != 1 for code in codes)
    if split:
        raise TrainingError(
            f"model.vocabulary: found {renderer.encoder.vocabulary_size} tokens, which split {split} of"
            f" {len(codes)} category codes; expected more, so that drills can look codes up whole"
        )
    return [code[0] for code in codes]


def _word_ids(renderer: PromptRenderer) -> list[int]:
    """Ids that stand for words in drills: no bytes, special tokens, codes, nor ` not`."""
    words = set(range(_BYTES_AND_SPECIAL, renderer.encoder.vocabulary_size))
    return sorted(words - set(_code_ids(renderer)) - set(_ids(renderer, " not")))
