"""Ready items whose journal fits only some of the connected workers, kept for those."""

from __future__ import annotations

from arriero.core import names
from arriero.core.kernel import Kernel

#: A service, and a shape of its handlers.
Kind = tuple[str, str]


class Shapes:
    """Ready keys that a worker of another shape met, until one of the right shape claims, or none is there any more.

    They stay in the store's ready index; this is only about who is given them.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._kept: dict[Kind, set[str]] = {}

    def keep(self, kind: Kind, key: str) -> None:
        """Leave the item to a worker of that kind."""
        self._kept.setdefault(kind, set()).add(key)

    def take(self, kind: Kind, most: int) -> list[str]:
        """At most so many keys for a worker of that kind, the oldest first."""
        kept = self._kept.get(kind)
        if not kept:
            return []
        keys = sorted(kept)[:most]
        kept.difference_update(keys)
        if not kept:
            del self._kept[kind]
        return keys

    def give_up(self, kind: Kind) -> None:
        """Nobody of that kind is there any more: whoever comes may have them."""
        service, _ = kind
        for key in self._kept.pop(kind, ()):
            self._kernel.ready.add(service, key)
            self._kernel.on_ready(service, names.dated(key))
