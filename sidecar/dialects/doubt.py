"""What a peer told that can be no count: found here, so that no dialect takes it for nothing and calls the rest exact."""

from sidecar.dialects.lenient import MOST_COUNT
from sidecar.model.usage import NONSENSE


def nonsense(*told: float | None) -> str:
    """Return the doubt of a usage in which these were told: `NONSENSE` where one of them can be no count, "" otherwise."""
    for each in told:
        if each and not 0 < each <= MOST_COUNT:
            return NONSENSE
    return ""
