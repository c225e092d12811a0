"""`torchrun -m probe.features.extract …` is `probe extract …` in each of its processes."""

import runpy
import sys

if __name__ == "__main__":
    sys.argv.insert(1, "extract")
    runpy.run_module("probe", run_name="__main__")
