"""Whose a partition is: even shares with the fewest moves, in two rounds, and the time without an owner.

An assignor of our own, not librdkafka's or Kafka's: it keeps what it can and makes shares even, as
cooperative-sticky does for members that all read one topic, and is quick enough for 500 of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

Shares = dict[str, frozenset[int]]


def even_sizes(partitions: int, members: int) -> list[int]:
    """How many each has when they are even, larger shares first.

    >>> even_sizes(10, 3)
    [4, 3, 3]
    """
    least, larger = divmod(partitions, members)
    return [least + (place < larger) for place in range(members)]


def fewest_moves(partitions: int, before: Sequence[int], after: int) -> int:
    """How many partitions must get another owner for `after` even shares, the fewest there can be.

    `before` are the shares of those who stay, without the share of one who goes; others are new.

    >>> fewest_moves(10, [5, 5], 3)
    3
    >>> fewest_moves(10, [4, 3], 2)
    3
    """
    kept = sorted(before, reverse=True)
    sizes = even_sizes(partitions, after)
    return partitions - sum(min(share, size) for share, size in zip(kept, sizes, strict=False))


def even_shares(partitions: int, owned: Mapping[str, Collection[int]]) -> Shares:
    """An even share for each member, with as much as can be of what it has. No partition is owned twice."""
    members = sorted(owned, key=lambda member: (-len(owned[member]), member))
    sizes = dict(zip(members, even_sizes(partitions, len(members)), strict=True))
    shares = {member: sorted(owned[member])[: sizes[member]] for member in members}
    kept = {number for share in shares.values() for number in share}
    free = [number for number in range(partitions) if number not in kept]
    for member, share in shares.items():
        missing = sizes[member] - len(share)
        share += free[:missing]
        free = free[missing:]
    return {member: frozenset(share) for member, share in shares.items()}


def this_round(target: Mapping[str, frozenset[int]], owned: Mapping[str, Collection[int]]) -> Shares:
    """What may be given at once of `target`: all but what another member still has (KIP-429).

    Its owner learns from the same answer that it has to give it back, and asks for the next round.
    """
    owners = {number: member for member, share in owned.items() for number in share}
    return {
        member: frozenset(number for number in share if owners.get(number, member) == member)
        for member, share in target.items()
    }


class Owners:
    """Who has which partition, as the members see it; never two at a time."""

    def __init__(self, partitions: int, clock: Callable[[], float]) -> None:
        self._partitions, self._clock = partitions, clock
        self._owner: dict[int, str] = {}
        self._without_since: float | None = clock()
        self._without_s = 0.0
        self.given = 0
        """How often a partition was given to a member."""

    def give(self, member: str, numbers: Collection[int]) -> None:
        """It has them from now on. Raises RuntimeError if another one has one of them."""
        for number in numbers:
            if number in self._owner:
                raise RuntimeError(
                    f"partition {number} was given to {member} while {self._owner[number]} has it"
                )
            self._owner[number] = member
        self.given += len(numbers)
        if self._without_since is not None and len(self._owner) == self._partitions:
            self._without_s += self._clock() - self._without_since
            self._without_since = None

    def take(self, numbers: Collection[int]) -> None:
        """Nobody has them from now on."""
        for number in numbers:
            del self._owner[number]
        if numbers and self._without_since is None:
            self._without_since = self._clock()

    def without_s(self) -> float:
        """Seconds so far in which at least one partition had no owner."""
        if self._without_since is None:
            return self._without_s
        return self._without_s + self._clock() - self._without_since

    def even(self, members: int) -> bool:
        """Every partition has an owner, and among so many members no two differ by more than one."""
        if len(self._owner) < self._partitions:
            return False
        sizes: dict[str, int] = {}
        for member in self._owner.values():
            sizes[member] = sizes.get(member, 0) + 1
        return sorted(sizes.values(), reverse=True) == [
            size for size in even_sizes(self._partitions, members) if size
        ]
