// Tensors of protobuf JSON: little-endian bytes in base64, as every browser's machine has them in memory.

const ARRAYS = {
  DATA_TYPE_UINT8: Uint8Array,
  DATA_TYPE_UINT16: Uint16Array,
  DATA_TYPE_FLOAT32: Float32Array,
};
// More arguments overflow the stack.
const PIECE = 0x8000;

export function toBase64(bytes) {
  const pieces = [];
  for (let start = 0; start < bytes.length; start += PIECE) {
    pieces.push(String.fromCharCode(...bytes.subarray(start, start + PIECE)));
  }
  return btoa(pieces.join(""));
}

export function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = binary.charCodeAt(index);
  return bytes;
}

// A typed array and its shape to a message.
export function tensor(array, shape) {
  const data_type = array instanceof Uint8Array ? "DATA_TYPE_UINT8" : "DATA_TYPE_FLOAT32";
  const values = array instanceof Uint8Array || array instanceof Float32Array ? array : Float32Array.from(array);
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { data_type, shape: [...shape], data: toBase64(bytes) };
}

// The numbers of a message, float16 as float32.
export function numbers(message) {
  const bytes = fromBase64(message.data);
  if (message.data_type === "DATA_TYPE_FLOAT16") return Float32Array.from(new Uint16Array(bytes.buffer), half);
  return new ARRAYS[message.data_type](bytes.buffer);
}

// Rows of a message (N, …), each flat.
export function rows(message) {
  const values = numbers(message);
  const size = message.shape.slice(1).reduce((product, axis) => product * axis, 1);
  return Array.from({ length: message.shape[0] }, (_, row) => values.subarray(row * size, (row + 1) * size));
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
