"""Shards are ordinary Parquet: every reader gives the same images and labels."""

import io
import json

import pyarrow.parquet
import pytest
from PIL import Image


def table_of(shards):
    return pyarrow.parquet.read_table([str(path) for path in sorted(shards.glob("train-*.parquet"))])


def features_of(shards):
    schema = pyarrow.parquet.read_schema(next(iter(sorted(shards.glob("train-*.parquet")))))
    return json.loads(schema.metadata[b"huggingface"])["info"]["features"]


def check(rows, names, photographs):
    """`rows`: (path, bytes, class number) of each row."""
    found = {path: (data, names[label]) for path, data, label in rows}
    assert found == photographs


def test_pyarrow(shards, photographs):
    rows = table_of(shards).to_pylist()
    names = features_of(shards)["label"]["names"]
    check([(row["image"]["path"], row["image"]["bytes"], row["label"]) for row in rows], names, photographs)


def test_sizes_are_those_of_the_images(shards):
    for row in table_of(shards).to_pylist():
        assert (row["width"], row["height"]) == Image.open(io.BytesIO(row["image"]["bytes"])).size


def test_image_pages_are_stored_as_they_are(shards):
    metadata = pyarrow.parquet.read_metadata(next(iter(sorted(shards.glob("train-*.parquet")))))
    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    compression = {column.path_in_schema: column.compression for column in columns}
    assert compression["image.bytes"] == "UNCOMPRESSED"
    assert compression["label"] == "ZSTD"


def test_manifest_says_where_row_groups_lie(shards):
    manifest = pyarrow.parquet.read_table(shards / "manifest.parquet").to_pylist()
    position = 0
    for entry in manifest:
        metadata = pyarrow.parquet.read_metadata(shards / entry["file"])
        groups = [e for e in manifest if e["file"] == entry["file"]]
        group = metadata.row_group(groups.index(entry))
        assert group.num_rows == entry["rows"]
        starts = [group.column(i).dictionary_page_offset or group.column(i).data_page_offset for i in range(group.num_columns)]
        sizes = [group.column(i).total_compressed_size for i in range(group.num_columns)]
        assert entry["offset"] == min(starts)
        assert entry["length"] == sum(sizes)
        position += entry["rows"]
    assert position == table_of(shards).num_rows


@pytest.mark.heavy
def test_hugging_face_datasets(shards, photographs):
    import datasets

    loaded = datasets.load_dataset("parquet", data_files=str(shards / "train-*.parquet"), split="train")
    assert isinstance(loaded.features["image"], datasets.Image)
    names = loaded.features["label"].names
    assert loaded[0]["image"].convert("RGB").size == (loaded[0]["width"], loaded[0]["height"])
    encoded = loaded.cast_column("image", datasets.Image(decode=False))
    check([(row["image"]["path"], row["image"]["bytes"], row["label"]) for row in encoded], names, photographs)


@pytest.mark.heavy
def test_duckdb(shards, photographs):
    import duckdb

    query = f"select image.path, image.bytes, label from '{shards}/train-*.parquet'"
    check(duckdb.sql(query).fetchall(), features_of(shards)["label"]["names"], photographs)


@pytest.mark.heavy
def test_polars(shards, photographs):
    import polars

    frame = polars.read_parquet(shards / "train-*.parquet")
    rows = [(row["image"]["path"], row["image"]["bytes"], row["label"]) for row in frame.to_dicts()]
    check(rows, features_of(shards)["label"]["names"], photographs)
