"""
Texts without what nobody should read in a trace: keys, tokens, e-mail addresses, numbers of payment cards.

    masked("my key is sk-proj-abcdefghijklmnopqrst, mail me@example.com")   # "my key is [key], mail [email]"

It takes time that grows with the text and no faster: the text is cut into runs of the characters that such things are made of,
and each run is looked at once. Whoever has keys of a kind of their own names their prefix. This is a net for what slips into
prompts, not a promise: content is off by default for good reason.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.telemetry.redaction import is_sensitive

KEY, TOKEN, EMAIL, CARD, SECRET = "[key]", "[token]", "[email]", "[card]", "[secret]"
"""What stands in the place of each."""

PREFIXES: Mapping[str, int] = {
    "sk-": 20, "sk_live_": 16, "sk_test_": 16, "rk_live_": 16, "pk_live_": 16, "AIza": 39, "AKIA": 20, "ASIA": 20, "gsk_": 20,
    "xai-": 20, "hf_": 20, "r8_": 20, "pplx-": 20, "ghp_": 20, "gho_": 20, "ghu_": 20, "ghs_": 20, "ghr_": 20,
    "github_pat_": 20, "glpat-": 16, "npm_": 20, "pypi-": 20, "xoxb-": 16, "xoxp-": 16, "xoxa-": 16, "xoxs-": 16, "xapp-": 16,
    "ya29.": 20, "SG.": 20, "shpat_": 16, "lsv2_": 16, "dop_v1_": 16, "AccountKey=": 20,
}  # fmt: skip
"""How keys begin, and the least length of the whole that makes it one."""

MOST_DEPTH = 32
"""How deep a structure is walked; what is deeper becomes `[secret]`, because nobody has looked at it."""

# Each is one class of characters and a least length: a run that is too short costs at most the square of that length.
_RUN = re.compile(r"[A-Za-z0-9_.+/=~@%:-]{6,}")
_DIGITS = re.compile(r"[0-9][0-9 -]{11,}[0-9]")
_GROUP = re.compile(r"[0-9]+")
_BEARER = re.compile(r"\b(?:[Bb]earer|BEARER|[Bb]asic) +[A-Za-z0-9_.+/=~-]{8,}")
_PEM_BEGIN, _PEM_END = "-----BEGIN ", "-----END "
_EDGES = ".:/=%~+-_"
_LONGEST_MAIL = 254  # RFC 5321 section 4.5.3.1


@dataclass(frozen=True, slots=True)
class Masks:
    """The rules, and what a config adds to them: `prefixes` of keys with the least length of a key."""

    prefixes: Mapping[str, int] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """Return the text with a mark in the place of each secret."""
        if _PEM_BEGIN in text:
            text = _without_pem(text)
        text = _BEARER.sub(lambda found: f"{found[0].partition(' ')[0]} {TOKEN}", text)
        text = _RUN.sub(self._run, text)
        return _DIGITS.sub(_cards, text)

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a structure as JSON has them, masked: texts as above, and whole values of members whose name says it."""
        if isinstance(value, str):
            return self.text(value)
        if depth >= MOST_DEPTH and isinstance(value, dict | list):
            return SECRET
        if isinstance(value, dict):
            return {
                self.text(str(name)): SECRET
                if isinstance(inner, str | int) and not isinstance(inner, bool) and is_sensitive(str(name))
                else self.value(inner, depth + 1)
                for name, inner in value.items()
            }
        return [self.value(inner, depth + 1) for inner in value] if isinstance(value, list) else value

    def _run(self, found: re.Match[str]) -> str:
        run = found[0]
        if "@" in run:
            return _mails(run)
        for prefix, length in (*PREFIXES.items(), *self.prefixes.items()):
            at = run.find(prefix)
            if at >= 0 and len(run) - at >= length and (at == 0 or not run[at - 1].isalnum()):
                return run[:at] + KEY
        at = run.find("eyJ")
        if at >= 0 and 0 < run.count(".", at) < 3 and len(run) - at >= 30:  # a JSON web token (RFC 7519), perhaps cut
            return run[:at] + TOKEN
        return run


def _mails(run: str) -> str:
    """A run with `@` in it: an address of mail, or credentials in a URL."""
    core = run.rstrip(_EDGES)
    name, _, host = core.rpartition("@")
    label = host.partition("/")[0].rpartition(".")
    if not name or len(label[2]) < 2 or not label[2].isalpha() or not label[0]:
        return run  # `package@1.2.3`, `@decorator`
    before, _, user = name.rpartition(":")
    if before not in ("", "mailto") or len(core) > _LONGEST_MAIL:
        return SECRET + run[len(core) :]  # user:password@host, perhaps with a scheme before it
    return (before + ":" if before else "") + (EMAIL if user else "") + run[len(core) :]


def _cards(found: re.Match[str]) -> str:
    """A run of digits with blanks and dashes: any 13 to 19 of them in whole groups that are a card's number (ISO/IEC 7812)."""
    run = found[0]
    groups = [group.span() for group in _GROUP.finditer(run)]
    kept, at, first = [], 0, 0
    while first < len(groups):
        digits = ""
        for last in range(first, min(first + 19, len(groups))):
            start, end = groups[last]
            if len(digits) + end - start > 19:
                break
            digits += run[start:end]
            if len(digits) >= 13 and _is_card(digits):
                kept.append(run[at : groups[first][0]] + CARD)
                at, first = end, last
                break
        first += 1
    return "".join(kept) + run[at:]


def _is_card(digits: str) -> bool:
    """The checksum of Luhn, and a first digit that cards have."""
    if digits[0] not in "23456":
        return False
    doubled = sum(int(digit) * 2 - 9 * (digit > "4") for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _without_pem(text: str) -> str:
    """Blocks of PEM (RFC 7468) that hold something private; one that does not end is taken to be all the rest."""
    kept, at = [], 0
    while (begin := text.find(_PEM_BEGIN, at)) >= 0:
        end = text.find(_PEM_END, begin)
        stop = text.find("-----", end + len(_PEM_END)) if end >= 0 else -1
        stop = stop + 5 if stop >= 0 else len(text)
        is_private = "PRIVATE KEY" in text[begin : begin + 64]
        kept.append(text[at:begin] + (KEY if is_private else text[begin:stop]))
        at = stop
    return "".join(kept) + text[at:]


masked: Callable[[str], str] = Masks().text
"""A text without secrets, by the rules that always hold."""


def masks_of(prefixes: Iterable[str], *, length: int = 12) -> Masks:
    """The rules with further prefixes of keys; raises ValueError for one that would hit ordinary words."""
    extra = tuple(prefixes)
    if any(len(prefix) < 3 or _RUN.fullmatch(prefix + "x" * 6) is None for prefix in extra):
        raise ValueError("a prefix of a key has at least 3 characters, letters, digits or one of _.+/=~%:-")
    return Masks(dict.fromkeys(extra, length))
