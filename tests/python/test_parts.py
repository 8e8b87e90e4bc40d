"""Parts of a conversion in an S3 server (moto's) and here, and the data sets that are made of them."""

import json

import pytest

pytest.importorskip("boto3")
pytest.importorskip("moto.server")

from conftest import patchstream  # noqa: E402
from faults import FaultyProxy, answer  # noqa: E402
from test_remote import SMALL, bucket_at, fail, files, finish, many, objects, server, start, succeed  # noqa: E402, F401

pytestmark = pytest.mark.heavy

EVERYTHING = ["--split", "val=0.3", "--dedupe", "--tile-index", "--pixel-stats", "5"]


def convert_parts(port, source, name, folder, options):
    """Three parts, of which the second lies here."""
    parts = [f"s3://data/{name}/part1", folder / "part2", f"s3://data/{name}/elsewhere/part 3"]
    for number, part in enumerate(parts, 1):
        arguments = ["convert", source, part, *SMALL, *options, "--part", f"{number}/3", "--json"]
        report = json.loads(succeed(port, *arguments))
        assert not report["unchanged"]
        assert json.loads(succeed(port, *arguments)) == {**report, "unchanged": True}
    return parts


def contents(port, place):
    return objects(port, str(place).removeprefix("s3://data/")) if str(place).startswith("s3://") else files(place)


@pytest.mark.parametrize("name, options", [("plain", []), ("everything", EVERYTHING)])
def test_merged_parts_are_what_one_machine_makes(server, many, tmp_path, name, options):
    """Every request fails the first time, some before and some after it was done."""
    one = json.loads(patchstream("convert", many, tmp_path / "one", *SMALL, *options, "--json"))
    assert one["shards"] >= 4
    proxy = FaultyProxy(server, "lost" if options else "truncated")
    parts = convert_parts(proxy.port, many, name, tmp_path, options)
    before = [contents(server, part) for part in parts]
    for destination in [f"s3://data/{name}/whole", tmp_path / "whole"]:
        merge = ["merge", parts[2], parts[0], parts[1], "--out", destination, "--json", "--temporary", tmp_path]
        assert json.loads(succeed(proxy.port, *merge)) == one
        assert contents(server, destination) == files(tmp_path / "one")
        assert json.loads(succeed(server, *merge)) == {**one, "unchanged": True}
        assert "nothing to do" in succeed(server, "convert", many, destination, *SMALL, *options)
    assert before == [contents(server, part) for part in parts]
    assert proxy.faults > 10
    proxy.close()


def kill_when_written(port, moment, arguments):
    """Starts a command, and kills it when the server has got an object whose name ends so."""
    killed = []

    def kill_at(method, path):
        if method == "PUT" and path.split("?")[0].endswith(moment):
            killed.append(process)
            process.kill()

    proxy = FaultyProxy(port, seen=kill_at)
    process = start(proxy.port, *arguments)
    finish(process)
    assert killed and process.returncode == -9, moment
    proxy.close()


def test_killed_parts_are_resumed(server, many, tmp_path):
    options = [*SMALL, "--part", "2/2"]
    succeed(server, "convert", many, "s3://data/undisturbed/part", *options)
    expected = objects(server, "undisturbed/part")
    records = sorted(name for name in expected if name.startswith("units/0"))
    arguments = ["convert", many, "s3://data/killed/part", *options]
    for moment in ["units/conversion.json", *records[:-1], records[-1].replace("units/", "train-").replace("json", "parquet")]:
        kill_when_written(server, moment, [*arguments, "--resume"])
        if moment.startswith("units/0"):
            fail(server, "go on with `--resume`", *arguments)
            fail(server, "--seed was 0, now 7", *arguments, "--seed", "7", "--resume")
            fail(server, "--part was 2/2, now not given", *arguments[:-2], "--resume")
            message = fail(server, "part `s3://data/killed/part` is incomplete", "merge", "s3://data/killed/part", "--out", "x")
            assert "finish it with the same command and `--resume`" in message
    succeed(server, *arguments, "--resume")
    assert objects(server, "killed/part") == expected
    assert "nothing to do" in succeed(server, *arguments)
    fail(server, "it is a part: `patchstream merge`", "inspect", "s3://data/killed/part")
    fail(server, "part 1 of 2 is missing beside it", "merge", "s3://data/killed/part", "--out", "s3://data/killed/x")
    fail(server, "--part was 2/2, now 1/2", "convert", many, "s3://data/killed/part", *SMALL, "--part", "1/2")
    succeed(server, "convert", many, "s3://data/killed/part", *SMALL, "--part", "1/2", "--overwrite")
    succeed(server, "merge", "s3://data/killed/part", "s3://data/undisturbed/part", "--out", tmp_path / "whole")
    patchstream("convert", many, tmp_path / "expected", *SMALL)
    assert files(tmp_path / "whole") == files(tmp_path / "expected")


def test_killed_merges_go_on(server, many, tmp_path):
    options = [*SMALL, "--split", "val=0.3", "--tile-index"]
    patchstream("convert", many, tmp_path / "one", *options)
    parts = []
    for number in (1, 2):
        parts.append(tmp_path / f"part{number}")
        patchstream("convert", many, parts[-1], *options, "--part", f"{number}/2")
    before = list(map(files, parts))
    merge = ["merge", *parts, "--out", "s3://data/stopped/whole"]
    for moment in ["units/conversion.json", "units/00000.json", "val-00002.parquet", "units/00003.json", "train/manifest.parquet"]:
        kill_when_written(server, moment, merge)
        fail(server, "or the merge" if "manifest" not in moment else "it holds splits", "inspect", "s3://data/stopped/whole")
    sent = []
    proxy = FaultyProxy(server, seen=lambda method, path: sent.append(path) if method == "PUT" else None)
    succeed(proxy.port, *merge)
    proxy.close()
    assert not any("-0000" in path for path in sent), "what was merged is not sent again"
    assert objects(server, "stopped/whole") == files(tmp_path / "one")
    assert before == list(map(files, parts))

    # A store that fails for good, on the way to this machine and with parts from there.
    for part in parts:
        for name, content in files(part).items():
            bucket_at(server).put_object(Key=f"stopped/{part.name}/{name}", Body=content)
    far = [f"s3://data/stopped/{part.name}" for part in parts]
    proxy = FaultyProxy(server, closed=lambda method, path: "train-00007.parquet" in path)
    merge = ["merge", *far, "--out", tmp_path / "whole"]
    message = fail(proxy.port, "cannot read `s3://data/stopped/part2/train/train-00007.parquet`", *merge, AWS_MAX_ATTEMPTS="1")
    assert "7 shards are merged: the same command goes on" in message
    proxy.close()
    succeed(server, *merge)
    assert files(tmp_path / "whole") == files(tmp_path / "one")


def test_a_store_that_cannot_copy_gets_the_bytes(server, many, tmp_path):
    parts = convert_parts(server, many, "uncopied", tmp_path, [])
    proxy = FaultyProxy(server)
    forward, refused = proxy.forward, []

    def refuse_copies(handler, body, fault):
        if handler.headers.get("x-amz-copy-source"):
            refused.append(handler.path)
            return answer(handler, 501, b"<Error><Code>NotImplemented</Code></Error>")
        return forward(handler, body, fault)

    proxy.forward = refuse_copies
    succeed(proxy.port, "merge", *parts, "--out", "s3://data/uncopied/whole", AWS_MAX_ATTEMPTS="1")
    proxy.close()
    assert refused, "shards of parts in the same bucket are copied by the store"
    patchstream("convert", many, tmp_path / "one", *SMALL)
    assert objects(server, "uncopied/whole") == files(tmp_path / "one")
