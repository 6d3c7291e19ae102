"""tf.data service as a source of `from_tf`: a dispatcher and a worker in this process, on the loopback address."""

from collections.abc import Iterator

import pytest
import tensorflow as tf

import tfjax

Dataset = tf.data.Dataset


@pytest.fixture
def service() -> Iterator[str]:
    dispatcher = tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(protocol="grpc")
    )
    address = dispatcher.target.split("://")[1]
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=address, heartbeat_interval_ms=100)
    )
    yield dispatcher.target
    worker._stop()
    dispatcher._stop()


def served(target: str) -> Dataset:
    dataset = Dataset.range(12).map(lambda x: {"x": x * 3})
    return dataset.apply(
        tf.data.experimental.service.distribute(processing_mode="parallel_epochs", service=target, compression=None)
    )


def test_batches_of_a_served_dataset(service: str) -> None:
    pipe = tfjax.from_tf(served(service), batched=False).batch(4)
    assert [b["x"].tolist() for b in pipe.iterate(epochs=2)] == [[0, 3, 6, 9], [12, 15, 18, 21], [24, 27, 30, 33]] * 2
    with pipe.iterate(epochs=2) as batches:
        next(batches)
        state = batches.state
        rest = [b["x"].tolist() for b in batches]
    assert [b["x"].tolist() for b in pipe.iterate(epochs=2, state=state)] == rest


def test_a_served_dataset_has_no_checkpoint(service: str) -> None:
    with pytest.raises(ValueError, match=r"the dataset holds \w*DataService\w*, .*state='replay'"):
        tfjax.from_tf(served(service), batched=False, state="checkpoint")
