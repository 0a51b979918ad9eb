"""A device without float64, as Apple's MPS is one, for machines that have none.

A stand-in: what is moved by `.to(device)` becomes an `OnDevice` tensor, which computes on the CPU and raises MPS's own
error where it would hold float64, until `.cpu()` takes it off. Kernels that MPS lacks are not seen by it.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


def refuse(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype == torch.float64:
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
        )
    return tensor


class OnDevice(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(function, types, args, kwargs or {})
        if function is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        return tree_map_only(OnDevice, refuse, result)


class device_without_float64(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        placed = any(isinstance(value, torch.device) for value in (*args, *kwargs.values()))
        if function is torch.Tensor.to and placed:
            return refuse(result).as_subclass(OnDevice)
        return result
