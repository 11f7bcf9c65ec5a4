"""
A stand-in for a language model, behind the API of OpenAI chat completions: gives the question back, politely.

So that the examples need no key. Environment: PORT (default 8080; 0 takes a free one), HOST (default: all addresses).
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    """Answers POST /v1/chat/completions, and GET /healthz for probes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Alive."""
        self._answer(200 if self.path == "/healthz" else 404, {"status": "ok"})

    def do_POST(self) -> None:
        """One completion; no streaming here."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != "/v1/chat/completions":
            self._answer(404, {"error": {"message": f"no such path: {self.path}", "type": "invalid_request_error"}})
            return
        asked = json.loads(body)
        question = asked["messages"][-1]["content"]
        message = {"role": "assistant", "content": f"That is a good question: {question}"}
        usage = {"prompt_tokens": len(question) // 4, "completion_tokens": len(question) // 4 + 6}
        self._answer(
            200,
            {
                "id": "chatcmpl-example",
                "object": "chat.completion",
                "model": asked.get("model", "example-1"),
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            },
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing: the sidecar sees it all."""

    def _answer(self, status: int, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer((os.environ.get("HOST", ""), int(os.environ.get("PORT", "8080"))), Model)
    print(f"listening on port {server.server_address[1]}", flush=True)
    server.serve_forever()
