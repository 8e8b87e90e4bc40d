"""Sources and data sets in an S3 server (moto's), with a network between that fails."""

import gzip
import io
import json
import os
import socket
import subprocess
import tarfile

import pytest

from conftest import PHOTOS, PROGRAM, patchstream

# The server is a large download, so the light part of the tests does without.
boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

from faults import FaultyProxy, black_hole  # noqa: E402

pytestmark = pytest.mark.heavy

KEY, SECRET = "AKIAVERYSECRETKEYID", "aVerySecretAccessKeyThatNobodyMaySee"
FAULTS = ["refused", "lost", "reset", "truncated", "slow", "unavailable"]
SMALL = ["--row-group-mib", "1", "--shard-mib", "1"]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The photographs, often enough for several shards, of which the largest is sent in parts."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(12):
        (folder / f"{number}").symlink_to(PHOTOS)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, many):
    """The port of a server whose bucket `data` holds what `files` makes."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    bucket = bucket_at(port)
    bucket.create()
    for path in sources(tmp_path_factory).rglob("*"):
        if path.is_file():
            bucket.put_object(Key=str(path.relative_to(sources.folder)), Body=path.read_bytes(), ACL="public-read")
    for link in many.iterdir():
        for path in link.resolve().rglob("*.*"):
            bucket.put_object(Key=f"many/{link.name}/{path.relative_to(link.resolve())}", Body=path.read_bytes())
    yield port
    server.stop()


def sources(tmp_path_factory):
    """A folder with the photographs as files with a list, as two tars, one of them packed, and as Parquet."""
    sources.folder = folder = tmp_path_factory.mktemp("sources")
    photographs = [path for path in sorted(PHOTOS.rglob("*")) if path.suffix == ".jpg"]
    for path in photographs:
        copy = folder / "photos" / path.relative_to(PHOTOS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    lines = [f"{path.relative_to(PHOTOS)},{path.parent.name}" for path in photographs]
    listed = ["path,label", *lines, "gone.jpg,", "../out.jpg,"]
    (folder / "photos/list.csv").write_text("\n".join(listed))
    (folder / "tars").mkdir()
    (folder / "tars/photos-000.tar").write_bytes(webdataset(photographs[::2]))
    (folder / "tars/photos-001.tar.gz").write_bytes(gzip.compress(webdataset(photographs[1::2])))
    patchstream("convert", folder / "photos", folder / "parquet", "--format", "folder", *SMALL)
    return folder


def webdataset(photographs):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in photographs:
            for suffix, data in (("jpg", path.read_bytes()), ("cls", str(len(path.stem)).encode())):
                member = tarfile.TarInfo(f"{path.stem}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def bucket_at(port):
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    return session.resource("s3", endpoint_url=f"http://127.0.0.1:{port}").Bucket("data")


def start(port, *arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "3",
        "PATCHSTREAM_LOG": "trace",
        **variables,
    }
    command = [PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process):
    """Waits for the program; whatever it says, with the most talkative of logs, its credentials are not among it."""
    process.out, process.err = process.communicate(timeout=120)
    for secret in (KEY, SECRET):
        assert secret not in process.out + process.err
    return process


def run(port, *arguments, **variables):
    return finish(start(port, *arguments, **variables))


def succeed(port, *arguments, **variables):
    done = run(port, *arguments, **variables)
    assert done.returncode == 0, done.err[-4000:]
    return done.out


def fail(port, expected, *arguments, **variables):
    done = run(port, *arguments, **variables)
    message = "\n".join(line for line in done.err.splitlines() if line.startswith(("error", "hint", "  ")))
    assert done.returncode == 1 and expected in message, done.err[-4000:]
    return message


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def objects(port, prefix):
    found = bucket_at(port).objects.filter(Prefix=f"{prefix}/")
    return {item.key[len(prefix) + 1 :]: item.get()["Body"].read() for item in found}


def test_sources_in_buckets_are_as_sources_here(server, tmp_path):
    for source in ["photos", "photos/list.csv", "tars", "tars/photos-{000.tar,001.tar.gz}", "parquet"]:
        options = [*SMALL, "--format", "folder"] if source == "photos" else SMALL
        remote, local = tmp_path / "remote", tmp_path / "local"
        succeed(server, "convert", f"s3://data/{source}", remote, "--overwrite", *options)
        patchstream("convert", sources.folder / source, local, "--overwrite", *options)
        assert files(remote) == files(local), source


def test_data_sets_in_buckets_are_as_data_sets_here(server, tmp_path):
    options = [*SMALL, "--split", "val=0.4", "--dedupe", "--pixel-stats", "3"]
    arguments = ["convert", PHOTOS, "s3://data/split/shards", *options]
    report = succeed(server, *arguments, "--json")
    expected = patchstream("convert", PHOTOS, tmp_path / "shards", *options, "--json")
    assert json.loads(report) == json.loads(expected)
    assert objects(server, "split/shards") == files(tmp_path / "shards")
    assert "nothing to do" in succeed(server, *arguments)
    fail(server, "--seed was 0, now", *arguments, "--seed", "1")
    fail(server, "it holds splits", "inspect", "s3://data/split/shards")
    fail(server, "already exists", "convert", PHOTOS, "s3://data/split/shards")

    bucket_at(server).put_object(Key="split/shards/notes.txt", Body=b"mine")
    fail(server, "`notes.txt` in it is not part", *arguments, "--seed", "1", "--overwrite")
    bucket_at(server).Object("split/shards/notes.txt").delete()
    succeed(server, "convert", PHOTOS, "s3://data/split/shards", *SMALL, "--overwrite")
    patchstream("convert", PHOTOS, tmp_path / "whole", *SMALL)
    assert objects(server, "split/shards") == files(tmp_path / "whole")


def test_training_reads_from_buckets(server, tmp_path):
    location = "s3://data/parquet"
    local = json.loads(patchstream("inspect", sources.folder / "parquet", "--verify", "--json"))
    remote = json.loads(succeed(server, "inspect", location, "--verify", "--json"))
    assert {**remote, "location": ""} == {**local, "location": ""}
    settings = ["train.steps=2", "train.batch_size=4", "train.log_every=1"]
    options = ["--model", "vit_micro", *(word for setting in settings for word in ("--set", setting))]
    succeed(server, "pretrain", "--data", location, "--out", tmp_path / "remote", *options)
    patchstream("pretrain", "--data", sources.folder / "parquet", "--out", tmp_path / "local", *options)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines() if "loss" in line]
        for run in ("remote", "local")
    ]
    assert losses[0] == losses[1] and losses[0]
    measured = json.loads(succeed(server, "bench", "--data", location, "--batch-size", "4", "--epochs", "1", "--json"))
    assert measured


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_network_changes_no_byte(server, tmp_path, fault):
    proxy = FaultyProxy(server, fault)
    patchstream("convert", sources.folder / "tars", tmp_path / "expected", *SMALL)
    succeed(proxy.port, "convert", "s3://data/tars", tmp_path / "shards", *SMALL)
    assert files(tmp_path / "shards") == files(tmp_path / "expected")
    location = f"s3://data/{fault}/shards"
    succeed(proxy.port, "convert", "s3://data/tars", location, *SMALL)
    assert objects(server, f"{fault}/shards") == files(tmp_path / "expected")
    succeed(proxy.port, "inspect", location, "--verify")
    assert proxy.faults > 10
    proxy.close()


@pytest.mark.parametrize("fault", ["silent", "stalled"])
def test_requests_that_stall_are_given_up_and_sent_again(server, tmp_path, fault):
    proxy = FaultyProxy(server, fault)
    patchstream("convert", sources.folder / "tars", tmp_path / "expected", *SMALL)
    succeed(proxy.port, "convert", "s3://data/tars", tmp_path / "shards", *SMALL, AWS_TIMEOUT="300 ms")
    assert files(tmp_path / "shards") == files(tmp_path / "expected")
    location = f"s3://data/{fault}/shards"
    succeed(proxy.port, "convert", sources.folder / "tars", location, *SMALL, AWS_TIMEOUT="300 ms")
    assert objects(server, f"{fault}/shards") == files(tmp_path / "expected")
    web = f"http://127.0.0.1:{proxy.port}/data/tars/photos-{{000.tar,001.tar.gz}}"
    succeed(proxy.port, "convert", web, tmp_path / "web", *SMALL, HTTP_READ_TIMEOUT="300 ms")
    assert files(tmp_path / "web") == files(tmp_path / "expected")
    assert proxy.faults > 10
    proxy.close()


def test_servers_that_never_answer_are_errors(server, many, tmp_path):
    dead = FaultyProxy(server, "dead")
    short = {"AWS_TIMEOUT": "300 ms", "AWS_MAX_ATTEMPTS": "1"}
    message = fail(dead.port, "cannot read `s3://data/parquet/manifest.parquet`", "inspect", "s3://data/parquet", **short)
    assert "operation timed out" in message and "4 attempts" in message
    fail(dead.port, "cannot look at `s3://data/tars`", "convert", "s3://data/tars", tmp_path / "x", **short)
    fail(dead.port, "operation timed out", "convert", PHOTOS, "s3://data/dead/shards", **short)
    dead.close()
    with black_hole() as port:
        options = {"AWS_CONNECT_TIMEOUT": "300 ms", "AWS_MAX_ATTEMPTS": "1"}
        fail(port, "tcp connect error: deadline has elapsed", "inspect", "s3://data/parquet", **options)
    expected = "the environment variable `AWS_TIMEOUT` cannot be used: expected a time as `30 s`, got `soon`"
    fail(server, expected, "inspect", "s3://data/parquet", AWS_TIMEOUT="soon")
    fail(server, "`AWS_MAX_ATTEMPTS` cannot be used", "inspect", "s3://data/parquet", AWS_MAX_ATTEMPTS="many")


def test_a_conversion_that_stalled_is_resumed(server, many, tmp_path):
    """The server falls silent after the second shard, and stays so."""
    proxy = FaultyProxy(server)

    def fall_silent(method, path):
        if method == "PUT" and path.split("?")[0].endswith("units/00001.json"):
            proxy.fault = "dead"

    proxy.seen = fall_silent
    arguments = ["convert", many, "s3://data/silenced/shards", *SMALL]
    message = fail(proxy.port, "operation timed out", *arguments, AWS_TIMEOUT="500 ms", AWS_MAX_ATTEMPTS="1")
    assert "go on with `--resume`" in message
    proxy.close()
    succeed(server, *arguments, "--resume")
    patchstream("convert", many, tmp_path / "expected", *SMALL)
    assert objects(server, "silenced/shards") == files(tmp_path / "expected")


def test_large_shards_go_in_parts(server, many, tmp_path):
    proxy = FaultyProxy(server, "lost")
    succeed(proxy.port, "convert", many, "s3://data/large/shards")
    patchstream("convert", many, tmp_path / "shards")
    expected = files(tmp_path / "shards")
    assert max(map(len, expected.values())) > 8 << 20
    assert objects(server, "large/shards") == expected
    proxy.close()


def test_killed_conversions_from_buckets_are_resumed(server, many, tmp_path):
    arguments = ["convert", "s3://data/many", tmp_path / "shards", *SMALL]
    for moment in [1, 50, 100, 30]:
        read = []

        def kill_at(method, path):
            if method == "GET" and path.startswith("/data/many/"):
                read.append(path)
                if len(read) == moment:
                    process.kill()

        proxy = FaultyProxy(server, seen=kill_at)
        process = start(proxy.port, *arguments, "--resume")
        # How much was committed before the last kill is a matter of luck, so there may be less left to read.
        assert finish(process).returncode == (-9 if len(read) >= moment else 0)
        proxy.close()
    succeed(server, *arguments, "--resume")
    patchstream("convert", many, tmp_path / "expected", *SMALL)
    assert files(tmp_path / "shards") == files(tmp_path / "expected")


def test_killed_conversions_are_resumed(server, many, tmp_path):
    patchstream("convert", many, tmp_path / "expected", *SMALL)
    arguments = ["convert", many, "s3://data/killed/shards", *SMALL]
    for moment in ["units/conversion.json", "train-00001.parquet", "units/00001.json", "units/00002.json", "manifest.parquet"]:
        killed = []

        def kill_at(method, path):
            if method == "PUT" and path.split("?")[0].endswith(moment):
                killed.append(process)
                process.kill()

        proxy = FaultyProxy(server, seen=kill_at)
        process = start(proxy.port, *arguments, "--resume")
        finish(process)
        assert killed and process.returncode == -9, moment
        proxy.close()
        if moment.startswith("units/0"):
            fail(server, "a conversion to it is not finished", "inspect", "s3://data/killed/shards")
            fail(server, "go on with `--resume`", *arguments)
            fail(server, "--seed was 0, now", *arguments, "--seed", "7", "--resume")
    succeed(server, *arguments, "--resume")
    assert objects(server, "killed/shards") == files(tmp_path / "expected")


def test_no_data_set_is_seen_before_it_is_whole(server, many, tmp_path):
    proxy = FaultyProxy(server, closed=lambda method, path: method == "PUT" and "manifest.parquet" in path)
    arguments = ["convert", many, "s3://data/broken/shards", *SMALL]
    message = fail(proxy.port, "cannot write `s3://data/broken/shards/manifest.parquet`", *arguments)
    assert "go on with `--resume`" in message
    fail(server, "`manifest.parquet` is missing", "inspect", "s3://data/broken/shards")
    sent = objects(server, "broken/shards")
    succeed(server, *arguments, "--resume")
    patchstream("convert", many, tmp_path / "expected", *SMALL)
    now = objects(server, "broken/shards")
    assert now == files(tmp_path / "expected")
    assert {name for name in sent if name.endswith(".parquet")} | {"manifest.parquet"} == set(now)
    proxy.close()


def test_errors_say_what_is_wrong_and_no_secret(server, tmp_path):
    proxy = FaultyProxy(server, "forbidden")
    message = fail(proxy.port, "cannot read", "inspect", "s3://data/parquet")
    assert "[hidden]" in message and "hint: check the endpoint and the credentials" in message
    fail(proxy.port, "cannot look at `s3://data/tars`", "convert", "s3://data/tars", tmp_path / "x")
    fail(proxy.port, "cannot", "convert", PHOTOS, "s3://data/x")
    proxy.close()
    fail(server, "`s3://data/nowhere` does not exist", "convert", "s3://data/nowhere", tmp_path / "x")
    fail(server, "no data set at `s3://data/nowhere`", "inspect", "s3://data/nowhere")
    fail(server, "with a password", "inspect", f"https://joe:{SECRET}@example.com/x")
    # Nobody listens there any more.
    fail(proxy.port, "cannot read", "inspect", "s3://data/parquet")


def test_files_from_the_web(server, tmp_path):
    web = f"http://127.0.0.1:{server}/data"
    for source in ["tars/photos-000.tar", "tars/photos-{000.tar,001.tar.gz}", "parquet/train-00000.parquet", "photos/list.csv"]:
        remote, local = tmp_path / "remote", tmp_path / "local"
        succeed(server, "convert", f"{web}/{source}", remote, "--overwrite", *SMALL)
        patchstream("convert", sources.folder / source, local, "--overwrite", *SMALL)
        assert files(remote) == files(local), source
    fail(server, "the web has no folders to list", "convert", f"{web}/photos/", tmp_path / "x")
    fail(server, "data sets are written to folders, s3://, gs:// or az://", "convert", PHOTOS, f"{web}/x")
