#!/usr/bin/env python3
"""Faults that are planted, and whether the true cause is the first advice.

    tests/planted/planted.py PROGRAM OUT [--only WORD] [--rounds N]

Three kinds: settings and made models that this CPU really runs (the gain is predicted, then measured
by `advise --try`); records of facts that are changed as such a fault on a GPU would change them
(tests/data/advise/cases.json); and probe records for `doctor` (tests/data/doctor/cases.json). Healthy
runs are ordinary models with what `advise --try` left of the settings. On a machine where other
programs run, A57 says so, and rightly: it is then passed over, and the scenario is marked as
disturbed. Python's standard library is enough.
"""
import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(ROOT, "tests", "data")
HEALTHY_TIMES = 2
POLICIES = {os.SCHED_OTHER: "usual", os.SCHED_FIFO: "real time", os.SCHED_RR: "real time"}
TRIES = 3  # of a scenario that another program disturbed


# ---- the program ----

def usual_priority():
    """Of processes that are to get in each other's way, however this one is scheduled."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Program:
    def __init__(self, path, folder):
        self.path = os.path.abspath(path)
        self.environment = dict(os.environ, LAYERTOP_DATA=os.path.join(folder, "share"),
                                XDG_CONFIG_HOME=folder, XDG_STATE_HOME=folder)

    def run(self, commands, model=None, environment=None, arguments=(), plain=False):
        """All objects that `--json` prints, by command, in order. plain: at usual priority."""
        line = [self.path] + ([model] if model else []) + ["--json", *arguments, "-c", commands]
        done = subprocess.run(line, capture_output=True, text=True, timeout=600, cwd=ROOT,
                              preexec_fn=usual_priority if plain else None,
                              env=dict(self.environment, **(environment or {})))
        return [json.loads(row) for row in done.stdout.splitlines()]

    def last(self, command, *rest, **more):
        found = [o for o in self.run(*rest, **more) if o["cmd"] == command]
        if not found or not found[-1]["ok"]:
            raise RuntimeError("%s: %s" % (rest[0], found[-1]["error"] if found else "no answer"))
        return found[-1]["data"]


# ---- made models: an architecture with a recipe for its weights (engine/keras/recipe.c) ----

def layer(kind, name, **config):
    return {"module": "keras.layers", "class_name": kind, "registered_name": None,
            "config": dict(config, name=name, dtype="float32")}


def sequential(name, shape, layers, weights):
    first = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
             "config": {"batch_shape": [None, *shape], "dtype": "float32", "name": "input"}}
    return {"name": name, "keras_version": "3.15.1", "weights": weights,
            "config": {"module": "keras", "class_name": "Sequential", "registered_name": None,
                       "config": {"name": name, "layers": [first, *layers]}}}


def made_permutes():
    """Convolutions that each turn their input first."""
    layers, weights = [], {}
    for i in range(3):
        layers += [layer("Permute", "turn_%d" % i, dims=[2, 1, 3]),
                   layer("Conv2D", "conv_%d" % i, filters=32, kernel_size=[1, 1], strides=[1, 1],
                         padding="same", activation="relu", use_bias=True)]
        weights["conv_%d" % i] = [["kernel", [1, 1, 32, 32], 0.0, 0.2], ["bias", [32], 0.0, 0.1]]
    return sequential("permutes", [64, 64, 32], layers, weights)


def made_steps():
    """A GRU whose activation is several ops: it runs step by step."""
    gru = layer("GRU", "gru", units=32, activation="squareplus", recurrent_activation="softmax",
                use_bias=True, reset_after=True, return_sequences=False)
    dense = layer("Dense", "dense", units=4, activation="linear", use_bias=True)
    return sequential("steps", [48, 16], [gru, dense], {
        "gru": [["kernel", [16, 96], 0.0, 0.2], ["recurrent_kernel", [32, 96], 0.0, 0.2],
                ["bias", [2, 96], 0.0, 0.1]],
        "dense": [["kernel", [32, 4], 0.0, 0.2], ["bias", [4], 0.0, 0.1]]})


def make_models(folder):
    """A data folder with the models that ship and the made ones."""
    shipped = os.path.join(ROOT, "share", "layertop", "demo")
    target = os.path.join(folder, "share", "demo")
    os.makedirs(os.path.join(target, "applications"))
    for name in os.listdir(shipped):
        if name != "applications":
            os.symlink(os.path.join(shipped, name), os.path.join(target, name))
    for name in os.listdir(os.path.join(shipped, "applications")):
        os.symlink(os.path.join(shipped, "applications", name),
                   os.path.join(target, "applications", name))
    for model in (made_permutes(), made_steps()):
        path = os.path.join(target, "applications", model["name"] + ".json.gz")
        with gzip.open(path, "wt") as file:
            json.dump(model, file)


# ---- scenarios ----

def measured(precision):
    """(id, cause, model, commands before `advise`, how it is planted besides)."""
    base = "devices cpu; set precision %s; " % precision
    rows = [
        ("threads_one", "A59", "demo:mobilenetv2", base + "batch 8; threads 1; run 15", {}),
        ("threads_one_efficientnet", "A59", "demo:efficientnetb0",
         base + "batch 4; threads 1; run 15", {}),
        ("threads_too_many", "A59", "demo:mobilenetv2",
         base + "batch 8; threads %d; run 15" % (4 * (os.cpu_count() or 1)), {}),
        ("fusion_off", "A33", "demo:mobilenetv2", base + "batch 8; fusion off; run 15", {}),
        ("fusion_off_efficientnet", "A33", "demo:efficientnetb0",
         base + "batch 4; fusion off; run 15", {}),
        ("fusion_off_resnet", "A33", "demo:resnet50", base + "batch 4; fusion off; run 10", {}),
        ("batch_one_dense", "A05", "demo:dense4096", base + "sweep batch 1..64x4; batch 1; run 30",
         {}),
        ("batch_one_lstm", "A05", "demo:lstm256", base + "sweep batch 1..64x4; batch 1; run 30", {}),
        ("batch_one_mobilenet", "A05", "demo:mobilenetv3small",
         base + "sweep batch 1..16x4 --steps 10; batch 1; run 30", {}),
        ("weights_for_one_sample", "A35", "demo:dense4096", base + "batch 1; run 30", {}),
        ("slices_off", "A60", "demo:mobilenetv2", base + "batch 32; slice off; run 10", {}),
        ("slices_of_one", "A60", "demo:mobilenetv2", base + "batch 32; slice 1; run 10", {}),
        ("slow_layer", "A25", "demo:mobilenetv2", base + "batch 4; run 15",
         {"slow": ("block_5_project", 60)}),
        ("slow_layer_half", "A25", "demo:mobilenetv2", base + "batch 4; run 15",
         {"slow": ("block_5_project", 30)}),
        ("permutes", "A32", "demo:permutes", base + "batch 8; run 30", {}),
        ("recurrent_steps", "A34", "demo:steps", base + "batch 8; run 30", {}),
        ("pipeline_one_thread", "A21", "demo:mobilenetv2",
         base + "batch 8; pipeline serial; run 15", {}),
        ("pipeline_half_the_pictures", "A21", "demo:mobilenetv2",
         base + "batch 8; pipeline serial; picture 350x265; run 15", {}),
        ("pipeline_small_model", "A21", "demo:digits",
         base + "batch 32; picture 160x120; pipeline serial; run 60", {}),
        ("int8_unused_resnet", "A63", "demo:resnet50",
         base + "batch 4; calibrate --random --rows 8; run 10", {}),
        ("last_batch_of_36", "A13", "demo:digits",
         base + "batch 64; run 100; predict share/layertop/demo/digits/heldout_x.npy", {}),
        ("pruned_too_far", "A28", "demo:digits",
         base + "batch 64; prune 0.9 --untimed; evaluate; run 60", {}),
        ("near_the_limit", "A40", "demo:mobilenetv2", base + "batch 8; limit {limit}; run 10", {}),
        ("outside_the_model", "A51", "demo:mobilenetv2", base + "batch 1; run 20; gap 2s", {}),
        ("other_programs", "A57", "demo:mobilenetv2", base + "batch 8; run 15", {"hogs": True}),
    ]
    if precision == "bf16":
        narrow = "devices cpu; set precision fp32; "
        for name, batch, steps in (("resnet50", 4, 8), ("mobilenetv2", 8, 15), ("cnn", 32, 200),
                                   ("efficientnetb0", 4, 12), ("digits", 32, 200)):
            rows.append(("fp32_" + name, "A55", "demo:" + name,
                         narrow + "batch %d; run %d" % (batch, steps), {}))
    return rows


HEALTHY = [("mobilenetv2", 8, 15), ("efficientnetb0", 4, 15), ("resnet50", 4, 10), ("digits", 32, 200),
           ("cnn", 32, 200), ("dense4096", 64, 30), ("lstm256", 16, 20), ("mlp60", 64, 300),
           ("mobilenetv3small", 8, 20), ("mobilenet", 8, 15)]

# Of tests/data/advise/cases.json: what each would be on a GPU. Those of the CPU are really run above.
GPU_CASES = {
    "A01": "no_kernels", "A02": "launch_bound", "A03": "gpu_idle", "A04": "tiny_kernels",
    "A08": "cpu_wins", "A15": "throttled", "A16": "copy_bound", "A17": "pageable_copies",
    "A18": "no_overlap", "A20": "large_outputs", "A26": "misaligned_channels",
    "A27": "half_without_tensor_cores", "A61": "half_unused", "A30": "multiprocessors_unfilled",
    "A31": "wave_tail", "A32": "layout_shuffles", "A38": "no_autotune", "A39": "workspace_starved",
    "A41": "growth_off_beside_others", "A42": "fragmentation", "A43": "other_tenant",
    "A62": "cpu_fallback", "A21": "preprocess_bound", "A49": "profiler_distorts",
    "A58": "swapping", "A07": "slower_than_allowed", "A13": "last_batch_of_few",
    "A19": "floats_on_the_host", "A28": "answers_differ", "A45": "cpu_held_down",
    "A50": "graph_hides_layers", "A54": "tensor_too_large", "A63": "int8_unused", "A06": "past_the_knee", "A10": "cold_start"}

# Of tests/data/doctor/cases.json: (rule, a part of what is said) -> id.
DOCTOR_CASES = [
    ("D01", None, "module_not_loaded"), ("D02", "nvidia-uvm is not there", "uvm_node_missing"),
    ("D02", "cgroup", "cgroup_denies"), ("D03", "stub", "stub_driver"),
    ("D04", "INSUFFICIENT_DRIVER", "driver_too_old"), ("D05", "CUDA 13.0", "driver_older_than_build"),
    ("D06", "NVML answers 18", "driver_library_mismatch"), ("D07", "set and empty", "device_hidden"),
    ("D07", "there is 1 GPU", "device_index_too_large"), ("D09", "PROHIBITED", "compute_mode"),
    ("D10", "no instance", "mig_without_instance"), ("D11", "209", "no_code_for_gpu"),
    ("D12", "CUDA 12", "gpu_too_old"), ("D13", None, "cudnn_missing")]


def change(record, path, value):
    parts = path.split(".")
    for part in parts[:-1]:
        if isinstance(record, list):
            record = record[int(part)]
        else:
            record = record.setdefault(part, {})
    if isinstance(record, list):
        record[int(parts[-1])] = value
    else:
        record[parts[-1]] = value


def changed_record(folder, one):
    with open(os.path.join(DATA, folder, one["base"] + ".json")) as file:
        record = json.load(file)
    for path, value in one["set"].items():
        change(record, path, value)
    return record


def cases(folder):
    with open(os.path.join(DATA, folder, "cases.json")) as file:
        return json.load(file)


class Planted:
    def __init__(self, program, folder, options):
        self.program, self.folder, self.options = program, folder, options
        self.scenarios, self.healthy = [], []

    def wanted(self, name):
        return not self.options.only or self.options.only in name

    def add(self, name, cause, first, **more):
        row = {"id": name, "cause": cause, "first_advice": first, "ok": first == cause, **more}
        self.scenarios.append(row)
        gain = ", predicted %.2f times" % more["predicted"] if more.get("predicted") else ""
        gain += ", measured %.2f" % more["measured"] if more.get("measured") else ""
        print("%-4s %-28s cause %s, first advice %s%s%s" %
              ("ok" if row["ok"] else "MISS", name, cause, first, gain,
               ", disturbed" if more.get("disturbed") else ""), flush=True)

    # -- on this CPU --

    def advise(self, row, extra="advise"):
        name, cause, model, commands, how = row
        environment = {}
        if "slow" in how:
            environment["LAYERTOP_TEST_SLOW_LAYER"] = "%s:%g" % how["slow"]
        if "{limit}" in commands:
            planned = self.program.last("run", commands.replace("limit {limit}; ", ""), model=model)
            commands = commands.format(limit=int(planned["memory"]["planned_bytes"] / 0.95))
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"],
                                 preexec_fn=usual_priority)
                for _ in range((os.cpu_count() or 1) if how.get("hogs") else 0)]
        try:
            time.sleep(0.2 if hogs else 0)
            return self.program.last("advise", commands + "; " + extra, model=model,
                                     environment=environment, plain=bool(hogs))
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()

    def measure(self, row):
        name, cause = row[0], row[1]
        for _ in range(TRIES):
            data = self.advise(row)
            ids = [a["id"] for a in data["advice"]]
            disturbed = "A57" in ids and cause != "A57"
            rest = [i for i in ids if i != "A57" or cause == "A57"]
            first = rest[0] if rest else None
            if first == cause:
                break
        more = {"disturbed": disturbed, "kind": "measured"}
        advice = next((a for a in data["advice"] if a["id"] == cause), None)
        if advice and advice["saved_ms"]:
            more["predicted_saved_ms"] = advice["saved_ms"]
            more["predicted"] = advice["speedup"]
        can_try = advice and advice["changes"] and "warmup" not in advice["changes"] \
            and advice["state"] in ("gain", "try")
        if can_try:
            tried = self.advise(row, "advise --try --rounds %d" % self.options.rounds)
            tries = [t for t in tried["tried"] if t["id"] == cause and t["predicted"]]
            trial = max(tries, key=lambda t: t["predicted"], default=None)  # what was advised
            if trial and trial["speedup"]:
                more.update(predicted=trial["predicted"], measured=trial["speedup"],
                            interval=[trial["low"], trial["high"]])
        self.add(name, cause, first, **more)

    def check_healthy(self, name, batch, steps, precision, again):
        commands = "devices cpu; set precision %s; batch %d; run %d; advise --try --rounds 6; " \
                   "run %d; advise" % (precision, batch, steps, steps)
        data = self.program.last("advise", commands, model="demo:" + name)
        ids = [a["id"] for a in data["advice"]]
        rest = [i for i in ids if i != "A57"]
        row = {"id": "healthy_%s_b%d_%s_%d" % (name, batch, precision, again + 1),
               "first_advice": rest[0] if rest else None, "ok": not rest,
               "disturbed": "A57" in ids}
        self.healthy.append(row)
        print("%-4s %-28s first advice %s%s" % ("ok" if row["ok"] else "MISS", row["id"],
                                                 row["first_advice"],
                                                 ", disturbed" if row["disturbed"] else ""),
              flush=True)

    # -- from records --

    def judge(self, command, record):
        path = os.path.join(self.folder, "record.json")
        with open(path, "w") as file:
            json.dump(record, file)
        objects = self.program.run("%s --from %s" % (command, path), arguments=["--no-tui"])
        return next(o for o in objects if o["cmd"] == command)["data"]

    def records(self):
        seen = set()
        for one in cases("advise"):
            name = GPU_CASES.get(one["id"])
            if name and name not in seen and one["state"] in ("gain", "risk", "try") \
                    and self.wanted(name):
                seen.add(name)
                self.add(name, one["id"], self.judge("advise", changed_record("advise", one))["first"],
                         kind="facts")
        for rule, what, name in DOCTOR_CASES:
            one = next((c for c in cases("doctor") if c["rule"] == rule and c["state"] == "fail" and
                        (not what or what in c.get("what", ""))), None)
            if one and self.wanted(name):
                data = self.judge("doctor", changed_record("doctor", one))
                self.add(name, rule, data["root_cause"], kind="probes")
        for base in ("cpu", "gpu"):
            first = self.judge("advise", changed_record("advise", {"base": base, "set": {}}))["first"]
            self.healthy.append({"id": "healthy_facts_" + base, "first_advice": first,
                                 "ok": first is None, "disturbed": False})

    def run(self):
        isa = self.program.last("devices", "devices")["devices"]
        isa = next((d.get("isa") or "" for d in isa if d["id"] == "cpu"), "")
        precision = "bf16" if "AMX" in isa else "fp32"
        self.records()
        for row in measured(precision):
            if self.wanted(row[0]):
                try:
                    self.measure(row)
                except (RuntimeError, subprocess.TimeoutExpired) as why:  # of one, which is a miss
                    self.add(row[0], row[1], None, kind="measured", error=str(why)[:300])
                time.sleep(self.options.pause)
        for name, batch, steps in HEALTHY:
            if self.wanted("healthy_" + name):
                for again in range(HEALTHY_TIMES):
                    try:
                        self.check_healthy(name, batch, steps, precision, again)
                    except (RuntimeError, subprocess.TimeoutExpired) as why:
                        self.healthy.append({"id": "healthy_%s_%d" % (name, again + 1), "ok": False,
                                             "first_advice": None, "error": str(why)[:300]})
        return isa


def summary(scenarios, healthy):
    gains = [abs(s["predicted"] / s["measured"] - 1) for s in scenarios
             if s.get("measured") and s.get("predicted") and s["measured"] >= 1.1]
    by_id = {s["id"]: s for s in scenarios}
    whole, half = by_id.get("slow_layer"), by_id.get("slow_layer_half")
    ratio = None
    if whole and half and whole.get("predicted_saved_ms") and half.get("predicted_saved_ms"):
        ratio = half["predicted_saved_ms"] / whole["predicted_saved_ms"]
    return {"scenarios": len(scenarios), "scenarios_ok": sum(s["ok"] for s in scenarios),
            "healthy": len(healthy), "healthy_ok": sum(h["ok"] for h in healthy),
            "disturbed": sum(bool(s.get("disturbed")) for s in scenarios + healthy),
            "gains": len(gains),
            "gain_error_median": statistics.median(gains) if gains else None,
            "half_a_fault": ratio}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("out")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0, help="seconds between scenarios")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layertop-planted-") as folder:
        make_models(folder)
        program = Program(options.program, folder)
        planted = Planted(program, folder, options)
        isa = planted.run()
        version = program.last("version", "version").get("version", "")
    told = summary(planted.scenarios, planted.healthy)
    result = {"command": "make planted", "version": version, "machine": platform.machine(),
              "isa": isa, "cores": os.cpu_count(), "load_average": os.getloadavg()[0],
              "scheduler": POLICIES.get(os.sched_getscheduler(0), "other"),
              "summary": told, "scenarios": planted.scenarios, "healthy": planted.healthy}
    with open(options.out, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(json.dumps(told))
    return 0 if told["scenarios_ok"] >= 0.9 * told["scenarios"] and \
        told["healthy_ok"] >= 0.95 * told["healthy"] else 1


if __name__ == "__main__":
    sys.exit(main())
