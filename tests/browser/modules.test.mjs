// The playground's modules that need no browser: formats, edits, the codebook's axes.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

const STATIC = "../../app/playground/static";
const CODES = new URL("../data/codes/", import.meta.url);

const { crc32, isContextCoded, readTess, writeTess } = await import(`${STATIC}/tess.js`);
const { readFloats, writeCodes } = await import(`${STATIC}/npy.js`);
const { EditedGrid } = await import(`${STATIC}/edits.js`);
const { Codebook, principalAxes } = await import(`${STATIC}/codebook.js`);

const { groupsOf } = await import(`${STATIC}/measurements.js`);
const { formatCosine } = await import(`${STATIC}/compare.js`);
const { colourAt, sumOfStages } = await import(`${STATIC}/surprise.js`);
const { readable } = await import(`${STATIC}/dom.js`);

const bytesOf = async (name) => new Uint8Array(await readFile(new URL(name, CODES)));

for (const name of (await readdir(CODES)).filter((name) => name.endsWith(".tess"))) {
  test(`${name} is read as its JSON says, and written again byte for byte`, async () => {
    const bytes = await bytesOf(name);
    const file = readTess(bytes.buffer);
    const expected = JSON.parse(await readFile(new URL(name.replace(".tess", ".json"), CODES)));
    assert.equal(file.codeSpace, expected.code_space);
    const items = expected.data ?? expected.images;
    assert.equal(file.grids.length, items.length);
    assert.deepEqual(file.codebookSizes.slice(1), expected.residual_sizes ?? []);
    items.forEach((item, i) => {
      const stages = expected.residual_sizes ? item.codes : [item.codes];
      assert.deepEqual(file.grids[i].stages.map((codes) => [...codes]), stages.map((rows) => rows.flat()));
      assert.equal(file.grids[i].name, item.name ?? "");
    });
    assert.deepEqual(writeTess(file), bytes);
  });
}

for (const name of ["example.tess", "stages.tess"]) {
  test(`damage to ${name} is noticed wherever it is`, async () => {
    const bytes = await bytesOf(name);
    for (let i = 0; i < bytes.length; i++) {
      const damaged = bytes.slice();
      damaged[i] ^= 1;
      assert.throws(() => readTess(damaged.buffer), /^Error: This/, `byte ${i}`);
      assert.throws(() => readTess(bytes.slice(0, i).buffer), /^Error: This/, `cut at ${i}`);
    }
  });
}

test("stages that a file can't have are refused, whatever else it says", async () => {
  const bytes = await bytesOf("stages.tess");
  for (const stages of [0, 1, 3, 17, 65_535]) {
    const other = bytes.slice();
    const view = new DataView(other.buffer);
    view.setUint16(18, stages, true);
    view.setUint32(other.length - 4, crc32(other.subarray(0, -4)), true);
    assert.throws(() => readTess(other.buffer), /^Error: This \.tess file (is coded|contradicts|is cut)/);
  }
});

test("the first stages of a file are a file too, of version 1 if one is left", async () => {
  const file = readTess((await bytesOf("stages.tess")).buffer);
  const first = writeTess({
    ...file,
    codebookSizes: file.codebookSizes.slice(0, 1),
    grids: file.grids.map((grid) => ({ ...grid, stages: grid.stages.slice(0, 1) })),
  });
  assert.equal(first[8], 1);
  assert.deepEqual(readTess(first.buffer).grids[0].stages, file.grids[0].stages.slice(0, 1));
});

test("a context-coded file is told from packed ones and from other files", async () => {
  const coded = await readFile(new URL("../context_codes/one.tess", CODES));
  assert.ok(isContextCoded(coded));
  assert.ok(!isContextCoded(await bytesOf("example.tess")));
  assert.ok(!isContextCoded(coded.subarray(0, 10)));
  assert.ok(!isContextCoded(Uint8Array.from({ length: 60 }, () => 1)));
});

test("the scale of surprise becomes lighter at every step, and ends where it ends", () => {
  const light = Array.from({ length: 101 }, (_, i) => {
    const [r, g, b] = colourAt(i / 100);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  });
  assert.ok(light.every((value, i) => i === 0 || value > light[i - 1]));
  assert.deepEqual(colourAt(-1), colourAt(0));
  assert.deepEqual(colourAt(7), colourAt(1));
});

test("the surprise of a patch is that of all its stages together", () => {
  const first = [[1, 2, 3], [4, 5, 6]];
  assert.deepEqual(sumOfStages(first), first);
  assert.deepEqual(sumOfStages([first, [[10, 20, 30], [40, 50, 60]]]), [[11, 22, 33], [44, 55, 66]]);
});

test("codes as .npy: a header that ends at a multiple of 64, then int64", () => {
  const file = writeCodes([5, 70_000], [1, 1, 2]);
  const header = new TextDecoder("latin1").decode(file.subarray(10, file.length - 16));
  assert.equal((file.length - 16) % 64, 0);
  assert.match(header, /^\{'descr': '<i8', 'fortran_order': False, 'shape': \(1, 1, 2\), \} *\n$/);
  assert.deepEqual([...new BigInt64Array(file.slice(-16).buffer)], [5n, 70_000n]);
});

test("the codebook of the tiny bundle is read", async () => {
  const bytes = await readFile(new URL("../bundles/tiny/codebook.npy", CODES));
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const { shape, values } = readFloats(file);
  assert.deepEqual(shape, [256, 4]);
  assert.ok(values.every(Number.isFinite));
});

test("a neighbour is the nearest other vector", () => {
  const book = new Codebook(Float32Array.from([0, 0, 10, 0, 11, 0, 0, 1]), 4, 2);
  assert.deepEqual([0, 1, 2, 3].map((code) => book.neighbour(code)), [3, 2, 1, 0]);
});

test("the first axis is the one along which vectors vary most", () => {
  const vectors = Float32Array.from({ length: 300 }, (_, i) =>
    i % 3 === 1 ? Math.sin(i) * 9 : Math.cos(i * i),
  );
  const [first, second] = principalAxes(vectors, 100, 3, 3);
  assert.ok(Math.abs(first[1]) > 0.99);
  assert.ok(Math.abs(first.reduce((sum, value, i) => sum + value * second[i], 0)) < 1e-6);
});

test("light patches give light codes, whichever way the axis points", () => {
  for (const sign of [1, -1]) {
    const book = new Codebook(Float32Array.from([0, 1, 2, 3], (value) => sign * value), 4, 1);
    const grey = [0, 80, 160, 240].flatMap((value) => [value, value, value, 255]);
    book.orient([0, 1, 2, 3], Uint8ClampedArray.from(grey));
    const light = [0, 1, 2, 3].map((code) => book.colours[code * 3 + 1]);
    assert.deepEqual(light, light.toSorted((a, b) => a - b));
  }
});

test("edits change what they say, and are undone one by one", () => {
  const grid = new EditedGrid({ rows: 3, columns: 4, stages: [Uint32Array.from(Array(12).keys())] });
  grid.remember();
  grid.paint(0, 0, 3, 99);
  assert.deepEqual([...grid.codes], [99, 99, 2, 3, 99, 99, 6, 7, 8, 9, 10, 11]);
  grid.remember();
  grid.copy({ row: 0, column: 0, rows: 2, columns: 2 }, 2, 3);
  assert.deepEqual([...grid.codes.subarray(8)], [8, 9, 10, 99]);
  grid.remember();
  grid.shuffle();
  assert.deepEqual(
    [...grid.codes].toSorted((a, b) => a - b),
    [2, 3, 6, 7, 8, 9, 10, 99, 99, 99, 99, 99],
  );
  for (let i = 0; i < 3; i++) grid.undo();
  assert.equal(grid.changed(), 0);
  assert.equal(grid.past.length, 0);
  grid.remember();
  grid.forgetUnchanged();
  assert.equal(grid.past.length, 0);
  grid.undo();
  assert.equal(grid.changed(), 0);
});

test("what is painted is painted in the first stage; what moves, moves in all", () => {
  const stages = [0, 100].map((from) => Uint32Array.from({ length: 4 }, (_, i) => from + i));
  const grid = new EditedGrid({ rows: 2, columns: 2, stages });
  grid.remember();
  grid.paint(0, 0, 1, 9);
  grid.replace((code) => code + 10);
  assert.deepEqual(grid.stages.map((codes) => [...codes]), [[19, 11, 12, 13], [100, 101, 102, 103]]);
  grid.copy({ row: 0, column: 0, rows: 1, columns: 2 }, 1, 0);
  assert.deepEqual(grid.stages.map((codes) => [...codes]), [[19, 11, 19, 11], [100, 101, 100, 101]]);
  grid.undo();
  assert.equal(grid.changed(), 0);
  grid.remember();
  grid.shuffle();
  grid.codes.forEach((code, i) => assert.equal(grid.stages[1][i], 100 + code));
  grid.reset();
  assert.deepEqual(grid.stages, stages);
});

test("measurements of any bundle come in groups, with units and in words", () => {
  const groups = groupsOf({
    kodak_int8: { runtime: "ONNX Runtime int8", images: 24, ms_ssim: 0.91734, jpeg_psnr_at_equal_bytes: 25.382 },
    embedder: { recognition_linear: 0.6062, "found: JPEG q30": 1 },
    texture_decoder: { stages: { lpips: 0.31 }, decode_ms: 12.345, perplexity: 1813.5 },
    prior: { bits_per_code_kodak: 7.6752 },
    images: 3,
    names: ["left out"],
  });
  assert.deepEqual(groups, [
    { title: "Model", rows: [["Images", "3"]] },
    {
      title: "Kodak, int8",
      rows: [
        ["Runtime", "ONNX Runtime int8"],
        ["Images", "24"],
        ["MS-SSIM", "0.9173"],
        ["JPEG PSNR at equal bytes", "25.38 dB"],
      ],
    },
    { title: "Embedder", rows: [["Linear probe, top-1", "60.6 %"], ["Found again, JPEG q30", "100.0 %"]] },
    {
      title: "Texture decoder",
      rows: [["Stages, LPIPS", "0.31"], ["Decode ms", "12.35 ms"], ["Perplexity", "1,814"]],
    },
    { title: "Prior", rows: [["Bits per code, Kodak", "7.675"]] },
  ]);
});

test("a cosine near zero has no sign", () => {
  assert.deepEqual([-0.004, -0, 0.004, -0.005001, 0.18, 1].map(formatCosine), [
    "0.00",
    "0.00",
    "0.00",
    "−0.01",
    "0.18",
    "1.00",
  ]);
});

test("names of classes are written as people write them", () => {
  assert.equal(readable("german_shorthaired_pointer"), "german shorthaired pointer");
});
