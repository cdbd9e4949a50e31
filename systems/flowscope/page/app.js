// The page: who is signed in, which view is shown, and the live connection.

import { refreshChart } from "./chart.js";
import { api } from "./dom.js";
import { newPrompt, showFoundPrompts, showPrompts } from "./prompts.js";
import { noTrace, showTrace } from "./trace.js";
import { application, arrived, choose, loadTraces, refreshTraces, showFound, startTraces } from "./traces.js";

const byId = (id) => document.getElementById(id);
let socket = null;
let signedIn = false;

function showSignIn() {
  signedIn = false;
  socket?.close();
  byId("workspace").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-in-form").elements.user.focus();
}

async function enter(user) {
  signedIn = true;
  byId("user").textContent = user;
  byId("sign-in").hidden = true;
  byId("workspace").hidden = false;
  follow();
  await loadTraces();
  await Promise.all([route(), chart()]);
}

async function signIn(event) {
  event.preventDefault();
  const { user, password } = event.target.elements;
  byId("sign-in-error").textContent = "";
  try {
    const session = await api("POST", "/api/session", { user: user.value, password: password.value });
    password.value = "";
    await enter(session.user);
  } catch (error) {
    byId("sign-in-error").textContent = error.status === 401 ? "User and password do not fit." : error.message;
  }
}

async function signOut() {
  await api("DELETE", "/api/session").catch(() => {});
  showSignIn();
}

/** Follows new traces; after a break it loads what it missed and goes on. */
function follow() {
  if (socket && socket.readyState <= WebSocket.OPEN) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/api/live`);
  socket.addEventListener("open", () => {
    state("live", true);
    refreshTraces().catch(() => {});
  });
  socket.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "trace") arrived(message.trace);
    else refreshTraces().catch(() => {});
  });
  socket.addEventListener("close", () => {
    state("reconnecting", false);
    if (signedIn) setTimeout(() => signedIn && follow(), 500 + Math.random() * 1000);
  });
}

function state(text, on) {
  byId("live").textContent = text;
  byId("live").classList.toggle("on", on);
}

const chart = () => refreshChart(application()).catch(() => {});

async function route() {
  const [, view = "traces", name] = location.hash.split("/").map(decodeURIComponent);
  byId("traces-view").hidden = view === "prompts";
  byId("prompts-view").hidden = view !== "prompts";
  document.querySelectorAll("nav a").forEach((link) => {
    link.classList.toggle("here", link.dataset.view === (view === "prompts" ? "prompts" : "traces"));
  });
  if (view === "prompts") return showPrompts(name);
  choose(name ?? null);
  return name ? showTrace(name).catch(noTrace) : noTrace();
}

let typing = null;
async function search() {
  const words = byId("search").value.trim();
  const inPrompts = !byId("prompts-view").hidden;
  if (!words) return inPrompts ? showPrompts() : loadTraces();
  const answer = await api("GET", `/api/search?q=${encodeURIComponent(words)}`);
  if (words !== byId("search").value.trim()) return;
  showFound(words, answer);
  if (inPrompts) showFoundPrompts(words, answer.prompts);
}

byId("sign-in-form").addEventListener("submit", signIn);
byId("sign-out").addEventListener("click", signOut);
byId("new-prompt").addEventListener("click", newPrompt);
byId("search-form").addEventListener("submit", (event) => event.preventDefault());
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 200);
});
document.addEventListener("signed-out", showSignIn);
window.addEventListener("hashchange", () => signedIn && route());
setInterval(() => signedIn && !document.hidden && chart(), 2000);
startTraces(chart);

api("GET", "/api/session").then((session) => enter(session.user)).catch(showSignIn);
