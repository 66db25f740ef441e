// Screens of HTML pages at two widths, light and dark, and what axe-core finds on them. page_checks.py calls it:
//     node page_checks.mjs MODULES CHROMIUM OUT page.html ...
// MODULES: folder in which `npm install puppeteer-core axe-core` was run. Prints one JSON object per screen.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, chromium, out, ...pages] = process.argv.slice(2);
const require = createRequire(join(resolve(modules), "package.json"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [1280, 400];
const SCHEMES = ["light", "dark"];

const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
try {
  for (const path of pages) {
    const page = await browser.newPage();
    const requests = [];
    page.on("request", (request) => request.url().startsWith("file:") || requests.push(request.url()));
    for (const width of WIDTHS) {
      for (const scheme of SCHEMES) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
        await page.goto(pathToFileURL(resolve(path)).href);
        await page.evaluate(axe);
        const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const measured = await page.evaluate(() => ({
          overflow: document.documentElement.scrollWidth - window.innerWidth,
          smallest: Math.min(
            ...[...document.querySelectorAll("body, body *")]
              .filter((one) => [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
              .map((one) => parseFloat(getComputedStyle(one).fontSize) * (one.getScreenCTM?.()?.a ?? 1)),
          ),
        }));
        const name = `${basename(path, ".html")}-${width}-${scheme}.png`;
        await page.screenshot({ path: join(out, name), fullPage: true });
        const violations = found.violations.map(({ id, impact, nodes }) => ({
          id, impact, nodes: nodes.slice(0, 3).map((node) => node.html.slice(0, 160)), count: nodes.length,
        }));
        console.log(JSON.stringify({ page: basename(path), width, scheme, requests, ...measured, violations }));
      }
    }
    await page.close();
  }
} finally {
  await browser.close();
}
