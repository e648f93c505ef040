"""Models that layertop wrote (`export keras`), loaded by real Keras: both must predict the same."""
import json
import os
import subprocess

import numpy as np

import oracle
from oracle import keras

WRITTEN_BY = (3, 15)  # the Keras that the demo models come from: an older one need not read them

# demo model, shape of an input, its range, tolerance between two float32 runs (applications.py's for the deepest)
MODELS = [
    ('digits', (4, 28, 28, 1), (0, 255), 1e-5),
    ('mobilenetv2', (2, 224, 224, 3), (-1, 1), 1e-5),
    ('efficientnetb0', (2, 224, 224, 3), (0, 255), 5e-5),
    ('convnexttiny', (2, 224, 224, 3), (0, 255), 5e-5),
]
NAMES = ['export/' + name for name, *_ in MODELS]


def too_old():
    """Why this Keras is not asked, or None."""
    if oracle.TF_KERAS:
        return 'the demo models are Keras 3 models'
    if tuple(int(part) for part in keras.__version__.split('.')[:2]) < WRITTEN_BY:
        return 'the demo models were written by Keras %d.%d' % WRITTEN_BY
    return None


def export(layertop, name, folder, shape, bounds):
    """Write the files; returns the input and layertop's own answer to it."""
    os.makedirs(folder, exist_ok=True)
    x = np.random.default_rng(len(name)).uniform(*bounds, shape).astype('float32')
    np.save(os.path.join(folder, 'x.npy'), x)
    lines = ['devices cpu', 'batch %d' % shape[0]]
    lines += ['export keras %s' % os.path.join(folder, 'model.' + suffix) for suffix in ('keras', 'h5')]
    lines += ['predict %s %s' % (os.path.join(folder, 'x.npy'), os.path.join(folder, 'y.npy'))]
    run = subprocess.run([layertop, '--json', 'demo:' + name] + [word for line in lines for word in ('-c', line)],
                         capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    for line in run.stdout.splitlines():
        reply = json.loads(line)
        if not reply['ok']:
            raise ValueError('%s: %s' % (reply['error']['code'], reply['error']['message']))
    return x, np.load(os.path.join(folder, 'y.npy'))


def judge(layertop, row_name, work):
    """A row of the table for each format."""
    name, shape, bounds, tolerance = MODELS[NAMES.index(row_name)]
    folder = os.path.join(work, row_name.replace('/', '-'))
    oracle.set_float('float32')
    try:
        x, y = export(layertop, name, folder, shape, bounds)
    except (ValueError, OSError) as why:
        yield {'name': row_name, 'format': 'keras', 'result': 'failed', 'message': str(why)[:400]}
        return
    for suffix in ('keras', 'h5'):
        row = {'name': row_name, 'format': suffix, 'tolerance': tolerance}
        try:
            model = keras.saving.load_model(os.path.join(folder, 'model.' + suffix), compile=False)
            error = oracle.error_of(y, np.asarray(oracle.call(model, [x])[0], 'float64'))
        except Exception as why:
            yield dict(row, result='failed', message='Keras: ' + str(why).split('\n')[0][:300])
            continue
        yield dict(row, result='passed' if error <= tolerance else 'failed', error=float('%.2g' % error))
    oracle.forget(folder)
