"""What a session keeps from one run to the next: the state in the workflow's store.

It is kept as JSON. Pydantic models in it are marked with the name of their class, and come back only if the workflow
declares that class: its events, its state, the models in their fields, and the classes allowed by the serializer given
to the workflow. Nothing is ever imported because its name is in the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec
from pydantic import BaseModel, ValidationError
from workflows import Context, Workflow
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import (
    DictState,
    InMemoryStateStore,
    StateCheckpoint,
    StateStore,
    infer_state_type,
)
from workflows.errors import ContextSerdeError
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from arriero.types.errors import ConfigurationError, InvalidInput, NotJSON, StoreDamaged
from arriero.types.jsonvalue import encode_json, to_json_value

_ALWAYS = (DictState, StartEvent, StopEvent, InputRequiredEvent, HumanResponseEvent)
_MARKS = ("__is_pydantic", "__is_component")
# What reading may raise: pydantic's errors are ValueErrors, the rest comes from the `from_dict` of components.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class SessionState:
    """The state of one run: what the session kept, or a fresh one. The store is made when it is first asked for."""

    def __init__(self, codec: SessionCodec, text: str | None) -> None:
        self._codec = codec
        self._text = text
        self._store: StateStore[Any] | None = None
        self._begun: BaseModel | None = None
        self._written: StateCheckpoint | None = None
        #: What the session kept.
        self.kept = codec.read(text) if text is not None else None

    @property
    def store(self) -> StateStore[Any]:
        if self._store is None:
            self._store = store = InMemoryStateStore(self.kept if self.kept is not None else self._codec.fresh())
            self._begun = store.checkpoint().state
        return self._store

    def resume(self, state: dict[str, Any]) -> None:
        """Go on with the state of a journal; :class:`StoreDamaged` if it cannot be read."""
        try:
            self._store = store = InMemoryStateStore[Any].from_dict(state, self._codec.serializer)
        except _UNREADABLE as error:
            raise StoreDamaged(f"the state in the journal of a run cannot be read: {_said(error)}") from error
        self._written = StateCheckpoint(store.checkpoint().state, self._codec.serializer)

    def change(self) -> dict[str, Any]:
        """What changed in the state since this was last asked, for a journal: the whole ``state``, or a ``patch``.

        :class:`NotJSON` names what in it cannot be kept.
        """
        if not isinstance(self._store, InMemoryStateStore):
            return {}
        now = StateCheckpoint(self._store.checkpoint().state, self._codec.serializer)
        if now.state is (self._begun if self._written is None else self._written.state):
            return {}
        before = self._written
        try:
            change = {"state": now.to_dict()} if before is None else {"patch": now.diff(before)}
        except (*_UNREADABLE, _CannotKeep) as error:
            raise NotJSON(f"the state of {self._codec.name} cannot be kept in the journal: {error}") from error
        self._written = now
        return change

    def whole(self) -> dict[str, Any]:
        """The ``state`` as it was last written to a journal, if it was."""
        return {} if self._written is None else {"state": self._written.to_dict()}

    @property
    def serializer(self) -> _Declared:
        """For contexts of the engine: declared classes only."""
        return self._codec.serializer

    def adopt(self, store: StateStore[Any]) -> None:
        """The run had another store, which began with what was kept."""
        self._store = store

    async def changed(self) -> str | None:
        """The text to keep; None if it is as it was, or there is nothing to keep."""
        if self._store is None:
            return None
        state = await self._store.get_state()
        if self._text is None and type(state) is DictState and not len(state):
            return None
        text = self._codec.write(state)
        return None if text == (self._codec.fresh_text() if self._text is None else self._text) else text


class Kept(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The form of the text: the class of the state, its declared fields, and the entries of a :class:`DictState`."""

    type: str
    fields: dict[str, Any] = {}
    data: dict[str, Any] = {}
    v: Literal[1] = 1


class SessionCodec:
    """Turns the state of a workflow into text and back."""

    def __init__(self, workflow: Workflow, types: Iterable[type[Any]] = ()) -> None:
        try:
            self._type: type[BaseModel] = infer_state_type(workflow)
        except ValueError as error:
            raise ConfigurationError(f"{type(workflow).__name__}: {error}") from error
        self.name = type(workflow).__name__
        self.serializer = _Declared(_with_models([*_ALWAYS, self._type, *workflow.events, *types]))
        self._fresh_text: str | None = None

    def fresh(self) -> BaseModel:
        return self._type()

    def fresh_text(self) -> str | None:
        """What a fresh state would be written as; None if the state has no defaults."""
        if self._fresh_text is None:
            try:
                self._fresh_text = self.write(self.fresh())
            except ValueError:
                return None
        return self._fresh_text

    def read(self, text: str) -> BaseModel:
        """The state in a text. :class:`StoreDamaged` if it is damaged, or of another workflow."""
        try:
            return self._read(text)
        except _UNREADABLE as error:
            raise StoreDamaged(
                f"the context that this session keeps for {self.name} cannot be read: {_said(error)}. "
                "Use a new session, or run the version of the workflow that wrote it"
            ) from error

    def _read(self, text: str) -> BaseModel:
        kept = msgspec.json.decode(text, type=Kept)
        cls = self.serializer.resolve_class(kept.type)
        if not issubclass(cls, self._type):
            raise ValueError(  # noqa: TRY004  # the text is wrong, not the type of an argument
                f"it holds a {kept.type}, and the workflow's state is a {_name(self._type)}"
            )
        fields = dict(kept.fields)
        if issubclass(cls, DictState):
            fields["_data"] = {key: self.serializer.deserialize_value(tree) for key, tree in kept.data.items()}
        with self.serializer.validation_context():
            return cls.model_validate(fields)

    def write(self, state: BaseModel) -> str:
        """The text of a state. :class:`NotJSON` names what in it cannot be kept."""
        cls = type(state)
        if not self.serializer.knows(cls):
            raise NotJSON(f"the state of {self.name} became a {_name(cls)}, which the workflow does not declare")
        fields: Any = {}
        data = {}
        if isinstance(state, DictState):
            data = {key: self._tree(key, value) for key, value in state.items()}
            fields = {
                name: to_json_value(getattr(state, name), f"field {name!r} of the state") for name in cls.model_fields
            }
        else:
            fields = to_json_value(state, f"the state of {self.name}")
        text = encode_json({"v": 1, "type": _name(cls), "fields": fields, "data": data}, "the state").decode()
        if fields or _MARKS[0] in text or _MARKS[1] in text:
            self._check(text)
        return text

    def dump(self, context: Context[Any]) -> dict[str, Any]:
        """All of a run's context, with what is under way in it. :class:`NotJSON` names what cannot be kept."""
        what = f"the context of {self.name}"
        try:
            tree: dict[str, Any] = to_json_value(context.to_dict(self.serializer), what)
        except (*_UNREADABLE, _CannotKeep) as error:
            raise NotJSON(f"{what} cannot be kept: {error}") from error
        return tree

    def load(self, workflow: Workflow, tree: dict[str, Any]) -> Context[Any]:
        """The context that was dumped. :class:`InvalidInput` if it is that of another workflow."""
        try:
            with self.serializer.validation_context():
                context: Context[Any] = Context.from_dict(workflow, tree, self.serializer)
                _ = context.store  # which the engine reads when it is first asked for
                return context
        except (*_UNREADABLE, ContextSerdeError) as error:
            raise InvalidInput(f"the context is none of {self.name}: {_said(error)}") from error

    def _tree(self, key: Any, value: Any) -> Any:
        what = f"key {key!r} in the store of {self.name}"
        if not isinstance(key, str):
            raise NotJSON(f"{what} cannot be kept: only text comes back as it was", key=str(key))
        try:
            return to_json_value(self.serializer.serialize_value(value), what)
        except _CannotKeep as error:
            raise NotJSON(f"{what} cannot be kept for the session's next run: {error}", key=str(key)) from None
        except RecursionError:
            raise NotJSON(f"{what} cannot be kept: it refers to itself or lies too deep", key=str(key)) from None

    def _check(self, text: str) -> None:
        """Better that the run which wrote it fails than all that follow in its session."""
        try:
            self._read(text)
        except _UNREADABLE as error:
            raise NotJSON(f"the state of {self.name} cannot be kept, it would not come back: {_said(error)}") from error


class _CannotKeep(Exception):
    """A value would not come back as it is. It never leaves this module."""


class _Declared(JsonSerializer):
    """The engine's JSON serializer, for declared classes only."""

    def __init__(self, types: Iterable[type[Any]]) -> None:
        super().__init__(allowed_types=())
        self._types: dict[str, type[Any] | None] = {}
        for cls in types:
            # The engine marks what lies inside of models with the bare name, which two classes may share.
            for name in {_name(cls), f"{cls.__module__}.{cls.__name__}"}:
                self._types[name] = cls if self._types.get(name, cls) is cls else None

    def knows(self, cls: type[Any]) -> bool:
        return self._types.get(_name(cls)) is cls

    def resolve_class(self, qualified_name: str) -> type[Any]:
        cls = self._types.get(qualified_name)
        if cls is None:
            raise ValueError(f"it holds a {qualified_name}, which the workflow does not declare")
        return cls

    def serialize_value(self, value: Any) -> Any:
        if isinstance(value, BaseModel) or hasattr(value, "class_name"):
            return self._marked(value)
        if isinstance(value, dict):
            self._look_at_keys(value)
            return {key: self.serialize_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.serialize_value(item) for item in value]
        if value is None or isinstance(value, str | int | float):
            return value
        raise _CannotKeep(f"it holds a {_name(type(value))}; keep it in a typed state, Context[MyModel], or as JSON")

    def _marked(self, value: Any) -> dict[str, Any]:
        cls = type(value)
        if not self.knows(cls):
            raise _CannotKeep(
                f"it holds a {_name(cls)}, which the workflow does not declare; if it shall be kept, make the workflow "
                f"with serializer=JsonSerializer(allowed_types=[{cls.__name__}])"
            )
        if hasattr(value, "class_name"):
            return {"__is_component": True, "value": value.to_dict(), "qualified_name": _name(cls)}
        return {"__is_pydantic": True, "value": to_json_value(value, _name(cls)), "qualified_name": _name(cls)}

    @staticmethod
    def _look_at_keys(value: dict[Any, Any]) -> None:
        for key in value:
            if not isinstance(key, str):
                raise _CannotKeep(f"it holds a dict with the key {key!r}, and only text comes back as it was")
            if key in _MARKS:
                raise _CannotKeep(f"it holds a dict with the key {key!r}, which marks objects")


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problems = error.errors(include_url=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'as a whole'}: {each['msg']}" for each in problems)
    return f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)


def _name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _with_models(types: Iterable[Any]) -> Iterable[type[Any]]:
    """These classes, and the models in the fields of those that are models."""
    found: dict[type[Any], None] = {}
    left = list(types)
    while left:
        each = left.pop()
        if not isinstance(each, type) or get_args(each):
            left.extend(get_args(each))
        elif each not in found:
            found[each] = None
            if issubclass(each, BaseModel):
                left.extend(field.annotation for field in each.model_fields.values())
    return (cls for cls in found if issubclass(cls, BaseModel) or hasattr(cls, "class_name"))
