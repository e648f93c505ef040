"""Which layer is it? Where a model's answer is wrong, every layer's is held against Keras in float64."""
import os

import oracle
import run
from oracle import keras

MANY = 60         # so many layers are asked at once, not each in a run of its own
FACTOR = 3        # times the tolerance of the whole: where an error begins it is smaller than at the end


def tensors_by_layer(model):
    """[(name, tensor)] in the model's order, of layers and op nodes with one output: those of their last call."""
    found, own = [], {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    for layer in getattr(model, 'operations', model.layers):
        nodes = [node for node in layer._inbound_nodes if id(node) in own]
        outputs = getattr(nodes[-1], 'outputs', None) if nodes else None
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1 and not isinstance(layer, keras.layers.InputLayer):
            found.append((layer.name, outputs[0]))
    return found


def errors_of(layertop, case, model, made, folder, names, answers):
    """{name: error}; a layer that layertop cannot end at is left out."""
    ys, refusal = run.ask(layertop, model, case, made, folder, outputs=names)
    if not refusal:
        return {name: max(oracle.error_of(y[i], answer) for y in ys)
                for i, (name, answer) in enumerate(zip(names, answers)) if i < len(ys[0])}
    if len(names) == 1:
        return {}
    errors = {}
    for name, answer in zip(names, answers):
        errors.update(errors_of(layertop, case, model, made, folder, [name], [answer]))
    return errors


def keras_reads_so_too(model, made, answers, tolerances):
    """Does Keras, reading its own file, answer as layertop does, and not as the model that it wrote? Then the file does
    not say all: Keras 3.8 leaves out the output_padding of transposed convolutions, for one."""
    try:
        ys = oracle.call(keras.models.load_model(model, compile=False), made['inputs'])
    except Exception:  # Keras cannot read every file that it writes
        return False
    return len(ys) == len(answers) and all(
        oracle.error_of(answer, y.astype('float64')) <= tolerance
        for answer, y, tolerance in zip(answers, ys, tolerances))


def first_wrong(layertop, case, model, made, folder):
    """A line about the first layers whose answer is wrong although what comes before them is right."""
    try:
        weights = oracle.prepared(case, made['inputs']).get_weights()
        twin = oracle.twin_of(case, weights)
        layers = tensors_by_layer(twin)
        part = keras.Model(twin.inputs, [tensor for _, tensor in layers])
        answers = oracle.call(part, oracle.widened(made['inputs']))
        oracle.set_float('float32')
        place = os.path.join(folder, 'layers')
        os.makedirs(place, exist_ok=True)
        names = [name for name, _ in layers]
        errors = {}
        for i in range(0, len(names), MANY):
            errors.update(errors_of(layertop, case, model, made, place, names[i:i + MANY], answers[i:i + MANY]))
    except Exception as why:
        return 'not compared: %s' % str(why).strip().split('\n')[0][:160]
    wrong = [(name, errors[name]) for name in names if name in errors and errors[name] > case.tolerance / FACTOR]
    if not wrong:
        return 'each of %d layers is right where the model ends with it' % len(errors)
    return 'of %d layers the first that differ are %s' % (
        len(errors), ', '.join('%s (%.2g)' % (name, error) for name, error in wrong[:3]))
