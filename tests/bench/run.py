#!/usr/bin/env python3
"""layertop beside Keras/TensorFlow, ONNX Runtime and OpenVINO on this machine's CPU, in one run; in int8, which is
asked for by name, beside TFLite's interpreter.

usage: run.py LAYERTOP WORKDIR TABLE [--quick] [--models A,B] [--batches 1,8] [--precisions fp32,bf16,int8]

At each point (model, batch, precision) every engine is a process of its own, bound to the same cores. Their
outputs are compared first; then they take turns in rounds, in an order that rotates; a figure is the median of
the rounds. layertop is there twice: what differs between the two is the noise (A/A). The FMA peak is measured
between the rounds. TABLE gets everything as JSON. Exit: 1 a bar is missed, 2 a peer is missing, 3 outputs differ.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time

import engines
import models
import report

# Largest difference to Keras in float32, as a share of the largest output. What bf16 itself costs depends on the
# model (through a softmax, a tenth or more): there an engine may also be off by three times what the best peer is.
TOLERANCES = {'fp32': 1e-4, 'bf16': 0.05, 'int8': 0.2}
BF16_FACTOR = 3
# A peer that is off in float32 stays in the comparison: fewer digits are its own affair, and leaving it out
# would only help us. By this much, it runs another model.
ANOTHER_MODEL = 1e-2
# seconds: of one engine's turn; point_seconds: of all rounds of a point, which costs slow ones some rounds
FULL = {'rounds': 7, 'rounds_min': 3, 'seconds': 1.5, 'point_seconds': 120, 'min_steps': 4}
QUICK = {'rounds': 5, 'rounds_min': 3, 'seconds': 0.25, 'point_seconds': 8, 'min_steps': 3}
STEPS_MAX = 2000
PAUSE_S = 0.05  # lets the last engine's threads stop spinning


def text_of(argv):
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def cpu():
    facts = {}
    with open('/proc/cpuinfo') as f:
        for line in f:
            key, _, value = line.partition(':')
            facts.setdefault(key.strip(), value.strip())
    flags = facts.get('flags', '').split()
    return {'name': facts.get('model name'), 'family': facts.get('cpu family'), 'model': facts.get('model'),
            'flags': [flag for flag in flags if flag.startswith(('avx', 'amx', 'fma'))]}


def one_thread_a_core():
    """The processors to use: of each allowed core the first hyperthread."""
    chosen, seen = set(), set()
    for processor in sorted(os.sched_getaffinity(0)):
        path = '/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list' % processor
        try:
            with open(path) as f:
                core = f.read().strip()
        except OSError:
            core = str(processor)
        if core not in seen:
            seen.add(core)
            chosen.add(processor)
    return chosen


class Bench:
    def __init__(self, options, layertop, work):
        self.options, self.layertop, self.work = options, layertop, work
        self.protocol = QUICK if options.quick else FULL
        self.cores = one_thread_a_core()
        self.threads = len(self.cores)
        self.log = os.path.join(work, 'log.txt')
        self.peaks, self.peers, self.missing = [], {}, []

    def peak(self):
        done = json.loads(subprocess.run([os.path.join(self.work, 'fma_peak'), '150'], capture_output=True, text=True,
                                         check=True, preexec_fn=engines.bind(self.cores)).stdout)
        self.peaks.append(done['gflops'])
        self.fma_isa = done['isa']
        return done['gflops']

    def start(self, stem, path, batch, precision):
        """{name: process}; a peer that does not run this precision is left out."""
        running = {}
        for name in ('layertop', 'layertop again'):
            running[name] = engines.Layertop(self.layertop, stem, path, batch, precision, self.threads, self.cores,
                                             self.log)
        for name in engines.PEERS_OF[precision]:
            peer = engines.Peer(name, stem, path, precision, self.threads, self.cores, self.log)
            if 'error' not in peer.info:
                running[name] = peer
            elif peer.info['missing'] or name in engines.MUST_RUN[precision]:
                for other in running.values():
                    other.end()
                raise engines.Missing('%s: %s' % (name, peer.info['error']))
            facts = {key: peer.info.get(key) for key in ('versions', 'threads', 'hint', 'error') if key in peer.info}
            self.peers.setdefault(name, {}).setdefault(precision, facts)
        return running

    def compare(self, columns, model, batch, precision):
        """Everyone's outputs against those of Keras's `predict` in float32."""
        import numpy as np
        reference = os.path.join(self.work, '%s-%d.reference.npy' % (model, batch))
        if precision == 'fp32':
            keras = next(process for name, process, mode in columns if (name, mode) == ('keras', 'predict'))
            keras.output('predict', reference)
        elif not os.path.exists(reference):
            self.reference(model, batch, reference)
        want = np.load(reference).astype('float64')
        differences = {}
        for name, process, mode in columns:
            path = os.path.join(self.work, 'y.npy')
            kernels = process.output(mode, path).get('kernels')
            if kernels:
                self.peers[name][precision].setdefault('kernels', kernels)
            got = np.load(path).astype('float64')
            label = report.label(name, mode)
            if got.shape != want.shape:
                raise SystemExit('bench: %s: shape %s instead of %s' % (label, got.shape, want.shape))
            differences[label] = {'max_share': float(abs(got - want).max() / abs(want).max()),
                                  'top1': float((got.argmax(1) == want.argmax(1)).mean())}
        return differences

    def quantised(self, running):
        """What computes in int8 and what does not: a row of floats beside one of bytes would say nothing."""
        layers = running['layertop'].precisions()
        tensors = self.peers['tflite']['int8']['kernels']
        if not layers.get('int8') or tensors.get('int8', 0) < 10 * tensors.get('float32', 0):
            raise engines.Missing('int8 is not int8: layers %s, TFLite tensors %s' % (layers, tensors))
        return {'layers_by_precision': {str(key): count for key, count in layers.items()},
                'tflite_tensors': tensors}

    def reference(self, model, batch, path):
        """Where fp32 is not measured: a Keras of its own."""
        keras = engines.Peer('keras', os.path.join(self.work, 'models', model), self.input(model, batch), 'fp32',
                             self.threads, self.cores, self.log)
        if 'error' in keras.info:
            raise engines.Missing('keras: ' + keras.info['error'])
        keras.output('predict', path)
        keras.end()

    def input(self, model, batch):
        import numpy as np
        path = os.path.join(self.work, '%s-%d.npy' % (model, batch))
        if not os.path.exists(path):
            np.save(path, models.inputs(model, batch))
        return path

    def steps(self, process, mode):
        """Warm up, and see how many steps a turn has room for, and how long it will take."""
        began, median = time.perf_counter(), None
        while median is None or time.perf_counter() - began < self.protocol['seconds']:
            median = process.run(mode, 2 if median is None else 3)['wall_ms']['median']
        steps = max(self.protocol['min_steps'], min(STEPS_MAX, int(self.protocol['seconds'] * 1e3 / median)))
        return steps, steps * median / 1e3

    def count_rounds(self, seconds):
        return max(self.protocol['rounds_min'],
                   min(self.protocol['rounds'], int(self.protocol['point_seconds'] / seconds)))

    def point(self, model, batch, precision):
        stem = os.path.join(self.work, 'models', model)
        with open(stem + '.json') as f:
            flops = json.load(f)['flops'] * batch
        running = self.start(stem, self.input(model, batch), batch, precision)
        try:
            columns = [(name, process, mode) for name, process in running.items()
                       for mode in engines.PEER_MODES.get(name, ('run',))]
            outputs = self.compare(columns, model, batch, precision)
            quantised = self.quantised(running) if precision == 'int8' else {}
            turns = {(name, mode): self.steps(process, mode) for name, process, mode in columns}
            steps = {column: count for column, (count, _) in turns.items()}
            rounds = {(name, mode): [] for name, _, mode in columns}
            peaks = []
            for turn in range(self.count_rounds(sum(seconds for _, seconds in turns.values()))):
                peaks.append(self.peak())
                for name, process, mode in columns[turn % len(columns):] + columns[:turn % len(columns)]:
                    time.sleep(PAUSE_S)
                    rounds[name, mode].append(process.run(mode, steps[name, mode]))
            result = {'model': model, 'batch': batch, 'precision': precision, 'flops': flops,
                      'fma_peak_gflops': statistics.median(peaks), 'load_average': os.getloadavg()[0], 'engines': {}}
            for name, process, mode in columns:
                result['engines'][report.label(name, mode)] = dict(
                    self.figures(rounds[name, mode], process), steps_a_round=steps[name, mode],
                    output=outputs[report.label(name, mode)])
            result.update(quantised)
            result['off'], result['allowed'] = differing(result)
            report.judge(result)
            if result['ratio'] < 1:
                result['layers'] = running['layertop'].layers()[:12]
            return result
        finally:
            for process in running.values():
                process.end()

    def figures(self, rounds, process):
        def middle(read):
            return statistics.median(read(r) for r in rounds)
        figures = {'p50_ms': middle(lambda r: r['wall_ms']['median']), 'p90_ms': middle(lambda r: r['wall_ms']['p90']),
                   'min_ms': min(r['wall_ms']['min'] for r in rounds),
                   'throughput_per_s': middle(lambda r: r['throughput_per_s']),
                   'load_ms': process.info['load_ms'], 'first_result_ms': process.info['first_result_ms'],
                   'rounds_p50_ms': [r['wall_ms']['median'] for r in rounds]}
        return dict(figures, **process.memory())

    def front(self):
        import front
        path = self.input('mobilenetv2', 1)
        process = engines.Layertop(self.layertop, os.path.join(self.work, 'models', 'mobilenetv2'), path, 1, 'fp32',
                                   self.threads, self.cores, self.log)
        try:
            cost = {'timing_of_layers': front.timing_cost(process, self.protocol['rounds'], 40)}
        finally:
            process.end()
        cost.update(front.screen_cost(self.layertop, 3 if self.options.quick else 10, self.cores))
        return cost

    def head(self):
        devices = json.loads(text_of([self.layertop, '--json', '-c', 'devices']).splitlines()[-1])['data']['devices']
        own = next(device for device in devices if device['id'] == 'cpu')
        return {'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
                'command': self.options.command, 'commit': text_of(['git', 'describe', '--always', '--dirty']),
                'cpu': cpu(), 'cores': sorted(self.cores), 'load_average': os.getloadavg()[0],
                'protocol': self.protocol,
                'layertop': {'version': text_of([self.layertop, '--version']).split('\n')[0],
                             'library': own['library'], 'isa': own['isa'], 'threads': self.threads}}


def words(value):
    return value.split(',') if value else None


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument('layertop')
    parser.add_argument('work')
    parser.add_argument('table')
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--models', type=words)
    parser.add_argument('--batches', type=words)
    parser.add_argument('--precisions', type=words)
    options = parser.parse_args()
    chosen = ''.join(' %s=%s' % (name.upper(), ','.join(words)) for name, words in
                     [('models', options.models), ('batches', options.batches),
                      ('precisions', options.precisions)] if words)
    options.models = options.models or models.MODELS + (
        [] if options.quick or options.precisions == ['int8'] else models.SEQUENCES)
    # bf16 is slow, and nobody's choice, where no unit computes with it
    able = ['fp32'] + (['bf16'] if {'amx_bf16'} <= set(cpu()['flags']) else [])
    options.precisions = options.precisions or able
    options.command = 'make bench' + (' QUICK=1' if options.quick else '') + chosen
    return options


def differing(point):
    """Engines whose outputs are too far off, and how far they may be."""
    off = {label: engine['output']['max_share'] for label, engine in point['engines'].items()}
    allowed = TOLERANCES[point['precision']]
    if point['precision'] == 'bf16':
        allowed = max(allowed, BF16_FACTOR * min(share for label, share in off.items()
                                                 if not label.startswith('layertop')))
    return [label for label, share in off.items() if not share <= allowed], allowed


def fatal(point):
    """Is layertop off, or does a peer compute something else?"""
    return any(label.startswith('layertop') or
               (point['precision'] == 'fp32' and point['engines'][label]['output']['max_share'] > ANOTHER_MODEL)
               for label in point['off'])


def measure(bench, options, results):
    engines.check_installed()
    # a process each: the export of one model takes gigabytes
    for name in sorted(set(options.models) | {'mobilenetv2'}):
        argv = [sys.executable, os.path.join(models.HERE, 'models.py'), os.path.join(bench.work, 'models'), name]
        argv += ['--int8'] if 'int8' in options.precisions and name in options.models else []
        with open(bench.log, 'a') as log:
            if subprocess.run(argv, stdout=log, stderr=log).returncode:
                raise engines.Missing('Keras could not build or export %s; see %s' % (name, bench.log))
    for model in options.models:
        for batch in [int(b) for b in options.batches or models.batches(model)]:
            for precision in options.precisions:
                point = bench.point(model, batch, precision)
                results['points'].append(point)
                report.print_point(point)
                if point['off']:
                    print('bench: outputs differ from Keras in float32 by more than %g: %s' % (
                        point['allowed'], ', '.join(point['off'])))
                if fatal(point):
                    return 3
    results['front'] = bench.front()
    return 0


def main():
    options = parse()
    layertop, work = os.path.abspath(options.layertop), os.path.abspath(options.work)
    home = os.path.join(work, 'home')
    os.environ.update(XDG_CONFIG_HOME=home, XDG_STATE_HOME=home)
    began = time.monotonic()
    bench = Bench(options, layertop, work)
    open(bench.log, 'w').close()
    results = dict(bench.head(), points=[])
    report.print_head(results)
    try:
        code = measure(bench, options, results)
        if 'keras' in bench.peers:
            bench.peers['onnxruntime']['isa'] = 'not reported; its MLAS picks by CPUID'
            bench.peers['openvino']['isa'] = 'in the names of the kernels above'
            bench.peers['keras']['isa'] = engines.tensorflow_isa(bench.threads, bench.cores)
    except engines.Missing as why:
        print('bench: a peer is missing: %s' % why, file=sys.stderr)
        print('hint: rm -rf %s/venv; make bench' % options.work, file=sys.stderr)
        return 2
    results['tolerances'] = TOLERANCES
    results['fma_peak'] = {'isa': bench.fma_isa, 'gflops': statistics.median(bench.peaks), 'threads': bench.threads}
    results['peers'] = bench.peers
    results['load_average_end'] = os.getloadavg()[0]
    results['seconds'] = round(time.monotonic() - began)
    results['bars'] = report.bars(results['points'])
    results['not_measured'] = report.unmeasured(results['points'])
    report.print_tail(results)
    report.write(options.table, results)
    print('written to ' + options.table)
    return code or (0 if all(bar['met'] for bar in results['bars']) else 1)


if __name__ == '__main__':
    sys.exit(main())
