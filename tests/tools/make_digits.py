#!/usr/bin/env python3
"""Train demo:digits with real Keras and write everything that ships with it.

    KERAS_BACKEND=jax python3 tests/tools/make_digits.py [--epochs N] [--fonts DIR] [--root DIR]

Needs Keras >= 3.3 (any backend), numpy, scipy, h5py, Pillow and scikit-learn, and for the extra
training material the DejaVu fonts. The repository keeps the outputs, so nobody has to run this to
build or test layertop. What is committed was written with the versions in
share/layertop/demo/digits/README. With the same versions on the same kind of machine every weight
comes out again, bit for bit (all seeds are fixed; digits.keras differs in its date); other
versions or backends round differently and give another model of the same quality.

Writes to share/layertop/demo/digits/:
    digits.h5, digits.keras     the same weights, in both formats of Keras
    labels.txt                  class names, one a line
    heldout_x.npy, heldout_y.npy  100 scans that were never trained on, uint8
    train_x.npz                 128 scans that were, half of them inverted: for `calibrate`
    digit-0.png .. digit-9.png  one held-out scan of each digit, 28x28 grey, white on black
    README                      the accuracy that was measured
and to tests/data/digits/:
    reference.h5                float64 answers, computed here layer by layer without Keras
    drawn-3.png, drawn-7.png    200x200 RGB, black on white, as a user would draw them
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import keras
import numpy as np
import scipy
import sklearn
from PIL import Image, ImageDraw, ImageFont
from scipy import interpolate, ndimage
from sklearn.datasets import load_digits

SEED = 1797
HELDOUT = 360     # the last scans in the file's order, where one hand's scans seem to lie together
CANVAS = 56       # sources are kept at twice the model's 28 pixels, ink in the middle 40
SHIPPED_PER_DIGIT = 10
CALIBRATION = 128  # scans of the training part that ship, so that int8 can be calibrated on them
BATCH = 64
LAYER_IMAGES = 1  # images whose every layer goes into reference.h5
REFERENCE_IMAGES = 16


# ---- material: scans, fonts, strokes; each a float canvas [56,56], 0 paper .. 1 ink ----------


def scan_to_canvas(scan):
    """An 8x8 scan with counts 0..16 becomes a canvas, the digit 20 of 28 high as in MNIST."""
    wide = ndimage.zoom(scan / 16.0, 5, order=3, mode="grid-constant", grid_mode=True)
    return np.pad(np.clip((wide - 0.5) * 1.6 + 0.5, 0, 1), 8)


def canvas_to_pixels(canvas):
    """Halve a canvas by averaging: uint8 [28,28]."""
    half = canvas.reshape(28, 2, 28, 2).mean(axis=(1, 3))
    return np.round(half * 255).astype(np.uint8)


def font_canvases(folder):
    """Every digit in every DejaVu face: (canvases [n,56,56], labels [n])."""
    canvases, labels = [], []
    for path in sorted(pathlib.Path(folder).glob("DejaVu*.ttf")):
        font = ImageFont.truetype(str(path), 52)
        for digit in range(10):
            glyph = Image.new("L", (96, 96))
            ImageDraw.Draw(glyph).text((24, 20), str(digit), fill=255, font=font)
            glyph = glyph.crop(glyph.getbbox())
            ratio = 40 / max(glyph.size)
            size = [max(1, round(side * ratio)) for side in glyph.size]
            canvas = Image.new("L", (CANVAS, CANVAS))
            canvas.paste(glyph.resize(size, Image.Resampling.LANCZOS),
                         [(CANVAS - side) // 2 for side in size])
            canvases.append(np.asarray(canvas) / 255.0)
            labels.append(digit)
    return np.reshape(canvases, (-1, CANVAS, CANVAS)), np.array(labels, int)


# How a pen writes each digit, in the unit box, y downwards. Each variant is a list of strokes;
# "line" joins its points, "curve" is a spline through them.
STROKES = {
    0: [[("curve", [(.5, 0), (.15, .3), (.17, .75), (.5, 1), (.83, .7), (.82, .25), (.5, 0)])]],
    1: [[("line", [(.5, 0), (.5, 1)])],
        [("line", [(.28, .28), (.55, 0), (.55, 1)])],
        [("line", [(.28, .25), (.52, 0), (.52, 1)]), ("line", [(.25, 1), (.8, 1)])]],
    2: [[("curve", [(.15, .28), (.45, 0), (.82, .25), (.55, .65), (.12, 1)]),
         ("line", [(.12, 1), (.88, 1)])],
        [("curve", [(.15, .2), (.5, 0), (.8, .25), (.5, .7), (.15, .95), (.3, .8), (.9, 1)])]],
    3: [[("curve", [(.15, .12), (.5, 0), (.8, .22), (.42, .46)]),
         ("curve", [(.42, .46), (.86, .7), (.55, 1), (.12, .88)])],
        [("line", [(.15, 0), (.8, 0), (.42, .4)]),
         ("curve", [(.42, .4), (.85, .65), (.58, 1), (.12, .9)])]],
    4: [[("line", [(.3, 0), (.12, .55), (.88, .55)]), ("line", [(.66, .25), (.66, 1)])],
        [("line", [(.66, 1), (.66, 0), (.1, .66), (.92, .66)])],
        [("line", [(.2, 0), (.18, .5), (.75, .5)]), ("line", [(.78, 0), (.75, 1)])]],
    5: [[("line", [(.82, 0), (.25, 0), (.2, .42)]),
         ("curve", [(.2, .42), (.6, .38), (.85, .68), (.55, 1), (.12, .9)])]],
    6: [[("curve", [(.72, 0), (.32, .35), (.17, .7), (.46, 1), (.82, .76), (.5, .52), (.2, .7)])],
        [("curve", [(.4, 0), (.2, .5), (.25, .9), (.55, 1), (.78, .78), (.55, .58), (.22, .75)])]],
    7: [[("line", [(.12, 0), (.86, 0), (.4, 1)])],
        [("line", [(.12, 0), (.86, 0), (.4, 1)]), ("line", [(.32, .5), (.78, .5)])],
        [("line", [(.12, .15), (.14, 0), (.86, 0)]), ("curve", [(.86, 0), (.55, .5), (.45, 1)])]],
    8: [[("curve", [(.5, .47), (.2, .24), (.5, 0), (.8, .24), (.5, .47), (.17, .75), (.5, 1),
                    (.83, .75), (.5, .47)])],
        [("curve", [(.78, .15), (.4, 0), (.25, .25), (.7, .6), (.72, .9), (.35, 1), (.22, .75),
                    (.6, .45), (.8, .15)])]],
    9: [[("curve", [(.78, .3), (.46, .52), (.2, .27), (.48, 0), (.78, .25), (.76, .55), (.66, 1)])],
        [("curve", [(.78, .25), (.46, .5), (.2, .25), (.48, 0), (.78, .2)]),
         ("line", [(.78, .1), (.76, 1)])],
        [("curve", [(.78, .3), (.46, .5), (.2, .25), (.48, 0), (.78, .25), (.72, .8), (.45, 1),
                    (.2, .9)])]],
}


def draw_strokes(strokes, size, box, width):
    """Draw strokes with a round pen: an "L" image [size,size], 255 ink.

    box is (left, top, width, height) of the unit box in pixels.
    """
    image = Image.new("L", (size, size))
    pen = ImageDraw.Draw(image)
    for kind, points in strokes:
        points = np.asarray(points, float)
        if kind == "curve":
            spline, _ = interpolate.splprep(points.T, s=0, k=min(3, len(points) - 1))
            points = np.transpose(interpolate.splev(np.linspace(0, 1, 48), spline))
        points = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in points]
        pen.line(points, fill=255, width=round(width))
        for x, y in points:
            pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    return image


def stroke_canvas(digit, rng):
    """A pen-drawn digit whose points, proportions and pen vary."""
    strokes = STROKES[digit][rng.integers(len(STROKES[digit]))]
    wobble = rng.uniform(0, 0.05)
    # strokes that meet must still meet: the same point moves the same way
    moved = {}
    bent = []
    for kind, points in strokes:
        for point in points:
            if point not in moved:
                moved[point] = np.array(point) + rng.normal(0, wobble, 2)
        bent.append((kind, [moved[point] for point in points]))
    wide = rng.uniform(95, 175)
    image = draw_strokes(bent, 224, (112 - wide / 2, 36, wide, 152), rng.uniform(7, 30))
    return np.asarray(image.resize((CANVAS, CANVAS), Image.Resampling.BOX)) / 255.0


# ---- augmentation ------------------------------------------------------------------------------


def augment(canvas, rng):
    """Shift, turn, scale, shear, thicken, blur, fade, speckle and perhaps invert: uint8 [28,28]."""
    turn = np.deg2rad(rng.normal(0, 8))
    shear = rng.normal(0, 0.12)
    scale = rng.uniform(0.7, 1.25) * np.exp(rng.normal(0, 0.06, 2))
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.array([[1, 0], [shear, 1]]) @ np.diag(1 / scale)
    middle = (CANVAS - 1) / 2
    shift = np.clip(rng.normal(0, 3, 2), -8, 8)
    offset = middle - matrix @ (middle + shift)
    canvas = ndimage.affine_transform(canvas, matrix, offset, order=1)

    pen = rng.random()
    if pen < 0.15:
        canvas = ndimage.grey_dilation(canvas, 3)
    elif pen < 0.25:
        canvas = ndimage.grey_erosion(canvas, 2)
    if rng.random() < 0.3:
        canvas = ndimage.gaussian_filter(canvas, rng.uniform(0.4, 1.6))
    canvas = np.clip((canvas - 0.5) * rng.uniform(1, 3) + 0.5 + rng.uniform(-0.15, 0.15), 0, 1)

    if rng.random() < 0.2:  # whoever shrinks a picture without averaging gets ragged edges
        pixels = canvas[rng.integers(2)::2, rng.integers(2)::2]
    else:
        pixels = canvas.reshape(28, 2, 28, 2).mean(axis=(1, 3))
    peak = max(pixels.max(), 0.2)
    pixels = pixels / peak
    paper = rng.uniform(0, 0.25) if rng.random() < 0.3 else 0.0
    ink = rng.uniform(0.65, 1) if rng.random() < 0.5 else 1.0
    pixels = paper + pixels * (ink - paper)
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(0.01, 0.1), pixels.shape)
    if rng.random() < 0.5:
        pixels = 1 - pixels
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


class Material(keras.utils.PyDataset):
    """One epoch of fresh augmentations: every scan three times, fonts and strokes besides."""

    def __init__(self, scans, scan_labels, fonts, font_labels):
        super().__init__()
        self.scans, self.scan_labels = scans, scan_labels
        self.fonts, self.font_labels = fonts, font_labels
        self.rng = np.random.default_rng(SEED)
        self.on_epoch_end()

    def on_epoch_end(self):
        picks = [(self.scans[i], self.scan_labels[i]) for i in range(len(self.scans))] * 3
        picks += [(self.fonts[i], self.font_labels[i])
                  for i in self.rng.integers(0, len(self.fonts), 4 * len(self.fonts))
                  if len(self.fonts)]
        picks += [(stroke_canvas(i % 10, self.rng), i % 10) for i in range(1800)]
        order = self.rng.permutation(len(picks))
        self.x = np.stack([augment(picks[i][0], self.rng) for i in order])[..., None]
        self.y = np.array([picks[i][1] for i in order])

    def __len__(self):
        return len(self.x) // BATCH  # the same batch shape each time: one compilation

    def __getitem__(self, k):
        part = slice(k * BATCH, (k + 1) * BATCH)
        return self.x[part].astype("float32"), self.y[part]


# ---- the model ---------------------------------------------------------------------------------


def build_model():
    """Pixels 0..255 in, ten probabilities out; the scaling is a layer, so a picture needs none."""
    layers = keras.layers

    def norm(x, number):
        return layers.BatchNormalization(momentum=0.98, name=f"bn{number}")(x)

    def conv_bn(x, number, filters, size):
        x = layers.Conv2D(filters, size, padding="same", use_bias=False, name=f"conv{number}")(x)
        return norm(x, number)

    image = keras.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    x = layers.ReLU(name="relu1")(conv_bn(x, 1, 12, 5))
    x = layers.ReLU(name="relu2")(conv_bn(x, 2, 16, 3))
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.ReLU(name="relu3")(conv_bn(x, 3, 32, 3))
    x = shortcut = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Add(name="add")([conv_bn(x, 4, 32, 3), shortcut])
    x = layers.ReLU(name="relu4")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(32, name="dense1")(x)
    x = layers.ReLU(name="relu5")(norm(x, 5))
    x = layers.Dropout(0.2, name="dropout")(x)
    x = layers.Dense(10, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name="digits")


def train(model, material, epochs):
    steps = len(material) * epochs
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=1.5e-3,
                                                   warmup_steps=steps // 15),
            weight_decay=1e-3),
        loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(material, epochs=epochs, verbose=2, shuffle=False)
    # Shipped compiled, so that a loader meets a training_config and an optimizer to ignore; plain
    # SGD keeps two scalars where Adam's moments would triple the files.
    model.compile(keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)


# ---- float64 answers without Keras -------------------------------------------------------------


def read_weights(path):
    """{"conv1/kernel": float64 array, ...} from the .h5 that Keras wrote."""
    weights = {}
    with h5py.File(path) as file:
        for name, group in file["model_weights"].items():
            for key in group.attrs.get("weight_names", []):
                key = key.decode() if isinstance(key, bytes) else key
                leaf = key.split("/")[-1].split(":")[0]
                weights[f"{name}/{leaf}"] = np.asarray(group[key], np.float64)
    return weights


def convolve_same(x, kernel):
    """x [n,h,w,c], kernel [k,k,c,f], odd k, stride 1: [n,h,w,f]."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel)


def forward64(weights, images):
    """The model in float64, written out: {layer name: output} in model order.

    images is [n,28,28,1] with pixels 0..255; weights comes from read_weights().
    """
    def conv_bn(x, number):
        out[f"conv{number}"] = x = convolve_same(x, weights[f"conv{number}/kernel"])
        return norm(x, number)

    def norm(x, number):
        bn = f"bn{number}/"
        x = (x - weights[bn + "moving_mean"]) / np.sqrt(weights[bn + "moving_variance"] + 1e-3)
        out[f"bn{number}"] = x = x * weights[bn + "gamma"] + weights[bn + "beta"]
        return x

    def relu(x, number):
        out[f"relu{number}"] = x = np.maximum(x, 0)
        return x

    def pool(x, number):
        n, h, w, c = x.shape
        out[f"pool{number}"] = x = x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
        return x

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    out = {"image": np.asarray(images, np.float64)}
    out["rescaling"] = x = out["image"] * (1 / 255)
    x = relu(conv_bn(x, 1), 1)
    x = pool(relu(conv_bn(x, 2), 2), 1)
    x = shortcut = pool(relu(conv_bn(x, 3), 3), 2)
    x = conv_bn(x, 4)
    out["add"] = x = x + shortcut
    x = relu(x, 4)
    out["flatten"] = x = x.reshape(len(x), -1)
    out["dense1"] = x = dense(x, "dense1")
    out["dropout"] = x = relu(norm(x, 5), 5)
    logits = dense(x, "predictions")
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    out["predictions"] = e / e.sum(axis=1, keepdims=True)
    return out


def check_against_keras(model, answers, images):
    """Hold every layer of Keras (float32) against the float64 answers; fail above 1e-5.

    Errors are relative to the layer's largest value. The probabilities must agree to 1e-6.
    """
    names = [layer.name for layer in model.layers]
    if sorted(names) != sorted(answers):
        sys.exit(f"layers differ: {names} against {list(answers)}")
    probe = keras.Model(model.inputs, {n: model.get_layer(n).output for n in names if n != "image"})
    seen = probe.predict(images.astype("float32"), verbose=0)
    worst = max(np.abs(seen[n] - answers[n]).max() / np.abs(answers[n]).max() for n in seen)
    final = np.abs(seen["predictions"] - answers["predictions"]).max()
    print(f"float64 against Keras: worst layer {worst:.2e} relative, probabilities {final:.2e}")
    if worst > 1e-5 or final > 1e-6:
        sys.exit("the float64 forward pass does not agree with Keras")


# ---- outputs -----------------------------------------------------------------------------------


def pick_shipped(labels):
    """Indices of the first ten held-out scans of each digit, in the file's order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == d)[:SHIPPED_PER_DIGIT]
                                   for d in range(10)]))


def training_scans(canvases):
    """128 scans of the training part, spread over it, every other one inverted: uint8 [n,28,28,1]."""
    chosen = np.linspace(0, len(canvases) - HELDOUT - 1, CALIBRATION).astype(int)
    scans = np.stack([canvas_to_pixels(canvases[i]) for i in chosen])[..., None]
    scans[1::2] = 255 - scans[1::2]
    return scans


def grey_28(image):
    """What layertop does to a picture: grey, then 28x28. float32 [1,28,28,1]."""
    small = image.convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32)[None, :, :, None]


def drawn_pictures():
    """Two digits drawn by hand with other strokes than the training material's."""
    three = [("curve", [(.12, .2), (.35, .03), (.72, .08), (.7, .36), (.4, .47)]),
             ("curve", [(.4, .47), (.68, .53), (.84, .76), (.5, 1), (.08, .84)])]
    seven = [("curve", [(.1, .06), (.45, .1), (.9, .02)]),
             ("curve", [(.9, .02), (.62, .45), (.42, 1)])]
    for digit, strokes, box, width in ((3, three, (52, 36, 92, 126), 13),
                                       (7, seven, (58, 40, 84, 118), 9)):
        # drawn four times as large, so that the edges are smooth
        ink = draw_strokes(strokes, 800, [side * 4 for side in box], width * 4)
        ink = ink.resize((200, 200), Image.Resampling.BOX)
        paper = np.array([252, 251, 247.0])
        pen = np.array([24, 26, 38.0])
        share = np.asarray(ink, float)[..., None] / 255
        yield digit, Image.fromarray(np.round(paper + share * (pen - paper)).astype(np.uint8))


def write_reference(path, images, answers):
    with h5py.File(path, "w") as file:
        packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        file.create_dataset("x", data=images.astype(np.float32), **packed)
        file["y64"] = answers["predictions"]
        group = file.create_group("layers", track_order=True)
        for name, value in answers.items():
            group.create_dataset(name, data=value[:LAYER_IMAGES].astype(np.float32), **packed)


def versions():
    backend = keras.backend.backend()
    module = __import__({"tensorflow": "tensorflow", "torch": "torch"}.get(backend, backend))
    return (f"Keras {keras.__version__}, {backend} {module.__version__}, "
            f"numpy {np.__version__}, scipy {scipy.__version__}, "
            f"scikit-learn {sklearn.__version__}, h5py {h5py.__version__}")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description="train demo:digits and write its files")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--fonts", default="/usr/share/fonts/truetype/dejavu")
    parser.add_argument("--root", type=pathlib.Path, default=root, help="repository to write to")
    options = parser.parse_args()
    ship = options.root / "share/layertop/demo/digits"
    test = options.root / "tests/data/digits"
    ship.mkdir(parents=True, exist_ok=True)
    test.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(SEED)
    data = load_digits()
    canvases = np.stack([scan_to_canvas(scan) for scan in data.images])
    labels = data.target
    fonts, font_labels = font_canvases(options.fonts)
    if not len(fonts):
        print(f"no DejaVu fonts in {options.fonts}: training without them", file=sys.stderr)

    started = time.time()
    model = build_model()
    train(model, Material(canvases[:-HELDOUT], labels[:-HELDOUT], fonts, font_labels),
          options.epochs)
    print(f"trained in {time.time() - started:.0f} s")
    model.summary()

    held_x = np.stack([canvas_to_pixels(c) for c in canvases[-HELDOUT:]])[..., None]
    held_y = labels[-HELDOUT:].astype(np.uint8)
    plain = model.predict(held_x.astype("float32"), verbose=0).argmax(axis=1)
    inverted = model.predict(255 - held_x.astype("float32"), verbose=0).argmax(axis=1)
    chosen = pick_shipped(held_y)
    right, right_inverted = int((plain == held_y).sum()), int((inverted == held_y).sum())
    shipped_right = int((plain[chosen] == held_y[chosen]).sum())
    accuracy = right / HELDOUT
    print(f"held-out: {right} of {HELDOUT} ({accuracy:.2%}), inverted {right_inverted}, "
          f"shipped {shipped_right} of {len(chosen)}")

    # .keras first: saving .h5 takes the optimizer out of the model's compile config (Keras 3.15)
    model.save(ship / "digits.keras")
    model.save(ship / "digits.h5")
    for name in ("digits.h5", "digits.keras"):
        again = keras.models.load_model(ship / name).predict(held_x.astype("float32"), verbose=0)
        if not np.array_equal(again.argmax(axis=1), plain):
            sys.exit(f"{name} does not give back the trained model")
    (ship / "labels.txt").write_text("".join(f"{d}\n" for d in range(10)))
    np.savez_compressed(ship / "train_x.npz", image=training_scans(canvases))
    np.save(ship / "heldout_x.npy", held_x[chosen])
    np.save(ship / "heldout_y.npy", held_y[chosen])
    for digit in range(10):
        read = np.flatnonzero((held_y == digit) & (plain == digit))
        if not len(read):
            sys.exit(f"no held-out {digit} is recognised: train for more epochs")
        Image.fromarray(held_x[read[0], :, :, 0]).save(ship / f"digit-{digit}.png", optimize=True)

    images = held_x[chosen][:REFERENCE_IMAGES]
    answers = forward64(read_weights(ship / "digits.h5"), images)
    check_against_keras(model, answers, images)
    write_reference(test / "reference.h5", images, answers)
    for digit, picture in drawn_pictures():
        picture.save(test / f"drawn-{digit}.png", optimize=True)
        answer = model.predict(grey_28(picture), verbose=0)[0]
        print(f"drawn {digit}: read as {answer.argmax()} with {answer.max():.3f}")
        if answer.argmax() != digit:
            sys.exit("a drawn digit is not recognised")

    (ship / "README").write_text(
        f"demo:digits reads one handwritten digit from a 28x28 grey picture (pixels 0..255, either "
        f"polarity): {model.count_params()} parameters.\n"
        f"Source: scikit-learn's load_digits, 1797 scans of the UCI set (see NOTICE); the last "
        f"{HELDOUT} in file order were held out, 100 of them are in heldout_*.npy.\n"
        f"Made by tests/tools/make_digits.py from the other {len(labels) - HELDOUT} scans, "
        f"DejaVu digits and drawn strokes, {options.epochs} epochs, seed {SEED}.\n"
        f"Measured: {right} of {HELDOUT} held-out scans right ({accuracy:.2%}), "
        f"{right_inverted} when inverted; {shipped_right} of the {len(chosen)} shipped.\n"
        f"Written with {versions()}.\n")


if __name__ == "__main__":
    main()
