// What the page shows of a model's prior: context-coded files, and the bits of each code as a map.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { openPage, openSample, serve, startBrowser } from "./harness.mjs";

const AXE = new URL("./node_modules/axe-core/axe.min.js", import.meta.url);
const PACKED = "application/vnd.tessera.codes";

let browser;
let service;
let page;

before(async () => {
  [browser, service] = await Promise.all([startBrowser(), serve({}, "recognizing/tiny")]);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});
beforeEach(async () => {
  page = await openPage(browser, service.address);
});
afterEach(async () => {
  const said = page.said;
  await page.context().close();
  assert.deepEqual(said, [], "the console is silent");
});

/** What a download button gives, once it can. */
async function downloaded(selector) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

async function asked(path, body, accept = "application/json") {
  const headers = { "Content-Type": PACKED, Accept: accept };
  const answer = await fetch(service.address + path, { method: "POST", headers, body });
  return Buffer.from(await answer.arrayBuffer());
}

const text = (selector) => page.locator(selector).innerText();

/** Text in one line, every space a plain one. */
const line = async (selector) => (await text(selector)).replace(/\s+/g, " ");

const fact = (name) => page.locator("#facts div", { hasText: new RegExp(`^${name}`) }).locator("dd");

const choose = (name, buffer) => page.setInputFiles("#file", { name, mimeType: "", buffer });

const refusal = (name) =>
  page.waitForFunction((name) => document.querySelector("#message").textContent.startsWith(name), name);

async function showSurprise() {
  await page.check("#surprise-shown");
  await page.waitForSelector("#surprise-legend:not([hidden])");
}

/** What the service says of the codes that are open now. */
async function bitsNow() {
  const { bytes } = await downloaded("[data-download=tess]");
  return JSON.parse(await asked("v1/bits?map=true", bytes)).data[0];
}

/** Red, green and blue of the picture in the middle of each code's place, row by row. */
const coloursOfPlaces = ({ width, height, map }) =>
  page.$eval(
    "#wipe",
    (canvas, [width, height, rows, columns]) => {
      const copy = new OffscreenCanvas(width, height).getContext("2d");
      copy.drawImage(canvas, 0, 0, width, height);
      const { data } = copy.getImageData(0, 0, width, height);
      return Array.from({ length: rows * columns }, (_, i) => {
        const x = Math.min(8 * (i % columns) + 4, width - 1);
        const y = Math.min(8 * Math.floor(i / columns) + 4, height - 1);
        return [...data.slice(4 * (y * width + x), 4 * (y * width + x) + 3)];
      });
    },
    [width, height, map.length, map[0].length],
  );

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

test("the context-coded file is the service's, and its size is told beside that of packed codes", async () => {
  const plain = await downloaded("[data-download=tess]");
  const coded = await downloaded("#context-coded");
  assert.equal(coded.name, "lake.context.tess");
  assert.deepEqual(coded.bytes, await asked("v1/recode", plain.bytes, `${PACKED};coding=context`));
  const size = ({ length }) => (length < 1000 ? `${length} B` : `${(length / 1000).toFixed(1)} kB`);
  assert.equal(await line("[data-download=tess]"), `.tess ${size(plain.bytes)}`);
  assert.equal(await line("#context-coded"), `.tess, context-coded ${size(coded.bytes)}`);
  const saved = Math.round(100 * (1 - coded.bytes.length / plain.bytes.length));
  const told = `${size(coded.bytes)} ${saved < 0 ? `${-saved} % more` : `${saved} % fewer`} bytes`;
  assert.equal(await line("#facts div:has-text('Context-coded') dd"), told);
});

test("changed codes are coded anew, and can't be downloaded as they were", async () => {
  const before = await downloaded("#context-coded");
  const offered = await page.evaluate(() => {
    document.querySelector("#shuffle").click();
    return !document.querySelector("#context-coded").disabled;
  });
  assert.ok(!offered, "at once, and not only when the codes are sent");
  await page.waitForFunction(() => !document.querySelector("#context-coded").disabled);
  const plain = await downloaded("[data-download=tess]");
  const coded = await downloaded("#context-coded");
  assert.notDeepEqual(coded.bytes, before.bytes);
  assert.deepEqual(coded.bytes, await asked("v1/recode", plain.bytes, `${PACKED};coding=context`));
});

test("a context-coded .tess file opens as its plain one does", async () => {
  const plain = await downloaded("[data-download=tess]");
  const coded = await downloaded("#context-coded");
  await choose("small.tess", coded.bytes);
  await page.waitForFunction(() => !document.querySelector("#facts").textContent.includes("PSNR"));
  assert.equal(await text("#picture-name"), "lake.webp");
  assert.match(await fact("Size").innerText(), /341 × 256/);
  assert.deepEqual((await downloaded("[data-download=tess]")).bytes, plain.bytes);
});

test("a context-coded file that is damaged, or of another prior, is refused in the service's words", async () => {
  page.expectErrors(/status of 4\d\d/);
  const own = (await downloaded("#context-coded")).bytes;
  own[90] ^= 1;
  await choose("damaged.tess", own);
  await refusal("damaged.tess");
  assert.match(await text("#message"), /CRC/);
  // Only the prior differs: the code space and every checksum are right.
  const other = (await downloaded("#context-coded")).bytes;
  const payload = 56 + 21 + other[56 + 20];
  other[payload] ^= 1;
  other.writeUInt32LE(crc32(other.subarray(0, -4)), other.length - 4);
  await choose("other.tess", other);
  await refusal("other.tess");
  assert.match(await text("#message"), /Prior not found: these codes were coded with the prior/);
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

test("surprise is off at first, and nothing is asked for it", async () => {
  const requests = [];
  page.on("request", (request) => request.url().includes("v1/bits") && requests.push(request.url()));
  await openSample(page, "colosseum");
  assert.ok(!(await page.isChecked("#surprise-shown")));
  assert.ok(await page.isHidden("#surprise-legend"));
  await page.click("#shuffle");
  await page.waitForFunction(() => document.querySelector("#play-note").textContent);
  assert.deepEqual(requests, []);
});

test("the map of surprise is the service's: the more bits, the lighter, and taken away again", async () => {
  await page.focus("#wipe-range");
  await page.keyboard.press("Home"); // all of it reconstruction, no line in the middle
  const plain = await page.locator("#wipe").screenshot();
  await showSurprise();
  const item = await bitsNow();
  const bits = item.map.flat();
  const light = (await coloursOfPlaces(item)).map(([r, g, b]) => 0.3 * r + 0.6 * g + 0.1 * b);
  const order = bits.toSorted((a, b) => a - b);
  const at = (share) => order[Math.floor(share * (order.length - 1))];
  const low = light.filter((_, i) => bits[i] <= at(0.2));
  const high = light.filter((_, i) => bits[i] >= at(0.8));
  assert.ok(mean(high) > mean(low) + 40, `${mean(high)} where it is high, ${mean(low)} where low`);
  await page.uncheck("#surprise-shown");
  assert.deepEqual(await page.locator("#wipe").screenshot(), plain);
  assert.ok(await page.isHidden("#surprise-legend"));
  assert.equal(await text("#surprise-text"), "");
});

test("what the map shows is said in words, in total and for the code under the cursor", async () => {
  await showSurprise();
  const item = await bitsNow();
  const words = await text("#surprise-text");
  const total = Math.round(item.bits).toLocaleString("en");
  assert.ok(words.startsWith(`${item.bits_per_code.toFixed(2)} bits for each patch, where packed codes take 8`));
  assert.ok(words.includes(`${total} bits in all`), words);
  const [, row, column, most] = /row (\d+), column (\d+), ([\d.]+) bits\.$/.exec(words);
  assert.equal(most, Math.max(...item.map.flat()).toFixed(1));
  assert.equal(item.map[row - 1][column - 1].toFixed(1), most);
  assert.match(await page.getAttribute("#wipe", "aria-describedby"), /surprise-text/);
  assert.deepEqual(await page.locator("#surprise-legend span").allInnerTexts(), ["0", "8", "12+"]);

  await page.focus("#mosaic");
  await page.keyboard.press("ArrowRight");
  const [, r, c, bits] = /row (\d+), column (\d+): code \d+, ([\d.]+) bits,/.exec(await text("#under-cursor"));
  assert.equal(bits, item.map[r - 1][c - 1].toFixed(1));
});

test("codes that are changed have their surprise anew", async () => {
  await showSurprise();
  const before = await text("#surprise-text");
  await page.click("#shuffle");
  await page.waitForFunction(
    (before) => document.querySelector("#surprise-text").textContent !== before,
    before,
  );
  const item = await bitsNow();
  assert.ok((await text("#surprise-text")).startsWith(`${item.bits_per_code.toFixed(2)} bits`));
});

test("one map is shown at a time: surprise, or what the recognizer sees", async () => {
  await page.click("#labels summary");
  await page.check("#map-shown");
  await showSurprise();
  assert.ok(!(await page.isChecked("#map-shown")));
  await page.check("#map-shown");
  assert.ok(!(await page.isChecked("#surprise-shown")));
  assert.ok(await page.isHidden("#surprise-legend"));
});

test("a refusal is said in the place of the map, and the next picture has one", async () => {
  await page.route("**/v1/{bits,recode}?**", (route) =>
    route.fulfill({
      status: 503,
      contentType: "application/problem+json",
      body: JSON.stringify({ title: "Not ready", detail: "stopping", code: "not_ready" }),
    }),
  );
  page.expectErrors(/status of 503/);
  await page.check("#surprise-shown");
  await page.waitForFunction(() => /Not ready/.test(document.querySelector("#surprise-text").textContent));
  await page.click("#shuffle");
  await page.waitForFunction(() => /Not ready/.test(document.querySelector("#context-trouble").textContent));
  assert.ok(await page.isDisabled("#context-coded"));
  await page.unroute("**/v1/{bits,recode}?**");
  await openSample(page, "colosseum");
  await page.waitForSelector("#surprise-legend:not([hidden])");
  await page.waitForFunction(() => !document.querySelector("#context-coded").disabled);
  assert.equal(await text("#context-trouble"), "");
});

test("both have their commands", async () => {
  const commands = page.locator("#commands details");
  for (const title of ["Codes to the same, context-coded", "Bits of each code"]) {
    await commands.getByText(title, { exact: true }).click();
  }
  const shown = await page.locator("#commands code:visible").allInnerTexts();
  assert.ok(shown[0].includes(`'Accept: ${PACKED};coding=context'`) && shown[0].includes("v1/recode"));
  assert.ok(shown[1].includes("v1/bits?model=tiny@2&map=true"));
});

for (const [name, options] of [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
]) {
  test(`${name}: with the map shown nothing sticks out, and axe has no serious finding`, async () => {
    await page.context().close();
    page = await openPage(browser, service.address, options);
    await page.focus("#surprise-shown");
    await page.keyboard.press("Space");
    await page.waitForSelector("#surprise-legend:not([hidden])");
    await page.evaluate(await readFile(AXE, "utf8"));
    const { violations } = await page.evaluate(() => globalThis.axe.run("#picture"));
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    assert.deepEqual(serious.map(({ id }) => id), []);
    const width = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth,
    ]);
    assert.ok(width[0] <= width[1], `the page is ${width[0]} wide in a window of ${width[1]}`);
  });
}
