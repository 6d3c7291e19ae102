"""Random chains over random examples: the pipeline delivers what the oracle says, bit for bit."""

import itertools
import math
import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import tfjax
from tests import oracle
from tests.oracle import functions as f
from tests.oracle.data import Leaf, Pair
from tests.oracle.strategies import chains, example_chains, is_loose, stages
from tests.oracle.tree import Tree, leaves, map_tree

EFFORT = float(os.environ.get("ORACLE_EFFORT", "1"))  # 10: ten times as many chains, and failures are shrunk
SMALL = (9, 12, 5, 1)


def few(examples: int) -> settings:
    """That many random chains; each is planned several times at 20 to 100 ms, and shrunk only on demand."""
    phases = set(Phase) if EFFORT > 1 else set(Phase) - {Phase.shrink, Phase.explain}
    return settings(max_examples=math.ceil(examples * EFFORT), phases=phases, report_multiple_bugs=False)


def delivered(pipe: "tfjax.Pipeline", **how: object) -> list[Tree]:
    """All that one run yields."""
    with pipe.iterate(**how) as elements:
        return list(elements)


def load_state(text: str) -> object:
    """A state from its JSON."""
    from tfjax.state import State

    return State.from_json(text)


@few(30)
@given(chains())
def test_epochs_length_and_spec(chain: oracle.Chain) -> None:
    pipe = chain.write()
    assert len(pipe) == len(chain)
    oracle.check_spec(pipe.spec, chain.spec())
    oracle.check_run(delivered(pipe, epochs=3), oracle.run(chain, 3 * len(chain)))
    oracle.check_same(pipe.peek(), chain.epoch(0)[0])


@few(12)
@given(example_chains())
def test_examples_without_batch(chain: oracle.Chain) -> None:
    pipe = chain.write()
    assert len(pipe) == len(chain)
    oracle.check_spec(pipe.spec, chain.spec())
    oracle.check_run(delivered(pipe, epochs=2), oracle.run(chain, 2 * len(chain)))
    for i in (len(chain) // 2, -1):
        oracle.check_same(pipe[i], chain.epoch(0)[i])


@few(8)
@given(chains(SMALL))
def test_resumed_at_every_step(chain: oracle.Chain) -> None:
    pipe, total = chain.write(), 2 * len(chain)
    with pipe.iterate(epochs=2) as elements:
        states = [elements.state.to_json(), *(elements.state.to_json() for _ in elements)]
    expected = list(oracle.run(chain, total))
    assert len(states) == total + 1
    again = chain.write()
    for step, text in enumerate(states):
        with again.iterate(epochs=2, state=load_state(text)) as elements:
            assert elements.step == step
            oracle.check_run(elements, expected[step:])


@few(8)
@given(chains(SMALL), st.integers(0, 2), st.integers(1, 12), st.integers(0, 12))
def test_every_form_of_iterate(chain: oracle.Chain, start_epoch: int, total: int, begin: int) -> None:
    pipe, begin = chain.write(), min(begin, total)
    expected = list(oracle.run(chain, total, start_epoch=start_epoch))
    with pipe.iterate(steps=total, start_epoch=start_epoch) as elements:
        oracle.check_run(itertools.islice(elements, begin), expected[:begin])
        assert (elements.step, elements.epoch) == (begin, start_epoch + begin // len(chain))
        state = elements.state
    with pipe.iterate(forever=True, start_epoch=start_epoch) as elements:
        oracle.check_run(itertools.islice(elements, total), expected)
    oracle.check_run(delivered(pipe, steps=total, state=state), expected[begin:])
    end = oracle.end_of_epoch(begin, len(chain))
    rest = oracle.run(chain, end, start_epoch=start_epoch, begin=begin)
    oracle.check_run(delivered(pipe, state=state), rest)


def cached_variants(chain: oracle.Chain) -> list[oracle.Chain]:
    """The chain with a cache at each legal place, then without its own, then at all places at once."""
    plain = tuple(stage for stage in chain.stages if not isinstance(stage, oracle.Cache))
    before = [oracle.Chain(chain.source, plain[:i]) for i in range(len(plain) + 1)]
    places = {i: cache for i, part in enumerate(before) if (cache := cache_for(part, i))}
    one = [(*plain[:i], cache, *plain[i:]) for i, cache in places.items()]
    legal = [stages for stages in one if rules_hold(stages)]
    parts = [(places[i], stage) if i in places else (stage,) for i, stage in enumerate(plain)]
    full = tuple(itertools.chain.from_iterable(parts))
    return [oracle.Chain(chain.source, stages) for stages in (*legal, plain, full)]


def cache_for(chain: oracle.Chain, place: int) -> oracle.Cache | None:
    """A cache that may stand at the end of this chain, of another kind at each place; None where none may."""
    where = "folder" if place % 2 or is_loose(chain) else "memory"
    cache = oracle.Cache(where, limited=place % 3 == 2)
    return None if oracle.refusal(chain.stages, cache) else cache


def rules_hold(stages: Sequence[object]) -> bool:
    """Whether each stage may follow those before it."""
    return all(oracle.refusal(stages[:i], stage) is None for i, stage in enumerate(stages))


@few(6)
@given(chains(SMALL), st.integers(0, 3))
def test_a_cache_at_any_legal_place_changes_no_batch(chain: oracle.Chain, begin: int) -> None:
    total = 2 * len(chain)
    expected, begin = list(oracle.run(chain, total)), min(begin, total)
    with chain.write().iterate(epochs=2) as elements:
        oracle.check_run(itertools.islice(elements, begin), expected[:begin])
        state = elements.state
    for variant in cached_variants(chain):
        pipe = variant.write()
        oracle.check_run(delivered(pipe, epochs=2), expected)
        oracle.check_run(delivered(pipe, epochs=2, state=state), expected[begin:])  # filled by the first run
    oracle.check_run(delivered(pipe.options(caches=False), epochs=2), expected)


def eight_devices(explicit: bool) -> Mesh:
    """One axis over all of them, of either kind."""
    assert jax.device_count() == 8
    return jax.make_mesh((8,), ("data",)) if explicit else Mesh(np.array(jax.devices()), ("data",))


@few(8)
@given(chains((16, 40, 24, 33), multiple=8), st.integers(0, 3), st.booleans())
def test_eight_devices_get_the_batches_of_one(chain: oracle.Chain, begin: int, explicit: bool) -> None:
    mapped = chain if chain.has(oracle.KeepOnHost) else chain.then(oracle.DeviceMap(f.NEGATE_BATCH))
    expected = list(oracle.run(mapped, 2 * len(mapped)))
    # JAX 0.10 cannot read an empty array that jit returns on a mesh of explicit axes.
    mesh = eight_devices(explicit and all(leaf.size for _, leaf in leaves(expected[0])))
    with mapped.write().iterate(epochs=2) as elements:
        one = list(itertools.islice(elements, begin))
        state = elements.state
    oracle.check_run(one, expected[: len(one)])
    placed = chain.write().place(mesh, "data")
    placed = placed if mapped is chain else mapped.stages[-1].write(placed)
    oracle.check_spec(placed.spec, mapped.spec())
    with placed.iterate(epochs=2, state=state) as elements:
        rest = list(elements)
    oracle.check_run(rest, expected[len(one) :])
    for leaf in jax.tree.leaves(rest):
        if isinstance(leaf, jax.Array) and leaf.size:  # XLA replicates what is empty
            check_shards(leaf, NamedSharding(mesh, PartitionSpec(*([None] if chain.stack else []), "data")))


def check_shards(leaf: jax.Array, sharding: NamedSharding) -> None:
    """Device k holds the k-th eighth of the rows of a batch."""
    assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    parts = np.split(np.asarray(leaf), 8, axis=len(sharding.spec) - 1)
    for shard in leaf.addressable_shards:
        k = sharding.mesh.devices.tolist().index(shard.device)
        assert np.asarray(shard.data).tobytes() == parts[k].tobytes()


def is_stage(drawn: object) -> bool:
    """Whether a draw is a whole stage, and not the kind of one that is completed for its chain."""
    return hasattr(drawn, "write") and not isinstance(drawn, type)


@few(40)
@given(st.lists(stages.filter(is_stage) | st.just(oracle.Stack(2)), min_size=2, max_size=6), st.booleans())
def test_the_rules_refuse_what_the_oracle_refuses(order: list[oracle.chain.Stage], batched: bool) -> None:
    order = [*order[:2], oracle.Batch(2), *order[2:]] if batched else order
    assume(oracle.Map(f.MARK) not in order)  # it takes dicts only
    chain = oracle.Chain(oracle.Arrays([{"x": np.int32(i)} for i in range(6)]), tuple(order))
    if rules_hold(order):
        chain.write()
        return
    with pytest.raises(ValueError, match=r"before|after|remove|once"):
        chain.write()


# Cases that random chains meet seldom.


@pytest.mark.parametrize("dtype", [*oracle.data.DTYPES])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_each_dtype_alone_and_in_a_structure(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    spec = Pair({"a": Leaf(dtype, shape)}, (Leaf(dtype, shape), Leaf("bool", ())))
    for structure in (Leaf(dtype, shape), spec):
        examples = [map_tree(lambda leaf: leaf.sample(rng), structure) for _ in range(5)]
        for kind in (oracle.Arrays, oracle.Examples):
            chain = oracle.Chain(kind(examples), (oracle.Batch(2),))
            oracle.check_run(delivered(chain.write(), epochs=1), oracle.run(chain, len(chain)))


def test_python_numbers_are_leaves() -> None:
    examples = [{"i": i, "f": i / 3, "b": i > 1} for i in range(4)]
    chain = oracle.Chain(oracle.Examples(examples), (oracle.Batch(4),))
    oracle.check_run(delivered(chain.write(), epochs=1), oracle.run(chain, 1))


@pytest.mark.parametrize("remainder", [None, "drop", "keep", "pad"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_remainder_over_every_tail(remainder: str | None, shuffled: bool) -> None:
    for n in (5, 6, 7):
        before = (oracle.Shuffle(3),) if shuffled else ()
        source = oracle.Arrays([{"x": np.int32(i)} for i in range(n)])
        chain = oracle.Chain(source, (*before, oracle.RandomMap(f.DRAW), oracle.Batch(3, remainder)))
        pipe = chain.write()
        oracle.check_spec(pipe.spec, chain.spec())
        oracle.check_run(delivered(pipe, epochs=2), oracle.run(chain, 2 * len(chain)))


@pytest.mark.parametrize("remainder", ["drop", "keep", "pad"])
@pytest.mark.parametrize("after", [(oracle.Take(2),), (oracle.Skip(2),), (oracle.Take(3),), (oracle.Skip(1),) * 2])
def test_take_and_skip_of_batches(remainder: str, after: tuple[oracle.chain.Stage, ...]) -> None:
    source = oracle.Arrays([{"x": np.int32(i)} for i in range(11)])
    chain = oracle.Chain(source, (oracle.Shuffle(3), oracle.Batch(3, remainder), *after))
    pipe = chain.write()
    assert len(pipe) == len(chain)
    oracle.check_spec(pipe.spec, chain.spec())
    oracle.check_run(delivered(pipe, epochs=2), oracle.run(chain, 2 * len(chain)))


@pytest.mark.parametrize("stack", [oracle.Stack(2), oracle.Stack(2, "drop"), oracle.Stack(5, "error"), oracle.Stack(9)])
@pytest.mark.parametrize("around", [(), (oracle.Skip(1), oracle.Take(6)), (oracle.Take(5),)])
def test_every_stack_over_every_tail(stack: oracle.Stack, around: tuple[oracle.chain.Stage, ...]) -> None:
    source = oracle.Arrays([{"x": np.int32(i)} for i in range(29)])
    before = oracle.Chain(source, (oracle.Shuffle(3), oracle.Batch(3, "pad"), *around))
    chain = before.then(stack)
    if stack.remainder == "error" and len(before) % stack.k:
        with pytest.raises(ValueError, match=r"do not fill stacks of 5.*'keep' or 'drop'"):
            len(chain.write())
        return
    for after in ((), (oracle.Take(1),), (oracle.Skip(1),)):
        if (each := chain.then(*after)).raw(0):
            pipe = each.write()
            assert len(pipe) == len(each)
            oracle.check_run(delivered(pipe, epochs=2), oracle.run(each, 2 * len(each)))


def test_two_random_ops_share_no_seed_and_a_map_between_changes_nothing() -> None:
    source = oracle.Arrays([np.int32(i) for i in range(8)])
    ops = (oracle.Seed(5), oracle.RandomMap(f.EXPOSE), oracle.RandomMap(f.EXPOSE))
    chain = oracle.Chain(source, (*ops, oracle.Batch(8)))
    (batch,) = delivered(chain.write(), epochs=1)
    oracle.check_same(batch, chain.epoch(0)[0])
    outer, inner = np.asarray(batch["seed"]), np.asarray(batch["example"]["seed"])
    assert not (outer[:, 0] == inner[:, 0]).all(axis=1).any()
    between = oracle.Chain(source, (*ops[:2], oracle.Map(f.FLIP), ops[2], oracle.Batch(8)))
    (same,) = delivered(between.write(), epochs=1)
    assert np.array_equal(same["seed"], outer)


def test_ops_on_images() -> None:
    rng = np.random.default_rng(0)
    rows = [{"image": Leaf("uint8", (4, 5, 3)).sample(rng), "label": np.int32(i)} for i in range(11)]
    flip, light = oracle.RandomApply(f.MIRROR), oracle.RandomApply(f.BRIGHTEN)
    stages = (oracle.Apply(f.CROP), oracle.Cache(), oracle.Shuffle(3), flip, oracle.RandomMap(f.TOSS), light)
    chain = oracle.Chain(oracle.Arrays(rows), (*stages, oracle.Batch(4)))
    pipe = chain.write()
    oracle.check_spec(pipe.spec, chain.spec())
    oracle.check_run(delivered(pipe, epochs=3), oracle.run(chain, 3 * len(chain)))


def test_the_last_seed_holds_for_all_random_ops() -> None:
    source = oracle.Arrays([np.int32(i) for i in range(4)])
    order = (oracle.Seed(1), oracle.RandomMap(f.EXPOSE), oracle.Seed(2), oracle.Batch(4), oracle.Seed(-3))
    for part in (order, order[:3], order[1:2]):
        chain = oracle.Chain(source, part)
        oracle.check_run(delivered(chain.write(), epochs=2), oracle.run(chain, 2 * len(chain)))


def test_64_bits_stay_where_jax_has_them() -> None:
    rows = np.array([2**40 + 5, -1, 7])
    with jax.enable_x64(True):
        pipe = tfjax.from_arrays({"x": rows, "y": rows / 3}).shuffle(seed=0).batch(3)
        (batch,) = delivered(pipe)
        oracle.check_spec(pipe.spec, {("x",): ((3,), np.dtype("int64")), ("y",): ((3,), np.dtype("float64"))})
        order = oracle.permutation(3, 0, 0)
        oracle.check_same(batch, {"x": rows[order], "y": (rows / 3)[order]})


def test_digits_by_name(digits_dir: pathlib.Path) -> None:
    import tensorflow_datasets as tfds

    pipe = tfjax.load("digits", split="test", data_dir=str(digits_dir))
    version = next(digits_dir.rglob("dataset_info.json")).parent
    stored = tfds.builder_from_directory(version).as_dataset(split="test", shuffle_files=False)
    stages = (oracle.Shuffle(1), oracle.RandomMap(f.TOSS), oracle.Batch(64))
    chain = oracle.Chain(oracle.Examples(list(tfds.as_numpy(stored))), stages)
    for stage in stages:
        pipe = stage.write(pipe)
    assert len(pipe) == len(chain)
    oracle.check_spec(pipe.spec, chain.spec())
    expected = list(oracle.run(chain, 2 * len(chain)))
    oracle.check_run(delivered(pipe, epochs=2), expected)
    with pipe.iterate(epochs=2) as elements:
        oracle.check_run(itertools.islice(elements, 3), expected[:3])
        state = elements.state
    oracle.check_run(delivered(pipe, epochs=2, state=state), expected[3:])
