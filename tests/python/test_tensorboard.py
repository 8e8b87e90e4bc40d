"""Event files are what the real TensorBoard reads."""

import io
import json
import shutil

import pytest
from conftest import patchstream

pytestmark = pytest.mark.exchange


def test_scalars_and_pictures_are_there(shards, tmp_path):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    settings = ["train.batch_size=4", "train.log_every=1", "evaluate.every_steps=2", f"evaluate.data={shards}"]
    settings += ["evaluate.pictures=3", "train.steps=5", "checkpoint.every_steps=2"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    patchstream("pretrain", "--data", shards, "--model", "vit_micro", "--out", folder, "--quiet", *overrides)
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scalars = set(events.Tags()["scalars"])
    shown = {"train/loss": "loss", "train/lr": "lr", "train/gradient_norm": "gradient_norm"}
    shown |= {"data/images_per_s": "images_per_s", "data/wait_share": "data_wait_share"}
    shown |= {"data/queue_occupancy": "queue_occupancy", "process/memory_mib": "memory_mib"}
    assert set(shown) <= scalars
    for tag, key in shown.items():
        values = [(event.step, event.value) for event in events.Scalars(tag)]
        assert values == [(line["step"], pytest.approx(line[key], rel=1e-6)) for line in lines], tag

    evaluations = [json.loads(line) for line in (folder / "evaluation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in evaluations] == [2, 4, 5]
    assert [event.step for event in events.Scalars("evaluation/loss")] == [2, 4, 5]
    pictures = events.Images("evaluation/reconstructions")
    assert [event.step for event in pictures] == [2, 4, 5]
    picture = Image.open(io.BytesIO(pictures[0].encoded_image_string))
    assert picture.size == (pictures[0].width, pictures[0].height)


def test_a_run_that_goes_on_replaces_what_it_does_again(shards, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    settings = ["train.batch_size=4", "train.log_every=1", "train.steps=6", "checkpoint.every_steps=2"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    arguments = ["pretrain", "--data", shards, "--model", "vit_micro", "--out", folder, "--quiet", *overrides]
    patchstream(*arguments, "--set", "checkpoint.keep=9")
    shutil.rmtree(folder / "checkpoints" / "step-00000006")
    patchstream("pretrain", "--out", folder, "--resume", "--quiet")
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
