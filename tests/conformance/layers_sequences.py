"""The layer matrix: sequences, masks and attention."""
from layers_matrix import EXACT, L, LONG, RANDOM, add, keras, many, one


def recurrent():
    for kind in ('SimpleRNN', 'GRU', 'LSTM'):
        def layer(k=kind, **more):
            # in float64 Keras's own loop stumbles over these two on JAX
            loops = k == 'SimpleRNN' or (k == 'GRU' and not more.get('use_bias', True))
            return getattr(L, k)(5, **(dict(more, unroll=True) if loops else more))
        def masked(make):
            return lambda: keras.Sequential([L.Input((6, 3)), L.Masking(), make()])
        one('%s/last' % kind.lower(), (6, 3), lambda f=layer: f())
        one('%s/sequences' % kind.lower(), (6, 3), lambda f=layer: f(return_sequences=True))
        one('%s/backwards' % kind.lower(), (6, 3), lambda f=layer: f(go_backwards=True, return_sequences=True))
        one('%s/nobias' % kind.lower(), (6, 3), lambda f=layer: f(use_bias=False))
        one('%s/bidirectional' % kind.lower(), (6, 3), lambda f=layer: L.Bidirectional(f(return_sequences=True)))
        one('%s/bidirectional-last-sum' % kind.lower(), (6, 3),
            lambda f=layer: L.Bidirectional(f(), merge_mode='sum'))
        many('%s/state' % kind.lower(), [(6, 3)], lambda x, f=layer: list(f(return_state=True)(x)))
        add('%s/masked' % kind.lower(), masked(lambda f=layer: f()), [('padded', (4, 6, 3))])
        add('%s/bidirectional-masked' % kind.lower(),
            masked(lambda f=layer: L.Bidirectional(f(return_sequences=True))), [('padded', (4, 6, 3))])
    one('lstm/long', (120, 8), lambda: L.LSTM(16), LONG)
    one('gru/reset-before', (6, 3), lambda: L.GRU(5, reset_after=False))
    one('lstm/hard-sigmoid-relu', (6, 3), lambda: L.LSTM(5, activation='relu', recurrent_activation='hard_sigmoid'))
    add('lstm/stacked', lambda: keras.Sequential([
        L.Input((6, 3)), L.LSTM(5, return_sequences=True), L.GRU(4), L.Dense(2)]), [('normal', (2, 6, 3))])
    one('conv_lstm1d', (4, 6, 2), lambda: L.ConvLSTM1D(3, 3, padding='same'))
    one('conv_lstm2d', (4, 6, 5, 2), lambda: L.ConvLSTM2D(3, 3, padding='same', return_sequences=True))
    one('conv_lstm2d/valid-s2', (4, 7, 6, 2), lambda: L.ConvLSTM2D(3, 3, strides=2))
    one('time_distributed/dense', (4, 6), lambda: L.TimeDistributed(L.Dense(5)))
    one('time_distributed/conv', (4, 6, 5, 2), lambda: L.TimeDistributed(L.Conv2D(3, 3)))

    def encoder_decoder(x, z):
        _, h, c = L.LSTM(5, return_state=True)(x)
        return L.Dense(3)(L.LSTM(5, return_sequences=True)(z, initial_state=[h, c]))
    many('lstm/encoder-decoder', [(6, 3), (4, 2)], encoder_decoder)


def attention():
    many('attention', [(5, 8), (6, 8), (6, 8)], lambda q, v, k: L.Attention()([q, v, k]))
    many('attention/scale', [(5, 8), (6, 8)], lambda q, v: L.Attention(use_scale=True)([q, v]))
    many('attention/additive', [(5, 8), (6, 8)], lambda q, v: L.AdditiveAttention()([q, v]))
    many('multi_head_attention', [(5, 8), (6, 8)],
         lambda q, v: L.MultiHeadAttention(2, 4, output_shape=7)(q, v))
    many('multi_head_attention/value-dim', [(5, 8), (6, 8)],
         lambda q, v: list(L.MultiHeadAttention(2, 4, value_dim=3)(q, v, return_attention_scores=True)))
    many('multi_head_attention/causal', [(5, 8)],
         lambda x: L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True))
    many('multi_head_attention/scores-nobias', [(5, 8), (6, 8)],
         lambda q, v: list(L.MultiHeadAttention(2, 4, use_bias=False)(q, v, return_attention_scores=True)))
    many('multi_head_attention/axes', [(3, 4, 8)],
         lambda x: L.MultiHeadAttention(2, 4, attention_axes=(1,))(x, x))
    many('grouped_query_attention', [(5, 8), (6, 8)],
         lambda q, v: L.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)(q, v))


KINDS = ('SimpleRNN', 'GRU', 'LSTM')


def looped(kind, *arguments, **more):
    """A recurrent layer; in float64 Keras's own loop stumbles over these two on JAX."""
    loops = kind == 'SimpleRNN' or (kind == 'GRU' and not more.get('use_bias', True))
    return getattr(L, kind)(*arguments, **dict({'unroll': True} if loops else {}, **more))


def words(make, length=7, count=11, width=4):
    """Words of which 0 is none, their vectors, and what obeys the mask."""
    def build():
        x = L.Input((length,), dtype='int32')
        return keras.Model(x, make(L.Embedding(count, width, mask_zero=True)(x)))
    return build, [('index', (2, length), count)]


def recurrent_options():
    for kind in KINDS:
        name = kind.lower()
        one(name + '/unroll', (5, 3), lambda k=kind: getattr(L, k)(4, unroll=True, return_sequences=True))
        one(name + '/loop', (5, 3), lambda k=kind: getattr(L, k)(4, return_sequences=True))
        one(name + '/one-step', (1, 3), lambda k=kind: looped(k, 4))
        one(name + '/dropout', (5, 3), lambda k=kind: looped(k, 4, dropout=0.3, recurrent_dropout=0.2))
        one(name + '/relu', (5, 3), lambda k=kind: looped(k, 4, activation='relu'))
        one(name + '/linear', (5, 3), lambda k=kind: looped(k, 4, activation=None))
        one(name + '/cell', (5, 3), lambda k=kind: L.RNN(getattr(L, k + 'Cell')(4), unroll=True, return_sequences=True))
        one(name + '/cells', (5, 3), lambda k=kind: L.RNN([getattr(L, k + 'Cell')(n) for n in (4, 3)], unroll=True))
        many(name + '/cells-state', [(5, 3)], lambda x, k=kind: [
            y for y in keras.tree.flatten(L.RNN([getattr(L, k + 'Cell')(n) for n in (4, 3)], unroll=True,
                                                return_state=True)(x))])
        for mode in ('concat', 'sum', 'mul', 'ave', None):
            many('%s/bidirectional-%s' % (name, mode), [(5, 3)], lambda x, k=kind, m=mode: L.Bidirectional(
                looped(k, 4, return_sequences=True), merge_mode=m)(x))
        one(name + '/bidirectional-other', (5, 3), lambda k=kind: L.Bidirectional(
            looped(k, 4, return_sequences=True), backward_layer=looped('LSTM', 4, return_sequences=True,
                go_backwards=True)))
        many(name + '/bidirectional-state', [(5, 3)],
             lambda x, k=kind: list(L.Bidirectional(looped(k, 4, return_state=True))(x)))
        many(name + '/initial-state', [(5, 3), (4,)],
             lambda x, h, k=kind: looped(k, 4, return_sequences=True)(x, initial_state=[h, h] if k == 'LSTM' else [h]))
        one(name + '/time-distributed', (3, 5, 2), lambda k=kind: L.TimeDistributed(looped(k, 4)))
    one('gru/reset-before-backwards', (6, 3), lambda: L.GRU(5, reset_after=False, go_backwards=True,
        return_sequences=True))
    one('gru/hard-sigmoid', (6, 3), lambda: L.GRU(5, recurrent_activation='hard_sigmoid'))
    one('gru/long', (120, 8), lambda: L.GRU(16), LONG)
    add('lstm/stateful', lambda: keras.Sequential([L.Input(batch_shape=(2, 5, 3)), L.LSTM(4, stateful=True)]),
        [('normal', (2, 5, 3))], ways=[['batch 2']])


def masks():
    for kind in KINDS:
        name = kind.lower()
        for label, more in (('last', {}), ('sequences', {'return_sequences': True}),
                            ('backwards', {'return_sequences': True, 'go_backwards': True}),
                            ('zero-output', {'return_sequences': True, 'zero_output_for_mask': True})):
            add('%s/words-%s' % (name, label), *words(lambda y, k=kind, m=more: looped(k, 4, **m)(y)))
        add(name + '/words-stacked', *words(lambda y, k=kind: looped(k, 3)(
            L.Dropout(0.1)(looped(k, 4, return_sequences=True)(y)))))
        add(name + '/words-bidirectional', *words(lambda y, k=kind: L.Bidirectional(looped(k, 4))(y)))
        add(name + '/words-bidirectional-stacked', *words(lambda y, k=kind: L.Bidirectional(looped(k, 3))(
            L.Bidirectional(looped(k, 4, return_sequences=True))(y))))
    obeying = {
        'average': lambda y: L.GlobalAveragePooling1D()(y), 'max': lambda y: L.GlobalMaxPooling1D()(y),
        'attention': lambda y: L.Attention()([y, y]), 'additive': lambda y: L.AdditiveAttention()([y, y]),
        'heads': lambda y: L.MultiHeadAttention(2, 3)(y, y), 'causal': lambda y: L.MultiHeadAttention(2, 3)(
            y, y, use_causal_mask=True),
        'grouped': lambda y: L.GroupQueryAttention(head_dim=2, num_query_heads=2, num_key_value_heads=1)(y, y),
        'dense': lambda y: L.GlobalAveragePooling1D()(L.LayerNormalization()(L.Dense(5, activation='tanh')(y))),
        'add': lambda y: L.GlobalAveragePooling1D()(L.Add()([y, L.Dense(4)(y)])),
        'multiply': lambda y: L.GlobalAveragePooling1D()(L.Multiply()([y, L.Dense(4)(y)])),
        'concatenate': lambda y: L.LSTM(3)(L.Concatenate()([y, L.Dense(2)(y)])),
        'conv': lambda y: L.GlobalAveragePooling1D()(L.Conv1D(3, 3, padding='same')(y)),
        'time-distributed': lambda y: L.GlobalAveragePooling1D()(L.TimeDistributed(L.Dense(3))(y)),
        'flatten': lambda y: L.Dense(3)(L.Flatten()(y)),
        'activation': lambda y: L.GlobalAveragePooling1D()(L.Activation('relu')(L.Dropout(0.2)(y)))}
    for label, make in obeying.items():
        add('mask/' + label, *words(make))
    add('mask/number', lambda: keras.Sequential([L.Input((6, 3)), L.Masking(mask_value=1.5), L.LSTM(4)]),
        [('normal', (2, 6, 3))])

    def explicit(x, m):
        return L.LSTM(4, return_sequences=True)(x, mask=m)

    def build():
        x, m = L.Input((6, 3)), L.Input((6,), dtype='bool')
        return keras.Model([x, m], explicit(x, m))
    add('mask/given', build, [('normal', (2, 6, 3)), ('truth', (2, 6))])


def attention_options():
    q, v = (5, 8), (6, 8)
    many('attention/concat', [q, v], lambda a, b: L.Attention(score_mode='concat', use_scale=True)([a, b]))
    many('attention/causal', [(5, 8)], lambda a: L.Attention()([a, a], use_causal_mask=True))
    many('attention/scores', [q, v], lambda a, b: list(L.Attention(dropout=0.2)([a, b], return_attention_scores=True)))
    many('attention/additive-noscale', [q, v], lambda a, b: L.AdditiveAttention(use_scale=False)([a, b]))
    many('attention/additive-three', [q, v, v], lambda a, b, c: L.AdditiveAttention()([a, b, c]))
    many('multi_head_attention/three', [q, v, (6, 5)], lambda a, b, c: L.MultiHeadAttention(3, 4)(a, c, b))
    many('multi_head_attention/one-head', [q, v], lambda a, b: L.MultiHeadAttention(1, 8, dropout=0.1)(a, b))
    many('multi_head_attention/output-shape', [(4, 5, 8)],
         lambda a: L.MultiHeadAttention(2, 3, output_shape=(3, 2), attention_axes=(2,))(a, a))
    many('multi_head_attention/axes12', [(3, 4, 8)], lambda a: L.MultiHeadAttention(2, 4, attention_axes=(1, 2))(a, a))
    many('multi_head_attention/gate', [q, v], lambda a, b: L.MultiHeadAttention(2, 4, use_gate=True)(a, b))
    many('multi_head_attention/mask', [(5, 8)], lambda a: L.MultiHeadAttention(2, 4)(
        a, a, attention_mask=keras.ops.convert_to_tensor([[[True, False, True, True, j != 2] for j in range(5)]])))
    many('grouped_query_attention/causal', [(5, 8)],
         lambda a: L.GroupQueryAttention(head_dim=3, num_query_heads=6, num_key_value_heads=2)(a, a,
             use_causal_mask=True))
    many('grouped_query_attention/one', [q, v], lambda a, b: L.GroupQueryAttention(
        head_dim=4, num_query_heads=3, num_key_value_heads=1, use_bias=False)(a, b))


def wrapped():
    one('conv_lstm1d/options', (4, 9, 2), lambda: L.ConvLSTM1D(3, 3, strides=2, return_sequences=True,
        go_backwards=True))
    one('conv_lstm1d/dilation', (4, 9, 2), lambda: L.ConvLSTM1D(3, 2, dilation_rate=2, padding='same', use_bias=False))
    one('conv_lstm2d/relu', (3, 5, 4, 2), lambda: L.ConvLSTM2D(
        3, 3, padding='same', activation='relu', recurrent_activation='hard_sigmoid'))
    many('conv_lstm2d/state', [(3, 5, 4, 2)], lambda x: list(L.ConvLSTM2D(3, 3, padding='same', return_state=True)(x)))
    one('conv_lstm2d/first', (3, 2, 5, 4), lambda: L.ConvLSTM2D(3, 3, padding='same', data_format='channels_first'))
    one('conv_lstm3d', (3, 4, 3, 4, 2), lambda: L.ConvLSTM3D(2, 2, padding='same'))
    one('bidirectional/conv_lstm1d', (3, 5, 2), lambda: L.Bidirectional(
        L.ConvLSTM1D(2, 3, padding='same', return_sequences=True)))
    for name, shape, make in (
            ('pool', (3, 6, 5, 2), lambda: L.MaxPooling2D(2)), ('flatten', (3, 4, 2), lambda: L.Flatten()),
            ('norm', (3, 4, 5), lambda: L.BatchNormalization()), ('conv1d', (3, 6, 2), lambda: L.Conv1D(3, 3)),
            ('global', (3, 6, 5, 2), lambda: L.GlobalAveragePooling2D()), ('activation', (3, 4),
                lambda: L.Activation('relu')),
            ('dropout', (3, 4), lambda: L.Dropout(0.3)), ('twice', (2, 3, 4), lambda: L.TimeDistributed(L.Dense(3)))):
        one('time_distributed/' + name, shape, lambda m=make: L.TimeDistributed(m()))
    one('time_distributed/model', (3, 6, 5, 2), lambda: L.TimeDistributed(keras.Sequential([
        L.Input((6, 5, 2)), L.Conv2D(3, 3, activation='relu'), L.BatchNormalization(), L.GlobalMaxPooling2D(),
            L.Dense(4)])))


GROUPS = (recurrent, recurrent_options, masks, attention, attention_options, wrapped)
