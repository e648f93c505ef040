"""keras.applications, all members, from the smallest: random weights, a small picture that is not square; with the
classifier, and without it for pictures of any size; in batches of 1 and of 8."""
from oracle import CLASSES, Case, keras

TOLERANCE = 5e-5  # of logits, over hundreds of layers

# constructor, millions of parameters (the order), image, further arguments
MEMBERS = [
    ('MobileNetV3Small', 2.6, (64, 96), {}),
    ('MobileNetV3Small', 2.6, (64, 96), {'minimalistic': True, 'alpha': 0.75}),
    ('MobileNetV2', 3.5, (64, 96), {}),
    ('MobileNetV2', 3.5, (64, 96), {'alpha': 0.35}),
    ('MobileNet', 4.3, (64, 96), {}),
    ('MobileNet', 4.3, (64, 96), {'alpha': 0.25}),
    ('NASNetMobile', 5.3, (64, 96), {}),
    ('EfficientNetB0', 5.3, (64, 96), {}),
    ('MobileNetV3Large', 5.5, (64, 96), {}),
    ('EfficientNetV2B0', 7.2, (64, 96), {}),
    ('EfficientNetB1', 7.9, (64, 96), {}),
    ('DenseNet121', 8.1, (64, 96), {}),
    ('EfficientNetV2B1', 8.2, (64, 96), {}),
    ('EfficientNetB2', 9.2, (64, 96), {}),
    ('EfficientNetV2B2', 10.2, (64, 96), {}),
    ('EfficientNetB3', 12.3, (64, 96), {}),
    ('DenseNet169', 14.3, (64, 96), {}),
    ('EfficientNetV2B3', 14.5, (64, 96), {}),
    ('EfficientNetB4', 19.5, (64, 96), {}),
    ('DenseNet201', 20.2, (64, 96), {}),
    ('EfficientNetV2S', 21.6, (64, 96), {}),
    ('Xception', 22.9, (96, 128), {}),
    ('InceptionV3', 23.9, (96, 128), {}),
    ('ResNet50V2', 25.6, (64, 96), {}),
    ('ResNet50', 25.6, (64, 96), {}),
    ('ConvNeXtTiny', 28.6, (64, 96), {}),
    ('EfficientNetB5', 30.6, (64, 96), {}),
    ('EfficientNetB6', 43.3, (64, 96), {}),
    ('ResNet101V2', 44.7, (64, 96), {}),
    ('ResNet101', 44.7, (64, 96), {}),
    ('ConvNeXtSmall', 50.2, (64, 96), {}),
    ('EfficientNetV2M', 54.4, (64, 96), {}),
    ('InceptionResNetV2', 55.9, (96, 128), {}),
    ('ResNet152V2', 60.4, (64, 96), {}),
    ('ResNet152', 60.4, (64, 96), {}),
    ('EfficientNetB7', 66.7, (64, 96), {}),
    ('ConvNeXtBase', 88.6, (32, 64), {}),
    ('NASNetLarge', 88.9, (64, 96), {}),
    ('EfficientNetV2L', 119.0, (64, 96), {}),
    ('VGG16', 138.4, (32, 64), {}),
    ('VGG19', 143.7, (32, 64), {}),
    ('ConvNeXtLarge', 197.8, (32, 64), {}),
    ('ConvNeXtXLarge', 350.2, (32, 64), {}),
]


WAYS = [['batch 8'], ['batch 1']]


def builder(constructor, size, arguments):
    return lambda: getattr(keras.applications, constructor)(
        weights=None, input_shape=size + (3,), classes=CLASSES, classifier_activation=None, **arguments)


def topless(constructor, size, arguments):
    """Without the classifier, for pictures of any size; but NASNet compares sizes when it is built, and with open ones
    the model that Keras makes cannot be called."""
    opened = size if constructor.startswith('NASNet') else (None, None)
    return lambda: getattr(keras.applications, constructor)(
        weights=None, input_shape=opened + (3,), include_top=False, **arguments)


def label(constructor, arguments):
    """MobileNetV2, MobileNetV2-alpha0.35, MobileNetV3Small-minimalistic-alpha0.75"""
    return '-'.join([constructor] + ['%s%s' % (key, '' if value is True else value)
                                     for key, value in arguments.items()])


def cases():
    for constructor, _, size, arguments in MEMBERS:
        # what normalises within the model wants pixels, the others numbers around zero
        own = constructor.startswith(('EfficientNet', 'MobileNetV3', 'ConvNeXt'))
        inputs = [('pixels' if own else 'scene', (2,) + size + (3,))]
        name = 'app/' + label(constructor, arguments)
        yield Case(name, builder(constructor, size, arguments), inputs, TOLERANCE, calm=True, ways=WAYS)
        yield Case(name + '-notop', topless(constructor, size, arguments), inputs, TOLERANCE, calm=True,
                   shape=size + (3,), ways=WAYS)
