"""One vLLM server over HTTP: requests with bounds on time and bytes. The only module that knows aiohttp here.

Redirects are not followed, cookies are not kept, nothing is unpacked, and no proxy of the environment is
used: the prompts go to the address of the settings and nowhere else. Of what a server says besides an answer,
only the status is told on: its sentences may repeat the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from guard.serving.call_trace import current_trace
from guard.serving.remote_balance import Place
from guard.serving.remote_options import RemoteOptions

# For a connection, in seconds: within a data centre it takes milliseconds.
_CONNECT_S: Final = 3.0
# vLLM closes a connection that was idle for 5 s. One that is used in that moment fails, so ours go earlier.
_KEEP_ALIVE_S: Final = 2.5
# Connections for looks at a server's health, version and counts; a few at a time.
_LOOKS: Final = 4
# Bytes that are read at a time.
_CHUNK: Final = 65_536


class Unreachable(Exception):
    """No connection: refused, no such name, or no trust. One sentence."""


class Broken(Exception):
    """The connection ended before the answer did, or the answer is endless."""


class Endpoint(Place):
    """One server: what `Place` counts, its connections, and the calls that an ejection ends."""

    __slots__ = (
        "_address",
        "_headers",
        "_options",
        "_sessions",
        "attempts",
        "began_s",
        "heard_s",
        "name",
        "place",
        "since_s",
        "url",
    )

    def __init__(self, url: str, options: RemoteOptions, address: str | None = None) -> None:
        """`address`: the one of the host's addresses that is meant; None: whichever answers."""
        super().__init__(options.failures, options.back_off_s)
        self.url = url
        self.place = (url, address)
        self.name = url if address is None else f"{url} [{address}]"
        self.heard_s = float("-inf")
        """When it last answered a call."""
        self.began_s = float("-inf")
        """When a call last came while it had none."""
        self.since_s = float("-inf")
        """Since when it is in its state."""
        self.attempts: set[asyncio.Future[Any]] = set()
        """Requests of calls under way."""
        self._address = address
        self._options = options
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._headers = {"Accept-Encoding": "identity"}
        if options.api_key:
            self._headers["Authorization"] = f"Bearer {options.api_key}"

    def silence_s(self, now_s: float) -> float:
        """How long it has had calls and answered none."""
        return now_s - max(self.heard_s, self.began_s) if self.calls else 0.0

    async def get(self, path: str, most_bytes: int, timeout_s: float) -> tuple[int, bytes]:
        """Status and content. Raises `Unreachable`, `Broken` or `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            return await self._request("GET", path, None, most_bytes)

    async def post(self, path: str, body: bytes, most_bytes: int) -> tuple[int, bytes, float]:
        """Status, content, and how many seconds it asks to wait (0: it does not say).

        Cancelled, the connection is closed, by which vLLM aborts the request. Raises `Unreachable` or
        `Broken`.
        """
        async with self._answer("POST", path, body, calls=True) as answer:
            return answer.status, await _read(answer, most_bytes), _retry_after(answer)

    async def send(self, path: str, body: bytes, most_bytes: int, timeout_s: float) -> tuple[int, bytes]:
        """As `post`, with a limit of its own, for a look at the server."""
        async with asyncio.timeout(timeout_s):
            return await self._request("POST", path, body, most_bytes)

    async def close(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()

    def eject(self, why: str) -> None:
        """Ends its calls as well, which then go elsewhere."""
        super().eject(why)
        for attempt in self.attempts:
            attempt.cancel()

    async def _request(
        self, method: str, path: str, body: bytes | None, most_bytes: int
    ) -> tuple[int, bytes]:
        # Not in the queue of the calls: a server of which all connections are taken is well all the same.
        async with self._answer(method, path, body, calls=False) as answer:
            return answer.status, await _read(answer, most_bytes)

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: bytes | None, *, calls: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = self._headers if body is None else self._headers | {"Content-Type": "application/json"}
        if calls and (trace := current_trace()) is not None:
            headers = headers | {"traceparent": trace.traceparent}
        try:
            async with self._connections(calls=calls).request(
                method, self.url + path, data=body, headers=headers, allow_redirects=False
            ) as answer:
                yield answer
        except aiohttp.ClientConnectorCertificateError:
            raise Unreachable("its certificate is not trusted, or is for another name") from None
        except aiohttp.ClientConnectorSSLError:
            raise Unreachable("no TLS with it") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(_why(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its sentence may hold bytes of the answer.
            raise Broken(f"the connection broke: {type(error).__name__}") from None

    def _connections(self, *, calls: bool) -> aiohttp.ClientSession:
        """Those of the calls, or those of the looks."""
        if calls not in self._sessions:
            options = self._options
            connector = aiohttp.TCPConnector(
                limit=options.max_connections if calls else _LOOKS,
                keepalive_timeout=_KEEP_ALIVE_S,
                ssl=options.tls if options.tls is not None else True,
                resolver=None if self._address is None else _Pinned(self._address),
            )
            self._sessions[calls] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                # Each call and each probe has a limit of its own.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            )
        return self._sessions[calls]


class _Pinned(AbstractResolver):
    """Any name is at one address, so that the name in the certificate and in the request stays the host's."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        kind = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=kind,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def addresses(host: str, port: int) -> list[str]:
    """All addresses of a host name, sorted. Raises `Unreachable` when there is no such name."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"its name cannot be resolved: {error.strerror}") from None
    return sorted({str(entry[4][0]) for entry in found})


async def _read(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The whole content. Raises `Broken` for more than so many bytes, of which no more are read."""
    parts, size = [], 0
    async for part in answer.content.iter_chunked(_CHUNK):
        size += len(part)
        if size > most_bytes:
            answer.close()
            raise Broken(f"the answer is longer than {most_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0


def _why(error: aiohttp.ClientError) -> str:
    number = getattr(error, "os_error", None)
    said = getattr(number, "strerror", None)
    return f"no connection: {said}" if said else "no connection"
