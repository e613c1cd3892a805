"""`config show` prints a configuration: read back, it means what it was printed from."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from nightporter.core.config import parse_config
from nightporter.core.model import Config
from nightporter.issuers import VENDORS
from nightporter.operations.show_config import render_effective, toml_item
from nightporter.stores import STORES

words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
plain_words = st.text(st.sampled_from("abcXYZ09._-"), max_size=8).map(lambda word: f"a{word}")
segments = words.filter(
    lambda word: not set(word) & set('/*?"\\{}') and word not in (".", "..", "+")
)


def parse(text: str) -> Config:
    return parse_config(text, source="config.toml", vendors=VENDORS, stores=STORES)


def quoted(value: object) -> str:
    """A value by tomlkit's hand, which `test_any_text_is_written_so_that_it_reads_back` holds."""
    return toml_item(value).as_string()


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(words, inner)))
def test_any_text_is_written_so_that_it_reads_back(value: object) -> None:
    """Whatever a value holds (control characters, emoji), tomllib reads the same."""
    assert tomllib.loads(f"key = {quoted(value)}")["key"] == value


@given(
    store=words,
    name=plain_words,
    path=segments,
    fields=st.dictionaries(st.sampled_from(["username", "password"]), words, max_size=2),
)
def test_what_is_shown_means_what_was_written(
    store: str, name: str, path: str, fields: dict[str, str]
) -> None:
    """Names with spaces, dots and emoji come back as stores and profiles of the same meaning."""
    text = (
        f'[stores.{quoted(store)}]\ntype = "vault"\n[profiles.{quoted(name)}]\n'
        f'issuer = "pitchpoint"\ncredentials = {quoted(path)}\nfields = {quoted(fields)}\n'
    )
    written = parse(text)
    again = parse(render_effective(written, {}, STORES))
    assert again.profiles == written.profiles
    assert again.stores == written.stores


@given(name=plain_words)
def test_the_embedded_store_that_nothing_names_is_shown(name: str) -> None:
    """Without a store in the file, what is shown is still a configuration of its own."""
    written = parse(f'[profiles."{name}"]\nissuer = "pitchpoint"\ncredentials = "c"\n')
    shown = render_effective(written, {}, STORES)
    assert parse(shown).profiles == written.profiles
    assert 'type = "local"  # default' in shown


def test_what_is_shown_is_quiet_to_the_eye() -> None:
    """One table a store and profile, an empty line between, a source behind each value."""
    text = (
        '[stores.v]\ntype = "vault"\naddress = "https://v.example"\n[stores.d]\ntype = "local"\n'
        '[profiles.p]\nissuer = "pitchpoint"\nstore = "v"\ncredentials = "prod/p"\n'
    )
    shown = render_effective(parse(text), {}, STORES)
    assert "\n\n[stores.d]\n" in shown
    assert "\n\n[profiles.p]\n" in shown
    assert "\n\n\n" not in shown
    assert 'address = "https://v.example"  # file' in shown
