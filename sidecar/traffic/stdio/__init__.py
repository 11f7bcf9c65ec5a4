"""
MCP over pipes: what passes between a client and the server that it started through `sidecar mcp`.

| File | What it holds |
|---|---|
| `lines.py` | bytes to lines, within a bound |
| `glimpse.py` | whose answer a line is that is too long to be read |
| `pipe.py` | two descriptors as a way there and a way back |
| `call.py` | one request: its exchange, its attempt, and what is heard in answer |
| `relay.py` | both directions: what passes, what is refused, and who gets which answer |
| `filtered.py` | a call whose route has filters |
| `listener.py` | the same to the plane as a port is: it has the graph, and the exchanges in flight |

Messages are lines of JSON-RPC, in either direction and byte for byte as they came; the trace context in `_meta` is the only
change (`trace_in_meta` of the route; without a route, as by default). Requests of the client take the policies of the route that
has the server's name; everything else passes.

Source: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio
"""
