"""Finds what killed commands have left in DVC, in git and in the outputs, here and in the tables' folders under runs/.

python -m stages.doctor          says what each thing is, and what to do about it; changes nothing
python -m stages.doctor --mend   mends what can lose nothing, and tells the rest

Not a stage of the graph. The exit code is 1 where something is left that is in the way.
"""

import sys
from pathlib import Path

from lt.core.command import command_line, run
from lt.core.files import inside
from lt.doctor import dvc_files, git_state, outputs
from lt.doctor.findings import Finding
from lt.doctor.processes import at_work


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--mend", action="store_true", help="mend what can lose nothing")
    mend = parser.parse_args().mend
    if not Path("dvc.yaml").is_file():
        raise ValueError(f"{Path.cwd()} has no dvc.yaml; give this command in the project's folder")
    if mend and (busy := at_work()):
        told = "\n  ".join(busy)
        raise RuntimeError(f"nothing was mended: what is at work here is not to be disturbed:\n  {told}\nGive the command again when it has ended.")
    left = sum(examine(folder, mend) for folder in (Path("."), *sorted(path.parent for path in Path("runs").glob("*/.dvc"))))
    if left:
        sys.exit(1)


def examine(folder: Path, mend: bool) -> int:
    """Tells, and mends, what is found in a project or a workspace; returns how much is left that is in the way."""
    left = 0
    with inside(folder):
        # dvc.lock is taken from git, so that git comes first
        for look in (git_state.look, dvc_files.look, outputs.look):
            for finding in look():
                mended = mend and finding.mend is not None
                if mended:
                    finding.mend()
                left += not (mended or finding.harmless)
                print(text(folder, finding, mended))
    return left


def text(folder: Path, finding: Finding, mended: bool) -> str:
    """A finding in two lines."""
    where = folder / finding.where if isinstance(finding.where, Path) else finding.where
    head = "mended: it" if mended else "with --mend it" if finding.mend else "to do:"
    return f"{where}: {finding.what}\n  {head} {finding.todo}"


if __name__ == "__main__":
    run(main)
