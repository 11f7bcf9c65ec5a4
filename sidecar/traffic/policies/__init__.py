"""
What stands between a call and its upstream: may it pass, when, and what if it fails.

A policy is a file with `Config`, `build(name, config, runtime)` and `STAGE`, where it stands (`traffic.chain.Stage`); `build`
returns a function. A plain one is a *guard*: it raises `Refused`, or takes something and leaves it with `holds(permit)`, to be
settled after the last byte. An async one is a *filter* `(exchange, forward) -> response`, for what must wait, repeat or answer
itself. From `Stage.BUDGET` on, both are asked for each attempt instead of once an exchange. `timeout.py` is the template; the
smallest guard:

    STAGE = Stage.LIMIT

    def build(name: str, config: Config, runtime: Runtime) -> Callable[[Attempt], None]:
        def only_reads(attempt: Attempt) -> None:
            if attempt.exchange.method not in ("GET", "HEAD"):
                raise Refused("destination_denied", "this route is for reading")

        return only_reads
"""
