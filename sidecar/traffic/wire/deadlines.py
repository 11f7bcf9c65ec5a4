"""How long each side of a call may keep silent, and whose fault it is when it does."""

from sidecar.model.errors import Refused, UpstreamFailed


def overdue(
    quiet_s: float,
    *,
    client_is_full: bool,
    has_answered: bool,
    is_uploading: bool,
    is_held_back: bool,
    is_sent: bool,
    client_s: float,
    silence_s: float,
    first_byte_s: float,
) -> Refused | None:
    """
    Return what ends a call that has been quiet for `quiet_s`, or None where it may go on.

    `client_s` bounds the client (taking the response, sending the body), `silence_s` the upstream in the middle of either,
    `first_byte_s` the wait for its answer. While the client is held back because the upstream takes no content, the
    silence is the upstream's.
    """
    if client_is_full:
        return Refused("client_stalled", f"the client took nothing for {client_s} s") if quiet_s > client_s else None
    if has_answered:
        return UpstreamFailed("idle_timeout", f"nothing came for {silence_s} s") if quiet_s > silence_s else None
    if is_uploading and is_held_back:
        return UpstreamFailed("idle_timeout", f"no content was taken for {silence_s} s") if quiet_s > silence_s else None
    if is_uploading:
        return Refused("body_timeout", f"no content came for {client_s} s") if quiet_s > client_s else None
    if is_sent and quiet_s > first_byte_s:
        return UpstreamFailed("first_byte_timeout", f"nothing came for {first_byte_s} s")
    return None


def undecided(
    quiet_s: float, thinking_s: float, *, client_is_full: bool, is_uploading: bool, client_s: float, policy_s: float
) -> Refused | None:
    """
    Return what ends a call whose filters have not answered yet, or None where it may go on.

    `thinking_s` is for how long it has been their turn: they decide, and nothing is asked of an upstream. That is never the
    upstream's silence. The client has to go on sending meanwhile (`is_uploading`: it is not held back), and taking what it is
    owed from before.
    """
    if client_is_full and quiet_s > client_s:
        return Refused("client_stalled", f"the client took nothing for {client_s} s")
    if is_uploading and quiet_s > client_s:
        return Refused("body_timeout", f"no content came for {client_s} s")
    if thinking_s > policy_s:
        return Refused("policy_timeout", f"no policy decided within {policy_s} s")
    return None
