"""Fingerprints of message text: equal texts of a tenant are recognised, and nothing else can be learnt.

HMAC-SHA-256 under a key of the tenant, which is derived from the content key. The cache key is made of them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from schemas.event import Turn

_PURPOSE: Final = b"rsafe content mac 1\0"
_BLOCK: Final = 64  # bytes of a block of SHA-256
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
# An entry is a few hundred bytes; tenants beyond are derived anew, some microseconds each.
_TENANTS: Final = 10_000
_ENCODER: Final = msgspec.msgpack.Encoder()


class Fingerprints:
    """The fingerprints of one scope: a tenant, or everybody."""

    __slots__ = ("_inner", "_outer", "empty_context")

    def __init__(self, key: bytes) -> None:
        # HMAC written out, since two prepared hashes are copied in two thirds of the time of `hmac.digest`,
        # and every event needs this once or twice.
        block = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))
        self.empty_context = self._mac(_ENCODER.encode([]))

    def text(self, text: str) -> str:
        """HMAC (hex) of a text."""
        # As `_mac`, without another call: every event passes here.
        inner: Any = self._inner.copy()
        inner.update(text.encode())
        outer: Any = self._outer.copy()
        outer.update(inner.digest())
        digest: str = outer.hexdigest()
        return digest

    def context(self, turns: Sequence[Turn]) -> str:
        """HMAC (hex) of role and text of the turns, oldest first: what the guard sees of them."""
        if not turns:
            return self.empty_context
        return self._mac(_ENCODER.encode([(turn.role, turn.text) for turn in turns]))

    def _mac(self, message: bytes) -> str:
        inner: Any = self._inner.copy()
        inner.update(message)
        outer: Any = self._outer.copy()
        outer.update(inner.digest())
        digest: str = outer.hexdigest()
        return digest


class TenantFingerprints:
    """The fingerprints of each tenant, derived from the content key."""

    def __init__(self, content_key: bytes) -> None:
        self._content_key = content_key
        self._by_tenant: OrderedDict[str, Fingerprints] = OrderedDict()

    def of(self, tenant: str) -> Fingerprints:
        """The tenant's; `""` is no tenant's and serves as the shared scope."""
        found = self._by_tenant.get(tenant)
        if found is None:
            key = hmac.digest(self._content_key, _PURPOSE + tenant.encode(), "sha256")
            found = self._by_tenant[tenant] = Fingerprints(key)
            if len(self._by_tenant) > _TENANTS:
                self._by_tenant.popitem(last=False)
        return found
