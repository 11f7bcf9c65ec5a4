import pytest

from sidecar.dialects.a2a.methods import OF_0_3, OF_1_0, RestCall, grpc_method, json_rpc_method, rest_call


@pytest.mark.parametrize("method", sorted(OF_1_0))
def test_a_method_of_1_0_is_called_the_same_in_json_rpc_and_grpc(method: str) -> None:
    assert json_rpc_method(method) == (method, "1.0")
    assert grpc_method(f"/lf.a2a.v1.A2AService/{method}") == (method, "1.0")


@pytest.mark.parametrize(("spelt", "logical"), OF_0_3.items())
def test_a_method_of_0_3_has_the_name_that_1_0_gives_it(spelt: str, logical: str) -> None:
    assert json_rpc_method(spelt) == (logical, "0.3")


@pytest.mark.parametrize("method", ["", "tools/call", "sendMessage", "message/send/x", "GetAgentCard"])
def test_what_is_no_method_has_no_name(method: str) -> None:
    assert json_rpc_method(method) == ("", "")


@pytest.mark.parametrize(
    ("path", "logical"),
    [
        ("/a2a.v1.A2AService/SendMessage", ("SendMessage", "0.3")),
        ("/a2a.v1.A2AService/TaskSubscription", ("SubscribeToTask", "0.3")),
        ("/a2a.v1.A2AService/ListTaskPushNotificationConfig", ("ListTaskPushNotificationConfigs", "0.3")),
        ("/a2a.v1.A2AService/GetAgentCard", ("GetExtendedAgentCard", "0.3")),
        ("/a2a.v1.A2AService/Nothing", ("", "")),
        ("/lf.a2a.v1.A2AService/TaskSubscription", ("", "")),
        ("/lf.a2a.v1.A2AService/", ("", "")),
        ("/grpc.health.v1.Health/Check", ("", "")),
        ("lf.a2a.v1.A2AService/GetTask", ("GetTask", "1.0")),
        ("", ("", "")),
        ("/", ("", "")),
    ],
)
def test_a_path_of_grpc_says_service_and_method(path: str, logical: tuple[str, str]) -> None:
    assert grpc_method(path) == logical


@pytest.mark.parametrize(
    ("verb", "path", "call"),
    [
        ("POST", "/message:send", RestCall("SendMessage")),
        ("POST", "/message:stream", RestCall("SendStreamingMessage")),
        ("POST", "/v1/message:send", RestCall("SendMessage", version="0.3")),
        ("POST", "/tenant/message:send", RestCall("SendMessage")),
        ("POST", "/base/of/it/v1/message:stream/", RestCall("SendStreamingMessage", version="0.3")),
        ("GET", "/tasks/7", RestCall("GetTask", "7", is_certain=False)),
        ("GET", "/v1/tasks/7", RestCall("GetTask", "7", "0.3", is_certain=False)),
        ("GET", "/tasks", RestCall("ListTasks", is_certain=False)),
        ("GET", "/x/tasks/", RestCall("ListTasks", is_certain=False)),
        ("POST", "/tasks/7:cancel", RestCall("CancelTask", "7")),
        ("POST", "/v1/tasks/7:cancel", RestCall("CancelTask", "7", "0.3")),
        ("POST", "/tasks/a:b:subscribe", RestCall("SubscribeToTask", "a:b")),
        ("GET", "/tasks/7:subscribe", RestCall("SubscribeToTask", "7")),
        ("GET", "/tasks/a:b", RestCall("GetTask", "a:b", is_certain=False)),
        ("POST", "/tasks/7/pushNotificationConfigs", RestCall("CreateTaskPushNotificationConfig", "7")),
        ("GET", "/v1/tasks/7/pushNotificationConfigs", RestCall("ListTaskPushNotificationConfigs", "7", "0.3")),
        ("GET", "/tasks/7/pushNotificationConfigs/c", RestCall("GetTaskPushNotificationConfig", "7")),
        ("DELETE", "/v1/tasks/7/pushNotificationConfigs/c", RestCall("DeleteTaskPushNotificationConfig", "7", "0.3")),
        ("GET", "/extendedAgentCard", RestCall("GetExtendedAgentCard")),
        ("GET", "/v1/card", RestCall("GetExtendedAgentCard", version="0.3", is_certain=False)),
    ],
)
def test_a_path_of_rest_says_method_task_and_version(verb: str, path: str, call: RestCall) -> None:
    assert rest_call(verb, path) == call


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/message:send"),
        ("POST", "/message:other"),
        ("POST", "/tasks/7"),
        ("POST", "/tasks/:cancel"),
        ("POST", "/tasks"),
        ("GET", "/tasks//pushNotificationConfigs"),
        ("PUT", "/tasks/7/pushNotificationConfigs"),
        ("POST", "/jobs/7:cancel"),
        ("GET", "/pushNotificationConfigs/x"),
        ("GET", "/card"),
        ("GET", ""),
        ("GET", "/"),
    ],
)
def test_what_is_no_path_of_rest_is_none(verb: str, path: str) -> None:
    assert rest_call(verb, path) is None
