"""What the files of the layer matrix say: a case of one layer, of several inputs, of inputs of open size."""
from oracle import Case, keras

L = keras.layers
RANDOM = 1e-5
EXACT = 0.0  # layers that only move data
LONG = 5e-5
# two rows: as a batch that is not full, and one by one
WAYS = [['batch 8'], ['batch 1']]
TOGETHER = [['batch 2']]  # where the samples of a batch see each other
NAMES = {}


def add(name, build, inputs, tolerance=RANDOM, **more):
    if name in NAMES:
        raise ValueError('two cases are called ' + name)
    more.setdefault('ways', WAYS)
    NAMES[name] = Case(name, build, inputs, tolerance, **more)


def one(name, shape, layer, tolerance=RANDOM, kind='normal', bound=None, **more):
    """A model of one layer; `layer` makes it (late, so that a missing class is this case's news)."""
    def build():
        x = L.Input(shape, dtype='int32') if kind == 'index' else L.Input(shape)
        return keras.Model(x, layer()(x))
    add(name, build, [(kind, (2,) + shape, bound)], tolerance, **more)


def many(name, shapes, join, tolerance=RANDOM, kinds=None, bound=None, **more):
    """A model of several inputs; join(*tensors) returns its output or outputs."""
    kinds = kinds or ['normal'] * len(shapes)
    def build():
        xs = [L.Input(s, dtype='int32') if k == 'index' else L.Input(s) for s, k in zip(shapes, kinds)]
        return keras.Model(xs if len(xs) > 1 else xs[0], join(*xs))
    add(name, build, [(k, (2,) + s, bound) for s, k in zip(shapes, kinds)], tolerance, **more)


def opened(name, open_shape, shape, join, tolerance=RANDOM, kind='normal', bound=None, **more):
    """A model whose input leaves sizes open (None), asked at `shape`."""
    def build():
        x = L.Input(open_shape, dtype='int32') if kind == 'index' else L.Input(open_shape)
        return keras.Model(x, join(x))
    add(name, build, [(kind, (2,) + shape, bound)], tolerance, shape=shape, **more)
