"""Print the `files:` block of datasets.yaml for local files: size and sha256.

Add the public addresses by hand: a checksum says that a file arrived whole, not that it is the right one.

Example:
  .venv/bin/python scripts/fingerprint.py ~/Downloads/train.npz ~/Downloads/test.npz
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from winnow.errors import UserError, run_main


def files_block(paths: list[Path]) -> str:
    """Return the YAML lines with name, size in bytes and sha256 of each file."""
    lines = ["  files:"]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: is not a file; give the paths of files you have.")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        lines += [
            f"    - name: {path.name}",
            "      urls: []",
            "      note: no public address is known",
            f"      bytes: {path.stat().st_size}",
            f"      sha256: {digest}",
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print the block."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("files", nargs="+", type=Path, help="local copies of the dataset's files")
    print(files_block(parser.parse_args().files))


if __name__ == "__main__":
    run_main(main)
