"""
Admin: what people and scrapers may ask of a running sidecar, and how they tell it what to do.

    spec.py        what the config may say; importing it costs nothing
    api.py         the table of paths, on plain `Call` and `Answer` (messages.py), with no network library in it
    access.py      who may: the bearer token (token.py), the Unix socket, Host and Origin against DNS rebinding
    refusals.py    every error of the API, and accept.py, which chooses the form that a client likes best
    exchanges.py   the latest exchanges and those who follow them live (filter.py: which ones; showing.py: what of them), as JSON,
                   as server-sent events (events.py) or as protobuf (typed.py, imported only when asked for)
    http.py        the same API on aiohttp; imported only when the server starts
    server.py      the component: sockets (sockets.py), token, start and stop

To add a path: a method of `Api` and a line of its table, with what it takes to be let in: `PROBE`, `READ` or `CHANGE`.
Changes go through `control.operations`, never past it.
"""
