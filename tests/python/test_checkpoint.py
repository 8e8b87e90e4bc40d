"""Weights are safetensors under the published MAE names."""

import json

import safetensors.numpy


def newest(run):
    return sorted((run / "checkpoints").iterdir())[-1]


def test_names_and_shapes_are_the_published_ones(run):
    weights = safetensors.numpy.load_file(newest(run) / "weights.safetensors")
    width, decoder_width, patches, patch = 192, 96, 64, 4
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    assert shapes["patch_embed.proj.weight"] == (width, 3, patch, patch)
    assert shapes["pos_embed"] == (1, patches + 1, width)
    assert shapes["blocks.0.attn.qkv.weight"] == (3 * width, width)
    assert shapes["decoder_blocks.1.mlp.fc2.bias"] == (decoder_width,)
    assert shapes["decoder_pred.weight"] == (patch * patch * 3, decoder_width)


def test_moments_stand_beside_the_weights(run):
    weights = safetensors.numpy.load_file(newest(run) / "weights.safetensors")
    moments = safetensors.numpy.load_file(newest(run) / "adamw.safetensors")
    trained = {name for name in weights if not name.endswith("pos_embed")}
    assert set(moments) == {f"{kind}.{name}" for kind in ("exp_avg", "exp_avg_sq") for name in trained}


def test_metrics_have_a_line_a_step(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert {"epoch", "loss", "lr", "images_per_s", "data_wait_share"} <= set(lines[0])
