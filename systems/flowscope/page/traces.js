// The list of traces: the latest, which follows new ones, or what a search found.

import { api, count, duration, el, show, time } from "./dom.js";

const PAGE = 50;
const KEPT = 200;

const apps = new Set();
let traces = [];
let found = null;
let chosen = null;
let chosenApp = "";
let drawing = null;
const fresh = new Set();

const byId = (id) => document.getElementById(id);

export function startTraces(onApp) {
  byId("more").addEventListener("click", older);
  byId("app").addEventListener("change", async (event) => {
    chosenApp = event.target.value;
    await loadTraces();
    onApp();
  });
}

export const application = () => chosenApp;

export async function loadTraces() {
  found = null;
  await refreshTraces();
}

/** Loads the latest again; what a search found stays. */
export async function refreshTraces() {
  traces = (await page()).traces;
  learnApps(traces);
  draw();
}

const page = (before) => {
  const query = new URLSearchParams({ limit: PAGE });
  if (chosenApp) query.set("app", chosenApp);
  if (before) query.set("before", before);
  return api("GET", `/api/traces?${query}`);
};

async function older() {
  const more = (await page(traces.at(-1).seq)).traces;
  traces = traces.concat(more);
  draw();
  byId("more").hidden = more.length < PAGE;
}

/** A trace that has just arrived. */
export function arrived(trace) {
  learnApps([trace]);
  if (chosenApp && trace.app !== chosenApp) return;
  if (traces.some((known) => known.seq === trace.seq)) return;
  traces = [trace, ...traces].sort((a, b) => b.seq - a.seq).slice(0, Math.max(KEPT, traces.length));
  fresh.add(trace.seq);
  drawSoon();
}

/** Many may arrive at once: they are drawn together. */
function drawSoon() {
  if (found || drawing) return;
  drawing = setTimeout(draw, 100);
}

export function showFound(words, answer) {
  found = { words, traces: answer.traces };
  draw();
}

export function choose(id) {
  chosen = id;
  draw();
}

function draw() {
  clearTimeout(drawing);
  drawing = null;
  const shown = found ? found.traces : traces;
  show("list-title", found ? foundTitle() : "Latest traces");
  byId("app").hidden = Boolean(found);
  byId("more").hidden = Boolean(found) || shown.length < PAGE;
  show("traces", shown.map((trace) => item(trace)));
  fresh.clear();
  if (!shown.length && !found) {
    show("traces", el("li", { class: "empty" }, "No traces yet. POST one to /api/traces and it appears here."));
  }
}

function foundTitle() {
  const many = found.traces.length === PAGE ? "Latest " : "";
  return `${many}${count(found.traces.length, "trace")} with “${found.words}”`;
}

function item(trace) {
  return el("li", { class: fresh.has(trace.seq) ? "fresh" : null },
    el("a", { href: `#/traces/${trace.id}`, class: trace.id === chosen ? "here" : null },
      el("span", { class: "title" }, trace.name),
      el("span", { class: "figure" }, duration(trace.duration_ms)),
      el("span", { class: trace.error ? "quiet failure" : "quiet" },
        trace.error ? `${trace.app} · failed: ${trace.error}` : `${trace.app} · ${count(trace.tokens, "token")}`),
      el("span", { class: "quiet figure" }, time(trace.ingested_at))));
}

function learnApps(list) {
  const known = apps.size;
  list.forEach((trace) => apps.add(trace.app));
  if (apps.size === known) return;
  const options = [...apps].sort().map((app) => el("option", { value: app, selected: app === chosenApp }, app));
  byId("app").replaceChildren(el("option", { value: "" }, "All applications"), ...options);
}
