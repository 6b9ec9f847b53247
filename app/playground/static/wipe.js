// Original and reconstruction under a line that wipes between them.

import { fitCanvas } from "./dom.js";
import { stageSize } from "./view.js";

const GRIP = 26; // CSS pixels around the line where a pointer takes hold of it

/** @typedef {{x: number, y: number, width: number, height: number}} Box in pixels of the picture */

/**
 * @typedef {object} Overlay laid over the picture
 * @property {CanvasImageSource} image
 * @property {boolean} smooth whether its pixels are to flow into each other
 * @property {number} width of what it covers, in pixels of the picture, from the corner on
 * @property {number} height
 * @property {{box: Box, words: string} | null} label a box in the picture, and words at it
 */

export class Wipe {
  /** @type {CanvasImageSource | null} */
  original = null;
  /** @type {CanvasImageSource | null} */
  reconstruction = null;
  /** Where the line is, 0…1 of the canvas. */
  line = 0.5;
  /** @type {Box[]} */
  marked = [];
  /** @type {Overlay | null} */
  overlay = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLInputElement} range its keyboard's way
   * @param {import("./view.js").View} view
   */
  constructor(canvas, range, view) {
    this.canvas = canvas;
    this.range = range;
    this.view = view;
    view.addEventListener("change", () => this.draw());
    range.addEventListener("input", () => this.moveLine(Number(range.value) / 1000));
    canvas.addEventListener("pointerdown", (event) => this.#hold(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("dblclick", (event) => this.#zoomAt(event, this.view.zoom * 2));
    canvas.addEventListener(
      "wheel",
      (event) => {
        // A plain wheel scrolls the page; a pinch comes as a wheel with Control.
        if (!event.ctrlKey) return;
        event.preventDefault();
        this.#zoomAt(event, this.view.zoom * Math.exp(-event.deltaY / 100));
      },
      { passive: false },
    );
  }

  /** @param {number} line 0…1 */
  moveLine(line) {
    this.line = Math.min(Math.max(line, 0), 1);
    this.range.value = String(Math.round(this.line * 1000));
    const share = Math.round(this.line * 100);
    this.range.setAttribute("aria-valuetext", `${share} % original, ${100 - share} % reconstruction`);
    this.draw();
  }

  draw() {
    if (!this.original && !this.reconstruction) return;
    const [width, height] = stageSize(this.canvas, this.view.size);
    const context = fitCanvas(this.canvas, width, height);
    const { scale, left, top } = this.view.place(width, height);
    context.clearRect(0, 0, width, height);
    // Above two, pixels are to be seen as what they are.
    context.imageSmoothingEnabled = scale < 2;
    context.imageSmoothingQuality = "high";
    const [w, h] = this.view.size.map((side) => side * scale);
    const line = this.original && this.reconstruction ? this.line * width : this.original ? width : 0;
    const half = (/** @type {CanvasImageSource | null} */ image, from = 0, to = width) => {
      if (!image || to <= from) return;
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, height);
      context.clip();
      context.drawImage(image, left, top, w, h);
      context.restore();
    };
    half(this.original, 0, line);
    half(this.reconstruction, line, width);
    if (this.overlay) drawOverlay(context, this.overlay, scale, [left, top, w, h]);
    this.#drawMarks(context, scale, left, top);
    if (this.original && this.reconstruction) drawLine(context, line, height);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} scale @param {number} left @param {number} top
   */
  #drawMarks(context, scale, left, top) {
    for (const [colour, wide] of /** @type {[string, number][]} */ ([
      ["rgb(0 0 0 / 0.75)", 3],
      ["#fff", 1.25],
    ])) {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.beginPath();
      for (const { x, y, width, height } of this.marked) {
        context.rect(left + x * scale, top + y * scale, width * scale, height * scale);
      }
      context.stroke();
    }
  }

  /** @param {PointerEvent} event */
  #hold(event) {
    if (event.button !== 0) return;
    const box = this.canvas.getBoundingClientRect();
    const atLine = Math.abs(event.clientX - box.left - this.line * box.width) < GRIP;
    const wiping = this.view.zoom === 1 || atLine;
    let [x, y] = [event.clientX, event.clientY];
    this.canvas.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ now) => {
      if (wiping) {
        this.moveLine((now.clientX - box.left) / box.width);
      } else {
        const { scale } = this.view.place(box.width, box.height);
        this.view.pan((x - now.clientX) / scale, (y - now.clientY) / scale);
        [x, y] = [now.clientX, now.clientY];
      }
    };
    const end = () => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", end);
      this.canvas.removeEventListener("pointercancel", end);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", end);
    this.canvas.addEventListener("pointercancel", end);
    if (wiping && (event.pointerType === "mouse" || atLine)) move(event);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [width, height] = this.view.size.map((side) => side / this.view.zoom / 8);
    const steps = { ArrowLeft: [-width, 0], ArrowRight: [width, 0], ArrowUp: [0, -height] };
    const step = { ...steps, ArrowDown: [0, height] }[event.key];
    if (!step || this.view.zoom === 1) return;
    event.preventDefault();
    this.view.pan(step[0], step[1]);
  }

  /** @param {MouseEvent} event @param {number} zoom */
  #zoomAt(event, zoom) {
    const box = this.canvas.getBoundingClientRect();
    const { scale, left, top } = this.view.place(box.width, box.height);
    this.view.zoomTo(zoom, [
      (event.clientX - box.left - left) / scale,
      (event.clientY - box.top - top) / scale,
    ]);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Overlay} overlay
 * @param {number} scale
 * @param {[number, number, number, number]} picture where it lies: left, top, width, height
 */
function drawOverlay(context, overlay, scale, [left, top, width, height]) {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.imageSmoothingEnabled = overlay.smooth;
  context.drawImage(overlay.image, left, top, overlay.width * scale, overlay.height * scale);
  if (overlay.label) drawLabel(context, overlay.label, scale, left, top);
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{box: Box, words: string}} label
 * @param {number} scale @param {number} left @param {number} top
 */
function drawLabel(context, { box: { x, y, width: w, height: h }, words }, scale, left, top) {
  const box = [left + x * scale, top + y * scale, w * scale, h * scale];
  for (const [colour, wide] of /** @type {[string, number][]} */ ([
    ["rgb(0 0 0 / 0.8)", 5],
    ["#fff", 2.5],
  ])) {
    context.strokeStyle = colour;
    context.lineWidth = wide;
    // Within the box, so that a box as large as the picture is seen.
    context.strokeRect(box[0] + 2.5, box[1] + 2.5, box[2] - 5, box[3] - 5);
  }
  context.font = "600 13px system-ui, sans-serif";
  const wide = context.measureText(words).width + 14;
  // Above the box, or else below it, or else in it; within what is seen.
  const [across, down] = [context.canvas.clientWidth - wide, context.canvas.clientHeight - 24];
  const below = box[1] + box[3];
  const y0 = box[1] >= 24 ? box[1] - 24 : below <= down ? below : box[1] + 4;
  const at = [box[0], y0].map((place, i) => Math.max(Math.min(place, [across, down][i]), 0));
  context.fillStyle = "rgb(0 0 0 / 0.8)";
  context.fillRect(at[0], at[1], wide, 24);
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.fillText(words, at[0] + 7, at[1] + 12.5);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x @param {number} height
 */
function drawLine(context, x, height) {
  context.fillStyle = "rgb(0 0 0 / 0.35)";
  context.fillRect(x - 1.5, 0, 3, height);
  context.fillStyle = "#fff";
  context.fillRect(x - 1, 0, 2, height);
  const y = height / 2;
  context.beginPath();
  context.arc(x, y, 15, 0, 2 * Math.PI);
  context.shadowColor = "rgb(0 0 0 / 0.35)";
  context.shadowBlur = 6;
  context.fill();
  context.shadowBlur = 0;
  context.strokeStyle = "#333";
  context.lineWidth = 1.75;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  for (const way of [-1, 1]) {
    context.moveTo(x + way * 4, y - 4);
    context.lineTo(x + way * 8, y);
    context.lineTo(x + way * 4, y + 4);
  }
  context.stroke();
}
