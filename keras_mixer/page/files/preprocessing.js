// From an image to a model's input, as `keras_mixer.data.pixels` computes it: crop, antialiased resize, normalisation.

const { fround } = Math; // TensorFlow computes sizes in float32, and a rounding may depend on it
const LONGEST = 4; // length of an image, in crops with margin, beyond which only the middle is read
const REACH = 5; // pixels that the widest kernel reads on each side
const VALUES_AT_ONCE = 2 ** 22; // pixels that are held decoded

/** Returns a Float32Array of height x width x channels. */
export async function modelInput(photo, preprocessing) {
  const { image_size: size, channels, interpolation } = preprocessing;
  const given = [photo.height, photo.width];
  const { cut, resized } = plan(given, preprocessing);
  const [rows, columns] = [0, 1].map((axis) => {
    const whole = given[axis] - 2 * cut[axis];
    return taps(whole, resized[axis], Math.floor((resized[axis] - size[axis]) / 2), size[axis], interpolation);
  });
  const values = await resample(photo, cut, rows, columns, channels);
  const perChannel = (value) => (Array.isArray(value) ? value : new Array(channels).fill(value));
  const [mean, std] = [perChannel(preprocessing.mean), perChannel(preprocessing.std)];
  return Float32Array.from(values, (value, index) => {
    const channel = index % channels;
    // Cubic and Lanczos kernels overshoot at edges.
    return (Math.min(Math.max(value, 0), 255) - 255 * mean[channel]) / (255 * std[channel]);
  });
}

/** How much of both ends is cut off, and the size of what is left before the centre crop; both (height, width). */
function plan(given, { image_size: size, resize, crop_share: share }) {
  if (resize === "direct") return { cut: [0, 0], resized: size };
  let scale = size.map((side, axis) => fround(fround(side * fround(1 / share)) / given[axis]));
  let cut = [0, 0];
  if (resize === "crop") {
    const one = Math.max(...scale);
    scale = [one, one];
    cut = size.map((side, axis) => {
      const longest = fround(fround(fround(LONGEST / share) * side) / one) + 2 * REACH * Math.max(1, fround(1 / one));
      return Math.floor(Math.max(given[axis] - Math.ceil(fround(longest)), 0) / 2);
    });
  }
  const resized = size.map((side, axis) => {
    return Math.max(roundHalfToEven(fround((given[axis] - 2 * cut[axis]) * scale[axis])), side);
  });
  return { cut, resized };
}

function roundHalfToEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}

const sinc = (x) => (x < 1e-3 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (radius) => ({ radius, weight: (x) => (x > radius ? 0 : sinc(x) * sinc(x / radius)) });
const KERNELS = {
  bilinear: { radius: 1, weight: (x) => Math.max(1 - x, 0) },
  bicubic: {
    radius: 2,
    weight: (x) => (x >= 2 ? 0 : x >= 1 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : (1.5 * x - 2.5) * x * x + 1),
  },
  lanczos3: lanczos(3),
  lanczos5: lanczos(5),
};

/**
 * The weights of one axis: for each of `count` outputs from `first` on, where its inputs begin and their weights.
 * `given` inputs are resized to `wanted`.
 */
function taps(given, wanted, first, count, interpolation) {
  const step = given / wanted; // inputs of one output
  return Array.from({ length: count }, (_, index) => {
    const output = first + index;
    if (given === wanted) return { start: output, weights: [1] };
    if (interpolation === "nearest") {
      return { start: Math.min(Math.floor(fround((output + 0.5) * fround(step))), given - 1), weights: [1] };
    }
    const centre = (output + 0.5) * step;
    const { radius, weight } = KERNELS[interpolation] ?? { radius: 0.5 };
    const widened = Math.max(step, 1);
    let [start, end] = [Math.ceil(centre - radius * widened - 0.5), Math.floor(centre + radius * widened - 0.5) + 1];
    let weightOf = (input) => weight(Math.abs(input + 0.5 - centre) / widened);
    if (interpolation === "area") {
      const [from, to] = [output * step, (output + 1) * step];
      [start, end] = [Math.floor(from), Math.ceil(to)];
      weightOf = (input) => Math.min(input + 1, to) - Math.max(input, from);
    }
    start = Math.max(start, 0);
    end = Math.max(Math.min(end, given), start + 1);
    const weights = Array.from({ length: end - start }, (_, place) => weightOf(start + place));
    const sum = weights.reduce((total, value) => total + value);
    return { start, weights: weights.map((value) => value / sum) };
  });
}

const after = ({ start, weights }) => start + weights.length;

/** Resizes the window of the image that the outputs read, a strip of rows at a time. */
async function resample(photo, cut, rows, columns, channels) {
  const width = columns.length;
  const values = new Float64Array(rows.length * width * channels);
  const [top, bottom] = [rows[0].start, Math.max(...rows.map(after))];
  const [left, right] = [columns[0].start, Math.max(...columns.map(after))];
  const height = Math.max(1, Math.floor(VALUES_AT_ONCE / (right - left)));
  const line = new Float64Array(width * channels);
  for (let strip = top; strip < bottom; strip += height) {
    const count = Math.min(height, bottom - strip);
    const pixels = await photo.pixels(cut[1] + left, cut[0] + strip, right - left, count, channels === 1);
    let nearest = 0; // the first output that may read this line
    for (let y = strip; y < strip + count; y++) {
      while (nearest < rows.length && after(rows[nearest]) <= y) nearest++;
      if (nearest === rows.length || rows[nearest].start > y) continue;
      resampleLine(pixels, 4 * (y - strip) * (right - left), left, columns, channels, line);
      for (let output = nearest; output < rows.length && rows[output].start <= y; output++) {
        const weight = rows[output].weights[y - rows[output].start];
        const place = output * line.length;
        for (let index = 0; index < line.length; index++) values[place + index] += weight * line[index];
      }
    }
  }
  return values;
}

function resampleLine(pixels, offset, left, columns, channels, line) {
  for (let output = 0; output < columns.length; output++) {
    const { start, weights } = columns[output];
    for (let channel = 0; channel < channels; channel++) {
      let sum = 0;
      let place = offset + 4 * (start - left) + channel;
      for (let tap = 0; tap < weights.length; tap++, place += 4) sum += weights[tap] * pixels[place];
      line[output * channels + channel] = sum;
    }
  }
}
