"use strict";
// Asks /v1/chat/completions and shows the answers as they come. Texts are set as text: none of an answer is markup.
const one = (id) => document.getElementById(id);
const KEY = "ftkit-key"; // in this tab's own storage
const NUM_TOP = 5;
const OPENS = "<think>", CLOSES = "</think>";
const SHOWN_WITHOUT_FILTER = 8;
let turns = []; // {question, answers: {model: text}}
let running = null; // what stops the answers that are coming

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function alarm(text) {
  one("alarm").textContent = text;
  one("alarm").hidden = !text;
}

// The server

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { ...options, headers });
  one("key-form").hidden = one("key-form").hidden && answer.status !== 401;
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Error(answer.status === 401 ? "this server asks for a key" : body.error?.message || `status ${answer.status}`);
}

function reasonOf(error) {
  return error instanceof TypeError ? "the server does not answer; start it again" : error.message.replace(/\.$/, "");
}

async function loadModels() {
  try {
    const { data } = await (await ask("/v1/models")).json();
    showModels(data);
    alarm("");
    one("key-form").hidden = true;
    one("question").focus();
  } catch (error) {
    one("about").textContent = "";
    alarm(`Nobody to ask: ${reasonOf(error)}.`);
    if (!one("key-form").hidden) one("key").focus();
  }
}

function showModels(models) {
  const adapters = models.filter((model) => model.parent);
  const chosen = new Set((models.length <= 3 ? models : [models[0], adapters[0] || models[1]]).map((model) => model.id));
  one("about").textContent = adapters.length
    ? `${models.length - adapters.length === 1 ? "the base" : "bases"} and ${adapters.length} adapter${adapters.length > 1 ? "s" : ""}`
    : models.map((model) => model.id).join(", ");
  one("filter").hidden = models.length <= SHOWN_WITHOUT_FILTER;
  one("models").replaceChildren(...models.map(({ id, digest }) => {
    const box = make("input", { type: "checkbox", name: "model", value: id, checked: chosen.has(id) });
    const short = digest ? [make("code", { textContent: digest.slice(0, 16), title: digest })] : [];
    return make("label", { className: "check" }, box, id, ...short);
  }));
}

const chosenModels = () => [...document.querySelectorAll('[name="model"]:checked')].map((box) => box.value);

// The conversation, as each model would have been asked it: its own answers, and others' where it has none

function messagesFor(model, question) {
  const system = one("system").value.trim();
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns) {
    const answer = turn.answers[model] ?? Object.values(turn.answers)[0];
    if (answer === undefined) continue;
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: answer });
  }
  return [...messages, { role: "user", content: question }];
}

async function send() {
  const question = one("question").value.trim(), models = chosenModels();
  if (running || !question) return;
  const conversation = turns;
  if (!models.length) return alarm("Choose who answers, in Settings.");
  alarm("");
  running = new AbortController();
  one("question").value = "";
  one("hint").hidden = one("send").hidden = true;
  one("stop").hidden = false;
  one("status").textContent = `Waiting for ${models.join(", ")}`;
  const cards = models.map(cardOf);
  const grid = make("div", { className: "answers" }, ...cards.map((card) => card.root));
  one("talk").append(make("section", {}, make("h2", { className: "question", textContent: question }), grid));
  const form = { temperature: Number(one("temperature").value) || 0, max_tokens: Number(one("limit").value) || 256 };
  const bodies = models.map((model) => ({ model, messages: messagesFor(model, question), ...form }));
  scrollDown(true);
  const texts = await Promise.all(cards.map((card, place) => answer(card, bodies[place], running.signal)));
  const answers = Object.fromEntries(models.map((model, place) => [model, texts[place]]).filter(([, text]) => text !== null));
  nameEquals(cards, texts);
  conversation.push({ question, answers });
  running = null;
  one("send").hidden = false;
  one("stop").hidden = true;
  const answered = Object.keys(answers).join(", ");
  one("status").textContent = answered ? `Answered: ${answered}` : "No answer";
  scrollDown();
}

// The answer's text, or null where there is none; the card shows why
async function answer(card, body, signal) {
  const found = { text: "", tokens: [], reason: null, started: performance.now() };
  try {
    const reply = await ask("/v1/chat/completions", {
      method: "POST", signal, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, stream: true, logprobs: true, top_logprobs: NUM_TOP }),
    });
    for await (const part of events(reply.body)) {
      if (part.error) throw new Error(part.error.message || "the answer broke off");
      if (part.sources) showSources(card, part.sources);
      if (part.system_fingerprint) card.digest.textContent = part.system_fingerprint;
      const choice = part.choices?.[0];
      if (!choice) continue;
      found.text += choice.delta?.content || "";
      found.tokens.push(...(choice.logprobs?.content || []));
      found.reason = choice.finish_reason || found.reason;
      showText(card, found.text);
      scrollDown();
    }
    if (!found.reason) throw new Error("the answer broke off");
  } catch (error) {
    if (!signal.aborted) {
      card.note.textContent = `No whole answer: ${reasonOf(error)}.`;
      showTokens(card, found);
      return found.text || null;
    }
    found.reason = "stopped";
  }
  showTokens(card, found);
  card.note.textContent = noteOf(found);
  card.isWhole = found.reason !== "stopped";
  return found.reason === "stopped" && !found.text ? null : found.text;
}

async function* events(stream) {
  const decoder = new TextDecoder(), reader = stream.getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    held += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const blocks = held.split("\n\n");
    held = done ? "" : blocks.pop();
    for (const line of blocks.flatMap((block) => block.split("\n"))) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
    if (done) return;
  }
}

function noteOf({ text, tokens, reason, started }) {
  const seconds = (performance.now() - started) / 1000;
  const ended = { length: "cut at the limit, ", stopped: "stopped, " }[reason] || "";
  const num = `${tokens.length} token${tokens.length === 1 ? "" : "s"}`;
  return `${text ? "" : "empty answer, "}${ended}${num} in ${seconds.toFixed(1)} s`;
}

function nameEquals(cards, texts) {
  for (const [place, text] of texts.entries()) {
    const first = texts.findIndex((other, number) => other === text && cards[number].isWhole);
    if (text && cards[place].isWhole && first < place) cards[place].note.textContent += `; the same text as ${cards[first].name}`;
  }
}

// A card

function cardOf(name) {
  const digest = make("code"), note = make("p", { className: "note", textContent: "…" });
  const thought = make("pre", { className: "thought" }), words = make("summary", { textContent: "Thought" });
  const folded = make("details", { hidden: true }, words, thought);
  const text = make("pre");
  const sources = make("ol", { hidden: true, className: "sources" });
  const root = make("article", { className: "answer" }, make("h3", {}, name, digest), folded, text, sources, note);
  root.setAttribute("aria-label", `Answer of ${name}`);
  return { name, root, digest, note, thought, words, folded, text, sources };
}

function showSources(card, sources) {
  card.sources.hidden = !sources.length;
  card.sources.replaceChildren(...sources.map(({ source, heading, text }) => {
    const name = make("summary", { textContent: heading ? `${source}: ${heading}` : source });
    return make("li", {}, make("details", {}, name, make("pre", { textContent: text })));
  }));
}

function thoughtEnd(text) {
  if (!text.trimStart().startsWith(OPENS)) return 0;
  const end = text.indexOf(CLOSES);
  return end < 0 ? text.length : end + CLOSES.length;
}

function showText(card, text) {
  const end = thoughtEnd(text);
  showThought(card, text.slice(0, end));
  card.thought.textContent = text.slice(0, end);
  card.text.textContent = text.slice(end).trimStart();
}

function showThought(card, thought) {
  card.folded.hidden = !thought;
  const words = thought.replace(OPENS, "").replace(CLOSES, "").split(/\s+/).filter(Boolean).length;
  card.words.textContent = `Thought, ${words} word${words === 1 ? "" : "s"}`;
}

function showTokens(card, { text, tokens }) {
  const end = thoughtEnd(text), placed = placedTokens(text, tokens);
  if (!placed.length) return showText(card, text);
  const body = text.slice(end), start = end ? end + body.length - body.trimStart().length : 0;
  card.thought.replaceChildren(...placed.filter((part) => part.start < end).map(tokenOf));
  card.text.replaceChildren(...placed.filter((part) => part.start >= start).map(tokenOf));
  for (const box of [card.thought, card.text]) box.querySelector(".token")?.setAttribute("tabindex", "0");
}

// Parts of the text, each with its tokens: several where a character is made of more than one
function placedTokens(text, tokens) {
  const parts = [];
  let place = 0, waiting = [];
  for (const token of tokens) {
    const piece = place || waiting.length ? token.token : token.token.trimStart();
    const found = piece && !piece.includes("\ufffd") ? text.indexOf(piece, place) : -1;
    const isNext = found === place || (found > place && waiting.length && found - place <= 4 * waiting.length);
    if (!isNext) {
      waiting.push(token);
      continue;
    }
    if (waiting.length) parts.push({ start: place, text: text.slice(place, found), tokens: waiting });
    parts.push({ start: found, text: piece, tokens: [token] });
    [place, waiting] = [found + piece.length, []];
  }
  if (place < text.length) parts.push({ start: place, text: text.slice(place), tokens: waiting });
  else if (waiting.length) parts.push({ start: place, text: waiting.at(-1).token.trim() || "end", tokens: waiting, isEnd: true });
  return parts.filter((part) => part.tokens.length);
}

function tokenOf({ text, tokens, isEnd }) {
  const span = make("span", { className: isEnd ? "token end" : "token", textContent: text, tabIndex: -1 });
  span.style.setProperty("--doubt", (1 - Math.exp(Math.min(...tokens.map((token) => token.logprob)))).toFixed(3));
  span.tokens = tokens;
  span.isEnd = isEnd;
  return span;
}

// The probability of a token, by pointer or by keys

const percent = (logprob) => `${(100 * Math.exp(logprob)).toFixed(1)} %`;

function showTip(span) {
  const tip = one("tip");
  const rows = span.tokens.map(({ token, logprob }) => [JSON.stringify(token), percent(logprob), "b"]);
  const [only] = span.tokens;
  const others = span.tokens.length === 1 ? (only.top_logprobs || []).filter(({ token }) => token !== only.token) : [];
  rows.push(...others.map(({ token, logprob }) => [JSON.stringify(token), percent(logprob), "span"]));
  const lines = rows.map(([token, share, tag]) =>
    make("tr", {}, make("td", {}, make(tag, { textContent: token })), make("td", { className: "number", textContent: share })));
  tip.replaceChildren(...(span.isEnd ? [make("div", { textContent: "the answer ends" })] : []), make("table", {}, make("tbody", {}, ...lines)));
  tip.hidden = false;
  placeTip(span, tip);
  document.querySelector('[aria-describedby="tip"]')?.removeAttribute("aria-describedby");
  span.setAttribute("aria-describedby", "tip");
}

function placeTip(span, tip) {
  const [box, size] = [span.getClientRects()[0] || span.getBoundingClientRect(), tip.getBoundingClientRect()];
  const below = box.bottom + 6 + size.height < window.innerHeight;
  tip.style.top = `${Math.max(4, below ? box.bottom + 6 : box.top - size.height - 6)}px`;
  tip.style.left = `${Math.max(8, Math.min(box.left, window.innerWidth - size.width - 8))}px`;
}

function hideTip() {
  one("tip").hidden = true;
  document.querySelector('[aria-describedby="tip"]')?.removeAttribute("aria-describedby");
}

function moveTo(span) {
  if (!span?.classList.contains("token")) return;
  for (const other of span.parentElement.children) other.tabIndex = -1;
  span.tabIndex = 0;
  span.focus();
}

const STEPS = {
  ArrowRight: (span) => span.nextElementSibling,
  ArrowLeft: (span) => span.previousElementSibling,
  Home: (span) => span.parentElement.firstElementChild,
  End: (span) => span.parentElement.lastElementChild,
};

const tokenAt = (event) => (event.target instanceof Element ? event.target.closest(".token") : null);
for (const [name, act] of [["pointerover", showTip], ["focusin", showTip], ["pointerout", hideTip], ["focusout", hideTip]])
  one("talk").addEventListener(name, (event) => tokenAt(event) && act(tokenAt(event)));
one("talk").addEventListener("keydown", (event) => {
  const span = tokenAt(event);
  if (!span || !STEPS[event.key]) return;
  event.preventDefault();
  moveTo(STEPS[event.key](span));
});
for (const name of ["scroll", "resize"])
  window.addEventListener(name, () => {
    const span = document.querySelector('[aria-describedby="tip"]');
    if (span) placeTip(span, one("tip"));
  }, { passive: true });

// The page

function scrollDown(always = false) {
  const left = document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
  if (always || left < 160) window.scrollTo(0, document.documentElement.scrollHeight);
}

one("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
one("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
one("stop").addEventListener("click", () => {
  running?.abort();
  one("question").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!one("tip").hidden) hideTip();
  else running?.abort();
});
one("new").addEventListener("click", () => {
  running?.abort();
  turns = [];
  one("talk").replaceChildren(one("hint"));
  one("hint").hidden = false;
  one("status").textContent = "A new conversation";
  one("question").focus();
});
one("shade").addEventListener("change", () => one("talk").classList.toggle("shaded", one("shade").checked));
one("filter").addEventListener("input", () => {
  const wanted = one("filter").value.trim().toLowerCase();
  for (const label of one("models").children) label.hidden = !label.textContent.toLowerCase().includes(wanted);
});
one("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, one("key").value.trim());
  one("key").value = "";
  loadModels();
});
one("talk").classList.add("shaded");
one("settings").open = window.matchMedia("(min-width: 761px)").matches;
loadModels();
