"""The layer matrix: op nodes of Keras 3 that are made of several of ours."""
import numpy as np

from layers_matrix import EXACT, RANDOM, TOGETHER, keras, many

ops = getattr(keras, 'ops', None)
ONE, TWO = [(5, 6)], [(5, 6), (5, 6)]


def lacks():
    """Infinite and missing numbers, made in the model: 0 / 0 where x is small, 1 / 0 where it is large."""
    return lambda x: x / ops.where(abs(x) < 0.3, 0., 1.) * ops.where(abs(x) < 0.1, 0., 1.)


def case(name, shapes, join, tolerance=RANDOM, **more):
    if ops:
        many('ops/' + name, shapes, join, tolerance, **more)


def floats(x):
    return ops.cast(x, keras.config.floatx())


def numbers():
    case('cbrt', ONE, lambda x: ops.cbrt(x))
    case('exp2', ONE, lambda x: ops.exp2(x))
    case('hypot', TWO, lambda a, b: ops.hypot(a, b))
    case('logaddexp', TWO, lambda a, b: ops.logaddexp(a * 20., b * 20.))
    case('logaddexp2', TWO, lambda a, b: ops.logaddexp2(a * 20., b * 20.))
    case('heaviside', ONE, lambda x: ops.heaviside(ops.relu(x) - ops.relu(x - 0.5), x), EXACT)
    case('sinc', ONE, lambda x: ops.sinc(ops.relu(x)))
    case('deg2rad', ONE, lambda x: [ops.deg2rad(x * 90.), ops.rad2deg(x)])
    case('erfc', ONE, lambda x: ops.erfc(x))
    case('fmod', TWO, lambda a, b: ops.fmod(ops.round(a * 10.), ops.round(b) + 7.))
    case('ldexp', ONE, lambda x: ops.ldexp(x, 3))
    case('angle', ONE, lambda x: [ops.angle(x), ops.real(x), ops.conj(x), ops.imag(x)])
    case('signbit', ONE, lambda x: [floats(ops.signbit(x)), floats(ops.isreal(x))], EXACT)
    case('fabs', ONE, lambda x: ops.fabs(x), EXACT)
    case('isclose', TWO, lambda a, b: floats(ops.isclose(ops.round(a), ops.round(b) + 1e-6)), EXACT)
    case('isclose-tolerance', TWO, lambda a, b: floats(ops.isclose(a, b, rtol=0.3, atol=0.2)), EXACT)
    case('allclose', TWO, lambda a, b: floats(ops.allclose(a, b)) + a * 0., EXACT, ways=TOGETHER)
    case('copy', ONE, lambda x: ops.copy(x) + ops.convert_to_tensor(x), EXACT)
    case('convert-type', ONE, lambda x: floats(ops.convert_to_tensor(x * 3., dtype='int32')), EXACT)
    case('saturate-cast', ONE, lambda x: floats(ops.saturate_cast(x * 200., 'uint8')), EXACT)
    case('select', TWO, lambda a, b: ops.select([a > 0.5, b > 0.], [a, b * 2.], -1.), EXACT)
    case('threshold', ONE, lambda x: ops.threshold(x, 0.4, -2.), EXACT)


def wholes():
    """Whole numbers and their bits."""
    kind = dict(kinds=['index'] * 2, bound=1000)
    for name in ('and', 'or', 'xor'):
        case('bitwise-' + name, TWO, lambda a, b, n=name: getattr(ops, 'bitwise_' + n)(a - 500, b), EXACT, **kind)
    case('bitwise-not', ONE, lambda x: [ops.bitwise_not(x), ops.bitwise_invert(x - 500)], EXACT, kinds=['index'],
         bound=1000)
    case('shift', ONE, lambda x: [ops.left_shift(x, 3), ops.right_shift(x - 500, 2)], EXACT, kinds=['index'], bound=1000)
    case('multi-hot', [(6,)], lambda x: ops.multi_hot(x, 9), EXACT, kinds=['index'], bound=9)
    case('in-top-k', [(7,)], lambda x: floats(ops.in_top_k(ops.cast(ops.round(abs(x[:, 0])), 'int32'), x, 3)), EXACT)
    case('isin', ONE, lambda x: floats(ops.isin(x, [1, 4, 5])), EXACT, kinds=['index'], bound=9)
    case('digitize', ONE, lambda x: ops.digitize(x, np.array([-1., 0., 0.5], 'float32')), EXACT)
    case('searchsorted', ONE, lambda x: ops.searchsorted(np.array([-1., 0., 0.5]), x[0, 0, :]) + x[:, 0, :] * 0.,
         EXACT, ways=TOGETHER)


def missing():
    """Statistics that leave out what is no number."""
    hole = lacks()
    case('nan-to-num', ONE, lambda x: ops.nan_to_num(hole(x), nan=2., posinf=3., neginf=-4.), EXACT)
    case('isinf', ONE, lambda x: [floats(f(hole(x))) for f in (ops.isinf, ops.isnan, ops.isfinite, ops.isposinf,
                                                               ops.isneginf)], EXACT)
    for name in ('nanmean', 'nansum', 'nanmax', 'nanmin', 'nanvar', 'nanstd', 'nanprod'):
        case(name, [(5, 9)], lambda x, n=name: getattr(ops, n)(ops.where(x > 1.2, float('nan'), x), axis=2))
        case(name + '-keep', [(5, 9)], lambda x, n=name: getattr(ops, n)(ops.where(x > 1.2, float('nan'), x), axis=(1, 2),
                                                                         keepdims=True))
    case('nancumsum', [(5, 9)], lambda x: [ops.nancumsum(ops.where(x > 0.8, float('nan'), x), axis=1),
                                           ops.nancumprod(ops.where(x > 0.8, float('nan'), x), axis=2)])
    case('nanargmax', [(5, 9)], lambda x: [ops.nanargmax(ops.where(x > 0.8, float('nan'), x), axis=2),
                                           ops.nanargmin(ops.where(x < -0.8, float('nan'), x), axis=1)], EXACT)
    case('fmax', TWO, lambda a, b: [ops.fmax(ops.where(a > 0.5, float('nan'), a), b),
                                    ops.fmin(a, ops.where(b > 0.5, float('nan'), b))], EXACT)
    case('ptp', [(5, 9)], lambda x: [ops.ptp(x, axis=1), ops.count_nonzero(ops.relu(x), axis=2)])
    # (of several axes Keras on JAX always takes the mean of the neighbours: no other method is asked for)
    case('median', [(5, 9)], lambda x: [ops.median(x, axis=2), ops.median(x, axis=1, keepdims=True)])
    case('quantile', [(5, 9)], lambda x: [ops.quantile(x, 0.3, axis=(2,)), ops.percentile(x, 75., axis=(1,), keepdims=True)])


def moves():
    case('hstack', TWO, lambda a, b: ops.hstack([a, b]), EXACT)
    case('vstack', TWO, lambda a, b: ops.vstack([a, b]), EXACT, ways=TOGETHER)
    case('dstack', [(5,), (5,)], lambda a, b: ops.dstack([a, b]), EXACT)
    case('dstack-rank4', [(5, 4, 2)] * 2, lambda a, b: ops.dstack([a, b]), EXACT)
    case('append', TWO, lambda a, b: ops.append(a, b, axis=2), EXACT)
    case('ravel', ONE, lambda x: ops.reshape(ops.ravel(x), (-1, 5, 6)), EXACT, ways=TOGETHER)
    case('diff', [(7, 6)], lambda x: [ops.diff(x), ops.diff(x, n=2, axis=1)])
    case('fliplr', ONE, lambda x: ops.fliplr(x), EXACT)
    case('flipud', ONE, lambda x: ops.flipud(x), EXACT, ways=TOGETHER)
    case('array-split', [(7, 6)], lambda x: ops.array_split(x, 3, axis=1), EXACT)
    case('hsplit', [(6, 4)], lambda x: ops.hsplit(x, 3) + ops.dsplit(x, [1, 3]), EXACT)
    case('trapezoid', [(7, 6)], lambda x: ops.trapezoid(x, dx=0.5, axis=1))
    case('cross', [(5, 3), (5, 3)], lambda a, b: ops.cross(a, b))
    case('cross-axis', [(3, 5), (3, 5)], lambda a, b: ops.cross(a, b, axis=1))
    case('linspace', [(6,), (6,)], lambda a, b: ops.linspace(a, b, 7, axis=1))
    case('linspace-open', [(6,)], lambda x: x + ops.linspace(x[:, :1], 1., 6, endpoint=False, axis=-1)[:, 0, :])
    case('linspace-numbers', [(6,)], lambda x: x * ops.linspace(0., x, 4, axis=-1)[:, :, 2])
    case('logspace', [(4,), (4,)], lambda a, b: ops.logspace(a, b, 5, base=2, axis=-1))
    case('extract-sequences', [(3, 16)], lambda x: ops.extract_sequences(x, 5, 3), EXACT)
    case('slice-update', [(5, 6), (2, 3)], lambda a, b: ops.slice_update(a, (0, 2, 1), b), EXACT)
    case('triangles', [(5, 6)], lambda x: [ops.tril(x, -1), ops.triu(x, 2), ops.trace(x, axis1=1, axis2=2),
                                           ops.diagonal(x, 1, axis1=1, axis2=2)])


def windows():
    for name in ('average', 'max'):
        pool = 'adaptive_%s_pool' % name
        case('adaptive-%s-pool' % name, [(9, 7, 3)], lambda x, p=pool: getattr(ops, p)(x, (4, 3)))
        case('adaptive-%s-pool-1d' % name, [(9, 3)], lambda x, p=pool: getattr(ops, p)(x, (3,)))
        case('adaptive-%s-pool-first' % name, [(3, 8, 6)],
             lambda x, p=pool: getattr(ops, p)(x, (4, 3), data_format='channels_first'))
    case('fold', [(12, 20)], lambda x: ops.fold(x, (6, 5), 2))
    case('fold-stride', [(12, 12)], lambda x: ops.fold(x, (6, 8), 2, stride=2))
    case('fold-padding', [(18, 9)], lambda x: ops.fold(x, (5, 5), 3, dilation=1, padding=1, stride=2))
    case('cdist', [(5, 4), (6, 4)], lambda a, b: ops.cdist(a, b))


GROUPS = (numbers, wholes, missing, moves, windows)
