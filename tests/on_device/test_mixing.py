"""mixup and cutmix: partners, shares, padding, and what is refused."""

import jax
import numpy as np
import pytest

from tfjax import on_device
from tfjax.on_device import mixing

COUNT = 48
MIXES = [on_device.mixup("image", "label", 1), on_device.cutmix("image", "label", 1)]
IDS = ["mixup", "cutmix"]


def batch_of(dtype=np.uint8):
    """Images of one colour, another in each row; labels that name the row."""
    image = np.broadcast_to(np.arange(COUNT).reshape(-1, 1, 1, 1) * 5, (COUNT, 12, 8, 3))
    return {"image": image.astype(dtype), "label": np.eye(COUNT, dtype=np.float32)}


def partners_of(label):
    """For each row the other one in its label, or itself, and that one's share."""
    label = np.array(label)
    label[np.diag_indices(COUNT)] = 0
    share = label.max(1)
    return np.where(share > 0, label.argmax(1), np.arange(COUNT)), share


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, "bfloat16"], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_mixup_blends_images_as_labels(dtype, seed):
    batch = batch_of(dtype)
    out = jax.jit(MIXES[0])(batch, jax.random.key(seed))
    partner, share = partners_of(out["label"])
    np.testing.assert_allclose(out["label"].sum(1), 1, atol=1e-6)
    pixels = batch["image"].astype(np.float64)
    share = share.reshape(-1, 1, 1, 1).astype(np.float64)
    expected = (1 - share) * pixels + share * pixels[partner]
    if dtype == np.uint8:
        assert np.array_equal(out["image"], np.round(expected))
    else:
        atol = 255 * (1e-6 if dtype == np.float32 else 0.01)
        np.testing.assert_allclose(np.asarray(out["image"], np.float64), expected, atol=atol)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("seed", range(3))
def test_cutmix_pastes_a_box_of_the_share_of_the_label(dtype, seed):
    batch = batch_of(dtype)
    out = jax.jit(MIXES[1])(batch, jax.random.key(seed))
    partner, share = partners_of(out["label"])
    np.testing.assert_allclose(out["label"].sum(1), 1, atol=1e-6)
    for row in range(COUNT):
        own, other = batch["image"][row], batch["image"][partner[row]]
        pasted = (np.asarray(out["image"][row]) != own).any(-1)
        assert np.array_equal(np.where(pasted[..., None], other, own), out["image"][row])
        assert pasted.mean() == pytest.approx(share[row], abs=1e-6)
        assert np.array_equal(pasted, np.outer(pasted.any(1), pasted.any(0)))
        assert all((np.diff(np.flatnonzero(side)) == 1).all() for side in (pasted.any(1), pasted.any(0)))
    assert len(np.unique(share)) > 10


@pytest.mark.parametrize("mix", MIXES, ids=IDS)
def test_partners_are_a_permutation(mix):
    seen = []
    for seed in range(4):
        label = np.asarray(mix(batch_of(), jax.random.key(seed))["label"])
        partner, share = partners_of(label)
        known = partner[share > 0]
        assert len(np.unique(known)) == len(known) > COUNT // 2
        seen.append(tuple(partner))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("mix", MIXES, ids=IDS)
@pytest.mark.parametrize("real", [slice(0, 30), slice(0, 1), slice(None, None, 2), slice(0, 0)])
def test_padding_is_mixed_with_nothing(mix, real):
    mask = np.zeros(COUNT, bool)
    mask[real] = True
    batch = {**batch_of(), "mask": mask}
    out = jax.jit(mix)(batch, jax.random.key(0))
    assert np.array_equal(out["mask"], mask)
    assert np.array_equal(out["image"][~mask], batch["image"][~mask])
    assert np.array_equal(out["label"][~mask], batch["label"][~mask])
    assert not np.asarray(out["label"])[np.ix_(mask, ~mask)].any()
    partner, share = partners_of(out["label"])
    if mask.sum() > 1:
        assert (share[mask] > 0).sum() > mask.sum() // 2
    assert set(partner[mask]) <= set(np.flatnonzero(mask))


@pytest.mark.parametrize("mix", MIXES, ids=IDS)
def test_a_mask_of_pixels_is_no_padding(mix):
    plain = mix(batch_of(), jax.random.key(0))
    beside = mix({**batch_of(), "mask": np.zeros((COUNT, 12, 8), bool)}, jax.random.key(0))
    assert np.array_equal(plain["image"], beside["image"])


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 2.5, 30.0])
def test_shares_are_drawn_from_beta(alpha):
    """As jax.random.beta draws them: the largest distance of 20,000 is at chance under 0.02."""
    count = 20_000
    ours = np.sort(mixing._beta(jax.random.key(0), alpha, count))
    theirs = np.asarray(jax.random.beta(jax.random.key(1), alpha, alpha, (count,)))
    theirs = np.sort(np.round(theirs * 65536) / 65536)
    assert 0 <= ours.min() <= ours.max() <= 1
    points = np.linspace(0, 1, 1001)
    apart = np.searchsorted(ours, points, "right") - np.searchsorted(theirs, points, "right")
    assert np.abs(apart).max() / count < 0.02


@pytest.mark.parametrize("mix", MIXES, ids=IDS)
def test_labels_of_integers_are_pointed_to_one_hot(mix):
    batch = {**batch_of(), "label": np.arange(COUNT)}
    with pytest.raises(
        TypeError, match=r"'label' is int.*, and only floats .*device_map\(tfjax.on_device.one_hot\('label'"
    ):
        mix(batch, jax.random.key(0))
    out = mix(on_device.one_hot("label", COUNT)(batch), jax.random.key(0))
    assert np.array_equal(out["label"], mix(batch_of(), jax.random.key(0))["label"])


@pytest.mark.parametrize("mix", MIXES, ids=IDS)
def test_one_example_cannot_be_mixed(mix):
    one = {key: leaf[0] for key, leaf in batch_of().items()}
    with pytest.raises(
        TypeError, match=r"shape \(12, 8, 3\), .* whole batch, so call random_device_map without per_ex"
    ):
        mix(one, jax.random.key(0))


@pytest.mark.parametrize("mix", MIXES, ids=IDS)
def test_labels_have_the_rows_of_the_images(mix):
    with pytest.raises(TypeError, match=r"'label' has shape \(3, 48\) and 'image' \(48, 12, 8, 3\): both need a row"):
        mix({**batch_of(), "label": np.eye(COUNT, dtype=np.float32)[:3]}, jax.random.key(0))


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_alpha_is_above_0(alpha):
    with pytest.raises(ValueError, match=r"mixup: alpha is .*: it is a finite number above 0"):
        on_device.mixup("image", "label", alpha)
