// Prompts and their versions.

import { api, count, dateTime, el, show } from "./dom.js";

export async function showPrompts(name) {
  const { prompts } = await api("GET", "/api/prompts");
  draw(prompts.map((prompt) => [prompt, `version ${prompt.version}`]), name);
  if (name) return showPrompt(name);
  show("prompt", el("p", { class: "empty" }, "Choose a prompt to see its versions."));
}

export function showFoundPrompts(words, found) {
  draw(found.map((prompt) => [prompt, `version ${prompt.version}`]), null);
  show("prompt", el("p", { class: "empty" }, `${count(found.length, "version")} of prompts with “${words}”.`));
}

function draw(prompts, chosen) {
  show("prompts", prompts.map(([prompt, state]) => el("li", {},
    el("a", { href: `#/prompts/${prompt.name}`, class: prompt.name === chosen ? "here" : null },
      el("span", { class: "title" }, prompt.name), el("span", { class: "figure" }, state),
      el("span", { class: "quiet" }, prompt.body.slice(0, 120))))));
  if (!prompts.length) show("prompts", el("li", { class: "empty" }, "No prompts yet."));
}

async function showPrompt(name) {
  const { versions } = await api("GET", `/api/prompts/${encodeURIComponent(name)}/versions`);
  show("prompt", el("h2", {}, name),
    el("p", { class: "quiet" }, count(versions.length, "version")),
    editor(versions[0].body, "Add version", async (body, comment) => {
      await api("POST", `/api/prompts/${encodeURIComponent(name)}/versions`, { body, comment });
      await showPrompts(name);
    }),
    versions.map((version) => el("div", { class: "version" },
      el("div", { class: "row" }, el("b", {}, `Version ${version.version}`),
        el("span", { class: "quiet" }, dateTime(version.created_at))),
      version.comment ? el("p", { class: "quiet" }, version.comment) : null,
      el("pre", {}, version.body))));
}

export function newPrompt() {
  const name = el("input", { required: true, pattern: "[A-Za-z0-9._\\-]+", placeholder: "answer-question" });
  show("prompt", el("h2", {}, "New prompt"),
    editor("", "Create prompt", async (body, comment) => {
      await api("POST", "/api/prompts", { name: name.value, body, comment });
      location.hash = `#/prompts/${name.value}`;
    }, el("label", {}, "Name", name)));
  name.focus();
}

function editor(text, action, save, first) {
  const body = el("textarea", { required: true, spellcheck: "false" });
  body.value = text;
  const comment = el("input", { placeholder: "What changed, and why" });
  const failure = el("p", { class: "failure", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    await save(body.value, comment.value).catch((error) => failure.replaceChildren(error.message));
  };
  return el("form", { class: "stack", onsubmit: submit }, first,
    el("label", {}, "Text", body), el("label", {}, "Comment", comment),
    el("div", { class: "row" }, el("button", { class: "primary" }, action), failure));
}
