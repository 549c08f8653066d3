"""Openings: sockets of connections that fail."""

import errno
import os
import socket
import ssl

import pytest

from veilboost.mpc.transport.opening import wrap


@pytest.mark.parametrize("server_side", [False, True])
def test_a_peer_that_is_gone_already_leaves_no_socket_open(server_side: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a connection is reset between accept and handshake."""

    def not_connected(_: ssl.SSLSocket) -> None:
        raise OSError(errno.ENOTCONN, "not connected")

    def reset(*_: object) -> bytes:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    ours, theirs = socket.socketpair()
    descriptor = ours.fileno()
    monkeypatch.setattr(ssl.SSLSocket, "getpeername", not_connected)
    monkeypatch.setattr(ssl.SSLSocket, "recv", reset)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with pytest.raises(ConnectionResetError):
        wrap(context, ours, server_side)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    theirs.close()
