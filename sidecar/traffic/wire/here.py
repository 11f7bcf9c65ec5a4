"""A call that asks about the sidecar itself: `OPTIONS *`, and OPTIONS or TRACE whose Max-Forwards is 0."""

from sidecar.model.errors import Refused
from sidecar.traffic.wire.answer import answer_here
from sidecar.traffic.wire.call import Call


class CallHere(Call):
    """A call that goes no further."""

    __slots__ = ()

    def begin(self, rest: bytes) -> None:
        """Answer it."""
        inbound, request = self._inbound, self.request
        try:
            if request.target == b"*" and request.method != b"OPTIONS":
                raise Refused("bad_target", "only OPTIONS may ask about `*`")
            inbound.take_body(request, rest)
        except Refused as refused:
            self.refuse_unsent(refused, rest)
            return
        if inbound.body is not None:
            inbound.keeps_alive = False
        signature = self._listener.signature
        self.exchange.status, answer = answer_here(
            request.method, request.lines, date=signature.date, via=signature.via_line, keep_alive=inbound.keeps_alive
        )
        inbound.write(answer)
        self._finish()
