"""Values that look like secrets. All detectors run in linear time: a hostile text cannot slow an error down."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from grpc_faultwire.category import REDACTED


def _card(found: re.Match[str]) -> str:
    # What follows after a space may be the card's date or code: any group may be its last.
    text = found[0]
    ends = [at for at in range(14, len(text) + 1) if not text[at : at + 1].isdigit()]
    return REDACTED if any(_luhn([int(char) for char in text[:end] if char.isdigit()]) for end in ends) else text


def _luhn(digits: list[int]) -> bool:
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= 14 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _url(found: re.Match[str]) -> str:
    rest = found[1]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    # A password may hold a slash; but an @ in the path after a host's name or port is none of a password's.
    if "@" in authority or ("@" in rest and _USER_AND_PASSWORD.match(rest)):
        return f"://{REDACTED}@{rest.rpartition('@')[2]}"
    return found[0]


def _scheme(found: re.Match[str]) -> str:
    word = found[3].rstrip(".")
    is_a_word = word.isalpha() and word[1:].islower() and len(word) <= 16  # "basic authentication"
    return found[0] if is_a_word else f"{found[1]}{found[2]}{REDACTED}"


Detector = tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"]
"""A pattern that takes linear time, and what stands where it matched."""

_USER_AND_PASSWORD = re.compile(r"[^/?#@:]*:(?!\d{1,5}(?:[/?#]|$))")
_QUOTED = r"\\{1,3}\"[^\"]*+\"?|\"(?:[^\"\\]|\\(?s:.))*+\"?|'(?:[^'\\]|\\(?s:.))*+'?"
_IS = r"\\{0,3}[\"']?\s{0,4}[:=]\s{0,4}"


def _value(found: re.Match[str]) -> str:
    # A function: re reads a template with groups anew for every text, and that takes longer than to look for them.
    return f"{found[1]}{REDACTED}"


# Each begins with a literal or a class of characters, which re looks for much faster than for anything else; so what
# has to stand before the match is looked for behind its first character, and only what follows ignores letter case.

# A private key in PEM, to its end line or the end of the text.
_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END)(?s:.))*+"
    r"(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)
# The user and password of a URL.
_PASSWORD_IN_URL = re.compile(r"://((?:(?!://)[^\s\"'<>])++)")
# JSON Web Tokens. Looked for only where a word starts: a run of them is read once.
_WEB_TOKEN = re.compile(r"eyJ(?<![\w-]eyJ)[\w-]{8,}+(?:\.[\w-]*+){1,4}")
# Keys that their makers gave a prefix: AWS, GitHub, GitLab, Slack, Google, Stripe and alike, npm, PyPI.
_KEY = re.compile(
    r"[Agnprsxy](?<=\b.)(?:(?:(?<=A)KIA|(?<=A)SIA)[0-9A-Z]{16}|(?<=g)h[pousr]_\w{20,}+|(?<=g)ithub_pat_\w{20,}+"
    r"|(?<=g)lpat-[\w-]{16,}+|(?<=x)ox[abeoprs]-[\w-]{10,}+|(?<=A)Iza[\w-]{30,}+|(?<=y)a29\.[\w.-]{16,}+"
    r"|(?<=[rsp])k_(?:live|test)_\w{8,}+|(?<=s)k-[\w-]{16,}+|(?<=n)pm_\w{20,}+|(?<=p)ypi-[\w-]{16,}+)"
)
_SCHEME = re.compile(r"([bB](?<=\b.)(?i:earer|asic))(\s{1,4})([\w.~+/-]{8,}+=*+)")
# Headers whose whole value is a secret, to the end of the line.
_HEADER = re.compile(
    rf"([aAcC](?i:(?<=a)uthorization|(?<=c)ookie){_IS})(?!\s)(?:{_QUOTED}|[^\r\n]++)",
)
# name=value and "name": "value", where the name speaks of a secret. Ignoring case, U+017F is an s too.
_NAMED = re.compile(
    r"([aAcCpPsS\u017ftT](?i:(?<=p)(?:assword|asswd|assphrase|rivate[ _-]?key|wd)|(?<=s)(?:ecret|ession[_-]?id)"
    r"|(?<=t)oken|(?<=a)(?:pi|ccess)[ _-]?key|(?<=c)(?:redentials?|ard[ _-]?number|vv))"
    rf"{_IS})(?!\s)(?:{_QUOTED}|[^\s,;&\"']++)"
)
# Card numbers of 14 to 19 digits by the prefixes of their makers, and the Luhn check; never the head of a UUID.
_CARD = re.compile(
    r"[2-6](?<![\w.-].)(?:(?<=3)[04678]|(?<=4)\d|(?<=5)[1-5]|(?<=2)[2-7]|(?<=6)\d)(?:[ -]?\d){12,17}"
    r"(?!\w|\.\d|-[\da-fA-F]{4}-[\da-fA-F]{12}\b)"
)
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,128}+@(?:[\w-]{1,63}+\.)+[A-Za-z]{2,}")

DETECTORS: tuple[Detector, ...] = (
    (_PEM, REDACTED),
    (_PASSWORD_IN_URL, _url),
    (_WEB_TOKEN, REDACTED),
    (_KEY, REDACTED),
    (_SCHEME, _scheme),
    (_HEADER, _value),
    (_NAMED, _value),
    (_CARD, _card),
    (_EMAIL, REDACTED),
)
"""What values that look like secrets are, in the order in which they are looked for."""
NEEDED = {
    _PEM: ("-----BEGIN", "-----BEGIN"),
    _PASSWORD_IN_URL: ("://", "://"),
    _WEB_TOKEN: ("eyJ", "eyJ"),
    _HEADER: (":", "="),
    _NAMED: (":", "="),
    _EMAIL: ("@", "@"),
}
"""One of two texts that are in every text where a pattern matches, and that are found much faster."""
NOTHING_NEEDED = ("", "")

# Each begins with one literal character, rarer than those around it where there is a choice: re looks for any of many
# such literals at once, and for anything else much slower. The same is looked for in texts and in their UTF-8, so
# classes say which of ASCII is not in them: all else is, as U+017F ignores case as s, and \d takes any script's.
_SCHEMES = r"(?:[eE][aA]|[aA][^\x00-RT-rt-\x7f])"
_DIGITS = r"[^\x00-\x1f!-,./:-\x7f]{13}"
_HINTS = {
    _PEM: ("B(?<=-----B)EGIN",),
    _PASSWORD_IN_URL: ("://",),
    _WEB_TOKEN: ("J(?<=eyJ)",),
    _KEY: (
        *("K(?<=AK)IA", "S(?<=AS)IA", "I(?<=AI)za", r"\.(?<=ya29\.)"),
        *("_(?<=gh[pousr]_)", "_(?<=github_)pat_", "_(?<=[rsp]k_)(?:live|test)_", "_(?<=npm_)"),
        *("-(?<=glpat-)", "-(?<=xox[abeoprs]-)", "-(?<=sk-)", "-(?<=pypi-)"),
    ),
    _SCHEME: (f"b{_SCHEMES}", f"B{_SCHEMES}"),
    _HEADER: (":", "="),
    _NAMED: (":", "="),
    _CARD: tuple(f"{first}{_DIGITS}" for first in "23456"),
    _EMAIL: ("@",),
}


def hint(detectors: Iterable[Detector]) -> str:
    """Return a pattern that is found in every text that one of the detectors would change, and in its UTF-8.

    It may be found in others: then the detectors decide. With a detector that is none of ours it is found everywhere.
    """
    found = dict.fromkeys(one for pattern, _ in detectors for one in _HINTS.get(pattern, ("",)))
    if "" in found:
        return ""
    return "|".join(found) if found else "(?!)"
