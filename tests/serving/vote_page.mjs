// Votes on a running page by keys and by clicks, and takes screens. test_vote_page.py calls it:
//     node vote_page.mjs MODULES CHROMIUM URL OUT
// Prints one JSON object: what was seen after each step, and what axe-core found.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [modules, chromium, url, out] = process.argv.slice(2);
const require = createRequire(join(resolve(modules), "package.json"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage();
  const requests = [], complaints = [], seen = [], violations = [], overflows = [];
  page.on("request", (request) => request.url().startsWith(url) || requests.push(request.url()));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  const text = (selector) => page.$eval(selector, (one) => one.textContent);
  const look = async () =>
    seen.push({ progress: await text("#progress"), left: await text("#left"), right: await text("#right") });
  const after = async (act) => {
    await Promise.all([page.waitForResponse((answer) => answer.url().includes("/api/")), act()]);
    await page.waitForFunction(() => !document.querySelector("[data-vote]").disabled);
    await look();
  };
  const screens = async (name) => {
    for (const width of [1280, 400]) {
      for (const scheme of ["light", "dark"]) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
        overflows.push(await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth));
        await page.screenshot({ path: join(out, `${name}-${width}-${scheme}.png`) });
        await page.evaluate(axe);
        const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        violations.push(...found.violations.map(({ id, impact, nodes }) => `${impact} ${id} ${nodes[0].html}`));
      }
    }
  };
  await after(() => page.goto(url));
  await screens("pair");
  await after(() => page.keyboard.press("ArrowLeft"));
  await after(() => page.click('[data-vote="right"]'));
  await after(() => page.keyboard.press("z"));
  await after(() => page.keyboard.press("t"));
  await after(() => page.keyboard.press("b"));
  await screens("last");
  await after(() => page.keyboard.press("ArrowRight"));
  await screens("done");
  console.log(JSON.stringify({ requests, complaints, seen, violations, overflows }));
} finally {
  await browser.close();
}
