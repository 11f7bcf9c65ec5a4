"""
The traffic plane: an agent's calls on their way to an endpoint and back.

    listeners/ ─► graph.py (router.py, identity.py) ─► chain.py of policies/ ─► upstreams/ ─► endpoint
         └──────────────────── wire/: HTTP/1.1 on both sockets ───────────────────────┘

`graph.py` is everything that one config says, compiled once and never changed; a reload swaps a new one in. `wire/` moves
bytes and knows RFC 9110 and RFC 9112; everything above it decides and never touches a socket. A call in flight is a
`model.exchange.Exchange`, each try at an upstream an `Attempt`; when they have ended they become facts on the bus, and that
is all that other planes see.

This is the fast path: nothing here makes a task, a timer or a copy of a body for an exchange that needs none.
"""
