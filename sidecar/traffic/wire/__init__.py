"""
HTTP/1.1 on sockets, both sides of the proxy, as plain asyncio protocols on httptools.

    inbound.py ◄─► an agent's connection        outbound.py ◄─► an upstream's; outlet.py, outbox.py: how both write
    listener.py, guests.py                      what it asks of a listener, and whom that knows
    lingering.py, hangup.py, reset.py           how clients leave, and are left
    head.py, fields.py, mending.py              heads: judged strictly, passed on untouched
    request_head.py, request.py                 what a request says; what goes on of it
    response_head.py, response_outline.py       what a response says, read once where many are alike
    reply.py, answer.py                         how it goes back to the client; answers of our own
    body.py                                     bodies: where they end, never collected
    call.py, deadlines.py, handover.py          a call under way, how long it may take, and what it becomes
    inspected.py, collector.py                  calls that a dialect reads, once their request is whole
    here.py                                     calls about the sidecar itself
    filtered.py, trials.py, trial.py            calls whose policies wait        delivery.py: what a policy may answer
    pool.py, dial.py, resolver.py, look_ups.py  the way there                    tunnel.py: CONNECT and upgrades
    proxy.py, no_proxy.py, connect.py           the way there, through a corporate proxy

Bytes are written in the loop turn in which they came: at its end, together with those of others, or at once where they are
alone (outbox.py). Every buffer has a bound, every wait a deadline that the listener's tick looks at, and what is ambiguous is
refused (with a code of `model.errors.CODES`) rather than guessed.
"""
