"""Op nodes of Keras 3 with random arguments: functions (draw, x) -> tensor, several, or None if x does not suit."""
import numpy as np

from random_draw import axes_of, axis_of, divisor_of, keras, ops, size_of, spatial


def constant(values):
    return np.array(values, keras.config.floatx())


def arithmetic(d, x):
    return d.one(lambda: x * d.number() + d.number(), lambda: d.number() - x, lambda: x / (abs(x) + 1.),
                 lambda: d.number() / (ops.square(x) + 1.), lambda: ops.maximum(x, d.number()),
                 lambda: ops.minimum(d.number(), x), lambda: ops.clip(x, -1., d.number(0, 2)),
                 lambda: ops.power(ops.abs(x) + 0.5, d.number(0.5, 2)), lambda: (abs(x) + 0.5) ** 1.5,
                 lambda: ops.where(x > 0., x, d.number(0, 0.5) * x),
                 lambda: ops.arctan2(x, ops.square(x) + 1.), lambda: ops.divide(x, ops.exp(-abs(x)) + 1.),
                 lambda: x * constant(d.numbers(x.shape[-1])), lambda: x + constant(d.numbers(x.shape[-1])),
                 lambda: ops.hypot(x, ops.square(x) + 0.5), lambda: ops.logaddexp(x, ops.tanh(x)),
                 lambda: ops.logaddexp2(x, constant(d.numbers(x.shape[-1]))), lambda: ops.fmax(x, ops.sin(x)),
                 lambda: ops.fmin(x, constant(d.numbers(x.shape[-1]))), lambda: ops.ldexp(x, d.int(-2, 2)),
                 lambda: ops.select([x > 1e9, x > -1e9], [-x, x + 1.], 0.))()


def function(d, x):
    return d.one(lambda: ops.sqrt(ops.square(x) + 0.5), lambda: ops.exp(-abs(x)), lambda: ops.log(abs(x) + 1.),
                 lambda: ops.log1p(ops.square(x)), lambda: ops.tanh(x), lambda: ops.sin(x), lambda: ops.cos(x),
                 lambda: ops.rsqrt(ops.square(x) + 1.), lambda: ops.erf(x), lambda: ops.negative(x),
                 lambda: ops.expm1(ops.minimum(x, 1.)), lambda: ops.reciprocal(ops.square(x) + 1.),
                 lambda: ops.arctan(x), lambda: ops.arcsinh(x), lambda: ops.sinh(ops.clip(x, -2., 2.)),
                 lambda: ops.cosh(ops.tanh(x)), lambda: ops.arcsin(ops.tanh(x) * 0.9), lambda: ops.arctanh(ops.sin(x) * 0.8),
                 lambda: ops.arccos(ops.sin(x) * 0.9), lambda: ops.arccosh(abs(x) + 1.5), lambda: ops.tan(ops.tanh(x)),
                 lambda: ops.log2(abs(x) + 1.), lambda: ops.log10(abs(x) + 1.), lambda: ops.stop_gradient(x),
                 lambda: ops.exp2(ops.minimum(x, 2.)), lambda: ops.cbrt(abs(x) + 0.2), lambda: ops.sinc(x),
                 lambda: ops.erfc(x), lambda: ops.deg2rad(x * 30.), lambda: ops.rad2deg(x) / 50., lambda: ops.fabs(x),
                 lambda: ops.nan_to_num(x), lambda: ops.convert_to_tensor(x), lambda: ops.copy(x), lambda: ops.conj(x),
                 lambda: ops.real(x), lambda: ops.cast(x, keras.config.floatx()),
                 lambda: ops.saturate_cast(x, keras.config.floatx()), lambda: ops.identity(x))()


def nn_function(d, x):
    return d.one(lambda: ops.sigmoid(x), lambda: ops.relu(x), lambda: ops.relu6(x), lambda: ops.gelu(x),
                 lambda: ops.gelu(x, approximate=False), lambda: ops.silu(x), lambda: ops.softplus(x),
                 lambda: ops.softmax(x, axis=axis_of(d, x)), lambda: ops.log_softmax(x, axis=axis_of(d, x)),
                 lambda: ops.leaky_relu(x, 0.1), lambda: ops.elu(x, 0.7), lambda: ops.selu(x), lambda: ops.celu(x, 0.8),
                 lambda: ops.hard_sigmoid(x), lambda: ops.hard_silu(x), lambda: ops.hard_tanh(x),
                 lambda: ops.softsign(x), lambda: ops.mish(keras.ops.clip(x, -5., 5.)), lambda: ops.log_sigmoid(x),
                 lambda: ops.soft_shrink(x, 0.3), lambda: ops.tanh_shrink(x), lambda: ops.squareplus(x),
                 lambda: ops.sparse_plus(x), lambda: ops.sparsemax(x), lambda: keras.activations.relu(x, 0.1, 2.),
                 lambda: keras.activations.gelu(x), lambda: keras.activations.mish(x))()


def reduce(d, x):
    keep = d.maybe(0.5)
    axes, axis = axes_of(d, x), axis_of(d, x)
    y = d.one(lambda: ops.mean(x, axes, keepdims=keep), lambda: ops.sum(x, axes, keepdims=keep),
              lambda: ops.max(x, axes, keepdims=keep), lambda: ops.min(x, axes, keepdims=keep),
              lambda: ops.amax(x, axes, keepdims=keep), lambda: ops.var(x, axes, keepdims=keep),
              lambda: ops.logsumexp(x, axis, keepdims=keep), lambda: ops.prod(ops.tanh(x), axis, keepdims=keep),
              lambda: ops.std(x, axes, keepdims=keep) if x.shape[-1] > 2 else ops.mean(x, axes, keepdims=keep),
              lambda: ops.norm(x, axis=(axis,), keepdims=keep), lambda: ops.average(x, axis=axis),
              lambda: list(ops.moments(x, axes if isinstance(axes, list) else [axes], keepdims=keep)),
              lambda: ops.nanmean(x, axis=axis, keepdims=keep), lambda: ops.nansum(x, axis=axis, keepdims=keep),
              lambda: ops.nanmax(x, axis=axis, keepdims=keep), lambda: ops.nanmin(x, axis=axis, keepdims=keep),
              lambda: ops.nanvar(x, axis=axis, keepdims=keep), lambda: ops.ptp(x, axis=axis, keepdims=keep),
              lambda: ops.median(x, axis=axis, keepdims=keep),
              lambda: ops.quantile(x, round(d.number(0.05, 0.95), 2), axis=axis, keepdims=keep),
              lambda: ops.trapezoid(x, dx=0.5, axis=axis))()
    return y


def normalise(d, x):
    last = x.shape[-1]
    return d.one(lambda: ops.normalize(x, axis=axis_of(d, x), order=2),
                 lambda: ops.layer_normalization(x, constant(d.numbers(last)), constant(d.numbers(last)), axis=-1,
                                                 epsilon=0.01),
                 lambda: ops.rms_normalization(x, constant(d.numbers(last)), axis=-1, epsilon=0.01),
                 lambda: ops.batch_normalization(x, constant(d.numbers(last)), constant(d.numbers(last, 0.5, 2)),
                                                 axis=-1, offset=constant(d.numbers(last)),
                                                 scale=constant(d.numbers(last))))()


def index(d, x):
    key, newaxis = [slice(None)], d.maybe(0.15)
    for n in x.shape[1:]:
        start = d.int(0, n - 1)
        key.append(d.one(slice(None), slice(start, d.int(start + 1, n)), slice(None, None, 2), slice(-1 - start, None),
                         slice(None, None, -1), start, start - n))
    if all(isinstance(k, int) for k in key[1:]):
        key[1] = slice(None)
    if d.maybe(0.2):
        key = [Ellipsis, key[-1]]
    if newaxis:
        key.insert(len(key) - 1, None)
    return x[tuple(key)]


def shape(d, x):
    order = list(range(1, len(x.shape)))
    d.rng.shuffle(order)
    axis = d.int(1, len(x.shape) - 1)
    return d.one(lambda: ops.transpose(x, [0] + order), lambda: ops.expand_dims(x, axis),
                 lambda: ops.squeeze(ops.expand_dims(x, axis), axis), lambda: ops.swapaxes(x, axis, -1),
                 lambda: ops.moveaxis(x, axis, -1), lambda: ops.reshape(x, (-1, size_of(x))),
                 lambda: ops.reshape(x, (-1, x.shape[1] * (size_of(x) // x.shape[1]), 1)),
                 lambda: ops.flip(x, axis), lambda: ops.roll(x, d.int(-2, 2), axis),
                 lambda: ops.tile(x, [1] * axis + [2] + [1] * (len(x.shape) - axis - 1)),
                 lambda: ops.repeat(x, 2, axis=axis),
                 lambda: ops.pad(x, [[0, 0]] + [[d.int(0, 1), d.int(0, 1)] for _ in x.shape[1:]]),
                 lambda: ops.pad(x, [[0, 0]] + [[d.int(0, 2), 0] for _ in x.shape[1:]], constant_values=d.number()),
                 lambda: ops.pad(x, [[0, 0]] * axis + [[0, min(2, x.shape[axis] - 1)]] +
                                 [[0, 0]] * (len(x.shape) - axis - 1), mode=d.one('reflect', 'symmetric')),
                 lambda: ops.concatenate([x, x * 2.], axis=axis), lambda: ops.stack([x, -x], axis=axis),
                 lambda: ops.cumsum(x, axis=axis), lambda: ops.cumprod(ops.tanh(x), axis=axis),
                 lambda: ops.take(x, [0, x.shape[axis] - 1], axis=axis),
                 lambda: ops.diff(x, axis=axis) if x.shape[axis] > 1 else None, lambda: ops.hstack([x, -x]),
                 lambda: ops.dstack([x, x * 0.5]), lambda: ops.append(x, ops.tanh(x), axis=axis), lambda: ops.fliplr(x),
                 lambda: ops.nancumsum(x, axis=axis), lambda: ops.tril(x, d.int(-1, 1)) if len(x.shape) > 2 else None,
                 lambda: ops.triu(x, d.int(-1, 1)) if len(x.shape) > 2 else None,
                 lambda: ops.diagonal(x, axis1=1, axis2=2) if len(x.shape) > 3 else None,
                 lambda: ops.linspace(x, x * 2. + 1., d.int(2, 4), axis=axis),
                 lambda: ops.extract_sequences(x, min(2, x.shape[-1]), 1),
                 lambda: ops.slice_update(x, [0] * len(x.shape), ops.tanh(x)))()


def several(d, x):
    """Ops with more than one output."""
    axis = d.int(1, len(x.shape) - 1)
    n = x.shape[axis]
    return d.one(lambda: list(ops.split(x, divisor_of(d, n), axis=axis)),
                 lambda: list(ops.split(x, [d.int(1, n - 1)], axis=axis)) if n > 1 else None,
                 lambda: list(ops.unstack(x, axis=axis))[:3] if n <= 8 and len(x.shape) > 2 else None,
                 lambda: ops.top_k(x, d.int(1, x.shape[-1]))[0], lambda: ops.sort(x, axis=axis),
                 lambda: list(ops.moments(x, [axis])),
                 lambda: list(ops.array_split(x, 2, axis=axis)) if n > 1 else None)()


def product(d, x):
    last = x.shape[-1]
    if len(x.shape) == 3:
        return d.one(lambda: ops.matmul(x, ops.transpose(x, [0, 2, 1])) / float(last),
                     lambda: ops.einsum('abc,adc->abd', x, x) / float(last),
                     lambda: ops.einsum('abc,abd->acd', x, ops.tanh(x)) / float(x.shape[1]),
                     lambda: ops.einsum('abc,abc->ab', x, x) / float(last),
                     lambda: ops.einsum('abc->acb', x),
                     lambda: ops.cross(x, ops.sin(x)) if last == 3 else None,
                     lambda: ops.cdist(x, ops.tanh(x) + 3.))()
    weight = constant([d.numbers(3) for _ in range(last)])
    return d.one(lambda: ops.matmul(x, weight), lambda: ops.dot(x, weight), lambda: ops.tensordot(x, weight, axes=1),
                 lambda: ops.einsum('...a,ab->...b', x, weight), lambda: ops.inner(x, weight.T))()


def picture(d, x):
    """Ops with windows."""
    rank = spatial(x)
    if rank != 2 or min(x.shape[1:3]) < 3:
        return None
    channels = x.shape[-1]
    kernel = constant(d.numbers(9 * channels * 2, -0.5, 0.5)).reshape(3, 3, channels, 2)
    padding = d.one('same', 'valid')
    return d.one(lambda: ops.max_pool(x, 2, 2, padding=padding), lambda: ops.average_pool(x, 3, strides=1, padding=padding),
                 lambda: ops.conv(x, kernel, strides=d.int(1, 2), padding=padding),
                 lambda: ops.depthwise_conv(x, kernel, padding=padding),
                 lambda: ops.image.resize(x, (d.int(2, 9), d.int(2, 9)), interpolation=d.one('bilinear', 'bicubic')),
                 lambda: ops.image.extract_patches(x, 2, padding=padding),
                 lambda: ops.adaptive_average_pool(x, d.int(1, 3)), lambda: ops.adaptive_max_pool(x, (d.int(1, 3), 2)))()


OPS = (arithmetic, arithmetic, arithmetic, function, function, nn_function, reduce, normalise, index, shape, shape,
       several, product, picture)


# ---- what jumps: only of inputs, which every precision has alike ----

def jump(d, x):
    """Ops whose answers are integers or truths, as floating point numbers."""
    floating = keras.config.floatx()
    axis = axis_of(d, x)
    bits = d.one(lambda: x > d.number(), lambda: x <= 0.3, lambda: ops.logical_and(x > -0.5, x < 0.5),
                 lambda: ops.logical_or(x > 0.7, ops.logical_not(x > -0.7)), lambda: ops.not_equal(x, 0.),
                 lambda: ops.logical_xor(x > 0.2, x > -0.2), lambda: ops.any(x > 1., axis=axis, keepdims=True),
                 lambda: ops.all(x > -1., axis=axis, keepdims=True))
    return d.one(lambda: ops.cast(bits(), floating), lambda: ops.where(bits(), x, -x), lambda: ops.floor(x * 2.),
                 lambda: ops.ceil(x * 2.), lambda: ops.round(x), lambda: ops.sign(x), lambda: ops.trunc(x * 2.),
                 lambda: ops.mod(x, 0.5), lambda: ops.floor_divide(x, 0.5),
                 lambda: ops.cast(ops.argsort(x, axis=axis), floating),
                 lambda: ops.one_hot(ops.argmax(x, axis=-1), x.shape[-1]),
                 lambda: ops.take_along_axis(x, ops.argsort(x, axis=axis), axis=axis),
                 lambda: ops.zeros_like(x) + ops.ones_like(x) * x, lambda: ops.heaviside(x, ops.sin(x)),
                 lambda: ops.cast(ops.isclose(ops.round(x), constant(d.numbers(x.shape[-1]))), floating),
                 lambda: ops.cast(ops.isfinite(x), floating) * x, lambda: ops.fmod(x, 0.5) * 0. + x,
                 lambda: ops.cast(ops.digitize(x, constant(sorted(d.numbers(3)))), floating),
                 lambda: ops.cast(ops.bitwise_and(ops.cast(x * 8., 'int32'), 5), floating),
                 lambda: ops.cast(ops.bitwise_xor(ops.cast(x * 8., 'int32'), d.int(-9, 9)), floating),
                 lambda: ops.cast(ops.isin(ops.round(x), [0, 1]), floating),
                 lambda: ops.cast(ops.count_nonzero(ops.relu(x), axis=axis), floating),
                 lambda: ops.cast(ops.nanargmax(x, axis=axis), floating),
                 lambda: ops.cast(ops.signbit(x), floating))()
