from __future__ import annotations

import pytest

from guard.serving.remote_options import RemoteOptions, endpoint_urls, served_name


def test_addresses_are_taken_in_order_once_and_without_a_slash() -> None:
    found = endpoint_urls(" http://a:8000/, https://b/guard , http://a:8000,")
    assert found == ("http://a:8000", "https://b/guard")
    assert endpoint_urls("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "a:8000",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a:99999",
        "http://a b",
        "http://[::1",
        "http://a?x=1",
        "http://a#x",
        "http://a\x00b",
        "/path",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected addresses"):
        endpoint_urls(f"http://good:1,{text}")


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="without user and password") as caught:
        endpoint_urls("http://user:hunter2@host:8000")
    assert "hunter2" not in str(caught.value)


def test_random_weights_have_the_name_of_no_checkpoint() -> None:
    assert served_name("abc", "auto") == "abc"
    assert served_name("abc", "dummy") == "dummy:abc"
    assert served_name("abc", "auto", "fp8") == "abc-fp8"


def test_the_key_is_not_shown() -> None:
    assert "hunter2" not in repr(RemoteOptions(endpoints=("http://a",), api_key="hunter2"))
