import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_LIVE: _ClassVar[State]
    STATE_FINISHED: _ClassVar[State]

class Purpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PURPOSE_UNSPECIFIED: _ClassVar[Purpose]
    PURPOSE_LIVE: _ClassVar[Purpose]
    PURPOSE_PROBE: _ClassVar[Purpose]
    PURPOSE_SHADOW: _ClassVar[Purpose]
    PURPOSE_REPLAY: _ClassVar[Purpose]
    PURPOSE_CHAOS: _ClassVar[Purpose]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_FORWARD: _ClassVar[Mode]
    MODE_GATEWAY: _ClassVar[Mode]
    MODE_CONNECT: _ClassVar[Mode]
    MODE_STDIO: _ClassVar[Mode]
STATE_UNSPECIFIED: State
STATE_LIVE: State
STATE_FINISHED: State
PURPOSE_UNSPECIFIED: Purpose
PURPOSE_LIVE: Purpose
PURPOSE_PROBE: Purpose
PURPOSE_SHADOW: Purpose
PURPOSE_REPLAY: Purpose
PURPOSE_CHAOS: Purpose
MODE_UNSPECIFIED: Mode
MODE_FORWARD: Mode
MODE_GATEWAY: Mode
MODE_CONNECT: Mode
MODE_STDIO: Mode

class ListExchangesResponse(_message.Message):
    __slots__ = ("exchanges",)
    EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    exchanges: _containers.RepeatedCompositeFieldContainer[Exchange]
    def __init__(self, exchanges: _Optional[_Iterable[_Union[Exchange, _Mapping]]] = ...) -> None: ...

class FollowExchangesResponse(_message.Message):
    __slots__ = ("exchange", "alive", "dropped")
    class Alive(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class Dropped(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    exchange: Exchange
    alive: FollowExchangesResponse.Alive
    dropped: FollowExchangesResponse.Dropped
    def __init__(self, exchange: _Optional[_Union[Exchange, _Mapping]] = ..., alive: _Optional[_Union[FollowExchangesResponse.Alive, _Mapping]] = ..., dropped: _Optional[_Union[FollowExchangesResponse.Dropped, _Mapping]] = ...) -> None: ...

class Exchange(_message.Message):
    __slots__ = ("state", "trace_id", "span_id", "parent_id", "sampled", "started_at", "ended_at", "duration_s", "first_byte_s", "agent", "task", "purpose", "mode", "listener", "client", "method", "scheme", "host", "port", "path", "route", "upstream", "status", "error", "request_bytes", "response_bytes", "attempts", "tries")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_BYTE_S_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LISTENER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    state: State
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    sampled: bool
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    duration_s: float
    first_byte_s: float
    agent: str
    task: str
    purpose: Purpose
    mode: Mode
    listener: str
    client: str
    method: str
    scheme: str
    host: str
    port: int
    path: str
    route: str
    upstream: str
    status: int
    error: str
    request_bytes: int
    response_bytes: int
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    tries: int
    def __init__(self, state: _Optional[_Union[State, str]] = ..., trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., parent_id: _Optional[bytes] = ..., sampled: bool = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration_s: _Optional[float] = ..., first_byte_s: _Optional[float] = ..., agent: _Optional[str] = ..., task: _Optional[str] = ..., purpose: _Optional[_Union[Purpose, str]] = ..., mode: _Optional[_Union[Mode, str]] = ..., listener: _Optional[str] = ..., client: _Optional[str] = ..., method: _Optional[str] = ..., scheme: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., path: _Optional[str] = ..., route: _Optional[str] = ..., upstream: _Optional[str] = ..., status: _Optional[int] = ..., error: _Optional[str] = ..., request_bytes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., tries: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("span_id", "started_at", "duration_s", "connect_s", "first_byte_s", "method", "scheme", "host", "port", "path", "address", "upstream", "status", "error", "sent_bytes", "received_bytes", "resends")
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    CONNECT_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_BYTE_S_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESENDS_FIELD_NUMBER: _ClassVar[int]
    span_id: bytes
    started_at: _timestamp_pb2.Timestamp
    duration_s: float
    connect_s: float
    first_byte_s: float
    method: str
    scheme: str
    host: str
    port: int
    path: str
    address: str
    upstream: str
    status: int
    error: str
    sent_bytes: int
    received_bytes: int
    resends: int
    def __init__(self, span_id: _Optional[bytes] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration_s: _Optional[float] = ..., connect_s: _Optional[float] = ..., first_byte_s: _Optional[float] = ..., method: _Optional[str] = ..., scheme: _Optional[str] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., path: _Optional[str] = ..., address: _Optional[str] = ..., upstream: _Optional[str] = ..., status: _Optional[int] = ..., error: _Optional[str] = ..., sent_bytes: _Optional[int] = ..., received_bytes: _Optional[int] = ..., resends: _Optional[int] = ...) -> None: ...
