"""
Which traces are recorded: where no parent came, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG decide, as in the SDKs.

A parent's word is obeyed whatever the sampler, in both directions: here the sidecar differs from an SDK, where `always_on` and
the like (without `parentbased_`) overrule it. A hop between two others must neither tell of a trace that its caller did not want
nor leave a hole in one that it did; it is the caller who has a sampler of its own.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ (general SDK configuration).
"""

from collections.abc import Mapping

from sidecar.model.trace import SAMPLED

DEFAULT = "parentbased_always_on"
"""The sampler where nobody chose one."""

_ALL = 1 << 64  # one more than the highest value of the 8 bytes that decide

_ROOTS = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}


class Sampler:
    """
    Says for a new span whether it is recorded: `sampler(trace_id, parent_flags)`, where None means that there is no parent.

    `ratio` is the share of traces (0 to 1) that is recorded of those that begin here. Deciding by the last 8 bytes of the trace
    id makes all who see a trace agree (the rule of TraceIdRatioBased in the SDKs). Where `is_disabled`, there are no spans at
    all, and trace headers should pass as they came, so that those before and behind us stay connected.
    """

    __slots__ = ("_bound", "is_disabled", "name", "ratio")

    def __init__(self, name: str, ratio: float, *, is_disabled: bool = False) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"a sampling ratio lies between 0 and 1, not at {ratio}")
        self.name = name
        self.ratio = ratio
        self.is_disabled = is_disabled
        self._bound = round(ratio * _ALL)

    def __call__(self, trace_id: bytes, parent_flags: int | None) -> bool:
        if parent_flags is not None and not self.is_disabled:
            return bool(parent_flags & SAMPLED)
        return int.from_bytes(trace_id[8:], "big") < self._bound

    def __repr__(self) -> str:
        return f"Sampler({self.name}, ratio={self.ratio:g})"


def from_environ(environ: Mapping[str, str]) -> tuple[Sampler, str]:
    """
    The sampler that these variables ask for, and a warning to be logged, or "".

    What is not understood is ignored as if it were not set, as the specification demands: an unknown sampler means
    `DEFAULT`, a ratio that is no number from 0 to 1 means 1. OTEL_SDK_DISABLED=true records nothing, parent or not.
    """
    warnings: list[str] = []
    if _is_disabled(environ, warnings):
        return Sampler("disabled", 0.0, is_disabled=True), ""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or DEFAULT
    root = name.removeprefix("parentbased_")
    if root not in _ROOTS:
        warnings.append(f"OTEL_TRACES_SAMPLER={name!r} is unknown; {DEFAULT} is used.")
        name, root = DEFAULT, DEFAULT.removeprefix("parentbased_")
    ratio = _ROOTS[root]
    if ratio is None:
        ratio = _ratio(environ, warnings)
    return Sampler(name, ratio), " ".join(warnings)


def _is_disabled(environ: Mapping[str, str], warnings: list[str]) -> bool:
    text = environ.get("OTEL_SDK_DISABLED", "").strip().lower()
    if text not in ("", "true", "false"):
        warnings.append(f"OTEL_SDK_DISABLED={text!r} is neither true nor false; it counts as false.")
    return text == "true"


def _ratio(environ: Mapping[str, str], warnings: list[str]) -> float:
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if not text:
        return 1.0
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if 0 <= ratio <= 1:
        return ratio
    warnings.append(f"OTEL_TRACES_SAMPLER_ARG={text!r} is no number from 0 to 1; every trace is sampled.")
    return 1.0
