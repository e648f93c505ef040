#!/usr/bin/env python3
"""Make sample models of tests/data/models with real Keras: usage: make_models.py [NAME...]

Each is NAME.keras and NAME.io.h5: its inputs x<i> and float64 outputs y64_<i> in Keras's flatten order. Needs the
packages of tests/conformance (keras 3, jax, numpy, h5py); weights and inputs are drawn from the name.
"""
import os
import shutil
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'conformance'))
import h5py
import oracle
from oracle import Case, keras

L = keras.layers


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


CASES = [
    Case('preprocessing', preprocessing, [('image', (2, 9, 8, 3))]),
    Case('categories', categories, [('index', (2, 5), 9), ('index', (2, 1), 9), ('normal', (2, 4))]),
    Case('resizes', resizes, [('normal', (2, 9, 8, 3))]),
    Case('adaptive_pools', adaptive_pools,
         [('normal', (2, 11, 3)), ('normal', (2, 9, 8, 3)), ('normal', (2, 5, 6, 7, 2))]),
]


def main():
    names = sys.argv[1:] or [case.name for case in CASES]
    for case in CASES:
        if case.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = oracle.make(case, os.path.join(folder, 'case'))
            stem = os.path.join(ROOT, 'tests', 'data', 'models', case.name)
            shutil.copy(os.path.join(folder, 'case', made['files']['keras']), stem + '.keras')
            with h5py.File(stem + '.io.h5', 'w') as f:
                for i, x in enumerate(made['inputs']):
                    f['x%d' % i] = x
                for i, y in enumerate(made['answers']):
                    f['y64_%d' % i] = y
        print('%s: Keras itself is off by %.2g' % (case.name, made['keras_error']))


if __name__ == '__main__':
    main()
