"""The layer matrix: words and categories, networks, open sizes, other types."""
from layers_matrix import EXACT, L, RANDOM, add, keras, many, one, opened


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




def words():
    """Indices, categories, and layers that act in training only."""
    one('embedding/rank2', (3, 4), lambda: L.Embedding(11, 5), EXACT, 'index', 11)
    one('embedding/one', (1,), lambda: L.Embedding(11, 5, mask_zero=True), EXACT, 'index', 11)
    for mode in ('one_hot', 'multi_hot', 'count'):
        shape = (1,) if mode == 'one_hot' else (5,)
        one('category_encoding/' + mode, shape, lambda m=mode: L.CategoryEncoding(11, output_mode=m), EXACT, 'index',
            11)
        one('integer_lookup/' + mode, shape, lambda m=mode: L.IntegerLookup(vocabulary=[7, 1, 4, 9], output_mode=m),
            EXACT, 'index', 11)
    for mode in ('int', 'one_hot', 'multi_hot', 'count'):
        one('discretization/' + mode, (1,) if mode == 'one_hot' else (6,),
            lambda m=mode: L.Discretization(bin_boundaries=[-1., 0., 0.5], output_mode=m), EXACT)
    one('integer_lookup/int', (5,), lambda: L.IntegerLookup(vocabulary=[7, 1, 4, 9]), EXACT, 'index', 11)
    one('integer_lookup/mask-token', (5,), lambda: L.IntegerLookup(vocabulary=[7, 1, 4, 9], mask_token=0,
        num_oov_indices=2),
        EXACT, 'index', 11)
    for name in ('RandomCrop', 'RandomHeight', 'RandomWidth', 'RandomBrightness', 'RandomShear', 'RandomHue',
        'RandomInvert',
                 'RandomGrayscale', 'RandomErasing', 'Solarization', 'RandomPosterization', 'RandomGaussianBlur'):
        more = (5, 4) if name == 'RandomCrop' else (4,) if name == 'RandomPosterization' else () if name in (
            'RandomInvert', 'RandomGrayscale', 'RandomErasing', 'Solarization', 'RandomGaussianBlur',
                'RandomShear') else (0.2,)
        one('random/' + name, (8, 7, 3), lambda n=name, m=more: getattr(L, n)(*m), RANDOM, 'image')
    one('auto_contrast', (8, 7, 3), lambda: L.AutoContrast(), RANDOM, 'image')

    def tied(x):
        table = L.ReversibleEmbedding(11, 4)
        return table(L.Dense(4, activation='tanh')(table(x)), reverse=True)
    many('reversible_embedding', [(5,)], tied, kinds=['index'], bound=11)


def open_sizes():
    """Inputs whose sizes the file leaves open."""
    def pictures(x):
        y = L.Conv2D(6, 3, strides=2, padding='same', activation='relu')(x)
        y = L.MaxPooling2D(2, padding='same')(L.BatchNormalization()(y))
        return L.Dense(4)(L.GlobalAveragePooling2D()(L.DepthwiseConv2D(3, padding='same')(y)))

    def dense_pictures(x):
        y = L.Conv2D(5, 3, padding='same', activation='relu')(x)
        return L.Concatenate()([y, L.UpSampling2D()(L.AveragePooling2D(2)(y))])

    def masked(x):
        y = L.Embedding(11, 4, mask_zero=True)(x)
        return L.Dense(2)(L.Bidirectional(L.LSTM(3))(y))

    def tokens(x):
        y = L.Embedding(11, 6)(x)
        y = L.LayerNormalization()(L.Add()([y, L.MultiHeadAttention(2, 3)(y, y)]))
        return L.GlobalAveragePooling1D()(y)
    opened('open/picture', (None, None, 3), (11, 8, 3), pictures)
    opened('open/width', (8, None, 3), (8, 12, 3), pictures)
    opened('open/picture-out', (None, None, 3), (8, 6, 3), dense_pictures)
    opened('open/resized', (None, None, 3), (9, 7, 3), lambda x: L.Flatten()(L.Resizing(4, 4)(x)))
    opened('open/transposed', (None, None, 2), (4, 3, 2), lambda x: L.Conv2DTranspose(3, 3, strides=2,
        padding='same')(x))
    opened('open/volume', (None, None, None, 2), (4, 5, 3, 2), lambda x: L.GlobalMaxPooling3D()(L.Conv3D(3, 2)(x)))
    opened('open/steps', (None, 3), (7, 3), lambda x: L.Dense(2)(L.LSTM(4)(L.GRU(4, return_sequences=True)(x))))
    opened('open/steps-out', (None, 3), (7, 3), lambda x: L.TimeDistributed(L.Dense(2))(L.LSTM(4,
        return_sequences=True)(x)))
    opened('open/causal', (None, 3), (9, 3), lambda x: L.Conv1D(4, 3, dilation_rate=2, padding='causal')(x))
    opened('open/words', (None,), (7,), masked, kind='index', bound=11)
    opened('open/tokens', (None,), (7,), tokens, kind='index', bound=11)
    opened('open/padded', (None, 3), (6, 3), lambda x: L.GRU(4)(L.Masking()(x)), kind='padded')


def types():
    """Layers that compute in less than float32: as many digits as they have."""
    for policy, tolerance in (('mixed_float16', 5e-3), ('mixed_bfloat16', 4e-2), ('float16', 5e-3), ('bfloat16', 4e-2)):
        def mixed(x, p=policy):
            y = L.Conv2D(6, 3, activation='relu', dtype=p)(x)
            y = L.Flatten(dtype=p)(L.MaxPooling2D(2, dtype=p)(L.BatchNormalization(dtype=p)(y)))
            return L.Dense(4, activation='softmax', dtype='float32')(L.Dense(9, activation='gelu', dtype=p)(y))
        many('types/%s-conv' % policy, [(9, 8, 3)], mixed, tolerance)
        many('types/%s-lstm' % policy, [(6, 3)], lambda x, p=policy: L.Dense(3, dtype='float32')(L.LSTM(5,
            dtype=p)(x)), tolerance)
        many('types/%s-attention' % policy, [(5, 8)], lambda x, p=policy: L.LayerNormalization(dtype=p)(
            L.MultiHeadAttention(2, 4, dtype=p)(x, x)), tolerance)
    one('types/float64', (6,), lambda: L.Dense(5, dtype='float64', activation='tanh'))


def more_nets():
    def block(x, filters, stride=1):
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, strides=stride, padding='same', use_bias=False)(x)))
        y = L.BatchNormalization()(L.Conv2D(filters, 3, padding='same', use_bias=False)(y))
        if stride > 1 or x.shape[-1] != filters:
            x = L.BatchNormalization()(L.Conv2D(filters, 1, strides=stride)(x))
        return L.ReLU()(L.Add()([x, y]))

    def transformer(x):
        y = L.Embedding(11, 8)(x)
        for _ in range(2):
            z = L.LayerNormalization(epsilon=1e-6)(y)
            y = L.Add()([y, L.Dropout(0.1)(L.MultiHeadAttention(2, 4)(z, z))])
            z = L.LayerNormalization(epsilon=1e-6)(y)
            y = L.Add()([y, L.Dense(8)(L.Dense(16, activation='gelu')(z))])
        return L.Dense(3, activation='softmax')(L.GlobalAveragePooling1D()(y))

    def wavenet(x):
        sum_of_skips = []
        y = L.Conv1D(6, 2, padding='causal')(x)
        for rate in (1, 2, 4):
            a = L.Conv1D(6, 2, dilation_rate=rate, padding='causal', activation='tanh')(y)
            b = L.Conv1D(6, 2, dilation_rate=rate, padding='causal', activation='sigmoid')(y)
            z = L.Conv1D(6, 1)(L.Multiply()([a, b]))
            y = L.Add()([y, z])
            sum_of_skips.append(z)
        return L.Conv1D(4, 1, activation='softmax')(L.ReLU()(L.Add()(sum_of_skips)))

    def inception(x):
        parts = [L.Conv2D(4, 1, activation='relu')(x),
                 L.Conv2D(4, (1, 3), padding='same')(L.Conv2D(3, (3, 1), padding='same')(x)),
                 L.Conv2D(3, 5, padding='same')(L.Conv2D(2, 1)(x)),
                 L.Conv2D(3, 1)(L.AveragePooling2D(3, 1, padding='same')(x))]
        return L.GlobalMaxPooling2D()(L.BatchNormalization(scale=False)(L.Concatenate()(parts)))

    def siamese(a, b):
        base = keras.Sequential([L.Input((8, 7, 1)), L.Conv2D(4, 3, activation='relu'), L.Flatten(), L.Dense(5)])
        return L.Dot(axes=1, normalize=True)([base(a), base(b)])

    def autoencoder(x):
        encoder = keras.Sequential([L.Input((8, 8, 1)), L.Conv2D(4, 3, strides=2, padding='same', activation='relu'),
                                    L.Flatten(), L.Dense(3)], name='encoder')
        decoder = keras.Sequential([L.Input((3,)), L.Dense(64, activation='relu'), L.Reshape((4, 4, 4)),
                                    L.Conv2DTranspose(1, 3, strides=2, padding='same', activation='sigmoid')],
                                        name='decoder')
        code = encoder(x)
        return [decoder(code), code]

    def text(x):
        y = L.SpatialDropout1D(0.2)(L.Embedding(30, 6)(x))
        return L.Dense(1, activation='sigmoid')(L.Concatenate()(
            [L.GlobalMaxPooling1D()(L.Conv1D(4, k, activation='relu')(y)) for k in (2, 3, 4)]))

    def video(x):
        y = L.TimeDistributed(L.Conv2D(4, 3, activation='relu'))(x)
        return L.Dense(3)(L.LSTM(4)(L.TimeDistributed(L.GlobalAveragePooling2D())(y)))

    def sequence_pair(x, z):
        y, h, c = L.Bidirectional(L.LSTM(3, return_sequences=True, return_state=True))(x)[:3]
        d = L.LSTM(3, return_sequences=True)(z, initial_state=[h, c])
        return L.TimeDistributed(L.Dense(4, activation='softmax'))(L.Concatenate()([d, L.Attention()([d,
            L.Dense(3)(y)])]))

    def from_middle():
        x = L.Input((6,))
        y = L.Dense(5, name='middle')(x)
        whole = keras.Model(x, L.Dense(3)(y))
        return keras.Model(whole.inputs, [whole.get_layer('middle').output, whole.output])

    def named():
        a, b = L.Input((4,), name='zebra'), L.Input((4,), name='ant')
        return keras.Model({'zebra': a, 'ant': b}, {'b/c': L.Dense(2, name='slash')(a), 'a': L.Subtract()([a, b])})

    def deeper():
        x = L.Input((6,))
        y = x
        for depth in range(3):
            inside = L.Input((6,))
            z = L.BatchNormalization()(L.Dense(6)(inside))
            model = keras.Model(inside, z if depth == 0 else last(z))
            last, y = model, model(y)
        return keras.Model(x, y)
    many('net/residual', [(12, 12, 3)], lambda x: L.GlobalAveragePooling2D()(block(block(x, 6), 8, 2)))
    many('net/transformer', [(7,)], transformer, kinds=['index'], bound=11)
    many('net/wavenet', [(12, 2)], wavenet)
    many('net/inception', [(8, 9, 3)], inception)
    many('net/siamese', [(8, 7, 1)] * 2, siamese)
    many('net/autoencoder', [(8, 8, 1)], autoencoder)
    many('net/text', [(9,)], text, kinds=['index'], bound=30)
    many('net/video', [(3, 6, 5, 2)], video)
    many('net/sequence-pair', [(6, 3), (4, 2)], sequence_pair)
    add('net/from-the-middle', from_middle, [('normal', (2, 6))])
    add('net/models-in-models', deeper, [('normal', (2, 6))])
    add('net/named', named, [('normal', (2, 4))] * 2)
    many('net/python-operators', [(5, 6), (5, 6)], lambda a, b: (a + b) * 2. - a / (abs(b) + 1.) + (-a)[:, ::-1, :])


def shared():
    """Layers and models at several places, which a .keras file of Keras has the weights of at the first alone."""
    def model(*layers):
        x = y = L.Input((6,))
        for layer in layers:
            y = layer(y)
        return keras.Model(x, y)

    def inner_first():
        base = model(L.Dense(6), L.Dense(6, activation='tanh'))
        return model(model(L.Dense(6), base), base)

    def layer_after():
        layer = L.Dense(6, activation='tanh')
        return model(model(layer, L.Dense(6)), layer, L.Dense(6))

    def layer_before():
        layer = L.Dense(6, activation='tanh')
        return model(layer, L.Dense(6), model(layer, L.Dense(6)))

    def towers():
        layer, x = L.Dense(6, activation='tanh'), L.Input((6,))
        a, b = model(layer, L.Dense(6)), model(L.Dense(6), layer)
        return model(keras.Model(x, L.Add()([a(x), b(x)])), L.Dense(2))

    def chains():
        chain = keras.Sequential([L.Input((6,)), L.Dense(6), L.Dense(6, activation='tanh')])
        longer, x = keras.Sequential([L.Input((6,)), chain, L.Dense(6)]), L.Input((6,))
        return keras.Model(x, L.Add()([chain(x), longer(x)]))

    def frozen():
        base, x = model(L.Dense(6), L.BatchNormalization()), L.Input((6,))
        base.trainable = False
        return keras.Model(x, L.Dense(3)(L.Add()([base(x), model(L.Dense(6), base)(x)])))

    def in_time():
        base, x, y = model(L.Dense(6, activation='tanh'), L.Dense(6)), L.Input((4, 6)), L.Input((6,))
        return keras.Model([x, y], L.Add()([L.GlobalAveragePooling1D()(L.TimeDistributed(base)(x)), base(y)]))

    def cells():
        cell, x, y = L.LSTMCell(5), L.Input((4, 6)), L.Input((3, 6))
        return keras.Model([x, y], L.Add()([L.RNN(cell)(x), L.RNN(cell)(y)]))
    for build in (inner_first, layer_after, layer_before, towers, chains, frozen):
        add('shared/' + build.__name__.replace('_', '-'), build, [('normal', (2, 6))])
    add('shared/in-time', in_time, [('normal', (2, 4, 6)), ('normal', (2, 6))])
    add('shared/cells', cells, [('normal', (2, 4, 6)), ('normal', (2, 3, 6))])


GROUPS = (others, words, nets, more_nets, shared, open_sizes, types)
