"""Says why RabbitMQ cannot be used, in words that name the place and the remedy. Never the password."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Hashable, Iterator

from pika.connection import Parameters
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

log = logging.getLogger(__name__)

#: OpenSSL's codes for a name or an address that does not stand in the certificate.
_OTHER_HOST = (62, 64)
_ACCESS_REFUSED, _PRECONDITION_FAILED, _NOT_ALLOWED = 403, 406, 530


class Trouble:
    """The reasons why a broker cannot be used now, one for each part of a program; each new one is logged once.

    A part is anything that fails and recovers by itself, such as a connection or a subscription. Any thread may use it.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._reasons: dict[Hashable, str] = {}

    @property
    def words(self) -> str | None:
        """Return the newest reason; None when nothing is wrong."""
        return next(reversed(list(self._reasons.values())), None)

    def note_failure(self, part: Hashable, error: BaseException) -> None:
        """Note why a part failed."""
        words = explain_failure(error, self._parameters)
        if words not in self._reasons.values():
            log.warning("%s; it is tried on", words)
        self.clear(part)
        self._reasons[part] = words

    def clear(self, part: Hashable) -> None:
        """Note that a part works. It says nothing of the others: one connection opens while another is refused."""
        self._reasons.pop(part, None)


def explain_failure(error: BaseException, parameters: Parameters) -> str:
    """Return the sentence for a failure of a connection or a channel."""
    place = f"RabbitMQ at {parameters.host}:{parameters.port}"
    user, vhost = getattr(parameters.credentials, "username", ""), parameters.virtual_host
    for cause in _list_causes(error):
        words = _explain_broker(cause, place, user, vhost) or _explain_socket(cause, place, parameters)
        if words is not None:
            return words
    *_, innermost = _list_causes(error)
    return f"{place} does not answer ({_first_words(innermost)})"


def _explain_broker(cause: BaseException, place: str, user: str, vhost: str) -> str | None:
    match cause:
        case ChannelClosedByBroker():
            return _explain_channel(cause, place, user)
        case ProbableAuthenticationError():
            return _refuse_user(place, user)
        case ConnectionClosedByBroker(reply_code=code) if code == _ACCESS_REFUSED:
            return _refuse_user(place, user)
        case ProbableAccessDeniedError():
            return _explain_vhost(str(cause), place, user, vhost)
        case ConnectionClosedByBroker(reply_code=code) if code == _NOT_ALLOWED:
            return _explain_vhost(str(cause), place, user, vhost)
    return None


def _explain_socket(cause: BaseException, place: str, parameters: Parameters) -> str | None:
    match cause:
        case ssl.SSLCertVerificationError(verify_code=code) if code in _OTHER_HOST:
            return (
                f"the certificate of {place} is for another host ({cause.verify_message.rstrip('.')}): name the host in"
                " the broker's URL as the certificate does"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {place} is not trusted ({cause.verify_message}): name the authority's"
                " certificate in the URL, amqps://...?ssl_options={'cafile': '/etc/echelon/ca.pem'}"
            )
        case ssl.SSLError():
            return f"{place} speaks no TLS at this port, or another version of it: amqps:// needs its TLS port"
        case socket.gaierror():
            return f"there is no host {parameters.host!r}: correct the broker's URL"
        case ConnectionRefusedError():
            return f"nothing listens at {parameters.host}:{parameters.port}: RabbitMQ is not up, or is elsewhere"
    return None


def _refuse_user(place: str, user: str) -> str:
    return (
        f"{place} refuses user {user!r}: it does not know the user, or the password in the broker's URL is wrong:"
        " correct it there, or here (ECHELON_BROKER, ECHELON_BROKER_FILE) and start again"
    )


def _explain_vhost(text: str, place: str, user: str, vhost: str) -> str:
    if "not found" in text:
        return f"{place} has no virtual host {vhost!r}: correct the broker's URL, or rabbitmqctl add_vhost {vhost}"
    return (
        f"{place} does not let user {user!r} use virtual host {vhost!r}: rabbitmqctl set_permissions -p {vhost} {user}"
        " and three patterns, see docs/how-to/secure.md"
    )


def _explain_channel(error: ChannelClosedByBroker, place: str, user: str) -> str:
    found = re.search(r"queue '([^']*)'", error.reply_text)
    queue = f"queue {found[1]!r}" if found else "a queue"
    if error.reply_code == _PRECONDITION_FAILED:
        return (
            f"{place} has {queue} declared otherwise ({_first_words(error)}): stop the engine, delete the queue"
            f" (rabbitmqctl delete_queue {found[1] if found else 'NAME'}), and start the engine, which makes it anew"
        )
    if error.reply_code == _ACCESS_REFUSED:
        return f"{place} does not let user {user!r} use {queue}: rabbitmqctl set_permissions, see docs/how-to/secure.md"
    return f"{place} closed a channel ({_first_words(error)})"


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those in it: pika wraps what the socket said."""
    left: list[object] = [error]
    while left:
        one = left.pop(0)
        if isinstance(one, BaseException):
            yield one
            left += [*one.args, getattr(one, "exception", None), getattr(one, "exceptions", None), one.__cause__]
        elif isinstance(one, list | tuple):
            left += one


def _first_words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
