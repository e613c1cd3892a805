"""Clients of registries and services, each against a TLS server that takes only the right token."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lab.clients import VENV, client, real_tool, run
from lab.servers.tls import Answer, Call, Guarded, Reply, open_guarded
from lab.support import BIN, Home, pitchpoint_config
from lab.worlds.vendor import Vendor

pytestmark = pytest.mark.clients


Serving = AbstractContextManager[Guarded]


def serve(home: Home, vendor: Vendor, answers: Mapping[str, Answer], *challenges: str) -> Serving:
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    return open_guarded(
        home.path,
        is_live=vendor.world.is_live,
        answers=answers,
        challenges=challenges or ('Basic realm="r"',),
    )


def configure(home: Home, vendor: Vendor, server: Guarded, more: str = "") -> None:
    home.configure(pitchpoint_config(vendor.address, more=f'hosts = ["{server.host}"]\n{more}'))


def setup(home: Home, name: str, *words: str) -> None:
    done = home.run("setup", name, "pitchpoint", *words)
    assert done.code == 0, done.err


def only_live_tokens_came(server: Guarded, vendor: Vendor) -> bool:
    sent = server.sent_tokens()
    return (
        bool(sent)
        and all(vendor.world.is_live(token) for token in sent)
        and vendor.count("sign-in") == 1
    )


# docker and skopeo.

CONFIG = b"{}"
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": len(CONFIG),
        "digest": f"sha256:{hashlib.sha256(CONFIG).hexdigest()}",
    },
    "layers": [],
}
REGISTRY: Mapping[str, Answer] = {
    "/v2/": {},
    "/v2/x/y/manifests/latest": lambda _call: Reply(
        json.dumps(MANIFEST).encode(),
        kind=str(MANIFEST["mediaType"]),
        headers={
            "Docker-Content-Digest": (
                f"sha256:{hashlib.sha256(json.dumps(MANIFEST).encode()).hexdigest()}"
            )
        },
    ),
    "/v2/x/y/blobs/*": CONFIG,
}


def test_docker_inspects_logs_in_and_out(home: Home, vendor: Vendor) -> None:
    docker = client("docker")
    with serve(home, vendor, REGISTRY) as server:
        configure(home, vendor, server)
        setup(home, "docker")
        home.environment["SSL_CERT_FILE"] = str(server.ca_file)
        shown = run(home, docker, "manifest", "inspect", f"{server.host}/x/y:latest").out
        assert json.loads(shown)["schemaVersion"] == 2
        assert only_live_tokens_came(server, vendor)
        token = home.run("token", "pitchpoint").out.strip()
        (home.path / "password").write_text(token)
        logged_in = run(
            home,
            "sh",
            "-c",
            f"{docker} login -u x --password-stdin {server.host} < {home.path}/password",
            code=1,
        )
        assert "nightporter stores no passwords" in logged_in.text
        run(home, docker, "logout", server.host)
        assert home.cached() == []
        vendor.world.users = {}
        home.run("logout", "pitchpoint", "--everywhere")
        assert (
            "no basic auth credentials"
            in run(home, docker, "manifest", "inspect", f"{server.host}/x/y:latest", code=1).text
        )
        assert "docker failed" in home.run("status", "pitchpoint").out  # what docker kept to itself


def test_skopeo_asks_the_helper_and_shows_its_failures(home: Home, vendor: Vendor) -> None:
    skopeo = client("skopeo")
    with serve(home, vendor, REGISTRY) as server:
        configure(home, vendor, server)
        setup(home, "docker")
        policy = home.path / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        home.environment["SSL_CERT_FILE"] = str(server.ca_file)
        command = (
            *(skopeo, "--policy", str(policy), "inspect", "--raw"),
            *(
                "--authfile",
                str(home.path / ".docker/config.json"),
                f"docker://{server.host}/x/y:latest",
            ),
        )
        assert json.loads(run(home, *command).out)["schemaVersion"] == 2
        assert only_live_tokens_came(server, vendor)
        vendor.world.users = {}
        home.run("logout", "pitchpoint", "--everywhere")
        assert "refused the sign-in" in run(home, *command, code=1).text


# cargo.

CRATE = {
    "name": "toycrate",
    "vers": "1.0.0",
    "deps": [],
    "features": {},
    "yanked": False,
    "cksum": "0" * 64,
}


def test_cargo_reads_publishes_logs_in_and_out(home: Home, vendor: Vendor) -> None:
    cargo = real_tool("cargo")

    def config(_call: Call) -> Answer:
        return {"dl": f"{server.address}/dl", "api": server.address, "auth-required": True}

    answers = {
        "/index/config.json": config,
        "/index/to/yc/toycrate": json.dumps(CRATE).encode(),
        "/api/v1/crates/new": {
            "warnings": {"invalid_categories": [], "invalid_badges": [], "other": []}
        },
    }
    with serve(home, vendor, answers, 'Cargo login_url="https://localhost/me"') as server:
        configure(home, vendor, server)
        home.environment |= {
            "CARGO_HOME": str(home.path / "cargo"),
            "CARGO_HTTP_CAINFO": str(server.ca_file),
            "RUSTC": real_tool("rustc"),
        }
        setup(home, "cargo")
        package = home.path / "package"
        (package / "src").mkdir(parents=True)
        (package / ".cargo").mkdir()
        (package / "src/lib.rs").write_text("")
        (package / ".cargo/config.toml").write_text(
            f'[registries.toy]\nindex = "sparse+{server.address}/index/"\n'
        )
        (package / "Cargo.toml").write_text(
            '[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2021"\ndescription ='
            ' "d"\nlicense = "MIT"\n[dependencies]\ntoycrate = { version = "1", registry ='
            ' "toy" }\n'
        )
        run(home, cargo, "generate-lockfile", cwd=package)
        assert "toycrate" in (package / "Cargo.lock").read_text()
        run(
            home,
            cargo,
            "publish",
            "--registry",
            "toy",
            "--allow-dirty",
            "--no-verify",
            cwd=package,
            code=None,
        )
        assert ("PUT", "/api/v1/crates/new") in [(method, path) for method, path, _ in server.seen]
        assert only_live_tokens_came(server, vendor)
        run(home, cargo, "login", "--registry", "toy", cwd=package)
        run(home, cargo, "logout", "--registry", "toy", cwd=package)
        assert home.cached() == []
        run(home, cargo, "logout", "--registry", "toy", cwd=package)
        vendor.world.users = {}
        home.run("logout", "pitchpoint", "--everywhere")
        (package / "Cargo.lock").unlink()
        assert (
            "refused the sign-in"
            in run(home, cargo, "generate-lockfile", cwd=package, code=101).err
        )


# Terraform.


def test_terraform_fetches_a_module_and_logs_out(home: Home, vendor: Vendor) -> None:
    terraform = client("terraform")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("main.tf"), io.BytesIO())
    base = "/tfmods/v1/ns/m/x"
    answers: dict[str, Answer] = {
        f"{base}/versions": {"modules": [{"versions": [{"version": "1.0.0"}]}]},
        f"{base}/1.0.0/download": Reply(
            status=204, headers={"X-Terraform-Get": "/open/m.tar.gz?archive=tar.gz"}
        ),
    }
    anonymous = {"/open/m.tar.gz": Reply(archive.getvalue(), kind="application/gzip")}
    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    with (
        open_guarded(home.path, is_live=vendor.world.is_live, answers=answers) as server,
        open_open(home.path / "open", anonymous) as free,
    ):
        answers[f"{base}/1.0.0/download"].headers["X-Terraform-Get"] = (
            f"{free.address}/open/m.tar.gz?archive=tar.gz"
        )
        both = home.path / "both.pem"
        both.write_text(server.ca_file.read_text() + free.ca_file.read_text())
        home.configure(pitchpoint_config(vendor.address, more='hosts = ["reg.example.test"]'))
        setup(home, "terraform")
        file = home.path / ".terraformrc"
        services = f'services = {{ "modules.v1" = "{server.address}/tfmods/v1/" }}'
        file.write_text(f'{file.read_text()}\nhost "reg.example.test" {{ {services} }}\n')
        home.environment |= {"SSL_CERT_FILE": str(both), "CHECKPOINT_DISABLE": "1"}
        work = home.path / "work"
        work.mkdir()
        (work / "main.tf").write_text(
            'module "m" {\n  source  = "reg.example.test/ns/m/x"\n  version = "1.0.0"\n}\n'
        )
        run(home, terraform, "init", "-input=false", cwd=work)
        assert only_live_tokens_came(server, vendor)
        run(home, terraform, "logout", "reg.example.test", cwd=work)
        assert home.cached() == []
        vendor.world.users = {}
        home.run("logout", "pitchpoint", "--everywhere")
        shutil.rmtree(work / ".terraform")
        assert "401" in run(home, terraform, "init", "-input=false", cwd=work, code=1).text
        assert (
            "terraform failed" in home.run("status", "pitchpoint").out
        )  # what Terraform kept to itself


def open_open(directory: Path, answers: Mapping[str, Answer]) -> Serving:
    """A server that lets everybody in."""
    directory.mkdir()
    return open_guarded(directory, is_live=lambda _token: True, answers=answers)


# pip, uv and twine, through the keyring.


def wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("toy.py", "")
        metadata = "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
        archive.writestr("toy-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "toy-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    return content.getvalue()


WHEEL = "toy-1.0-py3-none-any.whl"
INDEX: Mapping[str, Answer] = {
    "/simple/toy/": Reply(f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode(), kind="text/html"),
    f"/files/{WHEEL}": wheel(),
    "/upload/": b"",
}


def open_index(home: Home, vendor: Vendor) -> Serving:
    home.environment |= {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CACHE": "1",
    }
    found = serve(home, vendor, INDEX)
    home.environment["PATH"] = (
        f"{VENV}:{home.environment['PATH']}"  # where `keyring` knows our backend
    )
    return found


KEYRINGS = ("the real one with our backend", "ours")


def put_first(keyring: str, home: Home) -> None:
    """In PATH: the program that `setup keyring` makes, or the real one."""
    if keyring == "ours":
        setup(home, "keyring")
        ours = home.data / "wrappers/keyring"
        home.environment["PATH"] = f"{ours}:{home.environment['PATH']}"


@pytest.mark.parametrize("keyring", KEYRINGS)
@pytest.mark.parametrize("name", ["pip", "pip-old"])
def test_pip_asks_the_keyring(name: str, keyring: str, home: Home, vendor: Vendor) -> None:
    pip = client(name)
    version = tuple(int(part) for part in run(home, pip, "--version").out.split()[1].split(".")[:2])
    with open_index(home, vendor) as server:
        configure(home, vendor, server)
        put_first(keyring, home)
        user = "" if version >= (26, 2) else "oauth2@"
        index = f"https://{user}{server.host}/simple/"
        done = run(
            home,
            *(pip, "download", "--no-deps", "--no-cache-dir", "--cert", str(server.ca_file)),
            *("--keyring-provider", "subprocess", "--index-url", index, "toy"),
        )
        assert WHEEL in done.text
        assert vendor.count("sign-in") == 1
        assert vendor.world.is_live(server.sent_tokens()[-1])


@pytest.mark.parametrize("keyring", KEYRINGS)
def test_uv_asks_the_keyring(keyring: str, home: Home, vendor: Vendor) -> None:
    uv = client("uv")
    with open_index(home, vendor) as server:
        configure(home, vendor, server)
        put_first(keyring, home)
        setup(home, "uv")
        home.environment["SSL_CERT_FILE"] = str(server.ca_file)
        (home.path / "in.txt").write_text("toy\n")
        index = f"https://oauth2@{server.host}/simple/"
        done = run(home, uv, "pip", "compile", "--default-index", index, "in.txt")
        assert "toy==1.0" in done.out
        assert only_live_tokens_came(server, vendor)


def test_twine_uploads(home: Home, vendor: Vendor) -> None:
    twine = client("twine")
    with open_index(home, vendor) as server:
        configure(home, vendor, server)
        setup(home, "twine")
        (home.path / WHEEL).write_bytes(wheel())
        home.environment["REQUESTS_CA_BUNDLE"] = str(server.ca_file)
        run(home, twine, "upload", "--repository-url", f"{server.address}/upload/", WHEEL)
        assert only_live_tokens_came(server, vendor)


def test_keyring_leaves_others_alone_and_refuses_to_keep(home: Home, vendor: Vendor) -> None:
    keyring = client("keyring")
    with open_index(home, vendor) as server:
        configure(home, vendor, server)
        for service in (server.host, f"{server.address}/simple/"):
            token = run(home, keyring, "get", service, "oauth2").out.strip()
            assert vendor.world.is_live(token)
        creds = run(home, keyring, "--mode=creds", "--output=json", "get", server.host).out
        assert json.loads(creds)["username"] == "oauth2"
        for service, user in (
            ("elsewhere.example", "oauth2"),
            (server.host, "somebody"),
            ("not a host", "x"),
        ):
            assert run(home, keyring, "get", service, user, code=1).out == ""
        refused = run(home, "sh", "-c", f"echo x | {keyring} set {server.host} oauth2", code=None)
        assert refused.code != 0
        assert "stores no passwords" in refused.text
        vendor.world.users = {}
        home.run("logout", "pitchpoint", "--everywhere")
        failed = run(home, keyring, "get", server.host, "oauth2", code=1)
        assert failed.out == ""
        assert "refused the sign-in" in failed.err


# Go.


def test_go_gets_a_module_before_and_after_a_refusal(home: Home, vendor: Vendor) -> None:
    go = client("go")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("example.com/toy@v1.0.0/go.mod", "module example.com/toy\n")
        content.writestr("example.com/toy@v1.0.0/toy.go", "package toy\n")
    base = "/mod/example.com/toy/@v"
    answers: Mapping[str, Answer] = {
        f"{base}/v1.0.0.info": {"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"},
        f"{base}/v1.0.0.mod": b"module example.com/toy\n",
        f"{base}/v1.0.0.zip": archive.getvalue(),
        f"{base}/list": b"v1.0.0\n",
    }
    with serve(home, vendor, answers) as server:
        configure(home, vendor, server)
        home.environment |= {
            "GOPROXY": f"{server.address}/mod",
            "GONOSUMDB": "*",
            "GOFLAGS": "-mod=mod -modcacherw",
            "GOTOOLCHAIN": "local",
            "SSL_CERT_FILE": str(server.ca_file),
            "PATH": f"{VENV}:{home.environment['PATH']}",
        }
        setup(home, "go")
        assert "credential go pitchpoint" in run(home, go, "env", "GOAUTH").out
        work = home.path / "work"
        work.mkdir()
        run(home, go, "mod", "init", "example.com/mine", cwd=work)
        run(home, go, "get", "example.com/toy@v1.0.0", cwd=work)
        assert only_live_tokens_came(server, vendor)
        run(home, go, "clean", "-modcache", cwd=work)
        vendor.world.revoke_access_tokens()
        home.run("token", "pitchpoint")
        age_cached_token(home)
        run(home, go, "mod", "download", "example.com/toy@v1.0.0", cwd=work)
        assert vendor.count("sign-in") == 1
        setup(home, "go", "--undo")
        assert "nightporter" not in run(home, go, "env", "GOAUTH").out


def age_cached_token(home: Home) -> None:
    """As if it had come from the vendor a minute ago, by the clock since boot."""
    for file in home.cached():
        document = json.loads(file.read_text())
        document["ends"] -= 60
        file.write_text(json.dumps(document))


# npm and pnpm.


def npm_answers(host: str) -> Mapping[str, Answer]:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        content = json.dumps({"name": "toy", "version": "1.0.0"}).encode()
        info = tarfile.TarInfo("package/package.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    body = archive.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
    dist = {"tarball": f"https://{host}/npm/toy/-/toy-1.0.0.tgz", "integrity": integrity}
    package = {"name": "toy", "version": "1.0.0", "dist": dist}
    document = {"name": "toy", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": package}}
    return {"/npm/toy": document, "/npm/toy/-/toy-1.0.0.tgz": body}


@pytest.mark.parametrize("name", ["npm", "pnpm"])
def test_npm_and_pnpm_install(name: str, home: Home, vendor: Vendor) -> None:
    program = client(name)
    answers: dict[str, Answer] = {}
    with serve(home, vendor, answers) as server:
        answers |= npm_answers(server.host)
        configure(home, vendor, server)
        setup(home, name)
        with (home.path / ".npmrc").open("a") as rc:
            rc.write(f"registry={server.address}/npm/\ncafile={server.ca_file}\nfetch-retries=0\n")
        work = home.path / "work"
        work.mkdir()
        (work / "package.json").write_text('{"name": "mine", "dependencies": {"toy": "1.0.0"}}')
        wrapped = ("nightporter", "run", "--npm", "pitchpoint", "--") if name == "npm" else ()
        home.environment["npm_config_update_notifier"] = "false"
        run(home, *wrapped, program, "install", cwd=work)
        assert (
            json.loads((work / "node_modules/toy/package.json").read_text())["version"] == "1.0.0"
        )
        assert only_live_tokens_came(server, vendor)


# curl, HTTPie, netrc.


def test_curl_takes_the_header_the_config_and_netrc(home: Home, vendor: Vendor) -> None:
    curl = client("curl")
    with serve(home, vendor, {"/x": {"ok": True}}) as server:
        home.configure(pitchpoint_config(vendor.address, more='hosts = ["localhost"]'))
        url = f"{server.address}/x"
        base = f"{curl} -sS --fail --cacert {server.ca_file}"
        for command in (
            f"nightporter token -o header | {base} -H @- {url}",
            f"nightporter token -o curl | {base} -K - {url}",
            f"nightporter token -o netrc > .netrc-now && {base} --netrc-file .netrc-now {url}",
        ):
            assert '"ok"' in run(home, "sh", "-c", command).out
        assert only_live_tokens_came(server, vendor)
        assert home.run("token", "-o", "netrc").out.startswith(
            "machine localhost login oauth2 password "
        )


def test_httpie_takes_the_value_from_a_file(home: Home, vendor: Vendor) -> None:
    http = client("http")
    with serve(home, vendor, {"/x": {"ok": True}}) as server:
        configure(home, vendor, server)
        command = (
            f"nightporter token -o authorization > value && {http} --ignore-stdin --check-status"
            f" --verify {server.ca_file} {server.address}/x Authorization:@value"
        )
        assert '"ok"' in run(home, "sh", "-c", command).out
        assert only_live_tokens_came(server, vendor)


# Google and the Python client of Kubernetes.

AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"


def test_google_auth_exchanges_our_token(home: Home, vendor: Vendor) -> None:
    python = client("python")
    vendor.world.tokens_are_jwts = True
    subject_tokens: list[str] = []

    def exchange(call: Call) -> Answer:
        subject_tokens.append(re.search(rb"subject_token=([^&]+)", call.body)[1].decode())  # type: ignore[index]
        kind = "urn:ietf:params:oauth:token-type:access_token"
        return {
            "access_token": "google",
            "issued_token_type": kind,
            "token_type": "Bearer",
            "expires_in": 3600,
        }

    home.environment["PATH"] = f"{BIN}:{home.environment['PATH']}"
    with open_open(home.path / "sts", {"/token": exchange}) as sts:
        home.configure(pitchpoint_config(vendor.address, more=f'google_audiences = ["{AUDIENCE}"]'))
        setup(home, "google")
        file = home.data / "google/pitchpoint.json"
        script = (
            "import json, sys; from google.auth import pluggable; from"
            " google.auth.transport.requests import Request\ninfo ="
            f" json.load(open({str(file)!r})); info['token_url'] ="
            f" {sts.address + '/token'!r}\ncredentials = pluggable.Credentials.from_info(info);"
            " credentials.refresh(Request())\nprint(credentials.token)"
        )
        home.environment |= {
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
            "REQUESTS_CA_BUNDLE": str(sts.ca_file),
        }
        for _ in range(2):  # the second time from the output file
            assert run(home, python, "-c", script).out.strip() == "google"
        assert all(vendor.world.is_live(token) for token in subject_tokens)
        output = home.cache / "pitchpoint.google.json"
        assert output.exists()
        home.run("logout", "pitchpoint")
        assert not output.exists()


def test_the_python_client_of_kubernetes(home: Home, vendor: Vendor) -> None:
    python, kubectl = client("python"), client("kubectl")
    version = {
        "major": "1",
        "minor": "33",
        "gitVersion": "v1.33.0",
        "gitCommit": "0",
        "goVersion": "go1.24",
    }
    version |= {
        "buildDate": "x",
        "compiler": "gc",
        "gitTreeState": "clean",
        "platform": "linux/amd64",
    }
    with serve(home, vendor, {"/version/": version}) as server:
        configure(home, vendor, server)
        setup(home, "kubectl")
        for words in (
            (
                "set-cluster",
                "here",
                f"--server={server.address}",
                f"--certificate-authority={server.ca_file}",
            ),
            ("set-context", "here", "--cluster=here", "--user=nightporter-pitchpoint"),
            ("use-context", "here"),
        ):
            run(home, kubectl, "config", *words)
        script = (
            "from kubernetes import client, config; config.load_kube_config()\n"
            "print(client.VersionApi().get_code().git_version)"
        )
        assert run(home, python, "-c", script).out.strip() == "v1.33.0"
        assert run(home, kubectl, "get", "--raw", "/version/").out
        assert only_live_tokens_came(server, vendor)
