#!/usr/bin/env python3
"""Random graphs of real Keras: layertop's predictions against float64.

usage: run_random.py LAYERTOP WORKDIR TABLE COUNT [SEED]

COUNT graphs from SEED on (without it: from the clock, and printed), each in both formats, as one batch and sample by
sample without fusion. A graph that fails is built again with fewer steps until it no longer fails; the smallest one that
does stays in WORKDIR. TABLE gets the counts, the seeds, what was drawn and what failed. A seed of which Keras makes no
model, or one that Keras itself gets wrong in float32, judges nobody: the next one takes its place. A graph with a layer
that layertop names as unsupported counts as unsupported. A graph that fails is put to Keras's JAX backend too, and if
that finds nothing wrong it is the judge, and TABLE has the errors before both: the NumPy backend copies tensors on their
way into a nested model, and their masks stay behind; and where a result is what is left of large numbers, one float32 run
of Keras may be luckier than another. Exit 1 if one differs beyond its tolerance.
"""
import collections
import functools
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time

os.environ.setdefault('KERAS_BACKEND', 'numpy')  # small graphs: nothing is compiled
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oracle
import random_graphs
import run

SECOND = 'jax'  # asked about what seems to fail


class Unjudged(Exception):
    """Keras in float32 is too far from itself in float64 for anybody to be judged."""


def tolerance_of(error):
    return max(random_graphs.TOLERANCE, random_graphs.CONDITION * error)


def judge(layertop, work, seed, steps=None):
    """The rows of one graph."""
    case = random_graphs.case(seed, steps)
    folder = os.path.join(work, case.name.replace('/', '-'))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made = oracle.make(case, folder)
        case.tolerances = [tolerance_of(e) if e <= random_graphs.CONDITION_MAX else float('inf')
                           for e in made['keras_errors']]
        if min(case.tolerances) == float('inf'):
            raise Unjudged('its float32 is %.2g off' % made['keras_error'])
        rows = [run.judge(layertop, case, suffix, made, folder) for suffix in made['files']]
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if not any(row['result'] == 'failed' for row in rows):
        shutil.rmtree(folder)
    return rows, case


def failed(rows):
    return [row for row in rows if row['result'] == 'failed']


def second_judge(layertop, work, seed):
    """The rows of one graph that Keras with another backend, in a process of its own, finds nothing wrong with, or []."""
    table = os.path.join(work, 'second.json')
    argv = [sys.executable, __file__, layertop, os.path.join(work, 'second'), table, '1', str(seed)]
    if os.path.exists(table):
        os.remove(table)
    subprocess.run(argv, env=dict(os.environ, KERAS_BACKEND=SECOND, CONFORMANCE_JOBS='1'), stdout=subprocess.DEVNULL)
    if not os.path.exists(table):
        return []
    with open(table) as f:
        told = json.load(f)
    other = told['versions']['seeds'] != '%d..%d' % (seed, seed)  # it made no model of this one
    return [] if other or told['counts']['failed'] else [dict(row, result='passed') for row in told['worst']]


def shrink(layertop, work, seed):
    """The failing rows of the graph's shortest beginning that fails."""
    for steps in range(1, 12):
        try:
            rows = failed(judge(layertop, work, seed, steps)[0])
        except Exception:  # the beginning may be a graph that Keras refuses
            continue
        if rows:
            return rows
    return []


def tell(what, row):
    print('%-12s %s %s %s %s %s' % (what, row['name'], row['format'], row.get('error', ''), row.get('message', ''),
                                    row.get('layers', '')), flush=True)


def outcome(layertop, work, seed):
    """What came of a seed: {'rows', 'smaller', 'classes', 'refused', perhaps 'judges'}, {'unjudged'} or
    {'no model': why}."""
    try:
        rows, case = judge(layertop, work, seed)
    except Unjudged:
        return {'unjudged': True}
    except Exception as refusal:
        return {'no model': run.reason_of(refusal)}
    second = failed(rows) and os.environ['KERAS_BACKEND'] != SECOND and second_judge(layertop, work, seed)
    if second:
        return {'rows': second, 'smaller': [], 'classes': case.classes, 'refused': case.refused,
                'judges': [{os.environ['KERAS_BACKEND']: rows[0]['error'], 'tolerance': rows[0]['tolerance']},
                           {SECOND: second[0]['error'], 'tolerance': second[0]['tolerance']}]}
    if seed % 25 == 0 and os.environ['KERAS_BACKEND'] == 'jax':
        __import__('jax').clear_caches()
    return {'rows': rows, 'smaller': shrink(layertop, work, seed) if failed(rows) else [], 'classes': case.classes,
            'refused': case.refused}


class Tally:
    """What comes of the seeds, added up."""

    def __init__(self):
        self.counts = {'graphs': 0, 'passed': 0, 'failed': 0, 'unsupported': 0, 'not written': 0, 'not judged': 0}
        self.bad, self.not_made, self.worst, self.judges = [], {}, [], {}
        # classes that layertop lacks; those in the graphs; what the generator drew and Keras refused
        self.why, self.made, self.refused = collections.Counter(), collections.Counter(), collections.Counter()

    def add(self, seed, what):
        if 'unjudged' in what:
            self.counts['not judged'] += 1
        if 'judges' in what:
            self.judges[str(seed)] = what['judges']
            print('%-12s random/%d: %s' % ('two judges', seed, what['judges']), flush=True)
        if 'no model' in what:
            self.not_made[str(seed)] = what['no model']
            print('%-12s random/%d: %s' % ('no model', seed, what['no model']), flush=True)
        if 'rows' not in what:
            return
        self.counts['graphs'] += 1
        self.made.update(what['classes'])
        self.refused.update(map(tuple, what['refused']))
        for row in what['rows']:
            self.counts[row['result']] += 1
            if row.get('error') is not None:
                self.worst.append((row['error'], row['name'], row['format'], row['tolerance']))
            if row['result'] == 'failed':
                tell('failed', row)
            if row['result'] == 'unsupported':  # "... cannot run here: LSTM x2 (first 'a'), ops.Sin ('b')"
                self.why.update(re.findall(r"([\w.]+)(?: x\d+)? \((?:first )?'", row['message']) or [row['message']])
        for row in what['smaller']:
            tell('smaller', row)
        self.bad += failed(what['rows']) + what['smaller']


def outcomes(layertop, work, seeds):
    """(seed, outcome) in order, from CONFORMANCE_JOBS processes."""
    jobs = int(os.environ.get('CONFORMANCE_JOBS') or 1)
    judge_one = functools.partial(outcome, layertop, work)
    if jobs == 1:
        yield from ((seed, judge_one(seed)) for seed in seeds)
        return
    with multiprocessing.get_context('spawn').Pool(jobs) as pool:
        yield from zip(seeds, pool.imap(judge_one, seeds))


def main():
    layertop, work, table, count = *sys.argv[1:4], int(sys.argv[4])
    first = int(sys.argv[5]) if len(sys.argv) > 5 else int(time.time())
    os.makedirs(work, exist_ok=True)
    home = os.path.join(work, 'home')
    os.environ.update(XDG_CONFIG_HOME=home, XDG_STATE_HOME=home)
    print('seeds from %d' % first, flush=True)
    start, tally, seed = time.time(), Tally(), first
    for seed, what in outcomes(layertop, work, range(first, first + 2 * count)):
        tally.add(seed, what)
        if 'rows' in what and tally.counts['graphs'] % 25 == 0:
            print('%d graphs after %d s' % (tally.counts['graphs'], time.time() - start), flush=True)
        if tally.counts['graphs'] == count:
            break
    counts, worst = tally.counts, sorted(tally.worst, reverse=True)
    more = {'worst': [dict(zip(('error', 'name', 'format', 'tolerance'), row)) for row in worst[:10]],
            'two judges': tally.judges,
            'unsupported': dict(tally.why.most_common(30)), 'drawn': dict(sorted(tally.made.items()))}
    run.write_table(table, layertop, tally.bad, tally.not_made, dict(run.versions(), seeds='%d..%d' % (first, seed)),
                    time.time() - start, counts, more)
    print('%d graphs: %d passed, %d failed, %d unsupported, %d not written by Keras, %d not judged, %d not made; '
          'largest error %.2g; table in %s' %
          (counts['graphs'], counts['passed'], counts['failed'], counts['unsupported'], counts['not written'],
           counts['not judged'], len(tally.not_made), worst[0][0] if worst else 0, table))
    for message, times in tally.why.most_common(20):
        print('%6d times unsupported: %s' % (times, message[:160]))
    for (name, message), times in tally.refused.most_common(12):
        print('%6d times refused by Keras: %s: %s' % (times, name, message))
    return counts['failed'] > 0


if __name__ == '__main__':
    sys.exit(main())
