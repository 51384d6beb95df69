// Asks the server that this page came from, by TensorFlow Serving's REST interface.

import { asPng, isReadByGraphs } from "./photo.js";

export async function start(name) {
  const address = `v1/models/${encodeURIComponent(name)}:predict`;
  return {
    note: "Your images are sent to the server of this page, which runs the model.",
    async classify(photo) {
      const bytes = isReadByGraphs(photo.bytes) || !photo.bitmap ? photo.bytes : await asPng(photo);
      const response = await fetch(address, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ signature_name: "serving_bytes", instances: [{ b64: base64(bytes) }] }),
      });
      // Scores that are not finite come as NaN or Infinity, as from TensorFlow Serving, which is not JSON.
      const answer = await response.json().catch(() => null);
      if (!response.ok) throw new Error(answer?.error ?? `The server answered ${response.status}.`);
      if (!answer) throw new Error("The model's scores of this image are not finite numbers.");
      const [{ labels, scores }] = answer.predictions;
      return { classes: labels.map((name, index) => ({ name, score: scores[index] })), where: "on the server" };
    },
  };
}

function base64(bytes) {
  const pieces = [];
  for (let start = 0; start < bytes.length; start += 0x8000) {
    pieces.push(String.fromCharCode(...bytes.subarray(start, start + 0x8000)));
  }
  return btoa(pieces.join(""));
}
