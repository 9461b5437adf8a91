"""The link of a worker that lives in the control plane's own process: direct calls, nothing serialised."""

from __future__ import annotations

from collections.abc import Callable

from arriero.core.core import Core
from arriero.core.links import Link
from arriero.types.errors import Fenced
from arriero.types.link import Call, Event, Grant, Hello, Journal, OnOpen, Outcome, Push, Report, Wait
from arriero.types.whole import Whole

#: A worker beside the control plane needs no lease: they end together.
FOR_EVER = 1e9


class LocalLink:
    """A :class:`~arriero.types.link.ControlPlaneLink` on a core in the same event loop.

    Requests are done as a whole, even when the worker that made them is cancelled.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._link: Link | None = None
        self._whole = Whole()

    async def open(self, hello: Callable[[], Hello], on_push: Callable[[Push], None], on_open: OnOpen) -> None:
        self._link, welcome = await self._core.links.attach(hello(), on_push, local=True)
        welcome.renew_every = 0.0
        on_open(welcome)

    async def claim(self, free: int) -> list[Grant]:
        return await self._whole.do(self._core.claims.claim(self._attached(), free))

    async def emit(self, item_id: str, token: str, events: list[Event]) -> None:
        await self._whole.do(self._core.claims.emit(self._attached(), item_id, token, events))

    async def report(self, report: Report) -> list[Grant]:
        return await self._whole.do(self._report(self._attached(), report))

    async def call(self, call: Call) -> Outcome:
        self._attached()
        return await self._core.children.outcome(await self._whole.do(self._core.children.start(call)))

    async def journal(self, journal: Journal) -> None:
        await self._whole.do(self._core.journals.write(self._attached(), journal))

    async def wait(self, wait: Wait) -> bool:
        return await self._whole.do(self._core.journals.wait(self._attached(), wait))

    async def release(self, tokens: dict[str, str]) -> None:
        await self._whole.do(self._core.claims.release(self._attached(), tokens))

    def renew(self, worker_id: str) -> float:
        return FOR_EVER

    async def aclose(self) -> None:
        link, self._link = self._link, None
        if link is not None and self._core.started:
            await self._core.links.leave(link)

    async def _report(self, link: Link, report: Report) -> list[Grant]:
        await self._core.claims.report(link, report)
        return await self._core.claims.claim_more(link, report.free)

    def _attached(self) -> Link:
        if self._link is None or not self._core.started:
            raise Fenced("the control plane of this process has stopped")
        return self._link
