"""Memory of a conversion that decodes very large images."""

import os
import subprocess
import sys

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
    options = ["--encode", "jpeg", "--max-side", "500", "--check", "decode", "--workers", "4", "--on-bad", "fail", "--quiet"]
    process = os.posix_spawn(PROGRAM, [str(PROGRAM), "convert", str(images), str(tmp_path / "out"), *options], os.environ)
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert used.ru_maxrss * 1024 < MEMORY_BYTES_MAX
