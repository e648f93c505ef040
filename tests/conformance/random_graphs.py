"""Random functional graphs: layers and op nodes with random options, joined at random, from a seed.

A graph is named random/SEED (random/SEED-N for its first N steps: how a failure is made smaller). Build it twice
and it is the same. Only what is continuous is drawn (of inputs also what jumps), so that a rounding error stays one; a
graph that is badly conditioned shows in Keras's own float32 error, and its tolerance grows with that.
"""
import random_layers
import random_ops
from oracle import Case, keras
from random_draw import Draw, L, axis_of, fits, ops, size_of

TOLERANCE = 1e-5
CONDITION = 5            # times Keras's own float32 error
CONDITION_MAX = 1e-4     # an output that float32 itself gets more wrong than this judges nobody
BATCH = 2


def tensors_of(y):
    """The tensors that come of a call."""
    return list(y) if isinstance(y, (list, tuple)) else [y]


def unary(d, x):
    """A layer on x: its outputs."""
    while True:
        layer = d.attempt(d.one(*random_layers.UNARY), x)
        if layer:
            y = d.attempt(lambda d: tensors_of(layer(x)))
            if y and all(map(fits, y)):
                return y


def op(d, x):
    while True:
        y = d.attempt(d.one(*random_ops.OPS), x)
        if y is not None and all(map(fits, tensors_of(y))):
            return tensors_of(y)


# ---- what joins tensors: functions (draw, x) -> tensor, several or None ----

def merge(d, x):
    """x with a tensor of its shape, or along an axis."""
    other = d.pick(lambda y: y is not x and tuple(y.shape) == tuple(x.shape))
    if other is None:
        other = L.Dense(x.shape[-1], activation=d.activation())(x)
    elif d.maybe(0.25):  # one layer, called twice
        layer = d.one(lambda: L.Dense(d.int(1, 5), activation=d.activation()),
                      lambda: L.GRU(3) if random_layers.sequence(x) else L.BatchNormalization())()
        return L.Add()([layer(x), layer(d.use(other))])
    d.use(other)
    kind = d.one('Add', 'Subtract', 'Multiply', 'Average', 'Maximum', 'Minimum', 'Concatenate', 'op')
    if kind == 'op':
        return d.one(lambda: x + other, lambda: x - other, lambda: x * other, lambda: ops.maximum(x, other),
                     lambda: ops.where(x > other, x, other), lambda: x / (abs(other) + 1.),
                     lambda: ops.stack([x, other], axis=axis_of(d, x)),
                     lambda: ops.concatenate([x, other], axis=axis_of(d, x)))()
    if kind == 'Concatenate':
        return L.Concatenate(axis=axis_of(d, x))([x, other])
    if kind != 'Subtract' and d.maybe(0.3):
        return getattr(L, kind)()([x, other, x])
    return getattr(L, kind)()([x, other])


def broadcast(d, x):
    """x with one that has fewer elements, or a lower rank."""
    if len(x.shape) < 3:
        return None
    gate = L.Dense(x.shape[-1], activation='sigmoid')(ops.mean(x, axis=list(range(1, len(x.shape) - 1)), keepdims=True))
    if d.maybe(0.3):
        lower = L.Dense(x.shape[-1])(ops.mean(x, axis=1))
        return getattr(L, d.one('Add', 'Multiply', 'Maximum', 'Average'))()([x, lower])
    return L.Multiply()([x, gate]) if d.maybe(0.5) else x * gate


def dot(d, x):
    if len(x.shape) == 2:
        return L.Dot(axes=1, normalize=d.maybe(0.5))([x, L.Dense(x.shape[-1])(x)])
    if len(x.shape) != 3:
        return None
    return d.one(lambda: L.Dot(axes=2, normalize=d.maybe(0.3))([x, L.Dense(x.shape[-1])(x)]),
                 lambda: L.Dot(axes=1)([x, L.Dense(d.int(1, 4))(x)]),
                 lambda: L.Dot(axes=(2, 1))([x, L.Permute((2, 1))(x)]))()


def attention(d, x):
    if len(x.shape) != 3 or x.shape[1] > 16:
        return None
    other = d.pick(lambda y: len(y.shape) == 3 and y.shape[2] == x.shape[2]) if d.maybe(0.5) else x
    heads, causal = d.int(1, 3), d.maybe(0.3)
    if other is not x:
        d.use(other)
    kind = d.one('multi', 'multi', 'dot', 'concat', 'additive', 'grouped', 'op')
    if kind == 'multi':
        scores = d.maybe(0.2)
        made = L.MultiHeadAttention(heads, d.int(1, 5), value_dim=d.one(None, None, 3), use_bias=d.maybe(0.8),
                                    output_shape=d.one(None, None, 4))
        return made(x, other, use_causal_mask=causal, return_attention_scores=scores)
    if kind == 'grouped':
        return L.GroupQueryAttention(head_dim=d.int(1, 4), num_query_heads=2 * heads, num_key_value_heads=heads,
                                     use_bias=d.maybe(0.7))(x, other, use_causal_mask=causal)
    if kind == 'additive':
        return L.AdditiveAttention(use_scale=d.maybe(0.7))([x, other], use_causal_mask=causal)
    if kind == 'op':
        shape = (-1, x.shape[1], heads, 4)
        q, k, v = (ops.reshape(L.Dense(4 * heads)(x), shape) for _ in range(3))
        return ops.reshape(ops.dot_product_attention(q, k, v, is_causal=causal), (-1, x.shape[1], 4 * heads))
    made = L.Attention(use_scale=d.maybe(0.5), score_mode=kind)
    values = [x, other] + ([other] if d.maybe(0.2) else [])
    return made(values, use_causal_mask=causal, return_attention_scores=d.maybe(0.2))


def axial(d, x):
    """Attention over one axis of several."""
    if len(x.shape) != 4:
        return None
    return L.MultiHeadAttention(d.int(1, 2), d.int(1, 4), attention_axes=d.one((1,), (2,), (1, 2)))(x, x)


def states(d, x):
    """A recurrent layer that hands its state to another."""
    if not random_layers.sequence(x):
        return None
    units, kind = d.int(1, 4), d.one('SimpleRNN', 'GRU', 'LSTM')
    made = getattr(L, kind)(units, return_state=True, return_sequences=True)
    both = d.maybe(0.3)
    y, *state = (L.Bidirectional(made) if both else made)(x)
    taker = getattr(L, kind)(units, return_sequences=d.maybe(0.5))
    if both:
        taker = L.Bidirectional(taker)
    return taker(L.Dense(2)(x if d.maybe(0.5) else y), initial_state=state)


def masked(d, x):
    """A mask from here on, through layers that hand it on, to one that obeys it."""
    if not random_layers.sequence(x) or x.shape[1] < 2:
        return None
    y = L.Masking(mask_value=d.one(0., 0., d.number()))(x)
    for _ in range(d.int(0, 2)):
        y = d.one(L.Dropout(0.1), L.Dense(d.int(1, 5)), L.LayerNormalization(epsilon=0.01), L.Activation('tanh'),
                  L.LSTM(3, return_sequences=True), L.LeakyReLU(0.2))(y)
    return obey(d, y)


def obey(d, y):
    """A layer that does something with the mask of y."""
    recurrent = getattr(L, d.one('SimpleRNN', 'GRU', 'LSTM'))
    more = {'go_backwards': d.maybe(0.2)}
    sequences = d.maybe(0.5)
    return d.one(lambda: recurrent(d.int(1, 5), return_sequences=sequences, **more)(y),
                 lambda: recurrent(3, return_sequences=True, zero_output_for_mask=True)(y),
                 lambda: L.Bidirectional(recurrent(d.int(1, 4), return_sequences=sequences))(y),
                 lambda: L.RNN([random_layers.cell(d), random_layers.cell(d)])(y),
                 lambda: L.GlobalAveragePooling1D()(y), lambda: L.GlobalMaxPooling1D()(y),
                 lambda: L.MultiHeadAttention(2, 3)(y, y), lambda: L.Attention()([y, y]),
                 lambda: L.AdditiveAttention()([y, y]), lambda: L.TimeDistributed(L.Dense(3))(y),
                 lambda: L.Concatenate()([y, L.Dense(2)(y)]), lambda: L.Add()([y, L.Dropout(0.1)(y)]),
                 lambda: L.GroupQueryAttention(head_dim=2, num_query_heads=2, num_key_value_heads=1)(y, y),
                 lambda: recurrent(2)(L.Concatenate()([y, L.Dense(2)(y)])))()


def chain(d, y, count):
    """Some layers and op nodes on y; the last tensor."""
    for _ in range(count):
        y = (unary if d.maybe(0.8) else op)(d, y)[-1]
    return y


def nested(d, x):
    """A model of its own, called once or twice."""
    inside = L.Input(tuple(x.shape[1:]))
    y = chain(d, inside, d.int(1, 3))
    if d.maybe(0.2):  # a model in the model
        z = L.Input(tuple(y.shape[1:]))
        y = keras.Model(z, chain(d, z, d.int(1, 2)))(y)
    if y is inside:
        return None
    outputs = [y, L.Dense(2)(inside)] if d.maybe(0.2) else y
    model = keras.Model(inside, outputs)
    if d.maybe(0.3):
        model.trainable = False
    elif d.maybe(0.3) and len(model.layers) > 1:
        model.layers[1].trainable = False
    z = model(x)
    if isinstance(outputs, list):
        return z
    return L.Add()([z, model(x * 0.5)]) if d.maybe(0.3) else z


def nested_pair(d, x):
    """A model of two inputs, the second of which another model may make."""
    a, b = L.Input(tuple(x.shape[1:])), L.Input(tuple(x.shape[1:]))
    layer = L.Dense(d.int(1, 4), activation=d.activation())
    model = keras.Model([a, b], d.one(L.Add, L.Multiply, L.Concatenate)()([layer(a), layer(b)]))
    other = d.pick(lambda y: tuple(y.shape) == tuple(x.shape))
    d.use(other)
    return model([x, other])


def nested_sequential(d, x):
    """Layers of one input and one output, in a row."""
    layers, y = [], x
    for _ in range(d.int(1, 3)):
        for _ in range(20):
            layer = d.attempt(d.one(*random_layers.UNARY), y)
            if not isinstance(layer, keras.layers.Layer):
                continue
            z = d.attempt(lambda d: layer(L.Input(tuple(y.shape[1:]))))
            if z is not None and not isinstance(z, (list, tuple)) and fits(z):
                layers.append(layer)
                y = z
                break
    return keras.Sequential(([L.Input(tuple(x.shape[1:]))] if d.maybe(0.8) else []) + layers)(x) if layers else None


def tied(d, x):
    """Words in, scores of words out, with one table."""
    if len(x.shape) != 3 or getattr(L, 'ReversibleEmbedding', None) is None:
        return None
    table = L.ReversibleEmbedding(d.int(3, 9), d.int(1, 6), tie_weights=d.maybe(0.5))
    words = ops.cast(ops.clip(ops.abs(x[:, :, 0]) * 0., 0., 1.), 'int32')
    return table(L.Dense(table.output_dim)(table(words) + ops.mean(x, axis=-1, keepdims=True)), reverse=True)


JOINS = (merge, merge, merge, broadcast, dot, attention, attention, axial, states, masked, masked, nested, nested,
         nested_pair, nested_sequential, tied)


def step(d):
    x = d.pick()
    way = d.rng.random()
    while True:
        y = unary(d, x) if way < 0.5 else op(d, x) if way < 0.72 else d.attempt(d.one(*JOINS), x)
        if y is not None and all(map(fits, tensors_of(y))):
            break
    y = [one for one in tensors_of(y) if one is not x]
    if y:
        d.use(x)
    for one in y:
        d.keep(one)


# ---- inputs and the model ----

SHAPES = [(6,), (11,), (7, 4), (10, 3), (5, 6), (8, 7, 3), (6, 9, 4), (3, 6, 5), (4, 5, 4, 2), (5, 4, 6, 3),
          (2, 3, 4, 4, 2)]


def hot_words(d, x):
    """Integers as numbers: what some layers of Keras make of integers they make integers again."""
    return L.Dense(d.int(1, 4), activation=d.activation())(x) if d.maybe(0.5) else ops.cast(x, keras.config.floatx())


def words(d):
    """(input, what draws it, a tensor): integers, and a layer that makes numbers of them."""
    length, count = d.int(3, 8), d.int(5, 20)
    x = L.Input((length,), dtype='int32')
    y = d.attempt(lambda d: d.one(lambda: L.Embedding(count, d.int(1, 6), mask_zero=d.maybe(0.5))(x),
              lambda: obey(d, L.Embedding(count, d.int(1, 6), mask_zero=True)(x)),
              lambda: L.CategoryEncoding(count, output_mode=d.one('multi_hot', 'count'))(x),
              lambda: L.CategoryEncoding(count, output_mode='one_hot')(x),
              lambda: hot_words(d, L.IntegerLookup(vocabulary=list(range(0, count, 2)), output_mode='multi_hot')(x)),
              lambda: L.Embedding(count, 3)(L.IntegerLookup(vocabulary=list(range(1, count, 2)))(x)),
              lambda: ops.one_hot(x, count))())
    return x, ('index', (BATCH, length), count), y


def padded(d):
    shape = (d.int(4, 8), d.int(1, 5))
    x = L.Input(shape)
    return x, ('padded', (BATCH,) + shape), d.attempt(masked, x) if d.maybe(0.6) else L.Masking()(x)


def numbers(d):
    shape = d.one(*SHAPES)
    x, way = L.Input(shape), d.rng.random()
    y = x
    if way < 0.12:
        y = d.attempt(random_ops.jump, x)
    elif way < 0.18:
        bounds = sorted(set(d.numbers(d.int(1, 4))))
        y = L.Discretization(bin_boundaries=bounds)(x)
        y = ops.cast(y, keras.config.floatx()) if d.maybe(0.5) else L.Embedding(len(bounds) + 1, 2)(y)
    return x, ('normal', (BATCH,) + shape), y


def inputs_of(d):
    """Inputs and what draws them: mostly numbers, sometimes words or padded sequences."""
    xs, specs = [], []
    for _ in range(d.one(1, 1, 1, 2, 3)):
        way = d.rng.random()
        x, spec, y = (words if way < 0.15 else padded if way < 0.3 else numbers)(d)
        if y is None or not all(map(fits, tensors_of(y))):
            y = ops.cast(x, keras.config.floatx())
        xs.append(x)
        specs.append(spec)
        for one in tensors_of(y):
            d.keep(one)
    return xs, specs


def sequential(d):
    """A model that is one row of layers."""
    shape, layers = d.one(*SHAPES), []
    y = L.Input(shape)
    while len(layers) < d.steps:
        layer = d.attempt(d.one(*random_layers.UNARY), y)
        z = d.attempt(lambda d: layer(y)) if isinstance(layer, keras.layers.Layer) else None
        if z is not None and not isinstance(z, (list, tuple)) and fits(z):
            layers.append(layer)
            y = z
    return keras.Sequential([L.Input(shape)] + layers), [('normal', (BATCH,) + shape)]


def build(d):
    """(model, what draws its inputs)"""
    if d.maybe(0.08):
        return sequential(d)
    xs, specs = inputs_of(d)
    for _ in range(d.steps):
        step(d)
    ends = [x for x in d.tensors if not d.uses[id(x)] and all(x is not i for i in xs)][:4]
    if not ends:
        ends = [L.Activation('tanh')(d.tensors[-1])]
    outputs = ends[0] if len(ends) == 1 else {'out_%s' % c: y for c, y in zip('dbca', ends)} if d.maybe(0.3) else ends
    return keras.Model(xs if len(xs) > 1 else xs[0], outputs), specs


def classes_of(model):
    """How often each class of layer and op stands in the model, nested models and wrapped layers too."""
    found = []
    for operation in model.operations if hasattr(model, 'operations') else model.layers:
        found.append(type(operation).__name__)
        if isinstance(operation, keras.Model):
            found += classes_of(operation)
        for inner in ('layer', 'forward_layer', 'cell'):
            if hasattr(operation, inner):
                found.append(type(getattr(operation, inner)).__name__)
    return found


def case(seed, steps=None):
    keras.backend.clear_session()
    d = Draw(seed, steps)
    model, specs = build(d)
    name = 'random/%d' % seed + ('' if steps is None else '-%d' % steps)
    ways = [['batch %d' % BATCH]] + ([] if d.mixes else [['batch 1', 'fusion off']])
    made = Case(name, lambda: build(Draw(seed, steps))[0], specs, TOLERANCE, ways=ways)
    made.refused, made.classes = d.refused, classes_of(model)
    return made
