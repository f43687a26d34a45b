"use strict";
// Plays a generated trajectory beside its reference: reads #trajectories, draws with 3Dmol.js.
(() => {
  const byId = (id) => document.getElementById(id);
  const root = byId("viewer");
  if (!root) return;
  const content = JSON.parse(byId("trajectories").textContent);
  const decoded = new Map();

  function coordinates(index) {
    if (!decoded.has(index)) {
      const bytes = Uint8Array.from(atob(content.coordinates[index]), (c) => c.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      const values = new Float32Array(bytes.length / 2);
      for (let i = 0; i < values.length; i++) values[i] = view.getInt16(2 * i, true) * content.unit;
      decoded.set(index, values);
    }
    return decoded.get(index);
  }

  const panes = {};
  const slider = byId("viewer-frame");
  const state = { clip: null, frame: 0, playing: false, last: 0 };
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  function problem(text) {
    byId("viewer-problem").textContent = text;
    byId("viewer-problem").hidden = false;
  }

  function start() {
    for (const name of ["generated", "reference"]) {
      const element = byId("viewer-" + name);
      const viewer = $3Dmol.createViewer(element, {
        antialias: true,
        disableFog: true,
      });
      if (!viewer) throw new Error("no WebGL");
      panes[name] = { element, viewer, models: [] };
      // The page scrolls under the wheel, until the molecule is clicked.
      const leave = (event) => {
        if (document.activeElement !== element) event.stopPropagation();
      };
      element.addEventListener("wheel", leave, { capture: true });
      element.addEventListener("pointerdown", () => element.focus({ preventScroll: true }));
      element.addEventListener("keydown", turn);
    }
    panes.generated.viewer.linkViewer(panes.reference.viewer);
    panes.reference.viewer.linkViewer(panes.generated.viewer);
  }

  // The page's own colour, light or dark.
  function paint() {
    for (const { element, viewer } of Object.values(panes)) {
      const parts = getComputedStyle(element).getPropertyValue("color").match(/\d+/g).slice(0, 3);
      const hex = parts.map((part) => Number(part).toString(16).padStart(2, "0")).join("");
      viewer.setBackgroundColor("#" + hex, 1);
    }
  }

  function turn(event) {
    const turns = {
      ArrowLeft: [-10, "y"],
      ArrowRight: [10, "y"],
      ArrowUp: [-10, "x"],
      ArrowDown: [10, "x"],
    };
    const zooms = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 };
    if (!(event.key in turns) && !(event.key in zooms)) return;
    event.preventDefault();
    const viewer = panes.generated.viewer;
    if (event.key in turns) viewer.rotate(...turns[event.key]);
    else viewer.zoom(zooms[event.key]);
    viewer.render();
    panes.reference.viewer.setView(viewer.getView());
  }

  function look(ghost) {
    const styles = {
      ball: { stick: { radius: 0.13 }, sphere: { scale: 0.26 } },
      stick: { stick: { radius: 0.16 } },
      sphere: { sphere: { scale: 0.9 } },
    };
    const style = structuredClone(styles[byId("viewer-style").value]);
    for (const part of Object.values(style)) {
      part.colorscheme = "Jmol";
      if (ghost) Object.assign(part, { opacity: 0.5, color: "#3f9bf0" });
      if (ghost) delete part.colorscheme;
    }
    return style;
  }

  function molecule(viewer, clip) {
    const neighbours = clip.elements.map(() => []);
    for (const [a, b] of clip.bonds) {
      neighbours[a].push(b);
      neighbours[b].push(a);
    }
    const model = viewer.addModel();
    model.addAtoms(
      clip.elements.map((elem, index) => ({
        elem,
        index,
        serial: index,
        x: 0,
        y: 0,
        z: 0,
        bonds: neighbours[index],
        bondOrder: neighbours[index].map(() => 1),
      })),
    );
    return model;
  }

  function move(model, clip, index, frame, ghost) {
    const values = coordinates(index);
    const offset = 3 * clip.elements.length * frame;
    for (const atom of model.selectedAtoms({})) {
      atom.x = values[offset + 3 * atom.index];
      atom.y = values[offset + 3 * atom.index + 1];
      atom.z = values[offset + 3 * atom.index + 2];
    }
    model.setStyle({}, look(ghost));
  }

  const frames = (clip, name) =>
    clip[name] === null ? 0 : coordinates(clip[name]).length / (3 * clip.elements.length);

  function distances(clip) {
    const result = [];
    const atoms = clip.elements.length;
    for (let t = 0; t < frames(clip, "reference"); t++) {
      const a = coordinates(clip.generated);
      const b = coordinates(clip.reference);
      let sum = 0;
      for (let i = 3 * atoms * t; i < 3 * atoms * (t + 1); i++) sum += (a[i] - b[i]) ** 2;
      result.push(Math.sqrt(sum / atoms));
    }
    return result;
  }

  function time(fs) {
    return Math.abs(state.clip.time.at(-1)) >= 5000
      ? (fs / 1000).toFixed(2) + " ps"
      : fs.toFixed(1) + " fs";
  }

  function strip() {
    const values = state.distances;
    const svg = byId("viewer-strip");
    svg.parentElement.hidden = values.length < 2;
    if (values.length < 2) return;
    const top = Math.max(...values, 1e-6);
    const count = state.clip.time.length;
    const points = values.map(
      (value, i) => `${((600 * i) / (count - 1)).toFixed(1)} ${(66 - (60 * value) / top).toFixed(1)}`,
    );
    svg.innerHTML =
      `<path class="strip-area" d="M0 66L${points.join("L")}V66Z"/>` +
      `<path class="strip-line" d="M${points.join("L")}"/>` +
      `<path class="strip-cursor" id="viewer-cursor" d="M0 0V70"/>`;
    byId("viewer-strip-name").textContent =
      `distance between the two, centres of mass removed, 0 to ${Number(top.toPrecision(2))} Å`;
  }

  function show(frame) {
    const clip = state.clip;
    state.frame = frame;
    slider.value = frame;
    const shown = { generated: frame, reference: Math.min(frame, frames(clip, "reference") - 1) };
    for (const name of Object.keys(panes)) {
      if (clip[name] === null) continue;
      move(panes[name].models[0], clip, clip[name], shown[name], false);
      const ghost = panes[name].models[1];
      if (ghost) move(ghost, clip, clip.reference, shown.reference, true);
      panes[name].viewer.render();
    }
    const ended = clip.reference !== null && frame > shown.reference;
    root.classList.toggle("ended", ended);
    byId("viewer-reference-name").textContent =
      clip.reference === null ? "no reference" : ended ? "reference (ended)" : "reference";
    const distance = state.distances[frame];
    const said = [time(clip.time[frame]), `frame ${frame + 1} of ${clip.time.length}`];
    if (distance !== undefined) said.push(`${distance.toFixed(3)} Å apart`);
    byId("viewer-time").textContent = said.join(" · ");
    slider.setAttribute("aria-valuetext", said.join(", "));
    const cursor = byId("viewer-cursor");
    if (cursor) {
      const x = (600 * frame) / Math.max(1, clip.time.length - 1);
      cursor.setAttribute("d", `M${x.toFixed(1)} 0V70`);
    }
  }

  function build(view) {
    const clip = state.clip;
    for (const [name, pane] of Object.entries(panes)) {
      pane.viewer.removeAllModels();
      pane.models = [];
      if (clip[name] !== null) pane.models.push(molecule(pane.viewer, clip));
      if (name === "generated" && byId("viewer-overlay").checked && clip.reference !== null)
        pane.models.push(molecule(pane.viewer, clip));
    }
    show(state.frame);
    if (view) reset();
  }

  function reset() {
    // The sphere that holds every atom at the start, with a margin: 3Dmol.js looks from z = 150
    // through 20 degrees.
    const { element, viewer } = panes.generated;
    const start = coordinates(state.clip.generated).slice(0, 3 * state.clip.elements.length);
    let radius = 1;
    for (let i = 0; i < start.length; i += 3)
      radius = Math.max(radius, Math.hypot(start[i], start[i + 1], start[i + 2]));
    const narrow = Math.min(1, element.clientWidth / Math.max(1, element.clientHeight));
    const away = (radius + 0.7) / Math.tan(Math.PI / 18) / narrow;
    viewer.setView([0, 0, 0, 150 - away, 0, 0, 0, 1]);
    viewer.render();
    panes.reference.viewer.setView(viewer.getView());
  }

  function play(on) {
    state.playing = on;
    const button = byId("viewer-play");
    button.setAttribute("aria-pressed", String(on));
    button.querySelector(".word").textContent = on ? "Pause" : "Play";
    button.querySelector("[aria-hidden]").textContent = on ? "❚❚" : "▶";
    if (on) {
      state.last = performance.now();
      if (state.frame === state.clip.time.length - 1) show(0);
      requestAnimationFrame(step);
    }
  }

  function step(now) {
    if (!state.playing) return;
    const wait = 1000 / Number(byId("viewer-speed").value);
    const passed = Math.floor((now - state.last) / wait);
    if (passed > 0) {
      state.last += passed * wait;
      const count = state.clip.time.length;
      show(still ? Math.min(state.frame + 1, count - 1) : (state.frame + passed) % count);
    }
    requestAnimationFrame(step);
  }

  function choose(index) {
    state.clip = content.clips[index];
    state.distances = distances(state.clip);
    state.frame = 0;
    slider.max = state.clip.time.length - 1;
    byId("viewer-generated-name").textContent = state.clip.model;
    byId("viewer-overlay").disabled = state.clip.reference === null;
    strip();
    build(true);
  }

  try {
    start();
    paint();
    choose(0);
  } catch (error) {
    problem(`The 3D view needs WebGL, which this browser does not give (${error.message}).`);
    for (const input of root.querySelectorAll("button, select, input")) input.disabled = true;
    return;
  }
  byId("viewer-clip").addEventListener("change", (event) => choose(Number(event.target.value)));
  slider.addEventListener("input", () => {
    play(false);
    show(Number(slider.value));
  });
  byId("viewer-play").addEventListener("click", () => play(!state.playing));
  byId("viewer-style").addEventListener("change", () => show(state.frame));
  byId("viewer-overlay").addEventListener("change", () => build(false));
  byId("viewer-reset").addEventListener("click", reset);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  window.addEventListener("resize", () => {
    for (const pane of Object.values(panes)) pane.viewer.resize();
  });
})();
