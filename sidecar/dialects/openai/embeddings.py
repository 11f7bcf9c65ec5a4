"""Answers of embeddings, which are never streamed."""

import msgspec

from sidecar.dialects.lenient import Lenient
from sidecar.dialects.openai import errors
from sidecar.dialects.openai.answered import OpenAiAnswered
from sidecar.dialects.openai.usage import Told, usage


class _Embeddings(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    usage: Told | None = None
    error: msgspec.Raw = msgspec.Raw()


_EMBEDDINGS = Lenient(_Embeddings)


class EmbeddingsBody:
    """What `WholeBody` calls with an answer; its content is the JSON of the vectors."""

    __slots__ = ("_provider", "answered")

    def __init__(self, answered: OpenAiAnswered, provider: str) -> None:
        self.answered = answered
        self._provider = provider

    def read(self, body: bytes) -> None:
        """Read the whole answer; raises `Unreadable`."""
        answered = self.answered
        told = _EMBEDDINGS.decode(body)
        answered.tell(told.id, told.model, None)
        answered.content_bytes = memoryview(told.data).nbytes
        answered.usage = usage(told.usage, self._provider)
        errors.tell(answered, bytes(told.error))
