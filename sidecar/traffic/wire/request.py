"""The request as the upstream gets it: the agent's own lines, with our trace context, Via and target in their places."""

from sidecar.model.exchange import Attempt, Exchange
from sidecar.model.trace import format_traceparent
from sidecar.traffic.router import Way
from sidecar.traffic.wire.head import RequestHead


def request_head(request: RequestHead, exchange: Exchange, attempt: Attempt, way: Way, via_line: bytes) -> bytes:
    """
    Build the head of one attempt.

    Every attempt has a traceparent with its own span id (W3C Trace Context section 2.3); baggage goes only where the
    route allows it; an upgrade keeps its Connection and Upgrade, all other hop-by-hop fields are gone.
    """
    lines = request.lines.copy()
    lines[0] = b"%b %b HTTP/1.1" % (request.method, way.target)
    if request.host_at:
        if request.host != way.host_line:
            lines[request.host_at] = b"Host: " + way.host_line
    else:
        lines.insert(1, b"Host: " + way.host_line)
    lines.append(b"traceparent: " + format_traceparent(exchange.trace_id, attempt.span_id, exchange.flags))
    if exchange.tracestate:
        lines.append(b"tracestate: " + exchange.tracestate)
    if exchange.baggage and way.route.baggage:
        lines += [b"baggage: " + value for value in exchange.baggage]
    if request.upgrade:
        lines += [b"Connection: Upgrade", b"Upgrade: " + request.upgrade]
    lines.append(via_line)
    lines.append(b"")
    lines.append(b"")
    return b"\r\n".join(lines)
