"""Writers of image data sets, measured on one folder of images beside `patchstream convert`.

    python3 benchmarks/writers.py --images FOLDER [--peers FOLDER] [--rounds 5] [--results benchmarks/results/NAME.json]

FOLDER has a folder a class. The writers take turns, round by round, on two workers where they have any; each begins without
its destination. Of a peer the time of its process is measured, and the part of it that it spends writing, behind start and
imports. What `tar` and `patchstream` write is on the disk at the end (fsync); peers leave that to the system. The peers'
environments lie in `--peers`; one that is missing is made with pip there.
"""

import argparse
import glob
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# Environment -> what pip installs there, call by call. FFCV is compiled, for which the system needs libopencv-dev,
# libturbojpeg0-dev and pkg-config (Debian).
ENVIRONMENTS = {
    "v_ffcv": [
        "torch==2.11.0 torchvision==0.26.0",
        "numpy<2 numba opencv-python-headless terminaltables fastargs assertpy tqdm psutil setuptools wheel",
        "--no-deps pytorch_pfn_extras",
        "--no-deps --no-build-isolation --no-binary :all: ffcv==1.0.2",
    ],
    "v_mds": ["mosaicml-streaming==0.13.0"],
    "v_lit": ["litdata==0.2.76"],
    "v_wds": ["webdataset==1.0.2"],
    "v_hf": ["datasets==5.2.0 pillow==13.0.0"],
}
KEEPING = ["tar", "patchstream", "ffcv_bytes", "mds", "litdata", "huggingface", "webdataset"]
ENCODING = ["patchstream_jpeg", "ffcv_jpeg"]
MAX_SIDE, QUALITY = 500, 90
MINUTES_MAX = 10


def files(images):
    return sorted(path for path in glob.glob(images + "/*/*") if os.path.isfile(path))


def samples(images):
    paths = files(images)
    classes = {name: number for number, name in enumerate(sorted({os.path.dirname(path) for path in paths}))}
    for path in paths:
        yield path, classes[os.path.dirname(path)]


def content(path):
    with open(path, "rb") as file:
        return file.read()


# Each peer imports what it needs and gives back a function that writes, and its version.


def ffcv_writer(field, dataset, out, workers):
    from ffcv.fields import IntField
    from ffcv.writer import DatasetWriter

    writer = DatasetWriter(out + ".beton", {"image": field, "label": IntField()}, num_workers=workers)
    with open(os.devnull, "w") as sink:
        shown, sys.stdout = sys.stdout, sink
        writer.from_indexed_dataset(dataset, chunksize=100)
        sys.stdout = shown


def ffcv_bytes(images, out, workers):
    from importlib.metadata import version

    import numpy
    from ffcv.fields import BytesField

    class Files:
        samples = list(samples(images))

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            path, label = self.samples[index]
            return numpy.frombuffer(content(path), dtype=numpy.uint8), label

    return lambda: ffcv_writer(BytesField(), Files(), out, workers), version("ffcv")


def ffcv_jpeg(images, out, workers):
    from importlib.metadata import version

    from ffcv.fields import RGBImageField
    from torchvision.datasets import ImageFolder

    field = RGBImageField(write_mode="jpg", max_resolution=MAX_SIDE, jpeg_quality=QUALITY)
    return lambda: ffcv_writer(field, ImageFolder(images), out, workers), version("ffcv")


def mds(images, out, workers):
    import streaming

    def write():
        with streaming.MDSWriter(out=out, columns={"jpeg": "bytes", "label": "int"}) as writer:
            for path, label in samples(images):
                writer.write({"jpeg": content(path), "label": label})

    return write, streaming.__version__


def lit_sample(item):
    path, label = item
    return {"image": content(path), "label": label}


def litdata(images, out, workers):
    from importlib.metadata import version

    import litdata

    def write():
        litdata.optimize(
            fn=lit_sample, inputs=list(samples(images)), output_dir=out, num_workers=workers, chunk_bytes="64MB"
        )

    return write, version("litdata")


def huggingface(images, out, workers):
    import datasets

    def write():
        paths, labels = zip(*samples(images))
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        pictures = datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features)
        # Without this, as `push_to_hub` does it, the file would hold paths alone.
        pictures = pictures.with_format("arrow").map(
            datasets.table.embed_table_storage, batched=True, batch_size=100, keep_in_memory=True
        )
        pictures.with_format(None).to_parquet(out + ".parquet")

    datasets.disable_progress_bars()
    return write, datasets.__version__


def webdataset(images, out, workers):
    from importlib.metadata import version

    import webdataset as wds

    def write():
        os.makedirs(out)
        with wds.ShardWriter(out + "/%03d.tar", maxsize=256 << 20, verbose=0) as writer:
            for number, (path, label) in enumerate(samples(images)):
                writer.write({"__key__": f"{number:09d}", "jpg": content(path), "cls": label})

    return write, version("webdataset")


PEERS = {
    "ffcv_bytes": ("v_ffcv", ffcv_bytes),
    "ffcv_jpeg": ("v_ffcv", ffcv_jpeg),
    "mds": ("v_mds", mds),
    "litdata": ("v_lit", litdata),
    "huggingface": ("v_hf", huggingface),
    "webdataset": ("v_wds", webdataset),
}


def write_as(name, images, out, workers):
    """Runs in the peer's environment."""
    write, version = PEERS[name][1](images, out, workers)
    started = time.perf_counter()
    write()
    print("\n" + json.dumps({"writing_s": time.perf_counter() - started, "version": version}))


def python_of(peers, environment):
    python = os.path.join(peers, environment, "bin/python")
    if not os.path.exists(python):
        folder = os.path.join(peers, environment)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for packages in ENVIRONMENTS[environment]:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages.split()], check=True)
    return python


def command_of(name, options, out):
    if name == "tar":
        return ["sh", "-c", 'tar -cf "$2" -C "$1" . && sync "$2"', "sh", options.images, out + ".tar"]
    if name.startswith("patchstream"):
        encode = ["--encode", "jpeg", "--max-side", MAX_SIDE, "--quality", QUALITY] if name.endswith("jpeg") else []
        return [options.program, "convert", options.images, out, "--workers", options.workers, "--quiet", *encode]
    python = python_of(options.peers, PEERS[name][0])
    return [python, __file__, "--images", options.images, "--workers", options.workers, "--write", name, "--out", out]


def measure(name, options, folder):
    """Seconds, CPU seconds and bytes of one writer."""
    out = os.path.join(folder, "out")
    command = list(map(str, command_of(name, options, out)))
    # What the one before has left to write must not count against this one.
    os.sync()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES_MAX)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{name} failed: {done.stderr[-2000:]}")
    told = {} if name == "tar" or name.startswith("patchstream") else json.loads(done.stdout.splitlines()[-1])
    written = sum(os.path.getsize(path) for path in glob.glob(folder + "/**", recursive=True) if os.path.isfile(path))
    for path in glob.glob(folder + "/*"):
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    return {
        "seconds": seconds,
        "writing_s": told.get("writing_s", seconds),
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "bytes": written,
        "version": told.get("version"),
    }


def table(names, ours, rounds):
    print("| writer | s | without start and imports | CPU s | MB | times ours | without start and imports |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        runs = [turn[name] for turn in rounds]
        median = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "writing_s", "cpu_s", "bytes")}
        ratios = []
        for key in ("seconds", "writing_s"):
            turns = [turn[name][key] / turn[ours]["seconds"] for turn in rounds]
            ratios.append(f"{statistics.median(turns):.2f} ({min(turns):.2f} to {max(turns):.2f})")
        seconds = f"{median['seconds']:.2f} | {median['writing_s']:.2f} | {median['cpu_s']:.2f}"
        print(f"| {name} {runs[0]['version'] or ''} | {seconds} | {median['bytes'] / 1e6:.0f} | {' | '.join(ratios)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--peers", default="peers")
    parser.add_argument("--program", default="target/release/patchstream")
    parser.add_argument("--temporary", default=None, help="where to write; on the disk that shall be measured")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="some writers alone")
    parser.add_argument("--results", help="JSON with every run")
    parser.add_argument("--write", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        return write_as(options.write, options.images, options.out, options.workers)

    names = [name for name in KEEPING + ENCODING if not options.only or name in options.only]
    for name in names:
        if name in PEERS:
            python_of(options.peers, PEERS[name][0])
    rounds, load = [], []
    with tempfile.TemporaryDirectory(dir=options.temporary) as folder:
        for number in range(options.rounds):
            load.append(os.getloadavg()[0])
            rounds.append({name: measure(name, options, folder) for name in names})
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    for group, ours in ((KEEPING, "patchstream"), (ENCODING, "patchstream_jpeg")):
        if ours in names:
            table([name for name in group if name in names], ours, rounds)
    if options.results:
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
        machine = {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "load_before_rounds": load}
        images = {"folder": options.images, "count": len(files(options.images))}
        report = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "machine": machine, "images": images}
        with open(options.results, "w") as file:
            json.dump({**report, "workers": options.workers, "rounds": rounds}, file, indent=1)


if __name__ == "__main__":
    main()
