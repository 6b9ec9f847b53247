// Two versions of one model in the playground: tiny@1, and tiny@2 with recognizers.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { openPage, openSample, serve, startBrowser } from "./harness.mjs";

const [browser, service] = await Promise.all([
  startBrowser(),
  serve({}, "bundles/tiny", "recognizing/tiny"),
]);
after(async () => {
  await browser.close();
  await service.stop();
});

test("an older version can be chosen, and everything asked is asked of it", async () => {
  const page = await openPage(browser, service.address);
  const names = await page.locator("#model-select option").allInnerTexts();
  assert.deepEqual(names, ["tiny", "tiny@1"]);
  assert.match(await page.locator("#model-facts").innerText(), /version 2/);

  await page.selectOption("#model-select", { label: "tiny@1" });
  assert.match(await page.locator("#model-facts").innerText(), /version 1/);

  const asked = [];
  page.on("request", (request) => asked.push(decodeURIComponent(request.url())));
  await openSample(page, "colosseum");
  for (const operation of ["encode", "reconstruct"]) {
    assert.ok(asked.some((url) => url.includes(`v1/${operation}?model=tiny@1`)), asked.join("\n"));
  }
  assert.ok(!asked.some((url) => url.includes("tiny@2")), asked.join("\n"));
  assert.ok(await page.isHidden("#labels"), "version 1 has no recognizer");
  assert.deepEqual(page.said, []);
});
