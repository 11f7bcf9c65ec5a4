import pytest

from sidecar.dialects.providers import UNKNOWN, provider


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("api.openai.com", "openai"),
        ("API.OpenAI.com:443", "openai"),
        ("api.openai.com.", "openai"),
        ("us.api.openai.com", "openai"),
        ("my-res.openai.azure.com", "azure.ai.openai"),
        ("my-res.services.ai.azure.com", "azure.ai.openai"),
        ("my-res.cognitiveservices.azure.com", "azure.ai.openai"),
        ("models.inference.ai.azure.com", "azure.ai.inference"),
        ("api.groq.com", "groq"),
        ("api.mistral.ai", "mistral_ai"),
        ("codestral.mistral.ai", "mistral_ai"),
        ("api.deepseek.com", "deepseek"),
        ("api.x.ai", "x_ai"),
        ("api.perplexity.ai", "perplexity"),
        ("openrouter.ai", "openrouter"),
        ("api.together.xyz", "together"),
        ("api.fireworks.ai", "fireworks"),
        ("api.moonshot.cn", "moonshot_ai"),
        ("api.cerebras.ai", "cerebras"),
        ("api.cohere.com", "cohere"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "aws.bedrock"),
        ("eu-de.ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ],
)
def test_a_host_says_who_answers(host: str, expected: str) -> None:
    assert provider(host) == expected


@pytest.mark.parametrize("host", ["", "localhost:8000", "127.0.0.1", "[::1]:11434", "[::1]", "vllm.internal", "notopenai.azure.com.evil.org", "max.ai", "groq.com.evil.org", ":", "..."])
def test_nobody_known_is_taken_for_what_the_format_says(host: str) -> None:
    assert provider(host) == UNKNOWN == "openai"
