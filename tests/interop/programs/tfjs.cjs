// Scores of preprocessed images by TensorFlow.js: node tfjs.cjs FOLDER VALUES COUNT, printed as JSON.
const fs = require("fs");
const path = require("path");
const tf = require("@tensorflow/tfjs");

const [folder, file, count] = process.argv.slice(2);
const { modelTopology, weightsManifest, format } = JSON.parse(fs.readFileSync(path.join(folder, "model.json")));
const shards = weightsManifest.flatMap(({ paths }) => paths).map((name) => fs.readFileSync(path.join(folder, name)));
const weights = new Uint8Array(Buffer.concat(shards)).buffer;
const weightSpecs = weightsManifest.flatMap((group) => group.weights);
const bytes = fs.readFileSync(file);
(async () => {
  await tf.setBackend("cpu");
  const model = await tf.loadGraphModel(tf.io.fromMemory({ modelTopology, weightSpecs, weightData: weights, format }));
  const values = new Float32Array(new Uint8Array(bytes).buffer);
  const scores = model.predict(tf.tensor(values, [Number(count), 32, 32, 3]));
  console.log(JSON.stringify(await scores.array()));
})();
