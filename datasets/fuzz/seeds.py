"""Writes a small whole file of every kind into a corpus: the beginnings that fuzzing starts from.

usage: python3 seeds.py CORPUS (with the program built, and the photographs of the tests beside)
"""

import gzip
import io
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "target/release/patchstream"


def tar(members, **options):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", **options) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def zstd_frame(content):
    """A frame of one block that is not compressed (RFC 8878): a single segment with its size in two bytes."""
    sizes = struct.pack("<H", len(content) - 256) + struct.pack("<I", len(content) << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd\x60" + sizes + content


def main(corpus):
    def write(target, name, content):
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    members = [("a/1.jpg", b"one"), ("a/1.cls", b"7"), ("2.json", b'{"label": 3}'), ("2.png", bytes(99)), ("x" * 150 + ".jpg", b"long")]
    for name, options in (("gnu", {"format": tarfile.GNU_FORMAT}), ("pax", {"format": tarfile.PAX_FORMAT})):
        write("tar", name, tar(members, **options))
        write("packed_tar", f"{name}.gz", gzip.compress(tar(members, **options)))
        write("packed_tar", f"{name}.zst", zstd_frame(tar(members, **options)))
    idx = struct.pack(">IIII", 0x803, 2, 2, 3) + bytes(12)
    write("idx", "plain", idx)
    write("idx", "packed", gzip.compress(idx))
    write("cifar", "10", b"\0" + bytes(3073 * 2))
    write("cifar", "100", b"\1" + bytes(3074))
    write("list", "csv", b'\0path,label\na.jpg,cat\n"b ""c"".jpg",dog\n')
    write("list", "tsv", b"\1path\tlabel\na.jpg\t1\n")
    write("list", "jsonl", b'\2{"path": "a.jpg", "label": 1}\n{"path": "b.jpg"}\n')
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        digits = ROOT / "tests/data/photos"
        smallest = sorted((path for path in digits.rglob("*.jpg")), key=lambda path: path.stat().st_size)[:3]
        for number, path in enumerate(smallest):
            (folder / f"images/{number % 2}").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / f"images/{number % 2}/{number}.jpg")
        for name, options in (("jpeg", []), ("raw", ["--zstd", "3"])):
            kind = ["--encode", name, "--max-side", "16", *options, *(["--tile-index=1"] if name == "jpeg" else [])]
            subprocess.run([PROGRAM, "convert", folder / "images", folder / name, "--quiet", *kind], check=True)
            shard = (folder / name / "train-00000.parquet").read_bytes()
            write("parquet", name, shard)
            footer = struct.unpack("<I", shard[-8:-4])[0]
            length = len(shard) - 8 - footer - 4
            write("shard", name, struct.pack("<BBBB", 3, 0, 4, 0) + struct.pack("<I", length) + shard)
            write("manifest", name, (folder / name / "manifest.parquet").read_bytes())


main(pathlib.Path(sys.argv[1]))
