"""Protobuf says what JSON says: every member, every value, and nothing that only one of them knows."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]  # there is no public one
from google.protobuf.json_format import MessageToDict

from sidecar.admin import typed
from sidecar.admin.showing import shown_exchange, shown_live
from sidecar.model.facts import Mode, Purpose
from sidecar.pb.agent_sre.sidecar.admin.v1 import exchanges_pb2 as v1
from tests.admin.seen import attempt_finished, exchange_finished, exchange_in_flight

FINISHED = shown_exchange(exchange_finished(3, task="ä"), [attempt_finished(3), attempt_finished(3, resends=1, connect_s=0.002)])
LIVE = shown_live(exchange_in_flight(4, status=200, attempts=2, request_bytes=2**40), 1_700_000_009_000_000_000)
BARE = shown_exchange(
    exchange_finished(0, status=0, first_byte_s=0.0, parent_id=b"", flags=0, agent="", route="", error="dns_failed"), []
)

every_kind = pytest.mark.parametrize("shown", [FINISHED, LIVE, BARE], ids=["finished", "live", "bare"])


def as_json(message: Any) -> dict[str, Any]:
    """What a client of the protobuf form knows, in the words of the JSON form, for every field that is there."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.name == "attempts":
            value = [as_json(each) for each in value]
        elif field.type == field.TYPE_BYTES:
            value = value.hex()
        elif field.type == field.TYPE_ENUM:
            value = field.enum_type.values_by_number[value].name.removeprefix(f"{field.name.upper()}_").lower()
        elif field.type == field.TYPE_MESSAGE:
            value = f"{datetime.fromtimestamp(value.seconds, UTC):%Y-%m-%dT%H:%M:%S}.{value.nanos // 1000:06d}Z"
        found[field.name] = value
    return found


@every_kind
def test_protobuf_carries_the_values_of_the_json_form(shown: dict[str, Any]) -> None:
    read = v1.Exchange.FromString(typed.exchange(shown).SerializeToString())
    absent_when_live = {"attempts": []} if shown["state"] == "live" else {}
    assert as_json(read) == {**shown, **absent_when_live}


def test_every_field_of_the_messages_is_filled_by_some_exchange() -> None:
    filled = {name for shown in (FINISHED, LIVE, BARE) for name in shown}
    assert filled == {field.name for field in v1.Exchange.DESCRIPTOR.fields}
    assert FINISHED["attempts"][0].keys() == {field.name for field in v1.Attempt.DESCRIPTOR.fields}


def test_every_mode_and_purpose_has_its_value() -> None:
    for mode in Mode:
        assert typed.exchange({**BARE, "mode": mode}).mode == v1.Mode.Value(f"MODE_{mode.upper()}")
    for purpose in Purpose:
        assert typed.exchange({**BARE, "purpose": purpose}).purpose == v1.Purpose.Value(f"PURPOSE_{purpose.upper()}")
    assert len(v1.Mode.keys()) == len(Mode) + 1
    assert len(v1.Purpose.keys()) == len(Purpose) + 1


def test_a_list_keeps_its_order() -> None:
    read = v1.ListExchangesResponse.FromString(typed.listed([LIVE, FINISHED, BARE]))
    assert [as_json(each)["span_id"] for each in read.exchanges] == [each["span_id"] for each in (LIVE, FINISHED, BARE)]
    assert typed.listed([]) == b""


def test_no_time_is_absent() -> None:
    assert not typed.exchange({**FINISHED, "ended_at": ""}).HasField("ended_at")


def test_text_that_is_no_text_is_told_all_the_same() -> None:
    assert typed.exchange({**BARE, "agent": "a\ud800b"}).agent == "a?b"


def test_the_live_form_is_messages_with_their_length_before_them() -> None:
    stream = typed.BEGIN + typed.event(FINISHED) + typed.ALIVE + typed.event(BARE) + typed.DROPPED
    found, at = [], 0
    while at < len(stream):
        length, at = _DecodeVarint(stream, at)
        found.append(v1.FollowExchangesResponse.FromString(stream[at : at + length]))
        at += length
    assert [each.WhichOneof("event") for each in found] == ["alive", "exchange", "alive", "exchange", "dropped"]
    assert MessageToDict(found[1].exchange) == MessageToDict(typed.exchange(FINISHED))
