"""What a model is given: several leaves of a batch, tokens, subtrees; and batches that are of another kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tests.frameworks.cases import BATCH, CLASSES, LIBRARIES, OPTIMIZER, case, copied, loss, rows
from tfjax.frameworks._batch import keys_of

WORDS, DIM = 1000, 4
X = {"photo": "x", "words": "tokens"}


def linen():
    from flax import linen as nn

    class Two(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            words = nn.Embed(WORDS, DIM)(inputs["words"]).mean(-2)
            return nn.Dense(CLASSES)(jnp.concatenate([inputs["photo"], words], -1))

    return Two()


def nnx():
    from flax import nnx

    class Two(nnx.Module):
        def __init__(self, inputs, rngs):
            self.embed = nnx.Embed(WORDS, DIM, rngs=rngs)
            self.dense = nnx.Linear(inputs["photo"].shape[-1] + DIM, CLASSES, rngs=rngs)

        def __call__(self, inputs):
            words = self.embed(inputs["words"]).mean(-2)
            return self.dense(jnp.concatenate([inputs["photo"], words], -1))

    return Two


def equinox():
    import equinox as eqx

    class Two(eqx.Module):
        embed: eqx.nn.Embedding
        dense: eqx.nn.Linear

        def __init__(self, inputs, key):
            keys = jax.random.split(key)
            self.embed = eqx.nn.Embedding(WORDS, DIM, key=keys[0])
            self.dense = eqx.nn.Linear(inputs["photo"].shape[0] + DIM, CLASSES, key=keys[1])

        def __call__(self, inputs):
            words = jax.vmap(self.embed)(inputs["words"]).mean(0)
            return self.dense(jnp.concatenate([inputs["photo"], words]))

    return Two


def haiku():
    import haiku as hk

    def two(inputs):
        words = hk.Embed(WORDS, DIM)(inputs["words"]).mean(-2)
        return hk.Linear(CLASSES)(jnp.concatenate([inputs["photo"], words], -1))

    return two


def keras():
    from tfjax.frameworks.keras import keras as library

    class Two(library.Model):
        def __init__(self):
            super().__init__()
            self.embed = library.layers.Embedding(WORDS, DIM)
            self.dense = library.layers.Dense(CLASSES)

        def call(self, inputs):
            words = library.ops.mean(self.embed(inputs["words"]), -2)
            return self.dense(library.ops.concatenate([inputs["photo"], words], -1))

    return Two


MODELS = {"linen": linen, "nnx": nnx, "equinox": equinox, "haiku": haiku, "keras": keras}


def with_tokens():
    return {**rows(), "tokens": jnp.arange(BATCH * 3, dtype=jnp.int32).reshape(BATCH, 3) * 41}


def of_two(predict, batch):
    return loss(lambda _: predict({name: batch[key] for name, key in X.items()}), batch)


@pytest.fixture(params=LIBRARIES)
def name(request):
    pytest.importorskip(LIBRARIES[request.param])
    return request.param


def test_a_dict_of_keys_with_tokens(name):
    """In bfloat16, in which tokens that were cast would be others."""
    module, batch = case(name).module, with_tokens()
    states = [
        module.create_state(MODELS[name](), OPTIMIZER, batch, x=X, precision=precision)
        for precision in ("float32", "bfloat16")
    ]
    evaluate = module.eval_step(lambda predict, batch: {"loss": of_two(predict, batch)[0]})
    exact, low = (float(evaluate(state, batch)["loss"]) for state in states)
    assert low == pytest.approx(exact, rel=0.02)
    before = copied(states[0].params)
    state, _ = module.train_step(of_two)(states[0], batch)
    (embedding, old), *_ = [
        pair
        for pair in zip(jax.tree.leaves(state.params), jax.tree.leaves(before), strict=True)
        if WORDS in pair[0].shape
    ]
    changed = np.flatnonzero((np.asarray(embedding) != np.asarray(old)).any(-1))
    assert changed.tolist() == sorted(np.asarray(batch["tokens"]).ravel().tolist())


def test_keras_builds_a_sequential_of_tokens_as_they_are():
    """Built from shapes alone it casts them to the dtype of its policy, in which 257 is 256."""
    pytest.importorskip("keras")
    from tfjax.frameworks import keras as module

    layers = module.keras.layers
    model = lambda: module.keras.Sequential([layers.Embedding(WORDS, DIM), layers.Flatten()])  # noqa: E731
    batch = with_tokens()
    state = module.create_state(model, OPTIMIZER, batch, x="tokens", precision="bfloat16")
    sums = module.eval_step(lambda predict, batch: {"sum": predict(batch["tokens"]).sum(-1)})(state, batch)
    wanted = np.asarray(state.params[0])[np.asarray(batch["tokens"])].sum()
    np.testing.assert_allclose(sums["sum"], wanted, rtol=0.05, atol=0.01)


def test_a_tuple_of_keys():
    nn = pytest.importorskip("flax.linen")

    class Pair(nn.Module):
        @nn.compact
        def __call__(self, pair):
            return nn.Dense(CLASSES)(jnp.concatenate(pair, -1))

    module, batch = case("linen").module, {"a": rows()["x"], "b": {"c": rows()["x"]}, "label": rows()["label"]}
    state = module.create_state(Pair(), OPTIMIZER, {**batch, "b": rows()["x"]}, x=("a", "b"))
    assert state.params["Dense_0"]["kernel"].shape == (16, CLASSES)
    assert [key for key, _, _ in state.inputs] == ["a", "b"]


def test_a_subtree_below_one_key(name):
    module, batch = case(name).module, with_tokens()
    batch["both"] = {"photo": batch.pop("x"), "words": batch.pop("tokens")}
    state = module.create_state(MODELS[name](), OPTIMIZER, batch, x="both")
    assert state.inputs == (("both", "['photo']", "float32[8]"), ("both", "['words']", "int32[3]"))
    if name == "linen":
        step = module.train_step(lambda predict, batch: loss(lambda _: predict(batch["both"]), {**batch, "x": None}))
        assert np.isfinite(step(state, batch)[1]["loss"])


def test_elements_that_are_tuples():
    linen = case("linen")
    batch = (rows()["x"], rows()["label"])
    state = linen.module.create_state(linen.model, OPTIMIZER, batch, x=0)
    step = linen.module.train_step(lambda predict, batch: loss(predict, {"x": batch[0], "label": batch[1]}))
    state, _ = step(state, batch)
    assert int(state.step) == 1
    with pytest.raises(tfjax.SpecError, match=r"created for examples of 0: float32\[8\], and this batch has"):
        step(state, (rows()["x"][:, :3], rows()["label"]))


def test_keys_that_are_not_there(plain):
    with pytest.raises(KeyError, match=r"x=.x. names nothing .* has \['picture'\]: give one of its keys"):
        plain.create({"picture": rows()["x"]})
    assert plain.module.create_state(plain.model, OPTIMIZER, {"picture": rows()["x"]}, x="picture")


def test_a_spec_without_batches_is_refused(plain):
    with pytest.raises(ValueError, match=r"inputs 'x' have shape \(\) .* call \.batch\(size\)"):
        plain.create({"x": jax.ShapeDtypeStruct((), jnp.float32)})


def test_arguments_of_other_kinds_are_refused(plain):
    create, spec = plain.module.create_state, rows()
    for optimizer in ("adam", type(OPTIMIZER), 1e-3):
        with pytest.raises(TypeError, match=r"optimizer is .*: give an optax transformation"):
            create(plain.model, optimizer, spec, x="x")
    for seed in (1.5, None, jax.random.key(0)):
        with pytest.raises(TypeError, match="create_state takes an int as its seed"):
            plain.create(seed=seed)
    with pytest.raises(TypeError, match=r"spec is a Pipeline: give its \.spec"):
        plain.create(tfjax.from_arrays(spec))
    with pytest.raises(ValueError, match=r"x=\(\) names no inputs"):
        create(plain.model, OPTIMIZER, spec, x=())
    for model in (None, "cnn", lambda a, b, c: (a, b, c)):
        with pytest.raises(
            TypeError, match=r"model is|takes a function, given|cannot be called so|required positional"
        ):
            create(model, OPTIMIZER, spec, x="x")


def test_a_model_in_place_of_what_makes_it_and_the_other_way_round():
    made = {name: case(name) for name in LIBRARIES}
    refused = {
        "linen": (lambda model: type(model), "model is <class .*: give a flax.linen.Module"),
        "nnx": (
            lambda model: model(jnp.ones((1, 8)), pytest.importorskip("flax.nnx").Rngs(0)),
            r"cannot be called so .* \(spec, rngs\) to an",
        ),
        "equinox": (lambda _: lambda *_: None, "gave None: return an eqx.Module"),
        "haiku": (lambda _: lambda x: x, "the model has no parameters"),
        "keras": (lambda model: model(), "give a function that makes it"),
    }
    for name, (change, said) in refused.items():
        with pytest.raises((TypeError, ValueError), match=said):
            made[name].module.create_state(change(made[name].model), OPTIMIZER, rows(), x="x")


def test_an_error_of_the_model_says_what_it_was_made_for():
    haiku = case("haiku").module

    def failing(x):
        raise ValueError("inner", x)

    with pytest.raises(ValueError, match="inner") as error:
        haiku.create_state(failing, OPTIMIZER, rows(), x="x")
    assert "made the model for examples of 'x': float32[8]; of a pipeline that stacks" in error.value.__notes__[-1]


OTHERS = {
    "shape": ({"x": jnp.ones((BATCH, 9))}, r"'x': float32\[9\]"),
    "rank": ({"x": jnp.ones((BATCH, 8, 1))}, r"'x': float32\[8, 1\]"),
    "dtype": ({"x": jnp.ones((BATCH, 8), jnp.int32)}, r"'x': int32\[8\]"),
    "tree": ({"x": {"y": jnp.ones((BATCH, 8))}}, r"'x'\['y'\]: float32\[8\]"),
    "none": ({"z": jnp.ones((BATCH, 8))}, r"'batch'\['label'\]: int32\[\].*'batch'\['z'\]: float32\[8\]"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_batch_of_another_kind_is_refused_with_both_specs(other):
    linen = case("linen")
    changes, said = OTHERS[other]
    batch = {name: leaf for name, leaf in rows().items() if name != "x"} | changes
    error = rf"the model was created for examples of 'x': float32\[8\], and this batch has {said}.*: give create_state"
    with pytest.raises(tfjax.SpecError, match=error):
        linen.step()(linen.state(), batch)
    with pytest.raises(tfjax.SpecError, match=error):
        linen.evaluate(linen.first, batch)
    with pytest.raises(tfjax.SpecError, match=r"this batch has 'batch'\[0\]: float32"):
        linen.evaluate(linen.first, (jnp.ones((BATCH, 8)),))


def test_another_batch_size_is_no_other_kind(plain):
    batch = {name: leaf[:3] for name, leaf in rows().items()}
    assert float(plain.evaluate(plain.first, batch)["count"]) == 3


def test_keys_in_order():
    assert keys_of("x") == ("x",)
    assert keys_of(("x", {"y": "z"}, 0)) == ("x", "z", 0)
