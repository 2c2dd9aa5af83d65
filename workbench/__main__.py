"""`python -m workbench`: the app on the loopback address."""

from __future__ import annotations

import argparse
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from hdpo.errors import HdpoError
from hdpo.evidence import verdict
from hdpo.record.files import write_aside
from workbench import workers

APP = Path(__file__).resolve().parent / "app.py"
ADDRESS = "127.0.0.1"


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address; 0 lets the system choose one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def refusal(port: int) -> str:
    """Why no server can be started here, in a sentence; nothing where one can."""
    if missing := [name for name in ("streamlit", "plotly", "pandas") if find_spec(name) is None]:
        return f"workbench: expected {', '.join(missing)}, found it not installed. Install the app's part: pip install 'hdpo-workbench[app]'."
    if not 0 <= port <= 65535:
        return f"port: expected 0 to 65535, found {port}. Give another one, such as --port 8501."
    if not port_is_free(port):
        return f"port: expected a free port, found {port} taken. Give another one, such as --port {port + 1 if port < 65535 else 8501}."
    return ""


def write_verdict(file: Path) -> int:
    """The page Verdict without an app. Returns 2 where the file cannot be written."""
    from workbench.figures import claims

    try:
        found = verdict.shipped()
        write_aside(file, claims.document(found, verdict.null_words(found["null"])))
    except HdpoError as e:
        print(e, file=sys.stderr)
        return 2
    print(file)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Start the server and stay until it ends. Returns 2 where it cannot be started."""
    parser = argparse.ArgumentParser(prog="python -m workbench", description="The HDPO workbench in your browser.")
    parser.add_argument("--port", type=int, default=8501, help="port on the loopback address; 0 takes a free one")
    commands = parser.add_subparsers(dest="command", metavar="")
    page = commands.add_parser("verdict", help="write the verdict on HDPO's claims as one HTML file, and start nothing")
    page.add_argument("file", type=Path)
    given = parser.parse_args(argv)
    if given.command == "verdict":
        return write_verdict(given.file)
    port = given.port
    if not 0 <= port <= 65535:
        print(f"port: expected 0 to 65535, found {port}. Leave --port out for 8501.", file=sys.stderr)
        return 2
    if words := refusal(port):
        print(words, file=sys.stderr)
        return 2
    if port:
        print(f"The workbench is at http://{ADDRESS}:{port} (end it with Ctrl-C; jobs go on).", flush=True)
    try:
        workers.ensure_workers()  # their imports take seconds: they begin before the browser does
    except HdpoError as e:
        print(e, file=sys.stderr)
    from streamlit.web import cli  # it takes a second, and is not there without the app's part

    # Statistics stay off whatever a settings file of the folder or of the person says.
    options = [f"--server.port={port}", f"--server.address={ADDRESS}", "--browser.gatherUsageStats=false"]
    return int(cli.main_run([str(APP), *options], standalone_mode=False) or 0)


if __name__ == "__main__":
    raise SystemExit(main())
