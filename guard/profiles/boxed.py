r"""Profiles whose guards read our prompt and answer in `\boxed{safe}` or `\boxed{unsafe}` and codes.

- `rsafe-boxed-1`, the default: the shipped checkpoint, and whatever is trained by this package.
- `instruct`: any instruct model, with the wording of `rsafe-instruct-1`, whatever the folder brings.
- `rsafe-release`: the published RSafe, which knows 18 categories, U1 to U18. Its prompt is not ours to ship:
  it comes from a template file without `{categories}`, and the crosswalk maps its codes.
- `gpt-oss-safeguard`: OpenAI's gpt-oss-safeguard-20b and -120b (user guide of October 2025): the policy is
  the developer's message, the reasoning goes to harmony's channel `analysis`, the verdict to `final`. The
  structure is that of the harmony response format (github.com/openai/harmony, docs/format.md), without the
  current date, since the same question must give the same prompt on every day.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

import msgspec

from guard.answer import RSAFE_PROFILE, Answer, AnswerProfile, Unparseable, parse_answer
from guard.profiles.profile import EVERYBODY, Profile, Taxonomy
from guard.prompt_encoding import Skeleton

_BOTH: Final = ("fast", "think")


def _read(grammar: AnswerProfile, text: str, codes: Collection[str]) -> Answer | Unparseable:
    return parse_answer(text, codes, grammar)


RSAFE: Final = Profile(
    name="rsafe-boxed-1", grammar=RSAFE_PROFILE.name, read=partial(_read, RSAFE_PROFILE), modes=_BOTH
)

INSTRUCT: Final = Profile(
    name="instruct",
    grammar=RSAFE_PROFILE.name,
    read=partial(_read, RSAFE_PROFILE),
    modes=_BOTH,
    template="rsafe-instruct-1",
)

RSAFE_RELEASE: Final = Profile(
    name="rsafe-release",
    grammar=RSAFE_PROFILE.name,
    read=partial(_read, RSAFE_PROFILE),
    modes=_BOTH,
    taxonomy=Taxonomy("rsafe", {f"U{number}": EVERYBODY for number in range(1, 19)}),
)

HARMONY: Final = msgspec.structs.replace(
    RSAFE_PROFILE, name="harmony-boxed-1", think_close="<|end|><|start|>assistant<|channel|>final<|message|>"
)

GPT_OSS_SAFEGUARD: Final = Profile(
    name="gpt-oss-safeguard",
    grammar=HARMONY.name,
    read=partial(_read, HARMONY),
    modes=_BOTH,
    template="gpt-oss-safeguard-1",
    skeleton=Skeleton(
        before=(
            "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
            "Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n"
            "# Valid channels: analysis, commentary, final. Channel must be included for every message."
            "<|end|><|start|>developer<|message|># Instructions\n\n"
        ),
        between="<|end|><|start|>user<|message|>",
        after="<|end|><|start|>assistant",
    ),
)
