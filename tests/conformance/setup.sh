#!/bin/sh
# Make a Python folder with Keras in it: usage: setup.sh FOLDER keras|keras==VERSION|tf-keras
set -eu
folder=$1
[ ! -e "$folder/.made" ] || exit 0
case $2 in
# Keras before 3.7 was written for NumPy 1 and the JAX and TensorFlow of its time
keras==3.[0-6] | keras==3.[0-6].*) packages="$2 jax[cpu]<0.4.36 tensorflow<2.18 numpy<2 h5py" ;;
# and before 3.10 for what was new at the beginning of 2025
keras==3.[7-9] | keras==3.[7-9].*) packages="$2 jax[cpu]<0.5 tensorflow<2.19 h5py" ;;
tf-keras) packages="tf-keras tensorflow numpy h5py" ;;
*) packages="$2 jax[cpu] tensorflow numpy h5py" ;;
esac
echo "installing into $folder: $packages"
rm -rf "$folder"
python3 -m venv "$folder"
# shellcheck disable=SC2086
"$folder/bin/pip" install -q $packages
touch "$folder/.made"
