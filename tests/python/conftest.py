"""A data set and a trained run, made by the program itself, that the tests open with other people's packages."""

import json
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "target/release/patchstream"
PHOTOS = ROOT / "tests/data/photos"


def patchstream(*arguments):
    """Runs the program and gives back its standard output."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Shards of the photographs, small enough that there are several files and row groups."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    patchstream("convert", PHOTOS, folder, "--row-group-mib", 1, "--shard-mib", 1, "--quiet")
    return folder


@pytest.fixture(scope="session")
def run(shards, tmp_path_factory):
    """A run of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = ["train.steps=3", "train.batch_size=4", "train.log_every=1"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    patchstream("pretrain", "--data", shards, "--model", "vit_micro", "--out", folder, "--quiet", *overrides)
    return folder


@pytest.fixture(scope="session")
def photographs():
    """Path relative to the source -> (bytes, class name), of every photograph."""
    files = [path for path in sorted(PHOTOS.rglob("*")) if path.is_file() and path.suffix != ".md"]
    return {str(path.relative_to(PHOTOS)): (path.read_bytes(), path.relative_to(PHOTOS).parts[0]) for path in files}


def class_names(shards):
    return json.loads(patchstream("inspect", shards, "--json"))["classes"]
