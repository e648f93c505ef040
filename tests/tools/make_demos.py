#!/usr/bin/env python3
"""Write the architecture files of demo:NAME: one gzipped JSON per keras.applications constructor.

usage: KERAS_BACKEND=jax make_demos.py OUTDIR [NAME...]

Each file holds {"name", "constructor", "keras_version", "preprocess", "config", "weights"}: the model's own
to_json() and, for every layer with weights, its path and the [name, shape] of each variable in
Keras's order. The weights themselves are drawn by layertop from a fixed seed. Needs Keras 3.
"""
import gzip, json, os, sys

os.environ.setdefault('KERAS_BACKEND', 'jax')
import keras
from keras import applications, initializers, layers

# how the family's preprocess_input treats RGB 0..255 (Keras applications documentation)
PREPROCESS = {
    'caffe': ['VGG16', 'VGG19', 'ResNet50', 'ResNet101', 'ResNet152'],
    'tf': ['ResNet50V2', 'ResNet101V2', 'ResNet152V2', 'InceptionV3', 'InceptionResNetV2', 'Xception',
           'MobileNet', 'MobileNetV2', 'NASNetMobile', 'NASNetLarge'],
    'torch': ['DenseNet121', 'DenseNet169', 'DenseNet201'],
    'none': ['EfficientNetB%d' % i for i in range(8)] + ['EfficientNetV2B%d' % i for i in range(4)] +
            ['EfficientNetV2S', 'EfficientNetV2M', 'EfficientNetV2L', 'MobileNetV3Small', 'MobileNetV3Large'] +
            ['ConvNeXt' + s for s in ('Tiny', 'Small', 'Base', 'Large', 'XLarge')],
}


def zeros(self, shape, dtype=None):
    # nothing is drawn here: only shapes are kept
    return keras.ops.zeros(shape, dtype=dtype or 'float32')


for cls in (initializers.VarianceScaling, initializers.GlorotUniform, initializers.HeNormal,
            initializers.RandomNormal, initializers.TruncatedNormal):
    cls.__call__ = zeros


def walk(layer_list, prefix, out):
    for layer in layer_list:
        path = prefix + layer.name
        if isinstance(layer, (keras.Sequential, keras.Model)):
            walk(layer.layers, path + '/', out)
        elif layer.weights:
            out[path] = [[w.name, list(w.shape)] for w in layer.weights]


def main():
    out, names = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    for mode, members in PREPROCESS.items():
        for name in members:
            if names and name not in names:
                continue
            keras.backend.clear_session()
            kwargs = {'weights': None}
            model = getattr(applications, name)(**kwargs)
            weights = {}
            walk(model.layers, '', weights)
            doc = {'name': name.lower(), 'constructor': name, 'keras_version': keras.__version__,
                   'preprocess': mode, 'parameters': model.count_params(),
                   'config': json.loads(model.to_json()), 'weights': weights}
            data = json.dumps(doc, separators=(',', ':'), sort_keys=True).encode()
            path = os.path.join(out, name.lower() + '.json.gz')
            with open(path, 'wb') as f:
                f.write(gzip.compress(data, 9, mtime=0))
            print(name, model.count_params(), len(model.layers), os.path.getsize(path), flush=True)
            del model


main()
