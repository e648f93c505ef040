#!/usr/bin/env python3
"""Write files as Keras 1 and the Theano backend wrote them: usage: make_legacy.py [NAME...]

No such Keras can be installed any more, so each file is a twin: a Keras 3 model answers in float64, and its weights are
written by hand in the old layout (what Keras 2's loader undoes: saving.preprocess_weights_for_loading). Makes
tests/data/keras/NAME.h5 and tests/data/models/NAME.io.h5. Needs the packages of tests/conformance.
"""
import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'conformance'))
import h5py
import numpy as np
import oracle
from oracle import Case, keras

L = keras.layers


def answers(case):
    """(inputs, float64 outputs, {layer name: its weights})"""
    oracle.set_float('float32')
    model = case.build()
    oracle.randomise(model, case)
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    values = model.get_weights()
    oracle.set_float('float64')
    twin = case.build()
    twin.set_weights([v.astype('float64') for v in values])
    x = case.draw()
    return x, oracle.call(twin, [a.astype('float64') for a in x]), weights


def write(name, case_or_answers, architecture, groups, version, backend=None):
    """groups: (layer name, [(weight name, array)]) in the file's order; strings padded as h5py 2 did."""
    x, y = case_or_answers[:2]
    with h5py.File(os.path.join(ROOT, 'tests', 'data', 'keras', name + '.h5'), 'w') as f:
        f.attrs['keras_version'] = np.bytes_(version)
        f.attrs['model_config'] = np.bytes_(json.dumps(architecture))
        top = f.create_group('model_weights')
        top.attrs['layer_names'] = np.array([group[0].encode() for group in groups])
        if backend:
            f.attrs['backend'] = np.bytes_(backend)
            top.attrs['backend'] = np.bytes_(backend)
            top.attrs['keras_version'] = np.bytes_(version)
        for layer, weights in groups:
            group = top.create_group(layer)
            group.attrs['weight_names'] = np.array([n.encode() for n, _ in weights])
            for n, value in weights:
                group[n] = value.astype('float32')
    with h5py.File(os.path.join(ROOT, 'tests', 'data', 'models', name + '.io.h5'), 'w') as f:
        for i, a in enumerate(x):
            f['x%d' % i] = a
        for i, a in enumerate(y):
            f['y64_%d' % i] = a


def k1_layer(class_name, name, inbound=None, **config):
    layer = {'class_name': class_name, 'config': dict(config, name=name, trainable=True)}
    if inbound is not None:
        layer.update(name=name, inbound_nodes=[[[n, 0, 0] for n in inbound]] if inbound else [])
    return layer


def keras1_functional(name):
    """Two branches of th kernels, joined by Merge; batch norm; an even padding as a list of four."""
    def build():
        x = L.Input((3, 9, 8))
        a = L.Conv2D(4, (3, 2), activation='relu', data_format='channels_first', name='c1')(x)
        b = L.ZeroPadding2D(((1, 0), (0, 1)), data_format='channels_first')(x)
        b = L.Conv2D(5, (4, 3), data_format='channels_first', name='c2')(b)
        b = L.BatchNormalization(axis=1, name='bn')(b)
        a = L.MaxPooling2D(2, data_format='channels_first')(a)
        b = L.MaxPooling2D(2, data_format='channels_first')(b)
        y = L.Concatenate(axis=1)([a, b])
        y = L.Dropout(0.5)(L.Flatten()(y))
        return keras.Model(x, L.Dense(3, activation='softmax', name='d')(y))
    x, y, w = answers(Case(name, build, [('normal', (2, 3, 9, 8))]))
    conv = dict(init='glorot_uniform', subsample=[1, 1], dim_ordering='th', bias=True, W_regularizer=None)
    pool = dict(pool_size=[2, 2], strides=[2, 2], border_mode='valid', dim_ordering='th')
    layers = [
        k1_layer('InputLayer', 'in', [], batch_input_shape=[None, 3, 9, 8], input_dtype='float32', sparse=False),
        k1_layer('Convolution2D', 'c1', ['in'], nb_filter=4, nb_row=3, nb_col=2, border_mode='valid',
                 activation='relu', **conv),
        k1_layer('ZeroPadding2D', 'p', ['in'], padding=[1, 0, 0, 1], dim_ordering='th'),
        k1_layer('Convolution2D', 'c2', ['p'], nb_filter=5, nb_row=4, nb_col=3, border_mode='valid',
                 activation='linear', **conv),
        k1_layer('BatchNormalization', 'bn', ['c2'], epsilon=1e-3, mode=0, axis=1, momentum=0.99),
        k1_layer('MaxPooling2D', 'm1', ['c1'], **pool), k1_layer('MaxPooling2D', 'm2', ['bn'], **pool),
        k1_layer('Merge', 'cat', ['m1', 'm2'], mode='concat', mode_type='raw', concat_axis=1, dot_axes=-1,
                 output_shape=None, output_shape_type='raw', arguments={}),
        k1_layer('Flatten', 'f', ['cat']), k1_layer('Dropout', 'drop', ['f'], p=0.5),
        k1_layer('Dense', 'd', ['drop'], output_dim=3, init='glorot_uniform', activation='softmax', bias=True,
                 input_dim=None)]
    architecture = {'class_name': 'Model', 'config': {
        'name': 'model_1', 'layers': layers, 'input_layers': [['in', 0, 0]], 'output_layers': [['d', 0, 0]]}}
    th = lambda kernel: kernel.transpose(3, 2, 0, 1)  # (kh, kw, in, out) -> (out, in, kh, kw)
    groups = [('in', []), ('c1', [('c1_W', th(w['c1'][0])), ('c1_b', w['c1'][1])]), ('p', []),
              ('c2', [('c2_W', th(w['c2'][0])), ('c2_b', w['c2'][1])]),
              ('bn', list(zip(('bn_gamma', 'bn_beta', 'bn_running_mean', 'bn_running_std'), w['bn']))),
              ('m1', []), ('m2', []), ('cat', []), ('f', []), ('drop', []), ('d', [('d_W', w['d'][0]), ('d_b', w['d'][1])])]
    write(name, (x, y), architecture, groups, '1.2.2')


def keras1_sequential(name):
    """A Sequential as a list: a kernel of four dimensions over time, and matrices of one gate each."""
    def build():
        return keras.Sequential([
            L.Input((12, 3)), L.Conv1D(4, 3, strides=1, padding='same', activation='tanh', name='c'),
            L.MaxPooling1D(2),
            L.LSTM(5, return_sequences=True, name='lstm'),
            L.Bidirectional(L.GRU(4, reset_after=False), name='bi'), L.Dense(2, name='d')])
    x, y, w = answers(Case(name, build, [('normal', (2, 12, 3))]))
    cell = dict(init='glorot_uniform', inner_init='orthogonal', activation='tanh', inner_activation='sigmoid',
                W_regularizer=None, dropout_W=0., dropout_U=0., go_backwards=False, stateful=False, unroll=False,
                consume_less='cpu')
    architecture = {'class_name': 'Sequential', 'config': [
        k1_layer('Convolution1D', 'c', nb_filter=4, filter_length=3, border_mode='same', subsample_length=1,
                 activation='tanh', bias=True, input_dim=3, input_length=12, batch_input_shape=[None, 12, 3]),
        k1_layer('MaxPooling1D', 'm', pool_length=2, stride=2, border_mode='valid'),
        k1_layer('LSTM', 'lstm', output_dim=5, forget_bias_init='one', return_sequences=True, **cell),
        k1_layer('Bidirectional', 'bi', merge_mode='concat', layer=k1_layer(
            'GRU', 'gru', output_dim=4, return_sequences=False, **cell)),
        k1_layer('Dense', 'd', output_dim=2, activation='linear', bias=True)]}

    def gates(name, weights, order, names):
        parts = [np.split(w, len(names), axis=-1) for w in weights]
        return [('%s_%s_%s' % (name, 'WUb'[p], names[i]), parts[p][order[i]])
                for i in range(len(names)) for p in range(3)]
    groups = [('c', [('c_W', w['c'][0][:, None]), ('c_b', w['c'][1])]), ('m', []),
              ('lstm', gates('lstm', w['lstm'], (0, 2, 1, 3), 'icfo')),  # the file's i, c, f, o of Keras 3's i, f, c, o
              ('bi', gates('forward', w['bi'][:3], (0, 1, 2), 'zrh') + gates('backward', w['bi'][3:], (0, 1, 2), 'zrh')),
              ('d', [('d_W', w['d'][0]), ('d_b', w['d'][1])])]
    write(name, (x, y), architecture, groups, '1.1.0')


def theano(name):
    """Keras 2 on Theano: kernels upside down, in one dimension and two, forward and transposed."""
    def build():
        x = L.Input((8, 7, 2))
        y = L.Conv2D(3, (3, 2), strides=2, padding='same', activation='relu', name='a')(x)
        y = L.Conv2DTranspose(4, 3, strides=2, name='b')(y)
        y = L.Reshape((-1, 4))(y)
        return keras.Model(x, L.Conv1D(2, 3, name='c')(y))
    x, y, w = answers(Case(name, build, [('normal', (2, 8, 7, 2))]))
    conv = dict(data_format='channels_last', use_bias=True)
    layers = [
        k1_layer('InputLayer', 'in', [], batch_input_shape=[None, 8, 7, 2], dtype='float32', sparse=False),
        k1_layer('Conv2D', 'a', ['in'], filters=3, kernel_size=[3, 2], strides=[2, 2], padding='same',
                 dilation_rate=[1, 1], activation='relu', **conv),
        k1_layer('Conv2DTranspose', 'b', ['a'], filters=4, kernel_size=[3, 3], strides=[2, 2], padding='valid',
                 activation='linear', **conv),
        k1_layer('Reshape', 'r', ['b'], target_shape=[-1, 4]),
        k1_layer('Conv1D', 'c', ['r'], filters=2, kernel_size=[3], strides=[1], padding='valid',
                 dilation_rate=[1], activation='linear', use_bias=True)]
    architecture = {'class_name': 'Model', 'config': {
        'name': 'model_1', 'layers': layers, 'input_layers': [['in', 0, 0]], 'output_layers': [['c', 0, 0]]}}
    groups = [('in', []), ('a', [('a/kernel:0', w['a'][0][::-1, ::-1]), ('a/bias:0', w['a'][1])]),
              ('b', [('b/kernel:0', w['b'][0][::-1, ::-1]), ('b/bias:0', w['b'][1])]), ('r', []),
              ('c', [('c/kernel:0', w['c'][0][::-1]), ('c/bias:0', w['c'][1])])]
    write(name, (x, y), architecture, groups, '2.1.6', 'theano')


def corner_sampling(name):
    """keras.io up to 2.3.1 upsampled bilinearly without half pixels: cell o looks at o * in / out."""
    x = np.random.default_rng(7).normal(size=(2, 4, 3, 2)).astype('float32')

    def axis(a, n, factor):
        at = np.arange(n * factor) / factor
        low = np.floor(at).astype(int)
        high, share = np.minimum(low + 1, n - 1), at - low
        a = np.moveaxis(a, 1, -1)
        return np.moveaxis(a[..., low] * (1 - share) + a[..., high] * share, -1, 1)
    y = axis(x.astype('float64'), 4, 2)
    y = np.swapaxes(axis(np.swapaxes(y, 1, 2), 3, 3), 1, 2)
    layers = [
        k1_layer('UpSampling2D', 'up', batch_input_shape=[None, 4, 3, 2], size=[2, 3], interpolation='bilinear',
                 data_format='channels_last', dtype='float32')]
    architecture = {'class_name': 'Sequential', 'config': {'name': 'sequential_1', 'layers': layers}}
    write(name, ([x], [y]), architecture, [('up', [])], '2.2.4', 'tensorflow')


def integer_lookup(name):
    """Words 7, 3 and 5, a mask token and what is unknown, as numbers and as columns."""
    x = np.array([[7, 3, 5, 0, 9], [5, 0, -4, 7, 7]], 'int32')
    y = np.select([x == 0, x == 7, x == 3, x == 5], [0, 2, 3, 4], 1).astype('float64')
    lookup = dict(vocabulary=[7, 3, 5], mask_token=0, oov_token=-1, num_oov_indices=1, invert=False, sparse=False,
                  pad_to_max_tokens=False, max_tokens=None, dtype='int64')
    layers = [
        k1_layer('InputLayer', 'in', [], batch_input_shape=[None, 5], dtype='int32', sparse=False),
        k1_layer('IntegerLookup', 'a', ['in'], output_mode='int', **lookup),
        k1_layer('IntegerLookup', 'b', ['in'], output_mode='multi_hot', **dict(lookup, mask_token=None))]
    architecture = {'class_name': 'Functional', 'config': {
        'name': 'model_1', 'layers': layers, 'input_layers': [['in', 0, 0]],
        'output_layers': [['a', 0, 0], ['b', 0, 0]]}}
    hot = np.zeros((2, 4))
    for row, words in enumerate(np.select([x == 7, x == 3, x == 5], [1, 2, 3], 0)):
        hot[row, words] = 1
    write(name, ([x], [y, hot]), architecture, [('in', []), ('a', []), ('b', [])], '2.9.0', 'tensorflow')


def seq_plain_lzf(name):
    """seq_plain.h5, chunked and packed by h5py's LZF, shuffled and with a checksum."""
    folder = os.path.join(ROOT, 'tests', 'data', 'keras')

    def copy(source, target):
        target.attrs.update(source.attrs)
        for key, item in source.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(key))
            else:
                target.create_dataset(key, data=item[()], compression='lzf', shuffle=True, fletcher32=True)
    with h5py.File(os.path.join(folder, 'seq_plain.h5')) as source:
        with h5py.File(os.path.join(folder, name + '.h5'), 'w') as target:
            copy(source, target)


MAKERS = {'keras1_functional': keras1_functional, 'keras1_sequential': keras1_sequential, 'theano': theano,
          'corner_sampling': corner_sampling, 'seq_plain_lzf': seq_plain_lzf,
          'integer_lookup': integer_lookup}

if __name__ == '__main__':
    for wanted in sys.argv[1:] or MAKERS:
        MAKERS[wanted](wanted)
