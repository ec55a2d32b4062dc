// Calls an Hourglass server with only the .proto files, loaded at run time.
//
//   npm install && node encode.js 127.0.0.1:8001 vae
//
// Prints one line of JSON: the model, the latent vectors of three generated images, their reconstruction errors,
// and the kind of each answer of a stream.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTO = path.join(__dirname, "..", "..", "proto");
const OPTIONS = { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, oneofs: true };
const { autoencoder } = grpc.loadPackageDefinition(
  loader.loadSync("autoencoder/v1/autoencoder.proto", OPTIONS),
);

/** A unary method as a promise, with a deadline. */
function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 30_000;
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** `count` images (count, height, width, channels) of bytes. */
function draw(model, count) {
  const shape = [count, model.height, model.width, model.channels];
  const pixels = Buffer.from({ length: shape.reduce((a, b) => a * b) }, () => 0);
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = (i * 7) % 256;
  return { tensor: { data_type: "DATA_TYPE_UINT8", shape, data: pixels } };
}

/** Numbers of a FLOAT32 tensor. */
function floats(tensor) {
  return Array.from({ length: tensor.data.length / 4 }, (_, i) => tensor.data.readFloatLE(4 * i));
}

/** Sends requests on one stream; resolves to answers by id. */
function stream(client, requests) {
  return new Promise((resolve, reject) => {
    const answers = {};
    const channel = client.Stream({ deadline: Date.now() + 30_000 });
    channel.on("data", (answer) => { answers[answer.id] = answer; });
    channel.on("error", reject);
    channel.on("end", () => resolve(answers));
    requests.forEach((request) => channel.write(request));
    channel.end();
  });
}

async function main(address, name) {
  const client = new autoencoder.v1.AutoencoderService(address, grpc.credentials.createInsecure());
  try {
    const { model } = await call(client, "GetModel", { model_name: name });
    const images = draw(model, 3);
    const encoded = await call(client, "Encode", { model_name: name, images });
    const rebuilt = await call(client, "Reconstruct", { model_name: name, images, image_format: "IMAGE_FORMAT_PNG" });
    const requests = ["a", "b", "c"].map((id) => ({ id, encode: { model_name: name, images } }));
    const answers = await stream(client, [...requests, { id: "wrong", encode: { model_name: "no such model" } }]);
    const refused = await call(client, "Encode", { model_name: name }).catch((error) => grpc.status[error.code]);
    console.log(JSON.stringify({
      model: `${model.name} ${model.version}`,
      latents: floats(encoded.latents),
      squared_errors: floats(rebuilt.squared_errors),
      png_files: rebuilt.images.encoded.files.length,
      streamed: Object.entries(answers).map(([id, answer]) => [id, answer.response]).sort(),
      refused,
    }));
  } finally {
    client.close();
  }
}

main(process.argv[2] ?? "127.0.0.1:8001", process.argv[3] ?? "").catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
