"""Sources that other people's packages write, and images that they open."""

import gzip
import io
import json
import struct

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from conftest import PHOTOS, patchstream


def rows(folder):
    files = [str(path) for path in sorted(folder.glob("train-*.parquet"))]
    return pyarrow.parquet.read_table(files).to_pylist()


def test_mnist_opens_as_gray_images(tmp_path):
    pixels = numpy.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=numpy.uint8)
    labels = numpy.arange(20, dtype=numpy.uint8) % 10
    source = tmp_path / "mnist"
    source.mkdir()
    with gzip.open(source / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">4I", 2051, *pixels.shape) + pixels.tobytes())
    (source / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 20) + labels.tobytes())
    patchstream("convert", source, tmp_path / "shards", "--order", "sorted", "--check", "decode", "--quiet")
    for row, expected, label in zip(rows(tmp_path / "shards"), pixels, labels, strict=True):
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert image.mode == "L" and row["label"] == label
        assert (numpy.asarray(image) == expected).all()


def test_cifar_opens_as_colour_images(tmp_path):
    planes = numpy.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=numpy.uint8)
    labels = numpy.arange(5, dtype=numpy.uint8)
    source = tmp_path / "data_batch_1.bin"
    source.write_bytes(b"".join(bytes([label]) + plane.tobytes() for label, plane in zip(labels, planes)))
    patchstream("convert", source, tmp_path / "shards", "--order", "sorted", "--check", "decode", "--quiet")
    for row, expected, label in zip(rows(tmp_path / "shards"), planes, labels, strict=True):
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert image.mode == "RGB" and row["label"] == label
        assert (numpy.asarray(image) == expected.transpose(1, 2, 0)).all()


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "lz4", "zstd"])
def test_parquet_of_pyarrow(compression, photographs, tmp_path):
    paths = sorted(photographs)
    names = sorted({name for _, name in photographs.values()})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    table = pyarrow.table(
        {
            "label": [names.index(photographs[path][1]) for path in paths],
            "image": [{"bytes": photographs[path][0], "path": path} for path in paths],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    source = tmp_path / "source.parquet"
    pyarrow.parquet.write_table(table, source, compression=compression, row_group_size=5)
    patchstream("convert", source, tmp_path / "shards", "--quiet")
    found = {row["image"]["path"]: (row["image"]["bytes"], names[row["label"]]) for row in rows(tmp_path / "shards")}
    assert found == photographs


@pytest.mark.heavy
def test_parquet_of_hugging_face_datasets(photographs, tmp_path):
    import datasets

    paths = sorted(photographs)
    names = sorted({name for _, name in photographs.values()})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    columns = {
        "image": [{"bytes": photographs[path][0], "path": None} for path in paths],
        "label": [photographs[path][1] for path in paths],
    }
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "source.parquet"))
    patchstream("convert", tmp_path / "source.parquet", tmp_path / "shards", "--quiet")
    found = {row["image"]["bytes"]: names[row["label"]] for row in rows(tmp_path / "shards")}
    assert found == dict(photographs.values())


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_tars_of_tarfile(suffix, tmp_path):
    import tarfile

    photographs = [path for path in sorted(PHOTOS.rglob("*")) if path.suffix == ".jpg"]
    with tarfile.open(tmp_path / f"set-000.{suffix}", "w:gz" if suffix.endswith("gz") else "w") as tar:
        for number, path in enumerate(photographs):
            # Some names are too long for the header, so they stand in records of their own.
            stem = f"{'long/' * 30 * (number % 2)}{path.stem}"
            for ending, data in (("jpg", path.read_bytes()), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{stem}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    patchstream("convert", tmp_path / f"set-{{000..000}}.{suffix}", tmp_path / "shards", "--quiet")
    found = {row["label"]: row["image"]["bytes"] for row in rows(tmp_path / "shards")}
    assert found == {number: path.read_bytes() for number, path in enumerate(photographs)}
