"""Random functional graphs: layers and op nodes with random options, joined at random, from a seed.

A graph is named random/SEED (random/SEED-N for its first N steps: how a failure is made smaller). Build it twice
and it is the same. Only what is continuous is drawn, so that a rounding error stays one; a graph that is badly
conditioned shows in Keras's own float32 error, and its tolerance grows with that.
"""
import random

import numpy as np

from oracle import Case, keras

L = keras.layers
ops = getattr(keras, 'ops', None)
TOLERANCE = 1e-5
CONDITION = 5       # times Keras's own float32 error
ELEMENTS_MAX = 3000  # of a tensor, per sample
BATCH = 2

SMOOTH = ('celu elu exponential gelu hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish relu relu6 '
          'selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink'
          ).split()


def size_of(x):
    return int(np.prod(x.shape[1:]))


class Draw:
    """The random choices of one graph, and the tensors made so far."""

    def __init__(self, seed, steps=None):
        self.rng = random.Random(seed)
        self.steps = self.rng.randint(3, 12)
        if steps is not None:
            self.steps = min(self.steps, steps)
        self.tensors, self.uses = [], {}

    def maybe(self, share):
        return self.rng.random() < share

    def one(self, *choices):
        return self.rng.choice(choices)

    def int(self, low, high):
        return self.rng.randint(low, high)

    def number(self, low=-1.5, high=1.5):
        return round(self.rng.uniform(low, high), 3)

    def activation(self, share=0.6):
        return self.one(*SMOOTH) if self.maybe(share) else None

    def keep(self, x):
        self.tensors.append(x)
        self.uses.setdefault(id(x), 0)

    def use(self, x):
        self.uses[id(x)] = self.uses.get(id(x), 0) + 1
        return x

    def pick(self, fits=lambda x: True):
        """A tensor, one that nobody uses yet rather than another; None if none fits."""
        fitting = [x for x in self.tensors if fits(x)]
        if not fitting:
            return None
        fresh = [x for x in fitting if not self.uses[id(x)]]
        return self.rng.choice(fresh if fresh and self.maybe(0.75) else fitting)


# ---- layers of one input: functions (draw, x) -> layer or None if x does not suit ----

def axis_of(d, x):
    axis = d.int(1, len(x.shape) - 1)
    return axis if d.maybe(0.5) else axis - len(x.shape)


def axes_of(d, x):
    """One axis or several next to each other."""
    first = d.int(1, len(x.shape) - 1)
    last = d.int(first, len(x.shape) - 1)
    return first if first == last else list(range(first, last + 1))


def dense(d, x):
    return L.Dense(d.int(1, 9), activation=d.activation(), use_bias=d.maybe(0.8))


def einsum_dense(d, x):
    letters = 'bcdefg'[:len(x.shape) - 1]
    last = letters[-1]
    if len(letters) > 1 and d.maybe(0.4):  # two new axes in the place of the last
        return L.EinsumDense('a%s,%sxy->a%sxy' % (letters, last, letters[:-1]),
                             output_shape=tuple(x.shape[1:-1]) + (d.int(1, 4), d.int(1, 4)), bias_axes='y')
    return L.EinsumDense('...%s,%sx->...x' % (last, last), output_shape=(d.int(1, 6),), bias_axes=d.one('x', None))


def activation(d, x):
    return L.Activation(d.one(*SMOOTH))


def activation_layer(d, x):
    return d.one(lambda: L.LeakyReLU(d.number(0, 0.5)), lambda: L.ELU(d.number(0.2, 1.5)),
                 lambda: L.ReLU(max_value=d.one(None, 1.5, 6.), negative_slope=d.one(0., 0.1),
                                threshold=d.one(0., 0.)),
                 lambda: L.Softmax(axis=axis_of(d, x)),
                 lambda: L.PReLU(shared_axes=d.one(None, [d.int(1, len(x.shape) - 1)])))()


def batch_norm(d, x):
    return L.BatchNormalization(axis=axis_of(d, x), scale=d.maybe(0.7), center=d.maybe(0.7),
                                epsilon=d.one(1e-3, 1e-2))


def layer_norm(d, x):
    return L.LayerNormalization(axis=axes_of(d, x), scale=d.maybe(0.7), center=d.maybe(0.7), epsilon=0.01)


def other_norm(d, x):
    groups = [g for g in (1, 2, 3, 4) if x.shape[-1] % g == 0]
    return d.one(lambda: L.UnitNormalization(axis=axis_of(d, x)), lambda: L.RMSNormalization(epsilon=0.01),
                 lambda: L.GroupNormalization(d.one(*groups), epsilon=0.01),
                 lambda: L.Normalization(mean=d.number(), variance=d.number(0.5, 2), axis=None, invert=d.maybe(0.2)),
                 lambda: L.Rescaling(d.number(), d.number()))()


def quiet(d, x):
    return d.one(lambda: L.Dropout(0.3), lambda: L.GaussianNoise(0.1), lambda: L.ActivityRegularization(0.1),
                 lambda: L.Identity())()


def flatten(d, x):
    return L.Flatten()


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


def spatial(x):
    """1, 2 or 3 for what a convolution takes, else 0."""
    rank = len(x.shape) - 2
    return rank if 1 <= rank <= 3 and min(x.shape[1:-1]) >= 2 else 0


def kernel_of(d, x, least=1, first=1):
    return tuple(d.int(least, min(3, n)) for n in x.shape[first:first + len(x.shape) - 2])


def conv(d, x):
    rank = spatial(x)
    if not rank:
        return None
    groups = d.one(*[g for g in (1, 1, 2, 3) if x.shape[-1] % g == 0])
    padding = d.one('valid', 'same', 'causal') if rank == 1 else d.one('valid', 'same')
    more, kernel = {}, kernel_of(d, x)
    if d.maybe(0.3) and padding != 'valid':
        more['dilation_rate'] = d.int(1, 3)
    else:
        more['strides'] = d.int(1, 2)
    return getattr(L, 'Conv%dD' % rank)(groups * d.int(1, 4), kernel, padding=padding, groups=groups,
                                        activation=d.activation(), use_bias=d.maybe(0.7), **more)


def conv_first(d, x):
    """channels_first"""
    if len(x.shape) != 4 or min(x.shape[2:]) < 3:
        return None
    return d.one(lambda: L.Conv2D(d.int(1, 4), 3, padding=d.one('valid', 'same'), data_format='channels_first'),
                 lambda: L.MaxPooling2D(2, data_format='channels_first'),
                 lambda: L.GlobalAveragePooling2D(data_format='channels_first'))()


def conv_transpose(d, x):
    rank = spatial(x)
    return rank and getattr(L, 'Conv%dDTranspose' % rank)(d.int(1, 4), d.int(1, 3), strides=d.int(1, 2),
                                                          padding=d.one('valid', 'same'), activation=d.activation())


def depthwise(d, x):
    rank = spatial(x)
    if rank not in (1, 2):
        return None
    padding, multiplier = d.one('valid', 'same'), d.int(1, 3)
    kernel = min(kernel_of(d, x))
    if d.maybe(0.5):
        return getattr(L, 'DepthwiseConv%dD' % rank)(kernel, strides=d.int(1, 2), padding=padding,
                                                     depth_multiplier=multiplier, activation=d.activation())
    return getattr(L, 'SeparableConv%dD' % rank)(d.int(1, 5), kernel, padding=padding, depth_multiplier=multiplier,
                                                 activation=d.activation())


def pool(d, x):
    rank = spatial(x)
    return rank and getattr(L, '%sPooling%dD' % (d.one('Max', 'Average'), rank))(
        kernel_of(d, x), strides=d.one(None, 1, 2), padding=d.one('valid', 'same'))


def global_pool(d, x):
    rank = spatial(x)
    return rank and getattr(L, 'Global%sPooling%dD' % (d.one('Max', 'Average'), rank))(keepdims=d.maybe(0.3))


def pad_or_crop(d, x):
    rank = spatial(x)
    if not rank:
        return None
    if d.maybe(0.5) and min(x.shape[1:-1]) >= 4:
        amount = tuple((d.int(0, 1), d.int(0, 2)) for _ in range(rank))
        return getattr(L, 'Cropping%dD' % rank)(amount if rank > 1 else amount[0])
    amount = tuple((d.int(0, 2), d.int(0, 2)) for _ in range(rank))
    return getattr(L, 'ZeroPadding%dD' % rank)(amount if rank > 1 else amount[0])


def upsample(d, x):
    rank = spatial(x)
    if rank == 2:
        return d.one(lambda: L.UpSampling2D(d.int(1, 3), interpolation=d.one('nearest', 'bilinear', 'bicubic')),
                     lambda: L.Resizing(d.int(2, 9), d.int(2, 9), interpolation=d.one('bilinear', 'bicubic')))()
    return rank and getattr(L, 'UpSampling%dD' % rank)(d.int(1, 2))


def cell_arguments(d, gated):
    more = {'use_bias': d.maybe(0.8)}
    if d.maybe(0.3):
        more['activation'] = d.one('tanh', 'relu', 'sigmoid', 'softsign')
    if gated and d.maybe(0.3):
        more['recurrent_activation'] = d.one('sigmoid', 'hard_sigmoid')
    return more


def recurrent(d, x):
    if len(x.shape) != 3 or x.shape[1] > 12:
        return None
    kind, units, sequences = d.one('SimpleRNN', 'GRU', 'LSTM'), d.int(1, 6), d.maybe(0.6)
    more = cell_arguments(d, kind != 'SimpleRNN')
    if kind == 'GRU':
        more['reset_after'] = d.maybe(0.6)
    bidirectional = d.maybe(0.4)
    if not bidirectional and d.maybe(0.3):
        more['go_backwards'] = True
    layer = getattr(L, kind)(units, return_sequences=sequences, unroll=True, **more)
    if bidirectional:
        return L.Bidirectional(layer, merge_mode=d.one('concat', 'sum', 'mul', 'ave'))
    return layer


def conv_lstm(d, x):
    rank = len(x.shape) - 3
    if rank not in (1, 2) or min(x.shape[2:-1]) < 3 or x.shape[1] > 5:
        return None
    return getattr(L, 'ConvLSTM%dD' % rank)(d.int(1, 3), d.int(2, 3), padding=d.one('valid', 'same'),
                                            return_sequences=d.maybe(0.5))


def time_distributed(d, x):
    if len(x.shape) < 3:
        return None
    inner = [lambda: L.Dense(d.int(1, 5), activation=d.activation()), lambda: L.Activation(d.one(*SMOOTH)),
             lambda: L.LayerNormalization(epsilon=0.01)]
    if len(x.shape) == 5 and min(x.shape[2:4]) >= 3:
        inner.append(lambda: L.Conv2D(d.int(1, 3), 3, padding=d.one('same', 'valid')))
        inner.append(lambda: L.MaxPooling2D(2))
    if len(x.shape) == 4 and x.shape[2] >= 3:
        inner.append(lambda: L.Conv1D(d.int(1, 3), 3, padding=d.one('same', 'valid')))
    return L.TimeDistributed(d.one(*inner)())


UNARY = (dense, dense, einsum_dense, activation, activation_layer, batch_norm, layer_norm, other_norm, quiet, flatten,
         reshape, permute, repeat_vector, conv, conv, conv, conv_first, conv_transpose, depthwise, pool, global_pool,
         pad_or_crop, upsample, recurrent, recurrent, conv_lstm, time_distributed)


# ---- op nodes: functions (draw, x) -> tensor or None ----

def op_arithmetic(d, x):
    return d.one(lambda: x * d.number() + d.number(), lambda: d.number() - x, lambda: x / (abs(x) + 1.),
                 lambda: d.number() / (ops.square(x) + 1.), lambda: ops.maximum(x, d.number()),
                 lambda: ops.minimum(d.number(), x), lambda: ops.clip(x, -1., d.number(0, 2)),
                 lambda: ops.power(ops.abs(x) + 0.5, d.number(0.5, 2)),
                 lambda: ops.where(x > 0., x, d.number(0, 0.5) * x))()


def op_function(d, x):
    return d.one(lambda: ops.sqrt(ops.square(x) + 0.5), lambda: ops.exp(-abs(x)), lambda: ops.log(abs(x) + 1.),
                 lambda: ops.log1p(ops.square(x)), lambda: ops.tanh(x), lambda: ops.sin(x), lambda: ops.cos(x),
                 lambda: ops.rsqrt(ops.square(x) + 1.), lambda: ops.erf(x), lambda: ops.negative(x),
                 lambda: ops.sigmoid(x), lambda: ops.relu6(x), lambda: ops.gelu(x), lambda: ops.silu(x),
                 lambda: ops.softplus(x), lambda: ops.softmax(x, axis=axis_of(d, x)),
                 lambda: ops.log_softmax(x, axis=axis_of(d, x)), lambda: ops.leaky_relu(x, 0.1),
                 lambda: ops.expm1(ops.minimum(x, 1.)), lambda: ops.reciprocal(ops.square(x) + 1.))()


def op_reduce(d, x):
    kind = d.one(ops.mean, ops.sum, ops.max, ops.min, ops.var, ops.logsumexp)
    y = kind(x, axis=axis_of(d, x) if kind is ops.logsumexp else axes_of(d, x), keepdims=d.maybe(0.5))
    return y if len(y.shape) > 1 else None


def op_slice(d, x):
    key = [slice(None)]
    for n in x.shape[1:]:
        start = d.int(0, n - 1)
        key.append(d.one(slice(None), slice(start, d.int(start + 1, n)), slice(None, None, 2), slice(-1 - start, None),
                         start))
    if all(isinstance(k, int) for k in key[1:]):
        key[1] = slice(None)
    return x[tuple(key)]


def op_shape(d, x):
    order = list(range(1, len(x.shape)))
    d.rng.shuffle(order)
    axis = d.int(1, len(x.shape) - 1)
    return d.one(lambda: ops.transpose(x, [0] + order), lambda: ops.expand_dims(x, axis),
                 lambda: ops.squeeze(ops.expand_dims(x, axis), axis), lambda: ops.swapaxes(x, axis, -1),
                 lambda: ops.moveaxis(x, axis, -1), lambda: ops.reshape(x, (-1, size_of(x))),
                 lambda: ops.flip(x, axis), lambda: ops.roll(x, d.int(-2, 2), axis),
                 lambda: ops.tile(x, [1] * axis + [2] + [1] * (len(x.shape) - axis - 1)),
                 lambda: ops.repeat(x, 2, axis=axis),
                 lambda: ops.pad(x, [[0, 0]] + [[d.int(0, 1), d.int(0, 1)] for _ in x.shape[1:]]),
                 lambda: ops.concatenate([x, x * 2.], axis=axis), lambda: ops.stack([x, -x], axis=axis),
                 lambda: ops.cumsum(x, axis=axis), lambda: ops.take(x, [0, x.shape[axis] - 1], axis=axis),
                 lambda: ops.split(ops.concatenate([x, x], axis=axis), 2, axis=axis)[1])()


OPS = (op_arithmetic, op_arithmetic, op_function, op_function, op_reduce, op_slice, op_shape, op_shape)


# ---- what joins two tensors ----

def merge(d, x):
    """x with a tensor of its shape, with one that broadcasts, or along an axis."""
    other = d.pick(lambda y: y is not x and tuple(y.shape) == tuple(x.shape))
    if other is None:
        other = L.Dense(x.shape[-1], activation=d.activation())(x)
    elif d.maybe(0.25):  # one layer, called twice
        layer = L.Dense(d.int(1, 5), activation=d.activation())
        return L.Add()([layer(x), layer(d.use(other))])
    d.use(other)
    kind = d.one('Add', 'Subtract', 'Multiply', 'Average', 'Maximum', 'Minimum', 'Concatenate')
    if kind == 'Concatenate':
        return L.Concatenate(axis=axis_of(d, x))([x, other])
    if kind != 'Subtract' and d.maybe(0.3):
        return getattr(L, kind)()([x, other, x])
    return getattr(L, kind)()([x, other])


def broadcast(d, x):
    if len(x.shape) < 3:
        return None
    gate = L.Dense(x.shape[-1], activation='sigmoid')(ops.mean(x, axis=list(range(1, len(x.shape) - 1)),
                                                               keepdims=True))
    return L.Multiply()([x, gate]) if d.maybe(0.5) else x * gate


def dot(d, x):
    if len(x.shape) != 3:
        return None
    return d.one(lambda: L.Dot(axes=2, normalize=d.maybe(0.3))([x, L.Dense(x.shape[-1])(x)]),
                 lambda: ops.matmul(x, ops.transpose(x, [0, 2, 1])) / float(x.shape[-1]),
                 lambda: ops.einsum('abc,adc->abd', x, x) / float(x.shape[-1]))()


def attention(d, x):
    if len(x.shape) != 3 or x.shape[1] > 16:
        return None
    other = d.pick(lambda y: len(y.shape) == 3 and y.shape[2] == x.shape[2]) if d.maybe(0.5) else x
    heads = d.int(1, 3)
    if other is not x:
        d.use(other)
    return d.one(lambda: L.MultiHeadAttention(heads, d.int(1, 5), value_dim=d.one(None, None, None, 3), use_bias=d.maybe(0.8))
                 (x, other, use_causal_mask=d.maybe(0.3)),
                 lambda: L.Attention(use_scale=d.maybe(0.5))([x, other]),
                 lambda: L.AdditiveAttention()([x, other]),
                 lambda: L.GroupQueryAttention(head_dim=d.int(1, 4), num_query_heads=2 * heads,
                                               num_key_value_heads=heads)(x, other))()


def states(d, x):
    """A recurrent layer that hands its state to another."""
    if len(x.shape) != 3 or x.shape[1] > 12:
        return None
    units, kind = d.int(1, 4), d.one('GRU', 'LSTM')
    _, *state = getattr(L, kind)(units, return_state=True, return_sequences=True, unroll=True)(x)
    return getattr(L, kind)(units, return_sequences=d.maybe(0.5), unroll=True)(L.Dense(2)(x), initial_state=state)


def nested(d, x):
    """A model of its own, called once or twice."""
    inside = y = L.Input(tuple(x.shape[1:]))
    for _ in range(d.int(1, 3)):
        y = unary(d, y) if d.maybe(0.8) else (op(d, y) if d.maybe(0.5) else y)
    if y is inside or size_of(y) > ELEMENTS_MAX:
        return None
    model = keras.Model(inside, y)
    if d.maybe(0.3):
        model.trainable = False
    elif d.maybe(0.3) and len(model.layers) > 1:
        model.layers[1].trainable = False
    z = model(x)
    return L.Add()([z, model(x * 0.5)]) if d.maybe(0.3) else z


JOINS = (merge, merge, broadcast, dot, attention, attention, states, nested, nested)


def unary(d, x):
    while True:
        layer = d.one(*UNARY)(d, x)
        if layer:
            y = layer(x)
            if 0 < size_of(y) <= ELEMENTS_MAX and 2 <= len(y.shape) <= 5:
                return y


def op(d, x):
    while True:
        y = d.one(*OPS)(d, x)
        if y is not None and 0 < size_of(y) <= ELEMENTS_MAX and 2 <= len(y.shape) <= 5:
            return y


def step(d):
    x = d.pick()
    way = d.rng.random()
    while True:
        y = unary(d, x) if way < 0.6 else op(d, x) if way < 0.75 else d.one(*JOINS)(d, x)
        if y is not None and 0 < size_of(y) <= ELEMENTS_MAX and 2 <= len(y.shape) <= 5:
            break
    if y is not x:
        d.use(x)
        d.keep(y)


SHAPES = [(6,), (11,), (7, 4), (10, 3), (5, 6), (8, 7, 3), (6, 9, 4), (4, 5, 4, 2), (5, 4, 6, 3)]


def inputs_of(d):
    """Inputs and what draws them: mostly numbers, sometimes words (with a mask) or padded sequences."""
    xs, specs = [], []
    for _ in range(d.one(1, 1, 1, 2, 3)):
        way = d.rng.random()
        if way < 0.12:
            length, words = d.int(4, 8), d.int(5, 20)
            x = L.Input((length,), dtype='int32')
            xs.append(x)
            specs.append(('index', (BATCH, length), words))
            d.keep(L.Embedding(words, d.int(1, 6), mask_zero=d.maybe(0.5))(x))
        elif way < 0.2:
            shape = (d.int(4, 8), d.int(1, 5))
            x = L.Input(shape)
            xs.append(x)
            specs.append(('padded', (BATCH,) + shape))
            d.keep(L.Masking()(x))
        else:
            shape = d.one(*SHAPES)
            x = L.Input(shape)
            xs.append(x)
            specs.append(('normal', (BATCH,) + shape))
            d.keep(x)
    return xs, specs


def build(seed, steps=None):
    """(model, what draws its inputs)"""
    d = Draw(seed, steps)
    xs, specs = inputs_of(d)
    for _ in range(d.steps):
        step(d)
    ends = [x for x in d.tensors if not d.uses[id(x)] and all(x is not i for i in xs)][:4]
    if not ends:
        ends = [L.Activation('tanh')(d.tensors[-1])]
    outputs = ends[0] if len(ends) == 1 else {'out_%s' % c: y for c, y in zip('dbca', ends)} if d.maybe(0.3) else ends
    return keras.Model(xs if len(xs) > 1 else xs[0], outputs), specs


def case(seed, steps=None):
    keras.backend.clear_session()
    _, specs = build(seed, steps)
    name = 'random/%d' % seed + ('' if steps is None else '-%d' % steps)
    return Case(name, lambda: build(seed, steps)[0], specs, TOLERANCE)
