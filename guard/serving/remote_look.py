"""One look at every server of a fleet, for an operator: nothing is started, and nobody waits for a server."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from guard.serving.fleet_view import Looked
from guard.serving.remote_admission import Expected, NotYet, Reference, Refused, compare, look_at
from guard.serving.remote_endpoint import Endpoint, Unreachable, addresses
from guard.serving.remote_options import RemoteOptions


async def look_at_fleet(options: RemoteOptions, expected: Expected, timeout_s: float) -> list[Looked]:
    """One result per server, in the order of the settings; each is compared with the first that serves.

    Takes up to `timeout_s` in all, and looks at the servers together. Never raises for a server.
    """
    found = await asyncio.gather(*(_of_url(url, options, expected, timeout_s) for url in options.endpoints))
    results, first = list[Looked](), None
    for one, reference in (pair for pairs in found for pair in pairs):
        told = one
        if reference is not None:
            first = first or reference
            try:
                compare(reference, first)
            except Refused as error:
                told = Looked(one.server, why=str(error), answers=True)
        results.append(told)
    return results


async def _of_url(
    url: str, options: RemoteOptions, expected: Expected, timeout_s: float
) -> list[tuple[Looked, Reference | None]]:
    if options.addresses == "one":
        return [await _look(Endpoint(url, options), expected, timeout_s)]
    parts = urlsplit(url)
    assert parts.hostname is not None  # as `endpoint_urls` has checked
    try:
        several = await addresses(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    except Unreachable as error:
        return [(Looked(url, why=str(error)), None)]
    looks = (_look(Endpoint(url, options, address), expected, timeout_s) for address in several)
    return list(await asyncio.gather(*looks))


async def _look(endpoint: Endpoint, expected: Expected, timeout_s: float) -> tuple[Looked, Reference | None]:
    try:
        async with asyncio.timeout(timeout_s):
            reference = await look_at(endpoint, expected, timeout_s)
    except Refused as error:
        return Looked(endpoint.name, why=str(error), answers=True), None
    except NotYet as error:
        return Looked(endpoint.name, why=str(error)), None
    except TimeoutError:
        return Looked(endpoint.name, why=f"no answer within {timeout_s:g} s"), None
    finally:
        await endpoint.close()
    return Looked(endpoint.name, version=reference.version), reference
