// Pictures: { height, width, channels, data: Uint8Array } as the server takes and gives them, and canvases.

import { numbers, tensor } from "./tensors.js";

const LUMA = [0.299, 0.587, 0.114];
// Free sizes: enough to see, and answered while one waits.
const LARGEST_SIDE = 1024;

// Images of an answer (N, H, W, C) to pictures.
export function pictures(images) {
  const [count, height, width, channels] = images.tensor.shape;
  const values = numbers(images.tensor);
  const size = height * width * channels;
  return Array.from({ length: count }, (_, row) => ({
    height,
    width,
    channels,
    data: values.subarray(row * size, (row + 1) * size),
  }));
}

export function asImages(picture) {
  const { height, width, channels, data } = picture;
  return { tensor: tensor(data, [1, height, width, channels]) };
}

export function blank(height, width, channels) {
  return { height, width, channels, data: new Uint8Array(height * width * channels) };
}

// Put a picture into a canvas of its own size.
export function paint(canvas, picture) {
  const { height, width, channels, data } = picture;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const image = new ImageData(width, height);
  const step = channels === 1 ? 0 : 1;
  for (let pixel = 0, from = 0, to = 0; pixel < width * height; pixel += 1, from += channels, to += 4) {
    image.data[to] = data[from];
    image.data[to + 1] = data[from + step];
    image.data[to + 2] = data[from + 2 * step];
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The size at which a model takes a picture of some size.
export function fittingSize(model, height, width) {
  if (model.height) return { height: model.height, width: model.width };
  const scale = Math.min(1, LARGEST_SIDE / Math.max(height, width));
  return { height: Math.max(1, Math.round(height * scale)), width: Math.max(1, Math.round(width * scale)) };
}

// What a canvas or decoded file shows, stretched to the model's size.
export function toPicture(source, model) {
  const size = fittingSize(model, source.height, source.width);
  const canvas = new OffscreenCanvas(size.width, size.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  // Transparent pixels are black, as they are to the server.
  context.fillRect(0, 0, size.width, size.height);
  context.drawImage(source, 0, 0, size.width, size.height);
  const rgba = context.getImageData(0, 0, size.width, size.height).data;
  const picture = blank(size.height, size.width, model.channels);
  for (let pixel = 0; pixel < size.height * size.width; pixel += 1) {
    const colours = rgba.subarray(4 * pixel, 4 * pixel + 3);
    if (model.channels === 1) {
      picture.data[pixel] = Math.round(LUMA.reduce((sum, share, index) => sum + share * colours[index], 0));
    } else {
      picture.data.set(colours, 3 * pixel);
    }
  }
  return picture;
}

// Decode an image file.
export async function readFile(file, model) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`“${file.name}” is no picture that this browser can read: choose a PNG, JPEG or WebP file.`);
  }
  return toPicture(bitmap, model);
}

export function inverted(picture) {
  return { ...picture, data: picture.data.map((value) => 255 - value) };
}

// With Gaussian noise of this standard deviation, in 0 … 1; the same for the same seed.
export function noisy(picture, deviation, seed = 1) {
  const draw = uniform(seed);
  const data = picture.data.map((value) => {
    const normal = Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
    return Math.max(0, Math.min(255, Math.round(value + 255 * deviation * normal)));
  });
  return { ...picture, data };
}

// Differences of two pictures as a grey one, and their largest.
export function errorMap(one, other) {
  const map = blank(one.height, one.width, 1);
  for (let pixel = 0; pixel < map.data.length; pixel += 1) {
    let most = 0;
    for (let channel = 0; channel < one.channels; channel += 1) {
      const at = pixel * one.channels + channel;
      most = Math.max(most, Math.abs(one.data[at] - other.data[at]));
    }
    map.data[pixel] = most;
  }
  return map;
}

// Pictures of one size side by side, as one.
export function mosaic(all, across) {
  const { height, width, channels } = all[0];
  const down = Math.ceil(all.length / across);
  const whole = blank(height * down, width * across, channels);
  const stride = width * channels;
  all.forEach((picture, index) => {
    const top = Math.floor(index / across) * height;
    const left = (index % across) * stride;
    for (let row = 0; row < height; row += 1) {
      whole.data.set(picture.data.subarray(row * stride, (row + 1) * stride), (top + row) * stride * across + left);
    }
  });
  return whole;
}

// mulberry32, public domain: noise that looks random and can be drawn again.
function uniform(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
