"""
Google's Gemini API: `…/models/M:generateContent`, `:streamGenerateContent`, `:embedContent` and `:batchEmbedContents`.

All versions of the path (v1, v1beta, v1alpha), tuned models, and the same over Vertex. A stream comes as server-sent events
(`?alt=sse`) or, without that, as one JSON array in pieces. Counting tokens, files and caches are asked of it too, and pass
unread. Source: ai.google.dev/api/generate-content; shapes are those of the `google-genai` SDK, version 3.4.
"""

from sidecar.dialects.gemini.answers import reader
from sidecar.dialects.gemini.content import content
from sidecar.dialects.gemini.errors import ending, error
from sidecar.dialects.gemini.requests import edit, operation, request, takes_out

name = "gemini"
is_about_models = True

__all__ = ["content", "edit", "ending", "error", "is_about_models", "name", "operation", "reader", "request", "takes_out"]
