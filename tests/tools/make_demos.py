#!/usr/bin/env python3
"""Write the architecture files of demo:NAME: one gzipped JSON per keras.applications constructor,
the small ones (demo:cnn, demo:dense, demo:mlp60, demo:dense4096), and those with sequences (demo:lstm256,
demo:lstm1024, demo:vitb16, demo:transformer).

usage: KERAS_BACKEND=jax make_demos.py OUTDIR [NAME...]

Each file holds {"name", "constructor", "keras_version", "preprocess", "parameters", "config", "weights"}: the model's own
to_json() and, for every layer with weights, its path and [name, shape, offset, amplitude] of each
variable in Keras's order. Element i of a variable is

    offset + amplitude * u,   u = (splitmix64(fnv1a64("PATH/NAME") + i * 0x9E3779B97F4A7C15) >> 40) / 2^23 - 1

so the weights are the same on every machine and need no room. Amplitudes of kernels are chosen one
layer after the other on a random input, as powers of two, so that each layer's output has a standard deviation
near 1 and activations stay sane in every precision (layer-sequential unit variance, Mishkin & Matas 2016). Models with
sequences normalise their activations themselves, and keep the amplitudes of rule(). Needs Keras 3.
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


def lstm(units):
    return keras.Sequential([layers.Input((128, units), name='steps'), layers.LSTM(units, name='lstm'),
                             layers.Dense(10, activation='softmax', name='predictions')], name='lstm%d' % units)


def encoder(x, depth, heads, width, hidden):
    """Transformer blocks that normalise first (Xiong et al. 2020), and the normalisation behind them."""
    for i in range(1, depth + 1):
        y = layers.LayerNormalization(epsilon=1e-6, name='block%d_norm1' % i)(x)
        y = layers.MultiHeadAttention(heads, width // heads, name='block%d_attention' % i)(y, y)
        x = layers.Add(name='block%d_add1' % i)([x, y])
        y = layers.LayerNormalization(epsilon=1e-6, name='block%d_norm2' % i)(x)
        y = layers.Dense(hidden, activation='gelu', name='block%d_mlp1' % i)(y)
        y = layers.Dense(width, name='block%d_mlp2' % i)(y)
        x = layers.Add(name='block%d_add2' % i)([x, y])
    return layers.LayerNormalization(epsilon=1e-6, name='norm')(x)


def positions(x, length, width):
    """An Embedding of 0, 1, 2 ... along the steps of x (batch, steps)."""
    count = keras.ops.cumsum(keras.ops.ones_like(x), axis=1) - 1
    return layers.Embedding(length, width, name='positions')(count)


def vitb16():
    """Dosovitskiy et al. 2021, ViT-B/16. The class token is the first row: its value is that of position 0."""
    image = layers.Input((224, 224, 3), name='image')
    x = layers.Conv2D(768, 16, strides=16, name='patches')(image)
    x = layers.ZeroPadding1D((1, 0), name='class_token')(layers.Reshape((196, 768), name='tokens')(x))
    x = layers.Add(name='embedding')([x, positions(x[:, :, 0], 197, 768)])
    x = encoder(x, 12, 12, 768, 3072)
    x = layers.Dense(1000, activation='softmax', name='predictions')(x[:, 0])
    return keras.Model(image, x, name='vitb16')


def transformer():
    """A text encoder: six blocks of width 512 over 128 tokens."""
    tokens = layers.Input((128,), dtype='int32', name='tokens')
    x = layers.Embedding(8192, 512, name='words')(tokens)
    x = encoder(layers.Add(name='embedding')([x, positions(tokens, 128, 512)]), 6, 8, 512, 2048)
    x = layers.GlobalAveragePooling1D(name='mean')(x)
    return keras.Model(tokens, layers.Dense(10, activation='softmax', name='predictions')(x), name='transformer')


SEQUENCES = {'lstm256': lambda: lstm(256), 'lstm1024': lambda: lstm(1024), 'vitb16': vitb16, 'transformer': transformer}

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
    if '/' in name and not name.startswith('attention_output') and 'kernel' in name:
        shape = [shape[0], 1]  # (in, heads, size)
    if 'kernel' in name:
        fan = int(np.prod(shape[:-1])) if 'depthwise' not in name else int(np.prod(shape[:2]))
        return 0.0, 2.0 ** round(np.log2(np.sqrt(3.0 / max(fan, 1))))
    return {'gamma': (1.0, 0.125), 'beta': (0.0, 0.125), 'bias': (0.0, 0.0625), 'moving_mean': (0.0, 0.125),
            'moving_variance': (1.0, 0.25), 'mean': (0.0, 0.0), 'variance': (1.0, 0.0), 'count': (0.0, 0.0),
            'embeddings': (0.0, 1.0)}[name.split('/')[-1]]


def names(op):
    """Of the variables: those of a layer in a layer carry its name where it takes that to tell them apart."""
    plain = [w.name for w in op.weights]
    return plain if len(set(plain)) == len(plain) else [w.path[len(op.path) + 1:] for w in op.weights]


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
            for name, w in zip(names(op), op.weights):
                scale = type(op).__name__ == 'LayerScale'
                offset, amplitude = (0.25, 0.0625) if scale else rule(op, name, list(w.shape))
                entries.append([name, list(w.shape), offset, amplitude])
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
    if 'int' in model.inputs[0].dtype:
        x = rng.integers(0, 8192, shape).astype(model.inputs[0].dtype)
    y = calibrate(functional, '', weights, x, name in SEQUENCES)
    y = np.asarray(y)
    assert np.isfinite(y).all(), name
    doc = {'name': name.lower(), 'constructor': name, 'keras_version': keras.__version__, 'preprocess': mode,
           'parameters': model.count_params(), 'config': json.loads(model.to_json()), 'weights': weights}
    path = os.path.join(out, name.lower() + '.json.gz')
    with open(path, 'wb') as f:
        f.write(gzip.compress(json.dumps(doc, separators=(',', ':')).encode(), 9, mtime=0))
    print(name, model.count_params(), len(model.layers), os.path.getsize(path), 'output std %.3g max %.3g' % (y.std(), abs(y).max()), flush=True)


def main():
    out, wanted = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    for name, build in SMALL.items():
        if not wanted or name in wanted:
            make(name, 'none', build, out)
    for name, build in SEQUENCES.items():
        if not wanted or name in wanted:
            make(name, 'tf' if name == 'vitb16' else 'none', build, out)
    for mode, members in PREPROCESS.items():
        for name in members:
            if not wanted or name in wanted:
                # MobileNetV3 leaves its input open unless told
                shape = {'input_shape': (224, 224, 3)} if name.startswith('MobileNetV3') else {}
                make(name, mode, lambda: getattr(applications, name)(weights=None, **shape), out)


main()
