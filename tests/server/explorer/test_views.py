"""What one can do on the page, each by clicks and keys in a browser, against what the server answers elsewhere."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from playwright.sync_api import expect

from tests.server.conftest import array, images, tensor
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
from tests.server.explorer.models import NAMES, POINTS
from tests.server.rest.conftest import Rest


def test_a_model_and_version_are_chosen_and_described(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "multitask")
    about = section(page, "multitask, version 1")
    for fact in ("8 \u00d7 8, RGB", "Classify", "left, middle, right"):
        expect(about).to_contain_text(fact)
    about.get_by_text("Graphs and their gate").first.click()
    expect(about.get_by_role("rowheader", name="classify")).to_be_visible()
    choose(page, "fc-ae")
    page.get_by_label("Version", exact=True).select_option("fc-ae/1")
    page.get_by_role("heading", name="fc-ae, version 1").wait_for()


def test_reference_points_are_on_the_map_by_class(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    expect(section(page, "Latent space")).to_contain_text(f"The points are {POINTS} held-out images")
    expect(section(page, "Latent space")).to_contain_text("Components 1 and 2 of a latent space of 3 dimensions")
    legend = page.get_by_role("list", name="Classes").get_by_role("button")
    expect(legend).to_have_text(list(NAMES))
    script = """canvas => {
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = {};
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) {
            const key = [data[i], data[i + 1], data[i + 2]].map((v) => v >> 5).join();
            seen[key] = (seen[key] ?? 0) + 1;
        }
        return Object.values(seen).filter((count) => count > 100).length;
    }"""
    map_ = page.locator("canvas.map")
    assert map_.evaluate(script) >= len(NAMES)
    before = map_.evaluate("canvas => canvas.toDataURL()")
    legend.first.click()
    expect(legend.first).to_have_attribute("aria-pressed", "true")
    assert map_.evaluate("canvas => canvas.toDataURL()") != before


def test_a_model_without_points_shows_samples_and_says_so(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "fc-ae")
    expect(section(page, "Latent space")).to_contain_text("500 samples, because the bundle has no reference points")
    choose(page, "denoiser")
    expect(page.get_by_text("This model has no map: it has no code to decode.")).to_be_visible()


def test_the_decoded_picture_follows_a_drag(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    before = wait_for_picture(page, "Decoded picture")
    map_ = page.locator("canvas.map")
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    assert box is not None
    in_flight: list[str] = []
    most = [0]

    def begin(request) -> None:  # noqa: ANN001 (playwright's)
        if request.url.endswith("/v1/Decode"):
            in_flight.append(request.url)
            most[0] = max(most[0], len(in_flight))

    page.on("request", begin)
    page.on("requestfinished", lambda request: request.url in in_flight and in_flight.remove(request.url))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(1, 30):
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.012 * step), box["y"] + box["height"] * 0.5)
    page.mouse.up()
    until(page, lambda: place(page)[0] > 0.3)
    assert most[0] == 1, "at most one request in flight"
    # The picture is that of the place, as gRPC decodes it.
    reference = rest.get("/v1/models/vae/reference").document["axes"]
    mean, axes = (np.frombuffer(pb_bytes(reference[name]), np.float32) for name in ("mean", "components"))
    across, up = place(page)
    latent = mean + across * axes[:3] + up * axes[3:6]
    answer = rest.served.stub.Decode(
        pb.DecodeRequest(model_name="vae", latents=tensor(latent.astype(np.float32)[None]))
    )
    decoded = array(answer.images.tensor).ravel().astype(int)
    # The place is shown in two digits.
    until(page, lambda: bool(np.abs(decoded - grey(pixels_of(page, "Decoded picture"))).max() <= 4))
    assert pixels_of(page, "Decoded picture") != before


def pb_bytes(message: dict[str, str]) -> bytes:
    import base64  # noqa: PLC0415 (here alone)

    return base64.b64decode(message["data"])


def test_a_grid_of_codes_and_a_click_on_it(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    grid = section(page, "Grid of decoded codes")
    grid.get_by_label("Pictures a side").select_option("5")
    grid.get_by_role("button", name="Decode the grid").click()
    picture = wait_for_picture(page, "5 \u00d7 5 decoded codes")
    assert len(picture) == 4 * 40 * 40
    grid.get_by_role("img").click(position={"x": 5, "y": 5})
    expect(section(page, "Latent space").get_by_label("component 1", exact=True)).to_have_js_property(
        "valueAsNumber", -2
    )
    expect(section(page, "Latent space").get_by_label("component 2", exact=True)).to_have_js_property(
        "valueAsNumber", 2
    )
    # The corner of the grid is the picture of that place.
    corner = grey(picture).reshape(40, 40)[:8, :8].ravel().astype(int)
    until(page, lambda: bool(np.abs(corner - grey(pixels_of(page, "Decoded picture"))).max() <= 1))


def test_sliders_move_components_and_attributes(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    before = wait_for_picture(page, "Decoded picture")
    sliders = section(page, "Latent space")
    with page.expect_response("**/v1/Decode"):
        sliders.get_by_label("component 3", exact=True).fill("2")
    with page.expect_response("**/v1/Edit") as edit:
        sliders.get_by_label("brightness", exact=True).fill("1.5")
    assert json.loads(edit.value.request.post_data or "")["shifts"] == [{"attribute": "brightness", "amount": 1.5}]
    wait_for_change(page, "Decoded picture", before)


def test_a_picture_of_ones_own_is_placed_reconstructed_and_classified(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "multitask")
    draw(page)
    own = section(page, "A picture of your own")
    expect(own).to_contain_text("a ring marks it on the map")
    expect(own).to_contain_text("Squared error")
    expect(own.get_by_role("meter")).to_have_count(3)
    given = np.array(pixels_of(page, "Your picture"), np.uint8).reshape(1, 8, 8, 4)[..., :3]
    assert given.max() > 100
    answer = rest.served.stub.Reconstruct(pb.ReconstructRequest(model_name="multitask", images=images(given)))
    expected = array(answer.images.tensor)

    def made() -> np.ndarray:
        return np.array(pixels_of(page, "Reconstruction"), np.uint8).reshape(1, 8, 8, 4)[..., :3]

    until(page, lambda: np.array_equal(made(), expected))
    errors = np.abs(expected.astype(int) - given).max(-1).ravel()
    np.testing.assert_array_equal(grey(pixels_of(page, "Error map")), errors)
    own.get_by_role("button", name="Go there on the map").click()
    expect(own.get_by_role("button", name="Invert")).to_be_enabled()


def test_a_file_is_denoised_and_a_bad_one_refused_in_a_sentence(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "denoiser")
    chooser = page.get_by_label("Choose a file, or drop one on the page")
    chooser.set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    expect(page.get_by_text("“notes.txt” is no picture that this browser can read")).to_be_visible()
    png = page.evaluate_handle("document.createElement('canvas')").evaluate(
        "canvas => { canvas.width = canvas.height = 16; const c = canvas.getContext('2d'); c.fillStyle = '#888';"
        " c.fillRect(0, 0, 16, 16); return canvas.toDataURL().split(',')[1]; }"
    )
    chooser.set_input_files({"name": "grey.png", "mimeType": "image/png", "buffer": pb_bytes({"data": png})})
    assert set(grey(wait_for_picture(page, "Your picture"))) == {136}
    wait_for_picture(page, "Denoised")
    with page.expect_response("**/v1/Denoise"):
        page.get_by_label("Noise to add").fill("0")
    assert pixels_of(page, "Noisy") == pixels_of(page, "Your picture")


def test_the_threshold_of_detection_is_a_slider(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "detector")
    draw(page)
    own = section(page, "A picture of your own")
    own.get_by_label("Threshold of the score").fill("0.01")
    own.get_by_label("Threshold of the map").fill("0.15")
    expect(own.locator(".verdict")).to_contain_text("Anomalous: score")
    expect(own.locator(".marked rect")).to_have_count(1)
    own.get_by_label("Threshold of the score").fill("1.5")
    expect(own.locator(".verdict")).to_contain_text("Normal: score")
    expect(own).to_contain_text("false alarms up to 0.1 %")


def test_a_picture_has_a_likelihood_and_samples_come_through_a_learned_prior(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "scorer")
    draw(page)
    given = np.array(grey(pixels_of(page, "Your picture")), np.uint8).reshape(1, 4, 4, 1)
    answer = rest.served.stub.Score(pb.ScoreRequest(model_name="scorer", images=images(given), seed=0))
    nats = float(np.format_float_positional(array(answer.log_likelihoods)[0], 3, unique=False, fractional=False))
    text = f"At least {nats:g} nats, from 64 samples, each pixel drawn to be black or white."
    expect(section(page, "A picture of your own")).to_contain_text(text)
    sample = section(page, "Sample")
    sample.get_by_label("Seed").fill("5")
    sample.get_by_role("button", name="The same again").click()
    first = np.array(grey(wait_for_picture(page, "Sample 1")))
    drawn = rest.served.stub.Sample(pb.SampleRequest(model_name="scorer", count=1, seed=5))
    np.testing.assert_array_equal(first, array(drawn.images.tensor).ravel())


def test_a_walk_between_a_picture_and_a_place(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    draw(page)
    walk = section(page, "Walk between two pictures")
    walk.get_by_role("group", name="Start").get_by_role("button", name="your picture").click()
    walk.get_by_role("group", name="End").get_by_role("button", name="the place on the map").click()
    walk.get_by_label("Steps").fill("5")
    walk.get_by_role("button", name="Walk").click()
    assert len(wait_for_picture(page, "The whole walk")) == 5 * 8 * 8 * 4
    first = pixels_of(page, "On the way")
    walk.get_by_label("Step", exact=True).fill("4")
    expect(walk).to_contain_text("5 of 5")
    assert pixels_of(page, "On the way") != first


def test_a_seed_shows_the_same_samples_again(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    sample = section(page, "Sample")
    sample.get_by_label("Pictures", exact=True).fill("3")
    sample.get_by_role("button", name="Draw new ones").click()
    first = wait_for_picture(page, "Sample 1")
    seed = sample.get_by_label("Seed").input_value()
    expect(sample.locator("p[role=status]")).to_have_text(f"3 pictures of seed {seed}.")
    with page.expect_response("**/v1/Sample"):
        sample.get_by_role("button", name="Draw new ones").click()
    expect(sample.locator("p[role=status]")).not_to_have_text(f"3 pictures of seed {seed}.")
    assert pixels_of(page, "Sample 1") != first
    sample.get_by_label("Seed").fill(seed)
    sample.get_by_role("button", name="The same again").click()
    expect(sample.locator("p[role=status]")).to_have_text(f"3 pictures of seed {seed}.")
    assert pixels_of(page, "Sample 1") == first


def test_requests_queue_drift_and_alarms_are_watched(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    now = section(page, "The server now")
    expect(now).to_contain_text("rows wait")
    strange = images(np.zeros((120, 8, 8, 1), np.uint8))
    rest.served.stub.Reconstruct(pb.ReconstructRequest(model_name="vae", images=strange))
    expect(now.get_by_role("region", name="Requests")).to_contain_text("Reconstruct")
    expect(now.get_by_role("region", name="Drift and anomalies")).to_contain_text("reconstruction error")
    expect(now.get_by_role("status", name="Alarms")).to_contain_text("rows are strange by reconstruction error")


@pytest.mark.parametrize("language", ["Python", "curl"])
def test_the_last_call_is_copied_and_does_the_same(rest: Rest, open_page: Open, language: str) -> None:
    page = open_page(address(rest), permissions=["clipboard-read", "clipboard-write"])
    choose(page, "vae")
    wait_for_picture(page, "Decoded picture")
    call = section(page, "The last call")
    call.get_by_role("button", name=f"Copy {language}").click()
    expect(call.get_by_role("status")).to_have_text(f"Copied the {language} call of Decode.")
    text = page.evaluate("navigator.clipboard.readText()")
    command = [sys.executable, "-c", text] if language == "Python" else ["bash", "-c", text]
    environment = {**os.environ, "no_proxy": "*"}
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60).stdout)
    decoded = np.frombuffer(pb_bytes(answer["images"]["tensor"]), np.uint8)
    np.testing.assert_array_equal(decoded, grey(pixels_of(page, "Decoded picture")))
