"""
An example agent: asks a language model over the API of OpenAI, again and again. Knows nothing of a sidecar.

Environment: OPENAI_BASE_URL, OPENAI_API_KEY, PERIOD_S (seconds between questions, default 10), QUESTIONS (how many, default
0: for ever); HTTP_PROXY as everywhere.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

QUESTIONS = ("What is a service level objective?", "Name three golden signals.", "When is an error budget spent?")


def ask(base_url: str, key: str, question: str) -> str:
    """The model's answer; raises OSError (URLError, HTTPError) when the call fails, ValueError when the answer is no JSON."""
    body = {"model": "example-1", "messages": [{"role": "user", "content": question}]}
    request = urllib.request.Request(
        f"{base_url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
        return answer


def main() -> int:
    """Exit 1 when the last question failed."""
    base_url, key = os.environ["OPENAI_BASE_URL"].rstrip("/"), os.environ.get("OPENAI_API_KEY", "none")
    questions, period_s = int(os.environ.get("QUESTIONS", "0")), float(os.environ.get("PERIOD_S", "10"))
    asked, failed = 0, False
    while not questions or asked < questions:
        if asked:
            time.sleep(period_s)
        question = QUESTIONS[asked % len(QUESTIONS)]
        asked += 1
        try:
            print(f"{question} {ask(base_url, key, question)}", flush=True)
            failed = False
        except (OSError, ValueError) as error:
            print(f"{question} failed: {error}", flush=True)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
