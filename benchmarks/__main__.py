"""Prints a table of ratios for each part as it ends; a row below its bar is marked `below`, and the exit code is then 1.

python -m benchmarks [--quick] [part ...]; parts: training look_ahead heads features views growth large
                                        images lists cache inaturalist manifests rebalanced fine_tuning
"""

import argparse
import sys
import time

import torch

from benchmarks import cache, features, fine_tuning, growth, heads, images, inaturalist, large, lists, look_ahead, manifests, rebalanced, training, views
from benchmarks.timing import table

PARTS = {
    "training": training, "look_ahead": look_ahead, "heads": heads, "features": features, "views": views, "growth": growth,
    "large": large, "images": images, "lists": lists, "cache": cache, "inaturalist": inaturalist,
    "manifests": manifests, "rebalanced": rebalanced, "fine_tuning": fine_tuning,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat: shows that it runs, no more")
    args = parser.parse_args()
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"got {', '.join(unknown)}, expected some of {', '.join(PARTS)}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians, compile time and first rounds apart")
    is_below = False
    for part in args.parts or PARTS:
        print(f"measuring: {part} ...", file=sys.stderr)
        start = time.perf_counter()
        rows = PARTS[part].rows(args.quick)
        is_below |= any(row.verdict == "below" for row in rows)
        print(f"\n{part}, {time.perf_counter() - start:.0f} s in all\n\n{table(rows)}", flush=True)
    sys.exit(is_below)


if __name__ == "__main__":
    main()
