"""Setup of Terraform, curl, HTTPie, google-auth, Bazel and the kubelet."""

from __future__ import annotations

import json
import os
import re
import shlex

from nightporter.cli.setups.merge import set_block
from nightporter.cli.setups.plan import Plan, Request, Write, config_arguments
from nightporter.cli.setups.tools import left_out_of, needed_rules
from nightporter.core.errors import ConfigError, HostNotAllowedError
from nightporter.core.hosts import parse_rule, rules_of
from nightporter.core.model import Profile
from nightporter.operations import client_rules
from nightporter.protocols.google import TOKEN_TYPES


def terraform(request: Request) -> Plan:
    """The helper where Terraform looks for it (not on PATH), and its block in the CLI
    configuration."""
    machine = request.machine
    helper = machine.home(".terraform.d", "plugins", "terraform-credentials-nightporter")
    wrapper = machine.wrapper_at(helper, ["terraform"], request)
    path = machine.environment.get("TF_CLI_CONFIG_FILE") or machine.home(".terraformrc")
    there = machine.read(path)
    block = 'credentials_helper "nightporter" {}'
    rest = set_block(there, "terraform", None)
    other = re.search(r'^\s*credentials_helper\s+"([^"]+)"', rest, re.M)
    left_out: tuple[str, ...] = ()
    if not request.is_undo:
        asks = client_rules.CLIENTS["terraform"]
        left_out = left_out_of(request.profile, asks.can, asks.why)
        if other:
            raise ConfigError(
                f"{path} names another credentials_helper, and Terraform allows one; nothing was"
                " changed",
                hint="Take that block out first, if nightporter is to serve Terraform.",
            )
    text = rest if request.is_undo else set_block(there, "terraform", block)
    gist = f"({block} out)" if request.is_undo else block
    is_shared = request.is_undo and any(
        profile.hosts for profile in request.profiles.values() if profile is not request.profile
    )
    if is_shared:
        return Plan(
            notes=("left as it is: one helper serves all profiles, and others have `hosts` too",)
        )
    steps = [wrapper, *([Write(path=path, content=text, gist=gist)] if text != there else [])]
    notes = (
        ()
        if request.is_undo
        else (
            "see it work with: terraform init, in a directory whose modules come from the host",
            "Terraform hides a helper's failures: `nightporter status` shows them",
            *left_out,
        )
    )
    return Plan(steps=tuple(steps), notes=notes)


def curl(request: Request) -> Plan:
    """curl runs no helper: the header comes through a file descriptor, not through the command
    line."""
    ask = shlex.join(
        ["nightporter", *config_arguments(request), "token", request.profile.name, "-o"]
    )
    return Plan(notes=(f"nothing to write. Use: {ask} header | curl -H @- https://HOST/",))


def httpie(request: Request) -> Plan:
    """HTTPie reads a header's value from a file."""
    ask = shlex.join(
        ["nightporter", *config_arguments(request), "token", request.profile.name, "-o"]
    )
    return Plan(
        notes=(f"nothing to write. Use: http https://HOST/ Authorization:@<({ask} authorization)",)
    )


def google(request: Request) -> Plan:
    """A credential configuration for each audience, for GOOGLE_APPLICATION_CREDENTIALS."""
    machine, profile = request.machine, request.profile
    audiences = profile.helper_options["google_audiences"]
    path = os.path.join(machine.data_directory, "google", f"{profile.name}.json")
    output_file = os.path.join(machine.cache_directory, f"{profile.name}.google.json")
    if request.is_undo:
        steps = tuple(
            Write(path=file, content=None, gist="", is_ours=True) for file in (path, output_file)
        )
        named = machine.environment.get("GOOGLE_APPLICATION_CREDENTIALS") == path
        note = "unset GOOGLE_APPLICATION_CREDENTIALS: it names a file that is gone"
        return Plan(steps=steps, notes=(note,) if named else ())
    if len(audiences) != 1:
        raise ConfigError(
            f"profile {profile.name!r} names {len(audiences)} `google_audiences`, and a credential"
            " file has one",
            hint="Name the workload identity provider's resource name in `google_audiences`.",
        )
    command = [
        machine.path_of("nightporter"),
        *config_arguments(request),
        "credential",
        "google",
        profile.name,
    ]
    document = {
        "type": "external_account",
        "audience": audiences[0],
        "subject_token_type": TOKEN_TYPES[0],
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {
            "executable": {
                "command": shlex.join(command),
                "timeout_millis": 30_000,
                "output_file": output_file,
            }
        },
    }
    text = json.dumps(document, indent=2) + "\n"
    return Plan(
        steps=(Write(path=path, content=text, gist=text.rstrip(), is_ours=True),),
        notes=(
            f"set GOOGLE_APPLICATION_CREDENTIALS={shlex.quote(path)}",
            "set GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1",
            f"see it work with: nightporter credential google {profile.name}, with"
            f" GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE={audiences[0]}",
        ),
    )


def bazel(request: Request) -> Plan:
    """A wrapper, since Bazel passes no arguments, and a line a host in the user's bazelrc."""
    machine = request.machine
    wrapper = machine.wrapper("bazel", ["bazel"], request)
    path, name = machine.home(".bazelrc"), f"bazel {request.profile.name}"
    there = machine.read(path)
    if request.is_undo:
        text = set_block(there, name, None)
        gone = Write(path=path, content=text, gist=f"(the block of {name} out)")
        return Plan(steps=(gone,) if text != there else ())
    scopes = {entry: client_rules.bazel_scope(parse_rule(entry)) for entry in request.profile.hosts}
    needed_rules(request.profile)
    fitting = dict.fromkeys(
        scope for scope in scopes.values() if client_rules.BAZEL_SCOPE.fullmatch(scope)
    )
    if not fitting:
        raise HostNotAllowedError(
            "Bazel's scopes are names with a dot, and `hosts` of profile"
            f" {request.profile.name!r} holds none",
            hint="Name the cache in `hosts` by a name with a dot.",
        )
    block = "\n".join(f'common "--credential_helper={name}={wrapper.path}"' for name in fitting)
    text = set_block(there, name, block)
    step = Write(path=path, content=text, gist=block)
    left_out = [entry for entry, scope in scopes.items() if scope not in fitting]
    notes = [
        "see it work with: bazel fetch or bazel build of a target that needs the host",
        "not yet seen with a real Bazel: checked against its schemas and its source",
    ]
    if left_out:
        notes.append(f"left out, since Bazel's scopes are names with a dot: {', '.join(left_out)}")
    return Plan(steps=(wrapper, *([step] if text != there else [])), notes=tuple(notes))


def kubelet(request: Request) -> Plan:
    """A directory to be named in the kubelet's two flags: the provider, and its configuration for
    all profiles."""
    machine, profile = request.machine, request.profile
    directory = os.path.join(machine.data_directory, "kubelet")
    wrapper = machine.wrapper_at(
        os.path.join(directory, "bin", "nightporter-kubelet"), ["kubelet"], request
    )
    path = os.path.join(directory, "config.yaml")
    others = [item for item in request.profiles.values() if item is not profile and item.hosts]
    if request.is_undo and not others:
        gone = (wrapper, Write(path=path, content=None, gist="", is_ours=True))
        note = (
            "take --image-credential-provider-config and --image-credential-provider-bin-dir from"
            " the kubelet's flags before its next start: it stops where a file that they name is"
            " missing"
        )
        return Plan(steps=gone, notes=(note,) if os.path.exists(path) else ())
    served = others if request.is_undo else [profile, *others]
    images = list(dict.fromkeys(image for item in served for image in _kubelet_images(item)))
    left_out = [entry for entry in profile.hosts if parse_rule(entry).target.scheme != "https"]
    if not (images or request.is_undo):
        needed_rules(profile)
        raise HostNotAllowedError(
            "the kubelet tells no scheme, so it never asks for plain http, and `hosts` of profile"
            f" {profile.name!r} holds nothing else",
            hint="Name the registry in `hosts` without http://.",
        )
    lines = [
        "apiVersion: kubelet.config.k8s.io/v1",
        "kind: CredentialProviderConfig",
        "providers:",
        "- name: nightporter-kubelet",
        "  apiVersion: credentialprovider.kubelet.k8s.io/v1",
        "  defaultCacheDuration: 0s",
        "  matchImages:",
        *(f"  - {json.dumps(image)}" for image in images),
    ]
    text = "\n".join(lines) + "\n"
    return Plan(
        steps=(
            *([] if request.is_undo else [wrapper]),
            Write(path=path, content=text, gist=text, is_ours=True),
        ),
        notes=(
            f"start the kubelet with --image-credential-provider-bin-dir={directory}/bin",
            f"and --image-credential-provider-config={path}",
            "not yet seen with a real kubelet: checked against its schema and its source",
            *(f"left out, since the kubelet tells no scheme: {entry}" for entry in left_out),
        ),
    )


def _kubelet_images(profile: Profile) -> list[str]:
    """What the kubelet compares with an image: the port as it is written, the path as a prefix."""
    rules = [rule for rule in rules_of(profile) if rule.target.scheme == "https"]
    return ["/".join((rule.key, *(rule.target.path or ()))) for rule in rules]
