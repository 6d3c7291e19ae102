"""The methods that say what becomes of examples and batches, in flow order; each returns a new pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from tfjax._arguments import require_count, require_function, require_version
from tfjax._chain import DEFAULT_PREFETCH
from tfjax._ordering import Ordering
from tfjax.errors import PlacementError
from tfjax.graph import stages as st

if TYPE_CHECKING:
    import jax

    from tfjax._tensorflow import tf
    from tfjax.placement.target import Target

Example = Any


class Building(Ordering):
    """What a pipeline can be made into."""

    def map(self, fn: Callable[[Example], Example], *, version: str | None = None) -> Self:
        """Apply a deterministic function of TensorFlow ops to each example, inside the graph.

        Args:
            fn: takes and returns one example, in any structure; Python `if` and `for` over tensors are converted.
            version: counts as part of the function's name in the fingerprint of a state.

        Raises:
            ValueError: `fn` holds a stateful random op or writes a variable.
            TypeError: `fn` calls JAX, or returns what is no tensor.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(3, dtype=np.float32)})
            >>> [float(e["x"]) for e in pipe.map(lambda e: {"x": e["x"] * 2})]
            [0.0, 2.0, 4.0]
        """
        return self._apply("map", st.Map, fn, version)

    def random_map(self, fn: Callable[[Example, tf.Tensor], Example], *, version: str | None = None) -> Self:
        """Apply a function of an example and a seed; the same example in the same epoch gets the same seed.

        Args:
            fn: takes one example and a seed, int64 of shape (2,), as every `tf.random.stateless_*` takes it.
            version: counts as part of the function's name in the fingerprint of a state.

        Raises:
            ValueError: `fn` holds a stateful random op or writes a variable.

        Example:
            >>> import numpy as np, tensorflow as tf, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.zeros(2, np.float32)})
            >>> noisy = pipe.random_map(lambda e, seed: {"x": e["x"] + tf.random.stateless_uniform((), seed)})
            >>> [float(e["x"]) for e in noisy] == [float(e["x"]) for e in noisy.iterate()]
            True
        """
        return self._apply("random_map", st.RandomMap, fn, version)

    def filter(self, fn: Callable[[Example], Any], *, version: str | None = None) -> Self:
        """Keep the examples for which a predicate is true.

        For an indexed pipeline the kept rows are listed once, reading only what the predicate uses, so that length,
        shuffle, split and resuming stay exact.

        Args:
            fn: takes one example, returns one boolean scalar.
            version: counts as part of the function's name in the fingerprint of a state.

        Raises:
            ValueError: after a random op, or after a `take` that follows `shuffle`.
            TypeError: `fn` returns no boolean scalar.

        Example:
            >>> import numpy as np, tfjax
            >>> len(tfjax.from_arrays({"x": np.arange(10)}).filter(lambda e: e["x"] % 2 == 0))
            5
        """
        return self._apply("filter", st.Filter, fn, version)

    def _apply(self, name: str, kind: type[st.Map], fn: Any, version: Any) -> Self:
        """Append a function, and trace it now, so that what is wrong with it is said where it was written."""
        mapped = self._append(kind(fn=require_function(name, fn), version=require_version(name, version)))
        mapped._functions  # noqa: B018
        return mapped

    def select(self, *keys: str) -> Self:
        """Keep these keys of a dictionary.

        Raises:
            KeyError: there is no such key; the message lists those there are.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays({"x": np.zeros(2), "y": np.zeros(2)}).select("x").spec
            {'x': ShapeDtypeStruct(shape=(), dtype=float32)}
        """
        self._require_keys("select", keys)
        name = f"select({', '.join(map(repr, keys))})"
        return self._append(st.Map(fn=lambda e: {k: e[k] for k in keys}, name=name))

    def drop(self, *keys: str) -> Self:
        """Leave out these keys of a dictionary.

        Raises:
            KeyError: there is no such key; the message lists those there are.

        Example:
            >>> import numpy as np, tfjax
            >>> list(tfjax.from_arrays({"x": np.zeros(2), "y": np.zeros(2)}).drop("x").spec)
            ['y']
        """
        self._require_keys("drop", keys)
        name = f"drop({', '.join(map(repr, keys))})"
        return self._append(st.Map(fn=lambda e: {k: v for k, v in e.items() if k not in keys}, name=name))

    def keep_on_host(self, *keys: str) -> Self:
        """Deliver these keys as NumPy arrays, in their own dtype; strings come as object arrays of bytes.

        Raises:
            KeyError: there is no such key; the message lists those there are.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"id": np.array(["a", "b"])}).keep_on_host("id").batch(2)
            >>> next(iter(pipe))["id"]
            array([b'a', b'b'], dtype=object)
        """
        self._require_keys("keep_on_host", keys)
        return self._append(st.KeepOnHost(keys=keys))

    def cache(self, where: str) -> Self:
        """Keep examples once they are computed; from then on a batch is one gather.

        Args:
            where: "memory": one array a leaf, filled as rows are first needed, shared by every pipeline that is
                derived from this one, and freed with the last of them.

        Raises:
            ValueError: after a random op, or after a `take` that follows `shuffle`; or the pipeline streams.
            SpecError: a leaf has no fixed shape, or is a string.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(4)}).map(lambda e: {"x": e["x"] + 1}).cache("memory")
            >>> [int(e["x"]) for e in pipe]
            [1, 2, 3, 4]
        """
        if where != "memory":
            raise ValueError(f"cache({where!r}): examples are kept in 'memory'")
        self._require_indexed("cache", "dataset.cache() before from_tf, or from_examples(list(...))")
        from tfjax.graph.memory import require_storable

        require_storable(self._element)
        return self._append(st.Cache(where="memory"))

    def batch(self, size: int, remainder: st.Remainder | None = None) -> Self:
        """Stack `size` examples into a global batch; a batch never spans two epochs.

        Args:
            size: rows of a batch, over all devices.
            remainder: what becomes of the rows of an epoch that do not fill a batch. "drop" leaves them out (the
                default of a shuffled pipeline), "keep" yields a shorter batch (the default otherwise), "pad" repeats
                the last example and adds a boolean leaf `mask` of shape (size,), True where a row is real, to every
                batch, "error" refuses them.

        Raises:
            SpecError: a leaf has no static shape.
            ValueError: "error", and rows are left over; or "drop", and no batch is left.
            KeyError: "pad", and elements have a key `mask`.
            TypeError: "pad", and elements are no dictionaries.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(5)}).batch(3, remainder="pad")
            >>> [batch["mask"].tolist() for batch in pipe]
            [[True, True, True], [True, True, False]]
        """
        if remainder not in (None, "drop", "pad", "keep", "error"):
            raise ValueError(f"batch: remainder={remainder!r}: choose 'drop', 'pad', 'keep' or 'error'")
        shuffled = any(isinstance(s, st.Shuffle | st.ShuffleWindow) for s in self._chain)
        stage = st.Batch(
            size=require_count("batch", size, least=1),
            remainder=remainder or ("drop" if shuffled else "keep"),
        )
        batched = self._append(stage)
        from tfjax.graph.batches import delivered

        delivered(self._element, stage).require_static()
        return batched

    def options(
        self,
        *,
        parallel_calls: int | None = None,
        prefetch_batches: int | None = None,
        ram_budget_bytes: int | None = None,
        caches: bool | None = None,
        fetch: str | None = None,
        verify_payload: bool | None = None,
        tf_options: tf.data.Options | None = None,
    ) -> Self:
        """Say how the graph is run; never what it yields.

        Args:
            parallel_calls: batches computed at a time; TensorFlow tunes it where it is not given.
            prefetch_batches: batches held ready inside the graph; tuned likewise.
            ram_budget_bytes: what tuning may use for buffers; 2 GiB where it is not given.
            caches: False leaves every cache out.
            fetch: how records are read: "held" in memory; TFRecords also "mmap" or "graph" (by offset, in TensorFlow),
                ArrayRecords "read" (by their own reader).
            verify_payload: check the checksum of each record as it is read through "mmap".
            tf_options: any other tf.data option.

        Raises:
            ValueError: an option that contradicts the order, or a value out of range.
            TypeError: `fetch` or `verify_payload` for a source that does not read record files.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays(np.arange(3)).options(parallel_calls=1)
            >>> len(pipe)
            3
        """
        counts = {
            "parallel_calls": parallel_calls,
            "prefetch_batches": prefetch_batches,
            "ram_budget_bytes": ram_budget_bytes,
        }
        for name, value in counts.items():
            if value is not None:
                require_count(f"options: {name}", value, least=1)
        if tf_options is not None:
            from tfjax.graph.settings import check_tf_options

            check_tf_options(tf_options)
        if caches is not None and not isinstance(caches, bool):
            raise TypeError(f"options: caches is {caches!r}: pass True or False")
        if verify_payload is not None and not isinstance(verify_payload, bool):
            raise TypeError(f"options: verify_payload is {verify_payload!r}: pass True or False")
        if fetch not in (None, "held", "mmap", "graph", "read"):
            raise ValueError(f"options: fetch={fetch!r}: choose 'held', 'mmap', 'graph' or 'read'")
        reading = {name: v for name, v in (("how", fetch), ("verify_payload", verify_payload)) if v is not None}
        base = self._with_records(**reading) if reading else self
        return base._append(st.Options(**counts, caches=caches, tf_options=tf_options))

    def device_map(self, fn: Callable[[Any], Any]) -> Self:
        """Apply a jitted JAX function to each batch, on its devices, after placement.

        Args:
            fn: takes and returns a batch; it is not shown keys that are kept on the host.

        Raises:
            ValueError: elements are not batched.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(4, dtype=np.uint8)}).batch(2)
            >>> [b["x"].tolist() for b in pipe.device_map(lambda b: {"x": b["x"] / 2})]
            [[0.0, 0.5], [1.0, 1.5]]
        """
        return self._append(st.DeviceMap(fn=require_function("device_map", fn)))

    def place(self, where: Any, axis: Any = None, *, prefetch: int = DEFAULT_PREFETCH) -> Self:
        """Say where batches go. Without it they go to JAX's default device.

        Args:
            where: a Mesh, a device, a `jax.sharding.Sharding`, a PartitionSpec over the mesh of `jax.set_mesh`, or a
                pytree prefix of devices, shardings or PartitionSpecs.
            axis: for a Mesh: the axis, the axes, or a PartitionSpec of one entry, that shards dimension 0 of every leaf
                of rank 1 or more; scalars are replicated. Longer specs are given by leaf, as a pytree prefix such as
                `{"image": PartitionSpec("data", None, "model")}`; leaves that it does not name follow the batch axis.
            prefetch: batches held ready on their devices by a thread; 0: none, each is made when it is asked for.

        Raises:
            PlacementError: an axis is not in the mesh, a spec names no leaf or is longer than its rank, batches do not
                divide over the devices, or devices belong to other processes.
            TypeError: `where` is something else.

        Example:
            >>> import jax, numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(4)}).batch(2).place(jax.devices()[0])
            >>> next(iter(pipe))["x"].devices() == {jax.devices()[0]}
            True
        """
        from tfjax.placement.specs import target

        return self._place(target(where, axis), prefetch)

    def place_per_device(
        self, devices: Sequence[jax.Device] | None = None, *, prefetch: int = DEFAULT_PREFETCH
    ) -> Self:
        """Cut each batch into one part a device, for code that still uses `jax.pmap`.

        A leaf of shape (batch, ...) is delivered as (devices, batch / devices, ...), row i on device i; a scalar leaf
        as (devices,). `device_map` is given these, and what it returns is delivered as it is.

        Args:
            devices: in the order of the leading axis; all local ones where they are not given.
            prefetch: as in `place`.

        Raises:
            PlacementError: batches do not divide over the devices.
            TypeError: no list of devices.
            ValueError: a device is named twice.

        Example:
            >>> import jax, numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(6)}).batch(6).place_per_device(jax.devices()[:1])
            >>> pipe.peek()["x"].shape
            (1, 6)
        """
        from tfjax.placement.specs import per_device_target

        return self._place(per_device_target(devices), prefetch)

    def _place(self, where: Target, prefetch: int) -> Self:
        if where.spans_processes:
            raise PlacementError(
                f"{where} spans devices of other processes: place on jax.local_devices(), and hand the parts to "
                "jax.make_array_from_process_local_data"
            )
        stage = st.Place(where=where, prefetch=require_count("place: prefetch", prefetch, least=0))
        placed = self._append(stage)
        placed._delivery  # noqa: B018 - refuses what cannot be placed
        return placed
