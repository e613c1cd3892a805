"""The machines on which the transcripts of the documents are run: an empty home, and the world
around it.

Names of the documents (api.pointservices.com, kube.example.com, ...) lead to real programs and
small servers here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.browsers import HEAD
from lab.clients import client, git_backend
from lab.jose import pem_of_public, rsa_key, signed_by
from lab.servers.tls import Reply
from lab.support import AWS_VARIABLES, BIN, ROOT, Home, OpenBao, free_port
from lab.terminals import amazon
from lab.terminals.world import CONFIG, CREDENTIALS, World, port_of


@contextlib.contextmanager
def kubectl(world: World) -> Iterator[Home]:
    """A cluster behind kube.example.com:6443, in the kubeconfig, without a user."""
    answers = {
        "/apis/authentication.k8s.io/v1/selfsubjectreviews": {
            "kind": "SelfSubjectReview",
            "apiVersion": "authentication.k8s.io/v1",
            "status": {"userInfo": {"username": "svc-acme", "groups": ["system:authenticated"]}},
        }
    }
    with (
        world.guarded(answers) as port,
        world.home({"kube.example.com:6443": port}) as (home, internet),
    ):
        for words in (
            ("set-cluster", "prod", "--server=https://kube.example.com:6443"),
            ("set", "clusters.prod.certificate-authority", str(internet.ca_file)),
            ("set-context", "prod", "--cluster=prod"),
            ("use-context", "prod"),
        ):
            subprocess.run(
                [BIN / "kubectl", "config", *words],
                env=home.environment,
                check=True,
                capture_output=True,
            )
        yield home


@contextlib.contextmanager
def git(world: World) -> Iterator[Home]:
    """A git server at git.example.com; the profile is there already, its host is not."""
    program = client("git")
    served = world.directory / "served"
    repository = served / "acme/orders.git"
    work = world.directory / "work"
    commit = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.com",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "first",
    )
    for words in (
        ("init", "-q", "--bare", "-b", "main", str(repository)),
        ("init", "-q", "-b", "main", str(work)),
        ("-C", str(work), *commit),
        ("-C", str(work), "push", "-q", str(repository), "main"),
    ):
        subprocess.run([program, *words], check=True, capture_output=True)
    challenges = ('Basic realm="git"', 'Bearer realm="git"')
    with world.guarded({"/*": git_backend(served)}, challenges=challenges) as port:
        with world.home({"git.example.com:443": port}) as (home, _):
            home.environment |= {
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_PAGER": "cat",
            }
            yield home


@contextlib.contextmanager
def _emptied(bao: OpenBao) -> Iterator[None]:
    """The server is shared with the next stage, which finds no session."""
    try:
        yield
    finally:
        bao.call("DELETE", "secret/metadata/prod/pitchpoint/refresh-token")


@contextlib.contextmanager
def vault_admin(world: World, places: Mapping[str, int] | None = None) -> Iterator[Home]:
    """An administrator of an empty Vault, at the machine that is to be set up."""
    bao = world.openbao()
    for path in ("sys/auth/approle", "sys/mounts/team"):  # another stage has made them
        bao.call("DELETE", path)
    places = {"vault.example.com:8200": port_of(bao.address), **(places or {})}
    with world.home(places) as (home, _):
        (home.path / ".local/bin/vault").symlink_to(BIN / "bao")
        home.environment |= {
            "VAULT_ADDR": "https://vault.example.com:8200",
            "VAULT_TOKEN": bao.token,
        }
        (home.path / "account.json").write_text(json.dumps(CREDENTIALS) + "\n")
        (home.path / "profile").write_text(
            "--store vault --store-set mount=team --credentials prod/pitchpoint"
            " --set publish_access_token=prod/pitchpoint/access\n"
        )
        yield home


@contextlib.contextmanager
def vault_reader(world: World, places: Mapping[str, int] | None = None) -> Iterator[Home]:
    """The same administrator, after the scheduled job has run."""
    with vault_admin(world, places) as home:
        bao = world.openbao()
        bao.call("POST", "sys/mounts/team", {"type": "kv", "options": {"version": "2"}})
        bao.put("team", "prod/pitchpoint", CREDENTIALS)
        bao.call("POST", "sys/auth/approle", {"type": "approle"})
        words = (home.path / "profile").read_text().split()
        done = home.run("init", "--issuer", "pitchpoint", *words)
        assert done.code == 0, done.err
        assert home.run("rotate", "--access").code == 0
        home.config_file.unlink()
        home.drop_cache()
        yield home


@contextlib.contextmanager
def vault_refused(world: World) -> Iterator[Home]:
    """The machine of the scheduled job, whose secret id has been destroyed."""
    with vault_reader(world) as home:
        bao = world.openbao()
        role = {"token_policies": ["job"], "role_id": "job"}
        bao.call("POST", "auth/approle/role/job", role)
        words = (home.path / "profile").read_text().split()
        policy = home.run("policy", "--role", "full", *words).out
        bao.call("PUT", "sys/policies/acl/job", {"policy": policy})
        place = home.path / "secret-id"
        place.write_text("destroyed")
        place.chmod(0o600)
        flags = [f"--auth={key}" for key in ("method=approle", "role_id=job")]
        flags.append(f"--auth=secret_id_file={place}")
        done = home.run("init", "--issuer", "pitchpoint", *words, *flags, "--no-check")
        assert done.code == 0, done.err
        yield home


CI_CONFIG = """\
[stores.vault]
type = "vault"
mount = "team"
auth = { method = "jwt", role = "deploy", jwt_file = "~/ci.jwt" }

[profiles.pitchpoint]
issuer = "pitchpoint"
credentials = "prod/pitchpoint"
role = "refresh-only"
"""


@contextlib.contextmanager
def vault_ci(world: World) -> Iterator[Home]:
    """The same team's CI system, whose tokens Vault believes; and the API that its jobs call."""
    with world.guarded({"/v1/orders": {"orders": [4711]}}) as orders:
        with vault_reader(world, {"orders.example.com:443": orders}) as home:
            bao, key = world.openbao(), rsa_key()
            bao.call("DELETE", "sys/auth/jwt")
            bao.call("POST", "sys/auth/jwt", {"type": "jwt"})
            bao.call(
                "POST",
                "auth/jwt/config",
                {"jwt_validation_pubkeys": [pem_of_public(key.public_key())]},
            )
            now = int(time.time())
            claims = {"sub": "repo:acme/orders", "aud": "vault", "iat": now, "nbf": now - 60}
            token = home.path / "ci.jwt"
            token.write_text(signed_by(key, exp=now + 600, **claims))
            token.chmod(0o600)
            (home.path / "nightporter.toml").write_text(CI_CONFIG)
            yield home


@contextlib.contextmanager
def docker(world: World) -> Iterator[Home]:
    """A registry at reg.example.com, with one image."""
    client("docker")
    config = b"{}"
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": f"sha256:{hashlib.sha256(config).hexdigest()}",
            },
            "layers": [],
        }
    ).encode()
    digest = {"Docker-Content-Digest": f"sha256:{hashlib.sha256(manifest).hexdigest()}"}
    answers = {
        "/v2/": {},
        "/v2/acme/orders/manifests/latest": Reply(manifest, kind=kind, headers=digest),
        "/v2/acme/orders/blobs/*": config,
    }
    with world.guarded(answers) as port:
        with world.home({"reg.example.com:443": port}) as (home, _):
            yield home


BROWSER = f"""{HEAD}
consent = urllib.request.urlopen(address).read().decode()
allow = html.unescape(re.search('id="allow" href="([^"]+)"', consent)[1])
urllib.request.urlopen(allow).read()
"""


@contextlib.contextmanager
def browser(world: World) -> Iterator[Home]:
    """A desktop, whose browser has somebody in front of it who agrees to everything."""
    there = {"login.microsoftonline.com:443": port_of(world.vendor.address)}
    with world.home(there) as (home, _):
        program = world.directory / "browser"
        program.write_text(BROWSER)
        program.chmod(0o755)
        home.environment["BROWSER"] = f"{program} %s"
        yield home


@contextlib.contextmanager
def headless(world: World) -> Iterator[Home]:
    """A machine without a browser. Its user enters the code elsewhere, a second after it came."""
    ended = threading.Event()

    def approve() -> None:
        while not ended.wait(1):
            for pending in list(world.vendor.world.pending.values()):
                world.vendor.world.answer_device(pending.user_code, is_approved=True)

    with world.home({"login.microsoftonline.com:443": port_of(world.vendor.address)}) as (home, _):
        person = threading.Thread(target=approve)
        person.start()
        try:
            yield home
        finally:
            ended.set()
            person.join()


@contextlib.contextmanager
def developer(world: World) -> Iterator[Home]:
    """A laptop with an identity of AWS, in an account without a secret."""
    moto, region = port_of(world.moto()), "eu-central-1"  # none of another stage
    places = {f"{name}.{region}.amazonaws.com:443": moto for name in ("secretsmanager", "sts")}
    identity = {**AWS_VARIABLES, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    with world.home(places, **identity) as (home, _):
        yield home


@contextlib.contextmanager
def agent(world: World) -> Iterator[Home]:
    """A machine whose profile has a password already."""
    with laptop(world) as home:
        home.set_credentials(**CREDENTIALS)
        runtime = home.path / "run"
        runtime.mkdir(mode=0o700)
        home.environment |= {"XDG_RUNTIME_DIR": str(runtime), "PORT": str(free_port())}
        yield home


@contextlib.contextmanager
def laptop(world: World) -> Iterator[Home]:
    """A configured laptop without credentials, and a server that takes the token at
    orders.example.com."""
    with world.guarded({"/v1/orders": {"orders": [4711]}}) as port:
        with world.home({"orders.example.com:443": port}) as (home, _):
            home.configure(CONFIG.format(hosts='"orders.example.com", "reg.example.com"'))
            home.environment["GIT_CONFIG_NOSYSTEM"] = "1"
            yield home


@contextlib.contextmanager
def signed_in(world: World) -> Iterator[Home]:
    """The same with credentials, and docker set up, whose last ask failed, since the password was
    another one then."""
    with laptop(world) as home:
        home.set_credentials(**CREDENTIALS)
        home.run("setup", "docker", "pitchpoint")
        users, world.vendor.world.users = world.vendor.world.users, {}
        helper = home.path / ".local/bin/docker-credential-nightporter"
        subprocess.run(
            [helper, "get"], env=home.environment, input=b"reg.example.com", capture_output=True
        )
        world.vendor.world.users = users
        home.set_credentials(**CREDENTIALS)
        yield home


@contextlib.contextmanager
def two_stores(world: World) -> Iterator[Home]:
    """A laptop that is to move from the embedded store to Vault."""
    bao = world.openbao()
    with world.home({"vault.example.com:8200": port_of(bao.address)}, VAULT_TOKEN=bao.token) as (
        home,
        _,
    ):
        home.configure(CONFIG.format(hosts=""))
        home.set_credentials(**CREDENTIALS)
        assert home.run("token").code == 0
        store = '[stores.vault]\ntype = "vault"\naddress = "https://vault.example.com:8200"\n'
        (home.path / "vault.toml").write_text(store + CONFIG.format(hosts=""))
        with _emptied(bao):
            yield home


@contextlib.contextmanager
def secrets_manager(world: World) -> Iterator[Home]:
    """A laptop whose profile is in Secrets Manager. Nothing asks it."""
    with world.home({}) as (home, _):
        home.configure('[stores.prod]\ntype = "aws-secrets-manager"\n' + CONFIG.format(hosts=""))
        yield home


@contextlib.contextmanager
def refused(world: World) -> Iterator[Home]:
    """A laptop with a password that has been changed at the vendor."""
    with laptop(world) as home:
        home.set_credentials(username="svc-acme", password="last-year's")
        yield home


@contextlib.contextmanager
def clone(world: World) -> Iterator[Home]:
    """A clone of this repository, set up; with an ordinary way out."""
    home = Home(world.directory / "home")
    home.environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    subprocess.run([ROOT / "scripts/setup", "--core"], check=True, capture_output=True)
    try:
        yield home
    finally:
        subprocess.run([ROOT / "scripts/demo", "--end"], check=True)


STAGES: Mapping[str, Callable[[World], Any]] = {
    "kubectl": kubectl,
    "git": git,
    "vault-admin": vault_admin,
    "vault-reader": vault_reader,
    "vault-ci": vault_ci,
    "vault-refused": vault_refused,
    "docker": docker,
    "browser": browser,
    "headless": headless,
    "developer": developer,
    "agent": agent,
    "lambda": amazon.by_hand,
    "deploy": amazon.by_terraform,
    "laptop": laptop,
    "signed-in": signed_in,
    "refused": refused,
    "two-stores": two_stores,
    "secrets-manager": secrets_manager,
    "clone": clone,
}
