"""Ports of this machine."""

import socket


def check_port(port: int):
    """Refuses a port that cannot be listened to.

    Raises:
        ValueError: it is in use, or is none.
    """
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"`port` must be free, got {port} ({error}).") from error
