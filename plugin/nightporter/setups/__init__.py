"""`nightporter setup CLIENT PROFILE`: the client's configuration, written by its own command where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nightporter.setups import others, packages, tools
from nightporter.setups.plan import Machine, Plan, Request, carry_out, show

CLIENTS: Mapping[str, Callable[[Request], Plan]] = {
    "kubectl": tools.kubectl,
    "git": tools.git,
    "docker": tools.docker,
    "cargo": packages.cargo,
    "terraform": others.terraform,
    "pip": packages.pip,
    "uv": packages.uv,
    "twine": packages.twine,
    "go": packages.go,
    "npm": packages.npm,
    "pnpm": packages.pnpm,
    "curl": others.curl,
    "httpie": others.httpie,
    "google": others.google,
    "bazel": others.bazel,
    "kubelet": others.kubelet,
}

__all__ = ["CLIENTS", "Machine", "Plan", "Request", "carry_out", "show"]
