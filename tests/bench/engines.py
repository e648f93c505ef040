"""The engines as the driver sees them: a process each, started, asked and ended."""
import importlib.util
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# (engine, mode) pairs are the columns of the comparison
PEER_MODES = {'keras': ('predict', 'call'), 'onnxruntime': ('run',), 'openvino': ('infer',), 'tflite': ('invoke',)}
FLOATS = ('keras', 'onnxruntime', 'openvino')
# int8 needs a graph that was calibrated: TFLite's converter makes one, and its interpreter runs it
PEERS_OF = {'fp32': FLOATS, 'bf16': FLOATS, 'int8': ('tflite',)}
# a peer that cannot run a precision says so; that these two do is held to
MUST_RUN = {'fp32': FLOATS, 'bf16': ('openvino',), 'int8': ('tflite',)}


class Missing(Exception):
    """A peer that is not there, or does not do what it must."""


def check_installed():
    """Before anything is measured, and without importing them: all peers are there."""
    packages = ('keras', 'tensorflow', 'onnx', 'tf2onnx', 'onnxruntime', 'openvino')
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise Missing(', '.join(missing) + ': not installed')


def bind(cores):
    return lambda: os.sched_setaffinity(0, cores)


def children(pid):
    found = [pid]
    try:
        for task in os.listdir('/proc/%d/task' % pid):
            with open('/proc/%d/task/%s/children' % (pid, task)) as f:
                for child in f.read().split():
                    found += children(int(child))
    except FileNotFoundError:
        pass
    return found


def memory(processes):
    """Resident bytes of processes, now and at most."""
    total = {'VmRSS': 0, 'VmHWM': 0}
    for process in processes:
        try:
            with open('/proc/%d/status' % process) as f:
                for line in f:
                    key = line.split(':')[0]
                    if key in total:
                        total[key] += int(line.split()[1]) * 1024
        except FileNotFoundError:
            pass
    return {'resident_bytes': total['VmRSS'], 'peak_bytes': total['VmHWM']}


class Process:
    def __init__(self, argv, cores, log, env=None):
        self.log = log
        self.started = time.perf_counter()
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(log, 'a'),
                                        text=True, preexec_fn=bind(cores), env=env)
        self.pid = self.process.pid

    def send(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise Missing('%s ended without an answer; its last words are in %s' % (self.process.args[0], self.log))
        return json.loads(line)

    def memory(self):
        return memory(children(self.pid))

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Layertop(Process):
    """layertop's command line, fed line by line: --json answers each with one object."""

    def __init__(self, program, stem, path, batch, precision, threads, cores, log):
        super().__init__([program, '--json'], cores, log)
        self.path = path
        for line in ('devices cpu', 'profile off', 'threads %d' % threads, 'batch %d' % batch):
            self.ask(line)
        if precision != 'int8':
            self.ask('precision ' + precision)
        loaded = self.ask('load %s.keras' % stem)
        if precision == 'int8':  # on the rows that TFLite's converter gets
            self.ask('calibrate %s.calibration.npy' % stem)
            self.ask('precision int8')
        self.first = self.ask('run 1 --warmup 0')
        self.info = {'load_ms': loaded['load_ms'],
                     'first_result_ms': (time.perf_counter() - self.started) * 1e3}
        self.ask('input ' + path)

    def ask(self, line):
        self.send(line)
        reply = self.receive()
        if not reply['ok']:
            raise Missing('layertop: %s: %s' % (line, reply['error']['message']))
        return reply['data']

    def run(self, mode, steps):
        data = self.ask('run %d --warmup 0' % steps)
        return {key: data[key] for key in ('wall_ms', 'throughput_per_s')}

    def output(self, mode, path):
        self.ask('predict %s %s' % (self.path, path))
        return {}

    def precisions(self):
        """Layers that run, by what they compute in: int8 is for convolutions and products."""
        counts = {}
        for row in self.ask('layers')['layers']:
            if row['time_ms'] is not None or row['impl']:
                counts[row.get('precision')] = counts.get(row.get('precision'), 0) + 1
        return counts

    def layers(self):
        """The layer table of one profiled round, the slowest first: where to look when it is slow."""
        self.ask('profile clock')
        data = self.ask('run 5 --warmup 1')
        self.ask('profile off')
        rows = sorted((row for row in data['layers'] if row['time_ms']), key=lambda row: -row['time_ms'])
        return [{'name': row['name'], 'class': row['class'], 'impl': row['impl'],
                 'time_ms': round(row['time_ms'], 4),
                 'gflops': round(row['flops'] / row['time_ms'] / 1e6, 1)} for row in rows]


class Peer(Process):
    def __init__(self, name, stem, path, precision, threads, cores, log):
        super().__init__([sys.executable, os.path.join(HERE, 'peer.py'), name, stem, path, precision, str(threads)],
                         cores, log)
        self.info = self.receive()
        self.info['first_result_ms'] = (time.perf_counter() - self.started) * 1e3
        if 'error' in self.info:
            self.end()

    def ask(self, **order):
        self.send(json.dumps(order))
        return self.receive()

    def run(self, mode, steps):
        return self.ask(do='run', mode=mode, steps=steps)

    def output(self, mode, path):
        return self.ask(do='output', mode=mode, path=path)


def tensorflow_isa(threads, cores):
    """What TensorFlow's oneDNN says it runs on: asked once, in a process of its own."""
    code = ('import os; os.environ.update(ONEDNN_VERBOSE="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")\n'
            'import tensorflow as tf\n'
            'tf.nn.conv2d(tf.zeros((1, 32, 32, 16)), tf.zeros((3, 3, 16, 16)), 1, "SAME").numpy()')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, preexec_fn=bind(cores),
                          stdin=subprocess.DEVNULL)
    for line in done.stdout.splitlines():
        if ',isa:' in line:
            return line.split(',isa:')[1]
    return None
