"""The random choices of one graph: what random_layers.py and random_ops.py draw from."""
import random

import numpy as np

from oracle import keras

L = keras.layers
ops = getattr(keras, 'ops', None)
ELEMENTS_MAX = 3000  # of a tensor, per sample
RANK_MAX = 6

# only what is continuous, so that a rounding error stays one
SMOOTH = ('celu elu exponential gelu hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid log_softmax mish '
          'relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax '
          'squareplus swish tanh tanh_shrink').split()


def size_of(x):
    return int(np.prod(x.shape[1:]))


def fits(x):
    """Is it a tensor that a graph goes on with?"""
    return 2 <= len(x.shape) <= RANK_MAX and 0 < size_of(x) <= ELEMENTS_MAX


class Draw:
    """The random choices of one graph, and the tensors made so far."""

    def __init__(self, seed, steps=None):
        self.rng = random.Random(seed)
        self.steps = self.rng.randint(3, 12)
        if steps is not None:
            self.steps = min(self.steps, steps)
        self.tensors, self.uses, self.refused = [], {}, []
        self.mixes = False  # do samples of a batch see each other?

    def maybe(self, share):
        return self.rng.random() < share

    def one(self, *choices):
        return self.rng.choice(choices)

    def int(self, low, high):
        return self.rng.randint(low, high)

    def number(self, low=-1.5, high=1.5):
        return round(self.rng.uniform(low, high), 3)

    def numbers(self, count, low=-1.5, high=1.5):
        return [self.number(low, high) for _ in range(count)]

    def activation(self, share=0.6):
        """By name, or now and then a layer."""
        if not self.maybe(share):
            return None
        return L.LeakyReLU(0.1) if self.maybe(0.05) else self.one(*SMOOTH)

    def keep(self, x):
        self.tensors.append(x)
        self.uses.setdefault(id(x), 0)

    def use(self, x):
        self.uses[id(x)] = self.uses.get(id(x), 0) + 1
        return x

    def pick(self, fitting=lambda x: True):
        """A tensor, one that nobody uses yet rather than another; None if none fits."""
        found = [x for x in self.tensors if fitting(x)]
        if not found:
            return None
        fresh = [x for x in found if not self.uses[id(x)]]
        return self.rng.choice(fresh if fresh and self.maybe(0.75) else found)

    def attempt(self, make, *arguments):
        """What `make` draws, or None where Keras refuses it (which the run counts)."""
        try:
            return make(self, *arguments)
        except (ValueError, TypeError, NotImplementedError, AttributeError, IndexError, ImportError) as why:
            self.refused.append((make.__name__, str(why).strip().split('\n')[0][:120]))
            return None


def axis_of(d, x):
    axis = d.int(1, len(x.shape) - 1)
    return axis if d.maybe(0.5) else axis - len(x.shape)


def axes_of(d, x):
    """One axis or several next to each other."""
    first = d.int(1, len(x.shape) - 1)
    last = d.int(first, len(x.shape) - 1)
    return first if first == last else list(range(first, last + 1))


def divisor_of(d, number, most=4):
    return d.one(*[n for n in range(1, most + 1) if number % n == 0])


def spatial(x):
    """1, 2 or 3 for what a convolution takes, else 0."""
    rank = len(x.shape) - 2
    return rank if 1 <= rank <= 3 and min(x.shape[1:-1]) >= 2 else 0


def kernel_of(d, x, first=1):
    return tuple(d.int(1, min(3, n)) for n in x.shape[first:first + len(x.shape) - 2])
