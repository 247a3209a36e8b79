"""Inputs: examples of ours, mutated. Input n of a target and a seed is the same wherever it is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

# Larger than any record that a broker takes by default.
LARGEST_BYTES: Final = 1_200_000
# One input in so many is made large; more of them would only take time.
_LARGE_ONE_IN: Final = 2_000
_TOKENS: Final = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"null", b"true", b"NaN", b"Infinity", b"-"),
    *(b"1e999", b"-0", b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"0.1e-400"),
    *(b"1" * 5000, b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\u202e", b"\xed\xa0\x80", b"\xf5\xff"),
    *(b"\xc0\xaf", b"\xef\xbb\xbf", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59.999999-23:59"),
    *(b"2016-12-31T23:59:60Z", b"T", b"rsafe-", b"rsafe-offset", b"rsafe-topic", b"\x00", b"\r\n"),
    *(b"\x1b[31m", b" " * 64, b"%", b"/", b'{"a":' * 600, b"[" * 1200, b'"x":{}' * 30, b"-" * 300),
    b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
)
_LEAVES: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1, 2**53, 2**64, -(2**63) - 1, 1e308, 0.5, 1.0),
    *("", "\x00", "\u202e", "x" * 300, "S1", "live", "unsafe", [], {}, [[]], {"a": {"b": []}}),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-31T12:00:00Z"),
)
# What a large input is made of, besides the input itself.
_UNITS: Final = (b"[", b'{"a":', b"\\u00e9", b'"', b"x", b" ", b"9", b"\xff", b"rsafe-a\x1fb\x1e")


def make_input(seed: int, target: str, number: int, corpus: Sequence[bytes]) -> bytes:
    """Input `number` of a run."""
    random = Random(f"{seed}:{target}:{number}")
    data = random.choice(corpus)
    if random.random() < 0.02:
        data = random.randbytes(random.randrange(64))
    for _ in range(1 + int(random.expovariate(1.2))):
        data = random.choice(_MUTATIONS)(data, random)
    if random.random() < 0.15:
        other = random.choice(corpus)
        data = data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]
    if random.randrange(_LARGE_ONE_IN) == 0:
        data = _large(data, random)
    return data[:LARGEST_BYTES]


def _flip(data: bytes, random: Random) -> bytes:
    if not data:
        return data
    found = bytearray(data)
    found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def _set(data: bytes, random: Random) -> bytes:
    if not data:
        return b"\x00"
    found = bytearray(data)
    found[random.randrange(len(found))] = random.choice(b'\x00\x7f\x80\xff"\\{}[],:0-/\n')
    return bytes(found)


def _remove(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + data[start + 1 + int(random.expovariate(0.1)) :]


def _repeat(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    part = data[start : start + 1 + int(random.expovariate(0.1))]
    return data[:start] + part * random.choice((2, 3, 50)) + data[start:]


def _insert(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + random.choice(_TOKENS) + data[start:]


def _replace(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    return data[:start] + random.choice(_TOKENS) + data[start + 1 + int(random.expovariate(0.15)) :]


def _tree(data: bytes, random: Random) -> bytes:
    """JSON stays JSON: one node becomes another, goes, or stands twice."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, random)
    node = tree
    while isinstance(node, dict | list) and node:
        container: Any = node
        place = random.choice([*node] if isinstance(node, dict) else range(len(node)))
        node = container[place]
        if isinstance(node, dict | list) and node and random.random() < 0.75:
            continue
        _change(container, place, random)
        break
    return json.dumps(tree, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def _change(container: Any, place: Any, random: Random) -> None:
    match random.randrange(4):
        case 0:
            del container[place]
        case 1 if isinstance(container, list):
            container.extend([container[place]] * random.choice((1, 3, 200)))
        case 1:
            container["more"] = container[place]
        case _:
            container[place] = random.choice(_LEAVES)


def _large(data: bytes, random: Random) -> bytes:
    """A megabyte: deep, or long, or the data again and again."""
    unit = random.choice((*_UNITS, data or b"-"))
    start = random.randrange(len(data) + 1)
    return data[:start] + unit * (LARGEST_BYTES // len(unit)) + data[start:]


_MUTATIONS: Final[tuple[Callable[[bytes, Random], bytes], ...]] = (
    *(_flip, _set, _remove, _repeat, _insert, _replace, _tree, _tree, _tree),
)
