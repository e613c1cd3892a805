"""Go's GOAUTH at the edge: empty output is "not mine".

With a profile's name it answers before the first fetch for that profile's hosts; without one only
after a 4xx, for whichever profile names the host. Go runs several of these at once, with the same
refused token in mind.
"""

from __future__ import annotations

from nightporter.cli.helpers.call import HelperCall, open_call, read_input, rule_for, write_output
from nightporter.cli.terminal import Options, say, show_error
from nightporter.client.broker import Broker
from nightporter.core.errors import NightporterError
from nightporter.core.hosts import BadAskError, profiles_for, rules_of
from nightporter.protocols import go

FRESH_S = 10.0


def serve(arguments: list[str], options: Options) -> int:
    """`[PROFILE] [URL]`."""
    url = arguments.pop() if arguments and "://" in arguments[-1] else None
    if len(arguments) > 1:
        say("usage: nightporter credential go [PROFILE] [URL]")
        return 2
    try:
        with open_call("go", options) as call:
            name = arguments[0] if arguments else None
            if url is None:
                reply = _first(call, name)
            else:
                response = read_input(options, go.MAX_BYTES)
                reply = _after_failure(call, name, url, is_refused=go.says_unauthorized(response))
    except BadAskError as exc:
        say(f"the request of go is refused: {exc}")
    except NightporterError as exc:
        show_error(exc)
    else:
        if reply:
            write_output(reply)
        return 0
    return 1


def _first(call: HelperCall, name: str | None) -> str:
    if name is None:
        return ""
    broker = call.broker_of(name)
    profiles = call.porter.config.profiles.values()
    urls = [
        rule.origin
        for rule in rules_of(broker.profile)
        if not (rule.is_wildcard or rule.target.path)
        and rule.target.scheme == "https"
        and profiles_for(rule.target, profiles) == [broker.profile]
    ]
    return go.render(call.token(broker), urls) if urls else ""


def _after_failure(call: HelperCall, name: str | None, url: str, *, is_refused: bool) -> str:
    target = call.asked(lambda: go.parse_url(url))
    broker = call.broker_for(target, only=name) if target else None
    if broker is None or target is None:
        return ""
    if name is not None and is_refused:  # only then did Go have our token to send
        _drop_refused(broker)
    has_path = bool(rule_for(broker.profile, target).target.path)
    bare = url.partition("?")[0]  # later releases of Go look addresses up without their query
    return go.render(call.token(broker), [bare, url] if has_path else [target.origin, url])


def _drop_refused(broker: Broker) -> None:
    """A token of the last seconds was put there by a sister of this process, after the same 401."""
    held = broker.held()
    if held is not None and not broker.was_exchanged_within(held, FRESH_S):
        broker.refuse(held.value)
