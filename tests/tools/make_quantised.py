#!/usr/bin/env python3
"""Make tests/data/models/{int8,int4,int4_blocks,int4_inputs,float8}.{keras,h5,io.h5} with real Keras: usage:
make_quantised.py [NAME...]

Every layer that model.quantize() changes, with and without bias. The answers are Keras's own in float32: in float64
the inputs would be rounded to other numbers. Needs keras 3, jax, numpy and h5py.
"""
import os
import sys

os.environ['KERAS_BACKEND'] = 'jax'
import h5py
import keras
import numpy as np

L = keras.layers
DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'data', 'models')
Q = keras.quantizers


def configured(name):
    """What model.quantize() is asked for."""
    if name == 'int4_blocks':
        return {'config': Q.Int4QuantizationConfig(block_size=3)}
    if name == 'int4_inputs':
        return {'config': Q.Int4QuantizationConfig(block_size=-1, activation_quantizer=Q.AbsMaxQuantizer())}
    if name == 'int4':
        return {'config': Q.Int4QuantizationConfig(block_size=-1)}
    return {'mode': name}


def make(name):
    keras.backend.clear_session()
    stem = os.path.join(DATA, name)
    floats = name == 'float8'  # it has no embeddings
    x = L.Input((6, 8)) if floats else L.Input((6,), dtype='int32')
    y = x if floats else L.Embedding(12, 7 if name == 'int4_blocks' else 8)(x)
    y = L.Dense(5, activation='relu')(y)
    y = L.EinsumDense('abc,cde->abde', output_shape=(None, 3, 4), bias_axes='de')(y)
    y = L.EinsumDense('abde,def->abf', output_shape=(None, 7))(y)
    y = L.GlobalAveragePooling1D()(y)
    model = keras.Model(x, L.Dense(4, use_bias=False)(y))
    random = np.random.RandomState(0)
    for weight in model.weights:
        weight.assign(random.randn(*weight.shape) * 0.5)
    model.quantize(**configured(name))
    for weight in model.weights:  # as training would choose them
        if floats and weight.name in ('inputs_scale', 'kernel_scale'):
            weight.assign(0.013 if weight.name == 'inputs_scale' else 0.0041)
    model.save(stem + '.keras')
    model.save(stem + '.h5')
    given = random.randn(3, 6, 8).astype('float32') if floats else random.randint(0, 12, (3, 6)).astype('int32')
    with h5py.File(stem + '.io.h5', 'w') as f:
        f['x0'] = given
        f['y64_0'] = np.asarray(model(given)).astype('float64')


if __name__ == '__main__':
    for case in sys.argv[1:] or ('int8', 'int4', 'int4_blocks', 'int4_inputs', 'float8'):
        make(case)
