// What the codebook's vectors say of its codes: a colour for each, and which are neighbours.

/**
 * A model's code vectors.
 */
export class Codebook {
  #oriented = false;

  /**
   * @param {Float32Array} vectors `size` rows of `width` numbers
   * @param {number} size
   * @param {number} width
   */
  constructor(vectors, size, width) {
    this.vectors = vectors;
    this.size = size;
    this.width = width;
    /** @type {Float64Array[]} of each axis, the place of each code along it, 0…1 */
    this.places = places(vectors, size, width);
    /** RGB of each code, 3 bytes each. */
    this.colours = colours(this.places, size);
    /** @type {Map<number, number>} */
    this.nearest = new Map();
  }

  /**
   * Turns the axes so that light codes stand for light patches, and warm ones for warm: an axis
   * has no natural direction. Done by the first picture; later ones change nothing.
   * @param {ArrayLike<number>} codes of a picture
   * @param {Uint8ClampedArray} pixels RGBA of the picture, one pixel for each code
   */
  orient(codes, pixels) {
    if (this.#oriented) return;
    this.#oriented = true;
    const seen = [
      (/** @type {number} */ r, /** @type {number} */ g, /** @type {number} */ b) => r + g + b,
      (/** @type {number} */ r, /** @type {number} */ g) => r - g,
      (/** @type {number} */ r, /** @type {number} */ g, /** @type {number} */ b) => r + g - 2 * b,
    ];
    this.places.forEach((place, axis) => {
      const values = Array.from(codes, (_, i) =>
        seen[axis](pixels[i * 4], pixels[i * 4 + 1], pixels[i * 4 + 2]),
      );
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const along = values.reduce((sum, value, i) => sum + (value - mean) * place[codes[i]], 0);
      if (along < 0) place.forEach((at, code) => (place[code] = 1 - at));
    });
    this.colours = colours(this.places, this.size);
  }

  /**
   * The code whose vector is nearest to that of another.
   * @param {number} code
   */
  neighbour(code) {
    const known = this.nearest.get(code);
    if (known !== undefined) return known;
    let best = code;
    let least = Infinity;
    const from = code * this.width;
    for (let other = 0; other < this.size; other++) {
      if (other === code) continue;
      let distance = 0;
      const to = other * this.width;
      for (let i = 0; i < this.width && distance < least; i++) {
        const difference = this.vectors[from + i] - this.vectors[to + i];
        distance += difference * difference;
      }
      if (distance < least) [least, best] = [distance, other];
    }
    this.nearest.set(code, best);
    return best;
  }

  /** @param {number} code */
  css(code) {
    const [r, g, b] = this.colours.subarray(code * 3, code * 3 + 3);
    return `rgb(${r} ${g} ${b})`;
  }
}

/**
 * The place of each vector along the first three principal axes. Places are ranks, which spreads
 * the colours evenly whatever the distribution.
 * @param {Float32Array} vectors
 * @param {number} size
 * @param {number} width
 */
function places(vectors, size, width) {
  return principalAxes(vectors, size, width, 3).map((axis) => {
    const along = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < width; j++) along[i] += vectors[i * width + j] * axis[j];
    }
    return ranks(along);
  });
}

/**
 * A colour for each code: the first axis gives lightness, the others hue, so near vectors have
 * near colours.
 * @param {Float64Array[]} places
 * @param {number} size
 */
function colours(places, size) {
  const rgb = new Uint8ClampedArray(size * 3);
  for (let i = 0; i < size; i++) {
    const [first, second, third] = places.map((place) => place[i]);
    rgb.set(
      oklab(0.27 + 0.65 * first, 0.2 * ((second ?? 0.5) - 0.5), 0.2 * ((third ?? 0.5) - 0.5)),
      i * 3,
    );
  }
  return rgb;
}

/**
 * Unit vectors along which the rows vary most, by power iteration on their covariance.
 * @param {Float32Array} vectors
 * @param {number} size
 * @param {number} width
 * @param {number} count
 * @returns {Float64Array[]} fewer where the rows are narrower
 */
export function principalAxes(vectors, size, width, count) {
  const mean = new Float64Array(width);
  for (let i = 0; i < size * width; i++) mean[i % width] += vectors[i] / size;
  const covariance = new Float64Array(width * width);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < width; j++) {
      const a = vectors[i * width + j] - mean[j];
      for (let k = 0; k < width; k++) {
        covariance[j * width + k] += (a * (vectors[i * width + k] - mean[k])) / size;
      }
    }
  }
  const axes = [];
  for (let n = 0; n < Math.min(count, width); n++) {
    // Not random, so that a code has the same colour every time.
    let axis = Float64Array.from({ length: width }, (_, j) => 1 + ((j * 7 + n * 3) % 11) / 11);
    let along = 0;
    for (let round = 0; round < 200; round++) {
      const next = new Float64Array(width);
      for (let j = 0; j < width; j++) {
        for (let k = 0; k < width; k++) next[j] += covariance[j * width + k] * axis[k];
      }
      along = Math.hypot(...next);
      if (along < 1e-20) break;
      axis = next.map((value) => value / along);
    }
    for (let j = 0; j < width; j++) {
      for (let k = 0; k < width; k++) covariance[j * width + k] -= along * axis[j] * axis[k];
    }
    axes.push(axis);
  }
  return axes;
}

/**
 * The place of each value among all, 0…1.
 * @param {Float64Array} values
 */
function ranks(values) {
  const order = Uint32Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const places = new Float64Array(values.length);
  order.forEach((index, place) => (places[index] = place / Math.max(1, values.length - 1)));
  return places;
}

/**
 * sRGB bytes of a colour in Oklab (Ottosson 2020), in which equal steps look equal.
 * @param {number} lightness 0…1
 * @param {number} a green to red
 * @param {number} b blue to yellow
 */
function oklab(lightness, a, b) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((x) => 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * Math.max(x, 0) ** (1 / 2.4) - 0.055));
}
