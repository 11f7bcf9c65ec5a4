"""
Texts without what nobody should read in a trace: keys, tokens, e-mail addresses, numbers of payment cards.

    masked("my key is sk-proj-abcdefghijklmnopqrst, mail me@example.com")   # "my key is [key], mail [email]"
    masked_error("Incorrect API key provided: hunter")                      # "Incorrect API key provided: [secret]"

It takes time that grows with the text and no faster: the text is cut into runs of the characters that such things are made of,
and each run is looked at once. Whoever has keys of a kind of their own names their prefix. This is a net for what slips into
prompts, not a promise: content is off by default for good reason. What somebody else writes into an error is told unasked, so
there the rules are stricter: what is called a key or a password is one, however short.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.telemetry.redaction import is_certain, is_sensitive

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
_SCHEME = re.compile(r"\b(?i:bearer|basic|apikey) +(?=[A-Za-z_.+/=~-]{0,256}[0-9])[A-Za-z0-9_.+/=~-]{4,}")
_ASSIGNS = re.compile("[:=%]")  # what stands between a name and its value, or begins it
_TO_VALUE = re.compile(
    r"""(?:(?<=%)3[AaDd]|(?<!%)[=>]?)\s{0,2}(?:\\?["'])?(?!(?i:bearer|basic|apikey|digest)\b)(?=[^\s"'`,;&<>(){}\[\]\\])"""
)
_VALUE = re.compile(r"""[^\s"'`,;&<>(){}\[\]\\]+""")
_VALUE_CHARS = 64
"""Characters of a value by which it is judged; all of it goes."""
_NAME = re.compile(r"([A-Za-z0-9_.-]+ )?([A-Za-z0-9_.-]+)$")
_HINTS = (
    "token", "secret", "pass", "signature", "credential", "bearer", "auth", "key", "pwd", "jwt", "otp", "sig", "sas", "code",
    "amz", "goog",
)  # fmt: skip
"""What is in each name that `is_sensitive` knows; most texts have none of it."""
_NAME_CHARS, _AROUND_NAME = 64, "\"'\\ \t"
_FILLERS = (" provided", " supplied", " given", " used", " received", " is", " was", " value")
_SHORT = 4
"""Characters after the beginning of a key that make it one in an error, where providers shorten them."""
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
        text = _assigned(text, _looks_secret)
        return _DIGITS.sub(_cards, text)

    def error(self, text: str) -> str:
        """Return the text of somebody else's error with a mark in the place of each secret, and of what may be one."""
        text = _SCHEME.sub(lambda found: f"{found[0].partition(' ')[0]} {TOKEN}", self.text(text))
        return _assigned(_RUN.sub(self._short_key, text), _is_secret)

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


    def _short_key(self, found: re.Match[str]) -> str:
        run = found[0]
        for prefix in (*PREFIXES, *self.prefixes):
            at = run.find(prefix)
            if at >= 0 and len(run) - at >= len(prefix) + _SHORT and (at == 0 or not run[at - 1].isalnum()):
                return run[:at] + KEY
        return run


def _assigned(text: str, is_secret: Callable[[str, str, bool], bool]) -> str:
    """The text without what stands behind `api_key=`, `"token": "` and `API key provided: `, where that is a secret."""
    low = text.replace("\u0130", "I").lower()  # the one letter that is two in lower case
    hints = [hint for hint in _HINTS if hint in low]
    if not hints:
        return text
    kept, at, looked = [], 0, 0
    while (found := _ASSIGNS.search(text, looked)) is not None:
        looked = found.end()
        begin, end = max(at, looked - 1 - _NAME_CHARS), looked - 1
        if not any(low.find(hint, begin, end) >= 0 for hint in hints) or (to_value := _TO_VALUE.match(text, looked)) is None:
            continue  # nearly all
        looked = start = to_value.end()
        before = text[begin:end].rstrip(_AROUND_NAME)
        for filler in _FILLERS:
            before = before.removesuffix(filler)
        name, value = _NAME.search(before), _VALUE.match(text, start, start + _VALUE_CHARS)
        if name is None or value is None or not (shown := value[0].rstrip(".:!?")):
            continue
        is_close = "=" in text[found.start() : start]
        if is_secret(name[2], shown, is_close) or (name[1] and is_secret(name[0], shown, is_close)):
            kept.append(text[at:start] + SECRET)
            at = looked = start + len(shown)
            if value.end() - start == _VALUE_CHARS and (rest := _VALUE.match(text, at)):
                at = looked = rest.end()
    return "".join(kept) + text[at:] if kept else text


def _looks_secret(name: str, value: str, is_close: bool) -> bool:  # noqa: ARG001 - the other rule asks for it
    """In what people write: `password = input()` stays, `password=hunter2` does not."""
    return len(value) >= 6 and any(map(str.isdigit, value)) and is_certain(name)


def _is_secret(name: str, value: str, is_close: bool) -> bool:
    """In errors: what is called a password is one; a `key` is one where it stands close (`key=…`), or looks like it."""
    if not is_sensitive(name):
        return False
    return is_certain(name) or (is_close and not name.endswith("code")) or (len(value) >= 8 and any(map(str.isdigit, value)))


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

masked_error: Callable[[str], str] = Masks().error
"""The same for what others write into their errors, by stricter rules."""


def masks_of(prefixes: Iterable[str], *, length: int = 12) -> Masks:
    """The rules with further prefixes of keys; raises ValueError for one that would hit ordinary words."""
    extra = tuple(prefixes)
    if any(len(prefix) < 3 or _RUN.fullmatch(prefix + "x" * 6) is None for prefix in extra):
        raise ValueError("a prefix of a key has at least 3 characters, letters, digits or one of _.+/=~%:-")
    return Masks(dict.fromkeys(extra, length))
