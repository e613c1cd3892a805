"""The borders of what others tell: scopes, members of a reply, words, digests of past tokens, and
suffixes that anybody can have a name under."""

from __future__ import annotations

from typing import Any

import pytest

from nightporter.core import lineage, output, scope, suffixes, words
from nightporter.core.lineage import Link

# Scopes.


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a b", ("a", "b")),
        (" a,b\tc  a ", ("a", "b", "c")),
        (["a", "b c"], ("a", "b", "c")),
        ("a%20b%2Fc", ("a", "b/c")),
        ("", ()),
        ([], ()),
        ("x" * 255 + " " + "y" * 256, ("x" * 255,)),
        ("a \x07 b", ("a", "b")),
        (["a", 1], None),
        (None, None),
        (7, None),
    ],
)
def test_scopes_as_issuers_write_them(value: Any, found: Any) -> None:
    """By blanks, commas, in a list, percent-encoded; each once, none longer than 255 characters."""
    assert scope.scopes_of(value) == found


def test_200_scopes_are_the_most() -> None:
    """So that no reply fills a record."""
    many = scope.scopes_of(" ".join(f"s{number}" for number in range(201)))
    assert many == tuple(f"s{number}" for number in range(200))


@pytest.mark.parametrize(
    ("asked", "granted", "missing"),
    [
        (["a", "b"], ["b"], ("a",)),
        (["A"], ["a"], ()),
        (["https://graph.example/User.Read"], ["user.read"], ()),
        (["user.read"], ["https://graph.example/User.Read"], ()),
        (["https://a.example/x"], ["https://b.example/x"], ("https://a.example/x",)),
        (["https://graph.example/.default"], ["x"], ()),
        ([".default"], ["x"], ()),
        (["offline_access", "refresh_token", "openid"], ["x"], ()),
        (["profile", "email", "address", "phone"], ["x"], ()),
        (["email", "profile"], ["profile"], ("email",)),
        (["email"], ["openid"], ("email",)),
        (["email"], ["offline_access"], ("email",)),
        (["email"], [], ("email",)),
        (["email"], ["https://www.example/auth/userinfo.email"], ()),
        (["team/x"], ["x"], ("team/x",)),
        (["x"], ["team/x"], ("x",)),
    ],
)
def test_what_is_missing_of_what_was_asked_for(
    asked: list[str], granted: list[str], missing: tuple[str, ...]
) -> None:
    """A resource's address may be left out; claims are told by who tells any of them."""
    assert scope.missing_scopes(asked, granted) == missing


# Members of a reply.


@pytest.mark.parametrize(
    ("name", "text", "is_kept"),
    [
        ("instance_url", "https://a.example", True),
        ("a.b-c_D9", "x" * 2048, True),
        ("n" * 80, "x", True),
        ("n" * 81, "x", False),
        ("", "x", False),
        ("a b", "x", False),
        ("a\n", "x", False),
        ("a", "", False),
        ("a", "x" * 2049, False),
        ("a", "\x1b[1m", False),
        ("a", 7, False),
        ("a", None, False),
        (7, "x", False),
        ("access_token", "x", False),
        ("refresh_token", "x", False),
        ("id_token", "x", False),
    ],
)
def test_a_member_that_is_printable_and_no_token_is_kept(
    name: Any, text: Any, is_kept: bool
) -> None:
    """What doesn't fit is left out, beside one that fits."""
    ours = {"fits": "1"}
    assert output.output_of({name: text, **ours}) == ({name: text, **ours} if is_kept else ours)


def test_ten_members_are_the_most() -> None:
    """The first ones; what is no object has none."""
    many = {f"m{number}": "x" for number in range(11)}
    assert list(output.output_of(many)) == [f"m{number}" for number in range(10)]
    assert output.output_of([("a", "b")]) == {}


# Words.


@pytest.mark.parametrize(
    ("text", "secrets", "shown"),
    [
        ("a  b\n\tc ", (), "a b c"),
        ("a\x1b[1mb\u202e", (), "a[1mb"),
        (7, (), ""),
        ("x " * 100, (), ("x " * 100).strip()),
        ("no hunter22 here", ("hunter22",), "no *** here"),
        ("no HUNTER22 here", ("hunter22",), "no *** here"),
        ("ab", ("ab",), "***"),
        ("a seven7 here", ("seven7!",), "a seven7 here"),
        ("part: 12345678", ("x12345678y",), "part: ***"),
        ("part: 1234567", ("x1234567y",), "part: 1234567"),
        ("your password is wrong", ("password1",), "your password is wrong"),
        ("your password1 is wrong", ("password1",), "your *** is wrong"),
        ("got p%40ss%2Fword", ("p@ss/word",), "got ***"),
        ("got a+b%3Dc", ("a b=c",), "got ***"),
        ("got cEBzcy93b3Jk", ("p@ss/word",), "got ***"),
        ('got a\\"b\\\\c', ('a"b\\c',), "got ***"),
        ("jwt eyJhbGciOi.x.y end", (), "jwt *** end"),
        ("id abcdefghij0123456789", (), "id ***"),
        ("id abcdefghij012345678", (), "id abcdefghij012345678"),
        ("abcdefghijklmnopqrstuvwxyz", (), "abcdefghijklmnopqrstuvwxyz"),
        ("01234567890123456789", (), "01234567890123456789"),
        (
            "trace 0f8fad5b-d9cb-469f-a165-70867728950e.",
            (),
            "trace 0f8fad5b-d9cb-469f-a165-70867728950e.",
        ),
        ("empty", ("",), "empty"),
        ("İstanbul hunter22", ("hunter22",), "İstanbul ***"),
    ],
)
def test_words_without_a_secret(text: Any, secrets: tuple[str, ...], shown: str) -> None:
    """In any letter case, in parts of eight characters, percent-encoded, in base64 and as JSON;
    what only looks like a token is masked too, and what people need stays."""
    assert words.safe_words(text, secrets) == shown


def test_words_end_after_200_characters() -> None:
    """With a sign that there is more."""
    assert words.safe_words("ab " * 66 + "cd") == "ab " * 66 + "cd"  # 200
    assert words.safe_words("ab " * 66 + "cde") == ("ab " * 66)[:197] + "..."
    assert words.safe_words("a " * 1_999 + "x" + "hunter22") == ("a " * 99)[:197] + "..."


# Digests of past tokens.

LINK = {"digest": "0123abcd", "parent": None, "generation": 1, "at": "2026-07-14T14:00:00Z"}
LINK |= {"by": "host", "how": "seed"}
READ = Link(digest="0123abcd", parent=None, generation=1, at=1_784_037_600, by="host", how="seed")


@pytest.mark.parametrize(
    "change",
    [
        {"at": None},
        {"at": "yesterday"},
        {"generation": True},
        {"generation": "1"},
        {"how": "theft"},
        {"how": None},
    ],
)
def test_a_link_that_can_not_be_read_is_left_out(change: dict[str, Any]) -> None:
    """The others stay: nothing rests on them but words."""
    assert lineage.parse_history([{**LINK, **change}, LINK, 7]) == (READ,)


@pytest.mark.parametrize(
    ("change", "member", "read"),
    [
        ({"digest": "0123ABCD"}, "digest", None),
        ({"digest": "0123abcde"}, "digest", None),
        ({"digest": "0123abcd\n"}, "digest", None),
        ({"digest": 7}, "digest", None),
        ({"parent": "89abcdef"}, "parent", "89abcdef"),
        ({"by": "x" * 81}, "by", "x" * 80),
        ({"by": "é"}, "by", None),
        ({"by": "\x1b"}, "by", None),
        ({"by": 7}, "by", None),
    ],
)
def test_a_member_of_a_link_that_does_not_fit_is_none(
    change: dict[str, Any], member: str, read: Any
) -> None:
    """Names are printable ASCII of at most 80 characters, digests eight hexadecimal digits."""
    (link,) = lineage.parse_history([{**LINK, **change}])
    assert getattr(link, member) == read


def test_eight_links_are_kept() -> None:
    """The newest, wherever a longer history comes from."""
    many = [{**LINK, "generation": number} for number in range(9)]
    assert [link.generation for link in lineage.parse_history(many)] == list(range(1, 9))
    links = (*lineage.parse_history(many), READ)
    assert len(lineage.render_history(links)) == 8
    assert lineage.render_history((READ,)) == [LINK]
    assert lineage.parse_history({"0": LINK}) == ()


def test_a_digest_is_of_the_session_s_own() -> None:
    """Salted: the same token in two sessions has two. The value is what records hold already."""
    assert lineage.token_digest("l", "t") == "37f9f301"
    assert lineage.token_digest("m", "t") != lineage.token_digest("l", "t")
    assert lineage.token_digest(None, "t") is None
    assert lineage.token_digest("l", None) is None


# Suffixes that anybody can have a name under.


@pytest.mark.parametrize(
    ("host", "is_public"),
    [
        ("com", True),
        ("localhost", True),
        ("co.uk", True),
        ("example.com", False),
        ("a.example.co.uk", False),
        ("amazonaws.com", True),
        ("s3.eu-west-1.amazonaws.com", True),
        ("notamazonaws.com", False),
        ("azurecr.io", True),
        ("on.aws", True),
        ("pkg.dev", True),
        ("x.azmk8s.io", True),
        ("github.io", True),
        ("ck", True),
        ("anything.ck", True),
        ("www.ck", False),
        ("b.anything.ck", False),
    ],
)
def test_suffixes_that_no_wildcard_may_stand_for(host: str, is_public: bool) -> None:
    """The list's rules, its wildcards and exceptions, and services that it doesn't know."""
    assert suffixes.is_public_suffix(host) is is_public
