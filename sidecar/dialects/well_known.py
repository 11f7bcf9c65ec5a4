"""Paths that are the same everywhere (RFC 8615); it imports nothing, because every head of a request is asked about them."""

AGENT_CARDS = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""Where an agent's public card is: the second one before A2A 0.3."""


def is_card(path: str) -> bool:
    """Whether a path is that of an agent's public card."""
    return path.endswith(AGENT_CARDS)
