"""Tests of training/allocator.py: large blocks that are freed and taken again cost few new pages."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from llamero.training.allocator import keep_freed_memory

kept = sys.argv[1] == "keep" and keep_freed_memory()

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.empty(megabytes << 18).fill_(1.0) for megabytes in (64, 3, 40, 1, 9, 64, 2, 33)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(int(kept), [step() for _ in range(6)][-1])
"""


def told(how):
    out = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
    return [int(word) for word in out.split()]


def test_freed_memory_is_had_again_with_few_faults():
    kept, faults = told("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    usual = told("leave")[1]
    assert usual > 10_000
    assert faults < usual / 2
