"""Peer for the pipeline: torchvision's fastest antialiased path, as PyTorch users run it today.

    python torchvision_loader.py PHOTOS --workers 2 --epochs 3

PHOTOS is a folder of class folders. decode_image, then v2.RandomResizedCrop(224, bicubic, antialias) and a flip, uint8
out, batches of 64. Prints one JSON line: images/s (median of the measured epochs, after one that is not) and CPU time of
the whole process tree an image. Needs torch and torchvision.
"""

import argparse
import json
import os
import statistics
import time

import torch
import torchvision
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2


def read(path):
    return torchvision.io.decode_image(torchvision.io.read_file(path), mode=torchvision.io.ImageReadMode.RGB)


def cpu_seconds():
    """User and system time of this process and of those that it started, which must still run."""
    ticks = 0
    for process in [os.getpid(), *map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())]:
        fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photos")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crop = v2.RandomResizedCrop(224, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True)
    images = ImageFolder(arguments.photos, v2.Compose([crop, v2.RandomHorizontalFlip()]), loader=read)
    loader = torch.utils.data.DataLoader(
        images, batch_size=64, shuffle=True, num_workers=arguments.workers, persistent_workers=True
    )
    rates, cpu = [], 0.0
    for epoch in range(arguments.epochs + 1):
        started, cpu_started = time.perf_counter(), cpu_seconds() if epoch else 0.0
        count = sum(len(batch) for batch, _ in loader)
        if epoch:
            rates.append(count / (time.perf_counter() - started))
            cpu += cpu_seconds() - cpu_started
    print(json.dumps(dict(
        peer=f"torchvision.io {torchvision.__version__}",
        images_per_s=round(statistics.median(rates), 1),
        cpu_us_per_image=round(1e6 * cpu / (count * arguments.epochs), 1),
        workers=arguments.workers,
    )))


if __name__ == "__main__":
    main()
