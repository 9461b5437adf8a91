"""What a session keeps between runs: the state in the store, exactly, or an error that names what cannot be kept."""

import datetime as dt
import json
import math
from typing import Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer, PickleSerializer
from workflows.context.state_store import DictState
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from arriero.runtime.engine import declared_types
from arriero.runtime.runner import WorkflowRunner
from arriero.runtime.session import SessionCodec
from arriero.types.errors import ConfigurationError, NotJSON, StoreDamaged
from tests.unit.runtime import flows
from tests.unit.runtime.conftest import Runs


class Stranger(BaseModel):
    """Declared by no workflow."""

    name: str = ""


class Component:
    """Has the face of a component of llama-index."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def class_name(cls) -> str:
        return "Component"

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Component":
        return cls(data["number"])


def marked(mark: str, name: str) -> str:
    """A text that asks for an object of a class."""
    data = {"a": {mark: True, "value": {}, "qualified_name": name}}
    return json.dumps({"v": 1, "type": "workflows.context.state_store.DictState", "data": data})


async def test_nothing_is_kept_when_nothing_was_stored(run: Runs) -> None:
    assert (await run(flows.Echo())).context is None
    assert (await run(flows.Remembering(), key="a")).context is None


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        "text ü",
        {"deep": [1.5, {"list": [True, None]}]},
        flows.Doc(text="d", score=0.5),
        [flows.Doc(text="d"), {"inner": flows.Doc(text="e")}],
        flows.Found(docs=[flows.Doc(text="f")], extra=1),
        HumanResponseEvent(response="yes"),
        StopEvent(result=[1]),
    ],
)
async def test_values_come_back_as_they_were_in_the_next_run(direct: Runs, value: Any) -> None:
    workflow = flows.Remembering()
    seen: list[Any] = []

    class Looking(flows.Remembering):
        @step
        async def remember(self, ctx: Context, ev: StartEvent) -> flows.Found | StopEvent:
            seen.append(await ctx.store.get("a"))
            return StopEvent()

    kept = (await direct(workflow, key="a", value=value)).context
    await direct(Looking(), context=kept)
    assert seen == [value]
    assert type(seen[0]) is type(value)


async def test_a_tuple_comes_back_as_a_list(direct: Runs) -> None:
    kept = (await direct(flows.Remembering(), key="a", value=(1, (2, 3)))).context
    assert (await direct(flows.Remembering(), context=kept, key="a")).value == [1, [2, 3]]


async def test_state_is_carried_from_run_to_run(run: Runs) -> None:
    workflow = flows.Remembering()
    first = await run(workflow, key="a", value=1)
    second = await run(workflow, context=first.context, key="b", value=2)
    third = await run(workflow, context=second.context, key="a")
    assert (first.value, second.value, third.value) == (None, None, 1)
    assert json.loads(second.context)["data"] == {"a": 1, "b": 2}
    assert third.context is None, "it stays as it was"


async def test_an_emptied_store_is_kept_as_empty(run: Runs) -> None:
    workflow = flows.Remembering()
    kept = (await run(workflow, key="a", value=1)).context
    emptied = await run(workflow, context=kept, key="a", clear=True)
    assert emptied.value == 1
    assert emptied.context is not None
    assert (await run(workflow, context=emptied.context, key="a")).value is None


async def test_what_is_changed_in_place_is_kept_too(direct: Runs) -> None:
    class Growing(Workflow):
        @step
        async def grow(self, ctx: Context, ev: StartEvent) -> StopEvent:
            items = await ctx.store.get("items", default=None)
            if items is None:
                await ctx.store.set("items", [1])
            else:
                items.append(2)
            return StopEvent()

    kept = (await direct(Growing())).context
    changed = (await direct(Growing(), context=kept)).context
    assert json.loads(changed)["data"] == {"items": [1, 2]}


async def test_typed_state_keeps_its_types(run: Runs) -> None:
    workflow = flows.TypedMemory()
    first = await run(workflow, text="x")
    assert first.value == [1, ["x"]]
    second = await run(workflow, context=first.context, text="y")
    assert second.value == [2, ["x", "y"]]
    state = SessionCodec(workflow).read(second.context)
    assert isinstance(state, flows.Memory)
    assert state.docs == [flows.Doc(text="x"), flows.Doc(text="y")]
    assert state.seen == {"x", "y"}
    assert state.last == dt.date(2024, 1, 2)


async def test_typed_state_that_was_only_looked_at_is_not_kept(run: Runs) -> None:
    looked = await run(flows.Reading())
    assert (looked.value, looked.context) == (0, None)


async def test_a_dict_state_with_fields_of_its_own_keeps_both(direct: Runs) -> None:
    class Both(DictState):
        total: int = 0

    class Counting(Workflow):
        @step
        async def count(self, ctx: Context[Both], ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state.total += 1
                state["doc"] = flows.Doc(text=str(state.total))
            return StopEvent(result=state.total)

        @step
        async def never(self, ev: flows.Found) -> None:
            return None

        @step
        async def find(self, ev: flows.Half) -> flows.Found:
            return flows.Found()

    workflow = Counting(disable_validation=True)
    kept = (await direct(workflow)).context
    assert (await direct(workflow, context=kept)).value == 2
    state = SessionCodec(workflow).read(kept)
    assert (type(state), state) == (Both, Both(total=1, doc=flows.Doc(text="1")))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "it holds a builtins.object"),
        ([{1, 2}], "it holds a builtins.set"),
        (b"x", "it holds a builtins.bytes"),
        (dt.date(2024, 1, 1), "it holds a datetime.date"),
        ({1: "a"}, "it holds a dict with the key 1, and only text comes back as it was"),
        (Stranger(), "Stranger, which the workflow does not declare"),
        ({"deep": [Component(1)]}, "Component, which the workflow does not declare"),
        ({"__is_pydantic": True, "qualified_name": "os.system", "value": {}}, "'__is_pydantic', which marks objects"),
        (math.nan, "not a finite number"),
        ("\ud800", "lone surrogate"),
        (flows.Found(extra=object()), "which cannot be dumped|is not JSON"),
    ],
)
async def test_what_would_not_come_back_fails_the_run_and_names_its_key(run: Runs, value: Any, said: str) -> None:
    with pytest.raises(NotJSON, match=said) as caught:
        await run(flows.Remembering(), key="it", value=value)
    assert "key 'it' in the store of Remembering" in str(caught.value) or "Found" in str(caught.value)
    assert run.events == [], "the run is not over in success"


async def test_a_value_that_refers_to_itself_fails_the_run(run: Runs) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotJSON, match=r"key 'it' in the store .* refers to itself"):
        await run(flows.Remembering(), key="it", value=loop)


async def test_a_typed_state_names_the_field_that_cannot_be_kept(run: Runs) -> None:
    with pytest.raises(NotJSON, match=r"the state of TypedMemory is not JSON: \.anything is of type object"):
        await run(flows.TypedMemory(), anything=object())


async def test_a_state_that_would_not_come_back_fails_the_run_that_wrote_it(direct: Runs) -> None:
    class Strict(BaseModel):
        count: int = 0

        def model_post_init(self, context: Any) -> None:
            if self.count > 1:
                raise ValueError("too many")

    class Raising(Workflow):
        @step
        async def count(self, ctx: Context[Strict], ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state.count = 5
            return StopEvent()

    with pytest.raises(NotJSON, match=r"would not come back: .*too many"):
        await direct(Raising())


async def test_a_subclass_that_nobody_declared_cannot_take_the_place_of_the_state(direct: Runs) -> None:
    def more() -> flows.Memory:
        class More(flows.Memory):
            extra: int = 1

        return More()

    class Replacing(Workflow):
        @step
        async def replace(self, ctx: Context[flows.Memory], ev: StartEvent) -> StopEvent:
            await ctx.store.set_state(more())
            return StopEvent()

    with pytest.raises(NotJSON, match=r"the state of Replacing became a .*More, which the workflow does not declare"):
        await direct(Replacing())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"v":2,"type":"workflows.context.state_store.DictState"}',
        '{"v":1,"type":"os.system"}',
        '{"v":1,"type":"workflows.context.state_store.DictState","data":[1]}',
        '{"v":1,"type":"workflows.context.state_store.DictState","more":1}',
        '{"v":1,"type":"tests.unit.runtime.flows.Memory","fields":{"count":"many"}}',
        marked("__is_pydantic", "tests.unit.runtime.test_session.Stranger"),
        marked("__is_component", "subprocess.Popen"),
        '{"v":1,"type":"workflows.context.state_store.DictState","data":' + '{"a":' * 5000 + "1" + "}" * 5001,
    ],
)
async def test_a_context_that_cannot_be_read_is_refused_before_anything_runs(run: Runs, text: str) -> None:
    with pytest.raises(StoreDamaged, match="the context that this session keeps for Remembering cannot be read"):
        await run(flows.Remembering(), context=text, key="a")
    assert run.events == []


async def test_the_context_of_another_workflow_is_refused(run: Runs) -> None:
    kept = (await run(flows.Remembering(), key="a", value=1)).context
    with pytest.raises(StoreDamaged, match=r"holds a .*DictState.* state is a .*Memory|does not declare"):
        await run(flows.TypedMemory(), context=kept)


async def test_classes_allowed_by_the_serializer_of_a_workflow_may_be_kept(direct: Runs) -> None:
    serializer = JsonSerializer(allowed_types=[Stranger, Component])
    workflow = flows.Remembering(serializer=serializer)
    kept = (await direct(workflow, key="a", value=[Stranger(name="n"), Component(3)])).context
    state = SessionCodec(workflow, declared_types(workflow)).read(kept)
    assert isinstance(state, DictState)
    stranger, component = state["a"]
    assert stranger == Stranger(name="n")
    assert (type(component), component.number) == (Component, 3)


@pytest.mark.parametrize("serializer", [JsonSerializer(), PickleSerializer()])
async def test_an_open_serializer_opens_nothing(direct: Runs, serializer: JsonSerializer) -> None:
    with pytest.raises(NotJSON, match="does not declare"):
        await direct(flows.Remembering(serializer=serializer), key="a", value=Stranger())


async def test_two_classes_of_one_name_are_not_mistaken(direct: Runs) -> None:
    def make(number: int) -> Any:
        class Doc(BaseModel):
            kind: int = number

        return Doc

    one, two = make(1), make(2)

    class Twice(flows.Event):
        first: one  # type: ignore[valid-type]  # made above
        second: two  # type: ignore[valid-type]  # made above

    class Twins(Workflow):
        @step
        async def begin(self, ctx: Context, ev: StartEvent) -> Twice:
            await ctx.store.set("doc", one())
            return Twice(first=one(), second=two())

        @step
        async def end(self, ev: Twice) -> StopEvent:
            return StopEvent()

    with pytest.raises(NotJSON, match="Doc, which the workflow does not declare"):
        await direct(Twins())


async def test_states_that_do_not_fit_together_are_refused_when_prepared() -> None:
    class Torn(Workflow):
        @step
        async def first(self, ctx: Context[flows.Memory], ev: StartEvent) -> flows.Half:
            return flows.Half(text="")

        @step
        async def second(self, ctx: Context[Stranger], ev: flows.Half) -> StopEvent:
            return StopEvent()

    with pytest.raises(ConfigurationError, match="Torn: Multiple state types"):
        WorkflowRunner(Torn())
