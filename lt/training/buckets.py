"""Gradients summed over the processes in buckets, each on its way as soon as it is whole: the network works while the backward pass does."""

from typing import Iterable

import torch
from torch import distributed as dist
from torch import nn

from lt.training import distributed

BUCKET_BYTES = 25 * 2**20


class Buckets:
    """Parameters whose gradients are summed over the processes; inside `with`, where there are several.

    Buckets hold neighbouring parameters, the last ones first, since these have their gradients first. They are sent in this
    order by every process, and what is in one does not depend on when a gradient came: with the same number of processes the sums are
    the same, bit for bit; of two processes they are those of one message as well. A compiled backward pass gives all its gradients
    at its end, so that nothing is left to work at the same time.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], bucket_bytes: int = BUCKET_BYTES):
        self.buckets = _cut(list(parameters)[::-1], bucket_bytes)
        self.handles: list = []
        self.is_running = False

    def __enter__(self) -> "Buckets":
        if distributed.world_size() > 1:
            for number, bucket in enumerate(self.buckets):
                for parameter in bucket:
                    self.handles.append(parameter.register_post_accumulate_grad_hook(lambda _, number=number: self._arrived(number)))
        return self

    def __exit__(self, *error) -> None:
        for handle in self.handles:
            handle.remove()

    def backward(self, loss: torch.Tensor) -> None:
        """loss.backward(), of a loss that was computed in parts: each parameter's gradient becomes its sum over the processes."""
        self.missing, self.sent, self.is_running = [len(bucket) for bucket in self.buckets], [], True
        loss.backward()
        self.is_running = False
        while len(self.sent) < len(self.buckets) and distributed.world_size() > 1:  # where a parameter has no gradient
            self._send()
        for work, flat, gradients in self.sent:
            if work:
                with distributed.together():
                    work.wait()
                distributed.spread(flat, gradients)

    def _arrived(self, number: int) -> None:
        """A gradient of this bucket has come; one of another backward pass, such as a weighting's, is left alone."""
        if self.is_running:
            self.missing[number] -= 1
            while len(self.sent) < len(self.buckets) and self.missing[len(self.sent)] == 0:
                self._send()

    def _send(self) -> None:
        """Starts the sum of the next bucket."""
        gradients = [parameter.grad.detach() for parameter in self.buckets[len(self.sent)] if parameter.grad is not None]
        if not gradients:
            self.sent.append((None, None, []))
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with distributed.together():
            self.sent.append((dist.all_reduce(flat, async_op=True), flat, gradients))


def _cut(parameters: list[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """Neighbours of one type in buckets of at most `bucket_bytes`, or of a single parameter."""
    buckets: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        if not buckets or size + parameter.nbytes > bucket_bytes or buckets[-1][0].dtype != parameter.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += parameter.nbytes
    return buckets
