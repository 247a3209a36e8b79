from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.release import release_id


@given(st.text(), st.text(), st.text(), st.text())
def test_a_release_is_known_by_its_name_and_content(name: str, digest: str, other: str, another: str) -> None:
    same = (name, digest) == (other, another)
    assert (release_id(name, digest) == release_id(other, another)) == same


def test_the_id_never_changes() -> None:
    """Or an announcement of the same checkpoint by a later version would count as another one."""
    assert release_id("rsafe-tiny", "b" * 64) == (
        "059ff45bcb1298230e40042683142d44d21a2253aa7b9e26e80f58ea62d9689f"
    )
