// The playground in a real Chromium, against a real service with the tiny model.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { openPage, openSample as openSampleOf, photo, serve, startBrowser, TESS } from "./harness.mjs";

const AXE = new URL("./node_modules/axe-core/axe.min.js", import.meta.url);
const CARD = new URL("../data/bundles/tiny/MODEL_CARD.md", import.meta.url);

let browser;
let service;
let page;

before(async () => {
  [browser, service] = await Promise.all([startBrowser(), serve()]);
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

const openSample = (name) => openSampleOf(page, name);

const fact = (name) => page.locator("#facts div", { hasText: new RegExp(`^${name}`) }).locator("dd");

const text = (selector) => page.locator(selector).innerText();

/** Pixels of a canvas as one number, to see whether they changed. */
const pixelsOf = (selector) => page.$eval(selector, hashOf);

function hashOf(canvas) {
  // Of a copy: reading the canvas itself again and again would make Chromium warn.
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  let hash = 0;
  for (const byte of copy.getImageData(0, 0, canvas.width, canvas.height).data) {
    hash = (hash * 31 + byte) | 0;
  }
  return hash;
}

const waitForDecoded = (share) =>
  page.waitForFunction((share) => document.querySelector("#play-note").textContent.includes(share), share);

/** Serious and critical findings of axe. */
async function findings() {
  // Not as an inline script: the page's policy refuses those, which is as it should be.
  await page.evaluate(await readFile(AXE, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
}

test("a sample goes all the way: picture, codes, numbers, changes, downloads", async () => {
  await openSample();
  assert.match(await fact("PSNR").innerText(), /^\d\d\.\d\d dB/);
  assert.match(await fact("Size").innerText(), /341 × 256/);
  assert.match(await fact("Rate").innerText(), /bit\/px/);
  assert.match(await fact("Encode").innerText(), /model/);
  assert.match(await text("#histogram-text"), /of the codebook's 256 codes, in 1,376 places/);

  // A pointer on a tile shows its code and marks all its other places.
  const unmarked = await pixelsOf("#mosaic");
  await page.hover("#mosaic", { position: { x: 90, y: 60 } });
  assert.match(await text("#under-cursor"), /row \d+, column \d+: code \d+/);
  assert.notEqual(await pixelsOf("#mosaic"), unmarked);

  // Painting changes the decoded picture.
  const before = await pixelsOf("#wipe");
  await page.check("[name=tool][value=paint]");
  await page.hover("#mosaic"); // waits until it is in view and stands still
  const box = await page.locator("#mosaic").boundingBox();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 120, { steps: 6 });
  await page.mouse.up();
  await waitForDecoded("codes changed");
  assert.notEqual(await pixelsOf("#wipe"), before);
  assert.match(await fact("PSNR").innerText(), /as changed/);

  await page.click("#undo");
  await page.waitForFunction(() => document.querySelector("#play-note").textContent === "");
  assert.ok(await page.isDisabled("#reset"));

  for (const button of ["#shuffle", "#replace-all", "#replace-one"]) {
    await page.click(button);
    await waitForDecoded("codes changed");
  }
  await page.click("#reset");
  await page.waitForFunction(() => document.querySelector("#play-note").textContent === "");

  for (const [kind, begins] of [
    ["tess", [0x89, 0x54]],
    ["npy", [0x93, 0x4e]],
    ["png", [0x89, 0x50]],
  ]) {
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.click(`[data-download=${kind}]`),
    ]);
    assert.equal(download.suggestedFilename(), `otter.${kind}`);
    const file = await readFile(await download.path());
    assert.deepEqual([...file.subarray(0, 2)], begins);
  }
});

test("the model panel shows the model's card, and links to it", async () => {
  await page.click("#model-card summary");
  await page.waitForFunction(() => document.querySelector("#model-card-text").textContent);
  const card = await readFile(CARD, "utf8");
  assert.equal(await page.textContent("#model-card-text"), card);
  const link = await page.getAttribute("#model-card-link", "href");
  assert.equal(await (await fetch(new URL(link, service.address))).text(), card);
});

test("there is one model card", async () => {
  assert.equal(await page.getByText(/model card/i).count(), 1);
});

test("what was measured at export is closed at first, and in groups with units", async () => {
  await page.route("**/v1/models", async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    body.data[0].metrics = { kodak_int8: { psnr: 26.2247, bits_per_pixel: 0.1875, codes_used: 0.9927 } };
    body.data[0].prior.metrics = { bits_per_code_kodak: 7.6752 };
    await route.fulfill({ response: answer, json: body });
  });
  await page.reload();
  const measured = page.locator("#model-metrics");
  await measured.getByText("Measured at export").waitFor();
  assert.ok(await measured.locator("table").first().isHidden());
  await measured.locator("summary").click();
  assert.deepEqual(await measured.locator("caption").allInnerTexts(), ["Kodak, int8", "Prior"]);
  const values = await measured.locator("td").allInnerTexts();
  assert.deepEqual(values, ["26.22 dB", "0.188 bit/px", "99.3 %", "7.675"]);
});

test("the .tess that the page writes is the one that the service writes", async () => {
  await openSample();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.click("[data-download=tess]"),
  ]);
  const answer = await fetch(`${service.address}v1/encode`, {
    method: "POST",
    headers: { "Content-Type": "image/webp", Accept: "application/vnd.tessera.codes" },
    body: await readFile(photo("otter.webp")),
  });
  const theirs = Buffer.from(await answer.arrayBuffer());
  const ours = await readFile(await download.path());
  // Sent raw, the picture has no name: the page gives it one, and the CRC follows.
  const [header, fixed, name] = [56, 21, "otter.webp"];
  assert.deepEqual(ours.subarray(0, header + 20), theirs.subarray(0, header + 20));
  assert.equal(ours.subarray(header + fixed, header + fixed + name.length).toString(), name);
  assert.deepEqual(
    ours.subarray(header + fixed + name.length, -4),
    theirs.subarray(header + fixed, -4),
  );
  // And the service reads it back.
  const decoded = await fetch(`${service.address}v1/decode`, {
    method: "POST",
    headers: { "Content-Type": "application/vnd.tessera.codes" },
    body: ours,
  });
  assert.equal(decoded.status, 200);
});

test("everything works from the keyboard", async () => {
  await openSample();
  await page.focus("#wipe-range");
  const before = await pixelsOf("#wipe");
  for (let i = 0; i < 80; i++) await page.keyboard.press("ArrowLeft");
  assert.notEqual(await pixelsOf("#wipe"), before);
  assert.match(await page.getAttribute("#wipe-range", "aria-valuetext"), /4\d % original/);

  await page.focus("#mosaic");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.match(await text("#under-cursor"), /row 18, column 22: code \d+/);
  await page.keyboard.press("p");
  await page.focus("[name=tool][value=pick]");
  await page.keyboard.press("ArrowRight");
  assert.ok(await page.isChecked("[name=tool][value=paint]"));
  await page.focus("#mosaic");
  await page.keyboard.press("ArrowLeft");
  for (let i = 0; i < 12; i++) await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await waitForDecoded("codes changed");
  await page.keyboard.press("Control+z");
  await page.waitForFunction(() => document.querySelector("#play-note").textContent === "");

  // Copy: a first corner, two steps, the other corner; then put it elsewhere.
  await page.focus("[name=tool][value=paint]");
  await page.keyboard.press("ArrowRight");
  await page.focus("#mosaic");
  for (const key of ["Enter", "ArrowRight", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  for (let i = 0; i < 9; i++) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await waitForDecoded("codes changed");
});

test("zoom shows single pixels, of picture and codes together", async () => {
  await openSample();
  await page.click("#zoom-pixels");
  assert.equal(await text("#zoom-level"), "800 %");
  const before = await Promise.all([pixelsOf("#wipe"), pixelsOf("#mosaic")]);
  await page.focus("#wipe");
  await page.keyboard.press("ArrowRight");
  const moved = await Promise.all([pixelsOf("#wipe"), pixelsOf("#mosaic")]);
  assert.ok(before[0] !== moved[0] && before[1] !== moved[1]);
  await page.click("#zoom-fit");
  assert.equal(await text("#zoom-level"), "fit");
});

/** How many colours a canvas shows. */
const coloursOf = (selector) =>
  page.$eval(selector, (canvas) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    return new Set(new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
  });

test("codes are drawn as the patches that they decode to, when that is chosen", async () => {
  await openSample();
  await page.click("#zoom-pixels");
  const flat = await coloursOf("#mosaic");
  await page.check("[name=drawn][value=patches]");
  const deadline = Date.now() + 60_000;
  while ((await coloursOf("#mosaic")) < 2 * flat && Date.now() < deadline) await page.waitForTimeout(50);
  assert.ok((await coloursOf("#mosaic")) >= 2 * flat);
});

/** How far two canvases are from each other, as means of large areas: 0…255. */
const distance = (one, other) =>
  page.evaluate(
    (selectors) => {
      const [a, b] = selectors.map((selector) => {
        const copy = new OffscreenCanvas(8, 6).getContext("2d");
        copy.imageSmoothingQuality = "high";
        copy.drawImage(document.querySelector(selector), 0, 0, 8, 6);
        return copy.getImageData(0, 0, 8, 6).data;
      });
      return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / (a.length * 0.75);
    },
    [one, other],
  );

test("the mosaic's first colours are those of the picture's patches", async () => {
  await openSample("colosseum");
  await page.focus("#wipe-range");
  await page.keyboard.press("Home"); // all of it reconstruction
  const first = await distance("#wipe", "#mosaic");
  assert.match(await text("#drawn-note"), /mean colour of what each code decodes to/);
  await page.check("[name=drawn][value=axes]");
  assert.match(await text("#drawn-note"), /Similar code vectors have similar colours/);
  const axes = await distance("#wipe", "#mosaic");
  assert.ok(first < 30 && first < axes / 2, `${first} from the picture, ${axes} by similarity`);
});

test("a sample is there at first sight, and the page stays at its top", async () => {
  assert.equal(await text("#picture-name"), "lake.webp");
  assert.match(await fact("PSNR").innerText(), /dB/);
  assert.equal(await page.evaluate(() => scrollY), 0);
});

test("a picture that was chosen meanwhile isn't replaced by the first sample", async () => {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/samples/lake.webp", async (route) => {
    if (route.request().resourceType() === "fetch") await released; // not the button's image
    await route.continue();
  });
  await page.goto(service.address);
  await page.setInputFiles("#file", photo("street.webp"));
  await page.getByRole("heading", { name: "street.webp" }).waitFor();
  const encoded = [];
  page.on("request", (request) => request.url().includes("v1/encode") && encoded.push(request.url()));
  const loaded = page.waitForResponse("**/samples/lake.webp");
  release();
  await (await loaded).finished();
  await openSample("colosseum"); // asked for after the first sample would have been
  assert.equal(encoded.length, 1);
});

/** Whether all of an element is in the window, with nothing over its middle. */
const isSeen = (selector) =>
  page.waitForFunction((selector) => {
    const element = document.querySelector(selector);
    const { top, bottom, left, width, height } = element.getBoundingClientRect();
    const inside = height > 0 && top >= 0 && bottom <= innerHeight;
    return inside && document.elementFromPoint(left + width / 2, top + height / 2) === element;
  }, selector);

test("a refusal is seen and has the focus, wherever the page was scrolled to", async () => {
  page.expectErrors(/status of 4\d\d/);
  for (const place of ["picture", "model"]) {
    await page.evaluate((id) => document.getElementById(id).scrollIntoView({ behavior: "instant" }), place);
    await page.setInputFiles("#file", { name: `${place}.txt`, mimeType: "text/plain", buffer: Buffer.from("x") });
    await page.waitForFunction((name) => document.querySelector("#message").textContent.startsWith(name), place);
    await isSeen("#message");
    assert.equal(await page.evaluate(() => document.activeElement.id), "message");
    assert.equal(await page.getAttribute("#message", "role"), "alert");
  }
});

test("a refusal among pictures to compare is seen and has the focus", async () => {
  const lake = await readFile(photo("lake.webp"));
  await page.setInputFiles("#compare-file", [
    { name: "lake.webp", mimeType: "image/webp", buffer: lake },
    { name: "broken.webp", mimeType: "image/webp", buffer: lake.subarray(0, 5000) },
  ]);
  await page.waitForFunction(() => document.querySelector("#compare-message").textContent);
  await isSeen("#compare-message");
  assert.equal(await page.evaluate(() => document.activeElement.id), "compare-message");
});

test("a broken picture is refused in words, and the next one is taken", async () => {
  const broken = (await readFile(photo("otter.webp"))).subarray(0, 5000);
  page.expectErrors(/status of 4\d\d/);
  await page.setInputFiles("#file", { name: "half.webp", mimeType: "image/webp", buffer: broken });
  await page.waitForFunction(() => document.querySelector("#message").textContent);
  assert.match(await text("#message"), /^half\.webp was refused\. Image corrupt: .*truncated/);
  await page.setInputFiles("#file", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("hello") });
  await page.waitForFunction(() => document.querySelector("#message").textContent.startsWith("notes"));
  assert.match(await text("#message"), /Unsupported media type/);
  await openSample();
  assert.equal(await text("#message"), "");
});

test("a .tess file is decoded; one of another code space, or damaged, is refused", async () => {
  await openSample();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.click("[data-download=tess]"),
  ]);
  const buffer = await readFile(await download.path());
  await page.setInputFiles("#file", { name: "mine.tess", mimeType: "", buffer });
  await page.waitForFunction(() => !document.querySelector("#facts").textContent.includes("PSNR"));
  assert.match(await fact("Size").innerText(), /341 × 256/);
  assert.ok(await page.isDisabled("#wipe-range"));

  page.expectErrors(/status of 409/);
  await page.setInputFiles("#file", TESS);
  await page.waitForFunction(() => document.querySelector("#message").textContent);
  assert.match(await text("#message"), /Codes of an unknown code space/);

  buffer[70] ^= 1;
  await page.setInputFiles("#file", { name: "bad.tess", mimeType: "", buffer });
  await page.waitForFunction(() => document.querySelector("#message").textContent.includes("bad.tess"));
  assert.match(await text("#message"), /checksum/);
});

test("a picture can be dropped and pasted", async () => {
  const bytes = [...(await readFile(photo("lake.webp")))];
  for (const [kind, name] of [
    ["drop", "dropped.webp"],
    ["paste", "pasted.webp"],
  ]) {
    await page.evaluate(
      ([kind, name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/webp" }));
        const options = { bubbles: true, cancelable: true };
        document.body.dispatchEvent(
          kind === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: data })
            : new ClipboardEvent("paste", { ...options, clipboardData: data }),
        );
      },
      [kind, name, bytes],
    );
    await page.waitForFunction((name) => document.querySelector("#picture-name").textContent === name, name);
  }
});

test("several pictures are compared by their embeddings", async () => {
  await page.click("#compare-samples");
  await page.waitForSelector("#matrix table");
  assert.equal(await page.locator("#matrix tbody tr").count(), 6);
  const own = await page.locator("#matrix td.self").allInnerTexts();
  assert.deepEqual(own, Array(6).fill("1.00"));
  assert.equal(await page.locator("#neighbours li").count(), 6);
  // The scale is fixed: the share of the accent is the cosine itself, and nothing for less than 0.
  for (const cell of await page.locator("#matrix td:not(.self)").all()) {
    const cosine = Number((await cell.innerText()).replace("−", "-"));
    if (Number.isNaN(cosine) || (await cell.innerText()) === "") continue;
    const share = await cell.evaluate((td) => Number(td.style.getPropertyValue("--share")));
    assert.ok(Math.abs(share - Math.max(0, cosine)) <= 0.006, `${share} for ${cosine}`);
  }
  await page.click("#compare-clear");
  assert.ok(await page.isHidden("#matrix"));
});

test("commands stand in a section of their own, under a heading, which the bar leads to", async () => {
  await page.click('nav a[href="#terminal"]');
  await page.click("#compare-samples");
  await page.waitForSelector("#matrix table");
  const all = await page.locator("details:has(pre code)").count();
  assert.equal(await page.locator("#terminal details").count(), all);
  assert.deepEqual(await page.locator("#terminal h2, #terminal h3").allInnerTexts(), [
    "From a terminal",
    "The picture",
    "The comparison",
    "The model",
  ]);
});

test("each action has its command, which copies and works", async () => {
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await openSample();
  const first = page.locator("#commands details").first();
  await first.locator("summary").click();
  await first.getByRole("button").click();
  await first.getByText("Copied").waitFor();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(command, /^curl -sS/);
  assert.ok(command.includes(`${service.address}v1/encode?model=tiny`));
  assert.ok(command.includes("--data-binary @otter.webp"));
});

for (const [name, options] of [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
]) {
  test(`${name}: nothing sticks out, and axe has no serious finding`, async () => {
    await page.context().close();
    page = await openPage(browser, service.address, options);
    assert.deepEqual(await findings(), [], "at first sight");
    await page.click("#compare-samples");
    await page.waitForSelector("#matrix table");
    for (const summary of await page.locator("summary:visible").all()) await summary.click();
    assert.deepEqual(await findings(), [], "with everything open");
    const width = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      document.documentElement.clientWidth,
    ]);
    assert.ok(width[0] <= width[1], `the page is ${width[0]} wide in a window of ${width[1]}`);
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = ground.match(/\d+/g).slice(0, 3).every((channel) => Number(channel) > 128);
    assert.equal(light, name !== "dark");
  });
}

test("a service with keys asks for one, and takes it", async () => {
  const closed = await serve({ TESSERA_API_KEYS: "open-sesame" });
  try {
    await page.context().close();
    page = await openPage(browser, closed.address, { ready: false });
    page.expectErrors(/status of 401/);
    await page.waitForSelector("#key-form:not([hidden])");
    assert.deepEqual(await findings(), [], "without a picture");
    await page.fill("#key", "wrong");
    await page.click("#key-form button");
    await page.getByText("doesn't accept this key").waitFor();
    await page.fill("#key", "open-sesame");
    await page.click("#key-form button");
    await page.waitForSelector("#key-form", { state: "hidden" });
    await openSample();
    const command = await page.locator("#commands code").first().textContent();
    assert.ok(command.includes("$TESSERA_API_KEY") && !command.includes("sesame"));
  } finally {
    await page.context().close(); // before the service, which it would hear stopping
    await closed.stop();
  }
});

test("a code that comes by a change has the colour of its patch", async () => {
  // One colour, so few codes: their neighbours in the codebook aren't the picture's own.
  const flat = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(32, 32);
    const context = canvas.getContext("2d");
    context.fillStyle = "#a03020";
    context.fillRect(0, 0, 32, 32);
    return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
  });
  await page.setInputFiles("#file", { name: "flat.png", mimeType: "image/png", buffer: Buffer.from(flat) });
  await page.getByRole("heading", { name: "flat.png" }).waitFor();
  const codes = () =>
    page.$$eval("#top-codes .swatch", (all) => all.map(({ dataset }) => Number(dataset.code)));
  const own = await codes();
  await page.click("#replace-all");
  await waitForDecoded("codes changed");
  const added = (await codes()).filter((code) => !own.includes(code));
  assert.ok(added.length > 0);
  for (const code of added) {
    const known = `#top-codes [data-code="${code}"]:not([style*="rgb(128, 128, 128)"])`;
    await page.waitForSelector(known);
  }
});
