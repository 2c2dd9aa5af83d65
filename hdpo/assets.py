"""Where what comes with the project lies: beside the packages in a checkout, inside `workbench` if installed."""

from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
ASSETS = next((p for p in (HOME / "workbench" / "assets", HOME / "assets") if p.is_dir()), HOME / "assets")
