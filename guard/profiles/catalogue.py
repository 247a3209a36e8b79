"""All profiles by name."""

from __future__ import annotations

from typing import Final

from guard.errors import UnsupportedError
from guard.profiles.boxed import GPT_OSS_SAFEGUARD, INSTRUCT, RSAFE, RSAFE_RELEASE
from guard.profiles.llama_guard import LLAMA_GUARDS
from guard.profiles.profile import Profile
from guard.profiles.qwen3guard import QWEN3GUARDS
from guard.profiles.yes_no import GRANITE_GUARDIAN_3, GRANITE_GUARDIAN_3_3, SHIELDGEMMA

PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        RSAFE,
        INSTRUCT,
        RSAFE_RELEASE,
        GPT_OSS_SAFEGUARD,
        *QWEN3GUARDS,
        *LLAMA_GUARDS,
        SHIELDGEMMA,
        GRANITE_GUARDIAN_3,
        GRANITE_GUARDIAN_3_3,
    )
}
DEFAULT: Final = RSAFE


def find_profile(name: str) -> Profile:
    """The profile of a name; the default's for an empty one. Raises `UnsupportedError` naming all."""
    found = PROFILES.get(name) if name else DEFAULT
    if found is None:
        raise UnsupportedError(f"no profile {name!r}; expected one of {', '.join(PROFILES)}")
    return found
