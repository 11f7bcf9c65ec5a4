import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.redaction import is_sensitive, redacted_query, redacted_target


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("key=AIza123&alt=sse", "key=REDACTED&alt=sse"),
        ("alt=sse&api_key=1&API-KEY=2&apikey=3", "alt=sse&api_key=REDACTED&API-KEY=REDACTED&apikey=REDACTED"),
        ("token=1&access_token=2&sig=3&signature=4", "token=REDACTED&access_token=REDACTED&sig=REDACTED&signature=REDACTED"),
        ("X-Amz-Signature=abc&x-amz-credential=d", "X-Amz-Signature=REDACTED&x-amz-credential=REDACTED"),
        ("AWSAccessKeyId=AKIA&X-Goog-Signature=q", "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED"),
        ("%6Bey=secret&api%5Fkey=secret", "%6Bey=REDACTED&api%5Fkey=REDACTED"),
        ("key=&token", "key=&token"),
        ("key=a=b", "key=REDACTED"),
        ("monkey=1&keyword=2&tokens=3", "monkey=1&keyword=2&tokens=3"),
        ("a=%zz&&=x&q=a+b", "a=%zz&&=x&q=a+b"),
    ],
)
def test_only_values_of_sensitive_parameters_go(query: str, expected: str) -> None:
    assert redacted_query(query) == expected
    assert redacted_target(f"/v1/x?{query}") == f"/v1/x?{expected}"


@pytest.mark.parametrize(
    "name",
    ["x-api-key", "auth_token", "accessToken", "private_token", "application_key", "api_token", "client-secret", "bearer", "bearerToken",
     "XApiKey", "APIKEY", "apiKey", "secret_access_key", "userPassword", "db.password", "user[password]", "auth", "x_auth", "authKey",
     "Authorization", "code", "sig", "jwt", "Ocp-Apim-Subscription-Key", "credentials", "page_token", "oauth_signature", "key1", "key_2"],
)  # fmt: skip
def test_a_name_that_speaks_of_a_credential_is_sensitive_however_it_is_written(name: str) -> None:
    assert is_sensitive(name)
    assert is_sensitive(name.upper())


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "maxTokens", "tokens", "max-output-tokens", "tokenizer", "monkey", "keyword", "keys", "author", "authors", "country_code",
     "codec", "design", "passage", "signal", "model", "alt", "cursor", "", "1"],
)  # fmt: skip
def test_a_name_that_only_looks_like_one_is_not(name: str) -> None:
    assert not is_sensitive(name)


def test_a_target_without_query_stays() -> None:
    assert redacted_target("/v1/models/key=1") == "/v1/models/key=1"


@given(st.text(max_size=60), st.sampled_from(["key", "X-Amz-Security-Token", "Client_Secret"]))
def test_no_secret_survives_whatever_stands_around_it(noise: str, name: str) -> None:
    secret = "s3cr3t-value"
    assert secret not in redacted_query(f"{noise}&{name}={secret}")


def test_spaces_do_not_hide_a_name() -> None:
    assert is_sensitive("+key") and is_sensitive("%20token%20")
