"""The long form: `python -m tests.fuzz --cases 20000 --seed 0`, from the root of a clone.

A case that fails is named by its format and number, and `--only FORMAT NUMBER` runs it alone:

    python -m tests.fuzz --only "torch zip" 1234
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # pytest, too, finds these modules, and those beside, from there

from fuzz.cases import FORMATS
from fuzz.run import run, table

SEED_STEP = 10**9  # seeds have cases of their own


def main() -> int:
    """Run the cases, print the table and the problems; the exit status is 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read broken and hostile files.")
    parser.add_argument("--cases", type=int, default=20_000, metavar="N", help="in all (default: 20,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other cases (default: 0)")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS, metavar="FORMAT")
    parser.add_argument("--only", nargs=2, metavar=("FORMAT", "NUMBER"), help="one case, as a problem names it")
    given = parser.parse_args()
    if given.only:
        plan = [(given.only[0], int(given.only[1]))]
    else:
        numbers = range(given.seed * SEED_STEP, given.seed * SEED_STEP + -(-given.cases // len(given.formats)))
        plan = [(format_, number) for format_ in given.formats for number in numbers]
    with tqdm(total=len(plan), unit="case") as bar:

        def show(case: tuple[str, int]) -> None:
            bar.set_description(case[0], refresh=False)
            bar.update()

        tallies = run(plan, show)
    print(table(tallies))
    problems = [problem for tally in tallies for problem in tally.problems]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
