// The playground on a phone: touch alone, 390 pixels wide.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { openPage, serve, startBrowser } from "./harness.mjs";

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const MOST_HIGH = 3736; // half of what it was before commands, figures and labels were closed at first

let browser;
let service;
let page;

before(async () => {
  [browser, service] = await Promise.all([startBrowser(), serve({}, "recognizing/tiny")]);
  page = await openPage(browser, service.address, PHONE);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

test("the page with a picture is half as high as it was", async () => {
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  assert.ok(height <= MOST_HIGH, `${height} pixels`);
});

test("nothing asks to drop, to point or to click where there is only touch", async () => {
  for (const tool of ["pick", "paint", "copy"]) {
    await page.check(`[name=tool][value=${tool}]`);
    const words = await page.locator("body").innerText();
    assert.doesNotMatch(words, /\b(drop|point|click|paste|hover)/i);
  }
});

test("with a mouse there is something to drop and to point at", async () => {
  const desk = await openPage(browser, service.address);
  const words = await desk.locator("body").innerText();
  assert.match(words, /drop it anywhere/);
  assert.match(words, /Point at a tile/);
  await desk.context().close();
});

test("no word is broken in its middle, with everything open, at 390 and at 320 pixels", async () => {
  await page.click("#compare-samples");
  await page.waitForSelector("#matrix table");
  for (const summary of await page.locator("summary:visible").all()) await summary.click();
  await page.waitForSelector("#label-bars li");
  for (const width of [390, 320]) {
    await page.setViewportSize({ width, height: 844 });
    assert.deepEqual(await page.evaluate(brokenWords), [], `at ${width} pixels`);
  }
});

test("the matrix of the samples fits without scrolling sideways", async () => {
  await page.setViewportSize(PHONE.viewport);
  const [all, seen] = await page.$eval("#matrix", (box) => [box.scrollWidth, box.clientWidth]);
  assert.ok(all <= seen, `${all} pixels wide in ${seen}`);
});

/** Words that begin on one line and end on another; digests and commands may. */
function brokenWords() {
  const broken = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    const element = node.parentElement;
    if (element.closest("pre, code, .visually-hidden, noscript") || !element.checkVisibility()) continue;
    for (const { 0: word, index } of node.data.matchAll(/[\p{L}\p{N}.,]+/gu)) {
      const range = document.createRange();
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
      if (lines.size > 1) broken.push(word);
    }
  }
  return broken;
}
