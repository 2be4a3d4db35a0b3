"""The command line of a benchmark with parts."""

from typing import Iterable

from lt.core.command import command_line


def parts_and_quick(about: str, part: str, known: Iterable[str], quick: str) -> tuple[list[str], bool]:
    """The parts that a user names, all of them where none is, and whether `--quick` was asked for.

    about: help's text    part: what a part is called    known: the parts' names    quick: what `--quick` does
    A part that is not known ends the process, as argparse does.
    """
    known = list(known)
    parser = command_line(about)
    parser.add_argument("parts", nargs="*", metavar=part, help=f"of {', '.join(known)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help=quick)
    args = parser.parse_args()
    if unknown := [name for name in args.parts if name not in known]:
        parser.error(f"got {', '.join(unknown)}, expected some of {', '.join(known)}")
    return args.parts or known, args.quick
