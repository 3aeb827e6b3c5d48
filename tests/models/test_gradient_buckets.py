"""Workers add up their gradients in messages of a bounded size."""

import pytest
import torch

from comfyui_spacetime.models.training.dit import workers


@pytest.mark.parametrize("limit", [1, 50, 10**6])
def test_gradients_are_summed_in_buckets(monkeypatch, limit):
    monkeypatch.setattr(workers, "BUCKET", limit)
    model = torch.nn.ModuleList(torch.nn.Linear(size, 5).bfloat16() for size in (3, 40, 1, 7))
    for parameter in list(model.parameters())[:-1]:
        parameter.grad = torch.randn_like(parameter)
    grads = [p.grad for p in model.parameters()]
    sent = list(workers.buckets(model.parameters()))
    assert [id(p) for bucket in sent for p in bucket] == [id(p) for p in model.parameters()]
    assert all(len(bucket) == 1 or sum(p.numel() for p in bucket) <= limit for bucket in sent)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        extra = workers.Workers(0, 1).sum_gradients(model, [torch.tensor(2.5), torch.tensor(0.0)])
    finally:
        torch.distributed.destroy_process_group()
    assert [float(value) for value in extra] == [2.5, 0.0]
    for parameter, before in zip(model.parameters(), grads, strict=True):
        assert parameter.grad is None if before is None else torch.equal(parameter.grad, before)
