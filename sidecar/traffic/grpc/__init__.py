"""
gRPC calls on their way: what they bring along (`metadata`), how they end (`status`), whose certificates count (`trust`), the
connection to an upstream (`connection`), and one call from its first byte to its last (`call`).

A call is passed on as a stream of messages in both directions, whichever of the four kinds it is: that is all there is on the
wire. Messages are bytes here, of any encoding; `sidecar/dialects/a2a_grpc.py` reads those of agents. The library `grpc` is
imported when a listener starts, and not before.
"""
