"""
Where calls come in: `http` (forward proxy, CONNECT and gateway on one port).

A listener is a file with `Config` and `build(name, config, runtime)`. What it builds makes an `Exchange` of each call, sends it
through the graph it was last given, and has:

    serve(graph)        new exchanges take this graph, those in flight stay on theirs
    forget(graph)       nobody is on this old graph any more
    async start()       listens when it returns; raises OSError where it cannot; then `endpoint` says where
    limit_to(places)    how many clients to serve at most, where the system allows fewer than its settings
    hand_over()         a reload with other settings for the same endpoint: accepts no more, returns its listening socket,
    take_over(socket)   which its successor is given before `start` (of the same type)
    stop_accepting()    closes the port; connections that are open stay
    async drain(s)      waits until every exchange has ended, for s seconds at most; returns how many had to be cut
    exchanges()         those in flight
    async stop()        closes everything; `health() -> Health` says how it is

`http.py` is the template.
"""
