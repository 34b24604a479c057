"""`python -m bench.report` writes every table, plot and page anew from the raw figures."""

import sys

from bench.report.files import publish_all

if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in publish_all())
