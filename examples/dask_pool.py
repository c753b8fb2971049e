"""The whole library verified by a Dask cluster, here one that lives in this process's children.

`verify` takes any `concurrent.futures.Executor`; Dask's client gives one. On a real cluster only the
address of the scheduler is different: `Client("tcp://scheduler:8786")`. Workers find a spec by its
address, so the spec files must lie at the same place there; what has no address travels as bytes.

Run it with: python examples/dask_pool.py [WORKERS [TARGET...]]
"""

from __future__ import annotations

import sys

from gradcheck import Report, verify


def pooled(workers: int = 2, target: object = None, **options: object) -> Report:
    """The report of a run whose checks are shared among so many worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        return verify(target, executor=client.get_executor(), **options)


if __name__ == "__main__":
    # Worker processes import this file anew: what starts them must not run there.
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    targets = sys.argv[2:] or None
    report = pooled(count, targets, oracles=["symbolic", "exact", "differences"], profile="quick")
    print(report)
    sys.exit(report.exit_code)
