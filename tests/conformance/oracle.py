"""Real Keras as the judge: random weights, a float64 run of the same model, and the two file formats.

What is made for a case is kept (up to CONFORMANCE_KEEP_MB, 256, a case), so that only layertop runs anew.

`keras` is Keras 3 or tf-keras 2.x, whichever CONFORMANCE_TF asks for. Everything is drawn from a seed
made of the case's name, so that a run can be repeated on any machine.
"""
import gc
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import warnings
import zlib

os.environ.setdefault('KERAS_BACKEND', 'jax')
os.environ.setdefault('JAX_ENABLE_X64', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')  # each model runs but twice
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '-1')
warnings.filterwarnings('ignore')
logging.disable(logging.WARNING)  # Keras calls .h5 legacy at every save

import numpy as np

TF_KERAS = bool(os.environ.get('CONFORMANCE_TF'))
if TF_KERAS:
    import tf_keras as keras
else:
    import keras

if os.environ['KERAS_BACKEND'] == 'numpy' and not TF_KERAS:
    # some of its functions give float64 for float32, and then those that it takes from JAX refuse the mixture
    import jax

    def of_one_type(function):
        def call(a, b, *rest, **more):
            a = np.asarray(a)
            kind = np.result_type(a, b) if isinstance(b, np.ndarray) else a.dtype
            return function(a.astype(kind), np.asarray(b, kind), *rest, **more)
        return call

    for function in ('conv_general_dilated', 'conv_transpose', 'reduce_window'):
        setattr(jax.lax, function, of_one_type(getattr(jax.lax, function)))

CLASSES = 50


def no_first_values(self, shape, dtype=None, **_):
    """What layers start with is replaced anyway: drawing it would take most of the time."""
    return np.zeros(shape, dtype or keras.backend.floatx())


if not TF_KERAS:
    for kind in ('VarianceScaling', 'RandomNormal', 'RandomUniform', 'TruncatedNormal', 'Orthogonal'):
        getattr(keras.initializers, kind).__call__ = no_first_values
    for kind in ('GlorotUniform', 'GlorotNormal', 'HeNormal', 'HeUniform', 'LecunNormal', 'LecunUniform'):
        getattr(keras.initializers, kind).__call__ = no_first_values


class Case:
    """A model of the matrix.

    build     () -> an unbuilt-weights model; called once in float32 and once in float64
    inputs    list of ('normal'|'index'|'image', shape with batch, bound): drawn by draw()
    tolerance of max|y-y64| / max(max|y64|, 1e-6), per output
    prepare   what to do to the float32 model instead of drawing its weights
    calm      draws weights that keep a deep network's activations of order 1
    shape     of the first input, without the batch, for a model that leaves it open
    ways      lists of settings under each of which the answer must be right; None: the rows as one batch
    """

    def __init__(self, name, build, inputs, tolerance=1e-5, prepare=None, calm=False, shape=None, ways=None):
        self.name, self.build, self.inputs = name, build, inputs
        self.tolerance, self.prepare, self.calm = tolerance, prepare, calm
        self.shape, self.ways = shape, ways or [['batch %d' % inputs[0][1][0]]]

    def rng(self, what):
        return np.random.default_rng(zlib.crc32(('%s/%s' % (self.name, what)).encode()))

    def draw(self):
        rng = self.rng('inputs')
        return [draw(rng, *spec) for spec in self.inputs]


def draw(rng, kind, shape, bound=None):
    """One input: 'index' integers below bound, 'steep' numbers far from 0, 'truth' 0 and 1, 'scene' pictures that differ as a
    whole (deep networks average noise away, and then every picture of noise has the same answer), 'pixels' the same 0..255."""
    if kind == 'index':
        return rng.integers(0, bound, shape).astype('int32')
    if kind == 'image':
        return rng.uniform(0, 255, shape).astype('float32')
    if kind == 'steep':
        return (20 * rng.normal(size=shape)).astype('float32')
    if kind == 'truth':
        return (rng.random(shape) < 0.6).astype('float32')
    if kind in ('scene', 'pixels'):
        batch, height, width, channels = shape
        y, x = np.mgrid[0:height, 0:width, 0:1][:2]
        scene = 0.4 * rng.normal(size=shape)
        for i in range(batch):
            for _ in range(6):
                fy, fx, phase = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0, 6.3)
                scene[i] += np.sin(fy * y + fx * x + phase) * rng.normal(size=channels)
            scene[i] *= 0.3 * 3 ** i
        if kind == 'pixels':
            scene = 255 / (1 + np.exp(-scene))
        return scene.astype('float32')
    if kind == 'padded':  # time steps of zero at the end (of the second half of the batch), as for Masking
        x = rng.normal(size=shape).astype('float32')
        x[shape[0] // 2:, shape[1] // 2:] = 0
        return x
    return rng.normal(size=shape).astype('float32')


class Settled:
    modules = 0


def settle():
    """Keep what the backends have loaded out of every later search for garbage: clear_session makes one each time,
    and it took more than half of the time."""
    if len(sys.modules) != Settled.modules:
        gc.collect()
        gc.freeze()
        Settled.modules = len(sys.modules)


def set_float(name):
    """The dtype of everything that is made after this."""
    settle()
    keras.backend.clear_session()
    keras.backend.set_floatx(name)
    if not TF_KERAS and keras.backend.backend() != 'tensorflow':
        # here Keras lets no result be wider than 32 bits, whatever floatx is
        from keras.src.backend.common import dtypes
        getattr(dtypes, 'BIT64_TO_BIT32_DTYPE', {})['float64'] = name
    if not TF_KERAS:
        setter = getattr(keras.config, 'set_dtype_policy', None)
        (setter or keras.mixed_precision.set_dtype_policy)(name)


def weight_name(weight):
    name = getattr(weight, 'path', None) or weight.name
    return name.split(':')[0].split('/')[-1]


def random_weight(rng, name, shape, old, calm):
    """Every weight random, also those that start as zeros or ones, within what its role bears."""
    if old.dtype.kind not in 'f':
        return old
    if 'variance' in name:
        return rng.uniform(0.5, 1.5, shape)
    if name in ('gamma', 'scale'):
        return rng.uniform(0.7, 1.2, shape) if calm else rng.uniform(0.5, 1.5, shape)
    if name.endswith(('kernel', 'embeddings')) and len(shape) > 1:
        fan_in = shape[-2] * int(np.prod(shape[:-2])) if len(shape) > 2 else shape[0]
        if 'depthwise' in name or (len(shape) == 4 and shape[-1] == 1):
            fan_in = int(np.prod(shape[:-2]))
        return rng.normal(size=shape) * (1.4 if calm else 1) / max(fan_in, 1) ** 0.5
    return rng.normal(size=shape) * (0.1 if calm else 0.5)


def set_weights(model, values):
    """As loading a file does: Normalization computes with copies that follow its weights only then."""
    model.set_weights(values)
    for layer in model._flatten_layers():
        if type(layer).__name__ == 'Normalization' and getattr(layer, 'input_mean', None) is None:
            layer.finalize_state()


def randomise(model, case):
    rng = case.rng('weights')
    values = [random_weight(rng, weight_name(w), tuple(w.shape), old, case.calm).astype(old.dtype)
              for w, old in zip(model.weights, model.get_weights())]
    set_weights(model, values)


def run(model, inputs, training):
    """The model in one compiled piece where the backend can: many times faster than call by call.
    Returns the outputs and, of the compiled piece, the new non-trainable values."""
    x = inputs[0] if len(inputs) == 1 else inputs
    if TF_KERAS or keras.backend.backend() != 'jax':
        return model(x, training=training), None
    import jax
    step = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=training))
    return step([v.value for v in model.trainable_variables],
                [v.value for v in model.non_trainable_variables], x)


def call(model, inputs):
    """The outputs as a list, in Keras's flatten order (a dict by sorted keys)."""
    out, _ = run(model, inputs, False)
    if isinstance(out, dict):
        out = [out[key] for key in sorted(out)]
    if not isinstance(out, (list, tuple)):
        out = [out]
    return [np.asarray(y) for y in out]


def calm_down(model, inputs, rng):
    """Give batch normalisation statistics near those of the inputs, as training would, each off by
    up to a quarter: drawn blindly, they let the signal of a deep network fade or explode. A fifth
    more variance than there is: with exactly as much, random networks are chaotic (rounding errors
    of 1e-7 grow to 1e-2 over 200 layers, in Keras too), with twice as much the signal is lost."""
    norms = [layer for layer in model.layers if type(layer).__name__ == 'BatchNormalization']
    if not norms:
        return
    for layer in norms:
        layer.momentum = 0.0
    _, values = run(model, inputs, True)
    if values is not None:
        for variable, value in zip(model.non_trainable_variables, values):
            variable.assign(value)
    for layer in norms:
        layer.momentum = 0.99
        mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
        layer.moving_mean.assign(mean + 0.1 * np.sqrt(variance) * rng.normal(size=mean.shape))
        layer.moving_variance.assign((1.2 * variance + 0.005) * rng.uniform(0.8, 1.25, variance.shape))


def error_of(y, y64):
    """max|y-y64| / max(max|y64|, 1e-6); a hole in one must be a hole in the other."""
    if y.shape != y64.shape:
        return float('inf')
    y = y.astype('float64')
    finite = np.isfinite(y64)
    if not np.array_equal(finite, np.isfinite(y)):
        return float('inf')
    if not finite.any():
        return 0.0
    return float(np.abs(y[finite] - y64[finite]).max() / max(np.abs(y64[finite]).max(), 1e-6))


def digest_of(case):
    """Changes with whatever decides what is made: this file, the case's (layers.py, layers_*.py) and the versions."""
    digest = hashlib.sha256(keras.__version__.encode())
    place, name = os.path.split(case.build.__code__.co_filename)
    for path in [__file__] + sorted(glob.glob(os.path.join(place, re.split('[_.]', name)[0] + '*.py'))):
        with open(path, 'rb') as f:
            digest.update(f.read())
    return digest.hexdigest()


def kept(case, folder):
    """What an earlier run made in this folder, or None."""
    try:
        with open(os.path.join(folder, 'made.json')) as f:
            made = json.load(f)
        if made['digest'] != digest_of(case):
            return None
        answers = np.load(os.path.join(folder, 'answers.npz'))
        made['answers'] = [answers['arr_%d' % i] for i in range(len(answers.files))]
        made['inputs'] = case.draw()
        return made
    except (OSError, ValueError, KeyError):
        return None


def keep(case, folder, made):
    np.savez(os.path.join(folder, 'answers.npz'), *made['answers'])
    with open(os.path.join(folder, 'made.json'), 'w') as f:
        json.dump({'digest': digest_of(case), 'files': made['files'], 'refusals': made['refusals'],
                   'keras_error': made['keras_error'], 'keras_errors': made['keras_errors']}, f)


def forget(folder):
    """Remove what is too large to keep."""
    size = sum(entry.stat().st_size for entry in os.scandir(folder))
    if size > float(os.environ.get('CONFORMANCE_KEEP_MB') or 256) * 1e6:
        shutil.rmtree(folder)


def prepared(case, inputs):
    """The float32 model with its weights."""
    set_float('float32')
    model = case.build()
    if case.prepare:
        case.prepare(model)
    else:
        randomise(model, case)
        if case.calm:
            calm_down(model, inputs, case.rng('statistics'))
    return model


def twin_of(case, values):
    """The same model in float64."""
    set_float('float64')
    twin = case.build()
    if case.prepare:
        case.prepare(twin)
    set_weights(twin, [v.astype('float64') if v.dtype.kind == 'f' else v for v in values])
    return twin


def widened(inputs):
    return [x.astype('float64') if x.dtype.kind == 'f' else x for x in inputs]


def make(case, folder):
    """Write the files of a case: {'files': {format: file name or None}, 'refusals': {format: Keras's
    message}, 'inputs': [...], 'answers': [...float64], 'keras_errors': its own float32 against float64, output by
    output, 'keras_error': the largest}."""
    made = kept(case, folder)
    if made:
        return made
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    inputs = case.draw()
    model = prepared(case, inputs)
    values = model.get_weights()
    y32 = call(model, inputs)
    files, refusals = {}, {}
    for suffix in ('keras', 'h5'):
        files[suffix] = 'model.' + suffix
        try:
            model.save(os.path.join(folder, files[suffix]))
        except Exception as why:  # Keras cannot write every model in every format
            files[suffix], refusals[suffix] = None, str(why).split('\n')[0][:200]
    del model
    y64 = call(twin_of(case, values), widened(inputs))
    set_float('float32')
    for y in y64:
        spread = np.abs(y[0].astype('float64') - y[-1]).max() / max(np.abs(y).max(), 1e-6)
        if not np.isfinite(y).all():
            raise ValueError('the float64 answer of %s is not finite' % case.name)
        if case.calm and spread < 1e-3:
            raise ValueError('%s answers the same whatever comes in: nothing is tested' % case.name)
    errors = [error_of(a, b) for a, b in zip(y32, y64)]
    made = {'files': files, 'refusals': refusals, 'inputs': inputs, 'answers': y64, 'keras_errors': errors,
            'keras_error': max(errors)}
    keep(case, folder, made)
    return made
