// Watching a model grow: asks the server every two seconds how the run stands, and shows its stages, curves, scores and the
// latest of what it writes; when it is done, its report.

import { growState } from "./api.js";
import { Curve } from "./curve.js";
import { announce, h } from "./dom.js";
import { models, stageLabel } from "./models.js";

const EVERY = 2000; // ms
const STATES = { done: "done", running: "training", evaluating: "being tested", waiting: "waiting" };

export const duration = (seconds) => {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
};

/** @param {HTMLElement} view */
export function growView(view) {
  let shown = false, timer = 0, stagesDone = -1, reported = false;
  const title = h("h1", {}, "Watch it grow");
  const lead = h("p", {});
  const trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  const stages = h("ol", { class: "stages" });
  const loss = new Curve({ title: "Loss: how surprised it is by the text it learns from", xLabel: "steps of all stages", yLabel: "loss" });
  const reward = new Curve({ title: "Reward: how many of its own tries were right", xLabel: "steps", yLabel: "reward", empty: "It comes with the last stage." });
  const curves = h("div", { class: "curves", hidden: true }, loss.element, reward.element);
  const samples = h("div", { class: "samples" });
  const fresh = h("section", { "aria-labelledby": "fresh", hidden: true }, h("h2", { id: "fresh" }, "What it writes by now"), samples);
  const report = h("section", { class: "report", hidden: true });
  view.append(h("div", { class: "scroll" }, h("div", { class: "wide-column" }, h("header", { class: "lead" }, title, lead), trouble,
    stages, curves, report, fresh)));

  async function look() {
    clearTimeout(timer);
    if (!shown) return;
    try {
      const state = await growState();
      trouble.hidden = true;
      if (state) draw(state);
      else lead.textContent = "This server was not started on a run. “sprout grow --serve” grows a model and shows it here.";
    } catch (error) {
      trouble.textContent = `${error.message} Asking again …`;
      trouble.hidden = false;
    }
    if (shown) timer = setTimeout(look, EVERY);
  }

  function draw(state) {
    const words = { growing: "is growing", done: "is grown", stopped: "has stopped; the same command lets it go on" };
    title.textContent = `“${state.run}” ${words[state.state] ?? state.state}`;
    const facts = [state.seconds_left !== null && `about ${duration(state.seconds_left)} left`, state.tokens_per_s !== null && `${Math.round(state.tokens_per_s).toLocaleString("en")} tokens/s`];
    lead.textContent = facts.filter(Boolean).join(" · ") || (state.state === "done" ? "All stages are done. Talk to it, or read what came out." : "");
    stages.replaceChildren(...state.stages.map(stageRow));
    curves.hidden = false;
    drawCurves(state);
    samples.replaceChildren(...state.samples.map(sample));
    fresh.hidden = !state.samples.length;
    const done = state.stages.filter((stage) => stage.state === "done").length;
    if (done !== stagesDone && stagesDone >= 0) {
      models.load().catch(() => {}); // a stage that is done can be talked to
      announce(`${done} of ${state.stages.length} stages are done.`);
    }
    stagesDone = done;
    showReport(state.report);
  }

  function stageRow(stage) {
    const share = stage.state === "done" ? 1 : stage.steps ? stage.step / stage.steps : 0;
    const name = stageLabel(stage.name);
    const bar = h("div", { class: "progress", role: "progressbar", "aria-label": `${name}: steps`, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * share)) }, h("span", { style: { width: `${100 * share}%` } }));
    const figures = [`${stage.step.toLocaleString("en")} of ${stage.steps.toLocaleString("en")} steps`, stage.seconds > 0 && duration(stage.seconds)];
    const scores = [stage.score !== null && [`${(100 * stage.score).toFixed(1)} %`, "problems right"], stage.bpb !== null && [stage.bpb.toFixed(3), "bits per byte"]].filter(Boolean);
    return h("li", { class: `stage ${stage.state}`, "aria-current": stage.state === "running" || stage.state === "evaluating" ? "step" : undefined },
      h("div", { class: "stage-head" }, h("h2", {}, name), h("span", { class: "state" }, STATES[stage.state] ?? stage.state)), bar,
      h("p", { class: "hint" }, figures.filter(Boolean).join(" · ")),
      h("dl", { class: "scores" }, scores.map(([value, what]) => h("div", {}, h("dt", {}, what), h("dd", {}, value)))));
  }

  /** The losses of the stages stand one behind the other; what a stage begins with is what the one before has left. */
  function drawCurves(state) {
    const losses = [];
    let before = 0;
    for (const { name, steps } of state.stages) {
      const curve = state.curves[name];
      if (curve?.loss) losses.push({ name: stageLabel(name), x: curve.step.map((step) => before + step), steps: curve.step, y: curve.loss });
      if (name !== "reinforce") before += steps;
    }
    loss.set(losses, before);
    const curve = state.curves.reinforce, last = state.stages.find((stage) => stage.name === "reinforce");
    reward.element.hidden = !last;
    reward.set(curve?.reward ? [{ name: stageLabel("reinforce"), x: curve.step, y: curve.reward }] : [], last?.steps || 1);
  }

  function sample({ stage, step, prompt, reply }) {
    return h("article", { class: "sample" }, h("p", { class: "hint" }, `${stageLabel(stage)}, step ${step}`), h("p", { class: "sample-prompt" }, prompt), h("p", { class: "sample-reply" }, reply || "(nothing)"));
  }

  function showReport(there) {
    if (there === reported) return;
    reported = there;
    report.hidden = !there;
    report.replaceChildren(...(there ? [h("div", { class: "report-head" }, h("h2", {}, "The report"), h("a", { href: "/report", target: "_blank" }, "Open it by itself")),
      h("iframe", { src: "/report", title: "The report of the run", sandbox: "allow-popups", loading: "lazy" })] : []));
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  return {
    show(now) {
      shown = now;
      look();
    },
    /** Whether there is a run to watch. */
    exists: async () => (await growState()) !== null,
  };
}
