"use strict";
// Shows a pair, sends a vote, shows the next. Texts are set as text: whatever an answer holds, none of it is markup.
const KEYS = { ArrowLeft: "left", ArrowRight: "right", t: "tie", b: "both_bad" };
const one = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-vote]")];
let shown = null; // what the server showed last
let last = null; // number of the pair that was voted on before
let waiting = false;

async function ask(path, body) {
  if (waiting) return;
  waiting = true;
  buttons.forEach((button) => (button.disabled = true));
  try {
    const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const answer = await fetch(path, sent);
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error.message);
    if (body) last = shown.number;
    show(found);
    alarm("");
  } catch (error) {
    const reason = error instanceof TypeError ? "the server does not answer; start it again" : error.message;
    alarm(body ? `The vote was not saved: ${reason}.` : `Nothing to show: ${reason}.`);
  } finally {
    waiting = false;
    buttons.forEach((button) => (button.disabled = false));
  }
}

function alarm(text) {
  one("alarm").textContent = text;
  one("alarm").hidden = !text;
}

function show(found) {
  shown = found;
  const isPair = found.pair !== null;
  const again = isPair && found.vote ? `, pair ${found.number} once more` : "";
  one("progress").textContent = `${found.num_votes} of ${found.num_pairs} pairs voted on${again}`;
  one("bar").max = found.num_pairs;
  one("bar").value = found.num_votes;
  one("pair").hidden = one("votes").hidden = !isPair;
  one("done").hidden = isPair;
  one("back").hidden = last === null || (isPair && found.number === last);
  buttons.forEach((button) => button.setAttribute("aria-pressed", String(isPair && button.dataset.vote === found.vote)));
  if (!isPair) return;
  one("left").textContent = found.left || "(empty answer)";
  one("right").textContent = found.right || "(empty answer)";
  one("question").replaceChildren(...found.question.map((turn) => turnOf(turn, found.question.length > 1)));
  window.scrollTo(0, 0);
}

function turnOf({ role, text }, named) {
  const block = document.createElement("div");
  block.className = "turn";
  if (named) {
    const label = document.createElement("div");
    label.className = "role";
    label.textContent = role;
    block.append(label);
  }
  const body = document.createElement("pre");
  body.textContent = text;
  block.append(body);
  return block;
}

const vote = (choice) =>
  shown && shown.pair && ask("/api/votes", { pair: shown.pair, vote: choice, again: shown.vote !== null });
const back = () => !one("back").hidden && ask(`/api/pair?number=${last}`);

buttons.forEach((button) => button.addEventListener("click", () => vote(button.dataset.vote)));
one("back").addEventListener("click", back);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (KEYS[key]) vote(KEYS[key]);
  else if (key === "z") back();
  else return;
  event.preventDefault();
});
ask("/api/pair");
