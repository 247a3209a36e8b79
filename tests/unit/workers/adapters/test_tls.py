"""Files of certificates, and handshakes that fail for a reason."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.certificates import Authority, Pair
from workers.adapters.tls import TlsFiles, ask_why, client_context, speaks_tls, why_refused
from workers.errors import SettingsError

# Far more than a handshake on one machine takes, in seconds.
PATIENCE_S = 10.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def files(ca: Path | str = "", pair: Pair | None = None, password: str = "") -> TlsFiles:
    certificate, key = (str(pair.certificate), str(pair.key)) if pair else ("", "")
    return TlsFiles("RSAFE_X__", str(ca), certificate, key, SecretStr(password))


def refused(given: TlsFiles) -> str:
    with pytest.raises(SettingsError) as caught:
        client_context(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_fit_are_taken(authority: Authority, tmp_path: Path) -> None:
    client_context(files())
    client_context(files(authority.file, authority.issue("me")))
    client_context(files(authority.file, authority.issue("locked", key_password="p"), "p"))
    client_context(files(tmp_path))  # a folder of authorities


def test_a_file_that_is_absent_or_holds_something_else_is_named(authority: Authority, tmp_path: Path) -> None:
    nothing, text = tmp_path / "absent", tmp_path / "text"
    text.write_text("no certificate")
    pair = authority.issue("me")
    assert refused(files(nothing)) == (
        f"RSAFE_X__SSL_CA_LOCATION: cannot read the file {nothing}: No such file or directory"
    )
    assert refused(files(text)) == f"RSAFE_X__SSL_CA_LOCATION: {text} holds no certificate; expected PEM"
    for bad in (Pair(nothing, pair.key), Pair(text, pair.key)):
        assert refused(files(authority.file, bad)).startswith("RSAFE_X__SSL_CERTIFICATE_LOCATION: ")
    for bad in (Pair(pair.certificate, nothing), Pair(pair.certificate, text)):
        assert refused(files(authority.file, bad)).startswith("RSAFE_X__SSL_KEY_LOCATION: ")


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    assert refused(files(pair=Pair(one.certificate, other.key))) == (
        f"RSAFE_X__SSL_KEY_LOCATION: the key in {other.key} does not belong to the certificate in "
        f"{one.certificate}"
    )


# OpenSSL takes none of more than 1024 bytes, such as a file that holds something else.
@pytest.mark.parametrize("password", ["", "wrong", "wrong" * 300])
def test_a_key_that_its_password_does_not_open_is_refused(authority: Authority, password: str) -> None:
    text = refused(files(pair=authority.issue("me", key_password="right"), password=password))
    assert "holds no private key that can be read; expected PEM, and RSAFE_X__SSL_KEY_PASSWORD" in text
    assert "right" not in text
    assert "wrong" not in text


def test_half_a_pair_is_refused(authority: Authority) -> None:
    pair = authority.issue("me")
    assert refused(TlsFiles("RSAFE_X__", key=str(pair.key))) == (
        "RSAFE_X__SSL_CERTIFICATE_LOCATION: expected a file, since RSAFE_X__SSL_KEY_LOCATION is set"
    )
    assert refused(TlsFiles("RSAFE_X__", certificate=str(pair.certificate))) == (
        "RSAFE_X__SSL_KEY_LOCATION: expected a file, since RSAFE_X__SSL_CERTIFICATE_LOCATION is set"
    )


@contextmanager
def server(own: Pair | None, clients: Authority | None = None) -> Iterator[int]:
    """One that shakes hands and waits; without a certificate it answers in plain words."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if own:
        context.load_cert_chain(own.certificate, own.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.file)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with plain:
                try:
                    if own is None:
                        plain.recv(1)
                        plain.sendall(b"-ERR what?\r\n")
                    else:
                        with context.wrap_socket(plain, server_side=True) as link:
                            link.recv(1)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(PATIENCE_S)


def test_why_a_handshake_fails_is_said(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, clients = Authority(tmp_path, "stranger"), Authority(tmp_path, "clients")
    ask: Callable[..., str | None] = lambda given, port, host="localhost": ask_why(  # noqa: E731
        host, port, given, PATIENCE_S
    )
    with server(authority.issue("server", "localhost")) as port:
        assert ask(files(authority.file), port) is None
        assert "is from an authority that is not in" in (ask(files(stranger.file), port) or "")
        assert "the system's certificates" in (ask(files(), port) or "")
        assert "is for another host name" in (ask(files(authority.file), port, "127.0.0.1") or "")
        assert speaks_tls("localhost", port, PATIENCE_S)
    with server(authority.issue("server", "localhost"), clients) as port:
        assert ask(files(authority.file, clients.issue("me")), port) is None
        # From here on the server has a last word, and a machine that stands still delays it.
        monkeypatch.setattr("workers.adapters.tls._LAST_WORD_S", PATIENCE_S)
        assert "asks for a client certificate" in (ask(files(authority.file), port) or "")
        assert "refuses the client certificate" in (
            ask(files(authority.file, stranger.issue("x")), port) or ""
        )
    with server(None) as port:
        assert (ask(files(authority.file), port) or "").endswith("does not speak TLS on this port")
        assert not speaks_tls("localhost", port, PATIENCE_S)


def test_with_authorities_of_its_own_the_system_s_are_not_taken(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    stranger = files(Authority(tmp_path, "stranger").file)
    with server(authority.issue("server", "localhost")) as port:
        assert ask_why("localhost", port, files(), PATIENCE_S) is None
        why = ask_why("localhost", port, stranger, PATIENCE_S) or ""
        assert "is from an authority that is not in" in why


def test_a_server_that_is_not_there_says_nothing() -> None:
    assert ask_why("127.0.0.1", 1, files(), 1.0) is None
    assert not speaks_tls("127.0.0.1", 1, 1.0)


def test_the_reason_is_found_behind_other_errors() -> None:
    expired = ssl.SSLCertVerificationError()
    expired.verify_code = 10
    try:
        try:
            raise expired
        except OSError as error:
            raise ConnectionError("the client's own") from error
    except ConnectionError as error:
        found: Any = why_refused(error, files(), "it")
    assert found == "the certificate of it has expired or is not valid yet; renew it, or set the clock right"
    assert why_refused(ConnectionError("away"), files(), "it") is None
