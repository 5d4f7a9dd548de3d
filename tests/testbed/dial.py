"""A ProxyCommand for ``ProxyUseFdpass``: ``dial.py ADDRESS PORT`` connects, ssh gets the socket.

Started inside another network namespace it lends ssh a real connection from there.
"""

import socket
import sys

TIMEOUT = 10.0


def main(address: str, port: str) -> None:
    try:
        connection = socket.create_connection((address, int(port)), TIMEOUT)
    except OSError as error:
        sys.exit(f"connect to host {address} port {port}: {error.strerror or 'timed out'}")
    connection.setblocking(True)
    with socket.socket(fileno=sys.stdout.fileno()) as ssh:
        socket.send_fds(ssh, [b"\0"], [connection.fileno()])


if __name__ == "__main__":
    main(*sys.argv[1:])
