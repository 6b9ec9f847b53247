// The API documentation at /docs: a page of the same service, with a way back to the playground.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { openPage, serve, startBrowser } from "./harness.mjs";

const AXE = new URL("./node_modules/axe-core/axe.min.js", import.meta.url);

let browser;
let service;

before(async () => {
  [browser, service] = await Promise.all([startBrowser(), serve()]);
});
after(async () => {
  await browser?.close();
  await service?.stop();
});

/** Opens the playground, and from there the documentation. */
async function openDocs(options) {
  const page = await openPage(browser, service.address, options);
  const look = await page.evaluate(lookOf);
  await page.click("nav a[href=docs]");
  await page.waitForSelector(".opblock");
  return { page, look };
}

function lookOf() {
  const { backgroundColor, color, fontFamily } = getComputedStyle(document.body);
  return { backgroundColor, color, fontFamily };
}

test("it leads back to the playground and to each of its sections", async () => {
  const { page } = await openDocs();
  await page.click("nav a[href='./#model']");
  await page.waitForSelector("#model-facts");
  assert.equal(new URL(page.url()).hash, "#model");
  await page.goBack();
  await page.click(".brand");
  await page.waitForSelector("#work:not([hidden])");
  assert.equal(page.url(), service.address);
  assert.deepEqual(page.said, []);
});

for (const colorScheme of ["light", "dark"]) {
  test(`${colorScheme}: it has the playground's colours and type, and axe has no serious finding`, async () => {
    const { page, look } = await openDocs({ colorScheme });
    assert.deepEqual(await page.evaluate(lookOf), look);
    const shown = await page.$eval("#swagger-ui .info .title", (title) => getComputedStyle(title).color);
    assert.equal(shown, look.color);
    await page.evaluate(await readFile(AXE, "utf8"));
    // A button within a button is how Swagger UI builds its operations.
    const { violations } = await page.evaluate(() =>
      globalThis.axe.run({ rules: { "nested-interactive": { enabled: false } } }),
    );
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target)}`), []);
    await page.context().close();
  });
}
