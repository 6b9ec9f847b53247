// The pictures of the page in docs/images, taken anew:
//
//   node tests/browser/screenshots.mjs http://localhost:8000/ docs/images

import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { openPage, startBrowser } from "./harness.mjs";

const [address, folder] = process.argv.slice(2);
if (!folder) throw new Error("usage: screenshots.mjs ADDRESS FOLDER");

const browser = await startBrowser();

async function shoot(name, options, prepare) {
  const page = await openPage(browser, address, options);
  await prepare(page);
  await page.waitForTimeout(500);
  // WebP, by the browser itself: a tenth of the PNG.
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 88 });
  await writeFile(join(folder, `${name}.webp`), Buffer.from(data, "base64"));
  await page.context().close();
}

const open = (name) => async (page) => {
  await page.click(`[data-sample="${name}.webp"]`);
  await page.waitForSelector("#work:not([hidden])");
};

const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true };

await shoot("playground", {}, open("otter"));
await shoot("playground-dark", { colorScheme: "dark" }, open("colosseum"));
await shoot("playground-phone", { ...phone, hasTouch: true }, open("lake"));
await shoot("playground-labels", {}, async (page) => {
  await open("otter")(page);
  await page.waitForSelector("#label-bars li");
  await page.check("#map-shown");
  await page.locator("#labels").evaluate((section) => section.scrollIntoView({ block: "end" }));
});
await shoot("playground-compare", {}, async (page) => {
  await page.click("#compare-samples");
  await page.waitForSelector("#matrix table");
  await page.locator("#compare").evaluate((section) => section.scrollIntoView());
});
await browser.close();
