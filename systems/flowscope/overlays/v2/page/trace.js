// One trace: its figures, its texts, its spans as bars in time, and what people noted on it.

import { api, count, dateTime, duration, el, show } from "./dom.js";

const KINDS = ["llm", "tool", "retrieval", "chain"];

export async function showTrace(id) {
  const path = `/api/traces/${encodeURIComponent(id)}`;
  const [trace, { notes }] = await Promise.all([api("GET", path), api("GET", `${path}/notes`)]);
  show("trace",
    el("h2", {}, trace.name),
    facts(trace),
    trace.error && el("p", { class: "notice" }, trace.error),
    trace.count > 1 && el("p", { class: "notice" }, `${trace.count} traces arrived with this id; this is the first.`),
    spanTree(trace),
    texts(trace),
    noteList(notes, path, id));
}

function noteList(notes, path, id) {
  const body = el("input", { required: true, placeholder: "Add a note", "aria-label": "Note", style: { flex: "1" } });
  const add = async (event) => {
    event.preventDefault();
    await api("POST", `${path}/notes`, { body: body.value });
    await showTrace(id);
  };
  return [el("h3", {}, "Notes"),
    notes.map((note) => el("div", { class: "version" },
      el("div", { class: "row" }, el("b", {}, note.author), el("span", { class: "quiet" }, dateTime(note.created_at))),
      el("p", {}, note.body))),
    el("form", { class: "row stack", onsubmit: add, style: { display: "flex" } }, body,
      el("button", { class: "primary" }, "Add note"))];
}

export function noTrace() {
  show("trace", el("p", { class: "empty" }, "Choose a trace to see its spans."));
}

function facts(trace) {
  const fact = (name, value) => el("div", {}, el("span", {}, name), el("b", {}, value));
  return el("div", { class: "facts" },
    fact("Application", trace.app), fact("Duration", duration(trace.duration_ms)),
    fact("Tokens", trace.tokens.toLocaleString("en")), fact("Started", dateTime(trace.started_at)),
    fact("Id", trace.id));
}

function texts(part) {
  return [["Input", part.input], ["Output", part.output]]
    .filter(([, text]) => text)
    .flatMap(([name, text]) => [el("h3", {}, name), el("pre", {}, text)]);
}

function spanTree(trace) {
  if (!trace.spans.length) return el("p", { class: "empty" }, "This trace has no spans.");
  const whole = Math.max(trace.duration_ms, 0.001);
  const rows = [];
  const visit = (span, depth) => {
    rows.push(spanRow(span, depth, whole));
    span.children.forEach((child) => visit(child, depth + 1));
  };
  trace.spans.forEach((span) => visit(span, 0));
  return [el("h3", {}, count(rows.length, "span")), el("div", { class: "spans" }, rows)];
}

function spanRow(span, depth, whole) {
  const kind = KINDS.includes(span.kind) ? `k-${span.kind}` : "";
  const share = (ms) => `${Math.min(100, (ms / whole) * 100)}%`;
  const bar = el("i", { class: span.error ? "failed" : kind,
    style: { left: share(span.start_ms), width: share(Math.min(span.duration_ms, whole - span.start_ms)) } });
  return el("details", { class: "span" },
    el("summary", {},
      el("span", { class: "name", style: { paddingLeft: `${depth * 16}px` } },
        el("b", { title: span.name }, span.name),
        span.kind ? el("span", { class: `kind ${kind}` }, span.kind) : null),
      el("span", { class: "track" }, bar),
      el("span", { class: span.error ? "took failure" : "took" }, duration(span.duration_ms))),
    el("div", { class: "inside" }, inside(span)));
}

function inside(span) {
  const shown = [
    el("p", { class: "quiet" }, `from ${duration(span.start_ms)}, ${count(span.tokens, "token")}`),
    span.error ? el("p", { class: "notice" }, span.error) : null,
  ];
  return shown.concat(texts(span));
}
