"""If-Match: a request with the ETag of an earlier answer changes the object only if it has not changed since.

An ETag is the number of the object's last change. The part behind a dot covers other content of the answer (`render`)
and counts only for If-None-Match.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from flask import Request, request

from echelon.controller.api.problems import Refusal
from echelon.shared.errors import PreconditionFailed

#: A number that no object has.
NEVER = -1
#: Digits of a number that the store can hold.
_DIGITS = 18
#: ETags that one header may name.
_MOST = 20

IF_MATCH = {"If-Match": "The ETag you read: if the object has changed since, the answer is 412 and nothing happens."}

#: With its quotes, or as the field `etag` of an answer has it. Our ETags hold no comma.
_ETAG = re.compile(r'(W/)?(?:"([^"]+)"|([^"\s]+))')

Result = TypeVar("Result")


def act_if_match(act: Callable[[int | None], Result]) -> Result:
    """Do something as far as If-Match allows; `act` gets the etag that it has to hold against, or None."""
    wanted = _parse_if_match(request)
    if wanted is None:
        return act(None)
    told = "the object has changed since the ETag in If-Match; read it again"
    for number in wanted:
        try:
            return act(number)
        except PreconditionFailed as error:
            told = told if number == NEVER else str(error)
    raise Refusal(412, told)


def parse_etag(etag: str) -> int:
    """Return the number that an ETag stands for; one that we never gave stands for none that there is."""
    digits = etag.partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else NEVER


def _parse_if_match(asked: Request) -> list[int] | None:
    """Return the etags that If-Match names; None: it is not there, or any will do."""
    header = asked.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return None
    numbers: list[int] = []
    for part in header.split(","):
        found = _ETAG.fullmatch(part.strip())
        if found is None or len(numbers) == _MOST:
            raise Refusal(400, f'If-Match: write 1 to {_MOST} ETags, each in quotes as the answer had it, or "*"')
        # A weak one never matches (RFC 9110).
        numbers.append(NEVER if found[1] else parse_etag(found[2] or found[3]))
    return numbers
