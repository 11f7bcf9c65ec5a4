"""The agent-sre sidecar: SRE for AI agents, in the data path of their LLM, MCP and A2A calls."""

__version__ = "0.1.0"
