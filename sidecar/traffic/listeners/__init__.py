"""
Where calls come in: `http` (forward proxy, CONNECT and gateway on one port).

A listener is a file with `Config` and `build(name, config, runtime)`. What it builds makes an `Exchange` of each call, sends it
through the graph it was last given, and has:

    serve(graph)        new exchanges take this graph, those in flight stay on theirs
    async start()       listens when it returns; raises OSError where it cannot
    async stop()        closes everything; `health() -> Health` says how it is

`http.py` is the template.
"""
