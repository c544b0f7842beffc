"use strict";
// Keeps a page as the server draws it, and a log at its end.  Everything works without, by loading the page again.

const live = document.getElementById("live");
const lost = document.getElementById("lost");
const lines = document.getElementById("lines");
const MOST_LINES = 2000;

// ---- times ----------------------------------------------------------------------------------------------------------

function span(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

function showTimes() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const at = new Date(time.dateTime);
    const passed = (now - at) / 1000;
    const text = Math.abs(passed) < 1 ? "now" : passed > 0 ? `${span(passed)} ago` : `in ${span(-passed)}`;
    if (time.textContent !== text) time.textContent = text;
    const title = at.toLocaleString();
    if (time.title !== title) time.title = title;
  }
}

// ---- a page that changes --------------------------------------------------------------------------------------------

const KEPT = new Set(["open", "value", "checked", "aria-pressed", "hidden"]);  // what the reader has done stays
const keyOf = (node) => node.nodeType === 1 ? node.id || node.dataset.key || "" : "";

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function morph(now, next) {
  if (now.nodeType === 3) {
    if (now.data !== next.data) now.data = next.data;
    return;
  }
  if (now.nodeType !== 1 || now.isEqualNode(next)) return;
  for (const { name, value } of [...next.attributes]) {
    if (now.getAttribute(name) !== value && !(KEPT.has(name) && now.nodeName !== "OPTION")) now.setAttribute(name, value);
  }
  for (const { name } of [...now.attributes]) {
    if (!next.hasAttribute(name) && !KEPT.has(name)) now.removeAttribute(name);
  }
  const keyed = new Map([...now.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
  let at = now.firstChild;
  for (const wanted of [...next.childNodes]) {
    let found = keyOf(wanted) ? keyed.get(keyOf(wanted)) : at;
    if (found && alike(found, wanted)) {
      if (found !== at) now.insertBefore(found, at);
      else at = at.nextSibling;
      morph(found, wanted);
    } else {
      now.insertBefore(wanted, at);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function showPage(html) {
  const next = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  if (!next) return;
  document.title = next.dataset.title;
  const tells = document.getElementById("tells");
  if (tells.dataset.last !== undefined && tells.dataset.last !== next.dataset.tells) tells.textContent = next.dataset.tells;
  tells.dataset.last = next.dataset.tells;
  const wrapper = document.createElement("div");
  wrapper.id = "live";
  wrapper.append(...next.childNodes);
  morph(live, wrapper);
  showTimes();
  filterAll();
}

function follow() {
  const source = new EventSource(location.pathname + location.search);
  source.addEventListener("open", () => { lost.hidden = true; });
  source.addEventListener("error", () => {
    lost.hidden = false;
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 3000);
  });
  source.addEventListener("page", (event) => showPage(event.data));
  if (!lines) return;
  source.addEventListener("anew", () => { anew = true; held = []; });
  source.addEventListener("lines", (event) => addLines(event.data));
  source.addEventListener("missed", (event) => addLines(`<li class="gap">… ${Number(event.data)} lines were too fast for this browser …</li>`));
  source.addEventListener("trouble", (event) => {
    const trouble = document.getElementById("trouble");
    trouble.hidden = !event.data;
    trouble.textContent = event.data;
  });
}

async function again() {
  try {
    const answer = await fetch(location.href, { redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.status === 401) location.reload();  // the login is over
  } catch { /* still away */ }
  follow();
}

// ---- a log ----------------------------------------------------------------------------------------------------------

const log = document.getElementById("log");
const pause = document.getElementById("pause");
let anew = false;  // what comes next is all that there is
let held = [];

function addLines(html) {
  if (pause.getAttribute("aria-pressed") === "true") {
    held.push(html);
    if (held.length > 400) held.shift();
    return;
  }
  const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 60;
  const template = document.createElement("template");
  template.innerHTML = html;
  if (anew) lines.textContent = "";
  anew = false;
  filter(template.content.children, words("#lines"));
  lines.append(template.content);
  while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (!paused) held.splice(0).forEach(addLines);
  });
  log.scrollTop = log.scrollHeight;
}

// ---- filters --------------------------------------------------------------------------------------------------------

function words(target) {
  const input = document.querySelector(`[data-filter^="${target}"]`);
  return input ? input.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
}

function filter(items, wanted) {
  for (const item of items) {
    const text = wanted.length ? item.textContent.toLowerCase() : "";
    item.hidden = !wanted.every((word) => text.includes(word));
  }
}

function filterAll() {
  for (const input of document.querySelectorAll("[data-filter]")) {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const target = input.dataset.filter;
    filter(document.querySelectorAll(target.includes(" ") ? target : `${target} > *`), wanted);
  }
}

document.addEventListener("input", (event) => { if (event.target.matches("[data-filter]")) filterAll(); });
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const input = document.querySelector("[data-filter]");
    if (input) { event.preventDefault(); input.focus(); }
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
    if (typing && event.target.matches("[data-filter]")) { event.target.value = ""; filterAll(); event.target.blur(); }
  }
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

if (location.search.includes("notice=")) {  // it is shown once
  const address = new URL(location);
  address.searchParams.delete("notice");
  history.replaceState(null, "", address);
}
showTimes();
filterAll();
setInterval(showTimes, 5000);
if (document.body.hasAttribute("data-live")) follow();
