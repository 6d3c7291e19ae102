"""A pipeline is a value: an immutable chain of stages. Planning is a function; only iterating has an effect.

>>> import numpy as np, tfjax
>>> pipe = tfjax.from_arrays({"x": np.arange(10, dtype=np.int32)}).shuffle(seed=0).batch(4)
>>> len(pipe), [batch["x"].shape for batch in pipe]
(2, [(4,), (4,)])
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfjax._building import Building
from tfjax.graph import stages as st

if TYPE_CHECKING:
    from tfjax._tensorflow import tf
    from tfjax.frameworks._keras_adapter import PipelineAdapter
    from tfjax.iterator import BatchIterator
    from tfjax.report import CopyReport
    from tfjax.state import State
    from tfjax.tools.show import Picture


class Pipeline(Building):
    """A chain of stages from a source to batches; every method returns a new Pipeline.

    Make one with `tfjax.load`, `from_arrays`, `from_examples`, `from_records` or `from_tf`.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.arange(6)}).map(lambda e: {"x": e["x"] * 10}).batch(3)
        >>> [batch["x"].tolist() for batch in pipe]
        [[0, 10, 20], [30, 40, 50]]
    """

    _iterated = 0

    @property
    def spec(self) -> Any:
        """The pytree of `jax.ShapeDtypeStruct` that iterating yields, with shardings after `place`; reads no data.

        Dimension 0 is None where the last batch of an epoch is shorter; behind a `filter`, the rows that it keeps are
        counted to tell.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays({"x": np.zeros((5, 3), np.float32)}).batch(2).spec
            {'x': ShapeDtypeStruct(shape=(None, 3), dtype=float32)}
        """
        from tfjax.delivery import delivered_spec

        placed = any(isinstance(s, st.Place) for s in self._chain)
        return delivered_spec(self._plan, self._target if placed else None, self._device_functions)

    @property
    def info(self) -> Any:
        """What the source says of itself: for TFDS the `DatasetInfo`, for `from_folder` its classes; else None.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays(np.arange(3)).info is None
            True
        """
        origin = self._chain[0]
        return origin.info if isinstance(origin, st.Origin) else None

    def __len__(self) -> int:
        """What one epoch yields: examples, batches after `batch`, or stacks after `stack`.

        Raises:
            TypeError: it is not known.
        """
        steps = self._plan.steps_per_epoch
        if self._plan.is_endless:
            raise TypeError("this dataset never ends, so an epoch has no length: use iterate(steps=...)")
        if steps is None:
            origin = self._chain[0]
            foreign = isinstance(origin, st.Origin) and origin.name.startswith("from_tf(")
            raise TypeError(
                "how long an epoch of this streaming pipeline is is not known: use iterate(steps=...)"
                + (", or dataset.apply(tf.data.experimental.assert_cardinality(n)) before from_tf" if foreign else "")
            )
        return steps

    def __bool__(self) -> bool:
        """A pipeline is true whatever its length."""
        return True

    def __getitem__(self, i: int) -> Any:
        """One example, before `batch`: the i-th of epoch 0.

        Raises:
            TypeError: the pipeline is batched or streams, or i is no int.
            IndexError: there is no such example.
        """
        if isinstance(i, bool) or not hasattr(i, "__index__"):
            raise TypeError(f"pipe[{i!r}]: the index of an example is an int")
        i = operator.index(i)
        if self._plan.is_batched or self._plan.kind != "indexed":
            raise TypeError("pipe[i] is one example of an indexed pipeline before batch: use peek() for a batch")
        if not -len(self) <= i < len(self):
            raise IndexError(f"pipe[{i}]: there are {len(self)} examples")
        return self._first_from(i % len(self))

    def iterate(
        self,
        epochs: int | None = None,
        *,
        steps: int | None = None,
        forever: bool = False,
        start_epoch: int | None = None,
        state: State | str | None = None,
        values: Mapping[str, float] | None = None,
    ) -> BatchIterator:
        """Start a run: an iterator over its batches, and a context manager that closes it.

        Args:
            epochs: total epochs of the run; 1 where no total is given.
            steps: total batches of the run.
            forever: no end.
            start_epoch: the first epoch, 0 where it is not given; epochs differ in order and random ops.
            state: where to resume, a `State` or its JSON. It combines with a total, which counts from the start of
                the run; alone it means to the end of the epoch that it stands in (of the next one at a boundary).
            values: named numbers for ops that use them; a name that no op uses is refused.

        Returns:
            An iterator with `state`, `step`, `epoch`, `stats` and `close()`. Two calls give the same batches; of a
            `from_tf` pipeline, if its dataset does.

        Raises:
            StateMismatchError: the state belongs to another pipeline; the message names the parts that differ.
            ValueError: two totals, a total below 1, `start_epoch` beside `state`, or a value that no op uses.
            SpecError: a leaf that is no array and is not kept on the host.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.arange(6)}).shuffle(seed=0).batch(2)
            >>> with pipe.iterate(epochs=2) as batches:
            ...     skipped, state = [next(batches) for _ in range(4)], batches.state
            ...     rest = [b["x"].tolist() for b in batches]
            >>> rest == [b["x"].tolist() for b in pipe.iterate(epochs=2, state=state.to_json())]
            True
        """
        from tfjax.start import start

        return start(
            self,
            epochs=epochs,
            steps=steps,
            forever=forever,
            start_epoch=start_epoch,
            state=state,
            values=values,
        )

    def __iter__(self) -> Iterator[Any]:
        """One epoch, the first; warns once when it would repeat the order of a shuffled pipeline."""
        if self._iterated == 1 and self._is_random:
            warnings.warn(
                "iterating again gives the batches of epoch 0 again: use pipe.iterate(epochs=10), or "
                "iterate(start_epoch=e), for another order each epoch",
                stacklevel=2,
            )
        self._iterated += 1
        return self.iterate()

    def peek(self) -> Any:
        """The first batch of epoch 0, or the first example before `batch`.

        Raises:
            IndexError: an epoch yields nothing.
            CorruptDataError: stored data is damaged, or changed since it was opened.
            TfjaxError: a function failed on an example; names both.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays({"x": np.arange(6)}).batch(2).peek()["x"].tolist()
            [0, 1]
        """
        return self._first_from(0)

    def to_tf(self, *, epochs: int = 1, values: Mapping[str, float] | None = None) -> tf.data.Dataset:
        """The planned graph as a tf.data.Dataset of host batches in the user's structure, for this process.

        Args:
            epochs: how many epochs it holds.
            values: named numbers for ops that use them, as in `iterate`.

        Example:
            >>> import numpy as np, tfjax
            >>> tfjax.from_arrays({"x": np.arange(6)}).batch(2).to_tf().element_spec
            {'x': TensorSpec(shape=(2,), dtype=tf.int64, name=None)}
        """
        from tfjax.start import to_tf

        return to_tf(self, epochs, values)

    def to_keras(
        self,
        *,
        x: Any,
        y: Any = None,
        sample_weight: str | int | None = None,
        class_weight: Mapping[int, float] | None = None,
        start_epoch: int = 0,
        state: State | str | None = None,
        values: Mapping[str, float] | None = None,
        allow_random: bool = False,
    ) -> PipelineAdapter:
        """What Keras 3 on the JAX backend takes in `fit`, `evaluate`, `predict` and `validation_data`.

        Batches are the pipeline's own arrays, not copied, and placed as the `keras.distribution` says that is set. The
        n-th epoch of a `fit` is the pipeline's epoch `start_epoch + n`, whatever `initial_epoch` it is given; with
        `steps_per_epoch` it goes on through the pipeline's epochs. docs/keras.md has what is exact on a padded tail.

        Args:
            x: the key of the inputs, or a tuple or dict of keys.
            y: the key of the targets, or a tuple or dict of keys; None for `predict`.
            sample_weight: the key of the weights, of shape (batch,). The `mask` of remainder="pad" multiplies them, or
                is the weights.
            class_weight: a weight for each class of `y`, which multiplies them too.
            start_epoch: the epoch that the first one of each `fit` takes its batches from, and every `evaluate`.
            state: a `State` or its JSON; what is left of the epoch in which it stands, for one epoch of `fit`.
            values: named numbers for ops that use them, as in `iterate`.
            allow_random: whether `evaluate` and `predict` take a pipeline that shuffles or draws random numbers.

        Returns:
            A Keras `DataAdapter`. `y=`, `sample_weight=` and `class_weight=` beside it are refused: Keras ignores them.

        Raises:
            KeyError: there is no such key.
            ValueError: elements are not batched, `start_epoch` beside a state, or classes without a target.
            TypeError: `class_weight` is no dict of class to number.
            ImportError: Keras is missing, or runs on another backend.

        Example:
            >>> import numpy as np, tfjax
            >>> pipe = tfjax.from_arrays({"x": np.zeros((6, 3), np.float32), "y": np.zeros(6, np.float32)}).batch(2)
            >>> data = pipe.to_keras(x="x", y="y")  # model.fit(data, epochs=10)
            >>> data.num_batches
            3
        """
        from tfjax.frameworks.keras import PipelineAdapter

        if stack := next((s for s in self._chain if isinstance(s, st.Stack)), None):
            raise ValueError(
                f"to_keras: fit takes one batch a step, and {stack.describe()} yields several: leave it out"
            )
        return PipelineAdapter(
            self,
            x=x,
            y=y,
            sample_weight=sample_weight,
            class_weight=class_weight,
            start_epoch=start_epoch,
            state=state,
            values=values,
            allow_random=allow_random,
        )

    def show(
        self,
        n: int = 16,
        *,
        image: str | None = None,
        label: str | None = None,
        boxes: str | None = None,
        masks: str | None = None,
        caption: str | None = None,
    ) -> Picture:
        """A picture of the first examples, or of the first ones of the first batch, as the training loop gets them.

        A leaf that is not named by its path, such as "objects/bbox", is found by its name and its shape. Labels are
        named as `info` has them, encoded images are decoded, and normalised ones are stretched to the range of all that
        are shown.

        Args:
            n: how many at most.
            image: the leaf of images, (height, width, channels).
            label: of their labels: numbers, texts, or shares of the classes.
            boxes: of boxes, (boxes, 4) of ymin, xmin, ymax, xmax as shares of the image; a leaf "label" beside it, in
                the same dictionary, names them.
            masks: of masks, (height, width), whose values other than 0 are laid over the image in colours.
            caption: of texts below the image; of several the first.

        Returns:
            What a notebook shows as a PNG; `save(path)` writes it.

        Raises:
            SpecError: no leaf is an image, or one is not what it was named as.
            KeyError: there is no such leaf.
            ValueError: n is below 1.
            ImportError: matplotlib is missing; names the extra.

        Example:
            >>> import tfjax
            >>> tfjax.load("digits").show(12)
            Picture(shown=12)
        """
        from tfjax.tools.show import Given, show

        return show(self, n, Given(image=image, label=label, boxes=boxes, masks=masks, caption=caption))

    def explain(self) -> str:
        """The plan in words: what it is made of, what was decided and why, and what each leaf becomes.

        Example:
            >>> import numpy as np, tfjax
            >>> print(tfjax.from_arrays({"x": np.arange(5)}).batch(2).explain().splitlines()[0])
            indexed: from_arrays(5 rows) fetches any row, so order is exact and resuming costs nothing
        """
        from tfjax.bridge.tensor import narrows
        from tfjax.graph.explain import explain

        return explain(self._chain, self._plan, self._functions, narrow=narrows())

    def copy_report(self) -> CopyReport:
        """What happened to the first batch on its way to the devices, leaf by leaf, read off its memory addresses.

        Example:
            >>> import numpy as np, tfjax
            >>> report = tfjax.from_arrays({"x": np.zeros((4, 64), np.float32)}).batch(4).copy_report()
            >>> print(report)
            ['x']: float32[4,64], shared
        """
        from tfjax.report import copy_report

        return copy_report(self._plan, self._delivery)

    def __repr__(self) -> str:
        """The chain."""
        return f"Pipeline({' -> '.join(s.describe() for s in self._chain)})"
