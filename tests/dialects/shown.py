"""Messages as short lines, so that a test can say all of what was said."""

from collections.abc import Iterable

from sidecar.model.content import Kind, Message, Part


def shown(messages: Iterable[Message]) -> list[str]:
    """`user: text | (reasoning) | name(arguments)#id | =>response#id | <image/png image> [finish_reason]`."""
    return [
        f"{message.role}: {' | '.join(map(part_of, message.parts))}" + (f" [{message.finish_reason}]" if message.finish_reason else "")
        for message in messages
    ]


def part_of(part: Part) -> str:
    """One part."""
    kind = part.kind
    if kind is Kind.TEXT:
        return part.text
    if kind is Kind.REASONING:
        return f"({part.text})"
    if kind is Kind.TOOL_CALL:
        return f"{part.name}({part.json.decode()})#{part.id}"
    if kind is Kind.TOOL_CALL_RESPONSE:
        return f"=>{part.text or part.json.decode()}#{part.id}"
    return f"<{part.text or part.mime_type or 'blob'} {part.modality}>"
