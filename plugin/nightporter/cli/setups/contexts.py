"""The contexts of a kubeconfig: which user each had before a person switched it to ours, and the
way back.

`setup kubectl` adds a user and changes no context; the person does, by the command that is printed.
So the users of all contexts are noted at setup, and put back at the undo: a context whose user is
gone leaves kubectl asking for a user name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from nightporter.cli.setups.plan import Amend, Machine, Plan, Run, Write
from nightporter.operations import kubeconfig


def user_of(profile: str) -> str:
    """Returns the name of a profile's user in the kubeconfig."""
    return f"nightporter-{profile}"


def note_users(machine: Machine, client: str, profile: str) -> tuple[Write, ...]:
    """Returns the step that notes each context's user, but for those that are ours already."""
    view = _view(machine, client)
    known = _noted(machine, profile)
    known |= {
        name: user for name, user in _contexts(view).items() if not user.startswith("nightporter-")
    }
    if not known or machine.is_dry:
        return ()
    text = json.dumps(known, indent=2) + "\n"
    path = _place(machine, profile)
    return (Write(path=path, content=text, gist="(the user of each context)", is_ours=True),)


def install_hints(machine: Machine, user: str, hint: str) -> tuple[Amend, ...]:
    """Returns the steps that write `installHint`, which kubectl shows where it can't find the
    command: no command of kubectl's can set it, so a line is put into what kubectl has just
    written."""
    named = machine.environment.get("KUBECONFIG") or machine.home(".kube", "config")
    head = re.compile(rf"(?m)^- name: {re.escape(user)}\n  user:\n    exec:\n")
    line = f"      installHint: {json.dumps(hint)}\n"

    def change(text: str) -> str:
        found = head.search(text)
        return f"{text[: found.end()]}{line}{text[found.end() :]}" if found else text

    return tuple(
        Amend(path=path, change=change, gist=f"installHint: {hint}")
        for path in named.split(os.pathsep)
        if path
    )


def undo(machine: Machine, client: str, profile: str) -> Plan:
    """Returns the steps that take the user away and give contexts theirs back; the notes name each
    context that has none to go back to."""
    view, user = _view(machine, client), user_of(profile)
    noted, path = _noted(machine, profile), _place(machine, profile)
    forget = (
        (Write(path=path, content=None, gist="", is_ours=True),) if os.path.lexists(path) else ()
    )
    users = {name for name, _ in kubeconfig.items(view, "users", "user")}
    steps, notes = [], []
    for context, present in _contexts(view).items():
        if present != user:
            continue
        before = noted.get(context)
        if before and before in users:
            argv = (client, "config", "set-context", context, f"--user={before}")
            steps.append(Run(argv=argv))
            notes.append(f"context {context!r} has its user {before!r} again")
        else:
            steps.append(Run(argv=(client, "config", "unset", f"contexts.{context}.user")))
            if before != "":  # it had one, or nobody knows
                notes.append(
                    f"context {context!r} has no user now; give it one: kubectl config set-context"
                    f" {context} --user=NAME"
                )
    if user in users:
        steps.append(Run(argv=(client, "config", "delete-user", user)))
    return Plan(steps=(*steps, *forget), notes=tuple(notes))


def _place(machine: Machine, profile: str) -> str:
    return os.path.join(machine.data_directory, "kubectl", f"{profile}.json")


def _view(machine: Machine, client: str) -> Mapping[str, Any]:
    """The kubeconfig as kubectl shows it, without secrets; empty where it can't."""
    return kubeconfig.parse(machine.ask(client, "config", "view", "-o", "json"))


def _contexts(view: Mapping[str, Any]) -> dict[str, str]:
    """Each context's user; empty for one without."""
    return {
        name: str(context.get("user") or "")
        for name, context in kubeconfig.items(view, "contexts", "context")
    }


def _noted(machine: Machine, profile: str) -> dict[str, str]:
    found = kubeconfig.parse(machine.read(_place(machine, profile)))
    return {name: user for name, user in found.items() if isinstance(user, str)}
