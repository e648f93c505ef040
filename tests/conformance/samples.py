#!/usr/bin/env python3
"""Ask layertop for the predictions of sample models and hold them against the answers beside them.

usage: samples.py LAYERTOP FOLDER TABLE

FOLDER holds NAME.keras and NAME.h5, either or both, and NAME.io.h5 with the inputs x<i> and the answers y64_<i> of
Keras in float64 (and y32_<i> in float32, for models that only move data: those are to agree to the bit). Needs numpy
and h5py, no Keras. TABLE gets the counts and the rows of what did not pass; exit 1 if an answer is wrong.
"""
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile

import h5py
import numpy as np

RANDOM, LONG = 1e-5, 5e-5
STEPS_LONG = 100
REFUSED = ('E015', 'E022', 'E033')  # says what it cannot do, as run.py's
MOVES = {'InputLayer', 'Reshape', 'Permute', 'RepeatVector', 'Flatten', 'Cropping1D', 'Cropping2D', 'Cropping3D',
         'ZeroPadding1D', 'ZeroPadding2D', 'ZeroPadding3D', 'UpSampling1D', 'UpSampling3D', 'Concatenate', 'Embedding',
         'MaxPooling1D', 'MaxPooling2D', 'MaxPooling3D', 'GlobalMaxPooling1D', 'GlobalMaxPooling2D',
         'GlobalMaxPooling3D', 'Identity', 'Dropout'}
NEAREST = {'UpSampling2D', 'Resizing'}


def architecture(path):
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read('config.json'))
    with h5py.File(path) as f:
        return json.loads(f.attrs['model_config'])


def writers_of(folder, names):
    """{"Keras 3.16.0"}: who wrote the .keras files"""
    writers = set()
    for path in (os.path.join(folder, name + '.keras') for name in names):
        if os.path.exists(path) and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                writers.add('Keras ' + json.loads(archive.read('metadata.json'))['keras_version'])
    return writers


def moves_data(model):
    """Do all its layers only move what comes in?"""
    layers = model['config'].get('layers', [])
    return bool(layers) and all(
        layer['class_name'] in MOVES or
        layer['class_name'] in NEAREST and layer['config'].get('interpolation') == 'nearest' for layer in layers)


def arrays(f, prefix):
    return [f['%s%d' % (prefix, i)][()] for i in range(sum(name.startswith(prefix) for name in f))]


def error_of(y, expected):
    """max|y-y64| / max(max|y64|, 1e-6)"""
    if y.shape != expected.shape or not np.array_equal(np.isfinite(y), np.isfinite(expected)):
        return float('inf')
    if expected.size == 0 or not np.isfinite(expected).any():
        return 0.0
    expected = expected.astype('float64')
    keep = np.isfinite(expected)
    return float(np.abs(y[keep].astype('float64') - expected[keep]).max() / max(np.abs(expected[keep]).max(), 1e-6))


def predict(layertop, model, inputs, count, folder):
    """layertop's answers, or its message."""
    x = os.path.join(folder, 'x.np' + ('y' if len(inputs) == 1 else 'z'))
    y = os.path.join(folder, 'y.np' + ('y' if count == 1 else 'z'))
    if len(inputs) == 1:
        np.save(x, inputs[0])
    else:
        np.savez(x, *inputs)
    if os.path.exists(y):
        os.remove(y)
    argv = [layertop, '--json']
    for line in ('devices cpu', 'batch %d' % len(inputs[0]), 'load ' + shlex.quote(model), 'predict %s %s' % (x, y)):
        argv += ['-c', line]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    for line in done.stdout.splitlines():
        reply = json.loads(line)
        if not reply['ok']:
            return None, '%s: %s' % (reply['error']['code'], reply['error']['message'][:300])
    if not os.path.exists(y):
        return None, 'no answer, exit %d' % done.returncode
    data = np.load(y)
    return ([data] if count == 1 else [data['arr_%d' % i] for i in range(len(data.files))]), None


def judge(layertop, folder, name, suffix, work):
    """The row of one file: its error, or what is wrong."""
    path = os.path.join(folder, name + suffix)
    row = {'file': name + suffix, 'result': 'failed'}
    with h5py.File(os.path.join(folder, name + '.io.h5')) as f:
        inputs, y64, y32 = arrays(f, 'x'), arrays(f, 'y64_'), arrays(f, 'y32_')
    exact = bool(y32) and moves_data(architecture(path))
    long = any(x.ndim == 3 and x.shape[1] >= STEPS_LONG for x in inputs)
    row['tolerance'] = 0.0 if exact else LONG if long else RANDOM
    ys, message = predict(layertop, path, inputs, len(y64), work)
    if message:
        return dict(row, result='refused' if message[:4] in REFUSED else 'failed', message=message)
    if len(ys) != len(y64):
        return dict(row, message='%d outputs of %d' % (len(ys), len(y64)))
    error = max(error_of(y, expected) for y, expected in zip(ys, y32 if exact else y64))
    row['error'] = float('%.2g' % error) if error < 1e30 else None
    return dict(row, result='passed' if error <= row['tolerance'] else 'failed')


def main():
    layertop, folder, table = sys.argv[1:4]
    start = time.time()
    names = sorted(name[:-len('.io.h5')] for name in os.listdir(folder) if name.endswith('.io.h5'))
    rows = []
    with tempfile.TemporaryDirectory() as work:
        os.environ.update(XDG_CONFIG_HOME=work, XDG_STATE_HOME=work)
        for name in names:
            for suffix in ('.keras', '.h5'):
                if os.path.exists(os.path.join(folder, name + suffix)):
                    rows.append(judge(layertop, folder, name, suffix, work))
                    if rows[-1]['result'] != 'passed':
                        print(json.dumps(rows[-1]), flush=True)
    passed = sum(row['result'] == 'passed' for row in rows)
    others = [row for row in rows if row['result'] != 'passed']
    version = subprocess.run([layertop, '--version'], capture_output=True, text=True).stdout.split('\n')[0]
    worst = sorted((row for row in rows if row.get('error') is not None), key=lambda row: -row['error'])[:10]
    with open(table, 'w') as f:
        json.dump({'of': '%d sample models of %s' % (len(names), ', '.join(sorted(writers_of(folder, names)))),
                   'command': 'make conformance-samples FOLDER=...', 'layertop': version,
                   'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
                   'models': len(names), 'files': len(rows), 'passed': passed, 'others': others,
                   'exact': sum(row['tolerance'] == 0 for row in rows), 'seconds': round(time.time() - start),
                   'worst': worst}, f, indent=1)
        f.write('\n')
    print('%d of %d files of %d models passed (%d of them to the bit); table in %s' %
          (passed, len(rows), len(names), sum(row['tolerance'] == 0 for row in rows), table))
    return any(row['result'] == 'failed' for row in others)


if __name__ == '__main__':
    sys.exit(main())
