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

What a filter may rely on, and what is asked of it (`chain.py`, `response.py`, `wire/trials.py`):

- It may `forward` as often as it likes within a bound, also several at once: each call returns a response or raises `Refused`.
  What it does not return, it drops (`response.drop()`) or leaves to the wire, which gives it up when the call is answered.
- `response.through(stage)` puts a stage into the body's way. From the moment that the response is returned, the stage hears
  its ending exactly once, whatever becomes of the call. It may change the body's size (`response.has_content` says whether
  there is one), and end the call by raising `Refused`; anything else that it or a policy raises is `policy_failed`.
- `await response.whole(most_bytes)` gives it the body before it decides, within a bound; it goes to the client all the same.
- While it decides, no clock of an upstream runs, but `policy_timeout` of its route.
"""
