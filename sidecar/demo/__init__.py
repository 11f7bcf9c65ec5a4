"""
What `sidecar demo` shows the sidecar with: an agent, the endpoints that it calls, a backend for the traces, and the tree.

    agent.py ─► (the sidecar) ─► llm.py  mcp.py  a2a.py      one file a peer; peers.py is their process
                     └─ OTLP ─► backend.py ─► tree.py        what was exported, read back and drawn

`agent.py` is a program of its own that imports nothing but the standard library and knows nothing but `HTTP_PROXY`; the
endpoints are real HTTP servers on loopback that speak as the real ones do. Nothing here is used by the sidecar itself.
"""
