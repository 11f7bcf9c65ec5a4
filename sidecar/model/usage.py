"""
What a model call used, in classes that do not overlap: every token counts in exactly one of them.

Providers count differently (OpenAI and Gemini put cached tokens into the input, Anthropic does not; OpenAI counts reasoning
as output, Gemini beside it). A dialect sorts them out once, here, and nobody after it has to know.
"""

from dataclasses import dataclass, field

NONSENSE = "nonsense"
"""The doubt of a usage in which a number can be no count: negative, or above what anybody counts."""
CONTRADICTION = "contradiction"
"""The doubt of a usage whose parts and totals do not fit each other."""


@dataclass(slots=True)
class Usage:
    """
    Tokens of one call, each in one class only; 0 where nothing was said.

    `input_tokens` and `output_tokens` are what no other class names. `cache_write_tokens` are writes whose lifetime nobody
    told. `web_searches` and `tool_uses` count server-side work that is billed by the call. `input_characters`,
    `output_characters` and `billed_seconds` serve those who bill by these. `doubt` is `NONSENSE` or `CONTRADICTION` where what
    was told cannot be so, "" otherwise: the counts are then what is left of it, and nothing that is reckoned from them is exact.
    `text` are input, cache reads, output and reasoning where a dialect knows that there is nothing else, so that nobody has to
    look; who changes a count makes it None.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    input_video_tokens: int = 0
    cache_read_audio_tokens: int = 0
    cache_read_image_tokens: int = 0
    cache_read_video_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    output_video_tokens: int = 0
    web_searches: int = 0
    tool_uses: int = 0
    input_characters: int = 0
    output_characters: int = 0
    billed_seconds: float = 0.0
    doubt: str = ""
    text: tuple[int, int, int, int] | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def cache_read_total(self) -> int:
        """Tokens read from a cache, of whatever kind."""
        return self.cache_read_tokens + self.cache_read_audio_tokens + self.cache_read_image_tokens + self.cache_read_video_tokens

    @property
    def cache_write_total(self) -> int:
        """Tokens written to a cache, for however long."""
        return self.cache_write_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def input_total(self) -> int:
        """All tokens that went in, cached or not: `gen_ai.usage.input_tokens`, and what long-context tiers are decided by."""
        return (
            self.input_tokens
            + self.cache_read_total
            + self.cache_write_total
            + self.input_audio_tokens
            + self.input_image_tokens
            + self.input_video_tokens
        )

    @property
    def output_total(self) -> int:
        """All tokens that came out, reasoning included: `gen_ai.usage.output_tokens`."""
        return (
            self.output_tokens
            + self.reasoning_tokens
            + self.output_audio_tokens
            + self.output_image_tokens
            + self.output_video_tokens
        )
