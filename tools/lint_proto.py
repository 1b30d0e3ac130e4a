"""buf lint, and buf breaking against the committed image (proto/image.binpb); `--accept` makes today's the new base.

Images come from protoc, for no schema registry is reached.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "broker" / "v1" / "descriptor_set.binpb"
BASE = ROOT / "proto" / "image.binpb"
CONFIG = ROOT / "proto" / "buf.yaml"
BUF = Path(sys.executable).parent / "buf"


def main() -> int:
    if "--accept" in sys.argv[1:]:
        shutil.copy(IMAGE, BASE)
        return 0
    lint = subprocess.run([BUF, "lint", IMAGE, "--config", CONFIG], check=False)
    breaking = subprocess.run([BUF, "breaking", IMAGE, "--against", BASE, "--config", CONFIG], check=False)
    return lint.returncode or breaking.returncode


if __name__ == "__main__":
    raise SystemExit(main())
