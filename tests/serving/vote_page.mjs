// Votes on a running page by keys and by clicks, and takes screens. test_vote_page.py calls it:
//     node vote_page.mjs MODULES CHROMIUM URL OUT
// Prints one JSON object: what was seen after each step, and what axe-core found.
import { visit } from "./browser.mjs";

const argv = process.argv.slice(2);
await visit(argv, async ({ page, screens, found }) => {
  found.seen = [];
  const text = (selector) => page.$eval(selector, (one) => one.textContent);
  const after = async (act) => {
    await Promise.all([page.waitForResponse((answer) => answer.url().includes("/api/")), act()]);
    await page.waitForFunction(() => !document.querySelector("[data-vote]").disabled);
    found.seen.push({ progress: await text("#progress"), left: await text("#left"), right: await text("#right") });
  };
  await after(() => page.goto(argv[2]));
  await screens("pair");
  await after(() => page.keyboard.press("ArrowLeft"));
  await after(() => page.click('[data-vote="right"]'));
  await after(() => page.keyboard.press("z"));
  await after(() => page.keyboard.press("t"));
  await after(() => page.keyboard.press("b"));
  await screens("last");
  await after(() => page.keyboard.press("ArrowRight"));
  await screens("done");
});
