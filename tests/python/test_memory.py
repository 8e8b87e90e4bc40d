"""Memory of a conversion that decodes very large images."""

import os
import struct
import subprocess
import sys
import zlib

import pytest

from conftest import PROGRAM

pytestmark = pytest.mark.heavy

MEMORY_BYTES_MAX = 500 << 20


# In a process of its own: what the parent of a process holds counts as memory of the process, too.
MAKE_IMAGES = """
import sys
from PIL import Image
large = Image.radial_gradient("L").convert("RGB").resize((10_000, 10_000), Image.Resampling.BICUBIC)
for name, is_progressive in (("baseline", False), ("progressive", True)):
    large.save(f"{sys.argv[1]}/{name}.jpg", quality=90, progressive=is_progressive)
"""


def test_images_of_a_hundred_megapixels_are_encoded_anew_in_500_mib(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    subprocess.run([sys.executable, "-c", MAKE_IMAGES, str(images)], check=True)
    for name in ("baseline", "progressive"):
        for number in range(2):
            os.link(images / f"{name}.jpg", images / f"{name}-{number}.jpg")
    assert memory_of_converting(images, tmp_path / "out") < MEMORY_BYTES_MAX


# Adam7: first column and step, first row and step.
PASSES = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]


def png_with_alpha_and_16_bits(side, is_interlaced):
    """Written by hand, since Pillow writes neither."""
    packed, rows = zlib.compressobj(1), []
    for left, columns_step, top, rows_step in PASSES if is_interlaced else [(0, 1, 0, 1)]:
        row = bytes(1 + 8 * -(-(side - left) // columns_step))
        rows += [packed.compress(row) for _ in range(top, side, rows_step)]
    header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, is_interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", b"".join(rows) + packed.flush()), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_png_of_a_hundred_megapixels_takes_500_mib_with_alpha_and_16_bits(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for is_interlaced in (False, True):
        (images / f"{is_interlaced}.png").write_bytes(png_with_alpha_and_16_bits(10_000, is_interlaced))
    assert memory_of_converting(images, tmp_path / "out") < MEMORY_BYTES_MAX


def memory_of_converting(images, destination):
    options = ["--encode", "jpeg", "--max-side", "500", "--check", "decode", "--workers", "4", "--on-bad", "fail", "--quiet"]
    process = os.posix_spawn(PROGRAM, [str(PROGRAM), "convert", str(images), str(destination), *options], os.environ)
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_maxrss * 1024
