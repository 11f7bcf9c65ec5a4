"""Memory that many share: who wants some takes it, and gives it back."""


class Room:
    """So many bytes, for all together; what does not fit is not had, and nobody waits."""

    __slots__ = ("limit_bytes", "taken_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0

    def take(self, count: int) -> bool:
        """Take so many bytes; False where there is no room for them, and nothing is taken."""
        if self.taken_bytes + count > self.limit_bytes:
            return False
        self.taken_bytes += count
        return True

    def occupy(self, count: int) -> None:
        """Take so many bytes that are there already, whether there is room for them or not: others find the less of it."""
        self.taken_bytes += count

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        self.taken_bytes -= count
        assert self.taken_bytes >= 0, "more was given back than was taken"
