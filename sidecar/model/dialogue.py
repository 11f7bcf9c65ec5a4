"""
One attempt, understood: what was asked, what was answered, what it cost and how it went.

It stands on `AttemptFinished`, and that of the attempt which the agent saw on `ExchangeFinished`; None where nobody could
read the call.
"""

from dataclasses import dataclass, field, replace

from sidecar.model.answered import Answered, ModelAnswered
from sidecar.model.asked import Asked, McpAsked
from sidecar.model.content import Content
from sidecar.model.cost import Cost


@dataclass(slots=True)
class Dialogue:
    """
    What was said in one attempt.

    `answered` is None where no response head came. `first_content_s` is seconds from the attempt's start to the first content
    (0.0: none came). `cost` is None for what costs nothing by itself (MCP, A2A), and where the agent's own spans carry it
    (`usage_on: agent`). `unread` says in a word why the request or the answer was not read in full (`too_large`,
    `unknown_coding`, `unreadable`, …), `edits` what was changed in the request (`include_usage`), and `skipped` which edits
    could not be made and why. `content` is what was said, word by word, None unless the route has it collected.

    `kind` is what went wrong in the attempt, in a word, "" where nothing did, and `totals` are sums of its usage: None until
    somebody has worked them out, who leaves them here for the next one.
    """

    asked: Asked
    answered: Answered | None = None
    first_content_s: float = 0.0
    cost: Cost | None = None
    unread: str = ""
    edits: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    content: Content | None = None
    kind: str | None = field(default=None, compare=False, repr=False)
    totals: tuple[int, int, int, int] | None = field(default=None, compare=False, repr=False)

    def forget(self) -> None:
        """
        Let go of what may be large, once everybody who decides by it has heard of it.

        What is left waits in queues of thousands: the arguments of tools would be a gigabyte there. `content` stays: who writes
        it hears of it later, and bounds what waits.
        """
        if isinstance(self.asked, McpAsked):
            self.asked.arguments = b""
        elif isinstance(self.answered, ModelAnswered):
            for call in self.answered.tool_calls:
                call.arguments = b""

    def without_content(self) -> "Dialogue":
        """Return the same without what was said word by word; it is the attempt's, and kept in one place only."""
        return self if self.content is None else replace(self, content=None)
