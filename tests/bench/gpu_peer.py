"""One GPU peer in a process of its own, driven by lines of JSON.

usage: gpu_peer.py ENGINE MODEL.keras RECIPE.json.gz INPUT.npy PRECISION THOROUGH
       ENGINE: torch-eager, torch-graph, torch-compile, jax-jit, keras-torch, keras-jax
       THOROUGH 1: torch.compile searches (max-autotune) and folds weights (freezing)

Writes one object when the first result is there, {"missing": WHAT} or {"error": WHY}, then answers each line read:
  {"do": "measure", "seconds": S} -> {"latency_ms": {"p50", "p90", "p99"}, "steps", "throughput_per_s"}
  {"do": "output", "path": P}     -> {}, and the outputs for INPUT are in P
A latency step is from the input in host memory to the output in host memory; throughput is back to back with
inputs that stay on the device, synchronised once. The models of PyTorch and JAX are built from the Keras file's own
description, layer by layer, so that every engine computes the same with the same weights.
"""
import gzip
import io
import json
import os
import re
import sys
import time
import zipfile

# ---- the model as the Keras file describes it --------------------------------------------------


def snake(name):
    """Keras's name of a layer inside its weights file."""
    name = re.sub('(.)([A-Z][a-z0-9]+)', r'\1_\2', re.sub(r'\W+', '', name))
    return re.sub('([a-z])([A-Z])', r'\1_\2', name).lower()


def stored_weights(path, config):
    """{layer name: arrays} from the file's HDF5 part: containers count their layers by class."""
    import h5py
    import numpy
    with zipfile.ZipFile(path) as f:
        store = h5py.File(io.BytesIO(f.read('model.weights.h5')), 'r')
    found = {}

    def walk(layers, prefix):
        used = {}
        for layer in layers:
            name = snake(layer['class_name'])
            used[name] = used.get(name, -1) + 1
            place = '%slayers/%s' % (prefix, name + ('_%d' % used[name] if used[name] else ''))
            if 'layers' in layer['config']:
                walk(layer['config']['layers'], place + '/')
            elif place + '/vars' in store:
                values = store[place + '/vars']
                found[layer['config']['name']] = [numpy.asarray(values[str(i)]) for i in range(len(values))]
    walk(config['config']['layers'], '')
    return found


def drawn_weights(recipe):
    """The same values by the generator of the demo models, where h5py is not there."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from models import draw
    with gzip.open(recipe) as f:
        entries = json.load(f)['weights']
    return {name.rsplit('/', 1)[-1]: [draw(name, *entry) for entry in rows] for name, rows in entries.items()}


def parents(layer):
    """Names of the layers that feed this one."""
    found = []

    def look(value):
        if isinstance(value, dict) and value.get('class_name') == '__keras_tensor__':
            found.append(value['config']['keras_history'][0])
        elif isinstance(value, dict):
            for one in value.values():
                look(one)
        elif isinstance(value, (list, tuple)):
            for one in value:
                look(one)
    for node in layer.get('inbound_nodes', [])[:1]:
        look(node.get('args', []))
    return found


def flatten(config, weights, last=None):
    """[(name, class, config, parents, weights)] in order, nested models opened."""
    steps, before = [], last
    inner = {}
    for layer in config['config']['layers']:
        name, kind = layer['config']['name'], layer['class_name']
        feeds = [inner.get(parent, parent) for parent in parents(layer)] or ([before] if before else [])
        if kind == 'InputLayer' and before is not None:
            inner[name] = before
            continue
        if 'layers' in layer['config']:
            nested = flatten(layer, weights, feeds[0])
            steps += nested
            inner[name] = nested[-1][0]
        else:
            steps.append((name, kind, layer['config'], feeds, weights.get(name, [])))
        before = inner.get(name, name)
    return steps


def evaluate(steps, operations, x):
    """Walk the layers; `operations` has one method a class."""
    values, y = {}, x
    for name, kind, config, feeds, weights in steps:
        if kind == 'InputLayer':
            values[name] = x
            continue
        inputs = [values[feed] for feed in feeds]
        y = getattr(operations, kind)(config, inputs if len(inputs) > 1 else inputs[0], weights)
        values[name] = y
    return y


def same(size, kernel, stride):
    """Keras's padding on both sides of one dimension."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Shared:
    """What is the same in both: `weights` are already arrays of the library."""

    def Add(self, config, inputs, weights):
        total = inputs[0]
        for value in inputs[1:]:
            total = total + value
        return total

    def Multiply(self, config, inputs, weights):
        return inputs[0] * inputs[1]

    def Dropout(self, config, x, weights):
        return x

    StochasticDepth = Dropout

    def Rescaling(self, config, x, weights):
        return x * config['scale'] + config['offset']

    def Activation(self, config, x, weights):
        return self.function(config['activation'], x)

    def ReLU(self, config, x, weights):
        y = self.function('relu', x)
        return y if config.get('max_value') is None else y.clip(max=config['max_value'])


class InJax(Shared):
    """NHWC."""

    def __init__(self):
        import jax
        import jax.numpy
        self.jax, self.np = jax, jax.numpy

    def function(self, name, x):
        functions = {'linear': lambda x: x, 'relu': self.jax.nn.relu, 'swish': self.jax.nn.silu,
                     'silu': self.jax.nn.silu, 'sigmoid': self.jax.nn.sigmoid, 'softmax': self.jax.nn.softmax,
                     'tanh': self.np.tanh, 'gelu': lambda x: self.jax.nn.gelu(x, approximate=False)}
        return functions[name](x)

    def convolve(self, config, x, kernel, groups):
        padding = 'SAME' if config['padding'] == 'same' else 'VALID'
        return self.jax.lax.conv_general_dilated(x, kernel, config['strides'], padding,
                                                 rhs_dilation=config['dilation_rate'],
                                                 dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=groups)

    def finish(self, config, y, bias):
        return self.function(config['activation'], y + bias[0] if bias else y)

    def Conv2D(self, config, x, weights):
        return self.finish(config, self.convolve(config, x, weights[0], config['groups']), weights[1:])

    def DepthwiseConv2D(self, config, x, weights):
        height, width, channels, multiplier = weights[0].shape
        kernel = weights[0].reshape(height, width, 1, channels * multiplier)
        return self.finish(config, self.convolve(config, x, kernel, channels), weights[1:])

    def Dense(self, config, x, weights):
        return self.finish(config, x @ weights[0], weights[1:])

    def BatchNormalization(self, config, x, weights):
        gamma, beta, mean, variance = weights
        scale = gamma * (variance + config['epsilon']) ** -0.5
        return x * scale + (beta - mean * scale)

    def LayerNormalization(self, config, x, weights):
        wide = x.astype('float32')
        mean = wide.mean(-1, keepdims=True)
        variance = ((wide - mean) ** 2).mean(-1, keepdims=True)
        return ((wide - mean) * (variance + config['epsilon']) ** -0.5).astype(x.dtype) * weights[0] + weights[1]

    def Normalization(self, config, x, weights):
        return (x - weights[0]) / self.np.maximum(weights[1] ** 0.5, 1e-7)

    def LayerScale(self, config, x, weights):
        return x * weights[0]

    def ZeroPadding2D(self, config, x, weights):
        return self.np.pad(x, ((0, 0), *[tuple(pair) for pair in config['padding']], (0, 0)))

    def MaxPooling2D(self, config, x, weights):
        padding = 'SAME' if config['padding'] == 'same' else 'VALID'
        return self.jax.lax.reduce_window(x, -self.np.inf, self.jax.lax.max, (1, *config['pool_size'], 1),
                                          (1, *config['strides'], 1), padding)

    def GlobalAveragePooling2D(self, config, x, weights):
        return x.mean((1, 2), keepdims=config.get('keepdims', False))

    def Reshape(self, config, x, weights):
        return x.reshape(x.shape[0], *config['target_shape'])

    def Flatten(self, config, x, weights):
        return x.reshape(x.shape[0], -1)


class InTorch(Shared):
    """NCHW in the shape, channels last in memory. Kernels were turned when they were loaded."""

    def __init__(self):
        import torch
        self.torch, self.f = torch, torch.nn.functional

    def function(self, name, x):
        f = self.f
        functions = {'linear': lambda x: x, 'relu': f.relu, 'swish': f.silu, 'silu': f.silu,
                     'sigmoid': self.torch.sigmoid, 'softmax': lambda x: f.softmax(x, -1), 'tanh': self.torch.tanh,
                     'gelu': f.gelu}
        return functions[name](x)

    def convolve(self, config, x, weights, groups):
        kernel, bias = weights[0], weights[1] if len(weights) > 1 else None
        padding = (0, 0)
        if config['padding'] == 'same':
            pairs = [same(x.shape[2 + i], (kernel.shape[2 + i] - 1) * config['dilation_rate'][i] + 1,
                          config['strides'][i]) for i in range(2)]
            if all(low == high for low, high in pairs):
                padding = (pairs[0][0], pairs[1][0])
            else:
                x = self.f.pad(x, (*pairs[1], *pairs[0]))
        y = self.f.conv2d(x, kernel, bias, tuple(config['strides']), padding, tuple(config['dilation_rate']), groups)
        return self.function(config['activation'], y)

    def Conv2D(self, config, x, weights):
        return self.convolve(config, x, weights, config['groups'])

    def DepthwiseConv2D(self, config, x, weights):
        return self.convolve(config, x, weights, x.shape[1])

    def last(self, x, apply):
        """Apply to the channels: where they lie last in memory the permutations move nothing."""
        return apply(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if x.dim() == 4 else apply(x)

    def Dense(self, config, x, weights):
        bias = weights[1] if len(weights) > 1 else None
        return self.function(config['activation'], self.last(x, lambda x: self.f.linear(x, weights[0], bias)))

    def BatchNormalization(self, config, x, weights):
        gamma, beta, mean, variance = weights
        return self.f.batch_norm(x, mean, variance, gamma, beta, False, 0.0, config['epsilon'])

    def LayerNormalization(self, config, x, weights):
        return self.last(x, lambda x: self.f.layer_norm(x, (x.shape[-1],), weights[0], weights[1], config['epsilon']))

    def Normalization(self, config, x, weights):
        return (x - weights[0].view(1, -1, 1, 1)) / weights[1].view(1, -1, 1, 1).sqrt().clamp(min=1e-7)

    def LayerScale(self, config, x, weights):
        return x * weights[0].view(1, -1, 1, 1)

    def ZeroPadding2D(self, config, x, weights):
        rows, columns = config['padding']
        return self.f.pad(x, (*columns, *rows))

    def MaxPooling2D(self, config, x, weights):
        if config['padding'] == 'same':
            pairs = [same(x.shape[2 + i], config['pool_size'][i], config['strides'][i]) for i in range(2)]
            x = self.f.pad(x, (*pairs[1], *pairs[0]), value=float('-inf'))
        return self.f.max_pool2d(x, tuple(config['pool_size']), tuple(config['strides']))

    def GlobalAveragePooling2D(self, config, x, weights):
        return x.mean((2, 3), keepdim=config.get('keepdims', False))

    def Reshape(self, config, x, weights):
        shape = config['target_shape']
        if len(shape) == 3:  # (1, 1, channels): channels come second here
            return x.reshape(x.shape[0], shape[2], shape[0], shape[1])
        return x.reshape(x.shape[0], *shape)

    def Flatten(self, config, x, weights):
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1) if x.dim() == 4 else x


# ---- the peers ---------------------------------------------------------------------------------

class Torch:
    def __init__(self, name, path, recipe, x, precision, thorough):
        import numpy
        import torch
        if not torch.cuda.is_available():
            raise ImportError('PyTorch %s sees no GPU' % torch.__version__)
        self.torch = torch
        self.versions = {'torch': torch.__version__, 'cuda': torch.version.cuda,
                         'cudnn': torch.backends.cudnn.version()}
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == 'tf32'
        self.dtype = {'fp16': torch.float16, 'bf16': torch.bfloat16}.get(precision, torch.float32)
        steps = read_model(path, recipe)
        ready = []
        for layer, kind, config, feeds, arrays in steps:
            tensors = [torch.from_numpy(numpy.ascontiguousarray(self.turned(kind, i, array, numpy))).cuda()
                       for i, array in enumerate(arrays)]
            if kind != 'Normalization':  # its 1/sqrt(variance) of a huge variance is nothing in fp16
                tensors = [tensor.to(self.dtype) for tensor in tensors]
            tensors = [tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
                       for tensor in tensors]
            ready.append((layer, kind, config, feeds, tensors))

        operations, dtype = InTorch(), self.dtype

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                for i, step in enumerate(ready):
                    for k, tensor in enumerate(step[4]):
                        self.register_buffer('w%d_%d' % (i, k), tensor)

            def forward(self, x):
                bound = [(*step[:4], [getattr(self, 'w%d_%d' % (i, k)) for k in range(len(step[4]))])
                         for i, step in enumerate(ready)]
                return evaluate(bound, operations, x).to(dtype)

        self.model = Model().eval()
        self.host = torch.from_numpy(x)
        if self.host.dim() == 4:
            self.host = self.host.permute(0, 3, 1, 2)  # channels last in memory as it is
        self.host = self.host.pin_memory() if self.host.is_contiguous() else self.pinned(self.host)
        self.resident = self.host.cuda().to(self.dtype)
        self.call = self.model
        if name == 'torch-compile':
            if thorough:
                import torch._inductor.config
                torch._inductor.config.freezing = True
            self.call = torch.compile(self.model, mode='max-autotune' if thorough else None)
        elif name == 'torch-graph':
            self.capture()

    def pinned(self, tensor):
        whole = self.torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        if tensor.dim() == 4:
            whole = self.torch.empty(tensor.permute(0, 2, 3, 1).shape, dtype=tensor.dtype,
                                     pin_memory=True).permute(0, 3, 1, 2)
        return whole.copy_(tensor)

    @staticmethod
    def turned(kind, index, array, numpy):
        if index or kind not in ('Conv2D', 'DepthwiseConv2D', 'Dense'):
            return array.reshape(-1) if kind == 'Normalization' else array
        if kind == 'Conv2D':
            return array.transpose(3, 2, 0, 1)
        if kind == 'DepthwiseConv2D':
            height, width, channels, multiplier = array.shape
            return array.reshape(height, width, 1, channels * multiplier).transpose(3, 2, 0, 1)
        return array.T

    def capture(self):
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):
                self.model(self.resident)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            result = self.model(self.resident)

        def replay(x):
            if x is not self.resident:
                self.resident.copy_(x)
            graph.replay()
            return result
        self.call = replay

    def step(self):
        with self.torch.inference_mode():
            x = self.host.cuda(non_blocking=True).to(self.dtype)
            return self.call(x).float().cpu().numpy()

    def queue(self):
        with self.torch.inference_mode():
            self.call(self.resident)

    def wait(self):
        self.torch.cuda.synchronize()


class Jax:
    def __init__(self, name, path, recipe, x, precision, thorough):
        import jax
        import jax.numpy
        import numpy
        platform = jax.devices()[0].platform
        if platform == 'cpu' and not os.environ.get('LAYERTOP_BENCH_ON_CPU'):
            raise ImportError('JAX %s sees no GPU' % jax.__version__)
        self.versions = {'jax': jax.__version__}
        self.dtype = {'fp16': 'float16', 'bf16': 'bfloat16'}.get(precision, 'float32')
        jax.config.update('jax_default_matmul_precision', 'highest' if precision == 'fp32' else 'default')
        steps = read_model(path, recipe)
        arrays = [[jax.numpy.asarray(array, 'float32' if step[1] == 'Normalization' else self.dtype)
                   for array in step[4]] for step in steps]
        operations = InJax()

        def forward(arrays, x):
            bound = [(*step[:4], values) for step, values in zip(steps, arrays)]
            return evaluate(bound, operations, x.astype(self.dtype))

        self.call = jax.jit(forward)
        self.jax, self.numpy, self.arrays, self.host = jax, numpy, arrays, x
        self.resident = jax.device_put(x)
        self.last = None

    def step(self):
        return self.numpy.asarray(self.call(self.arrays, self.host)).astype('float32')

    def queue(self):
        self.last = self.call(self.arrays, self.resident)

    def wait(self):
        if self.last is not None:
            self.last.block_until_ready()


class Keras:
    """Keras 3 as most people call it: predict, on PyTorch or JAX."""

    def __init__(self, name, path, recipe, x, precision, thorough):
        backend = name.split('-')[1]
        library = __import__(backend)
        if backend == 'torch' and not library.cuda.is_available():
            raise ImportError('PyTorch %s sees no GPU' % library.__version__)
        if backend == 'jax' and library.devices()[0].platform == 'cpu' and \
                not os.environ.get('LAYERTOP_BENCH_ON_CPU'):
            raise ImportError('JAX %s sees no GPU' % library.__version__)
        if backend == 'torch':
            library.backends.cudnn.benchmark = True
            library.backends.cudnn.allow_tf32 = library.backends.cuda.matmul.allow_tf32 = precision == 'tf32'
        import keras
        self.versions = {'keras': keras.__version__, backend: library.__version__}
        model = keras.models.load_model(path, compile=False)
        if precision in ('fp16', 'bf16'):
            policy = 'mixed_float16' if precision == 'fp16' else 'mixed_bfloat16'
            weights = model.get_weights()
            model = keras.models.model_from_json(model.to_json().replace('{"name": "float32"}',
                                                                         '{"name": "%s"}' % policy))
            model.set_weights(weights)
        self.model, self.x = model, x
        self.pending = 0

    def step(self):
        return self.model.predict(self.x, batch_size=len(self.x), verbose=0)

    def queue(self):
        self.pending += 1

    def wait(self):
        """predict synchronises each batch: the most it can do is one call of many batches."""
        import numpy
        if self.pending:
            self.model.predict(numpy.broadcast_to(self.x, (self.pending, *self.x.shape)).reshape(
                -1, *self.x.shape[1:]), batch_size=len(self.x), verbose=0)
        self.pending = 0


def read_model(path, recipe):
    with zipfile.ZipFile(path) as f:
        config = json.loads(f.read('config.json'))
    try:
        weights = stored_weights(path, config)
    except ImportError:
        weights = drawn_weights(recipe)
    steps = flatten(config, weights)
    for i, (name, kind, settings, feeds, arrays) in enumerate(steps):
        if kind == 'Normalization' and not arrays:  # its numbers may stand in the description
            import numpy
            arrays = [numpy.asarray(settings[key], 'float32').reshape(-1) for key in ('mean', 'variance')]
            steps[i] = (name, kind, settings, feeds, arrays)
    return steps


PEERS = {'torch-eager': Torch, 'torch-graph': Torch, 'torch-compile': Torch, 'jax-jit': Jax, 'keras-torch': Keras,
         'keras-jax': Keras}


def percentile(walls, p):
    """Between neighbours linearly, as layertop does."""
    low = int(p * (len(walls) - 1))
    high = min(low + 1, len(walls) - 1)
    return walls[low] + (p * (len(walls) - 1) - low) * (walls[high] - walls[low])


def measure(peer, batch, seconds):
    for _ in range(3):
        peer.step()
    walls, until = [], time.perf_counter() + seconds
    while len(walls) < 10 or time.perf_counter() < until:
        start = time.perf_counter()
        peer.step()
        walls.append((time.perf_counter() - start) * 1e3)
    steps = max(3, min(100000, int(len(walls) * seconds * 1e3 / sum(walls))))
    if isinstance(peer, Keras):
        steps = min(steps, max(3, (1 << 28) // (peer.x.size * 4)))  # its one call holds all inputs
    peer.queue()
    peer.wait()
    start = time.perf_counter()
    for _ in range(steps):
        peer.queue()
    peer.wait()
    took = time.perf_counter() - start
    walls.sort()
    return {'latency_ms': {'p50': percentile(walls, 0.5), 'p90': percentile(walls, 0.9),
                           'p99': percentile(walls, 0.99)},
            'steps': len(walls), 'throughput_per_s': steps * batch / took}


def main():
    # what libraries print goes to standard error
    replies = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def reply(data):
        replies.write(json.dumps(data) + '\n')
        replies.flush()

    name, path, recipe, source, precision, thorough = sys.argv[1:7]
    try:
        import numpy
        x = numpy.load(source)
        peer = PEERS[name](name, path, recipe, x, precision, thorough == '1')
        peer.step()
    except ImportError as why:
        reply({'missing': str(why)[:300]})
        return
    except Exception as why:  # whatever a peer says goes into its line
        reply({'error': '%s: %s' % (type(why).__name__, str(why)[:300])})
        return
    reply({'versions': peer.versions})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order['do'] == 'measure':
                reply(measure(peer, len(x), order['seconds']))
            else:
                numpy.save(order['path'], numpy.asarray(peer.step()).astype('float32'))
                reply({})
        except Exception as why:
            reply({'error': '%s: %s' % (type(why).__name__, str(why)[:300])})


if __name__ == '__main__':
    main()
