"""
Anthropic's Messages API: `POST /v1/messages`, whole and streamed, and the same over Vertex (`:rawPredict`, `:streamRawPredict`).

Counting tokens and batches are asked of it too, and pass unread. Source: platform.claude.com/docs/en/api/messages and
/docs/en/build-with-claude/streaming; shapes are those of the `anthropic` SDK, version 2.11.
"""

from sidecar.dialects.anthropic.answers import reader
from sidecar.dialects.anthropic.content import content
from sidecar.dialects.anthropic.errors import ending, error
from sidecar.dialects.anthropic.requests import edit, operation, request, takes_out

name = "anthropic"
is_about_models = True

__all__ = ["content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out"]
