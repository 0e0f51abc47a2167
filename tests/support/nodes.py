"""A run on a Ray cluster of two nodes, one of which goes while it works.

    python -m tests.support.nodes FOLDER DATASET TASK

Prints one line of JSON: what there was when the node went, and what the tally says.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any


def main(folder: str, place: str, command: str) -> None:
    import ray
    from ray.cluster_utils import Cluster

    from mnv1cli.cluster import run
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.inputs.listing import Listing
    from mnv1cli.runs.dataset_sink import DatasetSink
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.runs.tally import Tally
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Task

    wanted = Task(command)  # type: ignore[arg-type]
    job = Predictor("bundled").make_job(wanted)
    head = {"num_cpus": 1, "include_dashboard": False}
    nodes: Any = Cluster(initialize_head=True, head_node_args=head)
    # This process belongs to the node that stays: it is the only one yet.
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR)
    other = nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    sink, tally = DatasetSink(Location(place), wanted, OutputOptions()), Tally()
    dataset = sink.dataset
    seen: dict[str, int] = {}

    def go() -> None:
        while not dataset.list_parts():
            time.sleep(0.02)
        seen["parts"] = len(dataset.list_parts())
        nodes.remove_node(other, allow_graceful=False)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    run.run_on_ray(job, Listing([os.fsencode(folder)]), sink, tally)
    thread.join()
    alive = sum(1 for node in ray.nodes() if node["Alive"])
    told = {**seen, "all": len(dataset.list_parts()), "done": tally.done, "alive": alive}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    ray.shutdown()
    nodes.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
