"""The methods that say what becomes of examples before `batch`, in flow order; each returns a new pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from tfjax._arguments import require_function, require_version
from tfjax._ordering import Ordering
from tfjax.graph import stages as st
from tfjax.graph.cache.fit import most_rows
from tfjax.graph.cache.given import cache_stage, limit_of

if TYPE_CHECKING:
    from tfjax._tensorflow import tf
    from tfjax.ops.base import Op

Example = Any


class Applying(Ordering):
    """What examples can be made into."""

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
        from tfjax.ops.base import Op

        if isinstance(fn, Op) or (isinstance(fn, type) and issubclass(fn, Op)):
            raise TypeError(f"{name} takes a function, given {fn!r}: use apply(...), which takes ops")
        mapped = self._append(kind(fn=require_function(name, fn), version=require_version(name, version)))
        mapped._functions  # noqa: B018
        return mapped

    def apply(self, *ops: Op) -> Self:
        """Apply ops such as those of `tfjax.image` to each example, one after the other, inside the graph.

        Args:
            ops: each is as deterministic, or as random with a seed of its own, as its docstring says. A strength that
                is a function of the global step is called with an int64 scalar, the elements that the pipeline has
                delivered by then, counted from epoch 0.

        Raises:
            TypeError: something that is no op; or the leaf at its key is not what it takes.
            KeyError: an example has no such key.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"image": np.zeros((2, 6, 6, 3), np.uint8)})
            >>> pipe.apply(tfjax.image.CenterCrop(4), tfjax.image.RandomFlip()).spec["image"].shape
            (4, 4, 3)
        """
        from tfjax._ops import applied

        return applied(self, ops)

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

    def cache(
        self, where: str | os.PathLike[str], *, limit_bytes: int | None = None, compression: str | None = None
    ) -> Self:
        """Keep examples once they are computed; from then on a batch is one gather.

        Rows are filled in as they are first needed, in whatever order that is. Batches, states and the fingerprint are
        the same with and without it.

        A folder is shared by all processes of a machine, also while it fills, and outlives them: a fill that was killed
        goes on where it stopped, unless the machine was restarted since. Leaves of a fixed shape lie in `.npy` files
        that are mapped into memory, which the system drops and reads again as it needs the memory; strings and leaves
        of varying shape lie in TFRecord files, with a checksum each. It is whole once it has a `manifest.json`, which
        is written as soon as the last row is stored and all are on the disk. A whole folder is checked by the sizes of
        its files only: leaves of a fixed shape have no checksum. The folder belongs to the rows that it was made for:
        their source (its files by name, size and time; arrays by their values), the stages, the code of functions where
        it can be told, and 8 examples, which are computed again when it is opened. For a function that holds arrays,
        objects or modules of one's own, only its name and the 8 examples are compared: give it another `version=` when
        it changes. The source is needed to open a folder, and is checked when a run starts; once all rows are there,
        none is read from it.

        Args:
            where: "memory": one array a leaf, shared by every pipeline that is derived from this one, and freed with
                the last of them. "device": arrays on the devices that batches are placed on, cut as batches are,
                filled before the first batch; each batch is gathered there, and of the graph only the order is left.
                Order, `batch`, `device_map` and `place` may follow; without `batch`, and in `to_tf`, rows are computed
                as if it were not there. Otherwise the path of a local folder, which is made where it does not exist.
            limit_bytes: keep the first rows that fit, and compute the others each time. In a folder with strings or
                leaves of varying shape, those rows are kept that come first. On devices it is for all of them
                together, each row counted once, in the dtypes of the graph; a batch then moves whole, with zeros for
                the rows that are there, so that it costs what a batch without the cache costs, less their computing.
            compression: "zlib" compresses strings and leaves of varying shape in a folder.

        Raises:
            ValueError: after a random op, or after a `take` that follows `shuffle`; or the pipeline streams. When it
                is iterated: rows do not fit into memory and there is no limit, or the folder holds something else, or
                the rows of another pipeline; the message names what differs.
            PlacementError: when it is iterated: a device has not the memory.
            OSError: when it is iterated: rows do not fit on the disk, or the folder may not be made.
            CorruptDataError: when it is iterated: a file of the folder is damaged.
            SpecError: a leaf is no tensor; in memory, also one without a fixed shape, or a string.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(4)}).map(lambda e: {"x": e["x"] + 1}).cache("memory")
            >>> [int(e["x"]) for e in pipe]
            [1, 2, 3, 4]
        """
        self._require_indexed("cache", "dataset.cache() before from_tf, or from_examples(list(...))")
        if where == "device":
            return self._held_on_devices(limit_bytes, compression)
        stage = cache_stage(where, limit_bytes, compression)
        cached = self._append(stage)
        from tfjax.graph.cache.encode import require_storable

        require_storable(self._element, stage)
        return cached

    def _held_on_devices(self, limit_bytes: int | None, compression: str | None) -> Self:
        if compression is not None:
            raise ValueError("cache('device') holds rows as they are: compression= is for cache(path)")
        from tfjax.graph.element import size_bytes

        limit = limit_of(limit_bytes)
        held = self._append(st.DeviceCache(limit_bytes=limit))
        self._element.require_static()
        self._element.require_deliverable()
        most_rows(1, size_bytes(self._element) or 0, limit)
        return held
