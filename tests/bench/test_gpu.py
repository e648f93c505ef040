"""The logic of gpu.py with engines that are none, as TAP: order, resuming, appending, comparing."""
import contextlib
import io
import json
import os
import sys
import tempfile
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gpu  # noqa: E402

CLASSES = 3


class Fake:
    """Answers at once; `off` is added to its outputs."""
    opened = []

    def __init__(self, name, rate, off=0.0, error=None):
        self.info = {'versions': {name: '1'}, 'first_result_ms': 5.0}
        self.rate, self.off, self.error = rate, off, error

    def output(self, path):
        if self.error:
            raise gpu.Failed(self.error)
        write_outputs(path, self.off)

    def least_ms(self):
        return 1.0

    def measure(self, seconds):
        return {'latency_ms': {'p50': 1.0, 'p90': 1.1, 'p99': 1.5}, 'steps': 10, 'throughput_per_s': self.rate,
                'throughput_mode': 'resident', 'memory_bytes': None}

    def end(self):
        pass


def write_outputs(path, off=0.0):
    gpu.write_input(path, [gpu.COMPARED, CLASSES], 0, 1)
    if off:
        shape, values = gpu.read_npy(path)
        values[0] += off
        with open(path, 'r+b') as f:
            f.seek(-4 * len(values), os.SEEK_END)
            values.tofile(f)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make(folder, engines, budget=1000, cost=1.0, **more):
    """A bench whose engines come from a table {name: Fake or exception}; each costs `cost` seconds."""
    clock = Clock()

    def open_engine(bench, name, point, deadline):
        clock.now += cost
        Fake.opened.append((name, point))
        engine = engines[name]
        if isinstance(engine, Exception):
            raise engine
        return engine

    options = types.SimpleNamespace(layertop='layertop', out=os.path.join(folder, 'out.jsonl'), work=folder,
                                    commit='abc', budget_s=budget, seconds=0.1, models=['resnet50', 'vgg16'],
                                    batches=[1, 256], precisions=['fp16', 'tf32'], engines=list(engines))
    for key, value in more.items():
        setattr(options, key, value)
    bench = gpu.Bench(options, open_engine, clock)
    reference = os.path.join(folder, 'y32.npy')
    write_outputs(reference)
    bench.reference = lambda model: gpu.read_npy(reference)

    def find_device():
        bench.device, bench.versions = {'name': 'H', 'uuid': 'GPU-1', 'driver': '1'}, {'version': '1'}
    bench.find_device = find_device
    return bench


def run(bench):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        broken = bench.run()
    return broken, said.getvalue()


def rows(folder):
    with open(os.path.join(folder, 'out.jsonl')) as f:
        return [json.loads(line) for line in f if line.startswith('{') and line.endswith('}\n')]


def points_come_by_importance(folder):
    order = gpu.points()
    assert order[:4] == gpu.FIRST
    assert len(order) == len(set(order)) == len(gpu.MODELS) * len(gpu.BATCHES) * len(gpu.PRECISIONS)
    assert all(point[1] in (1, 256) for point in order[:24])
    assert gpu.points(['vgg16'], [8], ['fp16']) == [('vgg16', 8, 'fp16')]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert gpu.main(['--list', '--models', 'resnet50', '--batches', '1', '--precisions', 'tf32,fp16']) == 0
    assert said.getvalue().index('resnet50 b1 fp16') < said.getvalue().index('resnet50 b1 tf32')


def every_point_is_a_line_of_each_engine(folder):
    Fake.opened = []
    bench = make(folder, {'layertop': Fake('l', 200.0), 'jax-jit': Fake('j', 100.0)})
    broken, said = run(bench)
    assert not broken and 'every point is measured' in said
    assert "= 2.00 of jax-jit's throughput, 1.00 of jax-jit's speed a step, spread 0.0 %\n" in said
    assert '# throughput: geometric mean 2.000 of the best peer over 8 points, least 2.000' in said
    found = rows(folder)
    assert len(found) == 8 * 2
    first = found[0]
    assert (first['model'], first['batch'], first['precision'], first['engine']) == ('resnet50', 1, 'fp16', 'layertop')
    assert first['commit'] == 'abc' and first['device']['name'] == 'H' and first['max_error'] == 0.0
    assert first['top1_same'] == 1.0 and first['latency_ms']['p99'] == 1.5


def the_summary_names_what_is_below_the_bar(folder):
    slow, shaky = Fake('l', 90.0), Fake('j', 100.0)
    broken, said = run(make(folder, {'layertop': slow, 'jax-jit': shaky, 'torch-eager': Fake('t', 50.0)}))
    assert not broken and said.count('BELOW 0.95') == 8
    assert 'geometric mean 0.900' in said and 'least 0.900' in said
    # both halves of what was measured, and whatever the peers' spread is, stand in the line
    row = rows(folder)[1]
    assert row['spread'] == 0.0 and row['roof_share'] == 1.0 / 1e3 * 100.0 / 1
    rates = iter([100.0, 90.0] * 8)
    unsteady = Fake('j', 0.0)
    unsteady.measure = lambda seconds: dict(Fake('j', next(rates)).measure(seconds))
    broken, said = run(make(folder, {'layertop': Fake('l', 84.0), 'jax-jit': unsteady}, commit='def'))
    assert 'spread 11.1 %' in said and 'BELOW' not in said


def files_of_another_commit_are_not_used(folder):
    kept = os.path.join(folder, 'resnet50.keras')
    make(folder, {'layertop': Fake('l', 1.0)})
    open(kept, 'w').close()
    make(folder, {'layertop': Fake('l', 1.0)})
    assert os.path.exists(kept)
    make(folder, {'layertop': Fake('l', 1.0)}, commit='def')
    assert not os.path.exists(kept)


def the_first_result_is_timed_without_the_bench(folder):
    """A stand-in for layertop answers at once: what takes long is making its model's file and input."""
    program = os.path.join(folder, 'layertop')
    with open(program, 'w') as f:
        f.write("""#!/bin/sh
case "$*" in
*export*) for last; do :; done; : >"${last#export keras }"; exit 0 ;;
esac
while read -r line; do echo '{"ok":true,"data":{"wall_ms":{"median":1}}}'; done
""")
    os.chmod(program, 0o755)
    bench = make(folder, {'layertop': Fake('l', 1.0)}, layertop=program)
    import time
    bench.input = lambda model, batch: time.sleep(0.5) or 'x.npy'
    engine = gpu.Layertop(bench, ('resnet50', 1, 'fp16'), time.monotonic() + 20)
    assert engine.info['first_result_ms'] < 450, engine.info
    assert os.path.exists(os.path.join(folder, 'resnet50.keras'))
    engine.end()


def a_run_that_was_cut_goes_on(folder):
    engines = {'layertop': Fake('l', 200.0), 'jax-jit': Fake('j', 100.0)}
    Fake.opened = []
    broken, said = run(make(folder, engines, budget=30, cost=4.0))
    assert 'run again to go on' in said
    cut = len(rows(folder))
    assert 0 < cut < 16
    with open(os.path.join(folder, 'out.jsonl'), 'a') as f:
        f.write('{"commit": "abc", "dev')  # the machine was taken away in the middle of a line
    run(make(folder, engines))
    assert len(rows(folder)) == 16
    assert len(Fake.opened) == len(set(Fake.opened)) == 16
    before = len(Fake.opened)
    run(make(folder, engines))  # nothing is left to do
    assert len(Fake.opened) == before
    run(make(folder, engines, commit='def'))  # another commit is another table
    assert len(Fake.opened) == 2 * before


def missing_peers_are_named_and_not_fatal(folder):
    Fake.opened = []
    bench = make(folder, {'layertop': Fake('l', 1.0), 'torch-eager': gpu.Missing('No module named torch')})
    broken, said = run(bench)
    assert not broken and 'missing: No module named torch' in said
    assert [name for name, _ in Fake.opened].count('torch-eager') == 1
    assert sum('missing' in row for row in rows(folder)) == 8
    assert bench.missing == {'torch-eager': 'No module named torch'}
    run(make(folder, {'layertop': Fake('l', 1.0), 'torch-eager': Fake('t', 1.0)}))  # now it is there
    assert sum(row['engine'] == 'torch-eager' and 'throughput_per_s' in row for row in rows(folder)) == 8


def different_outputs_are_not_measured(folder):
    bench = make(folder, {'layertop': Fake('l', 1.0, off=0.5), 'jax-jit': Fake('j', 1.0, off=float('nan')),
                          'keras-jax': Fake('k', 1.0, error='it ran out of memory')})
    broken, said = run(bench)
    assert broken and len(bench.failed) == 16
    assert all('throughput_per_s' not in row and 'error' in row for row in rows(folder))
    assert 'its outputs differ' in said and 'it ran out of memory' in said


def files_are_read_as_they_are_written(folder):
    path = os.path.join(folder, 'x.npy')
    gpu.write_input(path, [3, 5], -1, 1)
    shape, values = gpu.read_npy(path)
    assert shape == (3, 5) and len(values) == 15 and all(-1 <= value <= 1 for value in values)
    assert sorted(values[:5]) == sorted(values[5:10]) and list(values[:5]) != list(values[5:10])
    assert os.path.getsize(path) % 4 == 0 and (os.path.getsize(path) - 60) % 64 == 0
    assert gpu.compare([1.0, 2.0], [1.0, 4.0]) == 0.5
    assert gpu.top1([1, 2, 3, 1], [1, 2, 0, 9], 2) == 0.5
    with open(path, 'wb') as f:
        f.write(b'no')
    try:
        gpu.read_npy(path)
        raise AssertionError('a file that is none was read')
    except ValueError:
        pass


def a_process_that_hangs_or_ends_is_given_up(folder):
    log = os.path.join(folder, 'log')
    import time
    for script, word in (('import time; time.sleep(60)', 'within its time'), ('print(1', 'ended without')):
        process = gpu.Process([sys.executable, '-c', script], log, time.monotonic() + 0.5)
        try:
            process.receive()
            raise AssertionError('an answer came')
        except gpu.Failed as why:
            assert word in str(why), why
        process.process.kill()
        process.end()


TESTS = [points_come_by_importance, every_point_is_a_line_of_each_engine, the_summary_names_what_is_below_the_bar,
         files_of_another_commit_are_not_used, the_first_result_is_timed_without_the_bench, a_run_that_was_cut_goes_on,
         missing_peers_are_named_and_not_fatal, different_outputs_are_not_measured,
         files_are_read_as_they_are_written, a_process_that_hangs_or_ends_is_given_up]

failed = 0
for number, test in enumerate(TESTS, 1):
    with tempfile.TemporaryDirectory() as scratch:
        try:
            test(scratch)
            print('ok %d - %s' % (number, test.__name__))
        except Exception:
            import traceback
            failed += 1
            print('not ok %d - %s' % (number, test.__name__))
            print('\n'.join('# ' + line for line in traceback.format_exc().splitlines()))
print('1..%d' % len(TESTS))
sys.exit(failed > 0)
