import base64
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model.errors import Refused
from sidecar.model.spec import Secret
from sidecar.traffic.identity import Doorkeeper, agent_of, basic_user, task_of, trust_of
from sidecar.traffic.wire.request_head import RequestHead

LONGEST = 256


def basic(credential: str | bytes, scheme: bytes = b"Basic ") -> bytes:
    return scheme + base64.b64encode(credential.encode() if isinstance(credential, str) else credential)


def request(*, agent: bytes = b"", task: bytes = b"", baggage: tuple[bytes, ...] = ()) -> RequestHead:
    head = RequestHead()
    head.agent, head.task, head.baggage = agent, task, baggage
    return head


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (basic("user:password"), ("user", "password")),
        (basic("user:pass:with:colons"), ("user", "pass:with:colons")),
        (basic(":password"), ("", "password")),
        (basic("user:"), ("user", "")),
        (basic(":"), ("", "")),
        (basic("ägent:päss"), ("ägent", "päss")),
        (basic("user:p", b"basic "), ("user", "p")),
        (basic("user:p", b"BASIC "), ("user", "p")),
        (basic("user:p", b"Basic   "), ("user", "p")),
        (basic("user:p") + b" ", ("user", "p")),
        (basic("no colon"), None),
        (basic(""), None),
        (basic(b"\xff\xfe:x"), None),
        (b"Basic", None),
        (b"Basic ", None),
        (b"Basic !!!!", None),
        (b"Basic dXNlcj pw", None),
        (b"Basic dXNlcjpw, Basic dXNlcjpw", None),
        (b"Bearer dXNlcjpw", None),
        (b"BasicdXNlcjpw", None),
        (b"dXNlcjpw", None),
        (b"\x00", None),
    ],
)
def test_a_basic_credential_is_read_as_rfc_7617_says(authorization: bytes, expected: tuple[str, str] | None) -> None:
    assert basic_user(authorization) == expected


@given(st.one_of(st.binary(), st.binary().map(basic)))
def test_no_credential_raises_anything_but_a_refusal(authorization: bytes) -> None:
    basic_user(authorization)
    Doorkeeper({}).admit(authorization)
    with pytest.raises(Refused, match="proxy_auth_required"):
        Doorkeeper({"somebody": Secret("a password that nobody guesses")}).admit(authorization)


USERS = {"robot": Secret("s3cret:ü"), "other": Secret("x")}


def test_without_users_everybody_may_and_a_user_is_a_name() -> None:
    door = Doorkeeper({})
    assert door.admit(b"") == ""
    assert door.admit(basic("me:whatever")) == "me"
    assert door.admit(b"Bearer abc") == ""
    assert door.admit(b"Basic !!!") == ""


def test_with_users_the_right_password_opens() -> None:
    door = Doorkeeper(USERS)
    assert door.admit(basic("robot:s3cret:ü")) == "robot"
    assert door.admit(basic("other:x")) == "other"


@pytest.mark.parametrize(
    "authorization",
    [b"", b"Bearer x", b"Basic !!!"]
    + [
        basic(c)
        for c in (
            "robot:wrong",
            "robot:",
            "robot:x",
            "other:s3cret:ü",
            "nobody:x",
            "nobody:",
            "nobody:\0",
            ":",
            "Robot:s3cret:ü",
            "robot:s3cret:ü ",
        )
    ],
)
def test_with_users_anything_else_is_refused_without_a_word_of_the_password(authorization: bytes) -> None:
    with pytest.raises(Refused) as refused:
        Doorkeeper(USERS).admit(authorization)
    assert refused.value.code == "proxy_auth_required"
    assert not {"s3cret", "s3cret:ü", "robot"} & set(refused.value.detail.split())


def test_passwords_are_compared_in_constant_time_for_unknown_users_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    door = Doorkeeper(USERS)
    for credential in ("robot:guess", "nobody:guess", "other:x"):
        try:
            door.admit(basic(credential))
        except Refused:
            pass
    assert compared == [("s3cret:ü".encode(), b"guess"), (b"\0", b"guess"), (b"x", b"x")]


def test_a_doorkeeper_does_not_show_passwords() -> None:
    assert "s3cret" not in repr(Doorkeeper(USERS))


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_source_of_an_agent_goes_before_the_next() -> None:
    everything = request(agent=b"header", baggage=(b"agent.id=baggage",))
    assert agent_of(everything, "user", "config") == "user"
    assert agent_of(everything, "", "config") == "header"
    assert agent_of(request(baggage=(b"a=b", b"x=y,agent.id=baggage")), "", "config") == "baggage"
    assert agent_of(request(baggage=(b"a=b",)), "", "config") == "config"
    assert agent_of(request(baggage=(b"agent.id=",)), "", "config") == "config"
    assert agent_of(request(), "", "config") == "config"
    assert agent_of(request(), "", "") == ""


def test_each_source_of_a_task_goes_before_the_next() -> None:
    assert task_of(request(task=b"header", baggage=(b"agent.task.id=baggage",)), "config") == "header"
    assert task_of(request(baggage=(b"agent.id=no,agent.task.id=bag%20gage",)), "config") == "bag gage"
    assert task_of(request(agent=b"no", baggage=(b"agent.id=no",)), "config") == "config"
    assert task_of(request(), "") == ""


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST, LONGEST + 1, 60_000])
def test_names_are_bounded_wherever_they_come_from(size: int) -> None:
    text = "n" * size
    bounded = text[:LONGEST]
    assert agent_of(request(), text, "") == bounded
    for value in (text.encode(), text.encode("utf-8")):
        assert agent_of(request(agent=value), "", "") == task_of(request(task=value), "") == bounded
    baggage = (b"agent.id=" + text.encode() + b",agent.task.id=" + text.encode(),)
    assert agent_of(request(baggage=baggage), "", "") == task_of(request(baggage=baggage), "") == bounded


def test_a_name_is_cut_between_characters_and_not_within_one() -> None:
    for letter in "äあ🦊":
        assert agent_of(request(agent=(letter * 300).encode()), "", "") == letter * LONGEST


CONTROLS = "\x00\x01\t\n\r\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066"


def sources(text: str) -> list[tuple[str, str]]:
    """This text as an agent's and as a task's name, through each door by which it can come."""
    encoded = "".join(f"%{byte:02X}" for byte in text.encode())
    baggage = (f"agent.id={encoded},agent.task.id={encoded}".encode(),)
    named = basic_user(basic(f"{text}:x")) if ":" not in text else None
    user = named[0] if named is not None else text
    return [
        (agent_of(request(), user, ""), "user"),
        (agent_of(request(agent=text.encode()), "", ""), "header"),
        (task_of(request(task=text.encode()), ""), "header"),
        (agent_of(request(baggage=baggage), "", ""), "baggage"),
        (task_of(request(baggage=baggage), ""), "baggage"),
    ]


@pytest.mark.parametrize("control", CONTROLS, ids=[f"U+{ord(c):04X}" for c in CONTROLS])
def test_no_control_character_gets_into_a_name(control: str) -> None:
    assert {name for name, _ in sources(f"a{control}b{control}")} == {"ab"}


def test_a_name_of_control_characters_alone_is_none_and_the_next_source_counts() -> None:
    assert agent_of(request(agent=b"\t", baggage=(b"agent.id=%0A%0D",)), "\n", "config") == "config"
    assert agent_of(request(baggage=(b"agent.id=real",)), "\x1b", "config") == "real"
    assert task_of(request(task=b"\x7f", baggage=(b"agent.task.id=real",)), "config") == "real"


@given(st.text(max_size=300))
def test_whatever_an_agent_calls_itself_is_one_bounded_line(text: str) -> None:
    for name, source in sources(text.encode("utf-8", "replace").decode()):
        assert len(name) <= LONGEST, source
        assert len(name.splitlines()) <= 1 or "\u001c" in name, source
        assert not set(name) & set(CONTROLS), source


@given(st.binary(max_size=400))
def test_any_bytes_are_a_name_or_none(value: bytes) -> None:
    request_of_bytes: Any = request(agent=value, task=value, baggage=(value, b"agent.id=" + value))
    for name in (agent_of(request_of_bytes, "", "d"), task_of(request_of_bytes, "d")):
        assert name.encode("utf-8")


# ── trust ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("baggage", "expected"),
    [
        ((), None), ((b"agent.id=a",), None), ((b"agent.trust_score=847",), 847.0), ((b"agent.trust_score=0.97,agent.id=a",), 0.97),
        ((b"agent.trust_score=0",), 0.0), ((b"agent.trust_score=1000",), 1000.0), ((b"agent.trust_score=0.1", b"agent.trust_score=0.2"), 0.2),
        ((b"agent.trust_score=%30.5",), 0.5),
        *(((b"agent.trust_score=" + told,), None) for told in (b"1000.1", b"1001", b"-1", b"1e3", b"nan", b"inf", b"", b"high", b"1_0", b"9" * 400, b"0x1", b"%D9%A3")),
    ],
    ids=ascii,
)  # fmt: skip
def test_trust_is_a_score_that_the_baggage_says_and_nothing_else(baggage: tuple[bytes, ...], expected: float | None) -> None:
    assert trust_of(baggage) == expected
