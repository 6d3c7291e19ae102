"""The methods that say what becomes of batches, in flow order; each returns a new pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from tfjax._applying import Applying
from tfjax._arguments import require_call, require_count
from tfjax._chain import DEFAULT_PREFETCH
from tfjax.errors import PlacementError
from tfjax.graph import stages as st

if TYPE_CHECKING:
    import jax

    from tfjax._tensorflow import tf
    from tfjax.placement.target import Target


class Building(Applying):
    """What batches can be made into."""

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

    def stack(self, k: int, remainder: st.StackRemainder = "keep") -> Self:
        """Make one element of k batches, for a step that trains on them in one dispatch: see `scan_steps`.

        A leaf of shape (batch, ...) becomes (k, batch, ...), and the `mask` of padding (k, batch). Batches are the
        ones without it: placement cuts the batch dimension and never k, functions of `device_map` see one batch, and
        keys are those of each batch. `len`, `steps` and states count stacks from here on; a `take` or `skip` counts
        what stands before it. `create_state` of `tfjax.frameworks` takes the spec of the pipeline before `stack`.

        Args:
            k: batches of a stack. A stack is fetched at once, and takes the memory of k batches.
            remainder: what becomes of the batches of an epoch that do not fill a stack. "keep" yields a shorter stack,
                for which jitted functions are compiled once more, "drop" leaves them out, "error" refuses them.

        Raises:
            ValueError: elements are not batched, or stacked already; "error", and batches are left over; or "drop",
                and no stack is left.
            SpecError: the last batch of an epoch is shorter, or may be: pad or drop it in `batch`.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(6)}).batch(2).stack(2)
            >>> [stack["x"].tolist() for stack in pipe]
            [[[0, 1], [2, 3]], [[4, 5]]]
        """
        if remainder not in ("keep", "drop", "error"):
            raise ValueError(f"stack: remainder={remainder!r}: choose 'keep', 'drop' or 'error'")
        stacked = self._append(st.Stack(k=require_count("stack", k, least=1), remainder=remainder))
        if any(isinstance(stage, st.Place) for stage in self._chain):
            stacked._delivery  # noqa: B018 - refuses what cannot be placed
        return stacked

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
        other = "random_device_map hands it a key"
        return self._append(st.DeviceMap(fn=require_call("device_map", fn, ["batch"], other)))

    def random_device_map(self, fn: Callable[[Any, Any], Any], *, per_example: bool = False) -> Self:
        """Apply a jitted JAX function to each batch and a key, on its devices, after placement.

        Keys depend on the pipeline's seed, the epoch, and the batch or the example alone, so that what is random is the
        same on any number of devices and after a resume.

        Args:
            fn: takes a batch and a `jax.random.key`, and returns a batch, as `tfjax.on_device.random_flip("image")`.
            per_example: call it with each example and a key of the example's own instead, through `jax.vmap`.

        Raises:
            ValueError: elements are not batched; or `per_example`, and the pipeline streams.

        Example:
            >>> import jax, numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.zeros(4, np.float32)}).batch(2)
            >>> noisy = pipe.random_device_map(lambda b, key: {"x": b["x"] + jax.random.normal(key, b["x"].shape)})
            >>> bool((noisy.peek()["x"] == noisy.peek()["x"]).all())
            True
        """
        if per_example:
            self._require_indexed("random_device_map(per_example=True)", "a function of the whole batch")
        require_call("random_device_map", fn, ["batch", "key"], "device_map calls it with the batch alone")
        return self._append(st.RandomDeviceMap(fn=fn, per_example=bool(per_example)))

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
