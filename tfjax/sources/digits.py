"""`digits`: scikit-learn's bundled handwritten digits as a TFDS dataset that needs no network.

Importing this file registers the builder with TFDS; `tfjax.load("digits")` does so, and prepares the files
into the data_dir at the first load.

    >>> from tfjax.sources.digits import Digits
    >>> Digits.name, str(Digits.VERSION)
    ('digits', '1.0.0')
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from tfjax._tensorflow import tf

_TEST_EVERY = 5


class Digits(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """1,797 images (8, 8, 1), uint8 from 0 to 16, labels 0 to 9; every fifth is "test" (359), others "train".

    The examples of a split stand in scikit-learn's order.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "scikit-learn's load_digits, every fifth for test."}

    def _info(self) -> Any:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 1), dtype=tf.uint8, encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits of 8 x 8 pixels in 17 grey levels: scikit-learn's load_digits.",
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,  # files in scikit-learn's order, which is not sorted by label
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:  # noqa: ARG002
        return {"train": self._generate_examples(test=False), "test": self._generate_examples(test=True)}

    def _generate_examples(self, *, test: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        digits = load_digits()
        for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            if (i % _TEST_EVERY == _TEST_EVERY - 1) == test:
                yield i, {"image": image.astype("uint8")[..., None], "label": int(label)}

    def _log_download_bytes(self) -> None:
        """Nothing is downloaded, so say nothing."""

    def _log_download_done(self) -> None:
        """Nothing is downloaded, so say nothing."""


def load_digits() -> Any:
    """scikit-learn's digits: `images` (1797, 8, 8) and `target` (1797,).

    Raises:
        ImportError: scikit-learn is missing; names the extra.

    Example:
        >>> load_digits().images.shape
        (1797, 8, 8)
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"the digits dataset comes with scikit-learn, which could not be imported ({error}): "
            "pip install 'tfjax[digits]'"
        ) from error
    return datasets.load_digits()
