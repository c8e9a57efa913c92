"""The service under overload, swaps and kills: ``python -m tests.soak.serving --out soak.json``.

A real server answers with random tiny adapters. The test suite calls the same functions with smaller numbers.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tests.service.servers import served
from tests.soak.made import measured, trained
from tests.soak.overload import drain, overload
from tests.soak.server_kills import kills
from tests.soak.swaps import made_registry, swaps

PLACES = 4  # maximum requests in progress of the overloaded server


def main() -> None:
    """Run all, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--factor", type=float, default=50)
    parser.add_argument("--in-progress", type=int, default=64)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    with measured(options.out) as (work, sheet):
        run = trained(work)
        with served("--adapter", str(run), "--no-app", "--waiting", str(PLACES)) as (address, process):
            asked = overload(
                address, process, "soak", sheet, places=PLACES, seconds=options.seconds, factor=options.factor
            )
            asyncio.run(asked)
        with served("--adapter", str(run), "--no-app", "--waiting", str(options.in_progress)) as (address, process):
            drain(address, process, "soak", sheet, options.in_progress)
        registry = made_registry(work / "adapters", run, options.adapters)
        with served("--registry", str(registry.folder), "--no-app") as (address, _):
            swaps(address, registry, sheet, options.requests)
        kills(work, registry, sheet, options.kills, options.images)


if __name__ == "__main__":
    main()
