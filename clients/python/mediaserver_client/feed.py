"""A bounded history that several readers follow; who is too slow misses the oldest. Pure."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """The newest `capacity` items, numbered from 0."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque(maxlen=capacity)
        self.count = 0
        """How many items there ever were."""

    def put(self, item: T) -> None:
        """Append `item`."""
        self._items.append(item)
        self.count += 1

    def after(self, position: int) -> tuple[int, T] | None:
        """Return the next item at or after `position` and the position after it, if there is."""
        oldest = self.count - len(self._items)
        at = max(position, oldest)
        return (at + 1, self._items[at - oldest]) if at < self.count else None
