// Which part of the picture is seen, shared by all that show it.

const MOST_PIXELS_WIDE = 24; // a zoom at which one pixel of the picture is this wide

/** Zoom and place; whoever draws listens to `change`. */
export class View extends EventTarget {
  /** Width and height of the picture in its pixels. @type {[number, number]} */
  size = [1, 1];
  /** Times the size at which all of it fits. */
  zoom = 1;
  /** The picture's point in the middle of the view. */
  centre = [0.5, 0.5];
  /** What a canvas last gave as its own size, to know what fits. @type {[number, number]} */
  shown = [1, 1];

  /** @param {number} width @param {number} height */
  open(width, height) {
    this.size = [width, height];
    this.fit();
  }

  fit() {
    this.zoom = 1;
    this.centre = [this.size[0] / 2, this.size[1] / 2];
    this.#changed();
  }

  /** Zooms until a pixel is eight wide. */
  pixels() {
    this.zoomTo(8 / this.fitScale(...this.shown));
  }

  /**
   * @param {number} zoom
   * @param {number[]} [around] point of the picture that keeps its place
   */
  zoomTo(zoom, around = this.centre) {
    const most = MOST_PIXELS_WIDE / this.fitScale(...this.shown);
    const next = Math.min(Math.max(zoom, 1), Math.max(1, most));
    this.centre = this.centre.map((at, i) => around[i] + ((at - around[i]) * this.zoom) / next);
    this.zoom = next;
    this.#changed();
  }

  /** @param {number} x @param {number} y in pixels of the picture */
  pan(x, y) {
    this.centre = [this.centre[0] + x, this.centre[1] + y];
    this.#changed();
  }

  /**
   * CSS pixels for one of the picture's where all of it fits.
   * @param {number} width @param {number} height of the canvas
   */
  fitScale(width, height) {
    return Math.min(width / this.size[0], height / this.size[1]);
  }

  /**
   * @param {number} width @param {number} height of the canvas
   * @returns {{scale: number, left: number, top: number}} where the picture lies on it
   */
  place(width, height) {
    this.shown = [width, height];
    const scale = this.fitScale(width, height) * this.zoom;
    return {
      scale,
      left: width / 2 - this.centre[0] * scale,
      top: height / 2 - this.centre[1] * scale,
    };
  }

  #changed() {
    // Half of what is seen stays away from the edges, so that no emptiness is shown.
    this.centre = this.centre.map((at, i) => {
      const scale = this.fitScale(...this.shown) * this.zoom;
      const half = Math.min(this.shown[i] / scale, this.size[i]) / 2;
      return Math.min(Math.max(at, half), this.size[i] - half);
    });
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Sizes a canvas to its column: as wide, and no higher than most of the window.
 * @param {HTMLCanvasElement} canvas
 * @param {number[]} size of the picture
 * @returns {[number, number]} CSS pixels
 */
export function stageSize(canvas, size) {
  const width = /** @type {HTMLElement} */ (canvas.parentElement).clientWidth;
  const height = Math.min((width * size[1]) / size[0], Math.max(240, window.innerHeight * 0.68));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return [width, height];
}
