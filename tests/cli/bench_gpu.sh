#!/bin/sh
# What can be said of the GPU bench without a GPU: its order, resuming, appending and comparing, with
# engines that are none.
exec python3 tests/bench/test_gpu.py
