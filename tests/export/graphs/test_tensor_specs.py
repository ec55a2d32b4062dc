import pytest
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32
from autoencoder.v1.shapes import Shapes

from export.graphs.tensor_specs import Facts, Sizes, batch_buckets, served_methods, signature


def facts(labels: tuple[str, ...] = (), *, variational: bool = False) -> Facts:
    return Facts("any", variational, (28, 28, 1), 32, labels)


@pytest.mark.parametrize(
    ("image_shape", "largest"), [((8, 8, 1), 256), ((28, 28, 1), 256), ((64, 64, 3), 64), ((512, 512, 3), 32)]
)
def test_batches_are_bounded_by_memory_but_never_below_what_is_tried(
    image_shape: tuple[int, int, int], largest: int
) -> None:
    buckets = batch_buckets(image_shape)
    assert buckets[-1] == largest
    assert buckets == sorted(buckets)
    assert buckets[:3] == [1, 2, 4]


def test_only_variational_families_have_log_variances() -> None:
    assert [spec.name for spec in signature("encode", facts()).outputs] == ["latents"]
    outputs = signature("encode", facts(variational=True)).outputs
    assert [spec.name for spec in outputs] == ["latents", "log_variances"]


def test_free_sizes_and_spatial_latents() -> None:
    about = Facts(
        "vae",
        variational=True,
        image_shape=(0, 0, 3),
        latent_size=0,
        labels=(),
        latent_shape=(0, 0, 6),
        downsampling=8,
        sizes=Sizes(8, 16),
        float_images=True,
    )
    assert about.shapes == Shapes((0, 0, 3), (0, 0, 6), 0, 8, 8, 16, 2**24)
    shapes = {
        name: [[spec.name, spec.data_type, *spec.shape] for each in (made.inputs, made.outputs) for spec in each]
        for name, made in ((name, signature(name, about)) for name in ("encode", "decode", "reconstruct"))
    }
    image, code = [DATA_TYPE_FLOAT32, -1, -1, -1, 3], [DATA_TYPE_FLOAT32, -1, -1, -1, 6]
    assert shapes == {
        "encode": [["images", *image], ["latents", *code], ["log_variances", *code]],
        "decode": [["latents", *code], ["images", *image]],
        # The server sums up errors after cropping.
        "reconstruct": [["images", *image], ["reconstructions", *image]],
    }
    assert batch_buckets(about.image_shape) == [1, 2, 4]


def test_a_noise_level_is_an_input() -> None:
    about = Facts(
        "denoiser", variational=False, image_shape=(0, 0, 1), latent_size=0, labels=(), noise_level=(0.0, 0.25, 0.1)
    )
    made = signature("denoise", about)
    assert [(spec.name, list(spec.shape)) for spec in made.inputs] == [
        ("images", [-1, -1, -1, 1]),
        ("noise_levels", [-1]),
    ]


GRAPHS = dict.fromkeys(["encode", "decode", "reconstruct"])


@pytest.mark.parametrize(
    ("graphs", "labels", "attributes", "density", "methods"),
    [
        (GRAPHS, (), [], True, ["Encode", "Decode", "Reconstruct", "Sample", "Interpolate"]),
        (GRAPHS, (), ["slant"], False, ["Encode", "Decode", "Reconstruct", "Interpolate", "Edit"]),
        (
            GRAPHS | {"classify": None},
            ("a",),
            [],
            False,
            ["Encode", "Decode", "Reconstruct", "Interpolate", "Classify"],
        ),
        ({"denoise": None}, (), [], False, ["Denoise"]),
        ({"encode": None}, (), ["slant"], True, ["Encode"]),
        ({"decode": None}, (), [], True, ["Decode", "Sample"]),
    ],
)
def test_what_a_model_serves(
    graphs: dict[str, object], labels: tuple[str, ...], attributes: list[str], density: bool, methods: list[str]
) -> None:
    assert served_methods(facts(labels=labels), graphs, attributes, density) == methods
