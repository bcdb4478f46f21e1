"""The attention explorer: `python -m vision_repro.explorer [--model=...] [--weights=...]`; see `write`."""

import sys

from vision_repro.explorer.write import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
