import { chromium } from "playwright-core";
const base = process.env.BASE ?? "http://127.0.0.1:8321/";
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox","--disable-gpu","--disable-quic","--no-first-run","--disable-background-networking","--disable-component-update","--disable-sync"] });
const log = (page) => { page.on("console", m => console.log("console", m.type(), m.text())); page.on("pageerror", e => console.log("pageerror", e.message)); };
for (const [name, options] of [["light", {viewport:{width:1280,height:900}}], ["dark",{viewport:{width:1280,height:900}, colorScheme:"dark"}], ["phone",{viewport:{width:390,height:844}, deviceScaleFactor:2, isMobile:true, hasTouch:true}]]) {
  if (process.argv[2] && !process.argv[2].includes(name)) continue;
  const page = await (await browser.newContext(options)).newPage(); log(page);
  await page.goto(base);
  await page.waitForSelector('#health[data-state="ready"]');
  await page.screenshot({ path: `/tmp/shot-${name}-0.png` });
  await page.click(`[data-sample="${name==='dark'?'colosseum':'otter'}.webp"]`);
  await page.waitForSelector("#work:not([hidden])", { timeout: 60000 });
  await page.waitForTimeout(800);
  await page.screenshot({ path: `/tmp/shot-${name}-1.png` });
  await page.screenshot({ path: `/tmp/shot-${name}-full.png`, fullPage: true });
  if (name === "light") {
    await page.hover("#mosaic", { position: { x: 200, y: 200 } });
    await page.waitForTimeout(300);
    await page.screenshot({ path: `/tmp/shot-${name}-hover.png` });
    await page.click('[name=drawn][value=patches]', {force:true});
    await page.waitForTimeout(2500);
    await page.screenshot({ path: `/tmp/shot-${name}-patches.png` });
    await page.click('[name=tool][value=paint]', {force:true});
    const box = await page.locator("#mosaic").boundingBox();
    await page.mouse.move(box.x+80, box.y+80); await page.mouse.down(); await page.mouse.move(box.x+250, box.y+180, {steps: 12}); await page.mouse.up();
    await page.waitForTimeout(3000);
    await page.screenshot({ path: `/tmp/shot-${name}-paint.png` });
    await page.click("#zoom-pixels"); await page.waitForTimeout(500);
    await page.screenshot({ path: `/tmp/shot-${name}-pixels.png` });
    await page.click("#compare-samples"); await page.waitForSelector("#matrix table", {timeout: 60000});
    await page.locator("#compare").scrollIntoViewIfNeeded(); await page.waitForTimeout(500);
    await page.locator("#compare").screenshot({ path: `/tmp/shot-${name}-compare.png` });
    await page.locator("#model").screenshot({ path: `/tmp/shot-${name}-model.png` });
  }
  await page.context().close();
}
await browser.close();
