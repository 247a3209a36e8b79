"""The codes of a policy as token ids, as a tree: where the model chooses between them, and what is likely.

A code may be one token or several, and one may begin like another (`C1` and `C10`, digit by digit). So the
probability of a code is read along the ids that the model writes: at every choice the next ids that lead to a
code of the policy are compared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from guard.prompt import PromptRenderer

Logprobs = tuple[float, ...] | None


@dataclass(slots=True)
class CodeNode:
    """A place within the codes; `children` by the next id."""

    children: dict[int, CodeNode] = field(default_factory=dict)
    code: str | None = None
    """The code that may end here."""

    def codes(self) -> list[str]:
        """All codes from here on."""
        own = [] if self.code is None else [self.code]
        return own + [code for child in self.children.values() for code in child.codes()]


class CodeTree:
    """The codes behind `\\boxed{unsafe`. `most`: ids whose log-probabilities an engine gives in one call."""

    def __init__(self, root: CodeNode, most: int) -> None:
        lead: list[int] = []
        while root.code is None and len(root.children) == 1:
            (token,) = root.children
            lead.append(token)
            root = root.children[token]
        self.lead = tuple(lead)
        """Ids before the first choice, the same for all codes."""
        self.root = root
        self.wanted = _ids(root)[:most]
        """The ids whose log-probabilities are to be asked for; none when there is nothing to choose."""
        self._index = {token: number for number, token in enumerate(self.wanted)}

    def written(self, ids: Sequence[int], logprobs: Sequence[Logprobs]) -> dict[str, float] | None:
        """How likely each code is to be written at one of the places where codes are, from 0 to 1.

        `ids` are what the model wrote behind `lead`, and `logprobs` those of `wanted` at each of them. At the
        first place a code must stand, so the probabilities are normalised over the policy's codes; at later
        ones the list may end instead. Each is given what was written before it. None where log-probabilities
        are missing.
        """
        if not self.root.children:
            return dict.fromkeys(self.root.codes(), 1.0)
        absent, at = dict.fromkeys(self.root.codes(), 1.0), 0
        while at < len(ids):
            place = self._place(ids[at:], logprobs[at:], first=at == 0)
            if place is None:
                return None
            found, used = place
            for code, share in found.items():
                absent[code] *= 1.0 - min(1.0, share)
            at += used
        return {code: 1.0 - share for code, share in absent.items()} if at else None

    def _place(
        self, ids: Sequence[int], logprobs: Sequence[Logprobs], *, first: bool
    ) -> tuple[dict[str, float], int] | None:
        """One place: how likely each code is there, and how many ids it took, 1 or more."""
        found = dict.fromkeys(self.root.codes(), 0.0)
        node, mass, number = self.root, 1.0, 0
        for number, (token, values) in enumerate(zip(ids, logprobs, strict=True)):
            shares = self._shares(node, values, must=first or number > 0)
            if shares is None:
                return None
            for child_token, share in shares.items():
                if child_token != token:
                    _spread(node.children[child_token], mass * share, found)
            if node.code is not None:
                found[node.code] += mass * max(0.0, 1.0 - math.fsum(shares.values()))
            if token not in node.children:
                # A separator, or what ends a code; the first id of another code begins its own place.
                return found, number if number and token in self.root.children else number + 1
            mass *= shares[token]
            node = node.children[token]
            if not node.children:
                break
        _spread(node, mass, found)
        return found, number + 1

    def _shares(self, node: CodeNode, values: Logprobs, *, must: bool) -> dict[int, float] | None:
        """The probability of each child; `must`: a child follows for certain, unless a code may end here."""
        if values is None:
            return None
        if any(token not in self._index for token in node.children):  # more ids than one call may ask for
            return dict.fromkeys(node.children, 1.0 / (len(node.children) + (node.code is not None)))
        shares = {token: math.exp(min(values[self._index[token]], 0.0)) for token in node.children}
        total = math.fsum(shares.values())
        if math.isnan(total):
            return None
        if (must and node.code is None) or total > 1.0:
            return {token: share / total for token, share in shares.items()} if total > 0.0 else None
        return shares


def code_tree(renderer: PromptRenderer, codes: Sequence[str], most: int) -> CodeTree | None:
    """The tree of 1 or more codes; None where the tokenizer does not tell them apart."""
    head = (*renderer.fast_suffix, renderer.verdict_tokens.unsafe)
    answer, root = renderer.template.answer_text("unsafe"), CodeNode()
    for code in codes:
        ids = renderer.encoder.structure(f"{answer} {code}")
        node = root
        for token in ids[len(head) :]:
            node = node.children.setdefault(token, CodeNode())
        if ids[: len(head)] != head or node is root or node.code is not None:
            return None
        node.code = code
    return CodeTree(root, most)


def _ids(root: CodeNode) -> tuple[int, ...]:
    """All ids below, those of the first choice first, each once."""
    found: dict[int, None] = {}
    nodes = deque([root])
    while nodes:
        node = nodes.popleft()
        found |= dict.fromkeys(node.children)
        nodes.extend(node.children.values())
    return tuple(found)


def _spread(node: CodeNode, mass: float, found: dict[str, float]) -> None:
    """What is not told apart is shared equally."""
    codes = node.codes()
    for code in codes:
        found[code] += mass / len(codes)
