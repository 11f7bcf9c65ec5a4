"""
How a call went: one classifier for everybody, from phase × kind × exposed to a row of one table.

    judged = judge(503, "")             # or of_fact(fact)
    judged.row.verdict                  # ERROR
    judged.row.streak                   # ADDS: a breaker counts one more failure in a row

Spans and metrics read `verdict` and `kind`; breakers, throttles, retries and SLOs the other columns. Whoever needs another
answer for a case adds a row, and everybody has it.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum

from sidecar.model.answered import A2aAnswered, Answered, McpAnswered, ModelAnswered
from sidecar.model.dialogue import Dialogue
from sidecar.model.errors import CODES, Fault
from sidecar.model.facts import AttemptFinished, ExchangeFinished, Purpose


class Phase(StrEnum):
    """How far a call had come when it was decided."""

    CONNECT = "connect"
    HEADERS = "headers"
    FIRST_CONTENT = "first_content"
    STREAM = "stream"
    END = "end"


class Verdict(StrEnum):
    """Whether the call was served: `NEUTRAL` is the caller's own doing, or nobody's."""

    OK = "ok"
    ERROR = "error"
    NEUTRAL = "neutral"


class Streak(StrEnum):
    """What it does to the number of failures in a row."""

    RESETS = "resets"
    KEEPS = "keeps"
    ADDS = "adds"


class Ratio(StrEnum):
    """What it is in the share of bad calls; `UNCOUNTED` is in neither part of the fraction."""

    GOOD = "good"
    BAD = "bad"
    SLOW = "slow"
    UNCOUNTED = "uncounted"


class Throttle(StrEnum):
    """What it tells an adaptive throttle of the upstream's willingness."""

    ACCEPT = "accept"
    REJECT = "reject"
    UNCOUNTED = "uncounted"


class Slo(StrEnum):
    """What it is to an SLO: `CALLER` and `EXCLUDED` are not events, `QUALITY` is bad for indicators of quality only."""

    GOOD = "good"
    BAD = "bad"
    QUALITY = "quality"
    CALLER = "caller"
    EXCLUDED = "excluded"


class Retry(StrEnum):
    """Whether we may try again by ourselves: within a budget, after waiting, or with another credential first."""

    NO = "no"
    BUDGETED = "budgeted"
    AFTER_BACKOFF = "after_backoff"
    OTHER_CREDENTIAL = "other_credential"


@dataclass(frozen=True, slots=True)
class Row:
    """
    One row of the table.

    `weight` is how much a bad call counts in the ratio. `is_of_credential`: only the key of the credential suffers, other
    credentials at the same upstream do not.
    """

    name: str
    verdict: Verdict
    streak: Streak = Streak.KEEPS
    ratio: Ratio = Ratio.UNCOUNTED
    throttle: Throttle = Throttle.UNCOUNTED
    slo: Slo = Slo.EXCLUDED
    retry: Retry = Retry.NO
    weight: float = 1.0
    is_of_credential: bool = False


_OK, _ERROR, _NEUTRAL = Verdict.OK, Verdict.ERROR, Verdict.NEUTRAL
_BAD, _REJECT = Ratio.BAD, Throttle.REJECT

OK = Row("ok", _OK, Streak.RESETS, Ratio.GOOD, Throttle.ACCEPT, Slo.GOOD)
"""Served."""
UNREACHABLE = Row("unreachable", _ERROR, Streak.ADDS, _BAD, _REJECT, Slo.BAD, Retry.BUDGETED)
"""No connection, no TLS, or closed before the head of an answer."""
FAILED = Row("failed", _ERROR, Streak.ADDS, _BAD, _REJECT, Slo.BAD, Retry.BUDGETED)
"""5xx, or an error of the same meaning in a body or stream of which nothing has been passed on."""
OVERLOADED = Row("overloaded", _ERROR, Streak.KEEPS, _BAD, _REJECT, Slo.BAD, Retry.AFTER_BACKOFF)
"""529, or an event that says so before the first content: alive, and asks for patience."""
THROTTLED = Row("throttled", _ERROR, Streak.KEEPS, _BAD, _REJECT, Slo.BAD, Retry.OTHER_CREDENTIAL, weight=0.5)
"""429: this credential has asked too much for now."""
CREDENTIAL = Row("credential", _ERROR, slo=Slo.BAD, is_of_credential=True)
"""401, 402, 403, or an account that is used up: the credential is of no use, the upstream is well."""
CALLER = Row("caller", _NEUTRAL, throttle=Throttle.ACCEPT, slo=Slo.CALLER)
"""400, 404, 413, 422, a context that is too long: what was asked cannot be answered."""
SLOW_START = Row("slow_start", _ERROR, Streak.KEEPS, Ratio.SLOW, slo=Slo.BAD, retry=Retry.BUDGETED)
"""No first byte, or no first content, in time; nothing was passed on."""
STALLED = Row("stalled", _ERROR, Streak.KEEPS, _BAD, slo=Slo.BAD)
"""Content stopped coming; what had come was passed on, so nobody can begin again."""
CUT = Row("cut", _ERROR, Streak.KEEPS, _BAD, slo=Slo.BAD)
"""Ended, or ended with an error, before its terminal event, after content was passed on."""
CUT_EARLY = Row("cut_early", _ERROR, Streak.KEEPS, _BAD, slo=Slo.BAD, retry=Retry.BUDGETED)
"""Ended after the head and before any content."""
BAD_TOOL_CALL = Row("bad_tool_call", _NEUTRAL, throttle=Throttle.ACCEPT, slo=Slo.QUALITY)
"""A whole answer, in which a tool is called with arguments that are no JSON."""
TOOL_ERROR = Row("tool_error", _ERROR, throttle=Throttle.ACCEPT, slo=Slo.QUALITY)
"""A tool that says by itself that it failed (MCP's isError): the server answered as it should."""
TASK_FAILED = Row("task_failed", _ERROR, throttle=Throttle.ACCEPT, slo=Slo.QUALITY)
"""An agent that says that its task failed, or that it will not do it (A2A)."""
GONE = Row("gone", _NEUTRAL, throttle=Throttle.ACCEPT)
"""The client went away, or stopped taking part, before the end."""
GONE_LATE = Row("gone_late", _NEUTRAL, Streak.KEEPS, Ratio.SLOW, Throttle.ACCEPT)
"""The same, after waiting longer than usual for the first content: nobody's failure, and a sign that the upstream is slow."""
INJECTED = Row("injected", _NEUTRAL)
"""A fault of our own experiment: the experiment's ledger has it, nobody else counts it."""
REFUSED = Row("refused", _NEUTRAL)
"""Stopped or refused by us, on purpose; the upstream has no part in it."""
FAILED_HERE = Row("failed_here", _ERROR, slo=Slo.BAD)
"""Failed in the sidecar, or for want of something on this side; the upstream has no part in it."""
UNKNOWN = Row("unknown", _NEUTRAL)
"""Nothing is known, as of a stream that is open on purpose and was silent."""

ROWS = {
    row.name: row
    for row in (
        OK, UNREACHABLE, FAILED, OVERLOADED, THROTTLED, CREDENTIAL, CALLER, SLOW_START, STALLED, CUT, CUT_EARLY, BAD_TOOL_CALL,
        TOOL_ERROR, TASK_FAILED, GONE, GONE_LATE, INJECTED, REFUSED, FAILED_HERE, UNKNOWN,
    )
}  # fmt: skip
"""The table, by name of the row."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    What became of a call.

    `kind` is what went wrong in one word, "" where nothing did: a code of `errors.CODES`, the provider's own word, an HTTP
    status; it becomes `error.type`. `is_exposed`: content had been passed on, so nobody can begin again unseen.
    """

    row: Row
    phase: Phase = Phase.END
    kind: str = ""
    is_exposed: bool = False


WELL = Judgement(OK)
"""A call that nothing can be said against, and of whose content nothing is known."""
_WELL_EXPOSED = Judgement(OK, is_exposed=True)  # shared, because nearly all are one of the two
_CHAOS = Purpose.CHAOS


def of_fact(fact: AttemptFinished | ExchangeFinished) -> Judgement:
    """Judge a call that has ended, as its fact tells it."""
    passed = fact.received_bytes if isinstance(fact, AttemptFinished) else fact.response_bytes
    return judge(fact.status, fact.error, fact.dialogue, has_bytes=passed > 0, purpose=fact.passage.purpose)


def judge(
    status: int,
    error: str,
    dialogue: Dialogue | None = None,
    *,
    has_bytes: bool = False,
    is_late: bool = False,
    purpose: Purpose = Purpose.LIVE,
) -> Judgement:
    """
    Judge a call by its HTTP status (0: no head came), our own error code, and what was said.

    `has_bytes` says whether any of the body was passed on; where the body was read, its content counts instead. `is_late`:
    the wait for the first content was longer than usual (p95, which only the one who asks may know). Arguments of tool calls
    are not parsed here: who cares for `BAD_TOOL_CALL` asks `closely`.
    """
    answered = dialogue.answered if dialogue is not None else None
    is_exposed = has_bytes if answered is None or answered.is_unreadable else answered.content_bytes > 0
    is_exposed = is_exposed and error not in _ON_PURPOSE  # what was given up, nobody got
    if purpose == _CHAOS:
        return Judgement(INJECTED, Phase.END, error or _status_kind(status), is_exposed)
    word = answered.error_type if answered is not None else ""
    if error and (not word or error in _NOT_THE_ANSWERS):
        judged = _of_code(error, status, is_exposed, dialogue)
        return replace(judged, row=GONE_LATE) if is_late and judged.row is GONE and not is_exposed else judged
    if status >= 400:
        return Judgement(_of_status(status, word), Phase.HEADERS, word or str(status))
    if dialogue is None or answered is None or status == 0:
        return WELL if status else Judgement(UNKNOWN, Phase.HEADERS)
    if word:
        row = _of_word(word, answered)
        if is_exposed and row in _ANEW:
            return Judgement(CUT, Phase.STREAM, word, is_exposed=True)
        return Judgement(row, Phase.STREAM if is_exposed else Phase.FIRST_CONTENT, word, is_exposed)
    return _of_answer(dialogue, answered, is_exposed)


def closely(judged: Judgement, dialogue: Dialogue | None) -> Judgement:
    """The same judgement, but that of a whole answer whose tool calls nobody can read; it parses their arguments."""
    answered = dialogue.answered if dialogue is not None else None
    if judged.row is OK and isinstance(answered, ModelAnswered) and answered.is_ended and has_bad_tool_call(answered):
        return replace(judged, row=BAD_TOOL_CALL, kind="bad_tool_call")
    return judged


def has_bad_tool_call(answered: ModelAnswered) -> bool:
    """Whether a tool is called with arguments that are no JSON; an empty text counts as no arguments."""
    for call in answered.tool_calls:
        try:
            if call.arguments:
                json.loads(call.arguments)
        except (ValueError, RecursionError):
            return True
    return False


def _of_answer(dialogue: Dialogue, answered: Answered, is_exposed: bool) -> Judgement:
    """An answer without an error of its own: is it whole, and what does it say of itself?"""
    asked = dialogue.asked
    if isinstance(answered, McpAnswered) and answered.is_tool_error:
        return Judgement(TOOL_ERROR, Phase.END, "tool_error", is_exposed)
    if isinstance(answered, A2aAnswered) and answered.state in FAILED_STATES and asked.operation in A2A_WORK:
        return Judgement(TASK_FAILED, Phase.END, answered.state, is_exposed)
    is_known = not (answered.is_ended or answered.is_unreadable or dialogue.unread or asked.is_standing)
    if is_known and (asked.streams or is_exposed):
        phase = Phase.STREAM if is_exposed else Phase.FIRST_CONTENT
        return Judgement(CUT if is_exposed else CUT_EARLY, phase, "upstream_cut", is_exposed)
    return _WELL_EXPOSED if is_exposed else WELL


def _of_code(code: str, status: int, is_exposed: bool, dialogue: Dialogue | None) -> Judgement:
    """An error of the sidecar's own table."""
    phase = Phase.HEADERS if not status else Phase.STREAM if is_exposed else Phase.FIRST_CONTENT
    if code in _WAY_THERE:
        return Judgement(UNREACHABLE, Phase.CONNECT, code)
    if code in ("first_byte_timeout", "idle_timeout"):
        if dialogue is not None and dialogue.asked.is_standing:
            return Judgement(UNKNOWN, phase, code, is_exposed)
        return Judgement(STALLED if is_exposed else SLOW_START, phase, code, is_exposed)
    if code in _GONE:
        return Judgement(GONE, phase, code, is_exposed)
    if code in _ON_PURPOSE:
        return Judgement(REFUSED, phase, code, is_exposed)
    if code in _WANT:
        return Judgement(FAILED_HERE, phase, code, is_exposed)
    meaning = CODES.get(code)
    fault = meaning.fault if meaning is not None else Fault.SIDECAR
    if fault is Fault.UPSTREAM:
        return Judgement(UNREACHABLE if not status else CUT if is_exposed else CUT_EARLY, phase, code, is_exposed)
    row = CALLER if fault is Fault.CLIENT else REFUSED if fault is Fault.OPERATOR else FAILED_HERE
    return Judgement(row, phase, code, is_exposed)


def _of_status(status: int, word: str = "") -> Row:
    if word in _USED_UP or status in (401, 402, 403):
        return CREDENTIAL
    if status == 429:
        return THROTTLED
    if status == 529:
        return OVERLOADED
    return FAILED if status >= 500 else CALLER


def _of_word(word: str, answered: Answered) -> Row:
    """An error in an answer with a good status: as if the status had said it."""
    if word in _USED_UP:
        return CREDENTIAL
    if isinstance(answered, McpAnswered | A2aAnswered) and answered.code < 0:
        return CALLER if answered.code in _CALLERS_CODES else FAILED
    return _of_status(_STATUS_OF_WORD.get(word.lower(), 500))


def _status_kind(status: int) -> str:
    return str(status) if status >= 400 else ""


A2A_WORK = frozenset({"SendMessage", "SendStreamingMessage"})
"""The methods of A2A that set an agent to work; others only ask about it."""
FAILED_STATES = frozenset({"TASK_STATE_FAILED", "TASK_STATE_REJECTED"})
"""The states of a task that was not done."""

_ANEW = (FAILED, OVERLOADED, THROTTLED)
"""What could be tried again, had nothing been passed on."""
_WAY_THERE = frozenset(
    {"dns_failed", "connect_failed", "connect_timeout", "tls_failed", "proxy_unreachable", "proxy_timeout", "proxy_failed"}
)
_GONE = frozenset({"client_gone", "client_stalled", "body_timeout", "request_timeout"})
_ON_PURPOSE = frozenset({"given_up"})
"""Done on purpose, whoever's fault `errors.CODES` would call it."""
_WANT = frozenset(
    {
        "proxy_auth_failed",
        "proxy_denied",
        "pool_exhausted",
        "pool_timeout",
        "too_many_connections",
        "policy_timeout",
        "loop_detected",
    }
)
"""The operator's to mend, and the agent was not served."""
_NOT_THE_ANSWERS = frozenset(code for code, meaning in CODES.items() if meaning.fault is not Fault.UPSTREAM) - _ON_PURPOSE
"""
Codes that say more than an error in the answer does: it was not the upstream that ended the call.

What was given up may well have been so because of the error.
"""

_USED_UP = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
_CALLERS_CODES = frozenset(
    {-32700, -32600, -32601, -32602, -32042, -32020, -32021, -32022}  # JSON-RPC 2.0 and MCP
    | {-32001, -32002, -32003, -32004, -32005, -32007, -32008, -32009}  # A2A 1.0; -32002 was MCP's "resource not found"
)

_STATUS_OF_WORD = {
    word: status
    for status, words in {
        400: (
            "invalid_request_error", "invalid_request", "context_length_exceeded", "invalid_argument", "failed_precondition",
            "validationexception", "out_of_range", "content_filter", "invalid_prompt", "unimplemented", "already_exists",
            "cancelled",
            # A2A 1.0, as reasons of google.rpc.ErrorInfo
            "task_not_cancelable", "push_notification_not_supported", "unsupported_operation", "content_type_not_supported",
            "extended_agent_card_not_configured", "extension_support_required", "version_not_supported",
        ),
        401: ("authentication_error", "unauthenticated", "invalid_api_key"),
        403: ("permission_error", "permission_denied", "accessdeniedexception"),
        404: ("not_found_error", "not_found", "model_not_found", "resourcenotfoundexception", "task_not_found"),
        413: ("request_too_large",),
        429: (
            "rate_limit_error", "rate_limit_exceeded", "too_many_requests", "resource_exhausted", "throttlingexception",
            "servicequotaexceededexception",
        ),
        529: ("overloaded_error", "overloaded", "server_is_overloaded", "slow_down", "modelnotreadyexception"),
    }.items()
    for word in words
}  # fmt: skip
"""Providers' words for what HTTP has a status for, in small letters; words that are not here stand for a 500."""

WORDS = frozenset(_STATUS_OF_WORD) | _USED_UP
"""Providers' words for errors that the table knows, in small letters."""
