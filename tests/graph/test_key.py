"""What rows depend on: named values that another process finds again, and that tell one prefix from another."""

import json
from typing import Any

import numpy as np
import tensorflow as tf

import tfjax
from tests import python_process
from tfjax.graph.key import prefix_key, probes, some_of


def checked(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    with tf.control_dependencies([tf.debugging.assert_less(e["x"], tf.constant(90, tf.int64))]):
        return {"x": e["x"] + 1}


def key_of(pipe: "tfjax.Pipeline") -> dict[str, Any]:
    plan = pipe._plan
    return prefix_key(pipe._chain, plan.rows.element, plan.rows.length)


def test_it_is_json_and_names_the_stages() -> None:
    pipe = tfjax.from_arrays({"x": np.arange(9)}).seed(3).map(checked).take(4).cache("memory")
    key = key_of(pipe)
    assert json.loads(json.dumps(key)) == key
    assert {"source", "files", "rows", "elements", "1 map", "2 take", "the code of 1 map"} == set(key)
    assert (key["rows"], key["files"], key["2 take"]) == (4, None, "take(n=4)")
    assert key_of(pipe.options(parallel_calls=1)) == key


def test_an_op_is_known_by_its_arguments() -> None:
    images = tfjax.from_arrays({"image": np.zeros((3, 8, 8, 3), np.uint8)})
    keys = [key_of(images.apply(tfjax.image.CenterCrop(n))) for n in (4, 5, 4)]
    assert keys[0] == keys[2] != keys[1]
    assert keys[0]["1 CenterCrop"] == "CenterCrop(4)" and "the code of 1 CenterCrop" not in keys[0]


def test_examples_that_fail_are_part_of_it() -> None:
    rows = tfjax.from_arrays({"x": np.arange(100)}).map(checked)._plan.rows
    found = probes(rows, some_of(range(100)))
    assert len(found) == 8 and found[-1] == "failed" and "failed" not in found[:-1]
    assert len(set(found)) == 8 and probes(rows, some_of(range(100))) == found


def test_which_rows_are_looked_at() -> None:
    for n in (0, 1, 3, 8, 9, 1000):
        rows = some_of(np.arange(n) * 2)
        assert len(rows) == min(n, 8) == len(set(rows))
        assert set(rows) <= set(range(0, 2 * n, 2)) and set(rows) >= {0, 2 * n - 2} - {-2, *([0] if n == 0 else [])}
    assert probes(tfjax.from_arrays(np.zeros((0, 2)))._plan.rows, some_of(range(0))) == []


def test_ragged_rows() -> None:
    pipe = tfjax.from_examples([{"v": np.arange(n)} for n in range(4)])
    found = probes(pipe._plan.rows, some_of(range(4)))
    assert len(set(found)) == 4 and "failed" not in found


ANOTHER = """
    import numpy as np, tfjax
    from tfjax.graph.key import probes, some_of
    pipe = tfjax.from_arrays({"x": np.linspace(0, 1, 50)}).map(lambda e: {"x": e["x"] * 3, "s": "text"})
    print(probes(pipe._plan.rows, some_of(range(50))))
"""


def test_another_process_finds_the_same() -> None:
    outs = {python_process.run(ANOTHER).stdout for _ in range(2)}
    assert len(outs) == 1 and "failed" not in outs.pop()
