"""From the CPU's memory to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on the device. To a GPU it goes from pinned memory, so that the CPU need not wait until it is there."""
    device = torch.device(device)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Fetched:
    """A tensor on its way to the CPU's memory: nobody waits for it who does not ask for its value too early."""

    def __init__(self, tensor: Tensor) -> None:
        """Begin. From a GPU it goes into pinned memory; other devices are waited for at once."""
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._value = tensor.to("cpu")
            return
        self._value = torch.empty(tensor.shape, dtype=tensor.dtype).pin_memory()
        self._value.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(tensor.device))

    @property
    def there(self) -> bool:
        """Whether it has arrived."""
        return self._event is None or bool(self._event.query())

    def value(self) -> Tensor:
        """It, in the CPU's memory; waits until it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._value
