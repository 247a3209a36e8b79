"""Which servers the addresses of the settings mean now: one each, or one for each address of a name."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from guard.serving.remote_endpoint import Unreachable, addresses
from guard.serving.remote_options import RemoteOptions

Target = tuple[str, str | None]
"""A base address, and the address of its host that is meant; None: whichever answers."""

_PORTS: Final = {"http": 80, "https": 443}


class Names:
    """Resolves the names of a fleet. `unknown`: why a base address could not be, the last time."""

    def __init__(self, options: RemoteOptions) -> None:
        self._options = options
        self._known: dict[str, list[str | None]] = {}
        self.unknown: dict[str, str] = {}

    async def places(self) -> list[Target]:
        """All of them, in the order of the settings, then of their addresses, each once.

        A name that cannot be resolved now means what it meant before: a name server that is away takes no
        server away.
        """
        for url in self._options.endpoints:
            try:
                self._known[url] = await self._addresses(url)
                self.unknown.pop(url, None)
            except Unreachable as error:
                self.unknown[url] = str(error)
        return [(url, one) for url in self._options.endpoints for one in self._known.get(url, ())]

    async def _addresses(self, url: str) -> list[str | None]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if self._options.addresses == "one" or _is_address(host):
            return [None]
        return list(await addresses(host, parts.port or _PORTS[parts.scheme]))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
