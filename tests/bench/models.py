"""The models of the comparison, with the same weights for every engine.

usage: models.py FOLDER NAME... [--int8]    writes FOLDER/NAME.keras, NAME.onnx and NAME.json, if they are not there,
                                            and with --int8 NAME.calibration.npy and NAME.int8.tflite

Architecture and weights are those of layertop's demo:NAME (share/layertop/demo/applications, see
tests/tools/make_demos.py): random, but scaled layer by layer, so that activations stay sane. Keras builds the
model and writes it; ONNX Runtime and OpenVINO get Keras's own ONNX export, or of models with sequences what
onnx_graphs.py writes.
"""
import gzip
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LARGE = 60000000  # parameters
CALIBRATION_ROWS, CALIBRATION_SEED = 16, 11  # rows that no comparison is made on
MODELS = ['resnet50', 'mobilenetv2', 'efficientnetb0', 'vgg16']
# after them; they have a bar of their own
SEQUENCES = ['lstm256', 'lstm1024', 'vitb16', 'transformer']
BATCHES = {'lstm256': [1, 64], 'lstm1024': [1, 64]}


def batches(name):
    return BATCHES.get(name, [1, 8, 32])


def draw(path, name, shape, offset, amplitude):
    """Element i of a variable: the generator of tests/tools/make_demos.py."""
    import numpy as np
    seed = 0xcbf29ce484222325
    for byte in (path + '/' + name).encode():
        seed = ((seed ^ byte) * 0x100000001b3) & ((1 << 64) - 1)
    count = int(np.prod(shape, dtype=np.int64)) if shape else 1
    with np.errstate(over='ignore'):
        z = np.uint64(seed) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return (np.float32(offset) + np.float32(amplitude) * u).reshape(shape)


def recipe(name):
    path = os.path.join(ROOT, 'share', 'layertop', 'demo', 'applications', name + '.json.gz')
    with gzip.open(path) as f:
        return json.load(f)


def inputs(name, batch, seed=7):
    """What all engines compute on: seeded, in the range that the model's weights were scaled for."""
    import numpy as np
    doc, rng = recipe(name), np.random.default_rng(seed)
    given = doc['config']['config']['layers'][0]['config']
    shape = [batch] + given['batch_shape'][1:]
    if 'int' in given['dtype']:
        return rng.integers(0, doc['weights']['words'][0][1][0], shape).astype(np.int32)
    whole = doc['preprocess'] == 'none' and len(shape) == 4
    return rng.uniform(0 if whole else -1, 255 if whole else 1, shape).astype(np.float32)


def flops(model):
    """Multiply-adds of convolutions and matrix products of one sample, times two."""
    import numpy as np
    total = 0
    for layer in model.layers:
        kernel = getattr(layer, 'kernel', None)
        if kernel is None or len(layer._inbound_nodes) == 0:
            continue
        pixels = int(np.prod(layer.output.shape[1:-1])) if len(kernel.shape) == 4 else 1
        total += 2 * pixels * int(np.prod(kernel.shape))
    return total


def export(model, path):
    """Keras's own ONNX export. It takes some thirty times the weights in memory: of a large model, the Dense layers
    at the end are written here, where they are nothing but a Gemm each."""
    import keras
    import tensorflow as tf
    import onnx
    tail = []
    while model.count_params() > LARGE and isinstance(model.layers[-1 - len(tail)], keras.layers.Dense):
        tail.insert(0, model.layers[-1 - len(tail)])
    body = keras.Model(model.inputs, tail[0].input) if tail else model
    body(tf.zeros((1, 224, 224, 3)))  # the export wants a model that was called
    body.export(path, format='onnx', verbose=False)
    if not tail:
        return
    document = onnx.load(path)
    graph, last = document.graph, document.graph.output[0].name
    for layer in tail:
        for variable in layer.weights:
            graph.initializer.append(onnx.numpy_helper.from_array(variable.numpy(), layer.name + '/' + variable.name))
        names = [layer.name + '/' + variable.name for variable in layer.weights]
        graph.node.append(onnx.helper.make_node('Gemm', [last] + names, [layer.name + '/sum'], layer.name))
        kind = {'relu': 'Relu', 'softmax': 'Softmax'}[layer.activation.__name__]
        graph.node.append(onnx.helper.make_node(kind, [layer.name + '/sum'], [layer.name], layer.name + '/' + kind))
        last = layer.name
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, [None, tail[-1].units]))
    onnx.save(document, path)


def prune(path):
    """Take out inputs that no node reads (the export leaves variables that were folded into others); the name of
    the batch's dimension."""
    import onnx
    document = onnx.load(path)
    graph = document.graph
    read = {name for node in graph.node for name in node.input}
    dead = [value for value in graph.input if value.name not in read]
    for value in dead:
        graph.input.remove(value)
    if dead:
        onnx.save(document, path)
    return graph.input[0].type.tensor_type.shape.dim[0].dim_param


def make(folder, name):
    stem = os.path.join(folder, name)
    if os.path.exists(stem + '.json'):
        return
    import keras
    import onnx_graphs
    doc = recipe(name)
    model = keras.models.model_from_json(json.dumps(doc['config']))
    for layer in model.layers:
        if layer.weights:
            entries = doc['weights'][layer.name]
            layer.set_weights([draw(layer.name, *entry) for entry in entries])
    model.save(stem + '.keras')
    sequence = name in SEQUENCES
    (onnx_graphs.export if sequence else export)(model, stem + '.onnx')
    batch = prune(stem + '.onnx')
    count = onnx_graphs.flops(model) if sequence else flops(model)
    with open(stem + '.json.part', 'w') as f:
        json.dump({'flops': count, 'parameters': model.count_params(), 'onnx_batch': batch}, f)
    os.replace(stem + '.json.part', stem + '.json')


def quantise(folder, name):
    """The rows that int8 is calibrated on, and what TFLite's converter makes of the model with them."""
    stem = os.path.join(folder, name)
    if os.path.exists(stem + '.int8.tflite'):
        return
    import shutil
    import tempfile
    import keras
    import numpy as np
    import tensorflow as tf
    rows = inputs(name, CALIBRATION_ROWS, CALIBRATION_SEED)
    np.save(stem + '.calibration.npy', rows)
    saved = tempfile.mkdtemp()
    keras.models.load_model(stem + '.keras', compile=False).export(saved, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in rows)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with open(stem + '.int8.tflite.part', 'wb') as f:
        f.write(converter.convert())
    os.replace(stem + '.int8.tflite.part', stem + '.int8.tflite')
    shutil.rmtree(saved)


if __name__ == '__main__':
    os.environ.update(KERAS_BACKEND='tensorflow', TF_CPP_MIN_LOG_LEVEL='3', CUDA_VISIBLE_DEVICES='')
    os.makedirs(sys.argv[1], exist_ok=True)
    for wanted in sys.argv[2:]:
        if wanted != '--int8':
            make(sys.argv[1], wanted)
            if '--int8' in sys.argv:
                quantise(sys.argv[1], wanted)
