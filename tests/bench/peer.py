"""One peer in a process of its own, driven by lines of JSON.

usage: peer.py PEER MODEL_STEM INPUT.npy PRECISION THREADS      PEER: keras, onnxruntime, openvino, tflite

Writes one object when the first result is there, then answers each line read:
  {"do": "run", "mode": MODE, "steps": N}   -> {"wall_ms": {"median", "p90", "min"}, "throughput_per_s"}
  {"do": "output", "mode": MODE, "path": P} -> {}, and the outputs for INPUT are in P
  {"do": "quit"}
A step is from the input in host memory to the output in host memory, as in layertop's `run`. Only standard
library below main(), until the clock of the first result runs.
"""
import json
import os
import sys
import time

STARTED = time.perf_counter()


class Keras:
    """Keras on TensorFlow: `predict` as most people call it, and the model called directly."""
    modes = ('predict', 'call')

    def __init__(self, stem, x, precision, threads):
        # one pool for an op, a second thread for predict's data pipeline
        os.environ.update(KERAS_BACKEND='tensorflow', TF_CPP_MIN_LOG_LEVEL='3', TF_ENABLE_ONEDNN_OPTS='1',
                          CUDA_VISIBLE_DEVICES='', TF_NUM_INTRAOP_THREADS=str(threads),
                          TF_NUM_INTEROP_THREADS=str(threads))
        import keras
        import tensorflow
        self.imported = time.perf_counter()
        self.versions = {'keras': keras.__version__, 'tensorflow': tensorflow.__version__}
        self.hint = 'dtype policy float32'
        model = keras.models.load_model(stem + '.keras', compile=False)
        if precision == 'bf16':
            self.hint = 'dtype policy mixed_bfloat16'
            config = model.to_json().replace('{"name": "float32"}', '{"name": "mixed_bfloat16"}')
            weights = model.get_weights()
            model = keras.models.model_from_json(config)
            model.set_weights(weights)
            if model.layers[-1].compute_dtype != 'bfloat16':
                raise RuntimeError('Keras did not take the policy mixed_bfloat16')
        self.model, self.x, self.tensor = model, x, tensorflow.constant(x)

    def step(self, mode):
        if mode == 'predict':
            return self.model.predict(self.x, batch_size=len(self.x), verbose=0)
        return self.model(self.tensor, training=False).numpy()

    def kernels(self):
        return {}


class OnnxRuntime:
    modes = ('run',)

    def __init__(self, stem, x, precision, threads):
        import onnxruntime
        self.imported = time.perf_counter()
        if precision != 'fp32':
            raise RuntimeError('ONNX Runtime has no %s convolution on this kind of processor' % precision)
        self.versions = {'onnxruntime': onnxruntime.__version__}
        self.hint = 'none (float32 graph)'
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        with open(stem + '.json') as f:
            options.add_free_dimension_override_by_name(json.load(f)['onnx_batch'], len(x))
        self.session = onnxruntime.InferenceSession(stem + '.onnx', options, providers=['CPUExecutionProvider'])
        self.feed = {self.session.get_inputs()[0].name: x}

    def step(self, mode):
        return self.session.run(None, self.feed)[0]

    def kernels(self):
        return {}


class OpenVino:
    modes = ('infer',)

    def __init__(self, stem, x, precision, threads):
        import openvino
        self.imported = time.perf_counter()
        self.versions = {'openvino': openvino.__version__}
        core = openvino.Core()
        model = core.read_model(stem + '.onnx')
        model.reshape(x.shape)
        self.compiled = core.compile_model(model, 'CPU', {
            'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_NUM_THREADS': threads,
            'INFERENCE_PRECISION_HINT': 'f32' if precision == 'fp32' else 'bf16'})
        hint = self.compiled.get_property('INFERENCE_PRECISION_HINT')
        self.hint = 'INFERENCE_PRECISION_HINT %s, PERFORMANCE_HINT LATENCY, streams %s' % (
            hint.get_type_name() if hasattr(hint, 'get_type_name') else hint,
            self.compiled.get_property('NUM_STREAMS'))
        self.request, self.x = self.compiled.create_infer_request(), x

    def step(self, mode):
        return self.request.infer([self.x], share_inputs=True, share_outputs=True)[0]

    def kernels(self):
        """How many nodes each kind of kernel runs, the instruction set in its name."""
        counts = {}
        for op in self.compiled.get_runtime_model().get_ordered_ops():
            info = op.get_rt_info()
            kind = info['primitiveType'].astype(str) if 'primitiveType' in info else ''
            if kind and 'unknown' not in kind and 'undef' not in kind:
                counts[kind] = counts.get(kind, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1])[:6])


class TfLite:
    """TFLite's interpreter (now LiteRT) with XNNPACK, on what its converter made of the calibration rows."""
    modes = ('invoke',)

    def __init__(self, stem, x, precision, threads):
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter
        self.imported = time.perf_counter()
        self.versions = {'ai-edge-litert': ai_edge_litert.__version__}
        self.hint = 'int8 weights and activations, float32 in and out, XNNPACK'
        self.interpreter = Interpreter(model_path=stem + '.int8.tflite', num_threads=threads)
        self.input = self.interpreter.get_input_details()[0]['index']
        self.output = self.interpreter.get_output_details()[0]['index']
        self.interpreter.resize_tensor_input(self.input, x.shape)
        self.interpreter.allocate_tensors()
        self.x = x

    def step(self, mode):
        self.interpreter.set_tensor(self.input, self.x)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output)

    def kernels(self):
        """Tensors by their type: weights and values in int8, sums of products (biases) in int32."""
        counts = {}
        for tensor in self.interpreter.get_tensor_details():
            if len(tensor['shape']) > 0:  # not the constants of an op's options
                kind = tensor['dtype'].__name__
                counts[kind] = counts.get(kind, 0) + 1
        return counts


PEERS = {'keras': Keras, 'onnxruntime': OnnxRuntime, 'openvino': OpenVino, 'tflite': TfLite}


def run(peer, mode, steps):
    walls = []
    began = time.perf_counter()
    for _ in range(steps):
        start = time.perf_counter()
        peer.step(mode)
        walls.append((time.perf_counter() - start) * 1e3)
    total = time.perf_counter() - began
    walls.sort()

    def at(p):  # between neighbours linearly, as layertop does
        low = int(p * (steps - 1))
        high = min(low + 1, steps - 1)
        return walls[low] + (p * (steps - 1) - low) * (walls[high] - walls[low])

    return {'wall_ms': {'median': at(0.5), 'p90': at(0.9), 'min': walls[0]},
            'throughput_per_s': steps * len(peer_input) / total}


def main():
    global peer_input
    # what libraries print goes to standard error
    replies = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def reply(data):
        replies.write(json.dumps(data) + '\n')
        replies.flush()

    name, stem, path, precision, threads = sys.argv[1:6]
    import numpy
    peer_input = numpy.load(path)
    try:
        peer = PEERS[name](stem, peer_input, precision, int(threads))
        loaded = time.perf_counter()
        peer.step(peer.modes[-1])
    except Exception as why:  # whatever a peer says goes into the table
        reply({'error': '%s: %s' % (type(why).__name__, str(why)[:300]),
               'missing': isinstance(why, ImportError)})
        return
    reply({'import_ms': (peer.imported - STARTED) * 1e3, 'load_ms': (loaded - peer.imported) * 1e3,
           'versions': peer.versions, 'hint': peer.hint, 'threads': int(threads)})
    for line in sys.stdin:
        order = json.loads(line)
        if order['do'] == 'run':
            reply(run(peer, order['mode'], order['steps']))
        elif order['do'] == 'output':
            numpy.save(order['path'], numpy.asarray(peer.step(order['mode'])).astype('float32'))
            reply({'kernels': peer.kernels()})
        else:
            break


main()
