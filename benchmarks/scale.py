"""The parts that need no network at 1, 3 and 10 million rows and at 1,000, 5,000 and 20,000 classes: processor time and private memory.

python -m benchmarks.scale [--quick] [job ...]

Takes half an hour and 8 GB in the folder that TMPDIR names. Each job runs in a process of its own; a row of the table is a
size, beside the smallest one. Rows are images of the training part, of the test part in evaluate and page; the features of crt
and balms have 256 columns, one view, in float16. evaluate and page have 20 classes where rows grow, and 20,000 rows where
classes do: logits of 10 million rows and 20,000 classes would take 400 GB.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.apart import measure_apart
from benchmarks.arguments import parts_and_quick
from benchmarks.large import MEMORY_BAR_MIB
from benchmarks.scale_jobs import HEADS, SAMPLERS
from benchmarks.timing import Row, table

MILLION = 1_000_000
BY_ROWS, BY_CLASSES = [(MILLION, 1000), (3 * MILLION, 1000), (10 * MILLION, 1000)], [(MILLION, 5000), (MILLION, 20_000)]
TEST_BY_ROWS = [(rows, 20) for rows, _ in BY_ROWS]
TEST_BY_CLASSES = [(20_000, 1000), (20_000, 5000), (20_000, 20_000)]
# Jobs that run one after another in the same folder -> series of sizes, (rows, classes), the smallest first.
SERIES = {
    ("subsample",): [BY_ROWS + BY_CLASSES],
    ("lists",): [BY_ROWS],
    ("class pool",): [BY_ROWS + BY_CLASSES],
    **{(name,): [BY_ROWS + BY_CLASSES] for name in SAMPLERS},
    **{(name,): [BY_ROWS + BY_CLASSES] for name in HEADS},
    ("evaluate", "page"): [TEST_BY_ROWS, TEST_BY_CLASSES],
}
JOBS = [job for jobs in SERIES for job in jobs]
# Of the time, in units of the growth of rows times classes: sorting takes more than its share, and so does reading all over
# arrays that no cache holds any more.
GROWTH_BAR = 2.0


def main() -> None:
    chosen, is_quick = parts_and_quick(__doc__, "job", JOBS, "a hundredth of the rows: shows that it runs, no more")
    is_below = False
    for jobs, series in SERIES.items():
        for sizes in series:
            if set(jobs) & set(chosen):
                found = rows(jobs, sizes, 100 if is_quick else 1)
                is_below |= any(row.verdict == "below" for row in found)
                print(f"\n{table(found)}", flush=True)
    sys.exit(is_below)


def rows(jobs: tuple[str, ...], series: list[tuple[int, int]], fraction: int) -> list[Row]:
    """Time and memory of each job at each size, the time beside that of the first one."""
    found, first = [], {}
    for num_rows, num_classes in series:
        size = num_rows // fraction, max(num_classes // fraction, 10)
        with tempfile.TemporaryDirectory() as folder:
            for job in jobs:
                print(f"measuring: {job}, {size[0]:,} rows, {size[1]:,} classes ...", file=sys.stderr)
                measured = measure_apart("benchmarks.scale_jobs", Path(folder), job, *size)
                smallest = first.setdefault(job, (size, measured["cpu_s"]))
                found += lines(job, size, measured, *smallest)
    return found


def lines(job: str, size: tuple[int, int], measured: dict, first_size: tuple[int, int], first_s: float) -> list[Row]:
    """The rows of one measurement."""
    pair, memory = f"{job}, {size[0]:,} rows, {size[1]:,} classes", measured["mib"]
    ratio = measured["cpu_s"] / max(first_s, 1e-9)
    growth = size[0] * size[1] / (first_size[0] * first_size[1])
    bar = GROWTH_BAR * growth if growth > 1 else None
    return [
        Row(f"{pair}: processor time, against the first", measured["cpu_s"], first_s, "s", ratio, bar, at_least=False),
        Row(f"{pair}: private memory", memory, MEMORY_BAR_MIB, "MiB", memory / MEMORY_BAR_MIB, 1.0, at_least=False),
    ]


if __name__ == "__main__":
    main()
