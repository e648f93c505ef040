"""What layertop itself costs: its screen while steps run live, its idle screen, and its layer timing.

The screen runs in a pseudo-terminal of 120x40 that somebody reads, as a terminal does. Processor times are
those of /proc/PID/stat: the front is the process started here, the worker its child.
"""
import fcntl
import os
import pty
import select
import statistics
import struct
import termios
import threading
import time

import engines


def processor_seconds(pid):
    with open('/proc/%d/stat' % pid) as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def switches(pid):
    """How often the process went to sleep: its wake-ups."""
    total = 0
    for task in os.listdir('/proc/%d/task' % pid):
        with open('/proc/%d/task/%s/status' % (pid, task)) as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith('voluntary_ctxt_switches'))
    return total


class Screen:
    def __init__(self, argv, cores):
        self.written, self.stopped = 0, False
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.sched_setaffinity(0, cores)
            os.environ.update(TERM='xterm-256color', LC_ALL='C.UTF-8')
            os.execv(argv[0], argv)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 120, 0, 0))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while not self.stopped:
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.written += len(os.read(self.master, 65536))
                except OSError:
                    return

    def type(self, line):
        os.write(self.master, line.encode() + b'\r')

    def watch(self, seconds):
        """Shares of a core of front and worker, bytes to the terminal and wake-ups a second."""
        worker = [pid for pid in engines.children(self.pid) if pid != self.pid][0]
        before = time.perf_counter(), processor_seconds(self.pid), processor_seconds(worker), self.written, \
            switches(self.pid)
        time.sleep(seconds)
        took = time.perf_counter() - before[0]
        return {'front_share_of_a_core': (processor_seconds(self.pid) - before[1]) / took,
                'worker_share_of_a_core': (processor_seconds(worker) - before[2]) / took,
                'terminal_bytes_per_s': (self.written - before[3]) / took,
                'front_wakeups_per_s': (switches(self.pid) - before[4]) / took}

    def end(self):
        self.type('quit')
        deadline = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.05)
        self.stopped = True
        self.reader.join()
        os.close(self.master)


def screen_cost(program, seconds, cores):
    """Of the live screen, with mobilenetv2 at batch 1: many short steps are the most work for a front."""
    screen = Screen([program, 'demo:mobilenetv2'], cores)
    try:
        time.sleep(2)
        for line in ('devices cpu', 'batch 1', 'start'):
            screen.type(line)
        time.sleep(3)
        live = screen.watch(seconds)
        live['front_resident_bytes'] = engines.memory([screen.pid])['resident_bytes']
        screen.type('stop')
        time.sleep(2)
        return {'live': live, 'idle': screen.watch(seconds)}
    finally:
        screen.end()


def timing_cost(layertop, rounds, steps):
    """Median of rounds of a step with and without the layers' times, in pairs."""
    walls = {'off': [], 'clock': []}
    for _ in range(rounds):
        for profile in walls:
            layertop.ask('profile ' + profile)
            walls[profile].append(layertop.ask('run %d --warmup 2' % steps)['wall_ms']['median'])
    layertop.ask('profile off')
    off, clock = (statistics.median(walls[profile]) for profile in ('off', 'clock'))
    return {'profile_off_ms': off, 'profile_clock_ms': clock, 'cost_share': clock / off - 1}
