"""Pictures of any size, codes of other sizes, files that are dropped: what the page does with each kind of model."""

import io
import json

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from PIL import Image
from playwright.sync_api import Page, expect

from tests.server.conftest import array, images
from tests.server.explorer.conftest import (
    Open,
    address,
    choose,
    draw,
    grey,
    pixels_of,
    place,
    section,
    until,
    wait_for_change,
    wait_for_picture,
)
from tests.server.explorer.models import POINTS
from tests.server.rest.conftest import Rest

HEIGHT, WIDTH = 60, 90


def photograph(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A grey ramp with a bright square, (H, W) uint8."""
    picture = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    picture[10:20, 30:40] = 250
    return picture


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def choose_file(page: Page, data: bytes, name: str = "photo.png") -> None:
    chooser = page.get_by_label("Choose a file, or drop one on the page")
    chooser.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def drop(page: Page, target: str, data: bytes, name: str) -> bool:
    """Drop a file as a browser does, and say whether the page keeps the browser from opening it."""
    script = """([target, bytes, name]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name));
        const element = document.querySelector(target);
        const fired = (type) => element.dispatchEvent(
            new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        return !fired("dragover") && !fired("drop");
    }"""
    return page.evaluate(script, [target, [*data], name])


def grey_of(page: Page, name: str, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    found = grey(pixels_of(page, name))
    return found.reshape(height, width) if found.size == height * width else np.zeros((height, width), np.uint8)


@pytest.mark.parametrize("target", ["canvas.map", "header", "main section:last-of-type"])
def test_a_file_is_dropped_anywhere_on_the_page(rest: Rest, open_page: Open, target: str) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    wait_for_picture(page, "Decoded picture")
    assert drop(page, target, png(np.full((20, 20), 77, np.uint8)), "dropped.png")
    assert set(grey(wait_for_picture(page, "Your picture"))) == {77}
    expect(page.get_by_text("a ring marks it on the map")).to_be_visible()
    assert drop(page, target, b"text", "notes.txt")
    expect(page.get_by_role("alert").filter(has_text="“notes.txt” is no picture")).to_be_visible()


def test_transparent_pixels_are_black_as_to_the_server(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "free-detector")
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[..., :3] = 200
    picture[:, :4, 3] = 255
    picture[0, :, 3] = 128
    choose_file(page, png(picture))
    wait_for_picture(page, "Your picture")
    shown = grey_of(page, "Your picture", 8, 8)
    np.testing.assert_array_equal(shown[1], [200] * 4 + [0] * 4)
    assert abs(int(shown[0, 0]) - 100) <= 1


def test_a_photograph_is_denoised_at_its_own_size_and_noise_level(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "free-denoiser")
    expect(section(page, "free-denoiser, version 1")).to_contain_text("any size")
    own = section(page, "A picture of your own")
    expect(own).to_contain_text("The model takes any size")
    slider = own.get_by_label("Noise to add")
    expect(slider).to_have_attribute("max", "0.5")
    choose_file(page, png(photograph()))
    wait_for_picture(page, "Denoised")
    np.testing.assert_array_equal(grey_of(page, "Your picture"), photograph())
    with page.expect_request("**/v1/Denoise") as sent:
        slider.fill("0.3")
    assert json.loads(sent.value.post_data or "")["noise_levels"] == [0.3]
    noisy = grey_of(page, "Noisy")
    assert 0.2 < np.std(noisy.astype(float) - photograph()) / 255 < 0.3, "clipped at black and white"
    request = pb.DenoiseRequest(model_name="free-denoiser", images=images(noisy[None, ..., None]), noise_levels=[0.3])
    expected = array(rest.served.stub.Denoise(request).images.tensor).reshape(HEIGHT, WIDTH)
    until(page, lambda: np.array_equal(grey_of(page, "Denoised"), expected))


def test_a_large_photograph_is_made_smaller(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "free-denoiser")
    choose_file(page, png(photograph(600, 1536)))
    wait_for_picture(page, "Denoised")
    assert grey(pixels_of(page, "Denoised")).size == 400 * 1024


def test_the_threshold_moves_regions_of_a_photograph(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "free-detector")
    choose_file(page, png(photograph()))
    own = section(page, "A picture of your own")
    own.get_by_label("Threshold of the map").fill("0.8")
    expect(own.locator(".marked rect")).to_have_count(1)
    box = own.locator(".marked rect")
    assert [box.get_attribute(name) for name in ("x", "y", "width", "height")] == ["30", "10", "10", "10"]
    wait_for_picture(page, "Anomaly map")
    anomalies = grey_of(page, "Anomaly map")
    assert anomalies[10:20, 30:40].min() > np.delete(anomalies, np.s_[10:20], 0).max()
    own.get_by_label("Threshold of the score").fill("0.9")
    expect(own.locator(".verdict")).to_contain_text("Anomalous: score 0.961")
    with page.expect_request("**/v1/Detect") as sent:
        own.get_by_label("Threshold of the score").fill("1.2")
    assert json.loads(sent.value.post_data or "")["threshold"] == 1.2
    expect(own.locator(".verdict")).to_contain_text("Normal: score")
    own.get_by_label("Threshold of the map").fill("1")
    expect(own.locator(".marked rect")).to_have_count(0)
    # Back to the calibrated one.
    own.get_by_label("Threshold of the score").dblclick()
    expect(own).to_contain_text("false alarms up to 1 %")


def test_an_autoencoder_of_free_sizes_has_no_map_and_reconstructs(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "free-ae")
    expect(page.get_by_text("This model has no map: its code grows with the picture")).to_be_visible()
    choose_file(page, png(photograph()))
    wait_for_picture(page, "Reconstruction")
    walk = section(page, "Walk between two pictures")
    walk.get_by_role("group", name="Start").get_by_role("button", name="your picture").click()
    choose_file(page, png(255 - photograph()))
    until(page, lambda: np.array_equal(grey_of(page, "Your picture"), 255 - photograph()))
    walk.get_by_role("group", name="End").get_by_role("button", name="your picture").click()
    walk.get_by_label("Steps").fill("3")
    walk.get_by_role("button", name="Walk").click()
    assert len(wait_for_picture(page, "The whole walk")) == 3 * HEIGHT * WIDTH * 4
    assert len(pixels_of(page, "On the way")) == HEIGHT * WIDTH * 4


def test_a_walk_between_two_pictures_begins_and_ends_at_their_reconstructions(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    walk, own = section(page, "Walk between two pictures"), section(page, "A picture of your own")
    draw(page)
    first = grey(wait_for_picture(page, "Your picture"))
    walk.get_by_role("group", name="Start").get_by_role("button", name="your picture").click()
    own.get_by_role("button", name="Invert").click()
    until(page, lambda: np.array_equal(grey(pixels_of(page, "Your picture")), 255 - first))
    walk.get_by_role("group", name="End").get_by_role("button", name="your picture").click()
    walk.get_by_label("Steps").fill("4")
    walk.get_by_role("button", name="Walk").click()
    whole = grey(wait_for_picture(page, "The whole walk")).reshape(8, 4, 8).swapaxes(0, 1)
    pair = np.stack([first, 255 - first]).reshape(2, 8, 8, 1)
    made = array(
        rest.served.stub.Reconstruct(pb.ReconstructRequest(model_name="vae", images=images(pair))).images.tensor
    )
    assert np.abs(whole[[0, 3]].astype(int) - made[..., 0]).max() <= 1
    assert not np.array_equal(whole[1], whole[0])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("line", "The latent space has one dimension"),
        ("plane", "The latent space has two dimensions: the map shows all of it."),
        ("wide", "Components 1 and 2 of a latent space of 70 dimensions, with "),
    ],
)
def test_the_map_says_how_much_of_a_code_it_shows(rest: Rest, open_page: Open, model: str, says: str) -> None:
    page = open_page(address(rest))
    choose(page, model)
    latent = section(page, "Latent space")
    expect(latent).to_contain_text(says)
    expect(latent).to_contain_text(f"The points are {POINTS} held-out images")
    before = wait_for_picture(page, "Decoded picture")
    page.get_by_role("application", name="Map of the latent space").press("Shift+ArrowRight")
    wait_for_change(page, "Decoded picture", before)
    if model == "wide":
        # Two other components, and a slider for each of the leading sixteen.
        expect(latent.get_by_role("slider")).to_have_count(16)
        map_ = page.locator("canvas.map")
        shown = map_.evaluate("canvas => canvas.toDataURL()")
        latent.get_by_label("Across").select_option("2")
        expect(latent).to_contain_text("Components 3 and 2 of")
        assert map_.evaluate("canvas => canvas.toDataURL()") != shown
        assert place(page, "component 3 (\\S+), component 2 ([^,\\s]+)")
