"""Layers with random options: functions (draw, x) -> what to call on x, or None if x does not suit.

What comes back is a layer, or a function that calls one; the call gives a tensor or several.
"""
from random_draw import SMOOTH, L, axes_of, axis_of, divisor_of, keras, kernel_of, size_of, spatial


def layer(kind, rank, *arguments, **more):
    """layer('Conv%dD', 2, ...)"""
    return getattr(L, kind % rank)(*arguments, **more)


# ---- dense, activations ----

def dense(d, x):
    return L.Dense(d.int(1, 9), activation=d.activation(), use_bias=d.maybe(0.8))


def einsum_dense(d, x):
    letters = 'bcdefg'[:len(x.shape) - 1]
    last = letters[-1]
    if len(letters) > 1 and d.maybe(0.4):  # two new axes in the place of the last
        return L.EinsumDense('a%s,%sxy->a%sxy' % (letters, last, letters[:-1]),
                             output_shape=tuple(x.shape[1:-1]) + (d.int(1, 4), d.int(1, 4)),
                             bias_axes=d.one('y', 'xy', 'x'), activation=d.activation(0.3))
    if len(letters) > 1 and d.maybe(0.3):  # the first two axes change places, one is contracted
        rest = letters[1:-1]
        return L.EinsumDense('a%s,%sx->ax%s%s' % (letters, last, rest, letters[0]),
                             output_shape=(d.int(1, 4),) + tuple(x.shape[2:-1]) + (x.shape[1],), bias_axes='x')
    return L.EinsumDense('...%s,%sx->...x' % (last, last), output_shape=(d.int(1, 6),), bias_axes=d.one('x', None),
                         activation=d.activation(0.3))


def activation(d, x):
    if x.shape[-1] % 2 == 0 and d.maybe(0.05):
        return L.Activation('glu')
    return L.Activation(d.one(*SMOOTH))


def activation_layer(d, x):
    shared = sorted({d.int(1, len(x.shape) - 1) for _ in range(2)})
    return d.one(lambda: L.LeakyReLU(d.number(0, 0.5)), lambda: L.ELU(d.number(0.2, 1.5)),
                 lambda: L.ReLU(max_value=d.one(None, 1.5, 6.), negative_slope=d.one(0., 0.1)),
                 lambda: L.Softmax(axis=axis_of(d, x)), lambda: L.Softmax(axis=tuple(range(1, len(x.shape)))),
                 lambda: L.PReLU(shared_axes=d.one(None, shared)))()


# ---- normalisation ----

def batch_norm(d, x):
    made = L.BatchNormalization(axis=axis_of(d, x), scale=d.maybe(0.7), center=d.maybe(0.7), epsilon=d.one(1e-3, 1e-2))
    if len(x.shape) > 2 and d.maybe(0.1):  # somebody left the argument in
        d.mixes = True
        return lambda x: made(x, training=True)
    return made


def layer_norm(d, x):
    return L.LayerNormalization(axis=axes_of(d, x), scale=d.maybe(0.7), center=d.maybe(0.7), epsilon=0.01,
                                **({'rms_scaling': True} if d.maybe(0.2) else {}))


def other_norm(d, x):
    last, axis = x.shape[-1], axis_of(d, x)
    return d.one(lambda: L.UnitNormalization(axis=d.one(axis, axes_of(d, x))), lambda: L.RMSNormalization(epsilon=0.01),
                 lambda: L.GroupNormalization(divisor_of(d, last), epsilon=0.01, scale=d.maybe(0.7)),
                 lambda: L.GroupNormalization(d.one(-1, divisor_of(d, x.shape[axis])), axis=axis, epsilon=0.01))()


def affine(d, x):
    """Normalization, Rescaling: numbers from the config or from the weights."""
    last = x.shape[-1]
    return d.one(lambda: L.Normalization(mean=d.number(), variance=d.number(0.5, 2), axis=None, invert=d.maybe(0.2)),
                 lambda: L.Normalization(mean=d.numbers(last), variance=d.numbers(last, 0.5, 2), invert=d.maybe(0.2)),
                 lambda: L.Normalization(axis=axis_of(d, x)),
                 lambda: L.Normalization(axis=axes_of(d, x)),
                 lambda: L.Rescaling(d.number(), d.number()),
                 lambda: L.Rescaling(d.numbers(last), offset=d.numbers(last)))()


def spectral_norm(d, x):
    rank = spatial(x)
    if rank == 2 and min(x.shape[1:-1]) >= 3 and d.maybe(0.6):
        return L.SpectralNormalization(L.Conv2D(d.int(1, 4), 3, padding=d.one('same', 'valid')))
    return L.SpectralNormalization(L.Dense(d.int(1, 6)))


def quiet(d, x):
    """What acts in training only."""
    rank = spatial(x)
    some = [lambda: L.Dropout(0.3), lambda: L.GaussianNoise(0.1), lambda: L.ActivityRegularization(0.1),
            lambda: L.Identity(), lambda: L.AlphaDropout(0.1), lambda: L.GaussianDropout(0.2)]
    if rank:
        some.append(lambda: layer('SpatialDropout%dD', rank, 0.2))
    if rank == 2 and x.shape[-1] in (1, 3):
        some += [lambda: L.RandomFlip(), lambda: L.RandomRotation(0.1), lambda: L.RandomZoom(0.1),
                 lambda: L.RandomContrast(0.1), lambda: L.RandomTranslation(0.1, 0.1)]
    return d.one(*some)()


# ---- shapes ----

def flatten(d, x):
    return L.Flatten(data_format=d.one(None, None, 'channels_first'))


def reshape(d, x):
    rest, shape = size_of(x), []
    while len(shape) < d.int(0, 3):
        shape.append(d.one(*[n for n in range(1, rest + 1) if rest % n == 0]))
        rest //= shape[-1]
    shape.append(d.one(rest, -1))
    return L.Reshape(tuple(shape))


def permute(d, x):
    order = list(range(1, len(x.shape)))
    d.rng.shuffle(order)
    return L.Permute(tuple(order))


def repeat_vector(d, x):
    return L.RepeatVector(d.int(2, 4)) if len(x.shape) == 2 else None


def pad_or_crop(d, x):
    rank = spatial(x)
    if not rank:
        return None
    first = rank > 1 and d.maybe(0.15)  # channels_first: the axes are others
    sizes = x.shape[2:] if first else x.shape[1:-1]
    more = {'data_format': 'channels_first'} if first else {}
    if d.maybe(0.5) and min(sizes) >= 4:
        amount = tuple((d.int(0, 1), d.int(0, 2)) for _ in range(rank))
        return layer('Cropping%dD', rank, amount if rank > 1 else amount[0], **more)
    amount = tuple((d.int(0, 2), d.int(0, 2)) for _ in range(rank))
    return layer('ZeroPadding%dD', rank, amount if rank > 1 else amount[0], **more)


def resize(d, x):
    rank = spatial(x)
    if rank != 2:
        return rank and layer('UpSampling%dD', rank, d.int(1, 2))
    mode = d.one('nearest', 'bilinear', 'bicubic', 'lanczos3', 'lanczos5')
    smooth = d.one('bilinear', 'bicubic', 'lanczos3')
    height, width = d.int(2, 9), d.int(2, 9)
    return d.one(lambda: L.UpSampling2D((d.int(1, 3), d.int(1, 3)), interpolation=mode),
                 lambda: L.UpSampling2D(2, data_format='channels_first'),
                 lambda: L.Resizing(height, width, interpolation=mode),
                 lambda: L.Resizing(height, width, interpolation=smooth, antialias=True),
                 lambda: L.Resizing(height, width, crop_to_aspect_ratio=True),
                 lambda: L.Resizing(height, width, pad_to_aspect_ratio=True, fill_value=d.number()),
                 lambda: L.CenterCrop(d.int(1, x.shape[1]), d.int(1, x.shape[2])),
                 lambda: L.CenterCrop(x.shape[1] + 1, x.shape[2] + 2))()


def auto_contrast(d, x):
    return L.AutoContrast(value_range=(0, 1)) if len(x.shape) == 4 and x.shape[-1] == 3 else None


# ---- convolution and pooling ----

def conv(d, x):
    rank = spatial(x)
    if not rank:
        return None
    groups = d.one(*[g for g in (1, 1, 2, 3) if x.shape[-1] % g == 0])
    padding = d.one('valid', 'same', 'causal') if rank == 1 else d.one('valid', 'same')
    more, kernel = {}, kernel_of(d, x)
    if d.maybe(0.3) and padding != 'valid':
        more['dilation_rate'] = tuple(d.int(1, 3) for _ in range(rank))
    else:
        more['strides'] = tuple(d.int(1, 2) for _ in range(rank))
    return layer('Conv%dD', rank, groups * d.int(1, 4), kernel, padding=padding, groups=groups,
                 activation=d.activation(), use_bias=d.maybe(0.7), **more)


def conv_first(d, x):
    """channels_first"""
    rank = len(x.shape) - 2
    if not 1 <= rank <= 3 or min(x.shape[2:]) < 3:
        return None
    more = {'data_format': 'channels_first'}
    padding = d.one('valid', 'same')
    some = [lambda: layer('Conv%dD', rank, d.int(1, 4), 3, padding=padding, strides=d.int(1, 2), **more),
            lambda: layer('MaxPooling%dD', rank, 2, padding=padding, **more),
            lambda: layer('AveragePooling%dD', rank, 2, strides=1, padding=padding, **more),
            lambda: layer('Global%sPooling%%dD' % d.one('Average', 'Max'), rank, keepdims=d.maybe(0.3), **more),
            lambda: layer('Conv%dDTranspose', rank, d.int(1, 3), 2, strides=2, padding=padding, **more)]
    if rank < 3:
        some += [lambda: layer('DepthwiseConv%dD', rank, 3, padding=padding, depth_multiplier=d.int(1, 2), **more),
                 lambda: layer('SeparableConv%dD', rank, d.int(1, 3), 3, padding=padding, **more)]
    return d.one(*some)()


def conv_transpose(d, x):
    rank = spatial(x)
    if not rank:
        return None
    stride, more = d.int(1, 3), {}
    if stride > 1 and d.maybe(0.3):
        more['output_padding'] = d.int(0, stride - 1)
    elif stride == 1 and d.maybe(0.3):
        more['dilation_rate'] = 2
    return layer('Conv%dDTranspose', rank, d.int(1, 4), d.int(max(1, stride - 1), 4), strides=stride,
                 padding=d.one('valid', 'same'), activation=d.activation(), use_bias=d.maybe(0.7), **more)


def depthwise(d, x):
    rank = spatial(x)
    if rank not in (1, 2):
        return None
    padding, multiplier = d.one('valid', 'same'), d.int(1, 3)
    kernel = min(kernel_of(d, x))
    how = {'dilation_rate': 2} if padding == 'same' and d.maybe(0.3) else {'strides': d.int(1, 2)}
    if d.maybe(0.5):
        return layer('DepthwiseConv%dD', rank, kernel, padding=padding, depth_multiplier=multiplier,
                     activation=d.activation(), use_bias=d.maybe(0.7), **how)
    return layer('SeparableConv%dD', rank, d.int(1, 5), kernel, padding=padding, depth_multiplier=multiplier,
                 activation=d.activation(), use_bias=d.maybe(0.7), **how)


def pool(d, x):
    rank = spatial(x)
    return rank and layer('%sPooling%%dD' % d.one('Max', 'Average'), rank, kernel_of(d, x), strides=d.one(None, 1, 2),
                          padding=d.one('valid', 'same'))


def global_pool(d, x):
    rank = spatial(x)
    return rank and layer('Global%sPooling%%dD' % d.one('Max', 'Average'), rank, keepdims=d.maybe(0.3))


def adaptive_pool(d, x):
    rank = spatial(x)
    return rank and layer('Adaptive%sPooling%%dD' % d.one('Max', 'Average'), rank,
                          tuple(d.int(1, n) for n in x.shape[1:-1]))


# ---- recurrent ----

def cell_arguments(d, kind):
    more = {'use_bias': d.maybe(0.8)}
    if d.maybe(0.3):
        more['activation'] = d.one('tanh', 'relu', 'sigmoid', 'softsign')
    if kind != 'SimpleRNN' and d.maybe(0.3):
        more['recurrent_activation'] = d.one('sigmoid', 'hard_sigmoid')
    if kind == 'GRU':
        more['reset_after'] = d.maybe(0.6)
    if d.maybe(0.1):
        more.update(dropout=0.2, recurrent_dropout=0.1)
    return more


def cell(d):
    kind = d.one('SimpleRNN', 'GRU', 'LSTM')
    return getattr(L, kind + 'Cell')(d.int(1, 5), **cell_arguments(d, kind))


def sequence(x):
    """What a recurrent layer takes."""
    return len(x.shape) == 3 and 1 <= x.shape[1] <= 12


def recurrent(d, x):
    if not sequence(x):
        return None
    kind, units, sequences = d.one('SimpleRNN', 'GRU', 'LSTM'), d.int(1, 6), d.maybe(0.6)
    more = cell_arguments(d, kind)
    bidirectional = d.maybe(0.4)
    if not bidirectional and d.maybe(0.3):
        more['go_backwards'] = True
    if d.maybe(0.1):
        more['zero_output_for_mask'] = True
    made = getattr(L, kind)(units, return_sequences=sequences, return_state=d.maybe(0.15), unroll=d.maybe(0.2), **more)
    if bidirectional:
        other = None
        if d.maybe(0.2) and not made.return_state:  # another layer for the way back
            other = L.GRU(units, return_sequences=sequences, go_backwards=True)
        return L.Bidirectional(made, backward_layer=other, merge_mode=d.one('concat', 'sum', 'mul', 'ave', None))
    return made


def cells(d, x):
    """RNN around a cell, or several one on the other."""
    if not sequence(x):
        return None
    inner = cell(d) if d.maybe(0.5) else [cell(d) for _ in range(d.int(2, 3))]
    made = L.RNN(inner, return_sequences=d.maybe(0.6), go_backwards=d.maybe(0.2))
    return L.Bidirectional(made) if d.maybe(0.2) else made


def conv_lstm(d, x):
    rank = len(x.shape) - 3
    if rank not in (1, 2, 3) or min(x.shape[2:-1]) < 2 or x.shape[1] > 5:
        return None
    padding = d.one('valid', 'same')
    how = {'dilation_rate': 2} if padding == 'same' and d.maybe(0.2) else {'strides': d.int(1, 2)}
    return layer('ConvLSTM%dD', rank, d.int(1, 3), 2, padding=padding, return_sequences=d.maybe(0.5),
                 go_backwards=d.maybe(0.2), use_bias=d.maybe(0.8), **how)


def time_distributed(d, x):
    if len(x.shape) < 3:
        return None
    inner = [lambda: L.Dense(d.int(1, 5), activation=d.activation()), lambda: L.Activation(d.one(*SMOOTH)),
             lambda: L.LayerNormalization(epsilon=0.01), lambda: L.BatchNormalization()]
    if len(x.shape) == 5 and min(x.shape[2:4]) >= 3:
        inner += [lambda: L.Conv2D(d.int(1, 3), 3, padding=d.one('same', 'valid')), lambda: L.MaxPooling2D(2),
                  lambda: L.Flatten(), lambda: L.GlobalAveragePooling2D(), lambda: L.DepthwiseConv2D(2)]
    if len(x.shape) == 4:
        inner += [lambda: L.LSTM(d.int(1, 3)), lambda: L.Permute((2, 1)), lambda: L.Flatten()]
        if x.shape[2] >= 3:
            inner += [lambda: L.Conv1D(d.int(1, 3), 3, padding=d.one('same', 'valid')), lambda: L.AveragePooling1D(2)]
    inner.append(lambda: keras.Sequential([L.Input(tuple(x.shape[2:])), L.Dense(d.int(1, 4)), L.ReLU()]))
    return L.TimeDistributed(d.one(*inner)())


UNARY = (dense, dense, einsum_dense, activation, activation_layer, batch_norm, layer_norm, other_norm, affine,
         spectral_norm, quiet, flatten, reshape, permute, repeat_vector, pad_or_crop, resize, auto_contrast, conv, conv,
         conv, conv_first, conv_transpose, depthwise, pool, global_pool, adaptive_pool, recurrent, recurrent, cells,
         conv_lstm, time_distributed)
