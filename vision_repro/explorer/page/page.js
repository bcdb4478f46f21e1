
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const { grid, patch, prefix, kept, heads } = data;
  const patches = grid * grid, tokens = patches + prefix;
  const state = { image: 0, layer: kept.length - 1, head: 0, row: grid >> 1, column: grid >> 1, fromClass: false };
  const cache = new Map();
  let block = null;

  // ---- numbers into words

  const digits = (value, most) => value.toFixed(Math.max(0, Math.min(most, 2 - Math.floor(Math.log10(value || 1)))));
  const percent = (value) => `${value >= 0.0995 ? (100 * value).toFixed(0) : (100 * value).toFixed(1)}\u00a0%`;
  const pixels = (value) => `${value >= 99.95 ? value.toFixed(0) : value.toFixed(1)}\u00a0px`;
  const fraction = (value) => (value === 0 ? "0" : digits(value, 5));
  const place = (index) => `row ${Math.floor(index / grid) + 1}, column ${(index % grid) + 1}`;
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

  function element(name, text, attributes = {}) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  // ---- attention of one layer on one picture: deflated rows in steps of their own

  async function unpack(text) {
    const letters = atob(text), packed = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i += 1) packed[i] = letters.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }

  async function load(image, layer) {
    const key = `${image} ${layer}`;
    if (!cache.has(key)) {
      const count = heads[kept[layer]], raw = await unpack(data.blocks[layer][image]);
      const steps = new Float32Array(raw, 0, count * tokens);
      const distances = new Float32Array(raw, 4 * count * tokens, count * patches);
      cache.set(key, { steps, distances, codes: new Uint8Array(raw, 4 * count * (tokens + patches)) });
    }
    return cache.get(key);
  }

  // Returns what one token attends to: its weights over the patches, and over the tokens before them together.
  function attended() {
    const token = state.fromClass ? 0 : prefix + state.row * grid + state.column;
    const line = state.head * tokens + token, step = block.steps[line];
    const row = Array.from(block.codes.subarray(line * tokens, (line + 1) * tokens), (code) => code * step);
    const weights = row.slice(prefix), order = weights.map((_, i) => i).sort((a, b) => weights[b] - weights[a] || a - b);
    const before = row.slice(0, prefix).reduce((sum, weight) => sum + weight, 0);
    return { weights, order, before, largest: weights[order[0]] };
  }

  function largestOfHead() {
    let most = 0;
    for (let token = 0; token < tokens; token += 1) {
      const line = state.head * tokens + token;
      const row = block.codes.subarray(line * tokens + prefix, (line + 1) * tokens);
      for (const code of row) most = Math.max(most, code * block.steps[line]);
    }
    return most;
  }

  // ---- colours: dark to bright at even steps of lightness, also for eyes that tell few colours apart

  const ANCHORS = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10],
    [249, 201, 50], [252, 255, 164]];
  const COLOURS = Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (ANCHORS.length - 1), low = Math.min(Math.floor(at), ANCHORS.length - 2);
    return ANCHORS[low].map((value, c) => value + (at - low) * (ANCHORS[low + 1][c] - value));
  });
  const colour = (value) => COLOURS[Math.max(0, Math.min(255, Math.round(255 * value)))];
  const mix = () => Number(byId("mix").value) / 100;

  const greys = new Map(); // brightness of a picture at the resolution of a canvas
  function grey(image, side) {
    const key = `${image} ${side}`;
    if (!greys.has(key)) {
      const small = document.createElement("canvas"), picture = byId(`picture-${image}`);
      small.width = small.height = side;
      const context = small.getContext("2d", { willReadFrequently: true });
      context.imageSmoothingEnabled = data.image_size > 96;
      context.drawImage(picture, 0, 0, side, side);
      const rgb = context.getImageData(0, 0, side, side).data, values = new Float32Array(side * side);
      for (let i = 0; i < values.length; i += 1) values[i] = 0.299 * rgb[4 * i] + 0.587 * rgb[4 * i + 1] + 0.114 * rgb[4 * i + 2];
      greys.set(key, values);
    }
    return greys.get(key);
  }

  function paint(canvas, weights, top) {
    const context = canvas.getContext("2d"), side = canvas.width, share = mix();
    const behind = grey(state.image, side), drawn = context.createImageData(side, side);
    const colours = weights.map((weight) => colour(top > 0 ? weight / top : 0));
    for (let y = 0, i = 0; y < side; y += 1) {
      const first = Math.floor((y * grid) / side) * grid;
      for (let x = 0; x < side; x += 1, i += 1) {
        const cell = colours[first + Math.floor((x * grid) / side)];
        for (let c = 0; c < 3; c += 1) drawn.data[4 * i + c] = (1 - share) * cell[c] + share * behind[i];
        drawn.data[4 * i + 3] = 255;
      }
    }
    context.putImageData(drawn, 0, 0);
  }

  function outline(context, index, dashes) {
    const side = context.canvas.width / grid, wide = Math.max(2, Math.min(5, side / 12));
    const x = (index % grid) * side, y = Math.floor(index / grid) * side;
    for (const [style, width, dash] of [["#000", 2 * wide, []], ["#fff", wide, dashes]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.setLineDash(dash);
      context.strokeRect(x + wide, y + wide, side - 2 * wide, side - 2 * wide);
    }
  }

  // The legend has the brightness of the picture as its second axis: each colour on the map is in it.
  function legend(canvas, ticks, top, uniform) {
    const context = canvas.getContext("2d"), { width, height } = canvas, share = mix();
    const drawn = context.createImageData(width, height);
    for (let y = 0, i = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, i += 1) {
        const cell = colour(x / (width - 1));
        for (let c = 0; c < 3; c += 1) drawn.data[4 * i + c] = (1 - share) * cell[c] + share * 255 * (1 - y / (height - 1));
        drawn.data[4 * i + 3] = 255;
      }
    }
    context.putImageData(drawn, 0, 0);
    ticks.replaceChildren();
    for (const [share_, name] of [[0, "first"], [0.5, "middle"], [1, "last"]]) {
      const tick = element("span", fraction(share_ * top), { class: name });
      tick.style.left = `${100 * share_}%`;
      ticks.append(tick);
    }
    if (uniform <= top) {
      const mark = element("span", "▲", { class: "uniform" });
      mark.style.left = `${(100 * uniform) / top}%`;
      ticks.append(mark);
    }
  }

  // ---- what is said

  function say(found) {
    const best = found.order[0], from = state.fromClass ? "class token" : `patch row ${state.row + 1}, column ${state.column + 1}`;
    const first = `${place(best)} (${percent(found.largest)})`;
    const where = found.before > found.largest ? `the class token (${percent(found.before)}), then to ${first}` : first;
    const far = state.fromClass ? "it has no place of its own, so no distance" : `mean distance ${pixels(ownDistance())}`;
    byId("live").textContent = `${from} attends mostly to ${where}; ${far}`;
    const layer = kept[state.layer];
    const rows = [["Mean distance, patch", state.fromClass ? "none" : pixels(ownDistance())],
      ["Mean distance, head", pixels(data.distances[layer][state.head])], ["If all patches equal", pixels(data.uniform)]];
    if (prefix) rows.push([prefix > 1 ? "On class tokens" : "On the class token", percent(found.before)]);
    byId("numbers").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
    byId("most").replaceChildren(...found.order.slice(0, 5).map((index) => {
      const item = element("li"), share = found.weights[index];
      item.append(element("span", place(index)), element("meter", undefined, { min: 0, max: found.largest || 1, value: share, "aria-hidden": "true" }), element("span", percent(share)));
      return item;
    }));
    byId("attention-title").textContent = state.fromClass ? "Where the class token attends" : `Where patch row ${state.row + 1}, column ${state.column + 1} attends`;
  }

  const ownDistance = () => block.distances[state.head * patches + state.row * grid + state.column];

  function nameOf(index) {
    const image = data.images[index];
    return image.label || image.name;
  }

  function sayPicture() {
    const { name, label, predicted } = data.images[state.image];
    const told = [name + (label ? `: ${label}` : "")];
    if (predicted) told.push(`the model says ${predicted.label} (${percent(predicted.probability)})`);
    byId("caption").textContent = told.join("; ");
  }

  function sayRollout() {
    const { rollout } = data.images[state.image], best = rollout.indexOf(Math.max(...rollout));
    const whose = data.reads_class ? "Rollout of the class token" : "Mean rollout of the patches, which the head reads instead of a class token";
    byId("rollout-text").textContent = `${whose}: most on ${place(best)} (${percent(rollout[best])}). Attention is averaged over heads, mixed half and half with the identity, and multiplied over all ${plural(heads.length, "layer")}.`;
  }

  // ---- mean distance of every head, layer by layer

  function svg(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function niceStep(top) {
    const rough = top / 4, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  }

  function chart() {
    const [width, height, left, right, above, below] = [Math.max(280, byId("chart").clientWidth), 228, 46, 8, 26, 40];
    const step = niceStep(Math.max(data.uniform, ...data.distances.flat())), count = heads.length;
    const top = step * Math.ceil(Math.max(data.uniform, ...data.distances.flat()) / step);
    const x = (layer) => left + ((layer + 0.5) / count) * (width - left - right);
    const y = (value) => height - below - (value / top) * (height - above - below);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "chart-text" });
    for (let value = 0; value <= top * 1.001; value += step) {
      picture.append(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value) }));
      picture.append(svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(6)))));
    }
    picture.append(svg("line", { x1: left, x2: width - right, y1: y(data.uniform), y2: y(data.uniform), class: "uniform" }));
    picture.append(svg("text", { x: width - right, y: 12, "text-anchor": "end", class: "uniform" }, `- - if all patches were equal: ${pixels(data.uniform)}`));
    const every = Math.ceil((22 * count) / (width - left - right));
    for (let layer = 0; layer < count; layer += every) picture.append(svg("text", { x: x(layer), y: height - below + 18, "text-anchor": "middle" }, String(layer + 1)));
    picture.append(svg("text", { x: left + (width - left - right) / 2, y: height - 4, "text-anchor": "middle" }, "layer"));
    picture.append(svg("text", { x: 12, y: (height - below) / 2, transform: `rotate(-90 12 ${(height - below) / 2})`, "text-anchor": "middle" }, "pixels"));
    data.distances.forEach((values, layer) => values.forEach((value, head) => {
      const known = kept.includes(layer);
      const dot = svg("circle", { cx: x(layer), cy: y(value), r: 4.5, class: known ? "kept" : "absent", "data-dot": `${layer} ${head}` });
      dot.append(svg("title", {}, `layer ${layer + 1}, head ${head + 1}: ${pixels(value)}${known ? "" : " (its attention is not on this page)"}`));
      if (known) dot.addEventListener("click", () => { state.layer = kept.indexOf(layer); state.head = head; refresh(); });
      picture.append(dot);
    }));
    byId("chart").replaceChildren(picture);
  }

  function markChart() {
    const layer = kept[state.layer], values = data.distances[layer];
    for (const dot of document.querySelectorAll("circle.chosen")) dot.classList.remove("chosen");
    const chosen = document.querySelector(`[data-dot="${layer} ${state.head}"]`);
    chosen.classList.add("chosen");
    chosen.parentNode.append(chosen);
    byId("chart-text").textContent = `Layer ${layer + 1}: heads look ${pixels(Math.min(...values))} to ${pixels(Math.max(...values))} far; head ${state.head + 1}, marked: ${pixels(values[state.head])}. Means over the ${plural(data.images.length, "picture")} of this page; the class token is left out.`;
  }

  // ---- drawing all of it

  let turn = 0;
  async function refresh() {
    turn += 1;
    const mine = turn, found = await load(state.image, state.layer);
    if (mine !== turn) return;
    block = found;
    fillHeads();
    byId("layer").value = state.layer;
    byId("head").value = state.head;
    byId("query").value = state.fromClass ? "class" : "patch";
    byId(`choice-${state.image}`).checked = true;
    byId("stage-name").textContent = `Picture ${state.image + 1}, ${nameOf(state.image)}, layer ${kept[state.layer] + 1}, head ${state.head + 1}: ${grid} by ${grid} patches`;
    markChart();
    sayPicture();
    sayRollout();
    const { rollout } = data.images[state.image], top = Math.max(...rollout);
    paint(byId("rollout"), rollout, top);
    legend(byId("rollout-legend"), byId("rollout-ticks"), top, 1 / tokens);
    look();
  }

  function look() {
    const found = attended(), canvas = byId("heat");
    const top = byId("scale").value === "head" ? largestOfHead() : found.largest;
    paint(canvas, found.weights, top);
    const context = canvas.getContext("2d");
    if (found.largest > 0) outline(context, found.order[0], [4, 6]);
    if (!state.fromClass) outline(context, state.row * grid + state.column, []);
    legend(byId("legend"), byId("ticks"), top, 1 / tokens);
    say(found);
    document.body.dataset.ready = [state.image, kept[state.layer], state.head, state.row, state.column].join(" ");
  }

  // ---- hands: keys, pointer, selects

  const KEYS = {
    ArrowLeft: () => { state.column = Math.max(0, state.column - 1); },
    ArrowRight: () => { state.column = Math.min(grid - 1, state.column + 1); },
    ArrowUp: () => { state.row = Math.max(0, state.row - 1); },
    ArrowDown: () => { state.row = Math.min(grid - 1, state.row + 1); },
    Home: () => { state.column = 0; },
    End: () => { state.column = grid - 1; },
    Enter: () => { const best = attended().order[0]; state.row = Math.floor(best / grid); state.column = best % grid; },
  };
  const LAYERS = { PageUp: -1, PageDown: 1 };

  function fromPatch() {
    state.fromClass = false;
    byId("query").value = "patch";
  }

  function listen() {
    const stage = byId("stage");
    stage.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !block) return;
      if (event.key in KEYS) { KEYS[event.key](); fromPatch(); look(); }
      else if (event.key in LAYERS) { state.layer = Math.max(0, Math.min(kept.length - 1, state.layer + LAYERS[event.key])); refresh(); }
      else return;
      event.preventDefault();
    });
    const point = (event) => {
      const box = stage.getBoundingClientRect(), at = (from, size) => Math.max(0, Math.min(grid - 1, Math.floor((from / size) * grid)));
      const row = at(event.clientY - box.top, box.height), column = at(event.clientX - box.left, box.width);
      if (!block || (row === state.row && column === state.column && !state.fromClass)) return;
      Object.assign(state, { row, column });
      fromPatch();
      look();
    };
    stage.addEventListener("pointermove", point);
    stage.addEventListener("pointerdown", point);
    byId("layer").addEventListener("change", (event) => { state.layer = Number(event.target.value); refresh(); });
    byId("head").addEventListener("change", (event) => { state.head = Number(event.target.value); refresh(); });
    byId("query").addEventListener("change", (event) => { state.fromClass = event.target.value === "class"; refresh(); });
    byId("scale").addEventListener("change", () => refresh());
    byId("mix").addEventListener("input", () => refresh());
    window.addEventListener("resize", () => { chart(); markChart(); });
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
  }

  function fillHeads() {
    const count = heads[kept[state.layer]], select = byId("head");
    state.head = Math.min(state.head, count - 1);
    if (select.length === count) return;
    select.replaceChildren(...Array.from({ length: count }, (_, head) => element("option", `${head + 1} of ${count}`, { value: head })));
  }

  function fill() {
    byId("model").textContent = data.model;
    byId("about").textContent = `${data.weights} · ${data.image_size} × ${data.image_size} pixels, ${grid} × ${grid} patches · ${data.source}`;
    byId("random").hidden = !data.random;
    byId("query-field").hidden = prefix === 0;
    byId("layer").replaceChildren(...kept.map((layer, index) => element("option", `${layer + 1} of ${heads.length}`, { value: index })));
    data.images.forEach((image, index) => {
      const label = element("label", undefined, { class: data.image_size > 96 ? "picture" : "picture small", title: image.name });
      const choice = element("input", undefined, { type: "radio", name: "picture", id: `choice-${index}`, value: index });
      choice.addEventListener("change", () => { state.image = index; refresh(); });
      const picture = element("img", undefined, { id: `picture-${index}`, alt: "" });
      picture.src = image.picture;
      label.append(choice, picture, element("span", nameOf(index)));
      byId("pictures").append(label);
    });
    const size = (data.error === 0 ? "0" : data.error.toExponential(1));
    const layers = kept.length === heads.length ? `All ${plural(heads.length, "layer")} are on this page.`
      : `To keep this page small it has the attention of ${plural(kept.length, "layer")} of ${heads.length}; distances and rollout are of all of them.`;
    const notes = [
      "Layers, heads, rows and columns are counted from 1. Weights are fractions of a row, which sums to 1 with the class token; percent of it in words.",
      `Quantised: each row of attention is stored in 255 steps up to its largest weight; the largest error of a weight on this page is ${size}. Distances and rollout were computed before.`,
      "Mean distance: over all patches, weight times distance between the centres of the patches; the class token is left out as query and as key, and rows are not renormalised.",
      "▲ marks the weight that uniform attention would give to each token. White frame: the patch you look from; dashed: where it attends most. Colours are mixed with the picture's brightness, which is the height in the legend.",
      layers,
      data.image_size > 96 ? "Pictures are JPEG for the eye; the model saw the pixels before." : "Pictures are what the model saw.",
    ];
    byId("legend-text").textContent = "attention weight, a fraction of the row";
    byId("notes").replaceChildren(...notes.map((note) => element("li", note)));
  }

  async function start() {
    if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old: it has no DecompressionStream");
    fill();
    await Promise.all(data.images.map((_, index) => byId(`picture-${index}`).decode()));
    chart();
    listen();
    await refresh();
  }

  start().catch((error) => {
    byId("failure").textContent = `The page cannot be shown: ${error.message}.`;
    byId("failure").hidden = false;
    throw error;
  });
})();
