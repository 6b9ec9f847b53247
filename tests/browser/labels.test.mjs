// Labels in the playground, with recognizers that are known by hand (tests/data/recognizing).

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { openPage, openSample as openSampleOf, photo, serve, startBrowser } from "./harness.mjs";

const AXE = new URL("./node_modules/axe-core/axe.min.js", import.meta.url);

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

const bars = () => page.locator("#label-bars li").allInnerTexts();

const labelled = () => page.waitForSelector("#label-bars li");

/** Opens a sample and then what the recognizer says of it. */
const openSample = async (name = "otter") => {
  await openSampleOf(page, name);
  if ((await page.locator("#labels").getAttribute("open")) === null) await page.click("#labels summary");
  await labelled();
};

/** A picture of the canvas, as shown. */
const shotOf = async (selector) => (await page.locator(selector).screenshot()).toString("base64");

/** What the service says of a photograph. */
const asked = async (name, query = "") => {
  const answer = await fetch(`${service.address}v1/classify?${query}`, {
    method: "POST",
    headers: { "Content-Type": "image/webp" },
    body: await readFile(photo(`${name}.webp`)),
  });
  return (await answer.json()).data[0];
};

/** Red less blue in the middle of each code's place, row by row. */
const redness = (rows, columns) =>
  page.$eval(
    "#wipe",
    (canvas, [rows, columns]) => {
      const copy = new OffscreenCanvas(341, 256).getContext("2d");
      copy.drawImage(canvas, 0, 0, 341, 256);
      const { data } = copy.getImageData(0, 0, 341, 256);
      return Array.from({ length: rows * columns }, (_, i) => {
        const [x, y] = [Math.min(8 * (i % columns) + 4, 340), 8 * Math.floor(i / columns) + 4];
        return data[4 * (y * 341 + x)] - data[4 * (y * 341 + x) + 2];
      });
    },
    [rows, columns],
  );

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

test("the labels are the service's, best first, with their probabilities in words", async () => {
  await openSample();
  const { labels, box } = await asked("otter", "map=true");
  assert.deepEqual(
    (await bars()).map((line) => line.split(/\n+/)),
    labels.map(({ label, probability }) => [label, `${(100 * probability).toFixed(1)} %`]),
  );
  const status = await page.locator("#labels-status").innerText();
  assert.ok(status.startsWith(`Of its classes most probably ${labels[0].label}, `));
  assert.ok(status.includes(`between ${box[0]} and ${box[2]} px from the left`));
  assert.match(
    await page.locator("#label-classes").innerText(),
    /^Chooses among 6 classes: black, blue, brown, green, grey, white\.$/,
  );
  const widths = await page.$$eval("#label-bars .share", (all) =>
    all.map((bar) => parseFloat(getComputedStyle(bar, "::before").width) / bar.clientWidth),
  );
  labels.forEach(({ probability }, i) => assert.ok(Math.abs(widths[i] - probability) < 0.01));
});

test("the recognizer is closed at first, named as one, with its classes, and not asked", async () => {
  const asked = [];
  page.on("request", (request) => request.url().includes("classify") && asked.push(request.url()));
  await openSampleOf(page, "colosseum");
  await page.click("#shuffle");
  await page.waitForFunction(() => document.querySelector("#play-note").textContent);
  const shown = await page.locator("#labels").innerText();
  assert.match(shown, /^Recognizer colours\s+Chooses among 6 classes: black, .* white\.$/);
  assert.deepEqual(asked, []);
});

test("what it says once opened begins with what it can't say", async () => {
  await openSample();
  assert.match(await page.locator("#labels .content").innerText(), /^.*no .none of these/);
});

test("names of classes are readable: on the bars, in words and in the model panel", async () => {
  const rename = async (route) => {
    const answer = await route.fetch();
    const body = (await answer.text()).replaceAll('"black"', '"coal_black"').replaceAll('"grey"', '"slate_grey"');
    await route.fulfill({ response: answer, body });
  };
  await page.route("**/v1/models", rename);
  await page.route("**/v1/classify?**", rename);
  await page.reload();
  await page.waitForSelector("#work:not([hidden])");
  await openSample();
  await page.click("#model-recognizers summary");
  for (const selector of ["#labels", "#model-recognizers"]) {
    const shown = await page.locator(selector).innerText();
    assert.match(shown, /coal black/, selector);
    assert.ok(!shown.includes("_"), shown);
  }
});

test("the map is laid over the picture when it is wanted, with a box, and taken away", async () => {
  await openSample("lake");
  const map = (await asked("lake", "map=true")).map;
  const flat = map.flat();
  await page.focus("#wipe-range");
  await page.keyboard.press("Home"); // all of it painted, no line at the middle
  const plain = await shotOf("#wipe");
  const before = await redness(map.length, map[0].length);
  await page.focus("#map-shown");
  await page.keyboard.press("Space");
  const added = (await redness(map.length, map[0].length)).map((red, i) => red - before[i]);
  assert.ok(mean(added.filter((_, i) => flat[i] > 0.7)) > 40, "tinted where it is seen");
  assert.ok(Math.abs(mean(added.filter((_, i) => flat[i] === 0))) < 12, "and nowhere else");
  assert.match(await page.locator("#map-note").innerText(), /weakly supervised detection/);
  await page.click("#zoom-pixels");
  await page.click("#zoom-fit");
  await page.uncheck("#map-shown");
  assert.equal(await shotOf("#wipe"), plain);
});

test("codes that are changed are classified anew", async () => {
  await openSample();
  const before = await bars();
  await page.focus("#mosaic");
  await page.keyboard.press("p");
  await page.check("[name=tool][value=paint]");
  await page.selectOption("#brush-size", "7");
  // Hovering waits until the mosaic is in view, stands still and lies under nothing.
  const mosaic = page.locator("#mosaic");
  await mosaic.hover({ position: { x: 20, y: 20 } });
  const box = await mosaic.boundingBox();
  await page.mouse.down();
  for (let i = 1; i < 6; i++) {
    await page.mouse.move(box.x + (i % 2 ? box.width - 20 : 20), box.y + (i * box.height) / 6, { steps: 12 });
  }
  await page.mouse.up();
  await page.waitForFunction(
    (before) => document.querySelector("#label-bars").innerText !== before,
    before.join("\n"),
  );
  await page.click("#reset");
  await page.waitForFunction(
    (first) => document.querySelector("#label-bars li").innerText === first,
    before[0],
  );
});

test("a .tess file is classified as its picture is", async () => {
  await openSample();
  const before = await bars();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.click("[data-download=tess]"),
  ]);
  const buffer = await readFile(await download.path());
  await page.setInputFiles("#file", { name: "mine.tess", mimeType: "", buffer });
  await page.waitForFunction(() => !document.querySelector("#facts").textContent.includes("PSNR"));
  await labelled();
  assert.deepEqual(await bars(), before);
});

test("another recognizer is chosen; one without a map offers none", async () => {
  await openSample();
  assert.ok(await page.isVisible("#map-shown"));
  await page.check("#map-shown");
  await page.selectOption("#recognizer-select", "tones");
  await page.waitForFunction(() => document.querySelectorAll("#label-bars li").length === 2);
  assert.ok(await page.isHidden("#map-shown"));
  assert.ok(await page.isHidden("#map-note"));
  const command = page.locator("#commands details", { hasText: "Codes to labels" });
  await command.locator("summary").click();
  assert.match(await command.locator("code").innerText(), /v1\/classify\?model=tiny@2&recognizer=tones'/);
});

test("a refusal is said, and the next picture is classified", async () => {
  await page.route("**/v1/classify?**", (route) =>
    route.fulfill({
      status: 503,
      contentType: "application/problem+json",
      body: JSON.stringify({ title: "Not ready", detail: "stopping", code: "not_ready" }),
    }),
  );
  page.expectErrors(/status of 503/);
  await page.click("#labels summary");
  await page.waitForFunction(() => /Not ready/.test(document.querySelector("#labels-status").textContent));
  assert.deepEqual(await bars(), []);
  await page.unroute("**/v1/classify?**");
  await openSample("lake");
  assert.match(await page.locator("#labels-status").innerText(), /^Of its classes most probably/);
});

test("without a recognizer there is nothing of it", async () => {
  const plain = await serve();
  try {
    await page.context().close();
    page = await openPage(browser, plain.address);
    assert.ok(await page.isHidden("#labels"));
    assert.ok(!(await page.locator("#commands").innerText()).includes("labels"));
  } finally {
    await page.context().close(); // before the service, which it would hear stopping
    await plain.stop();
  }
});

for (const [name, options] of [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
]) {
  test(`${name}: nothing sticks out, and axe has no serious finding`, async () => {
    await page.context().close();
    page = await openPage(browser, service.address, options);
    await openSample();
    await page.check("#map-shown");
    await page.evaluate(await readFile(AXE, "utf8"));
    const { violations } = await page.evaluate(() => globalThis.axe.run("#labels"));
    assert.deepEqual(violations.map(({ id }) => id), []);
    const width = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth,
    ]);
    assert.ok(width[0] <= width[1], `the page is ${width[0]} wide in a window of ${width[1]}`);
  });
}
