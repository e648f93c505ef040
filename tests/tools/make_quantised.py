#!/usr/bin/env python3
"""Make tests/data/models/{int8,int4,int4_blocks,int4_inputs,float8,gptq}.{keras,h5,io.h5} with real Keras: usage:
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


def make_gptq(stem='gptq'):
    """Layers as GPTQ and AWQ leave them: the integers, scales and zeros are random, not calibrated. Keras 3.15
    leaves the zeros out of a .keras file and keeps 2 bits in a byte of their own: 3.16 is needed."""
    random = np.random.RandomState(0)
    x = L.Input((6, 8))
    y = L.Dense(5, activation='relu', dtype='gptq/4/3_from_float32')(x)
    y = L.EinsumDense('abc,cde->abde', output_shape=(None, 3, 7), bias_axes='de', dtype='gptq/4/-1_from_float32')(y)
    y = L.EinsumDense('abde,def->abf', output_shape=(None, 23), dtype='awq/4/8_from_float32')(y)
    y = L.Dense(9, use_bias=False, dtype='gptq/3/4_from_float32')(y)
    y = L.Dense(6, dtype='awq/4/-1_from_float32')(y)
    y = L.Dense(5, dtype='gptq/2/-1_from_float32')(y)
    model = keras.Model(x, L.Dense(4, dtype='gptq/8/2_from_float32')(y))
    for layer in model.layers[1:]:
        mode, bits, block = layer.dtype_policy.name.split('_')[0].split('/')
        setattr(layer, 'is_%s_calibrated' % mode, True)
        rows = layer.g_idx.shape[0]
        columns, groups = layer.kernel_scale.shape
        integers = random.randint(0, 2**int(bits), (columns, rows)).astype('uint8')
        if bits == '4':
            integers = Q.pack_int4(keras.ops.convert_to_tensor(integers), axis=0, dtype='uint8')[0]
        if bits == '2':
            integers = Q.pack_int2(keras.ops.convert_to_tensor(integers), axis=0, dtype='uint8')[0]
        layer.quantized_kernel.assign(integers)
        layer.kernel_scale.assign(0.5 * random.rand(columns, groups) / 2**int(bits) + 0.01)
        layer.kernel_zero.assign(random.randint(0, 2**int(bits), (columns, groups)))
        layer.g_idx.assign(np.arange(rows) // (rows if block == '-1' else int(block)))
        if mode == 'awq':
            layer.awq_scales.assign(0.5 + random.rand(rows))
        if layer.bias is not None:
            layer.bias.assign(random.randn(*layer.bias.shape))
    stem = os.path.join(DATA, stem)
    model.save(stem + '.keras')
    model.save(stem + '.h5')
    given = random.randn(3, 6, 8).astype('float32')
    with h5py.File(stem + '.io.h5', 'w') as f:
        f['x0'] = given
        f['y64_0'] = np.asarray(model(given)).astype('float64')


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
    for case in sys.argv[1:] or ('int8', 'int4', 'int4_blocks', 'int4_inputs', 'float8', 'gptq'):
        make_gptq() if case == 'gptq' else make(case)
