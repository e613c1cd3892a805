"""Every reader of what others write, by name: bytes in, an answer or one of its named errors out.

Each takes any bytes. What it may raise is what its caller translates; anything else is a defect,
and so is an answer that takes long, or an error that repeats what the secret members held.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lab.fuzzing import machines
from nightporter.aws_lambda import _parse_event, _parse_step
from nightporter.cli.init_config import Answers, render
from nightporter.cli.npm import private_npmrc
from nightporter.cli.setups import merge
from nightporter.cli.setups.pins import with_pins
from nightporter.cli.setups.users import named_in
from nightporter.core import checks, hosts, metrics
from nightporter.core.config import parse_config
from nightporter.core.errors import NightporterError, from_members
from nightporter.core.expiry import parse_duration, parse_rfc3339
from nightporter.core.hosts import BadAskError, entry_problem, may_receive, parse_rule, parse_target
from nightporter.core.lineage import parse_history
from nightporter.core.model import Claim, Secret, SessionRecord, Token
from nightporter.core.output import output_of
from nightporter.core.record import (
    parse_credentials,
    parse_published,
    parse_remains,
    parse_session,
    render_session,
)
from nightporter.core.told import claims_of, parse_told
from nightporter.core.words import safe_words
from nightporter.issuers import VENDORS, issuer_for
from nightporter.issuers.dialect import RFC_6749
from nightporter.issuers.oauth import Call, Response, description_of, error_words, parse_tokens
from nightporter.machine.client_input import LateInputError
from nightporter.machine.process import is_dead
from nightporter.operations import account, kubeconfig, secrets_manager_rotation, show_config
from nightporter.operations.login import _error_of, _parse_device, _query_of
from nightporter.protocols import (
    agent,
    bazel,
    cargo,
    docker,
    git,
    go,
    google,
    headers,
    keyring,
    kubelet,
    kubernetes,
    terraform,
)
from nightporter.stores import STORES

NAMED = (NightporterError, BadAskError)
SECRET = "Sesam+Oeffne/Dich=0815"  # in the secret members of the corpus; no error repeats it


@dataclass(frozen=True)
class Target:
    """`errors`: what its caller translates."""

    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = NAMED


def text_of(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def value_of(content: bytes) -> Any:
    """What a store or a runtime has parsed for us; the text itself where it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return text_of(content)[:200]


def table_of(content: bytes) -> dict[str, Any]:
    value = value_of(content)
    return value if isinstance(value, dict) else {"text": value}


def reply_of(content: bytes) -> Response:
    """The body of an answer; a first line `STATUS NAME: VALUE` stands for its head."""
    head, separator, body = content.partition(b"\n")
    status, _, field = head.partition(b" ")
    if not (separator and status.isdigit() and len(status) == 3):
        return Response(status=200, headers={}, body=content)
    name, _, value = field.decode("latin-1").partition(":")
    return Response(status=int(status), headers={name.lower(): value.strip()}, body=body)


PROFILES = parse_config(
    '[profiles.p]\nissuer = "pitchpoint"\ncredentials = "c"\nhosts = ["git.example.com/team"]\n'
    '[profiles.q]\nissuer = "oauth2"\ngrant = "device_code"\nclient = "c"\nrefresh_token = "r"\n'
    'issuer_url = "https://as.example"\nhosts = ["k8s.example:6443", "*.pages.example.com"]\n'
    '[stores.aws]\ntype = "aws-secrets-manager"\n'
    '[profiles.aws]\nissuer = "pitchpoint"\ncredentials = "x"\nstore = "aws"\n',
    source="x",
    vendors=VENDORS,
    stores=STORES,
)
PITCHPOINT, DISCOVERED = PROFILES.profiles["p"], PROFILES.profiles["q"]


def configuration(content: bytes) -> None:
    """Read, and shown as `config show` shows it: what is shown must mean the same."""
    text = content.decode("utf-8", "surrogateescape")  # as a variable holds it
    config = parse_config(text, source="x", vendors=VENDORS, stores=STORES)
    shown = show_config.render_effective(config, {}, STORES)
    again = parse_config(shown, source="x", vendors=VENDORS, stores=STORES)
    assert again.profiles.keys() == config.profiles.keys()


def addition(content: bytes) -> None:
    """`init` adds a profile to what is there, and takes nothing away."""
    answers = Answers(
        profile="new",
        vendor="pitchpoint",
        store="vault",
        credentials="c",
        existing=text_of(content),
    )
    text = render(answers)
    assert "[profiles.new]" in text


def record(content: bytes) -> None:
    """A record that is read is one that we may write, and what we write is read back."""
    found = parse_session(table_of(content))
    if isinstance(found, SessionRecord):
        written = json.loads(json.dumps(render_session(found)))
        again = parse_session(written)
        assert isinstance(again, SessionRecord), "what we write is not ours"
        assert json.dumps(render_session(again)) == json.dumps(written)


def holder(content: bytes) -> bool:
    claim = Claim(holder=text_of(content)[:200], until=0, nonce="n", machine="m")
    return is_dead(claim, "m")


def discovery(content: bytes) -> object:
    return issuer_for(DISCOVERED).with_discovery(DISCOVERED, reply_of(content))


def words(content: bytes) -> None:
    """An issuer's own words, after it was sent a secret."""
    said = safe_words(description_of(reply_of(content)), [SECRET])
    assert SECRET not in said
    assert said.isprintable()
    assert len(said) <= 200


def exec_info(content: bytes) -> None:
    ask = kubernetes.parse_exec_info(text_of(content))
    kubernetes.check_cluster(ask, DISCOVERED)


def agent_ask(content: bytes) -> None:
    method, _, rest = text_of(content).partition(" ")
    address, _, host = rest.partition("\n")
    for is_unix in (True, False):
        ask = agent.parse_ask(method, address, {"host": host}, is_unix=is_unix)
        agent.check_host(ask, DISCOVERED)


def clusters(content: bytes) -> None:
    document = kubeconfig.parse(text_of(content))
    kubeconfig.clusters_of(document, DISCOVERED)
    kubeconfig.used_clusters(document, DISCOVERED)


def jwt(content: bytes) -> None:
    claims_of(text_of(content))
    token = Token(
        Secret(text_of(content)),
        token_type="Bearer",
        expires_at_s=0,
        obtained_at_s=0.0,
        generation=1,
    )
    google.check_jwt(token)


def google_ask(content: bytes) -> None:
    names = ("AUDIENCE", "TOKEN_TYPE", "IMPERSONATED_EMAIL", "OUTPUT_FILE", "REVOKE")
    values = text_of(content).split("\n")
    given = {f"{google.PREFIX}{name}": value for name, value in zip(names, values, strict=False)}
    google.check_audience(google.parse(given), PITCHPOINT)


def json_file(content: bytes) -> None:
    """A client's JSON file, with a member set: what was there stays."""
    text = merge.change_json(text_of(content), lambda found: found.update(ours=1), source="x")
    assert json.loads(text.removeprefix("\ufeff"))["ours"] == 1


def toml_file(content: bytes) -> None:
    def change(document: Any) -> None:
        document["ours"] = 1

    merge.change_toml(text_of(content), change, source="x")
    with_pins(text_of(content), "p", {"proxy": ["http://p.example:1"]}, source="x")


def npmrc(content: bytes) -> None:
    """The private copy holds our token once, and none for another host beside it."""
    text = text_of(content)
    merge.npmrc_lines(text)
    named_in(text, PITCHPOINT, "x")
    merge.set_line(merge.set_line(text, "k", "v"), "k", None)
    block = merge.set_block(text, "terraform", "x")
    assert merge.set_block(merge.set_block(block, "terraform", None), "terraform", "x") == block
    copy = private_npmrc(text, ["npm.example/r/"], "TOKEN")
    assert copy.endswith("//npm.example/r/:_authToken=TOKEN\n")


def keyring_ask(content: bytes) -> None:
    """The words of a command line, a line each."""
    ask = keyring.parse(text_of(content).split("\n"))
    service = keyring.parse_service(ask.service) if ask else None
    if service is not None:
        assert service.target or service.plain_http
    if ask and (bare := bare_host_of_pip(ask.service)):
        assert service is not None
        assert bare in service.plain_http


def bare_host_of_pip(address: str) -> hosts.Target | None:
    """What pip asks for after an address by plain http, where that is a host at all."""
    try:
        parts = urlsplit(address)
        bare = parse_target(parts.netloc.rpartition("@")[2])
    except (ValueError, BadAskError):
        return None
    return bare if parts.scheme == "http" else None


def rotation_event(content: bytes) -> None:
    _, secret_id, _ = _parse_step(value_of(content))
    secrets_manager_rotation.profile_of(PROFILES, secret_id)


TARGETS: Mapping[str, Target] = {
    # What clients ask.
    "git": Target(git.parse),
    "docker": Target(docker.parse_server),
    "cargo": Target(cargo.parse),
    "bazel": Target(bazel.parse),
    "kubelet": Target(kubelet.parse),
    "terraform": Target(lambda content: terraform.parse_host(text_of(content))),
    "keyring": Target(keyring_ask),
    "go": Target(lambda content: go.parse_url(text_of(content))),
    "go-response": Target(go.says_unauthorized),
    "headers": Target(lambda content: headers.parse(text_of(content))),
    "google": Target(google_ask),
    "jwt": Target(jwt),
    "exec-info": Target(exec_info),
    "certificates": Target(
        lambda content: kubernetes.certificate_digests(text_of(content)), (ValueError,)
    ),
    "agent-ask": Target(agent_ask, (agent.RefusedError,)),
    "agent-http": Target(machines.agent_http),
    "spelled": Target(machines.spelled, (OSError, ValueError, LateInputError)),
    "door": Target(machines.door),
    # What issuers answer.
    "tokens": Target(lambda content: parse_tokens(reply_of(content), Call.REFRESH)),
    "sign-in": Target(lambda content: parse_tokens(reply_of(content), Call.SIGN_IN)),
    "device": Target(lambda content: _parse_device(reply_of(content))),
    "device-poll": Target(lambda content: _error_of(reply_of(content))),
    "error-words": Target(lambda content: error_words(table_of(content), RFC_6749)),
    "words": Target(words),
    "discovery": Target(discovery),
    "redirect": Target(lambda content: _query_of(text_of(content))),
    # What stores hold.
    "record": Target(record),
    "remains": Target(lambda content: parse_remains(value_of(content))),
    "told": Target(lambda content: parse_told(value_of(content))),
    "history": Target(lambda content: parse_history(value_of(content))),
    "published": Target(lambda content: parse_published(table_of(content), PITCHPOINT, now=1.8e9)),
    "credentials": Target(
        lambda content: parse_credentials(table_of(content), "1", {"username": "user"}),
        (ValueError,),
    ),
    "members": Target(lambda content: account.parse_members(text_of(content))),
    "holder": Target(holder),
    "secrets-manager": Target(machines.secrets_manager),
    "vault": Target(machines.vault),
    "rotation-event": Target(rotation_event),
    "job-event": Target(lambda content: _parse_event(value_of(content))),
    # What lies on disks.
    "local-store": Target(machines.local_store),
    "journal": Target(machines.journal),
    "cache": Target(machines.access_cache),
    "helper-failures": Target(machines.helper_failures),
    "error-note": Target(lambda content: from_members(table_of(content))),
    "output": Target(lambda content: output_of(value_of(content))),
    "metrics": Target(lambda content: metrics.parse(text_of(content))),
    "configuration": Target(configuration),
    "addition": Target(addition),
    "clusters": Target(clusters),
    "contexts": Target(machines.contexts),
    "json-file": Target(json_file),
    "toml-file": Target(toml_file),
    "npmrc": Target(npmrc),
    "npm-settings": Target(machines.npm_settings),
    "project": Target(machines.project),
    # What people write.
    "host": Target(lambda content: parse_target(text_of(content), has_path=True)),
    "rule": Target(lambda content: parse_rule(text_of(content))),
    "entry": Target(lambda content: entry_problem(text_of(content))),
    "ours": Target(lambda content: may_receive(text_of(content), PITCHPOINT)),
    "url": Target(lambda content: checks.url_problem(text_of(content))),
    "proxy": Target(lambda content: checks.proxy_url(text_of(content))),
    "duration": Target(lambda content: parse_duration(text_of(content)), (ValueError,)),
    "time": Target(lambda content: parse_rfc3339(text_of(content)), (ValueError,)),
}


LIMIT_S = 2.0  # of the processor


def ask(name: str, content: bytes) -> None:
    """Runs one target.

    Raises: whatever is a defect; AssertionError for an error that says what it must not.
    """
    target = TARGETS[name]
    began = time.process_time()
    try:
        target.run(content)
    except target.errors as exc:
        shown = f"{exc} {getattr(exc, 'hint', '')}"
        assert SECRET not in shown, "an error repeats a secret"
    assert time.process_time() - began < LIMIT_S, "a reader that can be kept busy"
