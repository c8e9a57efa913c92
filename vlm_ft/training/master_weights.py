"""Trained weights in fp32, whatever the dtype of the base and of its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import nn

from vlm_ft.bases.precision import Precision, uses_bf16


@contextmanager
def master_weights(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Keep trained weights in fp32 while the model computes under bf16 autocast, then restore their dtype.

    A step often changes a weight by less than 16 bits can express, and would be rounded away (Micikevicius et al. 2018,
    *Mixed Precision Training*, section 3.1). PEFT keeps low-rank matrices in fp32 anyway; this is for parts that are
    trained in full. Frozen tensors in the same modules, such as batch-norm statistics, are converted with them.
    """
    modules = [module for module in model.modules() if any(p.requires_grad for p in module.parameters(recurse=False))]
    tensors = [t for m in modules for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))]
    short = [t for t in tensors if t.is_floating_point() and t.dtype != torch.float32 and uses_bf16(precision)]
    dtypes = [tensor.dtype for tensor in short]
    for tensor in short:
        tensor.data = tensor.data.float()
    yield
    for tensor, dtype in zip(short, dtypes, strict=True):
        tensor.grad = None
        tensor.data = tensor.data.to(dtype)


def leave_casts_to_autocast(model: nn.Module) -> None:
    """Keep PEFT from casting the inputs of low-rank matrices, which are in fp32, before autocast casts them back.

    For a base in fp32 only, whose inputs suit the matrices without autocast, too.
    """
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False
