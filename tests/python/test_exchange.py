"""Exported weights load in timm and transformers and give the same numbers; theirs are a start for our runs."""

import json

import numpy
import pytest
from conftest import patchstream
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.exchange

TOLERANCE = 1e-4


@pytest.fixture(scope="session", params=["pixels", "normalized_patches"])
def trained(request, shards, tmp_path_factory):
    """A run long enough that no two weights are alike by accident, with either target."""
    folder = tmp_path_factory.mktemp("exchange") / "run"
    settings = ["train.steps=20", "train.batch_size=6", "train.lr=1e-3", f"model.target={request.param}"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    patchstream("pretrain", "--data", shards, "--model", "vit_micro", "--out", folder, "--quiet", *overrides)
    return folder


@pytest.fixture(scope="session")
def ours(trained, shards):
    """Images, masks and what our model makes of them."""
    tensors = trained.parent / "ours.safetensors"
    picture = trained.parent / "picture.png"
    files = ["--out", picture, "--tensors", tensors]
    report = patchstream("reconstruct", "--checkpoint", trained, "--data", shards, "--images", 8, "--json", *files)
    return load_file(tensors) | {"loss": json.loads(report)["loss"]}


def export(run, to):
    folder = run.parent / to
    if not folder.exists():
        patchstream("export", "--checkpoint", run, "--to", to, "--out", folder)
    return folder


def start_from(weights, shards, folder, *settings):
    """One step at a rate of 0 from these weights; what was said, and the weights that came out, which did not move."""
    settings = ["train.steps=1", "train.batch_size=2", "train.lr=0", *settings]
    overrides = [word for setting in settings for word in ("--set", setting)]
    out = ["--out", folder, "--init", weights]
    said = patchstream("pretrain", "--data", shards, "--model", "vit_micro", *out, *overrides, "--quiet")
    return said, newest_weights(folder)


def newest_weights(run):
    return load_file(sorted((run / "checkpoints").iterdir())[-1] / "weights.safetensors")


def largest(ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return numpy.abs(ours - theirs).max()


def test_transformers_computes_what_we_compute(trained, ours):
    import torch
    from transformers import ViTMAEForPreTraining

    model, info = ViTMAEForPreTraining.from_pretrained(export(trained, "huggingface"), output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    # The patches with the lowest noise stay visible, in that order; ours ascend.
    mask = torch.tensor(ours["mask"])
    noise = mask + torch.arange(mask.shape[1]) / mask.shape[1] / 2
    with torch.no_grad():
        out = model.eval()(torch.tensor(ours["images"]), noise=noise, output_hidden_states=True)
        latent = model.vit(torch.tensor(ours["images"]), noise=noise).last_hidden_state
    assert torch.equal(out.mask, mask)
    assert largest(ours["latent"], latent) < TOLERANCE
    assert largest(ours["prediction"], out.logits) < TOLERANCE
    assert abs(ours["loss"] - out.loss.item()) < TOLERANCE


def test_timm_computes_the_features_that_we_compute(trained, ours, shards):
    import pyarrow.parquet
    import timm
    import torch
    from safetensors.torch import load_file as load_torch

    folder = export(trained, "timm")
    arguments = json.loads((folder / "config.json").read_text())["model_args"]
    model = timm.models.vision_transformer.VisionTransformer(**arguments).eval()
    model.load_state_dict(load_torch(folder / "model.safetensors"), strict=True)
    # `features` resizes and crops as `reconstruct` does, and its rows are found by their sample ids.
    picture = ["--out", trained.parent / "p.png", "--images", 8, "--json"]
    report = json.loads(patchstream("reconstruct", "--checkpoint", trained, "--data", shards, *picture))
    with torch.no_grad():
        tokens = model.forward_features(torch.tensor(ours["images"]))
    pooled = {"class": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}
    pooled["both"] = torch.cat([pooled["class"], pooled["mean"]], 1)
    for pool, expected in pooled.items():
        table = trained.parent / f"{pool}.parquet"
        patchstream("features", "--checkpoint", trained, "--data", shards, "--pool", pool, "--out", table)
        rows = pyarrow.parquet.read_table(table).to_pydict()
        vectors = dict(zip(rows["sample_id"], rows["embedding"], strict=True))
        got = numpy.array([vectors[sample] for sample in report["sample_ids"]], dtype=numpy.float32)
        assert largest(got, expected) < TOLERANCE


def test_published_names_are_our_own(trained):
    weights, checkpoint = load_file(export(trained, "mae") / "model.safetensors"), newest_weights(trained)
    assert weights.keys() == checkpoint.keys()
    assert all(numpy.array_equal(weights[name], checkpoint[name]) for name in weights)


@pytest.mark.parametrize("layout", ["mae", "timm", "huggingface"])
def test_a_run_starts_from_what_was_exported(trained, shards, layout, tmp_path):
    said, after = start_from(export(trained, layout) / "model.safetensors", shards, tmp_path / "run")
    assert ("no decoder" in said) == (layout == "timm")
    for name, tensor in newest_weights(trained).items():
        if layout != "timm" or not (name.startswith("decoder") or name == "mask_token"):
            assert numpy.array_equal(tensor, after[name]), name


def test_another_grid_gets_positions_of_its_own(trained, shards, tmp_path):
    source, weights = tmp_path / "weights.safetensors", newest_weights(trained)
    save_file(weights | {"head.weight": numpy.zeros((10, 192), dtype=numpy.float32)}, source)
    said, after = start_from(source, shards, tmp_path / "run", "model.image_height_px=48")
    assert "made for this grid: pos_embed, decoder_pos_embed" in said
    assert "not used: head.weight" in said
    assert after["pos_embed"].shape == (1, 1 + 12 * 8, 192)
    assert numpy.array_equal(after["blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"])
