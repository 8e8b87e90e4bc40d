"""Memory of a conversion that decodes very large images."""

import os

import pytest

from conftest import PROGRAM

pytestmark = pytest.mark.heavy

MEMORY_BYTES_MAX = 500 << 20


def test_images_of_a_hundred_megapixels_are_encoded_anew_in_500_mib(tmp_path):
    image = pytest.importorskip("PIL.Image")
    small = image.radial_gradient("L").convert("RGB")
    large = small.resize((10_000, 10_000), image.Resampling.BICUBIC)
    images = tmp_path / "images"
    images.mkdir()
    large.save(images / "baseline.jpg", quality=90)
    large.save(images / "progressive.jpg", quality=90, progressive=True)
    for number in range(2):
        for name in ("baseline", "progressive"):
            os.link(images / f"{name}.jpg", images / f"{name}-{number}.jpg")
    options = ["--encode", "jpeg", "--max-side", "500", "--check", "decode", "--workers", "4", "--on-bad", "fail", "--quiet"]
    process = os.posix_spawn(PROGRAM, [str(PROGRAM), "convert", str(images), str(tmp_path / "out"), *options], os.environ)
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert used.ru_maxrss * 1024 < MEMORY_BYTES_MAX
