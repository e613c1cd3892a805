"""kubectl's ExecCredential without kubectl: what an ask says, which cluster gets a token, and what
a pin compares (contract, section 8)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from nightporter.core.config import parse_config
from nightporter.core.errors import ConfigError, HostNotAllowedError
from nightporter.core.model import Profile, Secret, Token
from nightporter.issuers import VENDORS
from nightporter.protocols import kubernetes
from nightporter.protocols.kubernetes import ExecAsk
from nightporter.stores import STORES

V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
HOSTS = 'hosts = ["k.example", "rancher.example/k8s/clusters/c-1"]\n'
SERVER = {"server": "https://k.example"}
CERTIFICATES = (b"first certificate", b"second certificate")
DIGESTS = [hashlib.sha256(der).hexdigest() for der in CERTIFICATES]


def profile(more: str = "", hosts: str = HOSTS) -> Profile:
    text = f'[profiles.k]\nissuer = "pitchpoint"\ncredentials = "c"\n{hosts}{more}\n'
    return parse_config(text, source="t", vendors=VENDORS, stores=STORES).profiles["k"]


def pem(*certificates: bytes) -> str:
    """`certificate-authority-data` with these certificates, with breaks within their base64."""
    blocks = []
    for der in certificates:
        text = base64.b64encode(der).decode()
        blocks += ["-----BEGIN CERTIFICATE-----", text[:8], text[8:], "-----END CERTIFICATE-----"]
    return base64.b64encode("\n".join(blocks).encode()).decode()


def check(cluster: dict[str, Any] | None, found: Profile) -> None:
    kubernetes.check_cluster(ExecAsk(is_told=True, cluster=cluster), found)


# What an ask says.


@pytest.mark.parametrize("exec_info", [None, ""])
def test_who_is_not_kubectl_tells_nothing(exec_info: str | None) -> None:
    """A person's shell: the newest version, and no cluster to compare."""
    assert kubernetes.parse_exec_info(exec_info) == ExecAsk(
        api_version=V1, is_told=False, cluster=None
    )


@pytest.mark.parametrize("exec_info", [" ", "null", "{}", '{"spec": null}', '{"spec": {}}'])
def test_a_sloppy_client_is_told_apart_from_a_person(exec_info: str) -> None:
    """It has set the variable, so a cluster is asked for, and it tells none."""
    assert kubernetes.parse_exec_info(exec_info) == ExecAsk(
        api_version=V1, is_told=True, cluster=None
    )


def test_the_version_that_is_asked_for_is_answered_in() -> None:
    """client-go compares the answer's apiVersion with its own; a byte order mark is skipped."""
    asked = json.dumps({"apiVersion": V1BETA1, "spec": {"cluster": SERVER}})
    found = kubernetes.parse_exec_info("\ufeff" + asked)
    assert found == ExecAsk(api_version=V1BETA1, is_told=True, cluster=SERVER)
    token = Token(Secret("ACC"), token_type="Bearer", expires_at_s=0, obtained_at_s=0)
    answer = json.loads(kubernetes.render(token, found.api_version, reported_expiry=1_893_553_385))
    assert answer == {
        "apiVersion": V1BETA1,
        "kind": "ExecCredential",
        "status": {"token": "ACC", "expirationTimestamp": "2030-01-02T03:03:05Z"},
    }


@pytest.mark.parametrize(
    ("exec_info", "words"),
    [
        ('{"apiVersion": "client.authentication.k8s.io/v1alpha1"}', "apiVersion"),
        ('{"apiVersion": 1}', "apiVersion"),
        ("[1]", "not a JSON object"),
        ('"v1"', "not a JSON object"),
        ("{", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
    ],
)
def test_what_is_no_ask_is_said(exec_info: str, words: str) -> None:
    """Any answer to it would be fatal to the client without words."""
    with pytest.raises(ConfigError, match=words):
        kubernetes.parse_exec_info(exec_info)


def test_a_cluster_that_is_no_object_is_none() -> None:
    """It is then a cluster that is not told, which `hosts` refuses."""
    assert kubernetes.parse_exec_info('{"spec": {"cluster": "x"}}').cluster is None
    assert kubernetes.parse_exec_info('{"spec": []}').cluster is None


# Which cluster gets a token.


def test_a_person_and_a_profile_without_hosts_are_asked_for_no_cluster() -> None:
    """A script has none, and where no host is named there is nothing to compare it with."""
    kubernetes.check_cluster(ExecAsk(), profile())
    check(None, profile(hosts=""))


def test_a_cluster_must_be_told_where_hosts_are_named() -> None:
    """But where the profile lifts it, for old kubeconfigs."""
    with pytest.raises(HostNotAllowedError, match="tells no cluster"):
        check(None, profile())
    check(None, profile("allow_unknown_cluster = true"))


def test_a_told_cluster_gets_nothing_of_a_profile_without_hosts() -> None:
    """No host is in an empty list."""
    with pytest.raises(HostNotAllowedError, match="not in its `hosts`"):
        check(SERVER, profile(hosts=""))


@pytest.mark.parametrize(
    ("server", "is_ours"),
    [
        ("https://k.example", True),
        ("https://k.example:443/", True),
        ("https://rancher.example/k8s/clusters/c-1", True),
        ("https://rancher.example/k8s/clusters/c-2", False),
        ("https://rancher.example", False),
        ("http://k.example", False),
        ("https://k.example:6443", False),
        ("https://evil.example", False),
        ("https://k.example?x", False),
        ("https://k.example#x", False),
        ("https://u@k.example", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_the_server_and_its_path_decide(server: object, is_ours: bool) -> None:
    """Rancher serves many clusters behind one host."""
    assert kubernetes.is_cluster_of(server, profile()) is is_ours
    if is_ours:
        check({"server": server}, profile())
    else:
        with pytest.raises(HostNotAllowedError, match="not in its `hosts`"):
            check({"server": server}, profile())


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("insecure-skip-tls-verify", True, "skips the check"),
        ("insecure-skip-tls-verify", "false", "skips the check"),
        ("proxy-url", "http://proxy.example:3128", "not pinned"),
        ("proxy-url", ["http://proxy.example"], "not pinned"),
    ],
)
def test_what_leads_elsewhere_costs_the_token(member: str, value: object, words: str) -> None:
    """Somebody else's kubeconfig may hold our server beside a way around it."""
    with pytest.raises(HostNotAllowedError, match=words):
        check({**SERVER, member: value}, profile())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("insecure-skip-tls-verify", False),
        ("insecure-skip-tls-verify", None),
        ("proxy-url", ""),
        ("proxy-url", None),
        ("certificate-authority-data", "anything"),
        ("tls-server-name", "anything"),
        ("config", {"x": 1}),
    ],
)
def test_what_leads_nowhere_costs_nothing(member: str, value: object) -> None:
    """What is not pinned is the kubeconfig's own to say."""
    check({**SERVER, member: value}, profile())


@pytest.mark.parametrize(
    "pin", ['"http://p.example:3128"', '["http://q.example", "http://p.example:3128"]']
)
def test_a_pinned_proxy_is_let_through(pin: str) -> None:
    """A pin is a text or a list of them, and no proxy passes as well."""
    found = profile(f"kubernetes = {{ proxy = {pin} }}")
    check({**SERVER, "proxy-url": "http://p.example:3128"}, found)
    check(SERVER, found)
    with pytest.raises(HostNotAllowedError, match="not pinned"):
        check({**SERVER, "proxy-url": "http://evil.example:3128"}, found)


def test_a_pinned_server_name_must_be_the_kubeconfig_s() -> None:
    """Also where the kubeconfig names none: the certificate would be another's."""
    found = profile('kubernetes = { tls_server_name = "in.example" }')
    check({**SERVER, "tls-server-name": "in.example"}, found)
    for name in ({"tls-server-name": "evil.example"}, {}):
        with pytest.raises(HostNotAllowedError, match="server name"):
            check({**SERVER, **name}, found)


# What a pinned CA compares.


def pinned(*digests: str) -> Profile:
    return profile(f"kubernetes = {{ ca_sha256 = {json.dumps(list(digests))} }}")


def test_every_certificate_of_the_ca_is_pinned() -> None:
    """In hex, with or without colons, in either case; more pins than certificates do no harm."""
    with_colons = ":".join(DIGESTS[0][at : at + 2] for at in range(0, 64, 2)).upper()
    for digests in (DIGESTS[:1], DIGESTS, [with_colons]):
        check({**SERVER, "certificate-authority-data": pem(CERTIFICATES[0])}, pinned(*digests))
    check({**SERVER, "certificate-authority-data": pem(*CERTIFICATES)}, pinned(*DIGESTS))


@pytest.mark.parametrize(
    "data",
    [
        pem(CERTIFICATES[1]),
        pem(*CERTIFICATES),
        None,
        "",
        "not base64!",
        base64.b64encode(b"no certificate").decode(),
        base64.b64encode(b"-----BEGIN CERTIFICATE-----\nZmlyc3Q=").decode(),
        base64.b64encode("-----BEGIN CERTIFICATE-----Zé-----END".encode()).decode(),
    ],
)
def test_one_that_is_not_pinned_is_enough_to_refuse(data: object) -> None:
    """A second authority beside the pinned one could vouch for anybody; no CA at all is the
    system's many."""
    with pytest.raises(HostNotAllowedError, match="its CA"):
        check({**SERVER, "certificate-authority-data": data}, pinned(DIGESTS[0]))


def test_digests_are_of_each_certificate_s_der() -> None:
    """Wherever its lines are broken; a block without an end is none."""
    assert kubernetes.certificate_digests(pem(*CERTIFICATES)) == DIGESTS
    assert kubernetes.certificate_digests(pem()) == []
    cut = base64.b64decode(pem(*CERTIFICATES)).rpartition(b"-----END")[0]
    assert kubernetes.certificate_digests(base64.b64encode(cut).decode()) == DIGESTS[:1]
