"""JPEG files to globally shuffled batches of random crops of 224: as uint8, and flipped and normalised to float32.

CPU time of all threads and workers is what is claimed. Batches are waited for, and not read. The peers are given
windows that are drawn before; tfjax and DALI draw theirs, of the same distribution, as they go.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tfjax
from benchmarks import photo_peers as peers
from benchmarks.consume import going_on
from benchmarks.data import write_tfrecord
from benchmarks.harness import Bench, Contender, Table, arguments, cpu_ratios, require_equal
from benchmarks.photo_decode import Crops, by_pil, by_simplejpeg, decode_whole, why_missing
from benchmarks.photos import AS_THEY_ARE, REENCODED, SIDE, Photos, photos, why_no_photos
from tfjax import image, on_device
from tfjax._tensorflow import tf

# Batches a sample.
BATCH, STEPS, ROUNDS = peers.BATCH, 20, 5
# What pixels may differ by on the mean, of 255: libjpeg has two transforms.
NEAR = 2
OURS, RECORDS = "tfjax", "tfjax, of TFRecords"
USUAL, DRAWN = "tf.data: decode, crop, resize, float32, batch", "tf.data: the same, windows drawn, normalised"
BY_JIT, BY_GRAPH = "tfjax, flip and normalise under jit", "tfjax, flip in the graph, normalise under jit"
FLIPPED = "tf.data: the same, flip and normalise"
GRAIN, TORCH = "Grain, {} threads, simplejpeg + cv2", "torch, 2 workers, simplejpeg + cv2"
PIL, DALI = "torch, 2 workers, PIL", "DALI on CPU, 2 threads"
DECODE = "simplejpeg: full decode, one thread"
Ways = dict[str, peers.Batches]


def files(found: Photos) -> tfjax.Pipeline:
    """Encoded photos, shuffled."""
    return tfjax.from_files(found.paths, label=found.labels).shuffle(seed=0)


def records(path: str) -> tfjax.Pipeline:
    """The same of one TFRecord file."""
    features = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}
    return tfjax.from_records(path, features).shuffle(seed=0)


def cropped(pipe: tfjax.Pipeline, *ops: Any) -> tfjax.Pipeline:
    """Random crops in batches."""
    return pipe.apply(image.Decode(), image.RandomResizedCrop(SIDE), *ops).batch(BATCH)


def normalized(pipe: tfjax.Pipeline) -> tfjax.Pipeline:
    """float32, on the device."""
    return pipe.device_map(on_device.normalize("image", peers.MEAN, peers.STD))


def forever(pipe: tfjax.Pipeline) -> peers.Batches:
    """Batches without an end."""
    return pipe.options(prefetch_batches=peers.PREFETCH).iterate(forever=True)


def uint8_ways(bench: Bench, found: Photos, windows: np.ndarray) -> Ways:
    """Who crops, as far as it is installed."""
    ways: Ways = {
        OURS: forever(cropped(files(found))),
        USUAL: peers.tf_data(found, windows, peers.scaled_crop),
        DRAWN: peers.tf_data(found, windows, peers.drawn_crop),
    }
    no_jpeg, no_torch = why_missing("simplejpeg", "cv2"), why_missing("torch")
    if not no_jpeg:
        ways |= {GRAIN.format(n): peers.grain_threads(found, windows, by_simplejpeg, n) for n in (1, 4)}
    if not (no_jpeg or no_torch):
        ways[TORCH] = peers.torch_workers(found, windows, by_simplejpeg)
    if not no_torch:
        ways[PIL] = peers.torch_workers(found, windows, by_pil)
    for what, reason in (("simplejpeg + cv2", no_jpeg), ("torch", no_torch)):
        if reason:
            bench.skip(what, reason)
    return ways


def further_ways(bench: Bench, found: Photos, windows: np.ndarray) -> Ways:
    """Those that no claim is about."""
    ways: Ways = {
        RECORDS: forever(cropped(records(_record_file(found)))),
        "tf.data, by hand: the window alone, uint8": peers.tf_data(found, windows, peers.tuned_crop),
    }
    if reason := why_missing("nvidia.dali"):
        bench.skip(DALI, reason)
    else:
        ways[DALI] = peers.dali(found)
    return ways


def float_ways(found: Photos, windows: np.ndarray) -> Ways:
    """Who flips and normalises beside it."""
    flip = on_device.random_flip("image")
    return {
        BY_JIT: forever(normalized(cropped(files(found)).random_device_map(flip))),
        BY_GRAPH: forever(normalized(cropped(files(found), image.RandomFlip()))),
        FLIPPED: peers.tf_data(found, windows, peers.flipped_crop),
    }


def contenders(bench: Bench, ways: Ways) -> list[Contender]:
    """Each goes on from round to round."""
    steps = bench.size(STEPS, 2)
    return [Contender(name, going_on(batches, steps)) for name, batches in ways.items()]


def full_decode(found: Photos) -> list[Contender]:
    """The floor: libjpeg-turbo alone, of bytes in memory."""
    if why_missing("simplejpeg"):
        return []
    held = [Path(path).read_bytes() for path in found.paths]

    def decode() -> int:
        for jpeg in held:
            decode_whole(jpeg)
        return len(held)

    return [Contender(DECODE, lambda: decode, floor=True)]


def claim_uint8(bench: Bench, kind: str, table: Table) -> None:
    """What is held against targets of the crops as uint8."""
    what = f"{kind} photos to uint8 crops"
    bench.claim_cheaper(what, table, OURS, USUAL, firm=1.5, stretch=1.8)
    bench.claim_cheaper(what, table, OURS, DRAWN, firm=None)
    if DECODE in table:
        share = [100 * x for x in cpu_ratios(table, DECODE, OURS)]
        bench.claim(f"{what}: {DECODE}, over ours, by CPU time", share, "%", "at least", 80, 95)
    python = [name for name in table if "simplejpeg + cv2" in name]
    if python:
        best = min(python, key=lambda name: statistics.median(s.cpu_s / s.items for s in table[name]))
        bench.claim_cheaper(what, table, OURS, best, firm=1.1, stretch=1.3)
    if PIL in table:
        bench.claim_cheaper(what, table, OURS, PIL, firm=2)


def claim_float(bench: Bench, kind: str, table: Table) -> None:
    """The same, flipped and normalised: the better of tfjax's two ways."""
    ours = min((BY_JIT, BY_GRAPH), key=lambda name: statistics.median(s.cpu_s / s.items for s in table[name]))
    bench.claim_cheaper(f"{kind} photos to float32, {ours}", table, ours, FLIPPED, firm=1.3, stretch=1.45)


def require_same(found: Photos) -> None:
    """All get the same pixels of the window in the middle and of the whole photo, but for rounding; all rows come."""
    large = found.subset((found.sizes >= SIDE).all(1))
    stored = tfjax.from_files(large.paths, label=large.labels).apply(image.Decode())
    for windows, op in ((large.centers(), image.CenterCrop(SIDE)), (large.wholes(), image.Resize(SIDE))):
        want = np.asarray(_first(large, windows, peers.usual_crop))
        _require_close("tfjax", stored.apply(op).batch(BATCH).peek()["image"], want)
        _require_close("tf.data by hand", _first(large, windows, peers.tuned_crop), want)
        # PIL blurs before it shrinks: its whole photos are others.
        pil = [by_pil] if isinstance(op, image.CenterCrop) else []
        for decode in [by_simplejpeg, *pil] if not why_missing("simplejpeg", "cv2") else pil:
            crops = Crops(large.paths, windows, decode)
            _require_close(decode.__name__, np.stack([crops[i]["image"] for i in range(BATCH)]), want)
    rows = files(found).select("label").batch(BATCH)
    labels = np.concatenate([np.asarray(batch["label"]) for batch in rows])
    require_equal("rows of an epoch", sorted(labels.tolist()), found.labels.tolist())


def _first(found: Photos, windows: np.ndarray, crop: Callable[..., tf.Tensor]) -> Any:
    return next(peers.tf_data(found, windows, crop, shuffle=False))["image"]


def _require_close(name: str, ours: Any, want: np.ndarray) -> None:
    mean = float(np.abs(np.asarray(ours, np.float32) - want).mean())
    require_equal(
        f"pixels of {name} are within {NEAR} of 255 of the usual ones ({mean:.2f}), which", mean <= NEAR, True
    )


def _record_file(found: Photos) -> str:
    """The files as TFRecords, beside them."""
    path = Path(found.paths[0]).parent.with_suffix(f".{len(found.paths)}.tfrecord")
    if path.is_file():
        return str(path)

    def example(number: int) -> bytes:
        contents = tf.train.BytesList(value=[Path(found.paths[number]).read_bytes()])
        label = tf.train.Int64List(value=[number])
        feature = {"image": tf.train.Feature(bytes_list=contents), "label": tf.train.Feature(int64_list=label)}
        serialized: bytes = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
        return serialized

    return write_tfrecord(path, [example(number) for number in range(len(found.paths))])


def main() -> None:
    """Measure both claims on both kinds of files."""
    bench = Bench("photos", f"JPEG files to shuffled random crops of {SIDE}", quick=arguments(__doc__).quick)
    if reason := why_no_photos():
        bench.skip("all of it", reason)
        bench.write()
        return
    rounds = bench.size(ROUNDS, 1)
    for kind in (AS_THEY_ARE, REENCODED)[: bench.size(2, 1)]:
        found = photos(kind, bench.size(2_000, 100))
        bench.fact(f"photos {kind}", found.about)
        require_same(found)
        windows = found.windows()
        ways = uint8_ways(bench, found, windows)
        ways |= further_ways(bench, found, windows) if kind == AS_THEY_ARE else {}
        measured = [*contenders(bench, ways), *full_decode(found)]
        table = bench.measure(f"{kind} photos to uint8 crops", measured, unit="photo", rounds=rounds)
        claim_uint8(bench, kind, table)
        measured = contenders(bench, float_ways(found, windows))
        table = bench.measure(
            f"{kind} photos, flipped and normalised to float32", measured, unit="photo", rounds=rounds
        )
        claim_float(bench, kind, table)
    bench.write()


if __name__ == "__main__":
    main()
