// Talks through a running page by keys alone, and takes screens. test_chat_page.py calls it:
//     node chat_page.mjs MODULES CHROMIUM URL OUT
// Prints one JSON object: what was seen after each step, and what axe-core found.
import { visit } from "./browser.mjs";

const argv = process.argv.slice(2);
await visit(argv, async ({ page, screens, found }) => {
  const seen = (found.seen = {});
  const keys = page.keyboard;
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className);
  const shown = (selector) => page.evaluate((wanted) => !document.querySelector(wanted).hidden, selector);
  const cards = () =>
    page.evaluate(() =>
      [...document.querySelectorAll("section:last-of-type .answer")].map((card) => ({
        name: card.querySelector("h3").firstChild.textContent,
        digest: card.querySelector("code").textContent,
        thought: card.querySelector("details").hidden ? null : card.querySelector("summary").textContent,
        text: [...card.querySelectorAll(":scope > pre .token:not(.end), :scope > pre:not(:has(.token))")]
          .map((part) => part.textContent).join(""),
        note: card.querySelector(".note").textContent,
      })));
  const ended = () => page.waitForFunction(() => document.querySelector("#stop").hidden);
  const ask = async (question) => {
    await keys.type(question);
    await keys.press("Enter");
    await ended();
    seen[question] = await cards();
  };
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 60 && (await focused()) !== wanted; presses++) await keys.press("Tab");
    if ((await focused()) !== wanted) throw new Error(`no Tab leads to ${wanted}`);
  };
  const clear = async () => {
    await keys.down("Control");
    await keys.press("a");
    await keys.up("Control");
  };
  const key = async (text) => {
    await keys.type(text);
    await Promise.all([page.waitForResponse((answer) => answer.url().endsWith("/v1/models")), keys.press("Enter")]);
  };

  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(argv[2]);
  await page.waitForFunction(() => document.activeElement.id === "key");
  seen.locked = await page.$eval("#alarm", (one) => one.textContent);
  await screens("locked");
  await key("sk-wrong");
  await page.waitForFunction(() => document.activeElement.id === "key");
  await key("sk-page");
  await page.waitForFunction(() => document.activeElement.id === "question");
  seen.unlocked = [await shown("#alarm"), await shown("#key-form")];
  seen.kept = await page.evaluate(() => [localStorage.length, document.cookie, location.href.includes("sk-page")]);
  await screens("start");

  await ask("bird");
  await tabTo("token"); // round by the settings to the first answer
  seen.tip = await page.$eval("#tip", (one) => [...one.querySelectorAll("td")].map((cell) => cell.textContent));
  await keys.press("ArrowRight");
  await keys.press("ArrowRight");
  seen.moved = await page.evaluate(() => document.activeElement.textContent);
  seen.described = await page.evaluate(() => document.activeElement.getAttribute("aria-describedby"));
  await screens("bird");
  await keys.press("End");
  seen.end = await page.$eval("#tip", (one) => one.firstChild.textContent);
  await keys.press("Escape");
  seen.hidden = !(await shown("#tip"));
  await page.hover("section:last-of-type .answer:nth-child(2) .token:nth-child(2)");
  seen.hovered = await page.$eval("#tip b", (one) => one.textContent);
  await tabTo("question");

  await keys.type("two");
  await keys.down("Shift");
  await keys.press("Enter");
  await keys.up("Shift");
  await ask("lines");
  for (const question of ["think", "markup", "snow", "empty", "broken", "full"]) await ask(question);
  seen.title = await page.title();
  seen.markup_elements = await page.evaluate(() => document.querySelectorAll("#talk img, #talk b").length);
  await screens("many");
  await keys.type("slow");
  await keys.press("Enter");
  await page.waitForFunction(() => document.querySelector("section:last-of-type .answer > pre").textContent.includes("tick tick"));
  seen.status = await page.$eval("#status", (one) => one.textContent);
  await keys.press("Escape");
  await ended();
  seen.slow = (await cards()).map((card) => card.note.slice(0, 7));
  seen.focus = await focused();

  await tabTo("new");
  await keys.press("Enter");
  await keys.down("Shift");
  await tabTo("limit");
  await keys.up("Shift");
  await clear();
  await keys.type("5");
  await keys.down("Shift");
  await tabTo("temperature");
  await keys.up("Shift");
  await clear();
  await keys.type("0.7");
  await keys.down("Shift");
  await tabTo("system");
  await keys.up("Shift");
  await keys.type("Be brief.");
  await page.focus('[value="loud"]');
  await keys.press("Space");
  await tabTo("question");
  await ask("last");

  await page.setViewport({ width: 400, height: 800 }); // the same tab still has the key
  await page.reload();
  await page.waitForFunction(() => document.activeElement.id === "question");
  seen.open = await page.$eval("#settings", (one) => one.open);
  await ask("phone");
  await page.tap(".answer .token");
  await screens("phone");

  await page.evaluate(() => {
    document.querySelector("#settings").open = true;
    showModels([...Array(100).keys()].map((n) => ({ id: `m${n}`, parent: n ? "m0" : null, digest: "d".repeat(64) })));
  });
  seen.chosen = await page.evaluate(() => chosenModels());
  await page.focus("#filter");
  await keys.type("M9");
  seen.filtered = await page.$$eval("#models label", (all) => all.filter((one) => !one.hidden).map((one) => one.querySelector("input").value));
  await screens("hundred");
});
