#!/usr/bin/env python3
"""layertop beside PyTorch, JAX and Keras on this machine's GPU, point by point, as far as the time goes.

usage: gpu.py --layertop BIN --out FILE.jsonl [--budget-s 540] [--work DIR] [--commit NAME] [--list]
              [--models A,B] [--batches 1,8] [--precisions fp16] [--engines layertop,jax-jit] [--require-peers]

Points (model, batch, precision) are taken in a printed order, what matters most first. At each, every engine is a
process of its own: outputs are compared first, then latency (host to host, synchronised each step) and throughput
(back to back on inputs that stay on the device, waited for once) are measured, twice: how far the two lie apart is the
spread. A line is appended to FILE for each engine at each point, so a run that is cut short loses nothing, and the
next one goes on where it ended: a line of the same commit, device and point is not measured again. At the end stand
the geometric means over all points of FILE against the best peer of each, and the points that lie below BAR of it by
more than the spread. Needs Python's standard library; what the peers need is theirs, and one that is not there is
named in its line. Exit: 0, 2 a peer is missing and --require-peers was given, 3 outputs differ, 4 layertop failed.
"""
import argparse
import array
import datetime
import json
import math
import os
import random
import selectors
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ['resnet50', 'mobilenetv2', 'efficientnetb0', 'convnexttiny', 'vgg16', 'dense4096']
BATCHES = [1, 256, 8, 32, 128]
PRECISIONS = ['fp16', 'tf32']
PEERS = ['torch-eager', 'torch-graph', 'jax-jit', 'keras-torch', 'keras-jax', 'torch-compile']
ENGINES = ['layertop'] + PEERS
# the bars are on these
FIRST = [('resnet50', 1, 'fp16'), ('resnet50', 256, 'fp16'), ('resnet50', 256, 'tf32'), ('resnet50', 1, 'tf32')]
# max|y - y32| / max|y32| against strict fp32 on the CPU
TOLERANCES = {'fp32': 1e-4, 'tf32': 1e-2, 'fp16': 3e-2, 'bf16': 1e-1}
COMPARED = 4         # samples
SECONDS = 2.0        # of each measurement
ENGINE_SECONDS = 150  # of one engine at one point, with its compiling
SEARCH_SECONDS = 300  # of one that searches thoroughly
BAR = 0.95           # of the best peer, at every point
LEAST_SECONDS = 20   # less than that is not worth beginning with


def points(models=MODELS, batches=BATCHES, precisions=PRECISIONS):
    """All points, what matters most first: the bars, then batch 1 and 256 of every model, then the rest."""
    every = [(model, batch, precision) for batch in batches for model in models for precision in precisions]
    return [point for point in FIRST if point in every] + [point for point in every if point not in FIRST]


# ---- files ------------------------------------------------------------------------------------

def read_npy(path):
    """Shape and values of a float32 .npy file."""
    with open(path, 'rb') as f:
        if f.read(6) != b'\x93NUMPY':
            raise ValueError(path + ' is no .npy file')
        major = f.read(2)[0]
        length = struct.unpack('<H' if major == 1 else '<I', f.read(2 if major == 1 else 4))[0]
        header = f.read(length).decode('latin1')
        if "'<f4'" not in header or "'fortran_order': False" not in header:
            raise ValueError(path + ' does not hold float32 in rows')
        values = array.array('f')
        values.frombytes(f.read())
        shape = tuple(int(n) for n in header.split('(')[1].split(')')[0].split(',') if n.strip())
    return shape, values


def write_input(path, shape, low, high):
    """Seeded uniform values; each sample is the one before, turned by some elements."""
    size = math.prod(shape[1:])
    draw = random.Random(7)
    sample = array.array('f', (draw.uniform(low, high) for _ in range(size)))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % ', '.join(str(n) for n in shape)
    header += ' ' * (63 - (10 + len(header)) % 64) + '\n'
    with open(path + '.part', 'wb') as f:
        f.write(b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header.encode())
        for i in range(shape[0]):
            at = i * 977 % size
            (sample[at:] + sample[:at]).tofile(f)
    os.replace(path + '.part', path)


def compare(values, expected):
    """max|y - y32| / max|y32| over the samples that both have; inf where one is not a number."""
    count = min(len(values), len(expected))
    scale = max((abs(value) for value in expected[:count]), default=0) or 1e-6
    worst = 0.0
    for value, wanted in zip(values[:count], expected[:count]):
        if not math.isfinite(value):
            return math.inf
        worst = max(worst, abs(value - wanted))
    return worst / scale


def top1(values, expected, classes):
    """Samples whose largest output is the same, as a share."""
    rows = min(len(values), len(expected)) // classes
    same = sum(max(range(classes), key=values[i * classes:(i + 1) * classes].__getitem__) ==
               max(range(classes), key=expected[i * classes:(i + 1) * classes].__getitem__) for i in range(rows))
    return same / rows if rows else None


# ---- engines ----------------------------------------------------------------------------------

class Failed(Exception):
    """An engine did not answer, or said why it cannot."""


class Missing(Failed):
    """What the engine is made of is not installed."""


class Process:
    """A process that is asked and answers in lines of JSON, for a limited time."""

    def __init__(self, argv, log, deadline, env=None):
        self.log, self.deadline, self.rest = log, deadline, b''
        self.started = time.monotonic()
        with open(log, 'a') as errors:
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                            env=env)
        self.pid = self.process.pid
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.process.stdout, selectors.EVENT_READ)

    def send(self, line):
        try:
            self.process.stdin.write(line.encode() + b'\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # why it ended is found when it is read from

    def receive(self):
        while b'\n' not in self.rest:
            left = self.deadline - time.monotonic()
            if left <= 0 or not self.ready.select(left):
                raise Failed('no answer within its time')
            part = os.read(self.process.stdout.fileno(), 1 << 16)
            if not part:
                raise Failed('it ended without an answer; its last words are in %s' % self.log)
            self.rest += part
        line, self.rest = self.rest.split(b'\n', 1)
        return json.loads(line)

    def end(self):
        self.ready.close()
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def device_bytes(pid):
    """Device memory of a process as the driver counts it; None where nvidia-smi does not say."""
    try:
        text = subprocess.run(['nvidia-smi', '--query-compute-apps=pid,used_memory', '--format=csv,noheader,nounits'],
                              capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    family, total = {pid}, None
    for _ in range(4):  # layertop's worker is a child of it
        for entry in os.listdir('/proc'):
            try:
                with open('/proc/%s/stat' % entry) as f:
                    if int(f.read().rsplit(')', 1)[1].split()[1]) in family:
                        family.add(int(entry))
            except (OSError, ValueError, IndexError):
                continue
    for line in text.splitlines():
        fields = line.split(',')
        if len(fields) == 2 and fields[0].strip().isdigit() and int(fields[0]) in family:
            total = (total or 0) + int(fields[1]) * 1048576 if fields[1].strip().isdigit() else total
    return total


class Layertop:
    """layertop's command line, fed line by line: --json answers each with one object."""

    def __init__(self, bench, point, deadline, device='0'):
        self.model, self.batch, self.precision = point
        # what is only made for the bench is none of the time to the first result
        path, self.input = bench.file(self.model), bench.input(self.model, self.batch)
        self.process = Process([bench.layertop, '--json'], bench.log, deadline)
        for line in ('devices ' + device, 'profile off', 'precision ' + self.precision, 'batch %d' % self.batch):
            self.ask(line)
        self.ask('load ' + path)
        self.ask('input ' + self.input)
        self.ask('run 1 --warmup 0')
        self.info = {'versions': {}, 'first_result_ms': (time.monotonic() - self.process.started) * 1e3}

    def ask(self, line):
        self.process.send(line)
        reply = self.process.receive()
        if not reply['ok']:
            raise Failed('%s: %s' % (line, reply['error']['message']))
        return reply['data']

    def steps_for(self, seconds):
        wall = self.ask('run 10')['wall_ms']['median']
        return max(10, min(100000, int(seconds * 1e3 / wall)))

    def measure(self, seconds):
        data = self.ask('run %d' % self.steps_for(seconds))
        wall, resident = data['wall_ms'], data.get('throughput_resident_per_s')
        result = {'latency_ms': {'p50': wall['median'], 'p90': wall.get('p90'), 'p99': wall.get('p99')},
                  'steps': data['steps'], 'throughput_per_s': resident or data['throughput_per_s'],
                  'throughput_mode': 'resident' if resident else 'with copies, synchronised',
                  'memory_bytes': device_bytes(self.process.pid)}
        return result

    def least_ms(self):
        """The least time of a step: each layer at the roof that bounds it; None where that is not known."""
        self.ask('profile auto')
        layers = self.ask('run 5')['layers']
        roof = self.ask('kernels').get('roof') or {}
        self.ask('profile off')
        flops, bandwidth = roof.get('flops_per_s'), roof.get('bytes_per_s')
        if not flops or not bandwidth:
            return None
        return sum(max(row['flops'] / flops, row['bytes'] / bandwidth) for row in layers) * 1e3

    def output(self, path):
        self.ask('predict %s %s' % (self.input, path))

    def end(self):
        self.process.end()


class Peer:
    def __init__(self, bench, name, point, deadline):
        model, batch, precision = point
        env = dict(os.environ, KERAS_BACKEND=name.split('-')[1] if name.startswith('keras') else 'jax',
                   TF_CPP_MIN_LOG_LEVEL='3', XLA_PYTHON_CLIENT_PREALLOCATE='false')
        thorough = searches(name, point)
        self.process = Process([sys.executable, os.path.join(HERE, 'gpu_peer.py'), name, bench.file(model),
                                bench.recipe(model), bench.input(model, batch), precision, str(int(thorough))],
                               bench.log, deadline, env)
        self.info = self.process.receive()
        self.info['first_result_ms'] = (time.monotonic() - self.process.started) * 1e3
        if 'missing' in self.info:
            raise Missing(self.info['missing'])
        if 'error' in self.info:
            raise Failed(self.info['error'])

    def ask(self, **order):
        self.process.send(json.dumps(order))
        reply = self.process.receive()
        if 'error' in reply:
            raise Failed(reply['error'])
        return reply

    def measure(self, seconds):
        result = self.ask(do='measure', seconds=seconds)
        result['throughput_mode'] = 'resident'
        result['memory_bytes'] = device_bytes(self.process.pid)
        return result

    def output(self, path):
        self.ask(do='output', path=path)

    def end(self):
        self.process.end()


def searches(name, point):
    """torch.compile searches thoroughly where the bars are."""
    return name == 'torch-compile' and point[0] == 'resnet50' and point[1] in (1, 256)


# ---- the bench --------------------------------------------------------------------------------

class Bench:
    """`open_engine(bench, name, point, deadline)` may be replaced by a test."""

    def __init__(self, options, open_engine=None, clock=time.monotonic):
        self.options, self.layertop, self.clock = options, options.layertop, clock
        self.open_engine = open_engine or self.open_real
        self.work = options.work
        self.clear_work()
        os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
        self.log = os.path.join(self.work, 'log.txt')
        self.deadline = clock() + options.budget_s
        self.device, self.missing, self.failed, self.least_ms = {}, {}, [], {}

    def clear_work(self):
        """Models and answers of another commit are not this one's."""
        os.makedirs(self.work, exist_ok=True)
        mark = os.path.join(self.work, 'commit')
        try:
            with open(mark) as f:
                if f.read() == self.options.commit:
                    return
        except FileNotFoundError:
            pass
        for name in os.listdir(self.work):
            if name.endswith(('.keras', '.npy', '.part')):
                os.remove(os.path.join(self.work, name))
        with open(mark, 'w') as f:
            f.write(self.options.commit)

    @staticmethod
    def open_real(bench, name, point, deadline):
        return Layertop(bench, point, deadline) if name == 'layertop' else Peer(bench, name, point, deadline)

    def recipe(self, model):
        """The demo model's description, beside the program or in the source tree."""
        for root in (os.path.join(os.path.dirname(os.path.abspath(self.layertop)), '..', 'share', 'layertop'),
                     os.path.join(HERE, '..', '..', 'share', 'layertop')):
            path = os.path.join(root, 'demo', 'applications', model + '.json.gz')
            if os.path.exists(path):
                return path
        raise Failed('no description of demo:%s' % model)

    def input(self, model, batch):
        import gzip
        path = os.path.join(self.work, '%s-b%d.npy' % (model, batch))
        if not os.path.exists(path):
            with gzip.open(self.recipe(model)) as f:
                document = json.load(f)
            shape = document['config']['config']['layers'][0]['config']['batch_shape']
            whole = document.get('preprocess') == 'none'
            write_input(path, [batch] + shape[1:], 0 if whole else -1, 255 if whole else 1)
        return path

    def file(self, model):
        """The model as a Keras file, written by layertop: every engine has the same weights."""
        path = os.path.join(self.work, model + '.keras')
        if not os.path.exists(path):
            # on the CPU and for one sample: a file needs no room on a GPU that others may use
            done = subprocess.run([self.layertop, '-c', 'devices cpu; batch 1', '-c', 'load demo:' + model, '-c',
                                   'export keras %s.part.keras' % path],
                                  capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                words = [line for line in done.stderr.splitlines() if line.startswith('error')] or [done.stderr]
                raise Failed('export keras: ' + words[-1][-300:])
            os.replace(path + '.part.keras', path)
        return path

    def reference(self, model):
        """Outputs in strict fp32 on the CPU, of a few samples."""
        path = os.path.join(self.work, model + '-y32.npy')
        if not os.path.exists(path):
            engine = Layertop(self, (model, COMPARED, 'fp32'), time.monotonic() + ENGINE_SECONDS, 'cpu')
            engine.output(path)
            engine.end()
        return read_npy(path)

    def find_device(self):
        done = subprocess.run([self.layertop, '--json', '-c', 'devices', '-c', 'version'], capture_output=True,
                              text=True, stdin=subprocess.DEVNULL)
        objects = [json.loads(line) for line in done.stdout.splitlines()]
        found = [device for device in objects[0]['data']['devices'] if device['id'] == 'gpu:0'] if objects else []
        if not found or not found[0].get('usable'):
            why = found[0].get('why') if found else objects[0]['data'].get('note') if objects else done.stderr[-300:]
            raise Failed('no usable GPU: %s' % why)
        self.device = {key: found[0].get(key) for key in ('name', 'uuid', 'driver', 'compute_capability')}
        self.versions = objects[1]['data'] if len(objects) > 1 else {}

    def key(self, point, engine):
        return (self.options.commit, self.device.get('name'), *point, engine)

    def done(self):
        """{(point, engine): row} that was measured at this commit on this device; the newest counts. What was missing
        or failed is asked for again."""
        rows = {}
        try:
            with open(self.options.out) as f:
                for line in f:
                    try:
                        row = json.loads(line)
                        point = (row['model'], row['batch'], row['precision'])
                        if 'throughput_per_s' in row and self.key(point, row['engine']) == \
                                (row['commit'], row['device']['name'], *point, row['engine']):
                            rows[point, row['engine']] = row
                    except (ValueError, KeyError, TypeError):
                        continue  # a line that was cut
        except FileNotFoundError:
            pass
        return rows

    def append(self, point, engine, row):
        model, batch, precision = point
        whole = {'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
                 'commit': self.options.commit, 'device': self.device, 'model': model, 'batch': batch,
                 'precision': precision, 'engine': engine, **row}
        torn = False
        if os.path.exists(self.options.out):
            with open(self.options.out, 'rb') as f:
                f.seek(0, os.SEEK_END)
                if f.tell():
                    f.seek(-1, os.SEEK_END)
                    torn = f.read(1) != b'\n'
        with open(self.options.out, 'a') as f:
            f.write(('\n' if torn else '') + json.dumps(whole) + '\n')
            f.flush()
            os.fsync(f.fileno())

    def check(self, engine, point):
        """Compare before anything is measured."""
        model, batch, precision = point
        shape, expected = self.reference(model)
        path = os.path.join(self.work, 'y.npy')
        engine.output(path)
        _, values = read_npy(path)
        classes = math.prod(shape[1:])
        return compare(values[:min(batch, COMPARED) * classes], expected), top1(values, expected, classes)

    def measure(self, name, point):
        limit = SEARCH_SECONDS if searches(name, point) else ENGINE_SECONDS
        deadline = time.monotonic() + min(limit, self.deadline - self.clock())
        engine = None
        row = {}
        try:
            if name in self.missing:
                raise Missing(self.missing[name])
            engine = self.open_engine(self, name, point, deadline)
            row['versions'] = engine.info.get('versions') or (self.versions if name == 'layertop' else {})
            row['first_result_ms'] = engine.info['first_result_ms']
            row['max_error'], row['top1_same'] = self.check(engine, point)
            if not row['max_error'] <= TOLERANCES[point[2]]:
                self.failed.append((name, point, row['max_error']))
                raise Failed('its outputs differ: %.3g, allowed %.3g' % (row['max_error'], TOLERANCES[point[2]]))
            first = engine.measure(self.options.seconds / 2)
            row.update(engine.measure(self.options.seconds / 2))
            row['spread'] = abs(first['throughput_per_s'] / row['throughput_per_s'] - 1)
            if name == 'layertop':
                row['least_ms'] = self.least_ms[point] = engine.least_ms()
            if self.least_ms.get(point):  # the same network, whoever runs it
                row['roof_share'] = self.least_ms[point] / 1e3 * row['throughput_per_s'] / point[1]
        except Missing as why:
            self.missing[name] = str(why)
            row = {'missing': str(why)}
        except Failed as why:
            row['error'] = str(why)
        finally:
            if engine:
                engine.end()
        self.append(point, name, row)
        return row

    def run(self):
        self.find_device()
        done = self.done()
        self.least_ms = {point: row.get('least_ms') for (point, name), row in done.items() if name == 'layertop'}
        broken = False
        for point in points(self.options.models, self.options.batches, self.options.precisions):
            for name in self.options.engines:
                if (point, name) in done:
                    continue
                if self.deadline - self.clock() < LEAST_SECONDS:
                    print('# the time is over at %s b%d %s: run again to go on' % point)
                    self.summarise()
                    return broken
                row = self.measure(name, point)
                broken = broken or (name == 'layertop' and 'error' in row)
                print('%-15s b%-4d %-5s %-14s %s' % (*point, name, describe(row)))
                sys.stdout.flush()
        print('# every point is measured')
        self.summarise()
        return broken

    def summarise(self):
        """What FILE says by now of this commit on this device, against the best peer of each point."""
        rows = self.done()
        gains = {'throughput': [], 'latency': []}
        for point in dict.fromkeys(point for point, _ in rows):
            ours = rows.get((point, 'layertop'))
            peers = [row for (other, name), row in rows.items() if other == point and name != 'layertop']
            if not ours or not peers:
                continue
            best = max(peers, key=lambda row: row['throughput_per_s'])
            quick = min(peers, key=lambda row: row['latency_ms']['p50'])
            ratio = ours['throughput_per_s'] / best['throughput_per_s']
            spread = max(ours.get('spread') or 0, best.get('spread') or 0)
            gains['throughput'].append(ratio)
            gains['latency'].append(quick['latency_ms']['p50'] / ours['latency_ms']['p50'])
            print('%-15s b%-4d %-5s = %.2f of %s\'s throughput, %.2f of %s\'s speed a step, spread %.1f %%%s' % (
                *point, ratio, best['engine'], gains['latency'][-1], quick['engine'], spread * 100,
                '  BELOW %.2f' % BAR if ratio < BAR * (1 - spread) else ''))
        for what, ratios in gains.items():
            if ratios:
                print('# %s: geometric mean %.3f of the best peer over %d points, least %.3f' % (
                    what, math.exp(sum(map(math.log, ratios)) / len(ratios)), len(ratios), min(ratios)))


def describe(row):
    if 'missing' in row:
        return 'missing: ' + row['missing']
    if 'error' in row:
        return 'FAILED: ' + row['error']
    latency = row['latency_ms']
    share = row.get('roof_share')
    return '%.3f ms p50, %s p99, %.0f/s %s%s' % (
        latency['p50'], '%.3f ms' % latency['p99'] if latency.get('p99') else '-', row['throughput_per_s'],
        row['throughput_mode'], ', %.0f %% of the roof' % (share * 100) if share else '')


def words(text):
    return text.split(',')


def main(argv, open_engine=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--layertop', default='build/layertop')
    parser.add_argument('--out', default='tests/results/bench-gpu.jsonl')
    parser.add_argument('--work', default='/tmp/layertop-bench-gpu')
    parser.add_argument('--commit', default='unknown')
    parser.add_argument('--budget-s', type=float, default=540)
    parser.add_argument('--seconds', type=float, default=SECONDS)
    parser.add_argument('--models', type=words, default=MODELS)
    parser.add_argument('--batches', type=lambda text: [int(n) for n in words(text)], default=BATCHES)
    parser.add_argument('--precisions', type=words, default=PRECISIONS)
    parser.add_argument('--engines', type=words, default=ENGINES)
    parser.add_argument('--require-peers', action='store_true')
    parser.add_argument('--list', action='store_true')
    options = parser.parse_args(argv)
    order = points(options.models, options.batches, options.precisions)
    print('# order: ' + ', '.join('%s b%d %s' % point for point in order))
    if options.list:
        return 0
    bench = Bench(options, open_engine)
    try:
        broken = bench.run()
    except Failed as why:
        print('bench-gpu: %s' % why, file=sys.stderr)
        return 4
    for name, why in bench.missing.items():
        print('# not there: %s: %s' % (name, why))
    if bench.missing and options.require_peers:
        return 2
    return 3 if bench.failed else 4 if broken else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
