// What can be done to a grid of codes, and undone again.

const KEPT = 100;

/**
 * @typedef {{row: number, column: number, rows: number, columns: number}} Region
 */

/**
 * A grid of codes that changes. What chooses a code chooses it of the first stage; what moves codes
 * moves those of all stages together.
 */
export class EditedGrid {
  /** @param {import("./tess.js").Grid} grid */
  constructor(grid) {
    this.rows = grid.rows;
    this.columns = grid.columns;
    this.original = grid.stages;
    /** @type {Uint32Array[]} */
    this.stages = copied(grid.stages);
    /** @type {Uint32Array[][]} */
    this.past = [];
  }

  /** Those of the first stage. */
  get codes() {
    return this.stages[0];
  }

  /**
   * @param {number} row
   * @param {number} column
   * @returns {number[]} the codes of all stages there
   */
  at(row, column) {
    return this.stages.map((codes) => codes[row * this.columns + column]);
  }

  /** Remembers the codes as they are now, to come back to. Call it before a change. */
  remember() {
    this.past.push(copied(this.stages));
    if (this.past.length > KEPT) this.past.shift();
  }

  /** Forgets what `remember` kept last, where nothing came of it. */
  forgetUnchanged() {
    const last = this.past.at(-1);
    if (last && differing(last, this.stages) === 0) this.past.pop();
  }

  undo() {
    this.stages = this.past.pop() ?? this.stages;
  }

  reset() {
    if (this.changed() === 0) return;
    this.remember();
    this.stages = copied(this.original);
  }

  /** In how many places codes are not as they were. */
  changed() {
    return differing(this.stages, this.original);
  }

  /**
   * Sets a square of codes.
   * @param {number} row of its middle
   * @param {number} column of its middle
   * @param {number} side odd
   * @param {number} code
   */
  paint(row, column, side, code) {
    const reach = (side - 1) / 2;
    for (let r = Math.max(0, row - reach); r <= Math.min(this.rows - 1, row + reach); r++) {
      const from = r * this.columns + Math.max(0, column - reach);
      this.codes.fill(code, from, r * this.columns + Math.min(this.columns, column + reach + 1));
    }
  }

  /**
   * Copies a region to another place; what would stick out is cut off.
   * @param {Region} region
   * @param {number} row of the target's first row
   * @param {number} column of the target's first column
   */
  copy(region, row, column) {
    const before = copied(this.stages);
    for (let r = 0; r < region.rows; r++) {
      for (let c = 0; c < region.columns; c++) {
        const [tr, tc] = [row + r, column + c];
        if (tr < 0 || tc < 0 || tr >= this.rows || tc >= this.columns) continue;
        const from = (region.row + r) * this.columns + region.column + c;
        this.stages.forEach((codes, i) => (codes[tr * this.columns + tc] = before[i][from]));
      }
    }
  }

  /**
   * Replaces codes by others, wherever they are.
   * @param {(code: number) => number} by
   */
  replace(by) {
    this.stages[0] = this.codes.map(by);
  }

  /** Deals the codes out anew (Fisher and Yates). */
  shuffle() {
    for (let i = this.codes.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      for (const codes of this.stages) [codes[i], codes[j]] = [codes[j], codes[i]];
    }
  }

  /** @returns {Map<number, number>} how often each used code is there, most frequent first */
  counts() {
    /** @type {Map<number, number>} */
    const counts = new Map();
    for (const code of this.codes) counts.set(code, (counts.get(code) ?? 0) + 1);
    return new Map([...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]));
  }
}

/** @param {Uint32Array[]} stages */
const copied = (stages) => stages.map((codes) => codes.slice());

/**
 * @param {Uint32Array[]} a
 * @param {Uint32Array[]} b of the same shape
 * @returns {number} places where they differ in any stage
 */
const differing = (a, b) =>
  a[0].reduce((sum, _, i) => sum + Number(a.some((codes, stage) => codes[i] !== b[stage][i])), 0);
