"""All functions between a fetch and the batch as one loop inside the batch.

A batch handed from stage to stage costs about what one example costs; the loop costs a few microseconds an example
and leaf. So leaves that no function computes do not enter it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tfjax._tensorflow import tf
from tfjax.graph.element import Element
from tfjax.graph.functions import Function
from tfjax.graph.moment import Moment


class Loop:
    """A chain of functions over the rows of a batch."""

    def __init__(self, element: Element, functions: Sequence[Function]) -> None:
        """Work out which leaves the functions read and compute.

        Args:
            element: what goes in.
            functions: applied in this order.
        """
        self.functions = tuple(functions)
        self._specs = element.specs
        self._out = functions[-1].element.specs
        self.random = sum(fn.random for fn in functions)
        origin: dict[int, int] = dict(enumerate(range(len(element.specs))))
        for fn in functions:
            origin = {out: origin[i] for out, i in fn.passes_through().items() if i in origin}
        self._kept = {out: i for out, i in origin.items() if _is_fixed(element.specs[i])}
        self._computed = [out for out in range(len(self._out)) if out not in self._kept]
        # An Assert, a Print or a Python call is run for what it does, also where no leaf is computed.
        self.is_empty = not self._computed and not any(fn.has_effects for fn in functions)
        wanted = set(self._computed)
        for fn in reversed(functions):
            wanted = fn.reads(wanted)
        self._entering = sorted(wanted)

    @property
    def reads(self) -> frozenset[int]:
        """The leaves that the functions compute from."""
        return frozenset(self._entering)

    def __call__(
        self, moment: Moment, index: tf.Tensor, leaves: Sequence[tf.Tensor], seeds: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Apply the functions to each row.

        Args:
            moment: when; the same for all rows of a batch.
            index: int64 (n,), the identity of each row.
            leaves: tensors of shape (n, ...).
            seeds: one int64 (n, 2) for each random function.
        """
        out = {o: leaves[i] for o, i in self._kept.items()}
        if not self.is_empty:
            numbers = [fn.numbers(moment) for fn in self.functions]
            # In a stack a number is one of each batch, and enters the loop with the rows of that.
            varying = [tf.repeat(n, tf.size(index) // tf.size(n)) for each in numbers for n in each if n.shape.rank]
            rows = [*(leaves[i] for i in self._entering), *seeds, *varying] or [index]  # something to count the rows by
            done = self._map(functools.partial(self._one, numbers), rows)
            out.update(zip(self._computed, done, strict=False))
        return [out[o] for o in range(len(self._out))]

    def _map(self, one_row: Callable[[Sequence[tf.Tensor]], list[tf.Tensor]], rows: list[tf.Tensor]) -> list[tf.Tensor]:
        """A function over rows, one at a time: whole batches run in parallel, which was measured faster.

        MapDefun is the op that calls a function for each row. It costs 1 us a row where the while loop of `tf.map_fn`
        costs 4.5, but takes no ragged rows, and is dropped where nobody reads its outputs.
        """
        signature = [self._out[o] for o in self._computed] or [tf.TensorSpec((), tf.bool)]
        plain = all(isinstance(x, tf.Tensor) for x in rows) and all(isinstance(s, tf.TensorSpec) for s in signature)
        if not plain or any(fn.has_effects for fn in self.functions):
            return list(tf.map_fn(one_row, rows, fn_output_signature=signature, parallel_iterations=1))
        specs = [tf.TensorSpec(x.shape[1:], x.dtype) for x in rows]
        one = tf.function(lambda *row: one_row(row), autograph=False).get_concrete_function(*specs)
        done = tf.raw_ops.MapDefun(
            arguments=rows,
            captured_inputs=one.captured_inputs,
            output_types=[s.dtype for s in signature],
            output_shapes=[s.shape for s in signature],
            f=one,
        )
        for leaf, spec in zip(done, signature, strict=True):
            leaf.set_shape((rows[0].shape[0], *spec.shape))
        return list(done)

    def _one(self, numbers: Sequence[Sequence[tf.Tensor]], row: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        entered = dict(zip(self._entering, row, strict=False))
        # What did not enter is read by nothing that is wanted: it is pruned with its stand-in.
        leaves = [entered[i] if i in entered else _nothing(s) for i, s in enumerate(self._specs)]
        seeds, varying = iter(row[len(self._entering) :]), iter(row[len(self._entering) + self.random :])
        for fn, given in zip(self.functions, numbers, strict=True):
            given = [next(varying) if n.shape.rank else n for n in given]
            leaves = fn.inline(leaves, next(seeds) if fn.random else None, given)
        return [leaves[o] for o in self._computed] or [tf.constant(True)]


def _nothing(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([n or 0 for n in spec.shape], spec.dtype)


def _is_fixed(spec: tf.TypeSpec) -> bool:
    return isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined()
