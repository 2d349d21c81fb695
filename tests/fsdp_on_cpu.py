"""Run a script under accelerate's FSDP on CPU processes.

    accelerate launch --config_file configs/accelerate/fsdp.yaml tests/fsdp_on_cpu.py train_sft.py ...

accelerate 1.15 uses FSDP for device types only, and calls processes on a CPU MULTI_CPU. This script calls
them MULTI_GPU, so that all that follows from the name (sharding, gathering, saving, resuming) is the real
thing, over gloo.
"""

import runpy
import sys

import accelerate.state
from accelerate.utils import DistributedType

_init = accelerate.state.PartialState.__init__


def init(self, *args, **kwargs):
    _init(self, *args, **kwargs)
    # In the state that all instances share: the Accelerator makes further ones.
    if self.distributed_type == DistributedType.MULTI_CPU:
        accelerate.state.PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


if __name__ == "__main__":
    accelerate.state.PartialState.__init__ = init
    # The script sees its own name and flags, as if it had been started directly.
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
