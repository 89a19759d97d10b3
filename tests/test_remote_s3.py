"""Remote stores on S3, against an implementation of it on loopback."""

import json
import pickle

import numpy as np
import pytest
from store_sources import random_source, write

import cgbench
from cgbench.errors import IntegrityError, UsageError
from cgbench.store import open_store, verify_store

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

SHARD = "stores/toy.zarr/coordinates/c/1/0/0"
URL = "s3://{}/stores/toy.zarr"


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="module")
def client(endpoint):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="root",
        aws_secret_access_key="root",
        region_name="us-east-1",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("s3") / "toy.zarr"
    write(path)
    return path


def upload(client, bucket, folder, acl):
    client.create_bucket(Bucket=bucket)
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"stores/toy.zarr/{file.relative_to(folder).as_posix()}"
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ACL=acl)


@pytest.fixture(scope="module")
def buckets(client, folder):
    upload(client, "public", folder, "public-read")
    upload(client, "private", folder, "private")


@pytest.fixture
def scratch(client, folder, request):
    bucket = f"scratch-{abs(hash(request.node.name)) % 10**8}"
    upload(client, bucket, folder, "public-read")
    return bucket


@pytest.mark.parametrize("anonymous", [{"anon": True}, {}])
def test_a_public_bucket_needs_no_credentials(endpoint, buckets, folder, anonymous):
    remote = open_store(
        URL.format("public"), storage_options={"endpoint_url": endpoint, **anonymous}
    )
    expected = random_source()
    assert np.array_equal(remote.coordinates(), expected.coordinates)
    assert np.array_equal(remote.forces(5, 37, "slice"), expected.forces["slice"][5:37])
    assert remote.manifest == open_store(folder).manifest
    assert verify_store(remote).problems == ()
    again = pickle.loads(pickle.dumps(remote))
    assert np.array_equal(again.coordinates(15, 18), expected.coordinates[15:18])
    view = cgbench.open(URL.format("public"), storage_options={"endpoint_url": endpoint})
    assert np.array_equal(view.forces_slice.values, expected.forces["slice"])


def test_a_private_bucket_needs_them(endpoint, buckets):
    with pytest.raises(UsageError, match="refuses access") as error:
        open_store(URL.format("private"), storage_options={"endpoint_url": endpoint, "anon": True})
    assert "storage_options" in error.value.message
    remote = open_store(
        URL.format("private"),
        storage_options={"endpoint_url": endpoint, "key": "root", "secret": "root"},
    )
    assert np.array_equal(remote.coordinates(), random_source().coordinates)


def test_credentials_of_the_environment(endpoint, buckets, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "root")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "root")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    remote = open_store(URL.format("private"))
    assert np.array_equal(remote.coordinates(), random_source().coordinates)


def test_wrong_credentials_are_said_and_not_shown(endpoint, buckets, client):
    import httpx

    user = boto_user(endpoint)
    right = {"key": user["AccessKeyId"], "secret": user["SecretAccessKey"]}
    httpx.post(f"{endpoint}/moto-api/reset-auth", content="0").raise_for_status()
    try:
        for wrong in ({"secret": "guess-hush"}, {"key": "AKIAGUESS", "secret": "guess-hush"}):
            with pytest.raises(UsageError, match="refuses access") as error:
                open_store(
                    URL.format("private"),
                    storage_options={"endpoint_url": endpoint, **right, **wrong},
                )
            assert "hush" not in error.value.message
        remote = open_store(
            URL.format("private"), storage_options={"endpoint_url": endpoint, **right}
        )
        assert np.array_equal(remote.coordinates(0, 9), random_source().coordinates[:9])
        assert right["secret"] not in repr(remote) + repr(vars(remote))
    finally:
        httpx.post(f"{endpoint}/moto-api/reset-auth", content="inf").raise_for_status()


def boto_user(endpoint):
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        aws_access_key_id="root",
        aws_secret_access_key="root",
        region_name="us-east-1",
    )
    iam.create_user(UserName="reader")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
    }
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(policy))
    return iam.create_access_key(UserName="reader")["AccessKey"]


def test_a_missing_a_short_and_a_damaged_object(endpoint, client, scratch, folder):
    options = {"endpoint_url": endpoint, "anon": True}
    remote = open_store(URL.format(scratch), storage_options=options)
    content = (folder / SHARD.partition("zarr/")[2]).read_bytes()

    def put(body):
        client.put_object(Bucket=scratch, Key=SHARD, Body=body, ACL="public-read")

    for body in (content[:100], content[:-1], content[:40] + b"\0\0\0" + content[43:]):
        put(body)
        with pytest.raises(IntegrityError):
            pickle.loads(pickle.dumps(remote)).coordinates(16, 24)
        assert verify_store(remote).problems
    client.delete_object(Bucket=scratch, Key=SHARD)
    with pytest.raises(IntegrityError, match="missing on the server"):
        remote.coordinates(0, 40)
    put(content)
    assert np.array_equal(remote.coordinates(), random_source().coordinates)


def test_a_store_that_changed_after_it_was_opened(endpoint, client, scratch):
    options = {"endpoint_url": endpoint, "anon": True}
    remote = open_store(URL.format(scratch), storage_options=options)
    key = "stores/toy.zarr/manifest.json"
    client.put_object(Bucket=scratch, Key=key, Body=b"{}", ACL="public-read")
    with pytest.raises(IntegrityError, match="has changed since it was opened"):
        remote.coordinates(0, 1)
    with pytest.raises(IntegrityError, match="manifest"):
        open_store(URL.format(scratch), storage_options=options)


def test_whole_files_are_kept_in_a_cache(endpoint, client, scratch, tmp_path):
    options = {"endpoint_url": endpoint, "anon": True}
    url = URL.format(scratch)
    expected = random_source().coordinates
    first = open_store(url, cache=tmp_path, storage_options=options)
    assert np.array_equal(first.coordinates(), expected)
    client.delete_object(Bucket=scratch, Key=SHARD)
    again = open_store(url, cache=tmp_path, storage_options=options)
    assert np.array_equal(again.coordinates(), expected)


def test_a_server_that_is_not_there_and_wrong_options():
    with pytest.raises(UsageError, match="does not answer"):
        open_store(
            URL.format("public"),
            storage_options={
                "endpoint_url": "http://127.0.0.1:9",
                "anon": True,
                "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1},
            },
        )
    with pytest.raises(UsageError, match=r"s3://public|storage options"):
        open_store(URL.format("public"), storage_options={"anon": True, "colour": "red"})


def test_without_the_extra_the_command_is_named(monkeypatch):
    import importlib

    original = importlib.import_module

    def missing(name, *arguments):
        if name == "s3fs":
            raise ImportError("No module named 's3fs'")
        return original(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'cgbench\[cloud\]'"):
        open_store("s3://public/toy.zarr")
