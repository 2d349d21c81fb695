"""A script that ends while a thread of torch.distributed is still at work in Python.

    accelerate launch ... tests/leaves_early.py

The sum is there, but the function that is called with it takes two seconds. Taking Python down takes
longer, so the thread comes back in the middle of it.
"""

import time

import torch
import torch.distributed as dist

from utils.startup import run_main


class SlowToGo:
    def __del__(self, sleep=time.sleep):
        sleep(3)


def main(argv: list[str] | None) -> None:
    dist.init_process_group("gloo")
    work = dist.all_reduce(torch.ones(4), async_op=True)
    work.get_future().then(lambda done: time.sleep(2))
    # Not `work.wait()`, which waits for that function too.
    time.sleep(1)


slow = SlowToGo()

if __name__ == "__main__":
    run_main(main)
