"""The layer matrix: every layer in the settings that implementations get wrong, one small model each."""
import numpy as np

from oracle import Case, keras

L = keras.layers
RANDOM = 1e-5
EXACT = 0.0  # layers that only move data
LONG = 5e-5
NAMES = {}


def add(name, build, inputs, tolerance=RANDOM, **more):
    if name in NAMES:
        raise ValueError('two cases are called ' + name)
    NAMES[name] = Case(name, build, inputs, tolerance, **more)


def one(name, shape, layer, tolerance=RANDOM, kind='normal', bound=None, **more):
    """A model of one layer; `layer` makes it (late, so that a missing class is this case's news)."""
    def build():
        x = L.Input(shape, dtype='int32') if kind == 'index' else L.Input(shape)
        return keras.Model(x, layer()(x))
    add(name, build, [(kind, (2,) + shape, bound)], tolerance, **more)


def many(name, shapes, join, tolerance=RANDOM, kinds=None, bound=None, **more):
    """A model of several inputs; join(*tensors) returns its output or outputs."""
    kinds = kinds or ['normal'] * len(shapes)
    def build():
        xs = [L.Input(s, dtype='int32') if k == 'index' else L.Input(s) for s, k in zip(shapes, kinds)]
        return keras.Model(xs if len(xs) > 1 else xs[0], join(*xs))
    add(name, build, [(k, (2,) + s, bound) for s, k in zip(shapes, kinds)], tolerance, **more)


def convolutions():
    for padding in ('valid', 'same'):
        for stride in (1, 2, 3):
            one('conv2d/%s-s%d' % (padding, stride), (11, 8, 3),
                lambda p=padding, s=stride: L.Conv2D(5, 3, strides=s, padding=p))
            for kernel in (2, 3):
                one('conv2d_transpose/%s-s%d-k%d' % (padding, stride, kernel), (5, 6, 3),
                    lambda p=padding, s=stride, k=kernel: L.Conv2DTranspose(4, k, strides=s, padding=p))
    one('conv2d/even-same-s2', (9, 8, 3), lambda: L.Conv2D(4, (4, 2), strides=2, padding='same'))
    one('conv2d/dilation2-same', (11, 9, 3), lambda: L.Conv2D(4, 3, dilation_rate=2, padding='same'))
    one('conv2d/dilation23-valid', (11, 12, 3), lambda: L.Conv2D(4, (3, 2), dilation_rate=(2, 3)))
    one('conv2d/groups2', (8, 7, 6), lambda: L.Conv2D(8, 3, groups=2, padding='same'))
    one('conv2d/groups4-one-channel', (8, 7, 4), lambda: L.Conv2D(8, 3, groups=4))
    one('conv2d/nobias-relu', (8, 7, 3), lambda: L.Conv2D(4, 3, use_bias=False, activation='relu'))
    one('conv2d/1x1', (8, 7, 16), lambda: L.Conv2D(32, 1, activation='relu'))
    one('conv2d/7x7-s2', (30, 21, 3), lambda: L.Conv2D(16, 7, strides=2, padding='same'))
    one('conv2d/strides21', (11, 9, 3), lambda: L.Conv2D(4, 3, strides=(2, 1), padding='same'))
    one('conv2d/channels-first', (3, 8, 7), lambda: L.Conv2D(4, 3, data_format='channels_first', padding='same'))
    one('conv2d/activation-layer-inside', (8, 7, 3), lambda: L.Conv2D(4, 3, activation=L.LeakyReLU(0.1)))
    one('conv2d_transpose/output-padding', (5, 6, 3),
        lambda: L.Conv2DTranspose(4, 3, strides=2, padding='same', output_padding=0))
    one('conv2d_transpose/dilation', (5, 6, 3), lambda: L.Conv2DTranspose(4, 3, dilation_rate=2))
    one('conv1d/causal-dilation2', (12, 3), lambda: L.Conv1D(4, 3, padding='causal', dilation_rate=2))
    one('conv1d/same-s2', (11, 3), lambda: L.Conv1D(4, 4, padding='same', strides=2))
    one('conv1d/groups', (11, 6), lambda: L.Conv1D(9, 3, groups=3))
    one('conv1d_transpose/s2', (7, 3), lambda: L.Conv1DTranspose(4, 3, strides=2, padding='same'))
    one('conv3d/same-s2', (5, 7, 6, 2), lambda: L.Conv3D(3, 3, strides=2, padding='same'))
    one('conv3d/dilation', (7, 7, 6, 2), lambda: L.Conv3D(3, 2, dilation_rate=2))
    one('conv3d_transpose/s2', (3, 4, 3, 2), lambda: L.Conv3DTranspose(3, 3, strides=2, padding='same'))
    one('separable_conv1d', (11, 3), lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, padding='same'))
    one('separable_conv2d', (11, 8, 3), lambda: L.SeparableConv2D(5, 3, strides=2, depth_multiplier=2,
                                                                  activation='relu'))
    one('depthwise_conv1d', (11, 3), lambda: L.DepthwiseConv1D(3, strides=2, padding='same'))
    one('depthwise_conv2d/multiplier3-s2', (11, 8, 3),
        lambda: L.DepthwiseConv2D(3, strides=2, depth_multiplier=3, padding='same'))
    one('depthwise_conv2d/dilation', (11, 8, 3), lambda: L.DepthwiseConv2D(3, dilation_rate=2, padding='same'))
    one('depthwise_conv2d/5x5', (14, 13, 24), lambda: L.DepthwiseConv2D(5, padding='same', activation='silu'))


def pools():
    for rank, shape in ((1, (11, 3)), (2, (11, 8, 3)), (3, (7, 6, 5, 2))):
        for kind, tolerance in (('Max', EXACT), ('Average', RANDOM)):
            for padding in ('valid', 'same'):
                for size, stride in ((2, 2), (3, 2), (3, 1)):
                    one('%s_pooling%dd/%s-k%d-s%d' % (kind.lower(), rank, padding, size, stride), shape,
                        lambda r=rank, k=kind, p=padding, z=size, s=stride:
                        getattr(L, '%sPooling%dD' % (k, r))(z, strides=s, padding=p), tolerance)
            for keep in (False, True):
                one('global_%s_pooling%dd/%s' % (kind.lower(), rank, 'keep' if keep else 'flat'), shape,
                    lambda r=rank, k=kind, d=keep:
                    getattr(L, 'Global%sPooling%dD' % (k, r))(keepdims=d), tolerance)
    one('max_pooling2d/channels-first', (3, 8, 7),
        lambda: L.MaxPooling2D(2, padding='same', data_format='channels_first'), EXACT)
    one('average_pooling2d/channels-first', (3, 8, 7),
        lambda: L.AveragePooling2D(3, 2, padding='same', data_format='channels_first'))


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


def shapes():
    one('reshape/minus1', (6, 5, 4), lambda: L.Reshape((-1, 10)), EXACT)
    one('permute', (6, 5, 4), lambda: L.Permute((3, 1, 2)), EXACT)
    one('repeat_vector', (5,), lambda: L.RepeatVector(3), EXACT)
    one('flatten', (6, 5, 4), lambda: L.Flatten(), EXACT)
    one('flatten/channels-first', (4, 6, 5), lambda: L.Flatten(data_format='channels_first'), EXACT)
    one('cropping1d', (9, 3), lambda: L.Cropping1D((2, 1)), EXACT)
    one('cropping2d', (9, 8, 3), lambda: L.Cropping2D(((2, 1), (0, 3))), EXACT)
    one('cropping3d', (6, 7, 8, 2), lambda: L.Cropping3D(((1, 0), (2, 1), (0, 3))), EXACT)
    one('zero_padding1d', (9, 3), lambda: L.ZeroPadding1D((2, 1)), EXACT)
    one('zero_padding2d', (5, 6, 3), lambda: L.ZeroPadding2D(((2, 1), (0, 3))), EXACT)
    one('zero_padding2d/channels-first', (3, 5, 6),
        lambda: L.ZeroPadding2D(((2, 1), (0, 3)), data_format='channels_first'), EXACT)
    one('zero_padding3d', (3, 4, 5, 2), lambda: L.ZeroPadding3D(((1, 0), (2, 1), (0, 3))), EXACT)
    one('upsampling1d', (5, 3), lambda: L.UpSampling1D(3), EXACT)
    one('upsampling3d', (3, 4, 3, 2), lambda: L.UpSampling3D((1, 2, 3)), EXACT)
    for mode in ('nearest', 'bilinear', 'bicubic', 'lanczos3', 'lanczos5'):
        one('upsampling2d/' + mode, (5, 4, 3), lambda m=mode: L.UpSampling2D((2, 3), interpolation=m),
            EXACT if mode == 'nearest' else RANDOM)
        one('resizing/' + mode, (9, 8, 3), lambda m=mode: L.Resizing(5, 12, interpolation=m),
            EXACT if mode == 'nearest' else RANDOM)
    one('resizing/antialias', (12, 10, 3), lambda: L.Resizing(5, 4, antialias=True))
    one('resizing/crop', (12, 9, 3), lambda: L.Resizing(5, 5, crop_to_aspect_ratio=True))
    one('resizing/pad', (12, 9, 3), lambda: L.Resizing(5, 5, pad_to_aspect_ratio=True))
    one('center_crop', (9, 8, 3), lambda: L.CenterCrop(5, 4), EXACT)
    one('center_crop/up', (5, 6, 3), lambda: L.CenterCrop(8, 8))


def recurrent():
    for kind in ('SimpleRNN', 'GRU', 'LSTM'):
        def layer(k=kind, **more):
            # in float64 Keras's own loop stumbles over these two on JAX
            loops = k == 'SimpleRNN' or (k == 'GRU' and not more.get('use_bias', True))
            return getattr(L, k)(5, **(dict(more, unroll=True) if loops else more))
        def masked(make):
            return lambda: keras.Sequential([L.Input((6, 3)), L.Masking(), make()])
        one('%s/last' % kind.lower(), (6, 3), lambda f=layer: f())
        one('%s/sequences' % kind.lower(), (6, 3), lambda f=layer: f(return_sequences=True))
        one('%s/backwards' % kind.lower(), (6, 3), lambda f=layer: f(go_backwards=True, return_sequences=True))
        one('%s/nobias' % kind.lower(), (6, 3), lambda f=layer: f(use_bias=False))
        one('%s/bidirectional' % kind.lower(), (6, 3), lambda f=layer: L.Bidirectional(f(return_sequences=True)))
        one('%s/bidirectional-last-sum' % kind.lower(), (6, 3),
            lambda f=layer: L.Bidirectional(f(), merge_mode='sum'))
        many('%s/state' % kind.lower(), [(6, 3)], lambda x, f=layer: list(f(return_state=True)(x)))
        add('%s/masked' % kind.lower(), masked(lambda f=layer: f()), [('padded', (4, 6, 3))])
        add('%s/bidirectional-masked' % kind.lower(),
            masked(lambda f=layer: L.Bidirectional(f(return_sequences=True))), [('padded', (4, 6, 3))])
    one('lstm/long', (120, 8), lambda: L.LSTM(16), LONG)
    one('gru/reset-before', (6, 3), lambda: L.GRU(5, reset_after=False))
    one('lstm/hard-sigmoid-relu', (6, 3), lambda: L.LSTM(5, activation='relu', recurrent_activation='hard_sigmoid'))
    add('lstm/stacked', lambda: keras.Sequential([
        L.Input((6, 3)), L.LSTM(5, return_sequences=True), L.GRU(4), L.Dense(2)]), [('normal', (2, 6, 3))])
    one('conv_lstm1d', (4, 6, 2), lambda: L.ConvLSTM1D(3, 3, padding='same'))
    one('conv_lstm2d', (4, 6, 5, 2), lambda: L.ConvLSTM2D(3, 3, padding='same', return_sequences=True))
    one('conv_lstm2d/valid-s2', (4, 7, 6, 2), lambda: L.ConvLSTM2D(3, 3, strides=2))
    one('time_distributed/dense', (4, 6), lambda: L.TimeDistributed(L.Dense(5)))
    one('time_distributed/conv', (4, 6, 5, 2), lambda: L.TimeDistributed(L.Conv2D(3, 3)))

    def encoder_decoder(x, z):
        _, h, c = L.LSTM(5, return_state=True)(x)
        return L.Dense(3)(L.LSTM(5, return_sequences=True)(z, initial_state=[h, c]))
    many('lstm/encoder-decoder', [(6, 3), (4, 2)], encoder_decoder)


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


def attention():
    many('attention', [(5, 8), (6, 8), (6, 8)], lambda q, v, k: L.Attention()([q, v, k]))
    many('attention/scale', [(5, 8), (6, 8)], lambda q, v: L.Attention(use_scale=True)([q, v]))
    many('attention/additive', [(5, 8), (6, 8)], lambda q, v: L.AdditiveAttention()([q, v]))
    many('multi_head_attention', [(5, 8), (6, 8)],
         lambda q, v: L.MultiHeadAttention(2, 4, output_shape=7)(q, v))
    many('multi_head_attention/value-dim', [(5, 8), (6, 8)],
         lambda q, v: list(L.MultiHeadAttention(2, 4, value_dim=3)(q, v, return_attention_scores=True)))
    many('multi_head_attention/causal', [(5, 8)],
         lambda x: L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True))
    many('multi_head_attention/scores-nobias', [(5, 8), (6, 8)],
         lambda q, v: list(L.MultiHeadAttention(2, 4, use_bias=False)(q, v, return_attention_scores=True)))
    many('multi_head_attention/axes', [(3, 4, 8)],
         lambda x: L.MultiHeadAttention(2, 4, attention_axes=(1,))(x, x))
    many('grouped_query_attention', [(5, 8), (6, 8)],
         lambda q, v: L.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)(q, v))


def others():
    one('embedding', (6,), lambda: L.Embedding(11, 4), EXACT, 'index', 11)
    one('category_encoding/multi-hot', (6,), lambda: L.CategoryEncoding(11, output_mode='multi_hot'), EXACT,
        'index', 11)
    one('discretization', (6,), lambda: L.Discretization(bin_boundaries=[-1., 0., 0.5]), EXACT)
    add('global_average_pooling1d/masked', lambda: keras.Sequential([
        L.Input((6, 3)), L.Masking(), L.GlobalAveragePooling1D()]), [('padded', (4, 6, 3))])

    def quiet():
        x = y = L.Input((6, 5, 4))
        for layer in (L.Dropout(0.3), L.SpatialDropout2D(0.3), L.GaussianNoise(0.1), L.GaussianDropout(0.2),
                      L.ActivityRegularization(l2=0.1), L.RandomFlip(), L.RandomRotation(0.1), L.RandomZoom(0.1),
                      L.RandomContrast(0.1), L.AlphaDropout(0.1)):
            y = layer(y)
        return keras.Model(x, y)
    add('training-only', quiet, [('normal', (2, 6, 5, 4))], EXACT)


def nets():
    def inner(name, frozen=False):
        x = L.Input((6,))
        y = L.BatchNormalization(name=name + '_bn1')(L.Dense(6, name=name + '_d1')(x))
        y = L.BatchNormalization(name=name + '_bn2')(L.Dense(6, name=name + '_d2')(y))
        model = keras.Model(x, y, name=name)
        if frozen:
            model.layers[1].trainable = False
        return model

    def nested(frozen):
        def build():
            base, x = inner('base', frozen), L.Input((6,))
            return keras.Model(x, L.Dense(3)(base(x)))
        return build

    def twice():
        base, a, b = inner('base'), L.Input((6,), name='a'), L.Input((6,), name='b')
        return keras.Model([a, b], L.Concatenate()([base(a), base(b)]))

    def deep():
        middle = keras.Sequential([L.Input((6,)), L.Dense(6), inner('base')], name='middle')
        x = L.Input((6,))
        return keras.Model(x, L.Activation('tanh')(middle(x)))

    def shared():
        layer, a, b = L.Dense(4), L.Input((6,), name='a'), L.Input((6,), name='b')
        u, v = layer(a), layer(b)
        return keras.Model([a, b], {'sum': L.Add()([u, v]), 'first': u, 'product': L.Multiply()([u, v])})

    def squeeze():
        x = L.Input((8, 7, 6))
        y = L.Conv2D(8, 3, padding='same', use_bias=False)(x)
        y = L.Activation('silu')(L.BatchNormalization()(y))
        s = L.GlobalAveragePooling2D(keepdims=True)(y)
        s = L.Conv2D(8, 1, activation='sigmoid')(L.Conv2D(2, 1, activation='silu')(s))
        return keras.Model(x, L.Add()([L.Conv2D(8, 1)(x), L.Multiply()([y, s])]))

    def plain():
        return keras.Sequential([
            L.Input((12, 12, 1)), L.Conv2D(8, 3, activation='relu'), L.MaxPooling2D(), L.Dropout(0.2),
            L.Conv2D(8, 3, padding='same'), L.BatchNormalization(), L.ReLU(), L.Flatten(),
            L.Dense(10, activation='softmax')])

    def unet():
        x = L.Input((16, 12, 3))
        a = L.Conv2D(8, 3, padding='same', activation='relu')(x)
        b = L.Conv2D(12, 3, padding='same', activation='relu')(L.MaxPooling2D()(a))
        c = L.Conv2D(16, 3, padding='same', activation='relu')(L.MaxPooling2D()(b))
        d = L.Concatenate()([L.Conv2DTranspose(12, 2, strides=2)(c), b])
        e = L.Concatenate()([L.UpSampling2D(interpolation='bilinear')(L.Conv2D(8, 1)(d)), a])
        return keras.Model(x, L.Conv2D(2, 1, activation='sigmoid')(e))

    def operators(a, b):
        y = (a + b) * 2 - a / (abs(b) + 1)
        y = keras.ops.concatenate([y, keras.ops.sqrt(keras.ops.square(a) + 0.5)], axis=-1)
        return keras.ops.mean(y[:, 1:4, ::2], axis=1) ** 2

    add('net/nested', nested(False), [('normal', (2, 6))])
    add('net/nested-frozen', nested(True), [('normal', (2, 6))])
    add('net/nested-twice', twice, [('normal', (2, 6))] * 2)
    add('net/nested-deep', deep, [('normal', (2, 6))])
    add('net/shared-layer-dict', shared, [('normal', (2, 6))] * 2)
    add('net/squeeze-excite', squeeze, [('normal', (2, 8, 7, 6))])
    add('net/sequential', plain, [('normal', (40, 12, 12, 1))])
    add('net/unet', unet, [('normal', (2, 16, 12, 3))])
    many('net/operators', [(5, 6), (5, 6)], operators)
    many('net/hard-swish', [(6, 5, 4)], lambda x: L.Multiply()([x, L.ReLU(6.)(x + 3.) * (1. / 6.)]))


for group in (convolutions, pools, dense, norms, activations, shapes, recurrent, merges, attention, others, nets):
    group()


def cases():
    return NAMES.values()
