"""What a reader of this dialect fills in: a `ModelAnswered`, and what is needed to finish a stream that was cut."""

from dataclasses import dataclass, field

from sidecar.model.answered import ModelAnswered

_MOST_CHOICES = 128
LONGEST = 256


@dataclass(slots=True)
class OpenAiAnswered(ModelAnswered):
    """
    `created` is the response's Unix time, `sequence_number` the last one of a responses stream (-1: none came), `finished` the
    finish reasons by choice ("" where a choice has begun), `begun` the response as `response.created` showed it, in JSON.
    """

    created: int = 0
    sequence_number: int = -1
    finished: dict[int, str] = field(default_factory=dict)
    begun: bytes = b""

    def tell(self, told_id: str | None, model: str | None, service_tier: str | None) -> None:
        """Note what names an answer; the first id, the last model and tier that were told."""
        if told_id and not self.id:
            self.id = told_id[:LONGEST]
        if model and model != self.model:
            self.model = model[:LONGEST]
        if service_tier:
            self.service_tier = service_tier[:LONGEST]

    def finish(self, choice: int, reason: str | None) -> None:
        """Note that a choice has begun, or why it has finished."""
        if not self.finished and reason:  # a whole answer, of one choice mostly
            self.finished[choice] = reason = reason[:LONGEST]
            self.finish_reasons = [reason]
            return
        if choice not in self.finished and len(self.finished) >= _MOST_CHOICES:
            return
        if reason:
            self.finished[choice] = reason[:LONGEST]
            self.finish_reasons = [self.finished[each] for each in sorted(self.finished) if self.finished[each]]
        else:
            self.finished.setdefault(choice, "")
