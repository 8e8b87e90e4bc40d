"""Loaders that people use today, measured on one folder of images: `patchstream bench --compare` runs this.

    python peers.py PEER --images FOLDER --temporary FOLDER [--workers 2] [--epochs 3] [--batch-size 64] [--image-px 224]

FOLDER has a folder a class. PEER is one of the functions at the end of this file. Each does what its own documentation
recommends for pre-training: a random crop of 20 to 100% of the image, resized, a flip, uint8 out. Prints one JSON line:
images/s (median of the measured epochs, after one that is not) and the CPU time of the whole process tree an image. Exits
with 3 if the peer is not installed.
"""

import argparse
import contextlib
import glob
import json
import os
import statistics
import sys
import time

NOT_INSTALLED = 3
OPTIONS = None


def files():
    return sorted(path for path in glob.glob(OPTIONS.images + "/*/*") if os.path.isfile(path))


def cpu_seconds():
    """User and system time of this process, of all below it, and of those that have ended."""
    ticks, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        try:
            fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
            for children in glob.glob(f"/proc/{process}/task/*/children"):
                waiting += map(int, open(children).read().split())
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(name, note, epoch):
    """`epoch()` goes through all images once and yields the size of each batch."""
    rates, cpu, images = [], 0.0, 0
    for number in range(OPTIONS.epochs + 1):
        started, cpu_started = time.perf_counter(), cpu_seconds()
        count = sum(epoch())
        if number:
            rates.append(count / (time.perf_counter() - started))
            cpu += cpu_seconds() - cpu_started
            images += count
    print(json.dumps(dict(
        name=name,
        images_per_s=round(statistics.median(rates), 1),
        cpu_us_per_image=round(1e6 * cpu / images, 1),
        note=note,
    )))


def torch_loader(dataset, **more):
    import torch

    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=OPTIONS.batch_size, num_workers=OPTIONS.workers, persistent_workers=True, **more
    )

    def epoch():
        for batch, _ in loader:
            yield len(batch)

    return epoch


def pillow_transform(image_px):
    import numpy
    import torch
    from torchvision import transforms

    return transforms.Compose([
        transforms.RandomResizedCrop(
            image_px, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
        ),
        transforms.RandomHorizontalFlip(),
        lambda image: torch.from_numpy(numpy.array(image)),
    ])


def pillow_decode(encoded):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert("RGB")


def samples():
    """Bytes and class of every image, mixed once, for formats of shards."""
    import random

    paths = files()
    random.Random(1).shuffle(paths)
    classes = sorted({os.path.basename(os.path.dirname(path)) for path in paths})
    for path in paths:
        yield open(path, "rb").read(), classes.index(os.path.basename(os.path.dirname(path)))


def stack(batch):
    import torch

    return torch.stack([image for image, _ in batch]), torch.tensor([label for _, label in batch])


def torchvision_io():
    import torchvision
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import InterpolationMode, v2

    def read(path):
        return torchvision.io.decode_image(torchvision.io.read_file(path), mode=torchvision.io.ImageReadMode.RGB)

    crop = v2.RandomResizedCrop(
        OPTIONS.image_px, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    images = ImageFolder(OPTIONS.images, v2.Compose([crop, v2.RandomHorizontalFlip()]), loader=read)
    measure(f"torchvision.io {torchvision.__version__}", "bicubic, antialiased", torch_loader(images, shuffle=True))


def torchvision_pillow():
    import PIL
    import torchvision
    from torchvision.datasets import ImageFolder

    images = ImageFolder(OPTIONS.images, pillow_transform(OPTIONS.image_px))
    name = f"torchvision {torchvision.__version__} + Pillow {PIL.__version__}"
    measure(name, "bicubic, antialiased", torch_loader(images, shuffle=True))


def ffcv(mode):
    from importlib.metadata import version

    import ffcv.fields.decoders as decoders
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor
    from ffcv.writer import DatasetWriter
    from torchvision.datasets import ImageFolder

    path = OPTIONS.temporary + "/set.beton"
    image = RGBImageField(write_mode=mode, max_resolution=500, jpeg_quality=90)
    writer = DatasetWriter(path, {"image": image, "label": IntField()}, num_workers=OPTIONS.workers)
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        writer.from_indexed_dataset(ImageFolder(OPTIONS.images), chunksize=100)
    crop = RandomResizedCropRGBImageDecoder((OPTIONS.image_px,) * 2, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3))
    loader = Loader(
        path,
        batch_size=OPTIONS.batch_size,
        num_workers=OPTIONS.workers,
        order=OrderOption.QUASI_RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={
            "image": [crop, RandomHorizontalFlip(), ToTensor()],
            "label": [decoders.IntDecoder(), ToTensor(), Squeeze()],
        },
        seed=1,
    )

    def epoch():
        for batch, _ in loader:
            yield len(batch)

    measure(f"FFCV {version('ffcv')} {mode}", "area, no antialiased bicubic; stored anew at 500 px, quality 90", epoch)


def dali():
    import nvidia.dali as dali
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def
    def images():
        encoded, label = fn.readers.file(
            file_root=OPTIONS.images, random_shuffle=True, initial_fill=1024, name="reader", file_filters=["*.*"]
        )
        image = fn.decoders.image_random_crop(
            encoded, device="cpu", output_type=types.RGB, random_area=[0.2, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
        )
        image = fn.resize(
            image, size=[OPTIONS.image_px] * 2, interp_type=types.INTERP_CUBIC, antialias=True
        )
        return fn.flip(image, horizontal=fn.random.coin_flip(probability=0.5)), label

    pipe = images(
        batch_size=OPTIONS.batch_size, num_threads=OPTIONS.workers, device_id=None, seed=1, prefetch_queue_depth=2
    )
    pipe.build()
    size = pipe.reader_meta("reader")["epoch_size"]

    def epoch():
        seen = 0
        while seen < size:
            batch, _ = pipe.run()
            seen += len(batch)
            yield len(batch)

    measure(f"DALI {dali.__version__}, CPU", "cubic, antialiased", epoch)


def tfdata():
    os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "", "2"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(OPTIONS.workers)
    tf.config.threading.set_inter_op_parallelism_threads(OPTIONS.workers)

    def load(path):
        encoded = tf.io.read_file(path)
        box, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.zeros([1, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.2, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.io.decode_and_crop_jpeg(encoded, tf.concat([box[:2], size[:2]], 0), channels=3)
        image = tf.image.resize(image, [OPTIONS.image_px] * 2, method="bicubic", antialias=True)
        image = tf.image.random_flip_left_right(image)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)

    # It decodes a part of JPEGs only, so images of another format, whatever their name says, are left out.
    paths = [path for path in files() if open(path, "rb").read(2) == b"\xff\xd8"]
    images = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths), reshuffle_each_iteration=True).repeat()
    images = images.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    # One iterator for all epochs: ending one can take seconds, which would be counted.
    batches = iter(images.batch(OPTIONS.batch_size).prefetch(2))

    def epoch():
        for _ in range(max(1, len(paths) // OPTIONS.batch_size)):
            yield int(next(batches).shape[0])

    measure(f"tf.data {tf.__version__}", "bicubic, antialiased", epoch)


def spdl():
    import math
    import random
    from importlib.metadata import version

    import spdl.io
    from spdl.pipeline import PipelineBuilder

    random_numbers, px = random.Random(1), OPTIONS.image_px

    def box(width, height):
        for _ in range(10):
            area = width * height * random_numbers.uniform(0.2, 1)
            ratio = math.exp(random_numbers.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return random_numbers.randint(0, width - w), random_numbers.randint(0, height - h), w, h
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side

    def decode(path):
        packets = spdl.io.demux_image(path)
        x, y, w, h = box(packets.width, packets.height)
        flip = ",hflip" if random_numbers.random() < 0.5 else ""
        crop = f"crop={w}:{h}:{x}:{y}:exact=1,scale={px}:{px}:flags=bicubic{flip},format=pix_fmts=rgb24"
        return spdl.io.decode_packets(packets, filter_desc=crop)

    def batch(frames):
        return spdl.io.to_numpy(spdl.io.convert_frames(frames))

    def epoch():
        paths = files()
        random_numbers.shuffle(paths)
        pipeline = (
            PipelineBuilder()
            .add_source(paths)
            .pipe(decode, concurrency=OPTIONS.workers)
            .aggregate(OPTIONS.batch_size)
            .pipe(batch)
            .add_sink(3)
            .build(num_threads=OPTIONS.workers, max_failures=10)
        )
        with pipeline.auto_stop():
            for images in pipeline:
                yield len(images)

    measure(f"SPDL {version('spdl')}", "FFmpeg, bicubic before conversion to RGB", epoch)


def webdataset():
    from importlib.metadata import version

    import webdataset as wds

    # Every worker needs a shard of its own.
    size = sum(map(os.path.getsize, files())) / (2 * OPTIONS.workers)
    with wds.ShardWriter(OPTIONS.temporary + "/%03d.tar", maxsize=min(30e6, size), verbose=0) as writer:
        for number, (encoded, label) in enumerate(samples()):
            writer.write({"__key__": f"{number:09d}", "jpg": encoded, "cls": label})
    transform, tars = pillow_transform(OPTIONS.image_px), sorted(glob.glob(OPTIONS.temporary + "/*.tar"))
    images = wds.WebDataset(tars, shardshuffle=100, nodesplitter=None).shuffle(1000).to_tuple("jpg", "cls")
    images = images.map_tuple(lambda encoded: transform(pillow_decode(encoded)), int)
    measure(f"WebDataset {version('webdataset')}", "Pillow, bicubic", torch_loader(images, collate_fn=stack))


def mosaicml():
    import streaming

    folder = OPTIONS.temporary + "/mds"
    with streaming.MDSWriter(out=folder, columns={"jpeg": "bytes", "label": "int"}) as writer:
        for encoded, label in samples():
            writer.write({"jpeg": encoded, "label": label})
    transform = pillow_transform(OPTIONS.image_px)

    class Images(streaming.StreamingDataset):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return transform(pillow_decode(sample["jpeg"])), sample["label"]

    streaming.base.util.clean_stale_shared_memory()
    images = Images(local=folder, shuffle=True, batch_size=OPTIONS.batch_size)
    name = f"MosaicML Streaming {streaming.__version__}"
    measure(name, "Pillow, bicubic", torch_loader(images, collate_fn=stack))


def litdata_sample(sample):
    encoded, label = sample
    return {"jpeg": encoded, "label": label}


def litdata():
    from importlib.metadata import version

    import litdata

    folder = OPTIONS.temporary + "/lit"
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
        litdata.optimize(litdata_sample, list(samples()), folder, num_workers=OPTIONS.workers, chunk_bytes="16MB")
    transform = pillow_transform(OPTIONS.image_px)

    class Images(litdata.StreamingDataset):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return transform(pillow_decode(sample["jpeg"])), sample["label"]

    # Writing has changed how processes are started by default.
    how = {"num_workers": OPTIONS.workers, "persistent_workers": True, "multiprocessing_context": "fork"}
    images = Images(folder, shuffle=True)
    loader = litdata.StreamingDataLoader(images, batch_size=OPTIONS.batch_size, collate_fn=stack, **how)

    def epoch():
        for batch, _ in loader:
            yield len(batch)

    measure(f"LitData {version('litdata')}", "Pillow, bicubic", epoch)


PEERS = {
    "torchvision-io": torchvision_io,
    "torchvision-pillow": torchvision_pillow,
    "ffcv-jpg": lambda: ffcv("jpg"),
    "ffcv-raw": lambda: ffcv("raw"),
    "dali": dali,
    "tfdata": tfdata,
    "spdl": spdl,
    "webdataset": webdataset,
    "mosaicml": mosaicml,
    "litdata": litdata,
}


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--images", required=True)
    parser.add_argument("--temporary", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-px", type=int, default=224)
    OPTIONS = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        PEERS[OPTIONS.peer]()
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)


if __name__ == "__main__":
    main()
