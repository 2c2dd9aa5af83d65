"""`python -m workbench`: the app on the loopback address."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path

from streamlit.web import cli

from hdpo.errors import HdpoError
from workbench import workers

APP = Path(__file__).resolve().parent / "app.py"
ADDRESS = "127.0.0.1"


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address; 0 lets the system choose one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((ADDRESS, port))
        except (OSError, OverflowError):
            return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Start the server and stay until it ends. Returns 2 where the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m workbench", description="The HDPO workbench in your browser.")
    parser.add_argument("--port", type=int, default=8501, help="port on the loopback address; 0 takes a free one")
    port = parser.parse_args(argv).port
    if not port_is_free(port):
        words = f"port: expected a free port, found {port} taken. Give another one, such as --port {port + 1}."
        print(words, file=sys.stderr)
        return 2
    if port:
        print(f"The workbench is at http://{ADDRESS}:{port} (end it with Ctrl-C; jobs go on).", flush=True)
    try:
        workers.ensure_workers()  # their imports take seconds: they begin before the browser does
    except HdpoError as e:
        print(e, file=sys.stderr)
    options = [f"--server.port={port}", f"--server.address={ADDRESS}"]
    return int(cli.main_run([str(APP), *options], standalone_mode=False) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
