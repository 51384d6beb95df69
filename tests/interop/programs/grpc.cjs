// Scores of photographs by grpc-js: node grpc.cjs DESCRIPTORS ADDRESS FILES, printed as JSON. No request has a deadline.
const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [descriptors, address, list] = process.argv.slice(2);
const loaded = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(descriptors), { keepCase: true });
const { PredictionService } = grpc.loadPackageDefinition(loaded).tensorflow.serving;
const client = new PredictionService(address, grpc.credentials.createInsecure());
const files = fs.readFileSync(list, "utf8").split("\n").map((file) => fs.readFileSync(file));
const image_bytes = {
  dtype: "DT_STRING",
  tensor_shape: { dim: [{ size: files.length }] },
  string_val: files,
};
// Loaded from descriptors, the fields of a map are lists of keys and values.
const inputs = [{ key: "image_bytes", value: image_bytes }];
const request = { model_spec: { name: "nano", signature_name: "serving_bytes" }, inputs };
client.Predict(request, (error, answer) => {
  if (error) throw error;
  const { scores, labels } = Object.fromEntries(answer.outputs.map(({ key, value }) => [key, value]));
  const columns = labels.string_val.length / files.length;
  const rows = files.map((_, row) => {
    const found = {};
    for (let place = row * columns; place < (row + 1) * columns; place++)
      found[labels.string_val[place].toString()] = (scores.float_val || []).length
        ? scores.float_val[place]
        : scores.tensor_content.readFloatLE(4 * place);
    return found;
  });
  console.log(JSON.stringify(rows));
});
