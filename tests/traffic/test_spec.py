from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sidecar.model.spec import Secret
from sidecar.traffic.spec import DestinationsSpec, IdentitySpec, ProxySpec, RouteSpec, TrafficSpec


def read(kind: type, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value)


def test_without_a_word_it_is_a_forward_proxy_with_a_listener() -> None:
    spec = read(TrafficSpec, {})
    assert spec.listeners == {"http": None}
    assert (spec.policies, spec.upstreams, spec.routes, spec.default) == ({}, {}, {}, "forward")
    assert (spec.destinations, spec.identity) == (DestinationsSpec(), IdentitySpec())
    assert spec.drain == 30.0


def test_by_default_loopback_is_closed_and_private_ranges_are_open() -> None:
    spec = DestinationsSpec()
    assert (spec.allow_loopback, spec.allow_private) == (False, True)
    assert (float(spec.dns_ttl), float(spec.dns_timeout), float(spec.attempt_delay)) == (30.0, 5.0, 0.25)


def test_by_default_there_is_no_proxy_and_one_would_not_be_asked_for_local_servers() -> None:
    spec = read(TrafficSpec, {}).proxy
    assert (spec.url, spec.no_proxy, spec.resolve) == (None, ("localhost", "127.0.0.0/8", "::1"), "proxy")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"url": Secret("proxy:3128")}, "proxy has to look like"),
        ({"url": Secret("")}, "proxy has to look like"),
        ({"no_proxy": ("http://a",)}, "no_proxy has"),
    ],
)
def test_a_proxy_that_makes_no_sense_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ProxySpec(**settings)


def test_specs_do_not_share_their_defaults() -> None:
    first, second = TrafficSpec(), TrafficSpec()
    first.routes["a"] = RouteSpec(upstream="http/a")
    assert second.routes == {}


def test_a_route_needs_nothing_but_its_upstream() -> None:
    spec = read(RouteSpec, {"upstream": "http/a"})
    assert (spec.path, spec.policies, spec.connect, spec.baggage) == (None, (), "tunnel", False)


@pytest.mark.parametrize("path", ["/", "/openai/", "/a/b/", "/%2F/"])
def test_a_path_begins_and_ends_with_a_slash(path: str) -> None:
    assert read(RouteSpec, {"upstream": "http/a", "path": path}).path == path


@pytest.mark.parametrize("path", ["", "openai", "/openai", "openai/", "a/b"])
def test_any_other_path_is_refused_with_an_example(path: str) -> None:
    with pytest.raises(ValueError, match="as in '/openai/'"):
        RouteSpec(upstream="http/a", path=path)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (RouteSpec, {}),
        (RouteSpec, {"upstream": "a", "uptsream": "b"}),
        (RouteSpec, {"upstream": "a", "connect": "maybe"}),
        (RouteSpec, {"upstream": "a", "policies": "cost_guard"}),
        (DestinationsSpec, {"allow": True}),
        (DestinationsSpec, {"dns_ttl": 30}),
        (IdentitySpec, {"agnet": "a"}),
        (ProxySpec, {"resolve": "there"}),
        (ProxySpec, {"no_proxy": "localhost"}),
        (TrafficSpec, {"default": "allow"}),
        (TrafficSpec, {"drain": "soon"}),
        (TrafficSpec, {"routes": {"a": {"upstream": "b", "path": "b"}}}),
        (TrafficSpec, {"destinations": {"unknown": 1}}),
    ],
)
def test_what_is_unknown_or_has_no_unit_is_refused(kind: type, value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(kind, value)


def test_what_is_said_is_collected_only_where_somebody_asks_for_it() -> None:
    assert RouteSpec(upstream="http/x").content is False
