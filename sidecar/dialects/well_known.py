"""Paths that are the same everywhere (RFC 8615); it imports nothing, because every head of a request is asked about them."""

AGENT_CARDS = ("/.well-known/agent-card.json", "/.well-known/agent.json")
"""Where an agent's public card is: the second one before A2A 0.3."""

EXTENDED_CARDS = ("/extendedAgentCard", "/agent/authenticatedExtendedCard")
"""Below an agent's own path, where its card for those is who have said who they are: of A2A 1.0, and before."""

UNCERTAIN_CARDS = ("/v1/card",)
"""The same in A2A 0.3, by a name that may be anybody's: only the content tells."""

_ALL = AGENT_CARDS + EXTENDED_CARDS + UNCERTAIN_CARDS


def is_public_card(path: str) -> bool:
    """Whether a path is that of an agent's public card."""
    return path.endswith(AGENT_CARDS)


def is_card(path: str) -> bool:
    """Whether an agent's card, public or not, may be what a GET of this path is answered with."""
    return path.endswith(_ALL)


def is_certain(path: str) -> bool:
    """Whether a path for which `is_card` holds can be nothing else."""
    return not path.endswith(UNCERTAIN_CARDS)
