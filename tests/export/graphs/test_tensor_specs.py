import pytest

from export.graphs.tensor_specs import Facts, batch_buckets, served_methods, signature


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
