"""
Looking for something rare in a body whose place nobody knows, in a time that has a bound.

Names that a typed decode would have to go through all messages for (a file's id, a picture's address) are looked for in the bytes
instead. Quotes within a text are escaped in JSON, so what stands between two bare ones is a whole name or a whole text, and a
long text without any (a picture in Base64) can be leapt over: none of the names is in it.
"""

MOST_BYTES = 256 * 1024
"""What is looked through of one body; of a longer one only where leaping over long texts leaves no more than that."""

_STEP_BYTES = 16 * 1024
_EDGE_BYTES = 1024  # a gap begins that far behind a step: nothing that is looked for has half of it before and half behind


def outline(body: bytes) -> bytes | None:
    """
    Return what of a JSON text has to be looked through: all of a short one, and a long one without its long texts.

    None where that would still be more than `MOST_BYTES`, which a caller has to say (`unread`).
    """
    if len(body) <= MOST_BYTES:
        return body
    pieces: list[bytes] = []
    left = MOST_BYTES
    at = 0
    while at >= 0 and left > 0:
        end = at + _STEP_BYTES
        quote = body.find(b'"', end)
        piece = body[at : quote if end <= quote <= end + _EDGE_BYTES else end + _EDGE_BYTES]
        pieces.append(piece)
        left -= len(piece)
        at = quote
    return b"".join(pieces) if at < 0 else None
