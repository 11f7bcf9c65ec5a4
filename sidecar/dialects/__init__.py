"""
How others speak: bytes to model and back, no I/O, no clock. One module a provider or protocol; `plain.py` is the template.

    dialect.py                          the contract: the questions that every dialect answers
    recognition.py, providers.py        which dialect a request is in; who stands behind a host
    openai/ anthropic/ gemini/ bedrock/ cohere/ ollama.py     models
    mcp/ a2a/ a2a_grpc.py agent_card.py                       tools and agents
    sse.py ndjson.py eventstream.py     streams of events, cut into events
    jsonrpc.py bodies.py lenient.py     bodies: read as far as they make sense
    untyped.py unfinished.py parts.py   what was said, word by word (`content` of each dialect), also where it breaks off
    splice.py                           changes at their place, every other byte as it was

Floor 2. Everything is incremental and bounded, because what comes is a stranger's; what cannot be read is nobody's fault.
"""
