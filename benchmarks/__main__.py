"""Prints a table of ratios for each part as it ends; a row below its bar is marked `below`, and the exit code is then 1.

python -m benchmarks [--quick] [part ...]; parts: training look_ahead heads features views growth large
                                        images lists cache inaturalist manifests rebalanced fine_tuning
"""

import sys
import time

import torch

from benchmarks import cache, features, fine_tuning, growth, heads, images, inaturalist, large, lists, look_ahead, manifests, rebalanced, training, views
from benchmarks.arguments import parts_and_quick
from benchmarks.timing import table

PARTS = {
    "training": training, "look_ahead": look_ahead, "heads": heads, "features": features, "views": views, "growth": growth,
    "large": large, "images": images, "lists": lists, "cache": cache, "inaturalist": inaturalist,
    "manifests": manifests, "rebalanced": rebalanced, "fine_tuning": fine_tuning,
}


def main() -> None:
    parts, is_quick = parts_and_quick(__doc__, "part", PARTS, "small sizes, one repeat: shows that it runs, no more")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians, compile time and first rounds apart")
    is_below = False
    for part in parts:
        print(f"measuring: {part} ...", file=sys.stderr)
        start = time.perf_counter()
        rows = PARTS[part].rows(is_quick)
        is_below |= any(row.verdict == "below" for row in rows)
        print(f"\n{part}, {time.perf_counter() - start:.0f} s in all\n\n{table(rows)}", flush=True)
    sys.exit(is_below)


if __name__ == "__main__":
    main()
