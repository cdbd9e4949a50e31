// Roll-ups as bars: one a second, failures on top of what went well.

import { api, count, show, svg } from "./dom.js";

const SECONDS = 120;
const WIDTH = 600;
const HEIGHT = 84;
const BASE = 82;

export async function refreshChart(app) {
  const query = app ? `?app=${encodeURIComponent(app)}&limit=${SECONDS}` : `?limit=${SECONDS * 4}`;
  const { rollups } = await api("GET", `/api/rollups${query}`);
  draw(bySecond(rollups));
}

/** Sums applications, and leaves out what is older than the chart is wide. */
function bySecond(rollups) {
  const newest = Math.floor(Date.now() / 1000) - 3;
  const seconds = new Map();
  for (const row of rollups) {
    if (row.bucket <= newest - SECONDS) continue;
    const sum = seconds.get(row.bucket) ?? { traces: 0, failed: 0 };
    sum.traces += row.traces;
    sum.failed += row.error_count;
    seconds.set(row.bucket, sum);
  }
  return { newest, seconds };
}

function draw({ newest, seconds }) {
  const most = Math.max(4, ...[...seconds.values()].map((sum) => sum.traces));
  const step = WIDTH / SECONDS;
  const bars = [];
  for (const [bucket, sum] of seconds) {
    const x = WIDTH - (newest - bucket + 1) * step;
    const whole = (sum.traces / most) * (BASE - 6);
    const failed = (sum.failed / most) * (BASE - 6);
    bars.push(bar(x, step, BASE - whole, whole, "bar"));
    if (sum.failed) bars.push(bar(x, step, BASE - whole, failed, "bar failed"));
  }
  show("chart", svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": "Traces in each of the last two minutes' seconds" },
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: BASE + 0.5, y2: BASE + 0.5 }), bars));
  const total = [...seconds.values()].reduce((sum, second) => sum + second.traces, 0);
  show("chart-now", `${count(total, "trace")} in 2 min, most ${seconds.size ? most : 0} a second`);
}

function bar(x, step, y, height, kind) {
  return svg("rect", { class: kind, x, y, width: step * 0.8, height });
}
