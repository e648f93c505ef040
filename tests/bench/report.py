"""Judging the figures of a comparison, and printing them."""
import json
import math
import os

import models

LABELS = {('keras', 'predict'): 'keras predict', ('keras', 'call'): 'keras model(x)'}
# of the FMA peak, for resnet50 in fp32
PEAK_BARS = {1: 0.65, 32: 0.70}
MEAN_BAR, LEAST_BAR = 1.0, 0.9
# above it the machine had other work, and the figures say little
LOAD_MAX = 1.0


def label(name, mode):
    return LABELS.get((name, mode), name)


def judge(point):
    """The best peer, the ratio to it, the noise, and whether layertop is slower."""
    own, again = point['engines']['layertop'], point['engines']['layertop again']
    # one whose bf16 is not worth the name is no peer; in float32 fewer digits are no reason to leave one out, and
    # in int8 there is one peer
    left_out = point['off'] if point['precision'] == 'bf16' else []
    peers = {name: engine for name, engine in point['engines'].items()
             if not name.startswith('layertop') and name not in left_out}
    best = min(peers, key=lambda name: peers[name]['p50_ms'])
    point['noise'] = max(abs(own[key] / again[key] - 1) for key in ('p50_ms', 'p90_ms'))
    point['best_peer'] = best
    point['ratio'] = peers[best]['p50_ms'] / own['p50_ms']
    point['ratio_p90'] = peers[best]['p90_ms'] / own['p90_ms']
    point['slower'] = all(own[key] / peers[best][key] - 1 > point['noise'] for key in ('p50_ms', 'p90_ms'))
    point['gflops'] = point['flops'] / own['p50_ms'] / 1e6
    if point['precision'] == 'fp32':
        point['share_of_peak'] = point['gflops'] / point['fma_peak_gflops']


def bars(points):
    """[{bar, value, least, met}] of the points that were measured."""
    found = []

    def add(what, value, least):
        found.append({'bar': what, 'value': value, 'least': least, 'met': value >= least})
    for batch, least in PEAK_BARS.items():
        for point in points:
            if (point['model'], point['batch'], point['precision']) == ('resnet50', batch, 'fp32'):
                add('resnet50 fp32 batch %d, share of the FMA peak' % batch, point['share_of_peak'], least)
    for precision in ('fp32', 'bf16', 'int8'):
        ratios = [point['ratio'] for point in group(points, models.MODELS, precision)]
        if ratios:
            add('%s, geometric mean over %d points against the best peer' % (precision, len(ratios)), mean(ratios),
                MEAN_BAR)
            add('%s, worst point against the best peer' % precision, min(ratios), LEAST_BAR)
    for precision in ('fp32', 'bf16'):
        ratios = [point['ratio'] for point in group(points, models.SEQUENCES, precision)]
        if ratios:
            add('%s, sequences, geometric mean over %d points against the best peer' % (precision, len(ratios)),
                mean(ratios), MEAN_BAR)
    return found


def group(points, names, precision):
    return [point for point in points if point['precision'] == precision and point['model'] in names]


def mean(ratios):
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))


def unmeasured(points):
    """Bars that this run says nothing about."""
    seen = {(point['model'], point['batch'], point['precision']) for point in points}
    names = ['resnet50 fp32 batch %d, share of the FMA peak' % batch for batch in PEAK_BARS
             if ('resnet50', batch, 'fp32') not in seen]
    for precision in ('fp32', 'bf16'):
        for kind, members in (('', models.MODELS), ('sequences, ', models.SEQUENCES)):
            count, most = len(group(points, members, precision)), sum(len(models.batches(name)) for name in members)
            if count < most:
                names.append('%s%s at %d of %d points' % (kind, precision, most - count, most))
    return names


def print_head(results):
    own = results['layertop']
    print('%s, %d cores, load average %.2f; %d rounds, interleaved, turns of %g s' % (
        results['cpu']['name'], len(results['cores']), results['load_average'], results['protocol']['rounds'],
        results['protocol']['seconds']))
    print('layertop  %s, %s, %s, %d threads' % (own['version'], own['library'], own['isa'], own['threads']), flush=True)


def print_point(point):
    peak = ', %.0f %% of the FMA peak of %.0f' % (point['share_of_peak'] * 100, point['fma_peak_gflops']) \
        if 'share_of_peak' in point else ''
    print('\n%s, batch %d, %s: layertop %.0f GFLOP/s%s; load average %.2f' % (
        point['model'], point['batch'], point['precision'], point['gflops'], peak, point['load_average']))
    print('  %-15s %9s %9s %9s %9s %8s %8s %8s %8s' % ('', 'p50 ms', 'p90 ms', 'samples/s', 'MiB', 'peak MiB',
                                                     'load ms', 'first ms', 'differs'))
    for name, engine in point['engines'].items():
        print('  %-15s %9.2f %9.2f %9.1f %9.0f %8.0f %8.0f %8.0f %8.1g' % (
            name, engine['p50_ms'], engine['p90_ms'], engine['throughput_per_s'], engine['resident_bytes'] / 2**20,
            engine['peak_bytes'] / 2**20, engine['load_ms'], engine['first_result_ms'], engine['output']['max_share']))
    if point['precision'] == 'int8':
        print('  rows with the class that Keras gives them in float32: %s' % ', '.join(
            '%s %.0f %%' % (name, engine['output']['top1'] * 100) for name, engine in point['engines'].items()
            if name != 'layertop again'))
        print('  layertop\'s layers %s; TFLite\'s tensors %s' % (
            point['layers_by_precision'], point['tflite_tensors']))
    verdict = 'SLOWER than' if point['slower'] else 'as fast as' if point['ratio'] < 1 + point['noise'] else 'faster than'
    print('  %s %s: %.2f times its speed at p50, %.2f at p90; A/A spread %.1f %%' % (
        verdict, point['best_peer'], point['ratio'], point['ratio_p90'], point['noise'] * 100), flush=True)
    for layer in point.get('layers', [])[:5]:
        print('    %8.3f ms %7.1f GFLOP/s  %s (%s, %s)' % (layer['time_ms'], layer['gflops'], layer['name'],
                                                           layer['class'], layer['impl']), flush=True)


def print_tail(results):
    print('\npeers')
    for name, by_precision in results['peers'].items():
        for precision, facts in by_precision.items():
            if precision == 'isa':
                print('  %s: ISA %s' % (name, facts))
            elif 'error' in facts:
                print('  %s %s: not run: %s' % (name, precision, facts['error']))
            else:
                print('  %s %s: %s, %d threads, %s%s' % (
                    name, precision, ' '.join('%s %s' % pair for pair in facts['versions'].items()), facts['threads'],
                    facts['hint'], ', kernels %s' % ' '.join(facts['kernels']) if 'kernels' in facts else ''))
    if 'front' in results:
        cost, live, idle = results['front']['timing_of_layers'], results['front']['live'], results['front']['idle']
        print('\nthe front (mobilenetv2, batch 1)')
        print('  timing of layers  %.3f ms a step with, %.3f ms without: %+.1f %%' % (
            cost['profile_clock_ms'], cost['profile_off_ms'], cost['cost_share'] * 100))
        for what, seen in (('live', live), ('idle', idle)):
            print('  %s screen       front %.1f %% of a core, worker %.0f %%, %.0f bytes/s to the terminal, '
                  '%.1f wake-ups/s' % (what, seen['front_share_of_a_core'] * 100, seen['worker_share_of_a_core'] * 100,
                                       seen['terminal_bytes_per_s'], seen['front_wakeups_per_s']))
        print('  front resident    %.0f MiB' % (live['front_resident_bytes'] / 2**20))
    print('\nFMA peak %.0f GFLOP/s (%s, %d threads)' % (results['fma_peak']['gflops'], results['fma_peak']['isa'],
                                                       results['fma_peak']['threads']))
    for bar in results['bars']:
        print('  %-6s %.3f (at least %.2f)  %s' % ('met' if bar['met'] else 'MISSED', bar['value'], bar['least'],
                                                 bar['bar']))
    slower = ['%s batch %d %s' % (point['model'], point['batch'], point['precision'])
              for point in results['points'] if point['slower']]
    print('  slower than the best peer by more than the A/A spread, p50 and p90: ' + (', '.join(slower) or 'nowhere'))
    if results['not_measured']:
        print('  not measured in this run: ' + '; '.join(results['not_measured']))
    loads = [results['load_average']] + [point['load_average'] for point in results['points']]
    # the bench itself keeps all cores busy: what was there before it started is what disturbs it
    if results['load_average'] > LOAD_MAX:
        print('  the machine was busy when this began (load average %.2f, at most %.2f on the way): '
              'these figures are not worth much' % (results['load_average'], max(loads)))


def rounded(value):
    if isinstance(value, float):
        return float('%.5g' % value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def write(path, results):
    """One line a fact and a point, so that a diff can be read."""
    points = ',\n'.join('    ' + json.dumps(rounded(point), allow_nan=False) for point in results['points'])
    lines = ['  %s: %s' % (json.dumps(key), json.dumps(rounded(value), allow_nan=False))
             for key, value in results.items() if key != 'points']
    with open(path + '.part', 'w') as f:
        f.write('{\n%s,\n  "points": [\n%s\n  ]\n}\n' % (',\n'.join(lines), points))
    os.replace(path + '.part', path)
