// The page: takes an image, asks an engine for its classes, and shows them. Every text that comes from outside, such as
// a class name or a file's name, is set as text and never as HTML.
//
// An engine is a module that exports `start(model, progress)`. It resolves to an object with
//   note               one sentence for the visitor: where images go
//   classify(photo)    resolves to {classes: [{name, score}, ...] best first, where}

import { openPhoto, paint } from "./photo.js";

const ENGINES = { litert: () => import("./engine_litert.js"), server: () => import("./engine_server.js") };
const SHOWN = 5;
const [LONGEST_SIDE, MOST_ENLARGED] = [640, 8]; // of the picture that is shown: its pixels, and how many times its size

const element = (id) => document.getElementById(id);
let engine = null;
let latest = 0; // the number of the newest image, whose result is shown

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

/** Lets the browser show what changed before a long computation. */
const painted = () => new Promise((resolve) => setTimeout(resolve, 30));

async function startEngine(module, name) {
  const number = ++latest;
  engine = null;
  element("result").hidden = true;
  document.title = element("title").textContent = name;
  try {
    const started = await module.start(name, (text) => number === latest && say(text));
    if (number !== latest) return;
    engine = started;
    element("privacy").textContent = engine.note;
    say("Ready for an image.");
  } catch (error) {
    if (number === latest) say(error.message, true);
  }
}

async function classify(file) {
  if (!file) return;
  if (!engine) return say("Wait until the model is ready, then choose the image again.");
  const number = ++latest;
  const using = engine;
  say(`Classifying ${file.name || "the image"} …`);
  let photo = null;
  try {
    await painted();
    const bytes = new Uint8Array(await file.arrayBuffer());
    photo = await openPhoto(bytes, file.name);
    const begin = performance.now();
    const { classes, where } = await using.classify(photo);
    const milliseconds = performance.now() - begin;
    if (number === latest) show(photo, file.name, classes, `${milliseconds.toFixed(0)} ms ${where}`);
  } catch (error) {
    if (number !== latest) return;
    element("result").hidden = true;
    say(error.message, true);
  } finally {
    photo?.close();
  }
}

function show(photo, fileName, classes, timing) {
  // Scores of a model without softmax are logits, and no shares.
  const areShares = classes.every(({ score }) => score >= 0 && score <= 1.001);
  const written = (score) => (areShares ? `${(100 * score).toFixed(1)} %` : score.toFixed(3));
  element("scores").replaceChildren(
    ...classes.slice(0, SHOWN).map(({ name, score }) => {
      const row = document.createElement("tr");
      const [title, value] = [document.createElement("th"), document.createElement("td")];
      title.scope = "row";
      title.textContent = name;
      title.style.setProperty("--share", areShares ? score : 0);
      value.textContent = written(score);
      row.append(title, value);
      return row;
    }),
  );
  element("picture").hidden = !photo.bitmap;
  const scale = Math.min(LONGEST_SIDE / Math.max(photo.width, photo.height), MOST_ENLARGED);
  if (photo.bitmap) paint(photo, element("picture"), scale);
  element("picture").setAttribute("aria-label", `The image, ${photo.width} by ${photo.height} pixels`);
  element("file-name").textContent = fileName;
  element("result").hidden = false;
  say(`${classes[0].name}, ${written(classes[0].score)}; ${timing}.`);
}

function listen() {
  for (const [button, input] of [["choose", "file"], ["take", "camera"]]) {
    element(button).addEventListener("click", () => element(input).click());
    element(input).addEventListener("change", () => {
      classify(element(input).files[0]);
      element(input).value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) classify(file);
    else say("What was pasted holds no image: copy the image itself, not its address.", true);
  });
  const dragged = (on) => (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragged", on);
  };
  document.addEventListener("dragover", dragged(true));
  document.addEventListener("dragleave", dragged(false));
  document.addEventListener("drop", (event) => {
    dragged(false)(event);
    const file = event.dataTransfer.files[0];
    if (file) classify(file);
    else say("What was dropped is no file: save the image first, then drop its file.", true);
  });
}

async function main() {
  element("not-started").remove();
  const response = await fetch("settings.json");
  if (!response.ok) throw new Error(`settings.json cannot be read from this page's folder (${response.status}).`);
  const settings = await response.json();
  const module = await ENGINES[settings.engine]();
  const select = element("model");
  select.replaceChildren(...settings.models.map((name) => new Option(name, name)));
  select.addEventListener("change", () => startEngine(module, select.value));
  element("choice").hidden = settings.models.length < 2;
  element("controls").hidden = false;
  listen();
  await startEngine(module, settings.models[0]);
}

main().catch((error) => say(`This page could not start: ${error.message}`, true));
