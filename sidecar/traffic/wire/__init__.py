"""
HTTP/1.1 on sockets, both sides of the proxy, as plain asyncio protocols on httptools.

    inbound.py ◄─► an agent's connection        head.py, mending.py, fields.py   heads: judged strictly, passed on untouched
    outbound.py ◄─► an upstream's connection    body.py                          bodies: where they end, never collected
    pool.py, dial.py, resolver.py               the way there                    tunnel.py: CONNECT and upgrades
    listener.py                                 what it asks of a listener       lingering.py, hangup.py: how clients leave
    filtered.py, trials.py, trial.py            calls whose policies wait        delivery.py: what a policy may answer

Bytes are written at the end of the loop turn in which they came (outbox.py). Every buffer has a bound, every wait a deadline
that the listener's tick looks at, and what is ambiguous is refused (with a code of `model.errors.CODES`) rather than guessed.
"""
