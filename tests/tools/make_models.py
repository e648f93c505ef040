#!/usr/bin/env python3
"""Make sample models of tests/data/models with real Keras: usage: make_models.py [NAME...]

Each is NAME.keras and NAME.io.h5: its inputs x<i> and float64 outputs y64_<i> in Keras's flatten order, and for each
output the type that Keras gives it (attribute dtype). SHARDED ones are a folder NAME with config.json, metadata.json
and weights in shards. pack_models.py makes them small afterwards. Needs the packages of tests/conformance (keras 3,
jax, numpy, h5py); weights and inputs are drawn from the name.
"""
import json
import os
import shutil
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'conformance'))
import h5py
import numpy as np
import oracle
import jax
from oracle import Case, keras

L = keras.layers
ops = keras.ops


def call_conv_transpose(self, inputs, kernel):
    """Keras 3.15 hands padding and output_padding over in each other's place, so that no model with it runs."""
    return keras.src.backend.nn.conv_transpose(inputs, kernel, self.strides, self.padding, self.output_padding,
                                               self.data_format, self.dilation_rate)


keras.src.ops.nn.ConvTranspose.call = call_conv_transpose


def as_float(array):
    """A constant of the type that the model has (float64 in the twin that gives the answers)."""
    return array.astype(keras.backend.floatx())


def resizes():
    """Every filter, up and down, antialiased, both ways of keeping the aspect ratio, and the middle."""
    x = L.Input((9, 8, 3))
    return keras.Model(x, [
        L.Resizing(5, 12, interpolation='bicubic')(x), L.Resizing(13, 4, interpolation='lanczos3')(x),
        L.Resizing(5, 4, antialias=True)(x), L.Resizing(4, 11, interpolation='bicubic', antialias=True)(x),
        L.Resizing(5, 5, crop_to_aspect_ratio=True)(x),
        L.Resizing(5, 7, interpolation='nearest', pad_to_aspect_ratio=True, fill_value=0.5)(x),
        L.UpSampling2D((2, 3), interpolation='lanczos5')(x), L.CenterCrop(5, 4)(x), L.CenterCrop(12, 5)(x),
        keras.ops.image.resize(x, (3, 3), interpolation='bicubic'), L.Resizing(9, 8, interpolation='bicubic')(x)])


def adaptive_pools():
    """Windows that overlap and differ in size."""
    a, b, c = L.Input((11, 3)), L.Input((9, 8, 3)), L.Input((5, 6, 7, 2))
    return keras.Model([a, b, c], [
        L.AdaptiveAveragePooling1D(4)(a), L.AdaptiveMaxPooling1D(3)(a), L.AdaptiveAveragePooling2D((4, 3))(b),
        L.AdaptiveMaxPooling2D((5, 8))(b), L.AdaptiveMaxPooling2D(2, data_format='channels_first')(b),
        L.AdaptiveAveragePooling3D((2, 3, 4))(c), L.AdaptiveMaxPooling3D((3, 4, 5))(c)])


def categories():
    """Every output mode, of numbers and of words; the mask token is a word of its own."""
    a, b, n = L.Input((5,), dtype='int32'), L.Input((1,), dtype='int32'), L.Input((4,))
    return keras.Model([a, b, n], [
        L.CategoryEncoding(9, output_mode='multi_hot')(a), L.CategoryEncoding(9, output_mode='one_hot')(b),
        L.CategoryEncoding(9, output_mode='one_hot')(a), L.CategoryEncoding(9, output_mode='count')(a),
        L.CategoryEncoding(9, output_mode='count')(a, count_weights=n[:, :1] * 2.),
        L.Discretization([-1., 0., 0.5], output_mode='one_hot')(n), L.Discretization([-0.5, 0.25])(n) + 0,
        L.Discretization([-1., 1.], output_mode='count')(n)])


def preprocessing():
    """Layers that do nothing when they do not train, and those that do."""
    x = y = L.Input((9, 8, 3))
    for layer in (L.RandomHue(0.1), L.RandomShear(0.1, 0.1), L.RandomInvert(), L.RandomGrayscale(), L.RandomErasing(),
                  L.RandomSaturation(0.1), L.RandomColorJitter(), L.Solarization(),
                  L.RandomPerspective(), L.RandomElasticTransform(), L.RandomGaussianBlur()):
        y = layer(y)
    return keras.Model(x, [y, L.AutoContrast()(x), L.AutoContrast(value_range=(-1, 1))(x[:, :5]),
                           L.RandomCrop(5, 7)(x), L.RandomCrop(12, 12)(x)])


def integers():
    """What is whole or true in Keras, and what only looks like it."""
    a, b, n = L.Input((5,), dtype='int32'), L.Input((5,), dtype='int32'), L.Input((4, 3))
    top = ops.top_k(n, 2)
    return keras.Model([a, b, n], [
        ops.argmax(n, axis=1), ops.argsort(n, axis=-1), top[0], top[1], n > 0.25, ops.logical_not(a), ops.cast(n, 'int32'),
        ops.cast(n * 50, 'int8'), a + 2, a * 1.5, a + b, a / b, a // 3, ops.sum(a, axis=1), ops.mean(a, axis=1),
        ops.where(a > 4, a, b), ops.where(a > 4, 1, 0), L.Reshape((1, 5))(a), L.Concatenate()([a, b]), L.Add()([a, b]),
        L.Discretization([-1., 0., 0.5])(n), L.Discretization([0.], output_mode='one_hot')(n[:, :1, 0]),
        L.CategoryEncoding(12)(a), ops.one_hot(a, 12), ops.one_hot(a, 12, dtype='int32'), ops.zeros_like(a),
        ops.maximum(a, 3), ops.take(n, 1, axis=1), ops.cumsum(a, axis=1), ops.abs(a - b), ops.equal(a, b), ops.round(n),
        L.Embedding(12, 2)(a), L.Flatten()(ops.stack([a, b], axis=1)), ops.clip(a, 2, 7), ops.full_like(a, 3)])


def windows():
    """Ops that look through windows, borders, and norms of vectors and matrices."""
    rng = np.random.default_rng(7)
    kernel, point, turned = rng.normal(size=(3, 2, 3, 2)), rng.normal(size=(1, 1, 6, 5)), rng.normal(size=(3, 2, 4, 3))
    x, m = L.Input((7, 6, 3)), L.Input((4, 5))
    first, last = ops.transpose(x, (0, 3, 1, 2)), {'data_format': 'channels_last'}
    return keras.Model([x, m], [
        ops.unfold(first, 3), ops.unfold(first, (3, 2), dilation=(1, 2), padding=(2, 1), stride=(2, 1)),
        ops.nn.separable_conv(x, as_float(kernel), as_float(point), strides=(2, 2), padding='same'),
        ops.nn.conv_transpose(x, as_float(turned), strides=2, padding='same', **last),
        ops.nn.conv_transpose(x, as_float(turned), strides=(2, 3), **last),
        ops.nn.conv_transpose(x, as_float(turned), strides=2, padding='valid', output_padding=1, **last),
        ops.nn.conv_transpose(x, as_float(turned), strides=1, padding='same', dilation_rate=2, **last),
        ops.image.pad_images(x, top_padding=2, left_padding=1, target_height=11, target_width=8),
        ops.image.pad_images(x, 1, 2, 3, 0), ops.image.crop_images(x, 1, 2, target_height=4, target_width=3),
        ops.image.crop_images(x, 1, 0, 2, 1), ops.image.extract_patches(x, (3, 2), strides=(2, 1), padding='same'),
        ops.linalg.norm(m, ord=1, axis=(1, 2)), ops.linalg.norm(m, ord=-1, axis=(2, 1)),
        ops.linalg.norm(m, ord=float('inf'), axis=(1, 2), keepdims=True), ops.linalg.norm(m, axis=(-2, -1)),
        ops.linalg.norm(m, ord=float('-inf'), axis=(1, 2)), ops.linalg.norm(m, ord='fro', axis=(1, 2)),
        ops.linalg.norm(m, ord=0, axis=(1,)), ops.linalg.norm(m, ord=3, axis=(-1,))])


def sharded():
    """A nested model and a layer of several variables over shards of a few hundred bytes."""
    a = L.Input((6,))
    base = keras.Model(a, L.BatchNormalization()(L.Dense(6)(a)), name='base')
    x = L.Input((4, 6))
    y = L.Bidirectional(L.LSTM(3, unroll=True))(x)
    return keras.Model(x, L.Dense(4)(L.Dense(5)(base(L.Dense(6, use_bias=False)(y)))))


def ops_activations():
    """Activations as op nodes, with arguments of their own."""
    x = L.Input((4, 6))
    return keras.Model(x, [ops.soft_shrink(x, 0.3), ops.hard_shrink(x, 0.8), ops.celu(x, 0.7), ops.squareplus(x, 2.),
                           ops.glu(x, axis=1), ops.threshold(x, 0.2, -3.), ops.elu(x, 0.6), ops.leaky_relu(x, 0.3),
                           ops.gelu(x, False), ops.sparsemax(x, axis=1), ops.softmax(x, axis=1), ops.hard_tanh(x)])


def training():
    """training=True in calls, which Keras 3's predict overrules."""
    x = L.Input((4, 3))
    inner = L.Input((4, 3))
    base = keras.Model(inner, L.Dropout(0.5)(L.BatchNormalization()(L.Dense(3)(inner))))
    y = L.BatchNormalization()(x, training=True)
    return keras.Model(x, [y, base(y, training=True), L.TimeDistributed(L.BatchNormalization())(x, training=True)])


def masked_scores():
    """Queries that see nothing, and the scores that say so."""
    x = L.Input((5, 3))
    steps = L.ReLU()(x)  # zeros, so that some are masked
    masked = L.Masking(0.)(steps)
    y, scores = L.MultiHeadAttention(2, 4)(masked, masked, return_attention_scores=True)
    masked = L.Masking(0.)(steps)  # attention takes the mask off its inputs: another one
    z, causal = L.MultiHeadAttention(1, 3)(masked, masked, return_attention_scores=True, use_causal_mask=True)
    return keras.Model(x, [y, scores, z, causal])


CASES = [
    Case('masked_scores', masked_scores, [('normal', (4, 5, 3))]),
    Case('ops_activations', ops_activations, [('normal', (2, 4, 6))]),
    Case('training', training, [('normal', (2, 4, 3))]),
    Case('integers', integers, [('index', (2, 5), 12), ('index', (2, 5), 12), ('normal', (2, 4, 3))]),
    Case('windows', windows, [('normal', (2, 7, 6, 3)), ('normal', (2, 4, 5))]),
    Case('preprocessing', preprocessing, [('image', (2, 9, 8, 3))]),
    Case('categories', categories, [('index', (2, 5), 9), ('index', (2, 1), 9), ('normal', (2, 4))]),
    Case('resizes', resizes, [('normal', (2, 9, 8, 3))]),
    Case('adaptive_pools', adaptive_pools,
         [('normal', (2, 11, 3)), ('normal', (2, 9, 8, 3)), ('normal', (2, 5, 6, 7, 2))]),
]


SHARDED = [Case('sharded', sharded, [('normal', (2, 4, 6))])]


def write_answers(stem, made, dtypes):
    with h5py.File(stem + '.io.h5', 'w') as f:
        for i, x in enumerate(made['inputs']):
            f['x%d' % i] = x
        for i, y in enumerate(made['answers']):
            f['y64_%d' % i] = y
            f['y64_%d' % i].attrs['dtype'] = dtypes[i]


def write_shards(case, archive, stem):
    """The model of a .keras file as a folder, its weights in pieces."""
    shutil.rmtree(stem, ignore_errors=True)
    with zipfile.ZipFile(archive) as z:
        z.extractall(stem, ['config.json', 'metadata.json'])
    keras.models.load_model(archive).save_weights(os.path.join(stem, 'model.weights.json'), max_shard_size=5e-7)
    with open(os.path.join(stem, 'model.weights.json')) as f:
        print('%s: %d shards' % (case.name, len(set(sum((v if isinstance(v, list) else [v] for v in
                                                         json.load(f)['weight_map'].values()), [])))))


def main():
    names = sys.argv[1:] or [case.name for case in CASES + SHARDED]
    for case in CASES + SHARDED:
        if case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = oracle.make(case, os.path.join(folder, 'case'))
            stem = os.path.join(ROOT, 'tests', 'data', 'models', case.name)
            archive = os.path.join(folder, 'case', made['files']['keras'])
            oracle.set_float('float32')
            with jax.enable_x64(False):  # with it JAX counts in 64 bits
                dtypes = [str(y.dtype) for y in oracle.call(case.build(), case.draw())]
            write_answers(stem, made, dtypes)
            if case in SHARDED:
                write_shards(case, archive, stem)
            else:
                shutil.copy(archive, stem + '.keras')
        print('%s: Keras itself is off by %.2g' % (case.name, made['keras_error']))


if __name__ == '__main__':
    main()
