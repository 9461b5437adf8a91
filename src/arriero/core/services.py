"""The registry: which services are known, and whether somebody works for them now."""

from __future__ import annotations

import asyncio
import difflib
import logging

from arriero.core import names, records
from arriero.core.kernel import Change, Kernel, decode
from arriero.core.limits import MOST_SERVICES, check_service
from arriero.core.records import ServiceRecord
from arriero.state_stores.base import Document
from arriero.types.chat import ChatMessage
from arriero.types.errors import InvalidInput, StoreDamaged, UnknownService
from arriero.types.messages import CONTROL_PLANE_NAME
from arriero.types.names import LONGEST_NAME
from arriero.types.services import ServiceDefinition

logger = logging.getLogger("arriero.core")

#: How long a young control plane lets a task wait for a service that has not registered yet, in seconds.
YOUNG = 30.0
GRACE = 1.5
#: How many services an error names.
SHOWN = 20
#: The same while no service at all has registered, as when everything is being started.
EMPTY_GRACE = 10.0


class Services:
    """Services, known from their first registration on. A worker that leaves does not make its service unknown."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._known: dict[str, ServiceRecord] = {}
        self._changed = asyncio.Event()
        self._since = 0.0
        self._met_any = False

    async def load(self) -> None:
        """Read the registry; done once, at the start."""
        self._since = self._kernel.clock()
        after = ""
        while page := await self._kernel.store.scan(names.SERVICES, after):
            for document in page:
                self._load(document)
            after = page[-1].key
        self._met_any = bool(self._known)

    def _load(self, document: Document) -> None:
        try:
            self._known[document.key] = decode(records.SERVICE, document.value, f"service {document.key}")
        except StoreDamaged:
            logger.exception("service %s is unknown until it registers again", document.key)

    async def register(self, record: ServiceRecord) -> None:
        """Add a service, or replace what is known of it."""
        names.check_name("service_name", record.name)
        if record.name == CONTROL_PLANE_NAME:
            raise InvalidInput(f"service_name {CONTROL_PLANE_NAME!r} is the control plane's own; choose another")
        check_service(record)
        known = self._known.get(record.name)
        if known is None and len(self._known) >= MOST_SERVICES:
            raise InvalidInput(f"{MOST_SERVICES} services are known, which is the limit; deregister some")
        if known is not None:
            _keep(record, known)
        if known != record:
            change = Change()
            change.put(names.SERVICES, record.name, record)
            change.after.append(lambda: self._knows(record))
            await self._kernel.apply(change)

    async def deregister(self, name: str) -> None:
        """Forget a service. What is queued for it stays, and goes on when it registers again."""
        self.require(name)
        change = Change()
        change.delete(names.SERVICES, name)
        change.after.append(lambda: self._forget(name))
        await self._kernel.apply(change)

    def require(self, name: str) -> ServiceRecord:
        """The service, or :class:`UnknownService` with the names of those that are known."""
        record = self._known.get(name)
        if record is None:
            raise self._unknown(name)
        return record

    def is_linked(self, name: str) -> bool:
        """Whether a worker ever served it through a link, so that it claims by itself when it comes."""
        known = self._known.get(name)
        return known is not None and known.linked

    def max_queue(self, name: str) -> int | None:
        """How many items of the service may be queued; None for any number."""
        known = self._known.get(name)
        own = known.max_queue if known is not None else None
        return own if own is not None else self._kernel.config.max_queue

    def list(self) -> dict[str, ServiceRecord]:
        return dict(sorted(self._known.items()))

    async def wait_for(self, name: str) -> ServiceRecord:
        """The service; just after the start it may take a moment to register, so that parts start in any order."""
        deadline = self._kernel.clock() + self._grace()
        while name not in self._known and (left := deadline - self._kernel.clock()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                break
        return self.require(name)

    def _grace(self) -> float:
        age = self._kernel.clock() - self._since
        if not self._met_any:
            return max(GRACE if age < YOUNG else 0.0, EMPTY_GRACE - age)
        return GRACE if age < YOUNG else 0.0

    def _knows(self, record: ServiceRecord) -> None:
        self._known[record.name] = record
        self._met_any = True
        self._changed.set()
        self._changed = asyncio.Event()

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)

    def _unknown(self, name: str) -> UnknownService:
        known = sorted(self._known)
        near = difflib.get_close_matches(name[:LONGEST_NAME], known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "") if known else "none"
        return UnknownService(f"no service {name[:80]!r} is known; known services: {listed}{hint}", known=known[:SHOWN])


def _keep(record: ServiceRecord, known: ServiceRecord) -> None:
    """What only a link tells outlives a definition that comes without it, and the other way round."""
    if record.linked:
        record.prompt = known.prompt
    elif known.linked:
        record.linked, record.accepts, record.parallel = True, known.accepts, known.parallel
    record.shape = record.shape or known.shape


def to_definition(record: ServiceRecord) -> ServiceDefinition:
    """The documented form."""
    return ServiceDefinition(
        service_name=record.name,
        description=record.description,
        prompt=[ChatMessage.model_validate(turn) for turn in record.prompt],
        host=record.host,
        port=record.port,
        max_queue=record.max_queue,
    )


def from_definition(definition: ServiceDefinition) -> ServiceRecord:
    """The stored form."""
    return ServiceRecord(
        name=definition.service_name,
        description=definition.description,
        prompt=[turn.model_dump(mode="json") for turn in definition.prompt],
        host=definition.host,
        port=definition.port,
        max_queue=definition.max_queue,
    )
