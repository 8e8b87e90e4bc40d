"""Shards with raw pixels, restart segments and splits are as ordinary as all others."""

import io

import pyarrow.parquet
import pytest
from conftest import PHOTOS, patchstream
from PIL import Image


@pytest.fixture(scope="session")
def split(tmp_path_factory):
    """Photographs with an index of restart segments, in two splits."""
    folder = tmp_path_factory.mktemp("data") / "split"
    patchstream("convert", PHOTOS, folder, "--tile-index", "--split", "validation=0.4", "--quiet")
    return folder


def files(folder):
    return {name: str(folder / name / f"{name}-*.parquet") for name in ("train", "validation")}


def test_segments_stand_behind_their_markers(split):
    rows = pyarrow.parquet.read_table(sorted(split.glob("*/*-00000.parquet"))[0]).to_pylist()
    for row in rows:
        image, offsets = row["image"]["bytes"], row["jpeg_segments"]
        assert len(offsets) > 10
        for number, offset in enumerate(offsets[1:]):
            assert image[offset - 2 : offset] == bytes([0xFF, 0xD0 + number % 8])


def test_an_index_changes_no_pixel(split):
    for path in split.glob("*/*-00000.parquet"):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            with Image.open(io.BytesIO(row["image"]["bytes"])) as ours, Image.open(PHOTOS / row["image"]["path"]) as theirs:
                assert ours.tobytes() == theirs.tobytes()
                assert ours.getexif() == theirs.getexif()


def test_raw_images_are_pictures(tmp_path):
    patchstream("convert", PHOTOS, tmp_path / "raw", "--encode", "raw", "--max-side", 100, "--zstd", 3, "--quiet")
    rows = pyarrow.parquet.read_table(tmp_path / "raw/train-00000.parquet").to_pylist()
    assert len(rows) == 12
    for row in rows:
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            assert (image.format, image.size) == ("PPM", (row["width"], row["height"]))
            assert max(image.size) == 100


@pytest.mark.heavy
def test_hugging_face_opens_splits_with_segments(split):
    import datasets

    loaded = datasets.load_dataset("parquet", data_files=files(split))
    assert loaded["train"].num_rows + loaded["validation"].num_rows == 12
    row = loaded["train"][0]
    assert row["image"].size == (row["width"], row["height"]) and len(row["jpeg_segments"]) > 10


@pytest.mark.heavy
def test_duckdb_and_polars_read_segments(split):
    import duckdb
    import polars

    pattern = files(split)["train"]
    counted = duckdb.sql(f"select sum(len(jpeg_segments)) from '{pattern}'").fetchall()[0][0]
    assert counted == polars.read_parquet(pattern)["jpeg_segments"].list.len().sum()
