"""
Tokens from bytes, where the provider has told no usage.

What a token weighs is learned, model by model, from the calls that did tell: of languages, tokenizers, JSON and hidden
reasoning the average of what this agent really sends. Before anything is learned it is four bytes:

- English text is 4 to 4.5 bytes a token with the tokenizers of today, program text and JSON 3 to 4.
- Other scripts have fewer characters a token, but more bytes a character in UTF-8, so bytes change much less than characters
  do: Chinese and Japanese 3 to 4.5 bytes a token, Cyrillic and Arabic 4 to 6, `\\uXXXX` escapes 6 to 9. Four errs on the dear
  side there.
- The frame of a request (names of members, roles) is text that tokenizers see less of; that, too, makes four too many, not too
  few.

A picture in base64 is the exception (a megabyte, and a thousand tokens): an estimate ends at the model's context window.
"""

_MOST_MODELS = 512
_PRIOR_TOKENS = 256
_MEMORY = 0.95
"""What is left of a call's weight at the next one: an average over about twenty calls, in which a long one counts more."""

_READ, _STREAMED, _WHOLE = 4.0, 64.0, 4.0
"""Bytes a token in what a dialect could read; in the raw bytes of a stream (an event a few tokens); in a raw JSON body."""

_LEAST, _MOST = 0.05, 400.0
"""Bytes a token that are believed. Far below 1: models that think much and show little."""

_ABSURD = 1 << 32
"""Tokens that no call has; nothing is learned of it."""

LARGEST_WINDOW = 1 << 20
"""Tokens that a request is estimated at the most where nobody knows the model's context window."""


class _Weight:
    """Bytes and tokens, the older ones weighing less; their ratio is what a token weighs."""

    __slots__ = ("bytes", "tokens")

    def __init__(self, bytes_a_token: float) -> None:
        self.bytes = bytes_a_token * _PRIOR_TOKENS
        self.tokens = float(_PRIOR_TOKENS)

    def learn(self, size: int, tokens: int) -> None:
        self.bytes = self.bytes * _MEMORY + size
        self.tokens = self.tokens * _MEMORY + tokens

    def tokens_of(self, size: int) -> int:
        bytes_a_token = min(max(self.bytes / self.tokens, _LEAST), _MOST)
        return -int(-size // bytes_a_token)


class Estimator:
    """What a token weighs, by model; where there are too many, the model that was met first is forgotten."""

    __slots__ = ("_asked", "_most", "_read", "_streamed", "_whole")

    def __init__(self, most_models: int = _MOST_MODELS) -> None:
        self._most = most_models
        self._asked: dict[str, _Weight] = {}
        self._read: dict[str, _Weight] = {}
        self._streamed: dict[str, _Weight] = {}
        self._whole: dict[str, _Weight] = {}

    def learn_request(self, model: str, size: int, tokens: int) -> None:
        """Learn from a request of `size` bytes that was exactly `tokens` long."""
        self._learn(self._asked, _READ, model, size, tokens)

    def learn_answer(self, model: str, content: int, body: int, tokens: int, *, streams: bool) -> None:
        """Learn from an answer: bytes of content, bytes of the whole body, and its tokens."""
        self._learn(self._read, _READ, model, content, tokens)
        if streams:
            self._learn(self._streamed, _STREAMED, model, body, tokens)
        else:
            self._learn(self._whole, _WHOLE, model, body, tokens)

    def request(self, model: str, size: int, window: int = 0) -> int:
        """Estimate the tokens of a request; never more than the model takes in."""
        return min(self._tokens(self._asked, _READ, model, size), window or LARGEST_WINDOW)

    def content(self, model: str, size: int) -> int:
        """Estimate the tokens of what a dialect has read of an answer."""
        return self._tokens(self._read, _READ, model, size)

    def body(self, model: str, size: int, *, streams: bool) -> int:
        """Estimate the tokens of an answer that nobody could read, by the bytes of its body."""
        table, weight = (self._streamed, _STREAMED) if streams else (self._whole, _WHOLE)
        return self._tokens(table, weight, model, size)

    def _tokens(self, table: dict[str, _Weight], otherwise: float, model: str, size: int) -> int:
        known = table.get(model)
        return -int(-size // otherwise) if known is None else known.tokens_of(size)

    def _learn(self, table: dict[str, _Weight], weight: float, model: str, size: int, tokens: int) -> None:
        if not 0 < tokens < _ABSURD or not tokens * _LEAST <= size <= tokens * _MOST:
            return
        known = table.get(model)
        if known is None:
            if len(table) >= self._most:
                del table[next(iter(table))]
            known = table[model] = _Weight(weight)
        known.learn(size, tokens)
