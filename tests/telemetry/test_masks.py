"""What is masked, what is not, and how long it takes to say so."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.masks import MOST_DEPTH, Masks, masked, masked_error, masks_of

BEGIN = "-----BEGIN RSA " + "PRIVATE KEY-----"  # in two, so that no scanner cries wolf
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my key is sk-proj-abcdefghijklmnopqrst, thanks", "my key is [key], thanks"),
        ("(sk-ant-api03-abcdefghijklmnop)", "([key])"),
        ("AIzaSyA-1234567890abcdefghijklmnopqrstuv", "[key]"),
        ("id AKIA" + "IOSFODNN7EXAMPLE", "id [key]"),
        ("token=ghp_not-a-key-not-a-key-", "token=[key]"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [token]"),
        ("basic dXNlcjpwYXNzd29yZA==", "basic [token]"),
        (f"cookie {JWT}", "cookie [token]"),
        ("mail me@example.com, or you@sub.example.org.", "mail [email], or [email]."),
        ("mailto:me@example.com", "mailto:[email]"),
        ("postgres://user:password@db.example.com/x", "[secret]"),
        ("card 4111 1111 1111 1111 please", "card [card] please"),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("2024-01-02 378282246310005 ok", "2024-01-02 [card] ok"),
        (f"{BEGIN}\nMIIE\n-----END RSA PRIVATE KEY-----\nrest", "[key]\nrest"),
        (f"{BEGIN}\nMIIE", "[key]"),
    ],
)  # fmt: skip
def test_a_secret_is_replaced_by_its_kind(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "sk-8", "task-management-in-large-organisations", "risk-assessment-of-everything", "4111 1111 1111 1112", "12345",
        "1700000000000000000", "2024-01-02 10:11:12 2024-01-03", "npm i @scope/sdk@1.2.3", "@decorator", "a@b", "the bearer of news",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", "https://example.com/a/b?c=d", "eyJust a word",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api_key=hunter2", "api_key=[secret]"),
        ("bad request: api_key: hunter", "bad request: api_key: [secret]"),
        ("key=VALUE", "key=[secret]"),
        ("?key=abc&alt=sse", "?key=[secret]&alt=sse"),
        ('{"x-api-key": "abc def", "model": "m"}', '{"x-api-key": "[secret] def", "model": "m"}'),
        ('got {\\"apiKey\\":\\"abc\\"}', 'got {\\"apiKey\\":\\"[secret]\\"}'),
        ("Incorrect API key provided: abc. You can find", "Incorrect API key provided: [secret]. You can find"),
        ("Incorrect API key provided: sk-proj-abcd", "Incorrect API key provided: [key]"),
        ("the access token is: abc", "the access token is: [secret]"),
        ("password => pw, user => me", "password => [secret], user => me"),
        ("Authorization: Bearer abc1", "Authorization: Bearer [token]"),
        ("authorization: abc", "authorization: [secret]"),
        ("invalid bearer abc123", "invalid bearer [token]"),
        ("sk-abcd is unknown", "[key] is unknown"),
        ("proxy-authorization%3Aabc", "proxy-authorization%3A[secret]"),
        ("client_secret='s3', scope='x'", "client_secret='[secret]', scope='x'"),
        ("signing key: abcdefg1", "signing key: [secret]"),
    ],
)
def test_what_an_error_calls_a_secret_is_one_however_short(text: str, expected: str) -> None:
    assert masked_error(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "max_tokens: 4096 is too large: 200000", "Unknown parameter: 'foo'", "code: invalid_api_key", "Missing key: messages",
        "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000", "KeyError: 'messages'",
        "The bearer of this", "Use a bearer token", "tokens=5", "status: 503", "Unauthorized", "Invalid value: 'auto' for tool_choice",
    ],
)  # fmt: skip
def test_what_an_error_says_otherwise_stays(text: str) -> None:
    assert masked_error(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("password=hunter2", "password=[secret]"), ('"api_key": "abc123def"', '"api_key": "[secret]"')],
)
def test_in_what_people_write_an_assigned_secret_has_to_look_like_one(text: str, expected: str) -> None:
    assert masked(text) == expected
    for kept in ("password = input()", "sorted(names, key=len)", "token: str", "api_key=os.environ", "max_tokens=4096"):
        assert masked(kept) == kept


def test_members_whose_name_says_it_are_masked_whole() -> None:
    value: Any = {
        "api_key": "short",
        "nested": [{"password": 1234, "max_tokens": 5, "is_auth": True}],
        "q": "me@example.com",
        "n": None,
    }
    assert Masks().value(value) == {
        "api_key": "[secret]",
        "nested": [{"password": "[secret]", "max_tokens": 5, "is_auth": True}],
        "q": "[email]",
        "n": None,
    }


def test_what_is_too_deep_to_be_looked_at_is_not_shown() -> None:
    value: Any = "me@example.com"
    for _ in range(MOST_DEPTH + 5):
        value = [value]
    assert "example" not in str(Masks().value(value))


def test_a_config_may_name_keys_of_its_own() -> None:
    masks = masks_of(["acme_"])
    assert masks.text("use acme_0123456789 and acme_12") == "use [key] and acme_12"
    assert masked("use acme_0123456789") == "use acme_0123456789"


@pytest.mark.parametrize("prefix", ["", "ab", "a b", "ü12"])
def test_a_prefix_that_would_hit_words_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="at least 3 characters"):
        masks_of([prefix])


@pytest.mark.parametrize(
    "piece",
    ["eyJ", "sk-", "1 ", "1", " ", "a@", "@a.", "Bearer ", "-----BEGIN ", "-----END ", "4-", "Basic  ", "a" * 5 + " ", ".", ":", "key=", "a b: c ", "token: ", "'=", "%3A"],
)
def test_the_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    """A quadratic rule would take minutes here."""
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    masked(text)
    masked_error(text)
    assert time.process_time() - began < 5.0


@given(st.text(st.sampled_from("sk-_@.:/ 0123456789abcdeyJBearer=\n\udcff"), max_size=200))
def test_a_second_look_finds_nothing_more(text: str) -> None:
    assert masked(masked(text)) == masked(text)
    assert masked_error(masked_error(text)) == masked_error(text)
