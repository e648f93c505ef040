"""The layer matrix: what works value by value, over axes, or on several inputs."""
import numpy as np

from layers_matrix import EXACT, L, RANDOM, TOGETHER, keras, many, one


def dense():
    one('dense/relu', (7,), lambda: L.Dense(5, activation='relu'))
    one('dense/rank4', (3, 4, 5, 6), lambda: L.Dense(7))
    one('dense/nobias', (7,), lambda: L.Dense(5, use_bias=False))
    one('dense/wide', (700,), lambda: L.Dense(300))
    one('einsum_dense', (4, 6), lambda: L.EinsumDense('abc,cde->abde', output_shape=(None, 3, 5), bias_axes='de'))


def norms():
    one('batch_norm/2d', (6, 5, 4), lambda: L.BatchNormalization())
    one('batch_norm/rank2', (9,), lambda: L.BatchNormalization(epsilon=0.1))
    one('batch_norm/axis1', (3, 6, 5), lambda: L.BatchNormalization(axis=1))
    one('batch_norm/noscale', (6, 5, 4), lambda: L.BatchNormalization(scale=False))
    one('batch_norm/nocenter', (6, 5, 4), lambda: L.BatchNormalization(center=False))
    one('layer_norm', (6, 5, 8), lambda: L.LayerNormalization(epsilon=1e-6))
    one('layer_norm/axes12', (6, 5, 8), lambda: L.LayerNormalization(axis=(1, 2)))
    one('layer_norm/noscale', (6, 8), lambda: L.LayerNormalization(scale=False))
    one('rms_norm', (6, 8), lambda: L.RMSNormalization())
    one('group_norm/2', (6, 5, 8), lambda: L.GroupNormalization(2))
    one('group_norm/instance', (6, 5, 8), lambda: L.GroupNormalization(-1))
    one('group_norm/axis1', (8, 6, 5), lambda: L.GroupNormalization(4, axis=1))
    one('unit_norm', (6, 8), lambda: L.UnitNormalization())
    one('spectral_norm', (6, 6, 3), lambda: L.SpectralNormalization(L.Conv2D(4, 3)))

    def adapt(model):
        rng = np.random.default_rng(5)
        layer = model.layers[-1]
        layer.adapt(rng.normal(3, 2, (64, 4)).astype('float32'))
    one('normalization/adapted', (4,), lambda: L.Normalization(), prepare=adapt)
    one('normalization/constants', (6, 4), lambda: L.Normalization(mean=[1., 2, 3, 4], variance=[.5, 1, 2, 4]))
    one('normalization/scalar', (6, 4), lambda: L.Normalization(axis=None, mean=1.5, variance=2.5))
    one('normalization/invert', (4,), lambda: L.Normalization(mean=[1., 2, 3, 4], variance=[.5, 1, 2, 4],
                                                              invert=True))
    one('rescaling/scalar', (6, 5, 3), lambda: L.Rescaling(1 / 127.5, offset=-1), kind='image')
    one('rescaling/vector', (6, 5, 3), lambda: L.Rescaling([1., 2., 3.], offset=[.1, .2, .3]))


ACTIVATIONS = ('celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear '
               'log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign '
               'sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink').split()


def activations():
    for name in ACTIVATIONS:
        one('activation/' + name, (6, 8), lambda n=name: L.Activation(n))
    one('relu/full', (6, 8), lambda: L.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2))
    one('relu/six', (6, 8), lambda: L.ReLU(6.))
    one('leaky_relu', (6, 8), lambda: L.LeakyReLU(0.2))
    one('elu/alpha', (6, 8), lambda: L.ELU(alpha=0.7))
    one('prelu', (6, 5, 4), lambda: L.PReLU())
    one('prelu/shared', (6, 5, 4), lambda: L.PReLU(shared_axes=[1, 2]))
    one('softmax/axis1', (6, 5), lambda: L.Softmax(axis=1))
    one('softmax/axes12', (4, 5, 3), lambda: L.Softmax(axis=(1, 2)))
    one('softmax/wide', (1000,), lambda: L.Softmax())


def merges():
    for kind in ('Add', 'Subtract', 'Multiply', 'Average', 'Maximum', 'Minimum'):
        many('%s' % kind.lower(), [(6, 5, 4)] * 2, lambda a, b, k=kind: getattr(L, k)()([a, b]))
        many('%s/broadcast' % kind.lower(), [(6, 5, 4), (1, 1, 4)], lambda a, b, k=kind: getattr(L, k)()([a, b]))
    many('add/three', [(6, 4)] * 3, lambda a, b, c: L.Add()([a, b, c]))
    many('add/rank', [(6, 5, 4), (5, 4)], lambda a, b: L.Add()([a, b]))
    many('concatenate/last', [(6, 5, 4), (6, 5, 3)], lambda a, b: L.Concatenate()([a, b]), EXACT)
    many('concatenate/axis1', [(6, 4), (3, 4)], lambda a, b: L.Concatenate(axis=1)([a, b]), EXACT)
    many('dot', [(6, 4), (5, 4)], lambda a, b: L.Dot(axes=2)([a, b]))
    many('dot/normalize', [(8,), (8,)], lambda a, b: L.Dot(axes=1, normalize=True)([a, b]))


def einsums():
    one('dense/one-unit', (7,), lambda: L.Dense(1, activation='sigmoid'))
    one('dense/rank3-softmax', (4, 6), lambda: L.Dense(5, activation='softmax'))
    one('dense/one-input', (1,), lambda: L.Dense(9))
    for name, shape, equation, output, bias in (
            ('project', (4, 6), 'abc,cd->abd', (None, 5), 'd'), ('dots', (3, 4, 6), '...x,xy->...y', (5,), 'y'),
            ('plain', (6,), 'ab,bc->ac', 5, 'c'), ('swap', (4, 6), 'abc,cd->adb', (5, 4), 'd'),
            ('two-axes', (4, 3, 5), 'abcd,cde->abe', (None, 7), None), ('heads-back', (4, 2, 3), 'abnh,nhd->abd',
                (None, 6), 'd'),
            ('sequence', (4, 6), 'abc,bd->adc', (3, 6), 'd')):
        one('einsum_dense/' + name, shape, lambda e=equation, o=output, b=bias:
            L.EinsumDense(e, output_shape=o, bias_axes=b, activation='tanh'))


def norms_over_axes():
    for rank, shape in ((2, (9,)), (3, (6, 5)), (4, (5, 4, 6)), (5, (3, 4, 2, 5))):
        for axis in range(1, rank):
            one('batch_norm/rank%d-axis%d' % (rank, axis), shape, lambda a=axis: L.BatchNormalization(axis=a))
            one('layer_norm/rank%d-axis%d' % (rank, axis), shape, lambda a=axis: L.LayerNormalization(axis=a))
            one('unit_norm/rank%d-axis%d' % (rank, axis), shape, lambda a=axis: L.UnitNormalization(axis=a))
        one('group_norm/rank%d' % rank, shape[:-1] + (6,), lambda: L.GroupNormalization(3, epsilon=1e-2))
    one('batch_norm/neither', (5, 4), lambda: L.BatchNormalization(scale=False, center=False))
    one('layer_norm/nocenter', (6, 8), lambda: L.LayerNormalization(center=False))
    one('layer_norm/neither-axes', (6, 5, 4), lambda: L.LayerNormalization(axis=[1, 2, 3], scale=False, center=False))
    one('layer_norm/rms', (6, 8), lambda: L.LayerNormalization(rms_scaling=True))
    one('rms_norm/axis1', (6, 8), lambda: L.RMSNormalization(axis=1, epsilon=1e-3))
    one('group_norm/default', (4, 64), lambda: L.GroupNormalization())
    one('group_norm/plain', (5, 4, 6), lambda: L.GroupNormalization(2, scale=False, center=False))
    one('unit_norm/axes', (4, 5, 6), lambda: L.UnitNormalization(axis=(1, 2)))
    one('spectral_norm/dense', (6,), lambda: L.SpectralNormalization(L.Dense(4)))
    many('batch_norm/training', [(6, 5, 4)], lambda x: L.BatchNormalization()(x, training=True), ways=TOGETHER)

    def adapted(shape, axis):
        def adapt(model):
            model.layers[-1].adapt(np.random.default_rng(6).normal(3, 2, (64,) + shape).astype('float32'))
        label = 'none' if axis is None else '-'.join(map(str, axis)) if isinstance(axis, tuple) else str(axis)
        one('normalization/adapted-axis-%s' % label, shape, lambda: L.Normalization(axis=axis), prepare=adapt)
    adapted((5, 4), 1)
    adapted((5, 4), None)
    adapted((5, 4, 3), (1, 3))
    one('normalization/no-variance', (4,), lambda: L.Normalization(mean=[1., 2, 3, 4], variance=[0., 1, 2, 4]))


def steep_activations():
    """Where exponentials overflow and cancel."""
    for name in ACTIVATIONS:
        one('activation/%s-steep' % name, (6, 8), lambda n=name: L.Activation(n), kind='steep')
    for name in ('gelu', 'mish', 'silu', 'hard_sigmoid', 'softmax', 'exponential', 'leaky_relu'):
        one('dense/' + name, (7,), lambda n=name: L.Dense(6, activation=n))
        one('conv2d/' + name, (6, 5, 3), lambda n=name: L.Conv2D(6, 3, padding='same', activation=n))
    one('relu/threshold', (6, 8), lambda: L.ReLU(threshold=0.4))
    one('relu/slope', (6, 8), lambda: L.ReLU(negative_slope=0.3))
    one('thresholded_relu', (6, 8), lambda: L.ThresholdedReLU(0.4))
    one('leaky_relu/default', (6, 8), lambda: L.LeakyReLU())
    one('prelu/axis1', (6, 5, 4), lambda: L.PReLU(shared_axes=[1]))
    one('prelu/flat', (9,), lambda: L.PReLU())
    one('softmax/steep', (6, 9), lambda: L.Softmax(), kind='steep')
    one('softmax/rank4-axis2', (4, 5, 3), lambda: L.Softmax(axis=2))


def merges_of_ranks():
    for kind in ('Add', 'Multiply', 'Average', 'Maximum', 'Minimum'):
        many('%s/four' % kind.lower(), [(5, 4)] * 4, lambda *xs, k=kind: getattr(L, k)()(list(xs)))
        many('%s/ranks' % kind.lower(), [(6, 5, 4), (4,), (5, 4)], lambda *xs, k=kind: getattr(L, k)()(list(xs)))
        many('%s/twice-itself' % kind.lower(), [(5, 4)], lambda x, k=kind: getattr(L, k)()([x, x]))
    many('subtract/rank', [(6, 5, 4), (5, 4)], lambda a, b: L.Subtract()([a, b]))
    many('concatenate/many', [(3, 4), (1, 4), (2, 4), (5, 4)], lambda *xs: L.Concatenate(axis=-2)(list(xs)), EXACT)
    many('concatenate/rank5', [(2, 3, 2, 4), (2, 3, 5, 4)], lambda a, b: L.Concatenate(axis=3)([a, b]), EXACT)
    many('dot/axes21', [(6, 4), (4, 5)], lambda a, b: L.Dot(axes=(2, 1))([a, b]))
    many('dot/axes11', [(6, 4), (6, 5)], lambda a, b: L.Dot(axes=1)([a, b]))
    many('dot/rank4', [(3, 6, 4), (5, 4)], lambda a, b: L.Dot(axes=(3, 2))([a, b]))
    many('dot/normalize-rank3', [(6, 4), (5, 4)], lambda a, b: L.Dot(axes=2, normalize=True)([a, b]))


GROUPS = (dense, einsums, norms, norms_over_axes, activations, steep_activations, merges, merges_of_ranks)
