"""ONNX graphs of the models with sequences, as other frameworks' exporters write them.

Keras's own export makes a Loop of an LSTM and an Einsum of every projection, and takes some thirty times the
weights in memory. Its peers would lose by that alone: they get the operators they are fast at (LSTM, MatMul,
LayerNormalization), in the patterns they fuse.
"""
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Graph:
    """Nodes and constants, one after the other; a node's value bears its name."""

    def __init__(self, model):
        self.model, self.nodes, self.constants = model, [], {}

    def constant(self, name, array):
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weights(self, layer):
        return [variable.numpy() for variable in self.model.get_layer(layer).weights]

    def node(self, kind, name, *inputs, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def number(self, value):
        import numpy as np
        return self.constant('number_%r' % value, np.float32(value))

    def shape(self, *dims):
        import numpy as np
        return self.constant('shape_' + '_'.join(map(str, dims)), np.array(dims, np.int64))

    def linear(self, name, x, kernel, bias):
        """x (..., in) by kernel (in, ...), with the axes behind joined."""
        kernel = self.constant(name + '/kernel', kernel.reshape(-1, bias.size))
        product = self.node('MatMul', name + '/product', x, kernel)
        return self.node('Add', name, product, self.constant(name + '/bias', bias.reshape(-1)))

    def dense(self, layer, x):
        return self.linear(layer, x, *self.weights(layer))

    def norm(self, layer, x):
        gamma, beta = self.weights(layer)
        return self.node('LayerNormalization', layer, x, self.constant(layer + '/gamma', gamma),
                         self.constant(layer + '/beta', beta), axis=-1,
                         epsilon=self.model.get_layer(layer).epsilon)

    def gelu(self, name, x):
        scaled = self.node('Div', name + '/scaled', x, self.number(2 ** 0.5))
        gate = self.node('Add', name + '/gate', self.node('Erf', name + '/erf', scaled), self.number(1.0))
        return self.node('Mul', name, self.node('Mul', name + '/product', x, gate), self.number(0.5))

    def attention(self, layer, x, steps):
        weights = self.weights(layer)
        heads, size = weights[0].shape[1:]
        turned = []
        for i, (part, order) in enumerate((('query', (0, 2, 1, 3)), ('key', (0, 2, 3, 1)), ('value', (0, 2, 1, 3)))):
            name = layer + '/' + part
            y = self.linear(name, x, weights[2 * i].reshape(-1, heads * size), weights[2 * i + 1])
            y = self.node('Reshape', name + '/heads', y, self.shape(0, steps, heads, size))
            turned.append(self.node('Transpose', name + '/turned', y, perm=order))
        scores = self.node('MatMul', layer + '/scores', turned[0], turned[1])
        scores = self.node('Mul', layer + '/scaled', scores, self.number(size ** -0.5))
        scores = self.node('Softmax', layer + '/softmax', scores, axis=-1)
        y = self.node('MatMul', layer + '/values', scores, turned[2])
        y = self.node('Transpose', layer + '/back', y, perm=(0, 2, 1, 3))
        y = self.node('Reshape', layer + '/joined', y, self.shape(0, steps, heads * size))
        return self.linear(layer, y, weights[6].reshape(heads * size, -1), weights[7])

    def encoder(self, x, depth, steps):
        for i in range(1, depth + 1):
            block = 'block%d_' % i
            y = self.attention(block + 'attention', self.norm(block + 'norm1', x), steps)
            x = self.node('Add', block + 'add1', x, y)
            y = self.dense(block + 'mlp1', self.norm(block + 'norm2', x))
            y = self.dense(block + 'mlp2', self.gelu(block + 'gelu', y))
            x = self.node('Add', block + 'add2', x, y)
        return self.norm('norm', x)

    def save(self, path, result):
        given = self.model.inputs[0]
        kind = TensorProto.INT32 if 'int' in given.dtype else TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info('x', kind, ['batch'] + list(given.shape[1:]))]
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, [None, self.model.outputs[0].shape[-1]])]
        graph = helper.make_graph(self.nodes, self.model.name, inputs, outputs, list(self.constants.values()))
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=8), path)


def lstm(graph):
    """Keras has the gates in the order i f c o, ONNX i o f c."""
    import numpy as np
    kernel, recurrent, bias = graph.weights('lstm')

    def turned(matrix):
        i, f, c, o = np.split(matrix, 4, axis=-1)
        return np.ascontiguousarray(np.concatenate([i, o, f, c], axis=-1).T)[None]
    steps = graph.node('Transpose', 'steps', 'x', perm=(1, 0, 2))
    zeros = np.zeros_like(bias)
    graph.nodes.append(helper.make_node(
        'LSTM', [steps, graph.constant('lstm/kernel', turned(kernel)),
                 graph.constant('lstm/recurrent', turned(recurrent)),
                 graph.constant('lstm/bias', np.concatenate([turned(bias), zeros[None]], axis=-1))],
        ['', 'lstm'], 'lstm', hidden_size=recurrent.shape[0]))
    last = graph.node('Squeeze', 'last', 'lstm', graph.constant('first', np.array([0], np.int64)))
    return graph.node('Softmax', 'softmax', graph.dense('predictions', last), axis=-1)


def vitb16(graph):
    import numpy as np
    kernel, bias = graph.weights('patches')
    table, = graph.weights('positions')
    x = graph.node('Transpose', 'image', 'x', perm=(0, 3, 1, 2))
    x = graph.node('Conv', 'patches', x, graph.constant('patches/kernel', kernel.transpose(3, 2, 0, 1).copy()),
                   graph.constant('patches/bias', bias), strides=[16, 16])
    x = graph.node('Reshape', 'flat', x, graph.shape(0, 768, 196))
    x = graph.node('Transpose', 'tokens', x, perm=(0, 2, 1))
    pads = graph.constant('pads', np.array([0, 1, 0, 0, 0, 0], np.int64))
    x = graph.node('Pad', 'class_token', x, pads)
    x = graph.node('Add', 'embedding', x, graph.constant('positions/table', table[None]))
    x = graph.encoder(x, 12, 197)
    x = graph.node('Gather', 'class', x, graph.constant('zero', np.array(0, np.int64)), axis=1)
    return graph.node('Softmax', 'softmax', graph.dense('predictions', x), axis=-1)


def transformer(graph):
    words, = graph.weights('words')
    table, = graph.weights('positions')
    x = graph.node('Gather', 'words', graph.constant('words/table', words), 'x', axis=0)
    x = graph.node('Add', 'embedding', x, graph.constant('positions/table', table[None]))
    x = graph.node('ReduceMean', 'mean', graph.encoder(x, 6, 128), axes=[1], keepdims=0)
    return graph.node('Softmax', 'softmax', graph.dense('predictions', x), axis=-1)


def flops_of_lstm(model):
    kernel, recurrent, _ = model.get_layer('lstm').weights
    steps = model.inputs[0].shape[1]
    return 2 * steps * int(kernel.shape[0] + recurrent.shape[0]) * int(kernel.shape[1])


def flops_of_encoder(model, depth, steps):
    total = 0
    for i in range(1, depth + 1):
        attention = model.get_layer('block%d_attention' % i)
        dense = [model.get_layer('block%d_mlp%d' % (i, j)) for j in (1, 2)]
        products = attention.count_params() + sum(layer.count_params() for layer in dense)
        width = attention.num_heads * attention.key_dim
        total += 2 * steps * products + 4 * steps * steps * width
    return total


BUILDERS = {'lstm256': lstm, 'lstm1024': lstm, 'vitb16': vitb16, 'transformer': transformer}
FLOPS = {'lstm256': flops_of_lstm, 'lstm1024': flops_of_lstm,
         'vitb16': lambda model: 2 * 196 * 768 * 768 + flops_of_encoder(model, 12, 197),
         'transformer': lambda model: flops_of_encoder(model, 6, 128)}


def export(model, path):
    graph = Graph(model)
    graph.save(path, BUILDERS[model.name](graph))


def flops(model):
    """Multiply-adds of the products of one sample, times two (biases, which the counts of parameters hold, are
    less than a thousandth)."""
    return FLOPS[model.name](model)
