"""A client's connection under TLS, and the plain one to Granian that carries the same bytes.

    handshake ─> connect to Granian ─> bytes both ways ─> Granian closes: the rest is sent, close_notify, the end
        │                                    └─ the client closes, or is lost: Granian's side is closed
        └─ refused, or too slow: the end

Each side is read only while the other one takes what was read, so no more than two buffers of a transport are held.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Protocol, cast

HANDSHAKE_TIMEOUT_S = 10.0
# A record of TLS has no more (RFC 8446, section 5.1).
RECORD_BYTES_MAX = 16 * 1024


class Owner(Protocol):
    """What is told of the connections."""

    def connect(self, connection: "ClientConnection", tls: ssl.SSLObject) -> None:
        """Connect to Granian, and then begin to copy."""

    def refused(self, connection: "ClientConnection", error: ssl.SSLError) -> None:
        """Note that a handshake failed."""

    def lost(self, connection: "ClientConnection") -> None:
        """Forget a connection, which has ended."""


class ClientConnection(asyncio.Protocol):
    """The side of the client."""

    transport: asyncio.Transport

    def __init__(self, context: ssl.SSLContext, owner: Owner) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._owner = owner
        self._granian: GranianConnection | None = None
        self._is_connecting = False
        self.is_fresh = True  # nothing has come from Granian yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's handshake."""
        self.transport = cast("asyncio.Transport", transport)
        self._timeout = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Decrypt what the client has sent, or go on with the handshake."""
        self._incoming.write(data)
        if self._granian is not None:
            self._read(self._granian)
        elif not self._is_connecting:
            self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._owner.refused(self, error)
            self._flush()  # the alert, which says why
            self.transport.close()
            return
        self._flush()
        self._is_connecting = True
        self.transport.pause_reading()
        self._owner.connect(self, self._tls)

    def begin(self, granian: "GranianConnection") -> None:
        """Copy from now on; what has been decrypted already goes first."""
        self._timeout.cancel()
        self._granian = granian
        self.transport.resume_reading()
        self._read(granian)

    def _read(self, granian: "GranianConnection") -> None:
        records, is_over = [], False
        try:
            while self._incoming.pending or self._tls.pending():
                records.append(self._tls.read(RECORD_BYTES_MAX))
        except ssl.SSLWantReadError:  # half a record
            pass
        except ssl.SSLError:  # what is no record, or the client's close_notify
            is_over = True
        if records:
            granian.transport.write(records[0] if len(records) == 1 else b"".join(records))
        if self._outgoing.pending:  # a key update, or an alert
            self._flush()
        if is_over:
            self.transport.close()

    def write(self, data: bytes) -> None:
        """Encrypt what Granian has sent, and send it."""
        self.is_fresh = False
        if self.transport.is_closing():
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        self._flush()

    def end(self) -> None:
        """Send the rest, and close: Granian has."""
        if self.transport.is_closing():
            return
        with suppress(ssl.SSLError):  # it waits for no close_notify of the client's, as RFC 8446, section 6.1, allows
            self._tls.unwrap()
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.transport.write(data)

    def pause_writing(self) -> None:
        """Take no more from Granian until the client takes it."""
        if self._granian is not None:
            self._granian.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, as the client does."""
        if self._granian is not None:
            self._granian.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a Protocol's
        """Close Granian's side, too; what the client has sent before still gets there."""
        self._timeout.cancel()
        self._owner.lost(self)
        if self._granian is not None:
            self._granian.transport.close()


class GranianConnection(asyncio.Protocol):
    """The side of Granian."""

    transport: asyncio.Transport

    def __init__(self, client: ClientConnection) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to copy."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send to the client what Granian has sent."""
        self._client.write(data)

    def pause_writing(self) -> None:
        """Take no more from the client until Granian takes it."""
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, as Granian does."""
        self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a Protocol's
        """Close the client's side."""
        self._client.end()
