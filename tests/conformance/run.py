#!/usr/bin/env python3
"""Ask layertop for the predictions of models written by real Keras and hold them against float64.

usage: run.py LAYERTOP WORKDIR TABLE [PATTERN]

One line a model and format; the table (JSON) goes to TABLE, the models into WORKDIR. PATTERN is shell patterns over the
names, with commas between (app/*,conv2d/*,*mask*). A model whose layers layertop names as unsupported counts as
unsupported, not as passed, and one that Keras itself reads from its file as layertop does, and not as it was, as not
written. Fails if any answer is wrong or any file that Keras wrote cannot be loaded for another reason.
"""
import datetime
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np

import blame
import exports
import oracle

# E015, E022 and E033 say that a layer, or what it is asked to do, is not there; all else is a failure
UNSUPPORTED = ('E015', 'E022', 'E033')
DEVICE = os.environ.get('CONFORMANCE_DEVICE', 'cpu')


def commands(model, case, x, ys, outputs=()):
    """What is typed: the model as a whole, or as far as the layers `outputs`, asked in each of the case's ways."""
    load = ['load', model]
    if case.shape:
        load += ['--shape', ','.join(map(str, case.shape))]
    if outputs:
        load += ['--outputs', ','.join(outputs)]
    lines = ['devices ' + DEVICE]
    for way, y in zip(case.ways, ys):
        lines += way
        if load:
            lines.append(' '.join(map(shlex.quote, load)))
            load = None
        lines.append('predict %s %s' % (shlex.quote(x), shlex.quote(y)))
    return lines


def save_arrays(folder, stem, arrays):
    """One array as .npy, several as .npz; returns the path."""
    if len(arrays) == 1:
        path = os.path.join(folder, stem + '.npy')
        np.save(path, arrays[0])
    else:
        path = os.path.join(folder, stem + '.npz')
        np.savez(path, *arrays)
    return path


def load_arrays(path):
    data = np.load(path)
    return [data] if isinstance(data, np.ndarray) else [data['arr_%d' % i] for i in range(len(data.files))]


def ask(layertop, model, case, made, folder, outputs=()):
    """layertop's answers in each way, or the (code, message) of its refusal."""
    x = save_arrays(folder, 'x', made['inputs'])
    ys = [os.path.join(folder, 'y%d.np%s' % (i, 'y' if len(outputs or made['answers']) == 1 else 'z'))
          for i in range(len(case.ways))]
    for y in ys:
        if os.path.exists(y):
            os.remove(y)
    argv = [layertop, '--json'] + [word for line in commands(model, case, x, ys, outputs) for word in ('-c', line)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None, ('timeout', 'no answer within 600 s')
    for line in done.stdout.splitlines():
        reply = json.loads(line)
        if not reply['ok']:
            return None, (reply['error']['code'], reply['error']['message'])
    if done.returncode:
        return None, ('exit %d' % done.returncode, (done.stderr.strip().splitlines() or [''])[-1])
    return [load_arrays(y) for y in ys], None


def judge(layertop, case, suffix, made, folder):
    """One row of the table."""
    row = {'name': case.name, 'format': suffix}
    if not made['files'][suffix]:
        return dict(row, result='not written', message='Keras: ' + made['refusals'][suffix])
    model = os.path.join(folder, made['files'][suffix])
    answers, refusal = ask(layertop, model, case, made, folder)
    if refusal:
        unsupported = refusal[0] in UNSUPPORTED
        return dict(row, result='unsupported' if unsupported else 'failed',
                    message='%s: %s' % (refusal[0], refusal[1].replace(folder + '/', '')[:400]))
    tolerances = getattr(case, 'tolerances', None) or [case.tolerance] * len(made['answers'])
    error, passed = 0.0, True
    for way, ys in zip(case.ways, answers):
        if len(ys) != len(made['answers']):
            return dict(row, result='failed', message='%d outputs of %d' % (len(ys), len(made['answers'])))
        errors = [oracle.error_of(a, b) for a, b in zip(ys, made['answers'])]
        if any(e > t for e, t in zip(errors, tolerances)) and passed:
            passed = False
            row['message'] = '%s: shapes %s, expected %s' % (', '.join(way), [a.shape for a in ys],
                                                             [a.shape for a in made['answers']])
        error = max([error] + [e for e, t in zip(errors, tolerances) if t != float('inf') or e == float('inf')])
    row.update(result='passed' if passed else 'failed', error=float('%.2g' % error) if error < 1e30 else None,
               tolerance=float('%.2g' % max(t for t in tolerances + [0] if t != float('inf'))),
               keras_error=float('%.2g' % made['keras_error']))
    if not passed and blame.keras_reads_so_too(model, made, answers[0], tolerances):
        return dict(row, result='not written', message='Keras: the file lacks something, and Keras reads it as layertop does')
    if not passed:
        row['layers'] = blame.first_wrong(layertop, case, model, made, folder)
    return row


def versions():
    names = ['numpy', 'h5py'] + (['tensorflow', 'tf_keras'] if oracle.TF_KERAS else
                                 ['keras', os.environ['KERAS_BACKEND']])
    return {name: __import__(name).__version__ for name in names}


def text_of(argv):
    run = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return run.stdout.strip()


def shortened(rows):
    """What passed, a line a model: [name, {format: error}, Keras's own error, tolerance]; and the rows of all else."""
    passed, rest = {}, []
    for row in rows:
        if row['result'] == 'passed':
            key = row['name'], row.get('keras_error'), row.get('tolerance')
            passed.setdefault(key, {})[row['format']] = row.get('error')
        else:
            rest.append(row)
    return [[name, errors, own, tolerance] for (name, own, tolerance), errors in passed.items()], rest


def write_table(path, layertop, rows, skipped, used, seconds, counts=None, more=None):
    counts = counts or {what: sum(row['result'] == what for row in rows)
              for what in ('passed', 'failed', 'unsupported', 'not written')}
    head = {
        'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
        'commit': text_of(['git', 'describe', '--always', '--dirty']),
        'layertop': text_of([layertop, '--version']).split('\n')[0],
        'versions': used, 'device': DEVICE,
        'command': "layertop --json -c 'devices %s' -c 'batch N' -c 'load MODEL' -c 'predict x.npy y.npy'" % DEVICE,
        'error': 'max|y-y64| / max(max|y64|, 1e-6), the largest of the outputs; y64 from Keras in float64',
        'keras_error': 'the same of Keras itself in float32',
        'passed, each': '[name, {format: error}, keras_error, tolerance]', 'seconds': round(seconds), 'counts': counts,
        'not made': skipped}
    head.update(more or {})
    lines = ['  %s: %s' % (json.dumps(key), json.dumps(value)) for key, value in head.items()]
    for key, some in zip(('passed', 'models'), shortened(rows)):
        table = ',\n'.join(' ' + json.dumps(row, allow_nan=False) for row in some)
        lines.append('  "%s": [\n%s\n  ]' % (key, table))
    with open(path + '.part', 'w') as f:
        f.write('{\n%s\n}\n' % ',\n'.join(lines))
    os.replace(path + '.part', path)
    return counts


# the smallest of each family of keras.applications: all that is asked of an older Keras, whose files differ in how layers
# are written, not in how many there are
FAMILIES = ('MobileNet', 'MobileNetV2', 'MobileNetV3Small', 'NASNetMobile', 'EfficientNetB0', 'EfficientNetV2B0',
            'DenseNet121', 'Xception', 'InceptionV3', 'InceptionResNetV2', 'ResNet50', 'ResNet50V2', 'ConvNeXtTiny',
            'VGG16')


def only_families(table):
    """MEMBERS=all or families, as given to make; without it the newest Keras, whose table has no other name, writes all."""
    members = os.environ.get('MEMBERS') or ('families' if '-keras' in os.path.basename(table) else 'all')
    return members == 'families'


# who answers for whom: JAX computes every layer in every layout, TensorFlow runs networks of a thousand
# layers without compiling each of them first
PARTS = [('layers', 'jax'), ('applications', 'tensorflow')]


def tell(row):
    print('%-12s %-44s %-6s %-9s %s %s' % (row['result'], row['name'], row['format'], row.get('error', ''),
                                           row.get('message', ''), row.get('layers', '')), flush=True)
    return row


def reason_of(why):
    """An exception in a line; Keras says first where it was and then, in bold, what."""
    lines = [line for line in re.sub(r'\x1b\[\d*m', '', str(why)).split('\n') if line.strip()] or ['']
    where = lines[0].startswith('Exception encountered') and len(lines) > 1
    return '%s: %s' % (type(why).__name__, ' '.join(lines[:2] if where else lines[:1])[:300])


def wanted(name, pattern):
    return any(fnmatch.fnmatch(name, one) for one in pattern.split(','))


def left_out(table, name):
    return only_families(table) and name.startswith('app/') and name[4:].replace('-notop', '') not in FAMILIES


def run_part(layertop, work, table, pattern, part, out):
    """One part in this process, which has its backend; the rows go to `out` for the parent."""
    rows, skipped = [], {}
    for case in __import__(part).cases():
        if not wanted(case.name, pattern) or left_out(table, case.name):
            continue
        folder = os.path.join(work, case.name.replace('/', '-'))
        try:
            made = oracle.make(case, folder)
        except Exception as why:
            # versions and backends of Keras lack some; what is odd here shows in the table
            skipped[case.name] = reason_of(why)
            shutil.rmtree(folder, ignore_errors=True)
            print('%-12s %s: %s' % ('no model', case.name, skipped[case.name]), flush=True)
            continue
        for suffix in made['files']:
            rows.append(tell(judge(layertop, case, suffix, made, folder)))
        oracle.forget(folder)
    for name in exports.NAMES if part == 'layers' else []:
        if not wanted(name, pattern):
            continue
        if exports.too_old():
            skipped[name] = exports.too_old()
        else:
            rows += [tell(row) for row in exports.judge(layertop, name, work)]
    with open(out, 'w') as f:
        json.dump({'rows': rows, 'skipped': skipped, 'versions': versions()}, f)


def main():
    layertop, work, table = sys.argv[1:4]
    pattern = sys.argv[4] if len(sys.argv) > 4 else '*'
    os.makedirs(work, exist_ok=True)
    home = os.path.join(work, 'home')
    os.environ.update(XDG_CONFIG_HOME=home, XDG_STATE_HOME=home)
    if len(sys.argv) > 5:
        run_part(layertop, work, table, pattern, sys.argv[5], sys.argv[6])
        return 0
    rows, skipped, used, start = [], {}, {}, time.time()

    def start_part(part, backend, names):
        out = os.path.join(work, '%s-%s.json' % (part, backend))
        return out, subprocess.Popen([sys.executable, __file__, layertop, work, table, names, part, out],
                                     env=dict(os.environ, KERAS_BACKEND=backend))

    running = [start_part(part, backend, pattern) for part, backend in PARTS]
    while running:
        out, process = running.pop(0)
        if process.wait():
            return 2
        with open(out) as f:
            made = json.load(f)
        rows += made['rows']
        for row in made['rows']:
            skipped.pop(row['name'], None)
        skipped.update(made['skipped'])
        used.update(made['versions'])
        if made['skipped'] and out.endswith('layers-jax.json') and not oracle.TF_KERAS:
            # interpolations that only TensorFlow has
            running.append(start_part('layers', 'tensorflow', ','.join(made['skipped'])))
    more = {'applications': 'the smallest of each family'} if only_families(table) else {}
    counts = write_table(table, layertop, rows, skipped, used, time.time() - start, more=more)
    print('%d passed, %d failed, %d unsupported, %d not written by Keras, %d not made; table in %s' %
          (counts['passed'], counts['failed'], counts['unsupported'], counts['not written'], len(skipped), table))
    return counts['failed'] > 0


if __name__ == '__main__':
    sys.exit(main())
