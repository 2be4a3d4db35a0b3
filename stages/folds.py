"""Puts experiments together that were tested on one fold each: every row, mean ± sd over folds. Not a stage of the graph.

python -m stages.folds fold-0 fold-1 fold-2 fold-3 fold-4     DVC experiments, branches, tags or commits
"""

from lt.core import params
from lt.core.command import command_line, run
from lt.report.folds import over_folds
from lt.report.revisions import details_of


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("experiments", nargs="+", metavar="experiment", help="one for each fold")
    args = parser.parse_args()
    rows = params.load().rows()
    print(over_folds({row: [details_of(f"{name}:{row}") for name in args.experiments] for row in rows}))


if __name__ == "__main__":
    run(main)
