"""Hypothesis strategies for chains: stages in any order that the rules allow, over random sources."""

from collections.abc import Sequence

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from . import functions as f
from .apply import Apply, RandomApply
from .batch import Batch
from .cache import Cache
from .chain import Chain
from .data import sources
from .device_map import DeviceMap
from .filter import Filter
from .keep_on_host import KeepOnHost
from .map import Map
from .random_map import RandomMap
from .row import Stage
from .rules import refusal
from .seed import Seed
from .select import Drop, Select
from .shuffle import Shuffle
from .skip import Skip
from .split import Split
from .stack import Stack
from .take import Take
from .tree import leaves

SIZES = (17, 9, 20, 12, 5, 1)  # the first is what hypothesis tries most
seeds = st.sampled_from([0, 1, 7, 2**40 + 3])
FRACTIONS = (
    (("train", 0.8), ("val", 0.2)),
    (("a", 0.7), ("b", 0.2), ("c", 0.1)),
    (("first", 1 / 3), ("second", 1 / 3), ("third", 1 / 3)),
)
splits = st.sampled_from(FRACTIONS).flatmap(
    lambda parts: st.builds(Split, st.just(parts), st.sampled_from([name for name, _ in parts]), seeds)
)
counted = st.one_of(st.builds(Take, st.sampled_from([7, 12, 2, 1])), st.builds(Skip, st.sampled_from([1, 3])))
stacks = st.builds(Stack, st.sampled_from([2, 3, 1, 100]), st.sampled_from(["keep", "drop", "error"]))
caches = st.builds(Cache, st.sampled_from(["memory", "folder"]), st.booleans())
ordered = st.one_of(st.builds(Shuffle, seeds), splits, counted, st.builds(Seed, seeds), caches)
filters = st.sampled_from([f.SOME, f.SOME, f.EVERYTHING]).map(Filter)
keeping = st.one_of(
    st.sampled_from([f.NEGATE, f.FLIP, f.LENGTHS]).map(Map), st.just(RandomMap(f.TOSS)), st.just(Map(f.MARK))
)
wrapping = st.one_of(st.sampled_from([f.DRAW, f.EXPOSE]).map(RandomMap), st.just(Map(f.TWICE)))
keyed = st.sampled_from([Select, Drop])
shuffles = st.builds(Shuffle, seeds)
applied = st.sampled_from([Apply(f.CROP), RandomApply(f.MIRROR), RandomApply(f.BRIGHTEN)])
stages = st.one_of(shuffles, shuffles, ordered, filters, keeping, wrapping, keyed, st.just(f.UNROLL))


def is_loose(chain: Chain) -> bool:
    """Whether examples at the end of this chain have a leaf of no fixed size: text, or of varying shape."""
    source, example = chain.source.rows()[0].example, chain.raw(0)[0]
    text = any(leaf.dtype == object for _, leaf in leaves(example))
    tokens = isinstance(source, dict) and "tokens" in source and Map(f.PAD_TOKENS) not in chain.stages
    return text or tokens or chain.stages[-1:] == (Map(f.UNROLL),)


def has_image(chain: Chain) -> bool:
    """Whether examples at the end of this chain have an image where ops look for one."""
    example = chain.raw(0)[0]
    return isinstance(example, dict) and isinstance(example.get("image"), np.ndarray) and example["image"].ndim == 3


def fits(chain: Chain, stage: Stage) -> bool:
    """Whether the stage may stand at the end of this chain, and leaves something of each of three epochs."""
    if refusal(chain.stages, stage):
        return False
    loose = is_loose(chain)
    if loose and isinstance(stage, Map | RandomMap) and stage.fn in (f.TWICE, f.DRAW, f.EXPOSE, f.UNROLL):
        return False  # such leaves stay at the top, where they can be named
    if loose and isinstance(stage, Cache) and stage.where == "memory":
        return False
    if isinstance(stage, Apply | RandomApply) and not has_image(chain):
        return False
    if stage == Map(f.MARK) and not isinstance(chain.raw(0)[0], dict):
        return False
    return all(chain.then(stage).raw(epoch) for epoch in range(3))


@st.composite
def example_chains(draw: st.DrawFn, sizes: Sequence[int] = SIZES) -> Chain:
    """Up to 6 stages before `batch`."""
    chain = Chain(draw(sources(sizes)))
    options = st.booleans().flatmap(lambda op: applied if op else stages) if has_image(chain) else stages
    for stage in draw(st.sampled_from([4, 6, 2]).flatmap(lambda n: st.lists(options, min_size=n, max_size=n))):
        if stage in (Select, Drop):
            chain = choose_keys(draw, chain, stage)
        elif stage is f.UNROLL:
            pair = (Map(f.UNROLL), Map(f.FOLD))
            chain = chain.then(*pair) if fits(chain, pair[0]) else chain
        elif fits(chain, stage):
            chain = chain.then(stage)
    return settle(draw, chain)


def choose_keys(draw: st.DrawFn, chain: Chain, kind: type) -> Chain:
    """`select` or `drop` of some keys, where the example is a dict of several; `tokens` stays."""
    example = chain.raw(0)[0]
    if not isinstance(example, dict) or len(example) < 2 or "tokens" in example:
        return chain
    names = st.sampled_from(sorted(example))
    keys = draw(st.lists(names, min_size=1, max_size=len(example) - 1, unique=True))
    return chain.then(kind(tuple(keys)))


def settle(draw: st.DrawFn, chain: Chain) -> Chain:
    """The chain with its varying leaf padded, and its text or another key kept on the host, or dropped."""
    example = chain.raw(0)[0]
    if not isinstance(example, dict):
        return chain
    chain = chain.then(Map(f.PAD_TOKENS)) if "tokens" in example else chain
    if "text" not in example or example["text"].dtype != object:
        kept = draw(st.sampled_from([None, None, None, *sorted(example)]))
        return chain.then(KeepOnHost((kept,))) if kept else chain
    ways = [KeepOnHost(("text",)), Map(f.LENGTHS), *([Drop(("text",))] if len(example) > 1 else [])]
    return chain.then(draw(st.sampled_from(ways)))


@st.composite
def chains(draw: st.DrawFn, sizes: Sequence[int] = SIZES, multiple: int = 1) -> Chain:
    """A chain with `batch`, whose batches are all divisible by `multiple`, and stages after it, `stack` among them."""
    chain = draw(example_chains(sizes))
    size = multiple * draw(st.sampled_from([3, 2, 4, 5, 1] if multiple == 1 else [1, 2]))
    options = [Batch(size, policy) for policy in (None, "drop", "keep", "pad", "error")]
    possible = [option for option in options if batches(chain, option, multiple)]
    assume(possible)
    chain = chain.then(draw(st.sampled_from(possible)))
    for stage in draw(st.lists(st.one_of(counted, stacks), max_size=2)):
        chain = chain.then(stage) if stackable(chain, stage) and fits(chain, stage) else chain
    mapped = draw(st.booleans()) and not chain.has(KeepOnHost)
    return chain.then(DeviceMap(f.NEGATE_BATCH)) if mapped else chain


def stackable(chain: Chain, stage: Stage) -> bool:
    """Whether, where the stage is a stack, the batches are of one size and none is left over where that is an error."""
    if not isinstance(stage, Stack) or chain.stack:
        return True
    batches = chain.raw(0)
    lengths = {len(next(leaves(batch))[1]) for batch in batches}
    return lengths == {chain.batch.size} and (stage.remainder != "error" or len(batches) % stage.k == 0)


def batches(chain: Chain, batch: Batch, multiple: int) -> bool:
    """Whether this batch stage has something to deliver, and divides."""
    n, policy = len(chain), batch.policy(chain.has(Shuffle))
    example = chain.raw(0)[0]
    tail = n % batch.size
    if policy == "pad":
        return isinstance(example, dict) and "mask" not in example
    return {"drop": n >= batch.size, "keep": tail % multiple == 0, "error": tail == 0}[policy]
