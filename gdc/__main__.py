"""The command `gdc`."""
import sys

from gdc.cli import main

if __name__ == '__main__':
  sys.exit(main())
