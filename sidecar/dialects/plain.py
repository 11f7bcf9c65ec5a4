"""What the sidecar says to a client of which it knows nothing but HTTP."""

import json

from sidecar.model.errors import Refused

CONTENT_TYPE = b"application/json"


def error(refused: Refused) -> bytes:
    """The body of an error: code, whose fault, whether to try again, and what to do."""
    meaning = refused.meaning
    body = {
        "error": {
            "code": refused.code,
            "message": f"{refused.code}: {refused.detail or meaning.advice}",
            "fault": meaning.fault.value,
            "retry": meaning.retry,
            "advice": meaning.advice,
            "type": "sidecar_error",
        }
    }
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
