#!/usr/bin/env python3
"""Random graphs of real Keras: layertop's predictions against float64.

usage: run_random.py LAYERTOP WORKDIR TABLE COUNT [SEED]

COUNT graphs from SEED on (without it: from the clock, and printed), each in both formats. A graph that fails is built
again with fewer steps until it no longer fails; the smallest one that does stays in WORKDIR. TABLE gets the counts, the
seeds and what failed. A graph with a layer that layertop names as unsupported counts as unsupported. Exit 1 if one
differs beyond its tolerance.
"""
import collections
import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oracle
import random_graphs
import run


def judge(layertop, work, seed, steps=None):
    """The rows of one graph; [] if Keras cannot make it."""
    case = random_graphs.case(seed, steps)
    folder = os.path.join(work, case.name.replace('/', '-'))
    made = oracle.make(case, folder)
    case.tolerance = max(random_graphs.TOLERANCE, random_graphs.CONDITION * made['keras_error'])
    rows = [run.judge(layertop, case, suffix, made, folder) for suffix in made['files']]
    if not any(row['result'] == 'failed' for row in rows):
        shutil.rmtree(folder)
    return rows


def failed(rows):
    return [row for row in rows if row['result'] == 'failed']


def shrink(layertop, work, seed):
    """The failing rows of the graph's shortest beginning that fails."""
    for steps in range(1, 12):
        try:
            rows = failed(judge(layertop, work, seed, steps))
        except Exception:  # the beginning may be a graph that Keras refuses
            continue
        if rows:
            return rows
    return []


def main():
    layertop, work, table, count = *sys.argv[1:4], int(sys.argv[4])
    first = int(sys.argv[5]) if len(sys.argv) > 5 else int(time.time())
    os.makedirs(work, exist_ok=True)
    home = os.path.join(work, 'home')
    os.environ.update(XDG_CONFIG_HOME=home, XDG_STATE_HOME=home)
    print('seeds %d to %d' % (first, first + count - 1), flush=True)
    start, bad, not_made, why, errors = time.time(), [], {}, collections.Counter(), []
    counts = {'passed': 0, 'failed': 0, 'unsupported': 0, 'not written': 0}
    for seed in range(first, first + count):
        try:
            rows = judge(layertop, work, seed)
        except Exception as refusal:
            not_made[str(seed)] = '%s: %s' % (type(refusal).__name__, str(refusal).strip().split('\n')[0][:160])
            print('%-12s random/%d: %s' % ('no model', seed, not_made[str(seed)]), flush=True)
            continue
        if seed % 25 == 0 and os.environ['KERAS_BACKEND'] == 'jax':
            __import__('jax').clear_caches()
        for row in rows:
            counts[row['result']] += 1
            errors.append(row.get('error') or 0)
            if row['result'] == 'failed':
                print('%-12s %s %s %s %s' % (row['result'], row['name'], row['format'], row.get('error', ''),
                                             row.get('message', '')), flush=True)
            if row['result'] == 'unsupported':  # "... cannot run here: LSTM x2 (first 'a'), ops.Sin ('b')"
                why.update(re.findall(r"([\w.]+)(?: x\d+)? \((?:first )?'", row['message']) or [row['message']])
        if failed(rows):
            small = shrink(layertop, work, seed)
            bad += failed(rows) + small
            for row in small:
                print('%-12s %s %s %s %s' % ('smaller', row['name'], row['format'], row.get('error', ''),
                                             row.get('message', '')), flush=True)
    run.write_table(table, layertop, bad, not_made, dict(run.versions(), seeds='%d..%d' % (first, first + count - 1)),
                    time.time() - start, counts)
    print('%d passed, %d failed, %d unsupported, %d not written by Keras, %d not made; largest error %.2g; table in %s' %
          (counts['passed'], counts['failed'], counts['unsupported'], counts['not written'], len(not_made),
           max(errors, default=0), table))
    for message, times in why.most_common(20):
        print('%6d times unsupported: %s' % (times, message[:160]))
    return counts['failed'] > 0


if __name__ == '__main__':
    sys.exit(main())
