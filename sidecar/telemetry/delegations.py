"""
Calls to other agents as attributes of spans: the draft of A2A conventions (semantic-conventions-genai #195).

The methods that set an agent to work are an `invoke_agent` as well, and a delegation from the calling agent to the called one.
"""

from sidecar.model.answered import A2aAnswered
from sidecar.model.asked import A2aAsked
from sidecar.model.judgement import A2A_WORK
from sidecar.telemetry import agents, semconv
from sidecar.telemetry.agents import text
from sidecar.telemetry.inference import texts
from sidecar.telemetry.semconv import SpanKind
from sidecar.telemetry.wire import Cache, Key, field, texts_attribute, utf8

INVOKE_AGENT = "invoke_agent"
"""What the GenAI conventions call having an agent do something."""

_SUCCESS = {"TASK_STATE_COMPLETED": True, "TASK_STATE_FAILED": False, "TASK_STATE_REJECTED": False}

_GRPC = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

_Key = tuple[str, str, str, str, str, str, str, str, str]


def taker_of(upstream: str, host: str, answered: A2aAnswered | None) -> str:
    """The called agent: by its card where that was read, else what the config calls the upstream, else its host."""
    return (answered.agent if answered is not None else "") or upstream.partition("/")[2] or host


def success(state: str) -> bytes:
    """`agent.task.success`, where the task's state decides it."""
    return agents.task_success(_SUCCESS[state]) if state in _SUCCESS else b""


class Delegations:
    """Writes what a call to another agent adds to its CLIENT span."""

    def __init__(self) -> None:
        self._blocks: Cache[_Key] = Cache(_block, limit=1024, most_bytes=4096, weight=texts)
        self._id, self._task, self._message, self._context = (
            Key(name.latest) for name in (semconv.JSONRPC_ID, semconv.A2A_TASK, semconv.A2A_MESSAGE, semconv.CONVERSATION_ID)
        )

    def client(self, asked: A2aAsked, answered: A2aAnswered | None, kind: str, *, giver: str, taker: str) -> list[bytes]:
        """Name and attributes of the CLIENT span, in pieces; `giver` is the calling agent, `taker` the called one."""
        task, context, state, code, version = asked.task, asked.context, "", "", ""
        if answered is not None:
            task, context = answered.task or task, answered.context or context
            state, version = answered.state, answered.agent_version
            if answered.code:
                code = _status_code(asked.binding, answered.code)
        parts = [self._blocks[asked.operation, giver, taker, asked.protocol_version, state, code, asked.tenant, version, kind]]
        if asked.id:
            parts += self._id.text(asked.id)
        if task:
            parts += self._task.text(task)
        if context:
            parts += self._context.text(context)
        if asked.message:
            parts += self._message.text(asked.message)
        if asked.references:
            parts.append(texts_attribute(semconv.A2A_REFERENCES.latest, asked.references))
        if answered is not None and answered.agent:
            parts.append(text(semconv.AGENT_NAME, answered.agent))
        return parts


def _status_code(binding: str, code: int) -> str:
    """What the RPC's own protocol calls the error; over plain HTTP there is none beside the status."""
    if binding == "GRPC":
        return _GRPC[code] if 0 <= code < len(_GRPC) else str(code)
    return str(code) if binding == "JSONRPC" else ""


def _block(key: _Key) -> bytes:
    method, giver, taker, protocol, state, code, tenant, version, kind = key
    is_work = method in A2A_WORK
    return b"".join(
        (
            field(5, utf8(method)), text(semconv.A2A_METHOD, method),
            text(semconv.OPERATION_NAME, INVOKE_AGENT if is_work else ""),
            text(semconv.A2A_PROTOCOL_VERSION, protocol), text(semconv.A2A_STATE, state), text(semconv.A2A_TENANT, tenant),
            text(semconv.RPC_STATUS, code), text(semconv.AGENT_VERSION, version), success(state),
            agents.span_kind(SpanKind.DELEGATION) + agents.delegation(giver, taker) if is_work else b"",
            text(semconv.ERROR_TYPE, kind),
        )
    )  # fmt: skip
