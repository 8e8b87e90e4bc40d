"""Sources and data sets in an S3 server (moto's), with a network between that fails."""

import io
import json
import os
import subprocess
import tarfile

import boto3
import pytest
from moto.server import ThreadedMotoServer

from conftest import PHOTOS, PROGRAM, patchstream
from faults import FaultyProxy

KEY, SECRET = "AKIAVERYSECRETKEYID", "aVerySecretAccessKeyThatNobodyMaySee"
FAULTS = ["refused", "reset", "truncated", "slow", "unavailable"]
SMALL = ["--row-group-mib", "1", "--shard-mib", "1"]


@pytest.fixture(scope="module")
def server():
    """A server with the photographs as two tars, and as files, in the bucket `data`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    bucket = bucket_at(port)
    bucket.create()
    photographs = [path for path in sorted(PHOTOS.rglob("*")) if path.suffix == ".jpg"]
    for number in range(2):
        bucket.put_object(Key=f"tars/photos-{number:03}.tar", Body=webdataset(photographs[number::2]))
    for path in photographs:
        bucket.put_object(Key=f"files/{path.relative_to(PHOTOS)}", Body=path.read_bytes())
    yield port
    server.stop()


def bucket_at(port):
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    return session.resource("s3", endpoint_url=f"http://127.0.0.1:{port}").Bucket("data")


def webdataset(photographs):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in photographs:
            for suffix, data in (("jpg", path.read_bytes()), ("cls", str(len(path.stem)).encode())):
                member = tarfile.TarInfo(f"{path.stem}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def run(port, *arguments):
    """Runs the program against the S3 server at a port; whatever happens, it must keep the credentials to itself."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "3",
        "PATCHSTREAM_LOG": "debug",
    }
    command = [PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    for secret in (KEY, SECRET):
        assert secret not in done.stdout + done.stderr
    return done


def succeed(port, *arguments):
    done = run(port, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """What the tars become when nothing fails."""
    folder = tmp_path_factory.mktemp("undisturbed") / "shards"
    succeed(server, "convert", "s3://data/tars/photos-{000..001}.tar", folder, *SMALL)
    return files(folder)


def test_folders_in_buckets_are_as_folders_here(server, tmp_path):
    succeed(server, "convert", "s3://data/files", tmp_path / "remote", *SMALL)
    patchstream("convert", PHOTOS, tmp_path / "local", *SMALL)
    assert files(tmp_path / "remote") == files(tmp_path / "local")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_network_changes_no_byte(server, undisturbed, fault, tmp_path):
    proxy = FaultyProxy(server, fault)
    location = f"s3://data/{fault}/shards"
    succeed(proxy.port, "convert", "s3://data/tars", tmp_path / "shards", *SMALL)
    assert files(tmp_path / "shards") == undisturbed
    succeed(proxy.port, "convert", "s3://data/tars", location, *SMALL)
    sent = {item.key.rsplit("/", 1)[1]: item.get()["Body"].read() for item in bucket_at(server).objects.filter(Prefix=f"{fault}/")}
    assert sent == undisturbed
    verified = json.loads(succeed(proxy.port, "inspect", location, "--verify", "--json"))
    assert "damaged" not in verified or not verified["damaged"]
    assert proxy.faults > 0
    proxy.close()


def test_no_data_set_is_seen_before_it_is_whole(server):
    proxy = FaultyProxy(server, "no_manifest")
    location = "s3://data/broken/shards"
    done = run(proxy.port, "convert", "s3://data/tars", location, *SMALL)
    assert done.returncode == 1 and "cannot write `s3://data/broken/shards" in done.stderr
    assert "manifest.parquet` is missing" in run(server, "inspect", location).stderr
    proxy.close()
    succeed(server, "convert", "s3://data/tars", location, *SMALL)
    assert "already exists" in run(server, "convert", "s3://data/tars", location, *SMALL).stderr
    succeed(server, "convert", "s3://data/tars", location, "--limit", 2, "--overwrite")
    assert json.loads(succeed(server, "inspect", location, "--json"))["rows"] == 2


def test_errors_say_what_is_wrong_and_no_secret(server, tmp_path):
    def check(port, arguments, expected):
        done = run(port, *arguments)
        assert done.returncode == 1 and expected in done.stderr and "hint:" in done.stderr, done.stderr

    proxy = FaultyProxy(server, "forbidden")
    check(proxy.port, ["inspect", "s3://data/tars"], "InvalidAccessKeyId")
    check(proxy.port, ["convert", "s3://data/tars", tmp_path / "x"], "[hidden]")
    proxy.close()
    check(server, ["convert", "s3://data/nowhere", tmp_path / "x"], "`s3://data/nowhere` does not exist")
    check(server, ["inspect", "s3://data/nowhere"], "no data set at `s3://data/nowhere`")
    check(server, ["inspect", f"https://joe:{SECRET}@example.com/x"], "credentials belong in the environment")
    # Nobody listens there any more.
    check(proxy.port, ["inspect", "s3://data/tars"], "cannot read")


def test_files_from_the_web(server, undisturbed, tmp_path):
    bucket_at(server).Acl().put(ACL="public-read")
    source = f"http://127.0.0.1:{server}/data/tars/photos-{{000..001}}.tar"
    succeed(server, "convert", source, tmp_path / "shards", *SMALL)
    assert files(tmp_path / "shards") == undisturbed
    refused = run(server, "convert", tmp_path / "shards", f"http://127.0.0.1:{server}/data/x")
    assert refused.returncode == 1 and "data sets are written to folders, s3://, gs:// or az://" in refused.stderr
