// The pictures of the page in docs/pictures, taken anew from a service with the default model:
//
//   node tests/browser/screenshots.mjs http://localhost:8000/ docs/pictures [NAME …]
//
// Without names all are taken. That of surprise needs a model with a prior.

import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { openPage, openSample, startBrowser } from "./harness.mjs";

const [address, folder, ...names] = process.argv.slice(2);
if (!folder) throw new Error("usage: screenshots.mjs ADDRESS FOLDER [NAME ...]");

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const browser = await startBrowser();

async function shoot(name, options, prepare, quality = 86) {
  if (names.length && !names.includes(name)) return;
  const page = await openPage(browser, address, options);
  await prepare(page);
  await page.waitForTimeout(5000); // scrolling is smooth, and the patches of the codes come last
  // WebP, by the browser itself: a tenth of the PNG.
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality });
  await writeFile(join(folder, `${name}.webp`), Buffer.from(data, "base64"));
  await page.context().close();
}

const toTop = (page) => page.evaluate(() => scrollTo({ top: 0, behavior: "instant" }));

await shoot("playground", {}, toTop);
await shoot("playground-dark", { colorScheme: "dark" }, async (page) => {
  await openSample(page, "colosseum");
  await toTop(page);
});
await shoot("playground-phone", PHONE, toTop);
await shoot("playground-labels", { viewport: { width: 1280, height: 1420 } }, async (page) => {
  await openSample(page, "otter");
  await page.click("#labels summary");
  await page.waitForSelector("#label-bars li");
  await page.check("#map-shown");
  await page.locator("#picture").evaluate((section) => section.scrollIntoView());
});
await shoot("playground-surprise", { viewport: { width: 1280, height: 780 } }, async (page) => {
  await openSample(page, "colosseum");
  await page.check("#surprise-shown");
  await page.waitForSelector("#surprise-legend:not([hidden])");
  await page.locator("#picture").evaluate((section) => section.scrollIntoView());
}, 60);
await shoot("playground-compare", {}, async (page) => {
  await page.click("#compare-samples");
  await page.waitForSelector("#matrix table");
  await page.locator("#compare").evaluate((section) => section.scrollIntoView());
});
await shoot("playground-refusal", {}, async (page) => {
  await page.locator("#picture").evaluate((section) => section.scrollIntoView());
  const buffer = Buffer.from("not a picture");
  await page.setInputFiles("#file", { name: "notes.txt", mimeType: "text/plain", buffer });
  await page.waitForFunction(() => document.querySelector("#message").textContent);
});
await shoot("playground-docs", {}, async (page) => {
  await page.click("nav a[href=docs]");
  await page.waitForSelector(".opblock");
});
await browser.close();
