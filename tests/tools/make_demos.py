#!/usr/bin/env python3
"""Write the architecture files of demo:NAME: one gzipped JSON per keras.applications constructor,
and the small ones (demo:cnn, demo:dense, demo:mlp60, demo:dense4096).

usage: KERAS_BACKEND=jax make_demos.py OUTDIR [NAME...]

Each file holds {"name", "constructor", "keras_version", "preprocess", "parameters", "config", "weights"}: the model's own
to_json() and, for every layer with weights, its path and [name, shape, offset, amplitude] of each
variable in Keras's order. Element i of a variable is

    offset + amplitude * u,   u = (splitmix64(fnv1a64("PATH/NAME") + i * 0x9E3779B97F4A7C15) >> 40) / 2^23 - 1

so the weights are the same on every machine and need no room. Amplitudes of kernels are chosen one
layer after the other on a random input, as powers of two, so that each layer's output has a standard deviation
near 1 and activations stay sane in every precision (layer-sequential unit variance, Mishkin & Matas 2016). Needs Keras 3.
"""
import gzip, json, os, sys

os.environ.setdefault('KERAS_BACKEND', 'jax')
import numpy as np
import keras
from keras import applications, initializers, layers

# how the family's preprocess_input treats RGB 0..255 (Keras applications documentation)
PREPROCESS = {
    'caffe': ['VGG16', 'VGG19', 'ResNet50', 'ResNet101', 'ResNet152'],
    'tf': ['ResNet50V2', 'ResNet101V2', 'ResNet152V2', 'InceptionV3', 'InceptionResNetV2', 'Xception',
           'MobileNet', 'MobileNetV2', 'NASNetMobile', 'NASNetLarge'],
    'torch': ['DenseNet121', 'DenseNet169', 'DenseNet201'],
    'none': ['EfficientNetB%d' % i for i in range(8)] + ['EfficientNetV2B%d' % i for i in range(4)] +
            ['EfficientNetV2S', 'EfficientNetV2M', 'EfficientNetV2L', 'MobileNetV3Small', 'MobileNetV3Large'] +
            ['ConvNeXt' + s for s in ('Tiny', 'Small', 'Base', 'Large', 'XLarge')],
}


def zeros(self, shape, dtype=None):
    # nothing is drawn by Keras: the weights are ours
    return keras.ops.zeros(shape, dtype=dtype or 'float32')


for cls in (initializers.VarianceScaling, initializers.GlorotUniform, initializers.HeNormal,
            initializers.RandomNormal, initializers.TruncatedNormal):
    cls.__call__ = zeros


def cnn():
    return keras.Sequential([layers.Input((28, 28, 1), name='image'),
                             layers.Conv2D(32, 3, activation='relu', name='conv1'), layers.MaxPooling2D(name='pool1'),
                             layers.Conv2D(64, 3, activation='relu', name='conv2'), layers.MaxPooling2D(name='pool2'),
                             layers.Flatten(name='flatten'), layers.Dense(128, activation='relu', name='dense1'),
                             layers.Dense(10, activation='softmax', name='predictions')], name='cnn')


def dense():
    return keras.Sequential([layers.Input((100,), name='features'), layers.Dense(10, name='dense')], name='dense')


def mlp60():
    return keras.Sequential([layers.Input((64,), name='features')] +
                            [layers.Dense(64, activation='relu', name='dense%d' % (i + 1)) for i in range(60)], name='mlp60')


def dense4096():
    return keras.Sequential([layers.Input((4096,), name='features'), layers.Dense(4096, use_bias=False, name='dense')],
                            name='dense4096')


SMALL = {'cnn': cnn, 'dense': dense, 'mlp60': mlp60, 'dense4096': dense4096}

M64 = (1 << 64) - 1


def fnv1a64(text):
    h = 0xcbf29ce484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001b3) & M64
    return h


def draw(path, name, shape, offset, amplitude):
    n = int(np.prod(shape, dtype=np.int64)) if shape else 1
    with np.errstate(over='ignore'):
        z = np.uint64(fnv1a64(path + '/' + name)) + np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return (np.float32(offset) + np.float32(amplitude) * u).reshape(shape)


def rule(layer, name, shape):
    """offset and amplitude of a variable; kernels are scaled afterwards"""
    if 'kernel' in name:
        fan = int(np.prod(shape[:-1])) if 'depthwise' not in name else int(np.prod(shape[:2]))
        return 0.0, 2.0 ** round(np.log2(np.sqrt(3.0 / max(fan, 1))))
    return {'gamma': (1.0, 0.125), 'beta': (0.0, 0.125), 'bias': (0.0, 0.0625), 'moving_mean': (0.0, 0.125),
            'moving_variance': (1.0, 0.25), 'mean': (0.0, 0.0), 'variance': (1.0, 0.0), 'count': (0.0, 0.0)}[name]


def fill(layer, path, entries):
    layer.set_weights([draw(path, n, s, o, a) for n, s, o, a in entries])


def calibrate(model, prefix, out, inputs, quick):
    """Run the graph once, layer by layer, drawing and scaling weights on the way."""
    def operation(op):
        def call(*args, **kwargs):
            if isinstance(op, (keras.Sequential, keras.Model)):
                inner = op._functional if isinstance(op, keras.Sequential) else op
                return calibrate(inner, prefix + op.name + '/', out, args[0] if len(args) == 1 else list(args), quick)
            if not getattr(op, 'weights', None):
                return op(*args, **kwargs)
            path = prefix + op.name
            entries = []
            for w in op.weights:
                scale = type(op).__name__ == 'LayerScale'
                offset, amplitude = (0.25, 0.0625) if scale else rule(op, w.name, list(w.shape))
                entries.append([w.name, list(w.shape), offset, amplitude])
            fill(op, path, entries)
            y = op(*args, **kwargs)
            kernels = [e for e in entries if 'kernel' in e[0]]
            final = getattr(op, 'activation', None) is keras.activations.softmax
            if kernels and not quick and not final:
                std = float(keras.ops.std(y))
                if std > 0:
                    step = 2.0 ** round(-np.log2(std) / len(kernels))
                    if step != 1:
                        for e in kernels:
                            e[3] *= step
                        fill(op, path, entries)
                        y = op(*args, **kwargs)
            out[path] = entries
            return y
        return call
    return model._run_through_graph(inputs, operation_fn=operation)


def make(name, mode, build, out):
    keras.backend.clear_session()
    model = build()
    functional = model._functional if isinstance(model, keras.Sequential) else model
    weights = {}
    rng = np.random.default_rng(1)
    shape = (1,) + tuple(model.inputs[0].shape[1:])
    high = 255.0 if mode == 'none' and len(shape) == 4 and shape[-1] == 3 else 1.0
    x = rng.uniform(0 if high > 1 else -1, high, shape).astype('float32')
    y = calibrate(functional, '', weights, x, False)
    y = np.asarray(y)
    assert np.isfinite(y).all(), name
    doc = {'name': name.lower(), 'constructor': name, 'keras_version': keras.__version__, 'preprocess': mode,
           'parameters': model.count_params(), 'config': json.loads(model.to_json()), 'weights': weights}
    path = os.path.join(out, name.lower() + '.json.gz')
    with open(path, 'wb') as f:
        f.write(gzip.compress(json.dumps(doc, separators=(',', ':')).encode(), 9, mtime=0))
    print(name, model.count_params(), len(model.layers), os.path.getsize(path), 'output std %.3g max %.3g' % (y.std(), abs(y).max()), flush=True)


def main():
    out, names = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    for name, build in SMALL.items():
        if not names or name in names:
            make(name, 'none', build, out)
    for mode, members in PREPROCESS.items():
        for name in members:
            if not names or name in names:
                # MobileNetV3 leaves its input open unless told
                shape = {'input_shape': (224, 224, 3)} if name.startswith('MobileNetV3') else {}
                make(name, mode, lambda: getattr(applications, name)(weights=None, **shape), out)


main()
