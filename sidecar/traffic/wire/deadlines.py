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
