// What MediaPipe's ImageClassifier makes of 0.jpg, 1.jpg, ... in a browser. The page hosts them, the model and MediaPipe.
async (count) => {
  const { FilesetResolver, ImageClassifier } = await import("/mediapipe/vision_bundle.mjs");
  const files = await FilesetResolver.forVisionTasks("/mediapipe/wasm");
  const classifier = await ImageClassifier.createFromOptions(files, {
    baseOptions: { modelAssetPath: "/model.tflite", delegate: "CPU" },
  });
  const found = [];
  for (let index = 0; index < count; index++) {
    const image = new Image();
    image.src = `/${index}.jpg`;
    await image.decode();
    const { categories } = classifier.classify(image).classifications[0];
    found.push(Object.fromEntries(categories.map(({ categoryName, score }) => [categoryName, score])));
  }
  classifier.close();
  return found;
}
