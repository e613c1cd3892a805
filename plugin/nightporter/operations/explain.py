"""`nightporter explain`: what a reference means and what to do, for the profile that it is about.

The catalogue knows no profile. Where the configuration has exactly one, its commands name it, as
they name it everywhere else; where it doesn't, what is left to fill in is said to be that. It never
fails for the sake of the configuration: it may be what the reference is about. Pure.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from nightporter.core.errors import with_profile
from nightporter.core.explanations import EXPLANATIONS
from nightporter.core.model import Config, Role

WIDTH = 78
SHOWN = 5  # profiles that are named; `config show` has more
NO_BREAK = "\u00a0"


def explanation(reference: str, config: Config | None) -> str:
    """Returns the text that explains a reference of the catalogue. `config`: None where it can't be
    read."""
    found = EXPLANATIONS[reference]
    profiles = config.profiles if config is not None else {}
    todo = found.remedy
    if len(profiles) == 1:
        (only,) = profiles.values()
        todo = with_profile(todo, only.name, only.role.value)
    parts = [reference, _wrapped(found.meaning), _wrapped(f"What to do: {todo}")]
    if legend := "\n".join(map(_wrapped, _legend(todo, list(profiles)))):
        parts.append(legend)
    return "\n\n".join(parts)


def _legend(todo: str, profiles: Sequence[str]) -> Iterator[str]:
    """What each word stands for that is left to fill in."""
    named = [*profiles[:SHOWN], *(["..."] if len(profiles) > SHOWN else [])]
    meanings = {
        "PROFILE": f"the profile ({', '.join(named) or '`nightporter config show` lists them'})",
        "ROLE": f"the role of the profile ({', '.join(role.value for role in Role)})",
        "CLIENT": "the client (`nightporter setup --help` lists them)",
        "MOUNT": "`mount` of the store in the configuration",
    }
    commands = " ".join(re.findall("`[^`]+`", todo))
    for word, meaning in meanings.items():
        if re.search(rf"[ `]{word}\b", commands):
            yield f"{word} stands for {meaning}."


def _wrapped(text: str) -> str:
    """Fills lines, and leaves each command in one: a broken one can't be copied."""
    kept = re.sub("`[^`]+`", lambda command: command[0].replace(" ", NO_BREAK), text)
    lines = textwrap.fill(kept, WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace(NO_BREAK, " ")
