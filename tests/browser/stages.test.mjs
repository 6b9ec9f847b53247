// A model of two stages and two decoders in the page (tests/data/staged), which has no prior.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { openPage, openSample, photo, serve, startBrowser } from "./harness.mjs";

const AXE = new URL("./node_modules/axe-core/axe.min.js", import.meta.url);
const PACKED = "application/vnd.tessera.codes";

let browser;
let service;
let page;

before(async () => {
  [browser, service] = await Promise.all([startBrowser(), serve({}, "staged/tiny-staged")]);
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

const downloaded = async (kind) => {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.click(`[data-download=${kind}]`),
  ]);
  return readFile(await download.path());
};

/** What the service makes of the sample that is open at first sight. */
async function asked(operation, query, accept) {
  const answer = await fetch(`${service.address}v1/${operation}?${query}`, {
    method: "POST",
    headers: { "Content-Type": "image/webp", Accept: accept },
    body: await readFile(photo("lake.webp")),
  });
  assert.equal(answer.status, 200);
  const psnr = `${Number(answer.headers.get("Tessera-PSNR")).toFixed(2)} dB`;
  return { bytes: Buffer.from(await answer.arrayBuffer()), psnr };
}

const fact = (name) => page.locator("#facts div", { hasText: new RegExp(`^${name}`) }).locator("dd");

const shown = (psnr) =>
  page.waitForFunction((psnr) => document.querySelector("#facts").textContent.includes(psnr), psnr);

const chooseStages = (stages) => page.selectOption("#stages-select", String(stages));

const chooseDecoder = (name) => page.check(`[name=decoder][value=${name}]`);

/** Of a packed file of one picture: its version, its stages, and its code bytes. */
function parts(file) {
  const [version, stages] = [file.readUInt16LE(8), file.readUInt16LE(18)];
  const image = 56 + 4 * Math.max(0, stages - 1);
  const codes = image + 21 + file[image + 20];
  return { version, stages, codes: file.subarray(codes, codes + file.readUInt32LE(image + 16)) };
}

test("at first the picture is decoded as the service does if nobody says how", async () => {
  assert.deepEqual(await page.locator("#decoder-choice label").allInnerTexts(), ["Squared error", "Texture"]);
  assert.ok(await page.isChecked("[name=decoder][value=default]"));
  assert.equal(await page.inputValue("#stages-select"), "2");
  const { bytes, psnr } = await asked("reconstruct", "", "image/png");
  assert.ok((await fact("PSNR").innerText()).startsWith(psnr));
  assert.deepEqual(await downloaded("png"), bytes);
  assert.match(await fact("Rate").innerText(), /8 \+ 4 bits per patch/);
  assert.match(await page.locator("#model-facts").innerText(), /256 \+ 16[\s\S]*8 \+ 4 bits each/);
});

test("another decoder shows its own picture of the same codes, with its PSNR", async () => {
  const codes = await downloaded("tess");
  await chooseDecoder("texture");
  const { bytes, psnr } = await asked("reconstruct", "decoder=texture", "image/png");
  await shown(psnr);
  assert.deepEqual(await downloaded("png"), bytes);
  assert.deepEqual(await downloaded("tess"), codes);
});

test("the sizes at the stages are those of the files", async () => {
  const offered = (await page.locator("#stages-select option").allTextContents()).map((words) =>
    words.replace(/\s/g, " "),
  );
  assert.equal(offered.length, 2);
  for (const stages of [2, 1]) {
    await chooseStages(stages);
    const { length } = await downloaded("tess");
    assert.equal(offered[stages - 1], `${stages} of 2, ${(length / 1000).toFixed(1)} kB`);
  }
});

test("fewer stages are the first of the codes: in the picture, in numbers, in every file", async () => {
  await chooseStages(1);
  const reconstructed = await asked("reconstruct", "stages=1", "image/png");
  await shown(reconstructed.psnr);
  assert.deepEqual(await downloaded("png"), reconstructed.bytes);
  assert.match(await fact("Rate").innerText(), /\n8 bits per patch/);
  const ours = parts(await downloaded("tess"));
  const theirs = parts((await asked("encode", "stages=1", PACKED)).bytes);
  assert.deepEqual(ours, theirs);
  assert.deepEqual([ours.version, ours.stages], [1, 0]);
  assert.match((await downloaded("npy")).toString("latin1", 0, 100), /\(1, 32, 43\)/);

  await chooseStages(2);
  const both = parts(await downloaded("tess"));
  assert.deepEqual(both, parts((await asked("encode", "stages=2", PACKED)).bytes));
  assert.deepEqual([both.version, both.stages], [2, 2]);
  assert.match((await downloaded("npy")).toString("latin1", 0, 100), /\(1, 2, 32, 43\)/);
});

test("what was decoded before is shown again without being asked for", async () => {
  await chooseDecoder("texture");
  const { psnr } = await asked("reconstruct", "decoder=texture", "image/png");
  await shown(psnr);
  const requests = [];
  page.on("request", (request) => request.url().includes("/v1/") && requests.push(request.url()));
  await chooseDecoder("default");
  await shown((await asked("reconstruct", "", "image/png")).psnr);
  await chooseDecoder("texture");
  await shown(psnr);
  assert.deepEqual(requests, []);
});

test("what was chosen holds for the next picture too", async () => {
  await chooseDecoder("texture");
  await chooseStages(1);
  const requests = [];
  page.on("request", (request) => requests.push(decodeURIComponent(request.url())));
  await openSample(page, "otter");
  assert.ok(await page.isChecked("[name=decoder][value=texture]"));
  assert.equal(await page.inputValue("#stages-select"), "1");
  assert.ok(requests.some((url) => url.endsWith("v1/reconstruct?model=tiny-staged@1&decoder=texture&stages=1")));
});

test("a .tess file of two stages is decoded from as many as are wanted; one of one has no choice", async () => {
  const both = await downloaded("tess");
  await chooseStages(1);
  const one = await downloaded("tess");
  await page.reload();
  await page.waitForSelector("#work:not([hidden])");
  await page.setInputFiles("#file", { name: "both.tess", mimeType: "", buffer: both });
  await page.waitForFunction(() => !document.querySelector("#facts").textContent.includes("PSNR"));
  const fromBoth = await downloaded("png");
  assert.deepEqual(fromBoth, (await asked("reconstruct", "", "image/png")).bytes);
  await chooseStages(1);
  await page.waitForFunction(() => document.querySelector("#facts").textContent.includes("8 bits per patch"));
  assert.deepEqual(await downloaded("png"), (await asked("reconstruct", "stages=1", "image/png")).bytes);

  await page.setInputFiles("#file", { name: "one.tess", mimeType: "", buffer: one });
  await page.waitForSelector("#stages-choice", { state: "hidden" });
  assert.ok(await page.isVisible("#decoder-row"));
});

test("codes of both stages are changed, shown under the cursor and decoded", async () => {
  await page.focus("#mosaic");
  await page.keyboard.press("ArrowRight");
  assert.match(await page.locator("#under-cursor").innerText(), /: code \d+ \+ \d+, in/);
  const before = parts(await downloaded("tess")).codes;
  const decoded = page.waitForRequest((request) => request.url().includes("v1/decode"));
  await page.click("#shuffle");
  const sent = parts((await decoded).postDataBuffer());
  assert.equal(sent.version, 2);
  // As many bytes of each stage, of the same codes in other places.
  assert.equal(sent.codes.length, before.length);
  assert.notDeepEqual(sent.codes, before);
  const counts = (codes) => codes.toSorted().toString("hex");
  assert.equal(counts(sent.codes.subarray(0, 43 * 32)), counts(before.subarray(0, 43 * 32)));
  await page.waitForFunction(() => document.querySelector("#play-note").textContent);
  assert.match(await page.locator("#play-note").innerText(), /codes changed .* in the first stage alone\.$/);
});

test("a refusal is said at the choice", async () => {
  await page.route("**/v1/reconstruct?**", (route) =>
    route.fulfill({
      status: 429,
      contentType: "application/problem+json",
      body: JSON.stringify({ title: "Overloaded", detail: "too much is waiting", code: "overloaded" }),
    }),
  );
  page.expectErrors(/status of 429/);
  await chooseDecoder("texture");
  const trouble = page.locator("#decoding-trouble");
  await trouble.getByText("Overloaded: too much is waiting.").waitFor();
  await chooseDecoder("default");
  await page.waitForFunction(() => document.querySelector("#decoding-trouble").textContent === "");
});

test("commands say which decoder and how many stages", async () => {
  await chooseDecoder("texture");
  await chooseStages(1);
  const commands = (await page.locator("#commands code").allTextContents()).join("\n");
  assert.ok(commands.includes("v1/encode?model=tiny-staged@1&stages=1'"), commands);
  assert.ok(commands.includes("v1/decode?decoder=texture'"));
  assert.ok(commands.includes("v1/reconstruct?model=tiny-staged@1&decoder=texture&stages=1'"));
});

test("what was measured of a further decoder is shown with the rest", async () => {
  await page.click("#model-metrics summary");
  assert.equal(await page.locator("#model-metrics caption").innerText(), "Texture decoder");
});

test("without a prior there is nothing of context coding and surprise", async () => {
  for (const selector of ["#context-coded", "#context-note", "#surprise-choice", "#surprise-legend"]) {
    assert.ok(await page.isHidden(selector), selector);
  }
  assert.doesNotMatch(await page.locator("body").innerText(), /context-coded|surprise|bits of each/i);
});

for (const [name, options] of [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
]) {
  test(`${name}: nothing sticks out, and axe has no serious finding`, async () => {
    await page.context().close();
    page = await openPage(browser, service.address, options);
    await page.focus("[name=decoder][value=default]");
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.isChecked("[name=decoder][value=texture]"));
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
