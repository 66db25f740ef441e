// A page in Chromium: what it asks of others, what it complains of, its screens and what axe-core finds on them.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

// use: takes {page, screens, found}; `found` is printed as JSON, with what the use adds to it
export async function visit([modules, chromium, url, out], use) {
  const require = createRequire(join(resolve(modules), "package.json"));
  const puppeteer = require("puppeteer-core");
  const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
  try {
    const page = await browser.newPage();
    const found = { requests: [], complaints: [], violations: [], overflows: [] };
    page.on("request", (request) => request.url().startsWith(url) || found.requests.push(request.url()));
    page.on("console", (message) => message.type() === "error" && found.complaints.push(message.text()));
    page.on("pageerror", (error) => found.complaints.push(String(error)));
    const screens = async (name) => {
      for (const width of [1280, 400]) {
        for (const scheme of ["light", "dark"]) {
          await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
          await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
          found.overflows.push(await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth));
          await page.screenshot({ path: join(out, `${name}-${width}-${scheme}.png`) });
          await page.evaluate(axe);
          const seen = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
          found.violations.push(...seen.violations.map(({ id, impact, nodes }) => `${impact} ${id} ${nodes[0].html}`));
        }
      }
      await page.setViewport({ width: 1280, height: 900, deviceScaleFactor: 1 });
    };
    await use({ page, screens, found });
    console.log(JSON.stringify(found));
  } finally {
    await browser.close();
  }
}
