"""Random commits, several at once, against a model that does them one after the other."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.state_stores import MemoryStore, SqliteStore, StateStore
from arriero.state_stores.base import Append, Committed, Delete, Drop, Expect, Head, Op, Put
from arriero.types.errors import LogEnded, StateConflict

COLLECTIONS = ("a", "b")
KEYS = ("k", "k/1", "é")
LOGS = ("x", "y")


@dataclass
class Model:
    """Everything in dicts, and a commit that works on a copy."""

    documents: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    logs: dict[str, list[bytes]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def version(self, collection: str, key: str) -> int:
        return self.documents.get((collection, key), (b"", 0))[1]

    def head(self, log: str) -> Head:
        return Head(len(self.logs.get(log, [])), log in self.ended)

    def commit(self, ops: list[Op], version: int) -> type[Exception] | None:
        for op in ops:
            wanted = op.version if isinstance(op, Expect) else getattr(op, "expect", None)
            if wanted is not None and self.version(op.collection, op.key) != wanted:
                return StateConflict
        after = Model(dict(self.documents), {log: list(values) for log, values in self.logs.items()}, set(self.ended))
        for op in ops:
            if not after.do(op, version):
                return LogEnded
        self.documents, self.logs, self.ended = after.documents, after.logs, after.ended
        return None

    def do(self, op: Op, version: int) -> bool:
        match op:
            case Put(collection, key, value):
                self.documents[(collection, key)] = (value, version)
            case Delete(collection, key):
                self.documents.pop((collection, key), None)
            case Drop(log):
                self.logs.pop(log, None)
                self.ended.discard(log)
            case Append(log, values, end):
                if log in self.ended:
                    return False
                self.logs.setdefault(log, []).extend(values)
                if end:
                    self.ended.add(log)
        return True


#: None: any version; "now": the one before the round; "absent"; "stale": one that it never has.
expectations = st.sampled_from([None, None, "now", "now", "absent", "stale"])
places = st.tuples(st.sampled_from(COLLECTIONS), st.sampled_from(KEYS))
values = st.binary(max_size=8)
actions = st.one_of(
    st.tuples(st.just("put"), places, expectations, values),
    st.tuples(st.just("delete"), places, expectations),
    st.tuples(st.just("expect"), places, st.sampled_from(["now", "now", "now", "absent", "stale"])),
    st.tuples(st.just("append"), st.sampled_from(LOGS), st.lists(values, max_size=3), st.booleans()),
    st.tuples(st.just("append"), st.sampled_from(LOGS), st.lists(values, max_size=3), st.just(False)),
    st.tuples(st.just("drop"), st.sampled_from(LOGS)),
)
rounds = st.lists(
    st.lists(st.tuples(st.lists(actions, max_size=5), st.booleans()), min_size=1, max_size=6), min_size=1, max_size=5
)


def op_of(action: tuple, model: Model) -> Op:
    kind, target, *rest = action
    if kind == "append":
        return Append(target, tuple(rest[0]), rest[1])
    if kind == "drop":
        return Drop(target)
    now = model.version(*target)
    wanted = {None: None, "now": now, "absent": 0, "stale": now + 1_000_000_000}[rest[0]]
    if kind == "put":
        return Put(*target, rest[1], wanted)
    return Delete(*target, wanted) if kind == "delete" else Expect(*target, wanted)


async def compare(store: StateStore, model: Model) -> None:
    for collection in COLLECTIONS:
        kept = {key: value for (place, key), value in model.documents.items() if place == collection}
        scanned = [(document.key, document.value, document.version) for document in await store.scan(collection)]
        assert scanned == [(key, *kept[key]) for key in sorted(kept, key=str.encode)]
        for key in KEYS:
            document = await store.get(collection, key)
            assert (document and (document.value, document.version)) == kept.get(key)
    for log in LOGS:
        assert await store.head(log) == model.head(log)
        assert [entry.value for entry in await store.read_log(log)] == model.logs.get(log, [])


async def play(make_store: Callable[[], StateStore], script: list, *, reopen: bool) -> None:
    model = Model()
    last = 0
    async with make_store() as store:
        for commits in script:
            batch = [([op_of(action, model) for action in actions], durable) for actions, durable in commits]
            outcomes = await asyncio.gather(
                *(store.commit(ops, durable=durable) for ops, durable in batch), return_exceptions=True
            )
            for (ops, _), outcome in zip(batch, outcomes, strict=True):
                version = outcome.version if isinstance(outcome, Committed) else 0
                refusal = model.commit(ops, version)
                if refusal:
                    assert type(outcome) is refusal
                    continue
                assert isinstance(outcome, Committed)
                assert outcome.version > last
                last = outcome.version
                assert outcome.heads == {op.log: model.head(op.log) for op in ops if isinstance(op, Append | Drop)}
            await compare(store, model)
    if reopen:
        async with make_store() as store:
            await compare(store, model)
            assert (await store.commit([])).version > last


@given(rounds)
def test_a_memory_store_does_what_the_model_does(script: list) -> None:
    asyncio.run(play(MemoryStore, script, reopen=False))


@pytest.mark.parametrize("cached", [4096, 2, 0])
@settings(max_examples=30)
@given(rounds)
def test_a_sqlite_store_does_what_the_model_does(cached: int, script: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        asyncio.run(play(lambda: SqliteStore(path, cached_documents=cached), script, reopen=True))
