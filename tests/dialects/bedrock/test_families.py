import json

import pytest

from sidecar.dialects.bedrock.families import FAMILIES, family_of


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", b"{}", "anthropic"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", b"{}", "anthropic"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2", b"{}", "anthropic"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/q7", b'{"anthropic_version": "x"}', "anthropic"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/q7", b'{"inputText":"x"}', "titan"),
        ("arn:aws:bedrock:us-east-1:1:imported-model/q7", b'{"prompt":"x","max_gen_len":7}', "meta"),
        ("arn:aws:bedrock:us-east-1:1:imported-model/q7", b"{}", ""),
        ("apac.amazon.nova-pro-v1:0", b"{}", "nova"),
        ("amazon.titan-text-express-v1", b"{}", "titan"),
        ("us.meta.llama4-scout-17b-instruct-v1:0", b"{}", "meta"),
        ("mistral.mistral-7b-instruct-v0:2", b"{}", "mistral"),
        ("cohere.command-r-v1:0", b"{}", "cohere"),
        ("ai21.jamba-1-5-mini-v1:0", b"{}", "ai21"),
        ("openai.gpt-oss-120b-1:0", b"{}", "openai"),
        ("qwen.qwen3-32b-v1:0", b"{}", "choices"),
        ("metadata.model", b"{}", ""),
    ],
    ids=str,
)
def test_the_vendor_stands_in_the_id_or_shows_in_the_body(model: str, body: bytes, expected: str) -> None:
    assert family_of(model, body) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_last_chunks_are_json_objects(family: str) -> None:
    assert all(isinstance(json.loads(chunk), dict) for chunk in FAMILIES[family].last)
    assert FAMILIES[family].bound
