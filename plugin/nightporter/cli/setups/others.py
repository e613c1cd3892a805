"""Setup of Terraform, curl, HTTPie, google-auth, Bazel and the kubelet."""

from __future__ import annotations

import json
import os
import re
import shlex

from nightporter.cli.setups.merge import set_block
from nightporter.cli.setups.plan import Plan, Request, Write, config_arguments
from nightporter.cli.setups.tools import needed_rules
from nightporter.core.errors import ConfigError
from nightporter.protocols.google import TOKEN_TYPES


def terraform(request: Request) -> Plan:
    """The helper where Terraform looks for it (not on PATH), and its block in the CLI
    configuration."""
    machine = request.machine
    helper = machine.home(".terraform.d", "plugins", "terraform-credentials-nightporter")
    wrapper = machine.wrapper_at(helper, ["credential", "terraform"], request)
    path = machine.environment.get("TF_CLI_CONFIG_FILE") or machine.home(".terraformrc")
    there = machine.read(path)
    block = 'credentials_helper "nightporter" {}'
    rest = set_block(there, "terraform", None)
    other = re.search(r'^\s*credentials_helper\s+"([^"]+)"', rest, re.M)
    if not request.is_undo:
        needed_rules(request.profile)
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
        else ("Terraform hides a helper's failures: `nightporter status` shows them",)
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
        return Plan(
            steps=tuple(
                Write(path=file, content=None, gist="", is_ours=True)
                for file in (path, output_file)
            )
        )
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
        ),
    )


def bazel(request: Request) -> Plan:
    """A wrapper, since Bazel passes no arguments, and a line a host in the user's bazelrc."""
    machine = request.machine
    wrapper = machine.wrapper("bazel", ["credential", "bazel"], request)
    path, name = machine.home(".bazelrc"), f"bazel {request.profile.name}"
    there = machine.read(path)
    if request.is_undo:
        text = set_block(there, name, None)
        gone = Write(path=path, content=text, gist=f"(the block of {name} out)")
        return Plan(steps=(gone,) if text != there else ())
    hosts = [rule.authority.split(":")[0] for rule in needed_rules(request.profile)]
    lines = [f'common "--credential_helper={host}={wrapper.path}"' for host in hosts if "." in host]
    if not lines:
        raise ConfigError("Bazel's scopes are names with a dot, and `hosts` holds none")
    block = "\n".join(lines)
    text = set_block(there, name, block)
    step = Write(path=path, content=text, gist=block)
    notes = ("not yet seen with a real Bazel: checked against its schemas only",)
    return Plan(steps=(wrapper, *([step] if text != there else [])), notes=notes)


def kubelet(request: Request) -> Plan:
    """A directory to be named in the kubelet's two flags: the provider, and its configuration for
    all profiles."""
    machine, profile = request.machine, request.profile
    directory = os.path.join(machine.data_directory, "kubelet")
    wrapper = machine.wrapper_at(
        os.path.join(directory, "bin", "nightporter-kubelet"), ["credential", "kubelet"], request
    )
    path = os.path.join(directory, "config.yaml")
    others = [item for item in request.profiles.values() if item is not profile and item.hosts]
    if request.is_undo and not others:
        return Plan(steps=(wrapper, Write(path=path, content=None, gist="", is_ours=True)))
    served = others if request.is_undo else [profile, *others]
    images = list(dict.fromkeys(rule.authority for item in served for rule in needed_rules(item)))
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
            "not yet seen with a real kubelet: checked against its schema only",
        ),
    )
