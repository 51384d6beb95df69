// Runs the model of this folder in the browser with LiteRT.js.

import { modelInput } from "./preprocessing.js";

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be read from this page's folder (${response.status}).`);
  return response;
}

export async function start(_name, progress) {
  if (typeof WebAssembly === "undefined") {
    throw new Error("This browser has no WebAssembly, which runs the model: allow it, or take a current browser.");
  }
  progress("Loading the model …");
  const card = await (await fetched("model.json")).json();
  const bytes = new Uint8Array(await (await fetched("model.tflite")).arrayBuffer());
  const runtime = await import("./runtime/core/dist/index.js");
  // Threads need memory that pages share, which browsers allow where two headers isolate the page.
  const threads = self.crossOriginIsolated && navigator.hardwareConcurrency > 1;
  try {
    await runtime.loadLiteRt("runtime/core/wasm/", { threads });
  } catch (error) {
    throw new Error(`LiteRT.js could not start: ${error.message ?? error}. Take a current browser.`);
  }
  const model = await compiled(runtime, bytes);
  const by = model.options.accelerator === "webgpu" ? "WebGPU" : "WebAssembly"; // not always what was asked for
  const shape = [1, ...card.preprocessing.image_size, card.preprocessing.channels];

  async function run(values) {
    const input = new runtime.Tensor(values, shape);
    try {
      const [output] = await model.run([input]);
      const onProcessor = await output.moveTo("wasm");
      const scores = Array.from(onProcessor.toTypedArray());
      onProcessor.delete();
      return scores;
    } finally {
      input.delete();
    }
  }

  await run(new Float32Array(shape.reduce((product, side) => product * side))); // the first call takes longer
  return {
    note: "The model runs in this browser. Your images stay on this device.",
    async classify(photo) {
      const scores = await run(await modelInput(photo, card.preprocessing));
      const classes = scores.map((score, index) => ({ name: card.class_names[index], score }));
      return { classes: classes.sort((one, other) => other.score - one.score), where: `in this browser by ${by}` };
    },
  };
}

async function compiled(runtime, bytes) {
  if (runtime.isWebGPUSupported() && (await navigator.gpu.requestAdapter())) {
    try {
      const gpuOptions = { precision: "fp32" }; // half precision would change scores
      return await runtime.loadAndCompile(bytes, { accelerator: "webgpu", gpuOptions });
    } catch (error) {
      console.warn("WebGPU does not run this model, so WebAssembly does:", error);
    }
  }
  return runtime.loadAndCompile(bytes, { accelerator: "wasm" });
}
