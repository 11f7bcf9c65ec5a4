"""
What can be asked of an agent, under one name each: that of A2A 1.0, whatever version and binding it was asked in.

1.0 calls a method the same in JSON-RPC and gRPC (`SendMessage`); 0.3 has `message/send` in JSON-RPC, and in gRPC and REST a
few names of its own. In REST the path is the method.

Sources: https://a2a-protocol.org/v1.0.0/specification and v0.3.0 (sections 5.3, 9.4, 11.3); a2a.proto of both.
"""

from dataclasses import dataclass

SEND = "SendMessage"
STREAM = "SendStreamingMessage"
GET_TASK = "GetTask"
LIST_TASKS = "ListTasks"
CANCEL = "CancelTask"
SUBSCRIBE = "SubscribeToTask"
CREATE_PUSH = "CreateTaskPushNotificationConfig"
GET_PUSH = "GetTaskPushNotificationConfig"
LIST_PUSH = "ListTaskPushNotificationConfigs"
DELETE_PUSH = "DeleteTaskPushNotificationConfig"
EXTENDED_CARD = "GetExtendedAgentCard"
CARD = "GetAgentCard"
"""The public card, a file with a well-known name; the specification has no method of that name, gRPC of 0.3 does."""

OF_1_0 = frozenset(
    (SEND, STREAM, GET_TASK, LIST_TASKS, CANCEL, SUBSCRIBE, CREATE_PUSH, GET_PUSH, LIST_PUSH, DELETE_PUSH, EXTENDED_CARD)
)

OF_0_3 = {
    "message/send": SEND,
    "message/stream": STREAM,
    "tasks/get": GET_TASK,
    "tasks/list": LIST_TASKS,
    "tasks/cancel": CANCEL,
    "tasks/resubscribe": SUBSCRIBE,
    "tasks/pushNotificationConfig/set": CREATE_PUSH,
    "tasks/pushNotificationConfig/get": GET_PUSH,
    "tasks/pushNotificationConfig/list": LIST_PUSH,
    "tasks/pushNotificationConfig/delete": DELETE_PUSH,
    "agent/getAuthenticatedExtendedCard": EXTENDED_CARD,
}
"""`tasks/list` came to JSON-RPC between the two versions; some servers of 0.3 have it."""

STREAMING = frozenset((STREAM, SUBSCRIBE))
WITH_TASK = frozenset((SEND, STREAM, GET_TASK, CANCEL, SUBSCRIBE))
"""Whose answer is a task, a message, or what becomes of them."""
PUSH = frozenset((CREATE_PUSH, GET_PUSH, LIST_PUSH, DELETE_PUSH))
CARDS = frozenset((CARD, EXTENDED_CARD))

_OF_GRPC_0_3 = {"TaskSubscription": SUBSCRIBE, "ListTaskPushNotificationConfig": LIST_PUSH, "GetAgentCard": EXTENDED_CARD}
_SERVICES = {"lf.a2a.v1.A2AService": "1.0", "a2a.v1.A2AService": "0.3"}

_BY_LAST = {
    ("POST", "message:send"): SEND,
    ("POST", "message:stream"): STREAM,
    ("GET", "extendedAgentCard"): EXTENDED_CARD,
}
_BY_VERB = {
    ("POST", "cancel"): CANCEL,
    ("POST", "subscribe"): SUBSCRIBE,
    ("GET", "subscribe"): SUBSCRIBE,
}
_CONFIGS = "pushNotificationConfigs"
_OF_CONFIGS = {"POST": CREATE_PUSH, "GET": LIST_PUSH}
_OF_CONFIG = {"GET": GET_PUSH, "DELETE": DELETE_PUSH}


def json_rpc_method(method: str) -> tuple[str, str]:
    """Return the logical method and the version that spells it so; "" and "" for one that A2A does not have."""
    if method in OF_1_0:
        return method, "1.0"
    logical = OF_0_3.get(method, "")
    return logical, "0.3" if logical else ""


def grpc_method(path: str) -> tuple[str, str]:
    """Return logical method and version of `/lf.a2a.v1.A2AService/SendMessage`; "" and "" for another service's."""
    service, _, method = path.removeprefix("/").rpartition("/")
    version = _SERVICES.get(service, "")
    if version == "1.0":
        return (method, version) if method in OF_1_0 else ("", "")
    if version:
        logical = _OF_GRPC_0_3.get(method, method if method in OF_1_0 else "")
        return (logical, version) if logical else ("", "")
    return "", ""


@dataclass(slots=True)
class RestCall:
    """
    What a REST path says: the method, the task, and whether the path alone is proof enough that this is A2A.

    `/tasks/7` may be anybody's. What stands before the known segments is the endpoint's own path, or a tenant; nobody can tell.
    """

    method: str
    task: str = ""
    version: str = "1.0"
    is_certain: bool = True


def rest_call(verb: str, path: str) -> RestCall | None:
    """Read a path of the HTTP+JSON binding, of 1.0 or (below `/v1`) 0.3; None where it is none."""
    *before, third, second, last = ("", "", "", *path.rstrip("/").split("/"))
    method = _BY_LAST.get((verb, last), "")
    if method:
        return RestCall(method, version=_version(second))
    if second == "agent" and last == "authenticatedExtendedCard" and verb == "GET":
        return RestCall(EXTENDED_CARD, version="0.3")
    if third == "tasks" and second and last == _CONFIGS and verb in _OF_CONFIGS:
        return RestCall(_OF_CONFIGS[verb], second, _version(before[-1]))
    if second == _CONFIGS and third and before[-1] == "tasks" and last and verb in _OF_CONFIG:
        return RestCall(_OF_CONFIG[verb], third, _version(before[-2]))
    if second == "tasks" and last:
        task, colon, what = last.rpartition(":")
        method = _BY_VERB.get((verb, what), "") if colon and task else ""
        if method:
            return RestCall(method, task, _version(third))
        return RestCall(GET_TASK, last, _version(third), is_certain=False) if verb == "GET" else None
    if last == "tasks" and verb == "GET":
        return RestCall(LIST_TASKS, version=_version(second), is_certain=False)
    if second == "v1" and last == "card" and verb == "GET":
        return RestCall(EXTENDED_CARD, version="0.3", is_certain=False)
    return None


def _version(segment: str) -> str:
    return "0.3" if segment == "v1" else "1.0"
