// Scores of preprocessed images by onnxruntime-node: node onnx.cjs MODEL VALUES COUNT, printed as JSON.
const fs = require("fs");
const ort = require("onnxruntime-node");

const [model, file, count] = process.argv.slice(2);
const bytes = fs.readFileSync(file);
const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
(async () => {
  const session = await ort.InferenceSession.create(model);
  const images = new ort.Tensor("float32", values, [Number(count), 32, 32, 3]);
  const { scores } = await session.run({ images });
  const rows = [];
  for (let row = 0; row < Number(count); row++) rows.push([...scores.data.slice(10 * row, 10 * row + 10)]);
  console.log(JSON.stringify(rows));
})();
