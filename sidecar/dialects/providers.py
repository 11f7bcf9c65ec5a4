"""
Who answers: a host's `gen_ai.provider.name`, for everybody who speaks OpenAI's format.

The names are those of the semantic conventions; who has none there goes by its own. A host that nobody knows (a vLLM, Ollama or
LiteLLM of one's own) is called `openai`, as that is what it says that it speaks.
"""

UNKNOWN = "openai"

_BY_DOMAIN = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "inference.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "deepseek.com": "deepseek",
    "x.ai": "x_ai",
    "perplexity.ai": "perplexity",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openrouter.ai": "openrouter",
    "together.xyz": "together",
    "together.ai": "together",
    "fireworks.ai": "fireworks",
    "cerebras.ai": "cerebras",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
}


def provider(host: str) -> str:
    """Return the name of the provider behind a host (a port may follow it); `UNKNOWN` where nobody knows it."""
    name = host.lower()
    if not name.endswith("]"):  # an IPv6 address without a port
        name = name.rpartition(":")[0] or name
    name = name.rstrip(".")
    if name.endswith("-aiplatform.googleapis.com"):  # a region stands before it
        return "gcp.vertex_ai"
    if name.startswith("bedrock-") and name.endswith(".amazonaws.com"):
        return "aws.bedrock"
    while name:
        found = _BY_DOMAIN.get(name)
        if found is not None:
            return found
        name = name.partition(".")[2]
    return UNKNOWN
