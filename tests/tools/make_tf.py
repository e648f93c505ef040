#!/usr/bin/env python3
"""Make tests/data/keras/tf_*.h5 and their answers with tf-keras 2.x: usage: make_tf.py [NAME...]

What only Keras 2 on TensorFlow writes: bare TensorFlow calls as layers (TFOpLambda, SlicingOpLambda), the three
ways of keeping a locally connected kernel, recurrent layers with time_major, calls with training=True. The answers are tf-keras's own.
Bicubic resizing is left out: TensorFlow looks its weights up in a table of 1024, and is off by 4e-4. Needs tf-keras, tensorflow, numpy and h5py.
"""
import os
import sys
import zlib

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '-1')
import h5py
import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers
DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'data')


def number(value):
    return np.asarray(value).astype('float32')


def elementwise():
    x, y = L.Input((4, 3)), L.Input((4, 3))
    p, u = tf.abs(x) + 0.5, tf.tanh(x)
    return [x, y], [
        x + y, x - y, x * y, x / p, x // p, x % p, p ** u, -x, 2. - x, 1. / p, tf.add(x, 1.), tf.multiply(x, [1., 2., 3.]),
        tf.math.divide(y, p), tf.math.divide_no_nan(y, tf.nn.relu(x)), tf.math.floordiv(y, p), tf.math.floormod(y, p),
        tf.math.squared_difference(x, y), tf.maximum(x, y), tf.minimum(x, 0.1), tf.square(x), tf.sqrt(p),
        tf.math.rsqrt(p), tf.exp(u), tf.math.expm1(u), tf.math.log(p), tf.math.log1p(p), tf.abs(x), tf.sign(x), tf.sin(x),
        tf.cos(x), tf.tan(u), tf.asin(u), tf.acos(u), tf.atan(x), tf.math.atan2(x, y), tf.sinh(u), tf.cosh(u),
        tf.asinh(x), tf.acosh(p + 1.), tf.atanh(u * 0.9), tf.floor(x), tf.math.ceil(x), tf.round(x * 2.), tf.math.rint(x),
        tf.math.reciprocal(p), tf.math.erf(x), tf.sigmoid(x), tf.math.softplus(x), tf.math.softsign(x),
        tf.math.xlogy(x, p), tf.math.log_sigmoid(x), tf.clip_by_value(x, -0.5, 0.5), tf.nn.relu(x), tf.nn.relu6(x * 5.),
        tf.nn.elu(x), tf.nn.selu(x), tf.nn.leaky_relu(x), tf.nn.leaky_relu(x, alpha=0.1), tf.nn.gelu(x),
        tf.nn.gelu(x, approximate=True), tf.nn.silu(x), tf.nn.swish(x), tf.nn.tanh(x), tf.nn.sigmoid(x),
        tf.nn.softmax(x), tf.nn.softmax(x, axis=1), tf.nn.log_softmax(x), tf.nn.bias_add(x, number([1, 2, 3])),
        tf.where(x > y, x, y), tf.where(x > 0., 1., 0.), tf.cast(x > 0., tf.float32), tf.cast(tf.equal(x, y), tf.float32),
        tf.cast(tf.logical_and(x > 0., y > 0.), tf.float32), tf.cast(tf.logical_or(x >= 0., y < 0.), tf.float32),
        tf.cast(tf.logical_not(x <= y), tf.float32), tf.cast(tf.math.is_nan(x), tf.float32),
        tf.cast(tf.math.not_equal(x, y), tf.float32), tf.add_n([x, y, x]), tf.math.accumulate_n([x, y]),
        tf.math.multiply_no_nan(x, y), tf.math.pow(p, 2.), tf.math.truediv(x, p), tf.math.negative(x)]


def axes():
    x, y = L.Input((4, 6)), L.Input((6, 5))
    image = L.Input((6, 8, 4))
    a, b = tf.split(x, 2, axis=-1), tf.split(x, [1, 3, 2], axis=2)
    parts = tf.unstack(x, axis=1)
    batch, size = tf.shape(x)[0], tf.shape(image)
    top = tf.math.top_k(x, 2)
    return [x, y, image], [
        tf.reduce_mean(x, axis=1), tf.reduce_sum(x, axis=[1, 2]), tf.reduce_max(x, axis=-1, keepdims=True),
        tf.reduce_min(x, -1), tf.reduce_prod(x, axis=1), tf.math.reduce_std(x, axis=1), tf.math.reduce_variance(x, axis=1),
        tf.reduce_logsumexp(x, axis=1), tf.argmax(x, axis=1), tf.argmin(x, axis=-1, output_type=tf.int32),
        tf.cumsum(x, axis=1), tf.cumsum(x, axis=1, exclusive=True), tf.cumsum(x, axis=1, reverse=True),
        tf.math.cumprod(x, axis=2), tf.math.l2_normalize(x, axis=-1), tf.nn.l2_normalize(x, 1), tf.norm(x, axis=1),
        tf.norm(x, ord=1, axis=-1, keepdims=True), tf.matmul(x, y), tf.linalg.matmul(x, x, transpose_b=True),
        tf.matmul(x, x, transpose_a=True), x @ y, tf.tensordot(x, number(np.ones((6, 2))), 1),
        tf.linalg.matvec(x, tf.reduce_sum(y, axis=2)), tf.reshape(x, (-1, 24)), tf.reshape(x, [batch, 3, 8]),
        tf.reshape(image, [size[0], size[1] * size[2], size[3]]), tf.concat([x, x], axis=1), tf.stack([x, x], axis=1),
        a[0], a[1], b[0], b[1], b[2], parts[2], tf.expand_dims(x, 1), tf.squeeze(tf.expand_dims(x, 3), 3),
        tf.squeeze(tf.expand_dims(x, 3)), tf.transpose(x, [0, 2, 1]), tf.transpose(x, perm=(0, 2, 1)),
        tf.tile(x, [1, 2, 1]), tf.repeat(x, 2, axis=1), tf.pad(x, [[0, 0], [1, 2], [0, 1]]),
        tf.pad(x, [[0, 0], [1, 2], [0, 1]], mode='REFLECT'), tf.pad(x, [[0, 0], [1, 1], [1, 1]], 'SYMMETRIC'),
        tf.pad(x, [[0, 0], [1, 1], [0, 0]], constant_values=2.), tf.gather(x, [0, 2], axis=1), tf.gather(x, 3, axis=2),
        tf.broadcast_to(x[:, :1], tf.shape(x)), tf.reverse(x, axis=[1]), tf.roll(x, shift=1, axis=1), tf.roll(x, [1, 2], [1, 2]),
        tf.zeros_like(x), tf.ones_like(x), tf.one_hot(tf.argmax(x, axis=-1), 6), tf.one_hot(tf.argmax(x, -1), 6, on_value=2.,
                                                                                           off_value=-1.),
        x[:, 1], x[:, 1:3, ::2], x[..., -1], x[:, tf.newaxis], x[:, ::-1], top[0], top[1], tf.sort(x, axis=1),
        tf.sort(x, direction='DESCENDING'), tf.argsort(x, axis=-1), tf.identity(x), tf.stop_gradient(x),
        tf.convert_to_tensor(x), x[:, 2:],
        tf.linalg.diag_part(tf.matmul(x, x, transpose_b=True)), tf.linalg.band_part(tf.matmul(x, x, transpose_b=True), -1, 0),
        tf.math.reduce_euclidean_norm(x, axis=1), tf.linalg.l2_normalize(x, axis=2)]


def images():
    x = L.Input((6, 8, 4))
    rng = np.random.default_rng(3)
    kernel, depth = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=(3, 3, 4, 2))
    return [x], [
        tf.image.resize(x, (3, 5)), tf.image.resize(x, [12, 9], method='nearest'),
        tf.image.resize(x, (3, 4), antialias=True),
        tf.image.flip_left_right(x), tf.image.flip_up_down(x), tf.image.central_crop(x, 0.5),
        tf.image.crop_to_bounding_box(x, 1, 2, 3, 4), tf.image.pad_to_bounding_box(x, 1, 2, 9, 11),
        tf.image.resize_with_crop_or_pad(x, 4, 10), tf.image.adjust_brightness(x, 0.2),
        tf.image.rgb_to_grayscale(x[..., :3]), tf.nn.depth_to_space(x, 2), tf.nn.space_to_depth(x, 2),
        tf.nn.avg_pool2d(x, 2, 2, 'VALID'), tf.nn.max_pool2d(x, (3, 2), (2, 1), 'SAME'),
        tf.nn.avg_pool(x, 3, 2, 'SAME'), tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], 'VALID'),
        tf.nn.conv2d(x, number(kernel), 1, 'SAME'), tf.nn.conv2d(x, number(kernel), [1, 2, 1, 1], 'VALID'),
        tf.nn.depthwise_conv2d(x, number(depth), [1, 1, 1, 1], 'SAME'), tf.image.transpose(x), tf.image.rot90(x),
        tf.image.grayscale_to_rgb(x[..., :1])]


def local():
    """All ways of keeping the kernel, and zeros round the input."""
    x, y = L.Input((9, 3)), L.Input((6, 5, 2))
    outputs = []
    for way in (1, 2, 3):
        outputs.append(L.LocallyConnected1D(4, 3, strides=2, implementation=way, activation='relu')(x))
        outputs.append(L.LocallyConnected2D(3, (3, 2), strides=(1, 2), implementation=way)(y))
        first = L.Permute((2, 1))(x)
        outputs.append(L.LocallyConnected1D(2, 4, implementation=way, data_format='channels_first')(first))
        if way > 1:
            outputs.append(L.LocallyConnected1D(4, 3, padding='same', implementation=way, use_bias=False)(x))
            outputs.append(L.LocallyConnected2D(3, (2, 3), padding='same', strides=(2, 1), implementation=way)(y))
    return [x, y], outputs


def time_major():
    x = L.Input((5, 3))
    t = tf.transpose(x, [1, 0, 2])
    sequences = {'time_major': True, 'return_sequences': True}
    y = L.LSTM(4, **sequences)(t)
    backwards, both = L.SimpleRNN(3, go_backwards=True, **sequences), L.Bidirectional(L.LSTM(2, **sequences))
    return [x], [tf.transpose(y, [1, 0, 2]), L.GRU(3, time_major=True)(y), tf.transpose(backwards(t), [1, 0, 2]),
                 tf.transpose(both(t), [1, 0, 2])] + list(L.LSTM(2, time_major=True, return_state=True)(t))


def training():
    """training=True in calls, which Keras 2 obeys: the statistics are those of the batch."""
    x, inner = L.Input((4, 3)), L.Input((4, 3))
    base = keras.Model(inner, L.BatchNormalization()(L.Dense(3)(inner)))
    y = L.BatchNormalization()(x, training=True)
    return [x], [y, base(y, training=True), L.TimeDistributed(L.BatchNormalization())(x, training=True)]


# What TensorFlow 2.0 to 2.3 did not write for the calls above, or what is not read.
NEW_NODES = {'Erfc', 'StatelessIf', 'ScaleAndTranslate', 'MatrixDiagPartV3'}


def nodes():
    """All the calls above as raw nodes, each a layer: what old tf.keras made of bare calls."""
    from google.protobuf import json_format
    from tf_keras.src.engine.base_layer import TensorFlowOpLayer
    graph, sources, ends = tf.Graph(), [], []

    class Symbols:
        def __getattr__(self, name):
            return getattr(keras.layers, name)

        def Input(self, shape):
            sources.append(tf.compat.v1.placeholder(tf.float32, (None,) + shape))
            return sources[-1]

    global L
    try:
        L = Symbols()
        with graph.as_default(), tf.compat.v1.Session() as session:
            for case in (elementwise, axes, images):
                ends += case()[1]
            x = sources[2]
            ends += [tf.slice(x, [0, 1, 2], [-1, 2, 3]), x[..., 1:2, tf.newaxis, ::2], x[:, -1],
                     tf.einsum('bij,bkj->bik', x, x), tf.raw_ops.Concat(concat_dim=2, values=[x, x])]
            made = {source.op for source in sources}  # and what is made of them
            for op in graph.get_operations():
                if any(t.op in made for t in op.inputs):
                    made.add(op)
            constants = {}
            needed = {}

            def need(op):
                """Whether this and all before it is known."""
                if op not in needed:
                    sizes = any(t.op in made for t in op.inputs[1:]) and op.type == 'Slice' or 'Tensordot' in op.name
                    good = op.type not in NEW_NODES and not sizes  # that are computed in the model
                    needed[op] = good and all(need(t.op) for t in op.inputs if t.op in made)
                return needed[op]

            ends = [end for end in ends if need(end.op)]
            needed = {}
            list(map(lambda end: need(end.op), ends))
            for op in needed:
                for i, t in enumerate(op.inputs):
                    if t.op not in made:
                        constants.setdefault(op, {})[i] = session.run(t)
    finally:
        L = keras.layers
    values = {source.ref(): L.Input(tuple(source.shape[1:])) for source in sources}
    inputs = list(values.values())
    for op in graph.get_operations():
        if op not in needed or op.type == 'Placeholder':
            continue
        layer = TensorFlowOpLayer(json_format.MessageToDict(op.node_def), name=op.name.replace('/', '_'),
                                  constants=constants.get(op, {}))
        given = [values[t.ref()] for t in op.inputs if t.ref() in values]
        y = layer(given if len(given) > 1 else given[0])
        for t, value in zip(op.outputs, y if isinstance(y, (list, tuple)) else [y]):
            values[t.ref()] = value
    return inputs, [values[end.ref()] for end in ends]


CASES = {'training': training, 'elementwise': elementwise, 'axes': axes, 'images': images, 'local': local, 'time_major': time_major, 'nodes': nodes}


def make(name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    keras.backend.clear_session()
    model = keras.Model(*CASES[name]())
    model.set_weights([0.5 * rng.normal(size=w.shape) for w in model.get_weights()])
    inputs = [rng.normal(size=(2,) + tuple(x.shape[1:])).astype('float32') for x in model.inputs]
    answers = model(inputs if len(inputs) > 1 else inputs[0])
    if model.weights:
        model.save(os.path.join(DATA, 'keras', 'tf_%s.h5' % name))
    else:
        with open(os.path.join(DATA, 'keras', 'tf_%s.json' % name), 'w') as f:
            f.write(model.to_json())
    with h5py.File(os.path.join(DATA, 'models', 'tf_%s.io.h5' % name), 'w') as f:
        for i, x in enumerate(inputs):
            f['x%d' % i] = x
        for i, y in enumerate(answers):
            f['y64_%d' % i] = y.numpy()
            f['y64_%d' % i].attrs['dtype'] = y.dtype.name
    print('%s: %d outputs, %d weights' % (name, len(answers), len(model.weights)))


if __name__ == '__main__':
    for case in sys.argv[1:] or CASES:
        make(case)
