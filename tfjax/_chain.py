"""A chain as a linked list of stages, and what is worked out of it once: traced functions, element, plan, delivery."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Self

from tfjax._arguments import require_keys
from tfjax.graph import rules
from tfjax.graph import stages as st

if TYPE_CHECKING:
    from tfjax.graph.element import Element
    from tfjax.graph.functions import Function
    from tfjax.graph.plan import Plan

DEFAULT_PREFETCH = st.DEFAULT_PREFETCH


class ChainNode:
    """The last stage of a chain, and the chain before it."""

    def __init__(self, stage: st.Stage, parent: Self | None = None) -> None:
        """Append a stage to a chain; the functions in `tfjax` and the methods of `Pipeline` do this.

        Raises:
            ValueError: the stage may not follow the chain.
        """
        if parent is not None:
            rules.check(parent._chain, stage, batched=parent._source_is_batched)
        self._stage, self._parent = stage, parent
        self._deliveries: dict[Any, Any] = {}

    def _append(self, stage: st.Stage) -> Self:
        return type(self)(stage, self)

    @functools.cached_property
    def _chain(self) -> st.Chain:
        return (*(self._parent._chain if self._parent else ()), self._stage)

    @property
    def _source_is_batched(self) -> bool:
        source = getattr(self._chain[0], "source", None)
        return bool(getattr(source, "batched", False))

    @functools.cached_property
    def _functions(self) -> dict[st.Stage, Function]:
        """The traced function of each stage; a stage is traced once, when it is added or first needed."""
        if self._parent is None:
            return {}
        if not isinstance(self._stage, st.Map):
            return self._parent._functions
        from tfjax.graph.functions import trace

        return {**self._parent._functions, self._stage: trace(self._stage, self._parent._element)}

    @functools.cached_property
    def _element(self) -> Element:
        """One example after this stage."""
        from tfjax.graph.element import Element

        if isinstance(self._stage, st.Origin):
            return Element(tuple(self._stage.source.spec), self._stage.structure)
        if self._parent is None:
            raise TypeError(f"a pipeline starts with a source, not with {self._stage.describe()}")
        if isinstance(self._stage, st.Map) and not isinstance(self._stage, st.Filter):
            return self._functions[self._stage].element
        if isinstance(self._stage, st.KeepOnHost):
            return self._parent._element.keep_on_host(self._stage.keys)
        return self._parent._element

    @functools.cached_property
    def _plan(self) -> Plan:
        from tfjax.graph.make import make_plan

        return make_plan(
            self._chain, self._functions, self._element, accelerated=lambda: bool(self._target.is_accelerator)
        )

    @property
    def _target(self) -> Any:
        """Where batches go; without `place`, JAX's default device as it is set when it is asked for."""
        from tfjax.placement.specs import target

        place = next((s for s in self._chain if isinstance(s, st.Place)), None)
        return place.where if place else target()

    @property
    def _prefetch(self) -> int:
        return next((s.prefetch for s in self._chain if isinstance(s, st.Place)), DEFAULT_PREFETCH)

    @property
    def _device_functions(self) -> list[st.DeviceMap]:
        return [s for s in self._chain if isinstance(s, st.DeviceMap)]

    @property
    def _delivery(self) -> Any:
        """How batches are delivered, made once for what JAX is set to: its functions are compiled once."""
        from tfjax.bridge.tensor import narrows
        from tfjax.delivery import delivery_of

        target = self._target
        key = (target, narrows())
        if key not in self._deliveries:
            self._deliveries[key] = delivery_of(self._plan, target, self._device_functions)
        return self._deliveries[key]

    @functools.cached_property
    def _parts(self) -> dict[str, Any]:
        """What identifies the pipeline, part by part."""
        from tfjax.graph.identity import parts

        return parts(self._chain, self._plan)

    @functools.cached_property
    def _probe(self) -> str:
        """A digest of the first example."""
        from tfjax.graph.identity import probe

        return probe(self._plan)

    @property
    def _is_random(self) -> bool:
        return any(isinstance(s, st.Shuffle | st.ShuffleWindow | st.RandomMap) for s in self._chain)

    def _require_keys(self, stage: str, keys: tuple[str, ...]) -> None:
        require_keys(stage, keys)
        self._element.require_keys(stage, keys)

    def _require_indexed(self, stage: str, fix: str) -> None:
        source = getattr(self._chain[0], "source", None)
        if not hasattr(source, "fetch"):
            raise ValueError(
                f"{stage} needs rows that can be fetched by index, and {self._chain[0].describe()} streams: use {fix}"
            )

    def _with_records(self, **changes: Any) -> Self:
        """The same chain over a source that reads its records in another way."""
        from tfjax.sources.reading import with_records

        if self._parent is not None:
            return self._parent._with_records(**changes)._append(self._stage)
        origin = self._stage
        if not isinstance(origin, st.Origin):
            raise TypeError(f"a pipeline starts with a source, not with {origin.describe()}")
        return type(self)(dataclasses.replace(origin, source=with_records(origin.source, **changes)))

    def _with_reading_of(self, other: ChainNode) -> Self:
        """The same chain over a source that reads its records as that of another does."""
        from tfjax.sources.reading import reading_of

        origin = other._chain[0]
        how = reading_of(origin.source) if isinstance(origin, st.Origin) else {}
        return self._with_records(**how) if how else self

    def _first_from(self, step: int) -> Any:
        """The element at a step of epoch 0, made on this thread."""
        from tfjax.bridge.reader import read
        from tfjax.bridge.tensor import narrows
        from tfjax.graph.plan import Run
        from tfjax.placement.prefetch import Direct

        run = Run(start_epoch=0, start=step, stop=step + 1, epochs=1)
        self._plan.check()
        if self._plan.steps_per_epoch == 0:
            raise IndexError(f"{self!r} yields nothing")
        items = Direct(read(self._plan, run, self._delivery.converters, narrow=narrows()))
        leaves = next(items, None)
        items.close()
        if leaves is None:
            raise IndexError(f"{self!r} yields nothing")
        return self._delivery.deliver(leaves)
