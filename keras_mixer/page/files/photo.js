// Reads image files as `keras_mixer.data.pixels` does: upright, values as they are stored, transparency dropped.
//
// Browsers differ in which EXIF data they follow, so the marks of EXIF data are taken out before the browser decodes the
// file, and the image is turned here.

const PIXELS_MARK = 0xda; // the marker of a JPEG after which its pixels begin

/**
 * Opens an image. If only the server may be able to read it, its `bitmap` is null.
 * `pixels(left, top, width, height, grey)` returns RGBA values of a window of the upright image; if `grey` is set, red
 * is the brightness.
 */
export async function openPhoto(bytes, name) {
  if (bytes.length === 0) throw new Error(`${name || "The file"} is empty.`);
  const marks = marksIn(bytes);
  const orientation = marks.exif.length ? orientationOf(bytes.subarray(...marks.exif[0].content)) : 1;
  const plain = without(bytes, marks.exif);
  const bitmap = await opaque(await decoded(plain, name), bytes);
  const turned = orientation >= 5;
  let luma = null; // a bitmap whose red is what a JPEG stores as brightness

  async function pixels(left, top, width, height, grey) {
    if (grey && marks.isLuma && !luma) luma = await decoded(rawComponents(bytes, marks), name);
    const values = windowOf(grey && luma ? luma : bitmap, orientation, left, top, width, height);
    if (grey && !luma) for (let at = 0; at < values.length; at += 4) values[at] = greyOf(values, at);
    return values;
  }

  return {
    bytes,
    bitmap,
    orientation,
    width: turned ? bitmap.height : bitmap.width,
    height: turned ? bitmap.width : bitmap.height,
    pixels,
    close() {
      bitmap.close();
      luma?.close();
    },
  };
}

/** Draws the upright image into a canvas, `scale` times its size. */
export function paint(photo, canvas, scale = 1) {
  canvas.width = Math.max(1, Math.round(photo.width * scale));
  canvas.height = Math.max(1, Math.round(photo.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.scale(canvas.width / photo.width, canvas.height / photo.height);
  context.transform(...turn(photo.bitmap, photo.orientation));
  context.drawImage(photo.bitmap, 0, 0);
}

/** Whether a SavedModel decodes such a file by itself: JPEG, PNG, GIF or a BMP without compression or small palettes. */
export function isReadByGraphs(bytes) {
  if (text(bytes, 0, 2) === "BM" && bytes.length >= 34) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const [header, bits, compression] = [view.getUint32(14, true), view.getUint16(28, true), view.getUint32(30, true)];
    return header >= 40 && [8, 24, 32].includes(bits) && compression === 0;
  }
  return ["\xff\xd8\xff", "\x89PNG", "GIF8"].some((start) => text(bytes, 0, start.length) === start);
}

/** Returns the upright image as the bytes of a PNG file. */
export async function asPng(photo) {
  const canvas = document.createElement("canvas");
  paint(photo, canvas);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new Error("The image is too large for this browser to convert it: convert it to JPEG or PNG.");
  return new Uint8Array(await blob.arrayBuffer());
}

async function decoded(bytes, name) {
  try {
    const options = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };
    return await createImageBitmap(new Blob([bytes]), options);
  } catch {
    throw new Error(
      `${name || "The file"} cannot be read: it is damaged, too large, or of a format that this browser does not know. ` +
        "Try a JPEG or PNG file.",
    );
  }
}

// ITU-R 601-2 in whole numbers, by Pillow's formula.
const greyOf = (values, at) =>
  (values[at] * 19595 + values[at + 1] * 38470 + values[at + 2] * 7471 + 2 ** 15) >> 16;

let canvas = null; // one for all strips, because browsers limit the memory of canvases

function windowOf(bitmap, orientation, left, top, width, height) {
  canvas ??= document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height]; // this also clears it
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("The image is too large for this browser.");
  context.imageSmoothingEnabled = false;
  context.translate(-left, -top);
  context.transform(...turn(bitmap, orientation));
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}

/** The matrix (a, b, c, d, e, f) that turns a stored image upright. */
function turn({ width, height }, orientation) {
  return [
    [1, 0, 0, 1, 0, 0],
    [-1, 0, 0, 1, width, 0],
    [-1, 0, 0, -1, width, height],
    [1, 0, 0, -1, 0, height],
    [0, 1, 1, 0, 0, 0],
    [0, 1, -1, 0, height, 0],
    [0, -1, -1, 0, height, width],
    [0, -1, 1, 0, 0, width],
  ][orientation - 1];
}

/** Returns a bitmap without transparency: a canvas would lose the colours of clear pixels, which models are shown. */
async function opaque(bitmap, bytes) {
  if (!mayBeClear(bytes)) return bitmap;
  const context = document.createElement("canvas").getContext("webgl");
  const { width, height } = bitmap;
  if (!context || Math.max(width, height) > context.getParameter(context.MAX_TEXTURE_SIZE)) return bitmap;
  const [texture, frame] = [context.createTexture(), context.createFramebuffer()];
  context.bindTexture(context.TEXTURE_2D, texture);
  context.texImage2D(context.TEXTURE_2D, 0, context.RGBA, context.RGBA, context.UNSIGNED_BYTE, bitmap);
  context.bindFramebuffer(context.FRAMEBUFFER, frame);
  context.framebufferTexture2D(context.FRAMEBUFFER, context.COLOR_ATTACHMENT0, context.TEXTURE_2D, texture, 0);
  const image = new ImageData(width, height);
  context.readPixels(0, 0, width, height, context.RGBA, context.UNSIGNED_BYTE, new Uint8Array(image.data.buffer));
  context.getExtension("WEBGL_lose_context")?.loseContext();
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  bitmap.close();
  return createImageBitmap(image);
}

/** Whether a PNG or WebP may have transparency. In a GIF it becomes black, as it does in a canvas. */
function mayBeClear(bytes) {
  if (text(bytes, 0, 4) === "\x89PNG") return [4, 6].includes(bytes[25]) || text(bytes, 0, 2 ** 16).includes("tRNS");
  if (!isWebp(bytes)) return false;
  return text(bytes, 12, 4) === "VP8X" ? (bytes[20] & 0x10) !== 0 : text(bytes, 12, 4) === "VP8L";
}

const isWebp = (bytes) => text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP";

function text(bytes, start, length) {
  let result = "";
  for (const byte of bytes.subarray(start, start + length)) result += String.fromCharCode(byte);
  return result;
}

/**
 * Finds the marks in a file: `exif` of its EXIF data, each with the place of the mark and the ends of the content;
 * `colours` of what says how a JPEG stores colours; `isLuma`, whether it stores brightness apart from colour.
 */
function marksIn(bytes) {
  const found = { exif: [], colours: [], isLuma: false };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (text(bytes, 0, 2) === "\xff\xd8") {
    marksInJpeg(bytes, view, found);
  } else if (text(bytes, 0, 4) === "\x89PNG") {
    for (let at = 8; at + 12 <= bytes.length && text(bytes, at + 4, 4) !== "IEND"; ) {
      const size = view.getUint32(at);
      if (text(bytes, at + 4, 4) === "eXIf") found.exif.push({ mark: at + 4, content: [at + 8, at + 8 + size] });
      at += 12 + size;
    }
  } else if (isWebp(bytes)) {
    for (let at = 12; at + 8 <= bytes.length; ) {
      const size = view.getUint32(at + 4, true);
      if (text(bytes, at, 4) === "EXIF") {
        const skipped = text(bytes, at + 8, 6) === "Exif\0\0" ? 6 : 0;
        found.exif.push({ mark: at, content: [at + 8 + skipped, at + 8 + size] });
      }
      at += 8 + size + (size % 2);
    }
  }
  return found;
}

function marksInJpeg(bytes, view, found) {
  let [isJfif, transform, ids] = [false, null, ""];
  for (let at = 2; at + 4 <= bytes.length; ) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff || marker === 0xff) at += 1; // junk and padding
    else if (marker === 0xd9 || marker === PIXELS_MARK) break;
    else if (marker === 0 || marker === 1 || (marker >= 0xd0 && marker <= 0xd8)) at += 2; // nothing follows these
    else {
      const [size, content] = [view.getUint16(at + 2), at + 4];
      const mark = { mark: content, content: [content + 6, at + 2 + size] };
      if (marker === 0xe1 && text(bytes, content, 6) === "Exif\0\0") {
        if (size > 8) found.exif.push(mark);
      } else if (marker === 0xe0 && text(bytes, content, 5) === "JFIF\0") {
        isJfif = true;
        found.colours.push(mark);
      } else if (marker === 0xee && text(bytes, content, 5) === "Adobe") {
        transform = bytes[content + 11];
        found.colours.push(mark);
      } else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
        for (let part = 0; part < bytes[content + 5]; part++) ids += String.fromCharCode(bytes[content + 6 + 3 * part]);
      }
      at += 2 + size;
    }
  }
  // The rules of libjpeg for three components.
  found.isLuma = ids.length === 3 && (isJfif || (transform === null ? ids !== "RGB" : transform !== 0));
}

/** Returns the file with these marks made unreadable. */
function without(bytes, marks) {
  if (marks.length === 0) return bytes;
  const copy = bytes.slice();
  for (const { mark } of marks) copy[mark + 3] = 0x78; // "x", so that "eXIf" becomes "eXIx", a chunk that may be skipped
  return copy;
}

/** Returns a JPEG whose brightness and colours a browser takes for red, green and blue, and so leaves as they are. */
function rawComponents(bytes, { exif, colours }) {
  const copy = without(bytes, [...exif, ...colours]);
  const adobe = [..."Adobe"].map((letter) => letter.charCodeAt(0));
  const head = [0xff, 0xd8, 0xff, 0xee, 0, 14, ...adobe, 0, 100, 0, 0, 0, 0, 0]; // the last says: not transformed
  const result = new Uint8Array(head.length + copy.length - 2);
  result.set(head);
  result.set(copy.subarray(2), head.length);
  return result;
}

const WIDTHS = [0, 0, 0, 2, 4, 0, 1, 0, 2, 4, 0, 0, 0, 4]; // bytes of a whole number by its TIFF type

/** Reads the orientation from EXIF data, which is a small TIFF file: 1 if it has none. */
function orientationOf(tiff) {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  const little = text(tiff, 0, 2) === "II";
  try {
    if ((!little && text(tiff, 0, 2) !== "MM") || view.getUint16(2, little) !== 42) return 1;
    const directory = view.getUint32(4, little);
    for (let entry = 0; entry < view.getUint16(directory, little); entry++) {
      const at = directory + 2 + 12 * entry;
      const width = WIDTHS[view.getUint16(at + 2, little)] ?? 0;
      const size = width * view.getUint32(at + 4, little);
      if (view.getUint16(at, little) !== 0x0112 || size === 0 || size > 4) continue;
      const read = { 1: view.getUint8, 2: view.getUint16, 4: view.getUint32 }[width];
      const orientation = read.call(view, at + 8, little);
      return orientation >= 1 && orientation <= 8 ? orientation : 1;
    }
  } catch {
    // Data that ends too early says nothing.
  }
  return 1;
}
