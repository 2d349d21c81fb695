"""Agreement between the processes of `accelerate launch`: the main one decides, all follow."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from utils.errors import StageError


def n_processes() -> int:
    return PartialState(cpu=not torch.cuda.is_available()).num_processes


def is_main_process() -> bool:
    return PartialState(cpu=not torch.cuda.is_available()).is_main_process


def decide(choose: Callable[[], Any]) -> Any:
    """`choose()` called on the main process alone; every process gets its value, or the StageError that it raised."""
    answer = [None]
    if is_main_process():
        try:
            answer = [choose()]
        except StageError as error:
            answer = [error]
    if n_processes() > 1:
        broadcast_object_list(answer)
    if isinstance(answer[0], StageError):
        raise answer[0]
    return answer[0]
