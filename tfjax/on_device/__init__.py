"""Functions of placed batches, run on the devices.

`normalize`, `cast` and `one_hot` go to `device_map`; the others draw random numbers and go to `random_device_map`. Each
is a frozen value, written in JAX alone; those of a pipeline are compiled as one function. On a mesh, its axes Auto or
Explicit, every row stays on its device; only `mixup` and `cutmix` fetch rows from others. The random functions draw for
each row of a batch (batch, height, width, channels) by itself; with `per_example=True` they are given one (height,
width, channels), and `mixup` and `cutmix` refuse it. uint8 images stay uint8, rounded and saturated.

>>> import jax, numpy as np, tfjax
>>> photos = {"image": np.zeros((6, 32, 32, 3), np.uint8), "label": np.arange(6)}
>>> pipe = tfjax.from_arrays(photos).batch(2).device_map(tfjax.on_device.one_hot("label", 10))
>>> batch = pipe.device_map(tfjax.on_device.normalize("image", 127.5, 127.5)).peek()
>>> batch = tfjax.on_device.mixup("image", "label", alpha=0.2)(batch, jax.random.key(0))
>>> batch["image"].dtype, batch["label"].shape
(dtype('float32'), (2, 10))
"""

from tfjax.on_device.geometry import random_crop as random_crop
from tfjax.on_device.geometry import random_flip as random_flip
from tfjax.on_device.light import brightness as brightness
from tfjax.on_device.light import contrast as contrast
from tfjax.on_device.mixing import cutmix as cutmix
from tfjax.on_device.mixing import mixup as mixup
from tfjax.on_device.values import cast as cast
from tfjax.on_device.values import normalize as normalize
from tfjax.on_device.values import one_hot as one_hot

__all__ = [
    "brightness",
    "cast",
    "contrast",
    "cutmix",
    "mixup",
    "normalize",
    "one_hot",
    "random_crop",
    "random_flip",
]
