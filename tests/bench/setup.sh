#!/bin/sh
# Make a Python folder with layertop's peers in it: usage: setup.sh FOLDER
# A peer that cannot be installed is no reason to stop here: run.py names it, and fails.
set -eu
folder=$1
if [ ! -e "$folder/.made" ]; then
    echo "installing the peers into $folder"
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install -q tensorflow-cpu keras onnx tf2onnx onnxruntime openvino h5py numpy
    touch "$folder/.made"
fi
# TFLite's interpreter stands beside int8 (PRECISIONS=int8), and only there
if [ ! -e "$folder/.litert" ]; then
    "$folder/bin/pip" install -q ai-edge-litert && touch "$folder/.litert" ||
        echo "no ai-edge-litert here: int8 cannot be compared"
fi
