"""Workflows that run other workflows, with the same code in a notebook and in a cluster.

A step may have a parameter that is annotated with a workflow's class. In a notebook it is given the workflow that was
bound to that name; once its own workflow is deployed, the service of that name. The engine has no such parameters. It
supplies resources, though, and that is what these are for it: see :class:`Nested`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from types import FrameType, NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

import workflows
from workflows.resource import ResourceDefinition

from arriero.runtime.children import NestedService
from arriero.runtime.steps import Supplied, decorate, is_step, resources_of, step_now, steps_of, unsupplied
from arriero.runtime.surroundings import here
from arriero.types.errors import ConfigurationError

_BOUND = "_arriero_workflows"
#: How many frames around a step are searched for the names in its annotations, as the engine does.
_FRAMES = 4


class Nested(Supplied):
    """Marks a parameter of a step as another workflow: ``inner: Annotated[Inner, Nested()]``.

    This is the form that the engine's own ``step`` understands. ``service`` is the name of the service where it is not
    that of the parameter. In a notebook, the parameter is given the workflow bound to it by :func:`add_workflows`.
    """

    def __init__(self, service: str | None = None) -> None:
        super().__init__()
        self.service = service
        self.parameter: str | None = None
        self._default: Any = inspect.Parameter.empty

    @classmethod
    def of(cls, parameter: inspect.Parameter) -> Nested:
        """The mark of a parameter that has none."""
        return cls().for_parameter(parameter.name, parameter.default)

    def for_parameter(self, name: str, default: Any = inspect.Parameter.empty) -> Nested:
        """A copy for one parameter: a mark may be shared by several."""
        copied = Nested(self.service)
        copied.parameter = name
        copied._default = default
        return copied

    @property
    def name(self) -> str:  # type: ignore[override]  # the engine only reads it
        """Another one for each workflow and kind of run: the engine may give to two steps what has one name."""
        now = step_now()
        where = "" if now is None else f" of {id(now.workflow)}"
        return f"workflow {self._said()}{where}{' as a service' if here() is not None else ''}"

    def supply(self) -> Any:
        """The bound workflow, or what stands for the service."""
        now = step_now()
        bound = self._bound_to(now.workflow) if now is not None else None
        if here() is not None:
            return NestedService(self._service(), bound)
        if bound is not None:
            return bound
        if self._default is not inspect.Parameter.empty:
            return self._default
        raise ConfigurationError(self._unbound(now.workflow if now is not None else None))

    def _bound_to(self, outer: workflows.Workflow) -> workflows.Workflow | None:
        bound = bound_workflows(outer)
        return bound.get(self.parameter or "") or bound.get(self.service or "")

    def _service(self) -> str:
        name = self.service or self.parameter
        if name is None:
            raise ConfigurationError(
                "a step has a Nested() without a name, and its workflow was not deployed by Arriero"
            )
        return name

    def _said(self) -> str:
        return self.service or self.parameter or f"at {id(self)}"

    def _unbound(self, outer: workflows.Workflow | None) -> str:
        name = self.parameter or self.service or "name"
        cls = type(outer).__name__ if outer is not None else "a workflow"
        return (
            f"parameter {name!r} of a step of {cls} is a workflow, and none is bound to it here: bind one by "
            f"arriero.add_workflows(workflow, {name}=...); once it is deployed, service {self._said()!r} is called"
        )


class Workflow(workflows.Workflow):
    """The engine's workflow, whose steps may have workflows as parameters.

    Its steps may be decorated by :func:`step` or by the engine's own.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        names = _names(inspect.currentframe(), skip=1)  # annotations may name classes of the function around
        for function in vars(cls).values():
            if is_step(function):
                adopt(function, names)

    @classmethod
    def add_step(cls, func: Any) -> None:
        """Add a free function as a step."""
        super().add_step(func)
        adopt(func)

    def add_workflows(self, **named: workflows.Workflow) -> None:
        """Bind workflows to the parameters of these names; see :func:`add_workflows`."""
        add_workflows(self, **named)


def add_workflows(outer: workflows.Workflow, /, **named: workflows.Workflow) -> None:
    """Bind workflows to parameters of the steps of ``outer``, by the names of the parameters or of their services.

    They run in its process: in a notebook always; once ``outer`` is deployed, while no service of that name is known.
    ``outer`` may be an instance of any of the engine's classes.
    """
    for name, workflow in named.items():
        if not isinstance(workflow, workflows.Workflow):
            raise ConfigurationError(f"{name} is to be a workflow (an instance, not a class), not {workflow!r}")
    adopt_steps(outer, named)
    known = {name for mark in _marks(outer) for name in (mark.parameter, mark.service) if name is not None}
    if unknown := sorted(named.keys() - known):
        raise ConfigurationError(
            f"no step of {type(outer).__name__} has a parameter {', '.join(unknown)} for a workflow; "
            f"those that have: {', '.join(sorted(known)) or 'none'}"
        )
    vars(outer).setdefault(_BOUND, {}).update(named)


def bound_workflows(outer: workflows.Workflow) -> dict[str, workflows.Workflow]:
    """What was bound to the parameters of a workflow's steps."""
    found: dict[str, workflows.Workflow] = vars(outer).get(_BOUND, {})
    return found


if TYPE_CHECKING:
    from workflows import step as step  # noqa: PLC0414  # exported: to a type checker it is the engine's
else:

    def step(
        func=None,
        *,
        workflow=None,
        num_workers=4,
        retry_policy=None,
        skip_graph_checks=None,
        accept_event_subclasses=False,
    ):
        """Decorate a step, as the engine's ``step`` does; parameters that are annotated with a workflow are supplied.

        It takes all options of the engine's.
        """

        def decorator(function):
            names = _names(inspect.currentframe(), skip=1 if func is None else 2)
            decorated = decorate(
                function,
                num_workers=num_workers,
                retry_policy=retry_policy,
                workflow=workflow,
                localns=names,
                skip_graph_checks=skip_graph_checks or [],
                accept_event_subclasses=accept_event_subclasses,
            )
            adopt(decorated, names)
            return decorated

        return decorator if func is None else decorator(func)


def adopt_steps(workflow: workflows.Workflow, named: Iterable[str] = ()) -> None:
    """Have the engine supply the workflows among the parameters of all steps. Steps are shared by all of a class."""
    for function in steps_of(workflow):
        adopt(function, named=named)


def adopt(function: Callable[..., Any], names: dict[str, Any] | None = None, named: Iterable[str] = ()) -> None:
    """Have the engine supply those parameters of a step that are workflows, or that are ``named``.

    An annotation that says nothing any more, because it is text and names a class that was local where the step was
    decorated, counts as a workflow if there is no default: the engine has no other use for it.
    """
    resources = resources_of(function)
    for definition in resources:
        if isinstance(definition.resource, Nested) and definition.resource.parameter is None:
            definition.resource = definition.resource.for_parameter(definition.name)
    for parameter in list(unsupplied(function)):
        annotation = _resolved(function, parameter, names)
        is_unknown = isinstance(annotation, str) and parameter.default is parameter.empty
        if is_unknown or parameter.name in named or _is_workflow(annotation):
            resources.append(
                ResourceDefinition(
                    name=parameter.name, resource=Nested.of(parameter), type_annotation=_plain(annotation)
                )
            )


def _marks(workflow: workflows.Workflow) -> list[Nested]:
    found = (each.resource for function in steps_of(workflow) for each in resources_of(function))
    return [resource for resource in found if isinstance(resource, Nested)]


def _resolved(function: Callable[..., Any], parameter: inspect.Parameter, names: dict[str, Any] | None) -> Any:
    """The annotation; the text itself if it cannot be told what it names."""
    annotation = parameter.annotation
    holder = type("Holder", (), {"__annotations__": {parameter.name: annotation}})
    try:
        return get_type_hints(holder, getattr(function, "__globals__", {}), names, include_extras=True)[parameter.name]
    except NameError:
        return annotation


def _is_workflow(annotation: Any) -> bool:
    plain = _plain(annotation)
    return isinstance(plain, type) and issubclass(plain, workflows.Workflow)


def _plain(annotation: Any) -> Any:
    """The class in an annotation that may be optional, or have remarks."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            kinds = [each for each in get_args(annotation) if each is not NoneType]
            if len(kinds) != 1:
                return annotation
            annotation = kinds[0]
        else:
            return annotation


def _names(frame: FrameType | None, *, skip: int) -> dict[str, Any]:
    """The names that can be seen from a class body and the functions around it, the nearest first."""
    found: dict[str, Any] = {}
    for depth in range(skip + _FRAMES):
        if frame is None:
            break
        if depth >= skip:
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found
