"""Calibrate the default model, and write the calibration into the package. Run it after a change of the default model.

python results/default_calibration.py          # about 5 minutes on two cores; after a stop the same command resumes
python results/default_calibration.py --check  # exits with 1 if the calibration in the package belongs to another process
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import conjure
from conjure.cli.console import ProgressBar
from conjure.similarity.calibration import calibrate, find_calibration

ROOT = Path(__file__).parent.parent
FILE = ROOT / "src" / "conjure" / "similarity" / "default_calibration.json"
STORE = ROOT / "runs" / "calibration.sqlite"  # of the unfinished calibration


def main() -> None:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check the file")
    process = conjure.load()
    is_current = find_calibration(process, process.fingerprint()) is not None
    if parser.parse_args().check:
        sys.exit(not is_current)
    if is_current:
        print("the calibration in the package belongs to the default model")
        return
    STORE.parent.mkdir(exist_ok=True)
    with ProgressBar() as progress:
        calibration = calibrate(process.set(store=conjure.Store(STORE)), progress=progress)
    FILE.write_text(calibration.to_json(process.fingerprint()), encoding="utf-8")
    print(f"wrote {FILE.relative_to(ROOT)} ({FILE.stat().st_size / 1000:.0f} kB)\n{calibration.scale()}")


if __name__ == "__main__":
    main()
